extension Follower {
    /// The next event; nil when there will be none. One consumer at a time.
    fileprivate func following() async -> CheckpointEvent? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in whenNext { continuation.resume(returning: $0) } }
        } onCancel: {
            finish()
        }
    }
}

/// A checkpoint's updates; see ``Checkpoint/updates``.
public struct CheckpointUpdates: AsyncSequence, Sendable {
    public typealias Element = CheckpointEvent
    public typealias Failure = Never

    private let owner: Owner

    /// Ends the subscription when nobody iterates any more.
    fileprivate final class Owner: Sendable {
        let follower: Follower
        init(_ follower: Follower) { self.follower = follower }
        deinit { follower.finish() }
    }

    init(_ follower: Follower) { owner = Owner(follower) }

    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let owner: Owner
        public mutating func next() async -> CheckpointEvent? { await owner.follower.following() }
        public mutating func next(isolation actor: isolated (any Actor)?) async -> CheckpointEvent? {
            await owner.follower.following()
        }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(owner: owner) }
}
