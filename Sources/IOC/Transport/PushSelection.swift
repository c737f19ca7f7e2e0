import EngineKit
import OSAL

/// A descriptor that is readable when its owner should look: an epoll over bells of our own, a timer, the link's bell
/// and socket, and, while there is no server, the directory in which its socket will appear. Guarded by the
/// connection's lock, but for ``wait(_:)``.
final class PushSelection {
    let poller: Poller
    /// Rung for one look.
    let bell: Doorbell
    /// Rung as long as the owner has something to do that we know nothing of.
    let alert: Doorbell
    let timer: TimerDescriptor
    private static let arrivalToken: UInt64 = 5
    private var attached: Link?
    private var arrival: SharedDirectoryWatch?

    init() throws(OSError) {
        poller = try Poller()
        bell = try Doorbell()
        alert = try Doorbell()
        timer = try TimerDescriptor()
        try poller.add(bell.raw, interest: .read, token: 0)
        try poller.add(alert.raw, interest: .read, token: 3)
        try poller.add(timer.raw, interest: .read, token: 4)
    }

    func attach(_ link: Link) {
        if attached === link { return }
        detach()
        unwatch()
        attached = link
        try? poller.add(link.ownBell.raw, interest: .read, token: 1)  // without it: only the timer and calls look
        try? poller.add(link.socket.raw, interest: .read, token: 2)
    }

    func detach() {
        guard let link = attached else { return }
        try? poller.remove(link.ownBell.raw)  // it is watched no more, either way
        try? poller.remove(link.socket.raw)
        attached = nil
    }

    /// From now on readable when something appears in `directory`, too. False when it cannot be watched.
    func watch(_ directory: SystemString) -> Bool {
        if arrival != nil { return true }
        guard let watch = try? DirectoryWatch(directory),
            (try? poller.add(watch.raw, interest: .read, token: Self.arrivalToken)) != nil
        else { return false }
        arrival = SharedDirectoryWatch(watch)
        return true
    }

    var isWatching: Bool { arrival != nil }

    private func unwatch() {
        guard let arrival else { return }
        try? poller.remove(arrival.watch.raw)  // it is watched no more, either way
        self.arrival = nil
    }

    /// Afterwards nothing but the alert is readable; what comes later is again. True when something has appeared in the
    /// watched directory.
    func silence() -> Bool {
        let hasArrived = try? poller.wait(for: Self.arrivalToken, timeout: .zero)
        bell.drain()
        timer.drain()
        attached?.ownBell.drain()
        guard let arrival, hasArrived == true else { return false }
        if !arrival.watch.drain() { unwatch() }
        return true
    }

    private final class SharedDirectoryWatch {
        let watch: DirectoryWatch
        init(_ watch: consuming DirectoryWatch) { self.watch = watch }
    }
}

/// When a connection that nobody waits for is tried again by ``IOCConnection/poll()``.
struct PolledRetry {
    var at = Instant.start
    var pause: Duration = .milliseconds(10)

    static var pauseMax: Duration { .seconds(1) }

    mutating func failed(at now: Instant) {
        at = now + pause
        pause = min(pause + pause, Self.pauseMax)
    }
}
