import EOLoop
import EngineKit
import OSAL
import SAFTypes

extension IOCConnection {
    /// Calls without blocking; `then` is called once, on the runtime's thread, on that of a caller who reads for all, or
    /// at once when the call is refused. It must not block.
    public func callAsync(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration,
        then: @escaping @Sendable (Result<Reply, CallError>) -> Void
    ) {
        guard let runtime = ClientRuntime.shared else {
            return then(.failure(CallError(.noResources, "no thread or descriptor for the client runtime")))
        }
        var refusal: CallError?
        var wake: Link?
        var number: UInt64 = 0
        lock.withLock { _ in
            guard let call = begin(code, lane, &refusal) else { return }
            call.kind = .asynchronous
            call.body = body
            call.completion = then
            asynchronousCount += 1
            number = call.number
            (_, wake) = start(call, &refusal)
        }
        if let refusal { return then(.failure(refusal)) }
        if let wake {
            attach(wake)
            wake.ring()
        } else {
            reconnectInBackgroundIfNeeded()
        }
        runtime.post(after: timeout) { [weak self, number] in self?.expire(number, timeout) }
    }

    /// Calls and suspends until the answer is there.
    public func call(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration
    ) async throws(CallError) -> Reply {
        let result: Result<Reply, CallError> = await withUnsafeContinuation { continuation in
            callAsync(code, body, lane: lane, timeout: timeout) { continuation.resume(returning: $0) }
        }
        return try result.get()
    }

    private func expire(_ number: UInt64, _ timeout: Duration) {
        let expired = lock.withLock { _ -> PendingCall? in
            guard let call = calls[number] else { return nil }
            let late = "no answer from \(name) within \(timeout)"
            let unsent = phase == .up ? late : downReason
            let error = call.wasSent ? CallError(.timeout, late) : CallError(.tryAgain, unsent)
            return complete(call, .failure(error)) ? call : nil
        }
        if let expired { resume(expired) }
    }
}
