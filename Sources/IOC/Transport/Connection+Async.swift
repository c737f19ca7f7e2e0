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

    /// Calls and suspends until the answer is there, or the task is cancelled (`.interrupt`).
    ///
    /// A task that is cancelled before calls nobody. When it is cancelled later, and the request was sent, it may be
    /// executed or not; it goes on inside, within its timeout, without anybody who waits.
    ///
    /// - Parameter late: gets the answer that came too late for a cancelled task; it must not block.
    public func call(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration,
        late: (@Sendable (Reply) -> Void)? = nil
    ) async throws(CallError) -> Reply {
        if Task.isCancelled { throw cancelled }
        let start = MonotonicClock.now()
        let call = try beginAsync(code, body, lane, timeout)
        // Hot: the answer is there before suspending would be over.
        if let answer = tryAtOnce(call) { return try answer.get() }
        let result: Result<Reply, CallError> = await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in whenDone(call) { continuation.resume(returning: $0) } }
        } onCancel: {
            abandon(call, late)
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

    private var cancelled: CallError { CallError(.interrupt, "the task that called \(name) was cancelled") }

    /// Nobody waits for the call any more. One that was sent goes on: ``call(_:_:lane:timeout:late:)``.
    private func abandon(_ call: PendingCall, _ late: (@Sendable (Reply) -> Void)?) {
        let waiting = lock.withLock { _ -> (@Sendable (Result<Reply, CallError>) -> Void)? in
            if call.isDone || call.isAbandoned { return nil }
            call.isAbandoned = true
            let waiting = call.completion
            call.completion = { result in
                guard case .success(let reply) = result else { return }
                if let late { late(reply) } else { for descriptor in reply.descriptors { IO.close(descriptor) } }
            }
            if !call.wasSent { _ = complete(call, .failure(cancelled)) }
            return waiting
        }
        waiting?(.failure(cancelled))
    }

    /// Hands the outcome to `then`, now if it is there, else when it comes.
    private func whenDone(_ call: PendingCall, _ then: @escaping @Sendable (Result<Reply, CallError>) -> Void) {
        let outcome = lock.withLock { _ -> Result<Reply, CallError>? in
            if call.isAbandoned { return .failure(cancelled) }
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
