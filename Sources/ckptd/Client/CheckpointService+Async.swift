import CkptProtocol
import IOC
import OSAL
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

    /// Closes everything that was opened through this service, and ends all that goes on: sequences end, calls under
    /// way and later ones fail with `.badHandle`. Does not wait, and is done for good: by ckptd now or, if it is away
    /// or dies before it has heard of it, at its next start.
    public func close() {
        if hasLeft.exchange(true, ordering: .relaxed) { return }
        Self.leave(connection, marks, hadOpens: keeping.withLock { $0 })
        endSequences()
    }

    private static var farewellTimeout: Duration { .seconds(60) }

    /// The mark counts for a ckptd that starts meanwhile, and stays if nobody answers.
    static func leave(_ connection: IOCConnection, _ marks: SystemString, hadOpens: Bool) {
        guard hadOpens else { return connection.close() }
        let number = ClosedMark.number(of: session(connection))
        _ = ProcessMarks.mark(number, in: marks)  // else the process's end is its own mark
        connection.close(afterCalling: FarewellRequest.code, timeout: farewellTimeout) { isAnswered in
            if isAnswered { ProcessMarks.unmark(number, in: marks) }
        }
    }

    /// What was opened for a task that was cancelled meanwhile is closed.
    @Sendable func closeLate(_ reply: Reply) {
        guard let open = try? Self.decoded(reply, { reader throws(DecodeError) in try reader.value(OpenReply.self) })
        else { return }  // not our protocol
        closeSoon(open.handle)
    }

    /// Calls without waiting; `then` must not block.
    func callSoon(
        _ code: CkptCode, _ body: [UInt8], timeout: Duration,
        then: @escaping @Sendable (Result<Reply, CallError>) -> Void
    ) { connection.callAsync(frameCode(code), body, timeout: timeout, then: then) }

    func later(_ delay: Duration, _ job: @escaping @Sendable () -> Void) {
        ClientRuntime.shared?.post(after: delay, job)
    }

    /// - Parameter late: gets what is answered after the task was cancelled.
    func call<Value>(
        _ code: CkptCode, timeout: Duration, body: [UInt8], late: (@Sendable (Reply) -> Void)? = nil,
        _ decode: (inout ByteReader) throws(DecodeError) -> Value
    ) async throws(AisError) -> Value {
        let reply: Reply
        do throws(CallError) {
            reply = try await connection.call(frameCode(code), body, timeout: timeout, late: late)
        } catch {
            throw failure(error)
        }
        return try Self.decoded(reply, decode)
    }
}
