import CkptProtocol
import IOC
import SAFTypes

/// What needs the process's background thread.
extension CheckpointService {
    /// Whoever has a checkpoint open stays connected, so that ckptd knows that it lives.
    func keepConnected() {
        let isFirst = keeping.withLock { keeps in
            defer { keeps = true }
            return !keeps
        }
        if isFirst { connection.onPush { [weak self] push in self?.received(push) } }
    }

    /// Calls without waiting; `then` must not block.
    func callSoon(
        _ code: CkptCode, _ body: [UInt8], timeout: Duration,
        then: @escaping @Sendable (Result<Reply, CallError>) -> Void
    ) { connection.callAsync(frameCode(code), body, timeout: timeout, then: then) }

    func later(_ delay: Duration, _ job: @escaping @Sendable () -> Void) {
        ClientRuntime.shared?.post(after: delay, job)
    }

    func call<Value>(
        _ code: CkptCode, timeout: Duration, body: [UInt8], _ decode: (inout ByteReader) throws(DecodeError) -> Value
    ) async throws(AisError) -> Value {
        let reply: Reply
        do throws(CallError) {
            reply = try await connection.call(frameCode(code), body, timeout: timeout)
        } catch {
            throw failure(error)
        }
        return try Self.decoded(reply, decode)
    }
}
