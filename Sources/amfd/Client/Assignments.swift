import Synchronization

/// What amfd asks of a ``Component``, in its order. Each assignment is given once; with several readers, to one of
/// them.
///
/// The sequence ends after ``Component/close()``, and for a reader whose task is cancelled.
public struct Assignments: AsyncSequence, Sendable {
    let mailbox: AssignmentMailbox

    public func makeAsyncIterator() -> Iterator { Iterator(mailbox: mailbox) }

    public struct Iterator: AsyncIteratorProtocol {
        let mailbox: AssignmentMailbox

        public mutating func next() async -> Assignment? { await mailbox.next(isolation: nil) }

        public mutating func next(isolation actor: isolated (any Actor)?) async -> Assignment? {
            await mailbox.next(isolation: actor)
        }
    }
}

/// Holds what was not read yet. Not an AsyncStream: that is generic code in another library, whose metadata is looked
/// up at every step, in the middle of a fail-over.
final class AssignmentMailbox: Sendable {
    private struct State {
        /// Nobody waits while something is here.
        var unread: [Assignment] = []
        var readers: [(number: UInt64, continuation: UnsafeContinuation<Assignment?, Never>)] = []
        var lastReader: UInt64 = 0
        var cancelled: Set<UInt64> = []
        var isFinished = false
    }
    private let state = Mutex(State())

    func put(_ assignment: Assignment) {
        let reader = state.withLock { state -> UnsafeContinuation<Assignment?, Never>? in
            if state.isFinished { return nil }
            guard state.readers.isEmpty else { return state.readers.removeFirst().continuation }
            state.unread.append(assignment)
            return nil
        }
        reader?.resume(returning: assignment)
    }

    /// What is unread can still be read.
    func finish() {
        let readers = state.withLock { state in
            state.isFinished = true
            defer { state.readers = [] }
            return state.readers
        }
        for reader in readers { reader.continuation.resume(returning: nil) }
    }

    func next(isolation actor: isolated (any Actor)?) async -> Assignment? {
        let number = state.withLock { state in
            state.lastReader += 1
            return state.lastReader
        }
        defer { _ = state.withLock { $0.cancelled.remove(number) } }
        return await withTaskCancellationHandler(
            operation: {
                await withUnsafeContinuation(isolation: actor) { continuation in
                    let (isDone, assignment) = state.withLock { state -> (Bool, Assignment?) in
                        if state.cancelled.contains(number) { return (true, nil) }
                        if !state.unread.isEmpty { return (true, state.unread.removeFirst()) }
                        if state.isFinished { return (true, nil) }
                        state.readers.append((number, continuation))
                        return (false, nil)
                    }
                    if isDone { continuation.resume(returning: assignment) }
                }
            },
            onCancel: { cancel(number) }, isolation: actor)
    }

    /// May come before the reader waits, or after it got something.
    private func cancel(_ number: UInt64) {
        let reader = state.withLock { state -> UnsafeContinuation<Assignment?, Never>? in
            guard let index = state.readers.firstIndex(where: { $0.number == number }) else {
                state.cancelled.insert(number)
                return nil
            }
            return state.readers.remove(at: index).continuation
        }
        reader?.resume(returning: nil)
    }
}
