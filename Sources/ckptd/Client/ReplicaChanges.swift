public import CkptProtocol
import SAFTypes

/// Where a checkpoint's replicas are: now, then each time that is another; see ``Checkpoint/replicaChanges``.
public struct ReplicaChanges: AsyncSequence, Sendable {
    public typealias Element = ReplicaSet
    public typealias Failure = Never

    private let owner: Owner

    /// Ends the watch when nobody iterates any more.
    fileprivate final class Owner: Sendable {
        let watcher: ReplicaWatcher
        init(_ watcher: ReplicaWatcher) { self.watcher = watcher }
        deinit { watcher.finish() }
    }

    init(_ watcher: ReplicaWatcher) { owner = Owner(watcher) }

    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let owner: Owner
        public mutating func next() async -> ReplicaSet? { await owner.watcher.following() }
        public mutating func next(isolation actor: isolated (any Actor)?) async -> ReplicaSet? {
            await owner.watcher.following()
        }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(owner: owner) }
}

extension ReplicaWatcher {
    fileprivate func following() async -> ReplicaSet? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in whenNext { continuation.resume(returning: $0) } }
        } onCancel: {
            finish()
        }
    }
}

extension Checkpoint {
    /// Where the replicas are and which is active: the state now, then every other one. Who is slow sees the newest
    /// and not each one between. (SAFplus: replica change callback.)
    ///
    /// One consumer per open checkpoint: a second sequence ends the first. The sequence ends when the checkpoint is
    /// closed or gone, or the task is cancelled.
    public var replicaChanges: ReplicaChanges {
        let watcher = ReplicaWatcher(self)
        service.keepConnected()
        service.watch(handle, watcher)
        watcher.subscribe()
        return ReplicaChanges(watcher)
    }
}
