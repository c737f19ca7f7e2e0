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
    private unowned let keeper: ClusterKeeper
    private let rule: LeaseRule
    private var isNeeded = false
    private var isClosed = false
    /// When the last answered question was sent.
    private var heard: [NodeID: Instant] = [:]
    private var asked: Set<NodeID> = []
    /// A node that was away may act before it has heard that its replicas are not current any more.
    private static let settling = Duration.seconds(2)
    private var mayAct = false
    private var actsSince = Instant.start
    private var isSettled = false

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
        let now = MonotonicClock.now()
        if keeper.mayAct != mayAct || !mayAct {
            mayAct = keeper.mayAct
            (actsSince, isSettled) = (now, false)
            heard.removeAll()
        }
        if !isSettled, now - actsSince >= Self.settling, keeper.directory.isSettled { isSettled = true }
        let others = keeper.others
        heard = heard.filter { others.contains($0.key) }
        let end = rule.end(others, heard, mayAct: mayAct && isSettled, now: now)
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
                if isThere, sent >= actsSince { heard[node] = sent }
                update()
            }
        }
        keeper.loop.schedule(after: rule.length / 3) { [weak self] in self?.tick() }
    }
}
