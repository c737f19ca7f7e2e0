import SAFTypes
import Synchronization

/// What a task waits for: the first answer that is given, or `.interrupt` when the task is cancelled.
final class AwaitedAnswer: Sendable {
    private struct State {
        var outcome: Result<Void, AisError>?
        var waiter: CheckedContinuation<Result<Void, AisError>, Never>?
    }

    private let state = Mutex(State())

    private init() {}

    /// Begins something that gives an answer, and waits for it.
    static func get(_ begin: (AwaitedAnswer) -> Void) async throws(AisError) {
        let answer = AwaitedAnswer()
        begin(answer)
        let outcome = await withTaskCancellationHandler {
            await withCheckedContinuation { answer.wait($0) }
        } onCancel: {
            answer.give(.failure(.interrupt))
        }
        try outcome.get()
    }

    /// Later ones do not count.
    func give(_ outcome: Result<Void, AisError>) {
        let waiter = state.withLock { state -> CheckedContinuation<Result<Void, AisError>, Never>? in
            guard state.outcome == nil else { return nil }
            state.outcome = outcome
            defer { state.waiter = nil }
            return state.waiter
        }
        waiter?.resume(returning: outcome)
    }

    private func wait(_ waiter: CheckedContinuation<Result<Void, AisError>, Never>) {
        let outcome = state.withLock { state in
            if state.outcome == nil { state.waiter = waiter }
            return state.outcome
        }
        if let outcome { waiter.resume(returning: outcome) }
    }
}
