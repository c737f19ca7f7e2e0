import EOLoop
import EngineKit
import OSAL
import SAFTypes

extension IOCConnection {
    /// Calls without blocking; `then` is called once, on the runtime's thread, on that of a caller who reads for all,
    /// or at once when the call is refused. It must not block.
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

    /// As ``close()``, but for one last call, without a body: the connection lives until it is answered or `timeout` is
    /// over, and is made again for it if need be. Never blocks; `then` is told whether it was answered.
    public func close(
        afterCalling code: UInt16, timeout: Duration, then: @escaping @Sendable (_ isAnswered: Bool) -> Void
    ) {
        let isFirst = lock.withLock { _ in
            guard phase != .closed, lastCode == nil else { return false }
            lastCode = code
            return true
        }
        guard isFirst else { return then(false) }
        // Before the others end: somebody listens all the time.
        callAsync(code, [], timeout: timeout) { [self] result in
            if case .success = result { then(true) } else { then(false) }
            close()
        }
        let finished = lock.withLock { _ in phase == .closed ? [] : endCalls(butFor: code) }
        for call in finished { resume(call) }
    }

    /// Calls and suspends until the answer is there.
    public func call(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration
    ) async throws(CallError) -> Reply {
        let start = MonotonicClock.now()
        let call = try beginAsync(code, body, lane, timeout)
        // Hot: the answer is there before suspending would be over.
        if let answer = tryAtOnce(call) { return try answer.get() }
        let result: Result<Reply, CallError> = await withUnsafeContinuation { continuation in
            whenDone(call) { continuation.resume(returning: $0) }
        }
        learn(start, MonotonicClock.now())
        return try result.get()
    }

    /// Starts a call that nobody waits for yet.
    private func beginAsync(
        _ code: UInt16, _ body: [UInt8], _ lane: Lane, _ timeout: Duration
    ) throws(CallError) -> PendingCall {
        guard let runtime = ClientRuntime.shared else {
            throw CallError(.noResources, "no thread or descriptor for the client runtime")
        }
        var refusal: CallError?
        var wake: Link?
        var number: UInt64 = 0
        let started = lock.withLock { _ -> PendingCall? in
            guard let call = begin(code, lane, &refusal) else { return nil }
            call.kind = .asynchronous
            call.body = body
            asynchronousCount += 1
            number = call.number
            (_, wake) = start(call, &refusal)
            return call
        }
        if let refusal { throw refusal }
        guard let started else { throw CallError(.library, "no call") }
        if let wake {
            wake.ring()
        } else {
            reconnectInBackgroundIfNeeded()
        }
        runtime.post(after: timeout) { [weak self, number] in self?.expire(number, timeout) }
        return started
    }

    /// Reads for a moment, if that has paid lately and nobody else reads; then those who listen take over.
    private func tryAtOnce(_ call: PendingCall) -> Result<Reply, CallError>? {
        if let link = takeReading() {
            let isUp = readBriefly(link, for: call)
            if isUp { lock.withLock { _ in stopReading(link) } }
        }
        let isDone = lock.withLock { _ in call.isDone }
        if isDone { return Self.outcome(of: call) }
        let current = lock.withLock { _ in link }
        if let current { attach(current) }
        return nil
    }

    private func takeReading() -> Link? {
        lock.withLock { _ in
            guard !isReading, phase == .up, let link, !link.budget.isZero else { return nil }
            isReading = true
            isAnnounced = false
            link.reader.announceAwake()
            return link
        }
    }

    /// False when the connection was lost meanwhile.
    private func readBriefly(_ link: Link, for call: PendingCall) -> Bool {
        let deadline = link.budget.end(from: MonotonicClock.now())
        while true {
            switch drain(link) {
            case .lost(let reason):
                lose(link, reason)
                return false
            case .some, .nothing: break
            }
            if call.isDone { return true }
            if !spin(link, deadline) { return true }
        }
    }

    /// Hands the outcome to `then`, now if it is there, else when it comes.
    private func whenDone(_ call: PendingCall, _ then: @escaping @Sendable (Result<Reply, CallError>) -> Void) {
        let outcome = lock.withLock { _ -> Result<Reply, CallError>? in
            if call.isDone { return Self.outcome(of: call) }
            call.completion = then
            return nil
        }
        if let outcome { then(outcome) }
    }

    private static func outcome(of call: PendingCall) -> Result<Reply, CallError> {
        if let error = call.error { return .failure(error) }
        return .success(call.reply)
    }

    private func learn(_ start: Instant, _ end: Instant) {
        lock.withLock { _ in if !isReading { link?.budget.slept(since: start, until: end) } }
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
