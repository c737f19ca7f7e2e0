import EventProtocol
import OSAL
import SAFTypes

/// Events that one subscription has received and its reader has not taken: bounded, like the queue in eventd.
final class EventMailbox: Sendable {
    private struct State {
        var queue = DeliveryQueue()
        var waiter: CheckedContinuation<EventMessage?, Never>?
        var isClosed = false
    }

    private let state = Lock(State())

    /// From the runtime's thread; never waits for the reader.
    func deliver(_ delivery: EventDelivery) {
        let waiter = state.withLock { state -> CheckedContinuation<EventMessage?, Never>? in
            guard !state.isClosed else { return nil }
            if let waiter = state.waiter {
                state.waiter = nil
                return waiter
            }
            if delivery.event.isLost {
                state.queue.drop(instance: delivery.instance, at: delivery.event.publishTime)
            } else {
                state.queue.append(delivery, at: MonotonicClock.wallNanoseconds())
            }
            return nil
        }
        waiter?.resume(returning: delivery.event)
    }

    /// The next event; nil when the subscription has ended or the task was cancelled.
    func next() async -> EventMessage? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let immediate = state.withLock { state -> EventMessage?? in
                    if let delivery = state.queue.popFirst() { return .some(delivery.event) }
                    if state.isClosed || Task.isCancelled { return .some(nil) }
                    state.waiter = continuation
                    return nil
                }
                if let immediate { continuation.resume(returning: immediate) }
            }
        } onCancel: {
            takeWaiter()?.resume(returning: nil)
        }
    }

    /// No more comes; the reader still takes what is there.
    func end() {
        state.withLock { $0.isClosed = true }
        takeWaiter()?.resume(returning: nil)
    }

    /// No more comes, and the reader gets nothing more: what it has not taken.
    func close() -> [EventDelivery] {
        let left = state.withLock { state in
            state.isClosed = true
            let left = state.queue.waiting
            state.queue.replaceAll { _ in nil }
            return left
        }
        takeWaiter()?.resume(returning: nil)
        return left
    }

    private func takeWaiter() -> CheckedContinuation<EventMessage?, Never>? {
        state.withLock { state in
            defer { state.waiter = nil }
            return state.waiter
        }
    }
}
