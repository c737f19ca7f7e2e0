import EngineKit
import OSAL
import SafStage

/// Kills as planned while the text is being counted.
struct Killing {
    let node: PrivateNode
    let observer: Observer
    let size: UInt64
    /// How long nothing may happen before the run is given up.
    static let patience = Duration.seconds(30)

    private(set) var made: [(kill: Kill, at: Instant, pid: Int32)] = []

    init(node: PrivateNode, observer: Observer, size: UInt64) {
        self.node = node
        self.observer = observer
        self.size = size
    }

    /// Returns when the whole text is counted; throws when there is no progress for ``patience``.
    mutating func run(_ plan: [Kill], show: (UInt64, Int) -> Void) throws {
        var pending = plan[...]
        var lastPosition = observer.position
        var lastProgress = MonotonicClock.now()
        while observer.position < size || !pending.isEmpty {
            let now = MonotonicClock.now()
            let position = observer.position
            if position != lastPosition { (lastPosition, lastProgress) = (position, now) }
            if let kill = pending.first, position >= kill.position || position >= size {
                PrivateNode.pause(kill.delay)
                if perform(kill) { pending.removeFirst() }
            }
            guard now - lastProgress < Self.patience else {
                throw StageError(
                    "no progress for \(Self.patience) at byte \(position) of \(size), after \(made.count) kills")
            }
            show(position, made.count)
            node.reap()
            PrivateNode.pause(.milliseconds(1))
        }
    }

    /// False when the target is not running at this moment; it is tried again.
    private mutating func perform(_ kill: Kill) -> Bool {
        let pid: Int32? =
            switch kill.target {
            case .active: observer.assignments().last { $0.haState == "active" }?.pid
            case .guardian: node.process(of: "amfd", isGuard: true)?.pid
            default: node.process(of: kill.target.rawValue)?.pid
            }
        guard let pid, !made.contains(where: { $0.pid == pid && $0.kill.target == kill.target }) else { return false }
        let at = MonotonicClock.now()
        guard (try? Process.kill(pid, .kill)) == true else { return false }
        made.append((kill, at, pid))
        return true
    }

    /// From each kill of the active component to the next active assignment of another process.
    func failovers() -> [Duration] {
        let actives = observer.assignments().filter { $0.haState == "active" }
        return made.compactMap { kill, at, pid in
            guard kill.target == .active else { return nil }
            return actives.first { $0.at > at && $0.pid != pid }.map { $0.at - at }
        }
    }
}
