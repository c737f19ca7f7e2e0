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

    func close() {
        state.withLock { $0.isClosed = true }
        takeWaiter()?.resume(returning: nil)
    }

    private func takeWaiter() -> CheckedContinuation<EventMessage?, Never>? {
        state.withLock { state in
            defer { state.waiter = nil }
            return state.waiter
        }
    }
}
