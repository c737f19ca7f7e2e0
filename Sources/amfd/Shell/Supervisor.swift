import EngineKit
import OSAL

/// The guard's words to the service manager that started it (systemd): the node serves, the guard lives, it stops.
struct Supervisor {
    private let manager: ServiceManager
    private var nextBeat: Instant?

    init(_ manager: ServiceManager) { self.manager = manager }

    /// Often enough that one that comes late is not taken for a death.
    private var interval: Duration? { manager.watchdog.map { $0 / 3 } }

    /// Until the next ``beat()``; nil: nobody waits for one.
    var timeout: Duration? { nextBeat.map { max(.zero, $0 - MonotonicClock.now()) } }

    mutating func begin() {
        say("starting amfd")
        if interval != nil { nextBeat = MonotonicClock.now() }
        beat()
    }

    /// Says that this process goes on turning, when it is time.
    mutating func beat() {
        guard let interval, let due = nextBeat, MonotonicClock.now() >= due else { return }
        manager.tell("WATCHDOG=1")
        nextBeat = MonotonicClock.now() + interval
    }

    func isServing(_ pid: Int32?) {
        manager.tell(
            "READY=1\nSTATUS=amfd\(pid.map { ", process \($0)," } ?? "") serves this node; saf status shows it")
    }

    func isStopping() { manager.tell("STOPPING=1\nSTATUS=stopping everything on this node") }

    /// What the guard says to people, in one line.
    func say(_ text: String) { manager.tell("STATUS=" + String(text.map { $0.isNewline ? " " : $0 })) }
}
