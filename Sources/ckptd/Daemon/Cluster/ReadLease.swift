import CkptEngine
import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// Says until when the replicas of this node may be read without asking, by ``LeaseRule``: every other node is asked
/// again and again, and answers behind all updates that it sent before. ckptd's own death ends the lease at once, by
/// the life lock on the lease page.
///
/// Begins with the first process that maps a replica. Loop thread only.
final class ReadLease {
    private static let period = Duration.milliseconds(250)

    private unowned let keeper: ClusterKeeper
    private let rule: LeaseRule
    private var isNeeded = false
    private var isClosed = false
    /// When the last answered question was sent.
    private var heard: [NodeID: Instant] = [:]
    private var asked: Set<NodeID> = []

    init(_ keeper: ClusterKeeper) {
        self.keeper = keeper
        rule = LeaseRule(token: keeper.description.token)
    }

    /// A process maps a replica.
    func isUsed() {
        guard !isNeeded, !isClosed else { return }
        isNeeded = true
        tick()
    }

    func close() {
        isClosed = true
        keeper.shell.files.setReadable(until: 0)
    }

    /// Something else is known of who is there.
    func update() {
        guard isNeeded, !isClosed else { return }
        let others = keeper.others
        heard = heard.filter { others.contains($0.key) }
        let end = rule.end(others, heard, mayAct: keeper.mayAct, now: MonotonicClock.now())
        keeper.shell.files.setReadable(until: end.nanoseconds)
    }

    private func tick() {
        guard !isClosed else { return }
        update()
        for node in keeper.others where !asked.contains(node) {
            guard let links = keeper.links else { break }
            asked.insert(node)
            let sent = MonotonicClock.now()
            links.touch(node, timeout: ClusterKeeper.silenceMax) { [weak self] isThere in
                guard let self else { return }
                asked.remove(node)
                if isThere { heard[node] = sent }
                update()
            }
        }
        keeper.loop.schedule(after: Self.period) { [weak self] in self?.tick() }
    }
}
