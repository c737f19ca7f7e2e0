import CkptEngine
import CkptProtocol
import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// Gets the promises of other nodes that reads here rest on (``ReadGrants``), and says on the lease page until when who
/// maps a replica may read it. ckptd's own death ends the lease at once, by the life lock on that page.
///
/// Others are asked again and again from the first process on that maps a replica, and else when somebody wants to
/// read. Loop thread only.
final class ReadLease {
    private unowned let keeper: ClusterKeeper
    private var grants: ReadGrants
    private var isMapped = false
    private var isClosed = false
    private var asked: Set<NodeID> = []
    /// Until when all keep their promises.
    private var end = Instant.start
    /// Who reads from then on has the others asked again, in time before the end.
    private var renewal = Instant.start
    /// Reads wait.
    private var isAwaited = false
    private var retry: LoopTimer?
    private static let retryDelay = Duration.milliseconds(20)

    init(_ keeper: ClusterKeeper) {
        self.keeper = keeper
        grants = ReadGrants(token: keeper.description.token)
    }

    /// A process maps a replica.
    func isUsed() {
        guard !isMapped, !isClosed else { return }
        isMapped = true
        tick()
    }

    func close() {
        isClosed = true
        keeper.shell.files.setReadable(until: 0)
    }

    /// Something else is known of who is there, or of what a majority has.
    func update() {
        guard !isClosed else { return }
        let now = MonotonicClock.now()
        grants.update(
            others: keeper.others, mayAct: keeper.mayAct, committed: keeper.directory.committedIndex, now: now)
        end = grants.end(now: now)
        if isMapped { keeper.shell.files.setReadable(until: end.nanoseconds) }
        guard isAwaited else { return }
        isAwaited = false
        keeper.readsMayGoOn()
    }

    /// What this node promises to who asks now: until when it acknowledges nothing behind the other's back.
    func promise() -> Instant { MonotonicClock.now() + grants.rule.length }

    // MARK: Reads that ckptd is asked for

    /// Whether what the active replica here says of a checkpoint is what it is; if not, others are asked, and
    /// ``ClusterKeeper/readsMayGoOn()`` is called when that is worth another look.
    ///
    /// The clock is read here: the time of the turn may be from before this process was stopped, and the request from
    /// after. Whether it is stopped between here and the answer does not matter: the request had come before.
    func isTrusted(_ id: CheckpointID) -> Bool {
        let now = MonotonicClock.now()
        if now >= renewal { ask(now) }
        if now < end { return true }
        if keeper.replication.isTrusted(id, { grants.until($0) > now }) { return true }
        isAwaited = true
        ask(now)
        return false
    }

    private func ask(_ now: Instant) {
        renewal = now + grants.rule.length * 2 / 3
        for node in keeper.others where !asked.contains(node) && grants.isDue(node, now: now) { ask(node, now) }
    }

    private func ask(_ node: NodeID, _ now: Instant) {
        guard !isClosed, keeper.mayAct, let links = keeper.links else { return }
        asked.insert(node)
        links.touch(node, timeout: ClusterKeeper.silenceMax) { [weak self] index in
            guard let self else { return }
            asked.remove(node)
            if let index {
                grants.answered(node, sent: now, index: index)
                update()
            } else {
                refused(node, after: MonotonicClock.now() - now)
            }
        }
    }

    /// Reads wait for who does not answer for so long as anybody is waited for.
    private func refused(_ node: NodeID, after time: Duration) {
        guard isAwaited, !isClosed else { return }
        if time >= ClusterKeeper.silenceMax { keeper.hasNoPromise(of: node) }
        guard retry == nil else { return }
        retry = keeper.loop.schedule(after: Self.retryDelay) { [weak self] in
            guard let self else { return }
            retry = nil
            if isAwaited { ask(MonotonicClock.now()) }
        }
    }

    // MARK: Reads of who maps

    private func tick() {
        guard !isClosed else { return }
        update()
        let now = MonotonicClock.now()
        for node in keeper.others where !asked.contains(node) { ask(node, now) }
        keeper.loop.schedule(after: grants.rule.length / 3) { [weak self] in self?.tick() }
    }
}
