import EngineKit

internal import COSAL
internal import Glibc

/// A wake-up that can be watched: rung from any thread or process, readable until drained. Source: eventfd(2).
public struct Doorbell: ~Copyable, Sendable {
    private let descriptor: Descriptor
    public var raw: Int32 { descriptor.raw }

    public init() throws(OSError) {
        let flags = Int32(EFD_NONBLOCK) | Int32(EFD_CLOEXEC)
        descriptor = Descriptor(owning: try retrying("eventfd") { eventfd(0, flags) })
    }

    /// Takes over a doorbell that a peer handed us.
    public init(owning descriptor: consuming Descriptor) { self.descriptor = descriptor }

    /// Wakes the watcher. Many rings before a drain are one.
    public func ring() { Doorbell.ring(raw) }

    /// Rings a doorbell known only by its number. A full counter is as good as a ring.
    public static func ring(_ fd: Int32) {
        var one: UInt64 = 1
        while write(fd, &one, 8) == -1 && errno == EINTR {}
    }

    /// Takes all rings; false when there was none.
    @discardableResult
    public func drain() -> Bool { Doorbell.drain(raw) }

    @discardableResult
    public static func drain(_ fd: Int32) -> Bool {
        var count: UInt64 = 0
        while true {
            let result = read(fd, &count, 8)
            if result == 8 { return true }
            if result != -1 || errno != EINTR { return false }
        }
    }
}

/// A deadline that can be watched: readable when it has passed. Source: timerfd_create(2), CLOCK_MONOTONIC.
public struct TimerDescriptor: ~Copyable, Sendable {
    private let descriptor: Descriptor
    public var raw: Int32 { descriptor.raw }

    public init() throws(OSError) {
        let flags = Int32(TFD_NONBLOCK) | Int32(TFD_CLOEXEC)
        descriptor = Descriptor(owning: try retrying("timerfd_create") { timerfd_create(CLOCK_MONOTONIC, flags) })
    }

    /// Readable from `deadline` on (at once when it is in the past); nil disarms.
    public func arm(at deadline: Instant?) throws(OSError) {
        var setting = itimerspec()
        if let deadline {
            // A zero time disarms, so the earliest deadline is 1 ns; the kernel knows signed seconds only.
            let time = min(max(deadline.nanoseconds, 1), UInt64(Int64.max))
            setting.it_value = cosal_timespec(time)
        }
        try retrying("timerfd_settime") { timerfd_settime(raw, Int32(TFD_TIMER_ABSTIME), &setting, nil) }
    }

    /// Takes the expiry; false when there was none.
    @discardableResult
    public func drain() -> Bool { Doorbell.drain(raw) }
}
