public import CkptProtocol

/// A checkpoint's updates; see ``Checkpoint/updates``.
public typealias CheckpointUpdates = CheckpointSequence<CheckpointEvent>
/// Where a checkpoint's replicas are; see ``Checkpoint/replicaChanges``.
public typealias ReplicaChanges = CheckpointSequence<ReplicaSet>

/// What is taken one after the other, until there is no more.
protocol CheckpointSource<Element>: Sendable {
    associatedtype Element: Sendable
    /// Calls `then` once, with the next or, when there will be none, nil.
    func whenNext(_ then: @escaping @Sendable (Element?) -> Void)
    func finish()
}

extension Follower: CheckpointSource {}
extension ReplicaWatcher: CheckpointSource {}

/// What goes on in a checkpoint, for one consumer. It ends when the checkpoint is closed or gone, or the task is
/// cancelled.
public struct CheckpointSequence<Element: Sendable>: AsyncSequence, Sendable {
    public typealias Failure = Never

    private let owner: Owner

    /// Ends the subscription when nobody iterates any more.
    fileprivate final class Owner: Sendable {
        private let source: any CheckpointSource<Element>

        init(_ source: any CheckpointSource<Element>) { self.source = source }

        deinit { source.finish() }

        func next() async -> Element? {
            await withTaskCancellationHandler {
                await withCheckedContinuation { continuation in source.whenNext { continuation.resume(returning: $0) } }
            } onCancel: {
                source.finish()
            }
        }
    }

    init(_ source: any CheckpointSource<Element>) { owner = Owner(source) }

    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let owner: Owner
        public mutating func next() async -> Element? { await owner.next() }
        public mutating func next(isolation actor: isolated (any Actor)?) async -> Element? { await owner.next() }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(owner: owner) }
}
