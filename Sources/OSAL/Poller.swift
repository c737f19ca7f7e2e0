import EngineKit

internal import COSAL
internal import Glibc

/// What a descriptor is watched for; hang-up and error are always reported.
public struct Interest: OptionSet, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public static let read = Interest(rawValue: 1)
    public static let write = Interest(rawValue: 2)
    /// Exceptional conditions (EPOLLPRI), such as a changed pressure-stall file.
    public static let priority = Interest(rawValue: 4)
    /// Reported once per change, not as long as it lasts.
    public static let edgeTriggered = Interest(rawValue: 8)

    var epollBits: UInt32 {
        var bits = EPOLLRDHUP.rawValue
        if contains(.read) { bits |= EPOLLIN.rawValue }
        if contains(.write) { bits |= EPOLLOUT.rawValue }
        if contains(.priority) { bits |= EPOLLPRI.rawValue }
        if contains(.edgeTriggered) { bits |= EPOLLET.rawValue }
        return bits
    }
}

/// One ready descriptor.
public struct PollEvent: Equatable, Sendable {
    /// What the owner named it at ``Poller/add(_:interest:token:)``.
    public let token: UInt64
    let bits: UInt32

    public var readable: Bool { bits & EPOLLIN.rawValue != 0 }
    public var writable: Bool { bits & EPOLLOUT.rawValue != 0 }
    public var priority: Bool { bits & EPOLLPRI.rawValue != 0 }
    /// The peer closed or shut down its side; unread data may still be there when also `readable`.
    public var hangup: Bool { bits & (EPOLLHUP.rawValue | EPOLLRDHUP.rawValue) != 0 }
    public var error: Bool { bits & EPOLLERR.rawValue != 0 }
}

/// Waits for many descriptors at once. Used by one thread. Source: epoll(7).
public final class Poller {
    /// Events returned by one wait at most; the rest come with the next.
    public static let eventsMax = Int(COSAL_EVENTS_MAX)
    private let epoll: Descriptor
    private let buffer = UnsafeMutablePointer<cosal_event>.allocate(capacity: Poller.eventsMax)

    public init() throws(OSError) {
        epoll = Descriptor(owning: try retrying("epoll_create1") { epoll_create1(Int32(EPOLL_CLOEXEC)) })
    }

    deinit { buffer.deallocate() }

    public var raw: Int32 { epoll.raw }

    public func add(_ fd: Int32, interest: Interest, token: UInt64) throws(OSError) {
        try control(EPOLL_CTL_ADD, fd, interest.epollBits, token)
    }

    public func modify(_ fd: Int32, interest: Interest, token: UInt64) throws(OSError) {
        try control(EPOLL_CTL_MOD, fd, interest.epollBits, token)
    }

    /// Must come before the descriptor is closed: another one may share its open file.
    public func remove(_ fd: Int32) throws(OSError) { try control(EPOLL_CTL_DEL, fd, 0, 0) }

    private func control(_ operation: Int32, _ fd: Int32, _ bits: UInt32, _ token: UInt64) throws(OSError) {
        try retrying("epoll_ctl", "descriptor \(fd)") { cosal_epoll_control(epoll.raw, operation, fd, bits, token) }
    }

    /// Replaces `events` by what is ready, at most ``eventsMax``; returns how many (0: time out, or a signal came).
    ///
    /// - Parameter timeout: nil waits without limit, zero not at all.
    @discardableResult
    public func wait(into events: inout [PollEvent], timeout: Duration?) throws(OSError) -> Int {
        events.removeAll(keepingCapacity: true)
        let count = try wait(timeout)
        for index in 0..<count {
            events.append(PollEvent(token: buffer[index].token, bits: buffer[index].events))
        }
        return count
    }

    /// Waits like ``wait(into:timeout:)``; whether what is called `token` is among what is ready.
    public func wait(for token: UInt64, timeout: Duration?) throws(OSError) -> Bool {
        var isReady = false
        for index in 0..<(try wait(timeout)) where buffer[index].token == token { isReady = true }
        return isReady
    }

    private func wait(_ timeout: Duration?) throws(OSError) -> Int {
        let limit = timeout.map { max(0, $0.nanoseconds) } ?? -1
        let count = cosal_epoll_wait(epoll.raw, buffer, COSAL_EVENTS_MAX, limit)
        if count >= 0 { return Int(count) }
        if errno == EINTR { return 0 }
        throw OSError.last("epoll_pwait2")
    }
}

extension IO {
    /// Waits for one descriptor: true when it is ready (or hung up), false at the deadline. Source: poll(2).
    public static func waitUntil(
        _ fd: Int32, readable: Bool = false, writable: Bool = false, deadline: Instant?
    ) throws(OSError) -> Bool {
        var entry = pollfd(fd: fd, events: Int16((readable ? POLLIN : 0) | (writable ? POLLOUT : 0)), revents: 0)
        while true {
            var limit: Int32 = -1
            if let deadline {
                let rest = (deadline - MonotonicClock.now()).nanoseconds
                limit = Int32(clamping: max(0, rest / 1_000_000 + (rest % 1_000_000 > 0 ? 1 : 0)))
            }
            let count = poll(&entry, 1, limit)
            if count > 0 { return true }
            if count < 0 && errno != EINTR { throw OSError.last("poll") }
            if let deadline, MonotonicClock.now() >= deadline { return false }
        }
    }
}
