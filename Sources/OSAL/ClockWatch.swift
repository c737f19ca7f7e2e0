internal import COSAL
internal import Glibc

/// Tells that somebody has set the system's date, so that whoever waits for a time of day looks again. Watch ``raw``
/// for reading and ``take()`` what has happened. Source: timerfd_create(2), TFD_TIMER_CANCEL_ON_SET.
public struct ClockWatch: ~Copyable, Sendable {
    private let descriptor: Descriptor
    public var raw: Int32 { descriptor.raw }

    public init() throws(OSError) {
        let flags = Int32(TFD_NONBLOCK) | Int32(TFD_CLOEXEC)
        let new = Descriptor(owning: try retrying("timerfd_create") { timerfd_create(CLOCK_REALTIME, flags) })
        try Self.arm(new.raw)
        descriptor = new
    }

    /// For a time that never comes: the timer is only there to be cancelled.
    private static func arm(_ fd: Int32) throws(OSError) {
        var setting = itimerspec()
        setting.it_value.tv_sec = .max
        let flags = Int32(TFD_TIMER_ABSTIME) | Int32(TFD_TIMER_CANCEL_ON_SET)
        try retrying("timerfd_settime") { timerfd_settime(fd, flags, &setting, nil) }
    }

    /// Whether the date was set since the last time; watches on.
    public func take() throws(OSError) -> Bool {
        var count: UInt64 = 0
        let result = read(raw, &count, 8)
        let wasSet = result == -1 && errno == ECANCELED
        if wasSet || result == 8 { try Self.arm(raw) }
        return wasSet
    }
}
