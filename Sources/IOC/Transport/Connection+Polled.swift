import EngineKit
import OSAL
import SAFTypes

/// For owners of the push descriptor: everything happens on threads of theirs, none is started.
extension IOCConnection {
    /// A server that accepted has so long to welcome a connection that nobody waits for.
    private static var welcomePatience: Duration { .milliseconds(100) }

    /// Readable when pushes may wait for ``dispatchPushes(timeout:_:)``, or ``poll()`` has something to do; for callers
    /// with a loop of their own. Stays the same over reconnects. -1 when there is no descriptor to be had.
    public var pushDescriptor: Int32 {
        let (raw, link) = lock.withLock { _ -> (Int32, Link?) in
            if selection == nil { selection = try? PushSelection() }  // -1 says it
            listensByDescriptor = selection != nil
            return (selection?.poller.raw ?? -1, self.link)
        }
        if let link { attach(link) }
        return raw
    }

    /// Keeps the push descriptor readable until it is taken back: the owner has something to do himself.
    public func alert(_ on: Bool) {
        lock.withLock { _ in
            guard let selection else { return }
            if on { selection.alert.ring() } else { selection.alert.drain() }
        }
    }

    /// Calls without waiting. `then` is called once: on the thread of a caller who reads for all, in ``poll()`` (also
    /// when the time is over), or at once when the call is refused. It must not block.
    public func callPolled(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration,
        then: @escaping @Sendable (Result<Reply, CallError>) -> Void
    ) {
        guard lock.withLock({ _ in listensByDescriptor }) || pushDescriptor >= 0 else {
            return then(.failure(CallError(.noResources, "no descriptor to listen on")))
        }
        var refusal: CallError?
        var wake: Link?
        lock.withLock { _ in
            guard let call = begin(code, lane, &refusal) else { return }
            call.kind = .polled
            call.body = body
            call.completion = then
            call.deadline = MonotonicClock.now() + timeout
            (_, wake) = start(call, &refusal)
            armTimer()
            if wake == nil { selection?.bell.ring() }  // somebody has to connect
        }
        if let refusal { return then(.failure(refusal)) }
        wake?.ring()
    }

    /// Connects if the server is there, and waits for it no longer than ``poll()`` does.
    public func connectNow() {
        let isMine = lock.withLock { _ in
            guard phase == .down else { return false }
            phase = .connecting
            return true
        }
        if isMine { connectOnce() }
    }

    /// One look: connects if that is called for, takes what has come, completes calls whose time is over. Waits for
    /// nobody, but up to 100 ms for the welcome of a server that is slow to accept us.
    public func poll() {
        let isHeard = lock.withLock { _ in selection?.silence() ?? false }
        connectIfCalledFor(isHeard)
        listen()
        expirePolled()
        runJobs()
        lock.withLock { _ in armTimer() }
    }

    /// Runs `job` in the first ``poll()`` that comes after `delay`; the push descriptor becomes readable then.
    public func runPolled(after delay: Duration, _ job: @escaping @Sendable () -> Void) {
        lock.withLock { _ in
            polledJobs.append(PolledJob(MonotonicClock.now() + delay, job))
            armTimer()
        }
    }

    /// What was pushed and not taken yet, in order.
    public func takePushes() -> [Push] {
        lock.withLock { _ in
            let taken = pushes
            pushes = []
            pushBytes = 0
            return taken
        }
    }

    private func connectIfCalledFor(_ isHeard: Bool) {
        let isMine = lock.withLock { _ in
            // Whoever was connected stays so; who never was connects for a call.
            guard phase == .down, incarnation != 0 || calls.count > 0 else { return false }
            guard isHeard || MonotonicClock.now() >= retry.at else { return false }
            phase = .connecting
            return true
        }
        if isMine { connectOnce() }
    }

    /// The caller has set `phase` to connecting.
    private func connectOnce() {
        let now = MonotonicClock.now()
        guard case .failure(let failure) = attempt(until: now + Self.welcomePatience) else {
            return lock.withLock { _ in retry = PolledRetry() }
        }
        let directory = endpointPath.map { File.parent(of: $0) }
        lock.withLock { _ in
            if phase == .connecting { downReason = failure.text }
            guard failure.isAway, let selection, let directory else { return retry.failed(at: MonotonicClock.now()) }
            if selection.isWatching {
                retry.at = .distantFuture  // the watch tells
            } else if selection.watch(directory) {
                selection.bell.ring()  // it may have come before we watched
            } else {
                retry.failed(at: MonotonicClock.now())
            }
        }
        if failure.isFinal { failAll(failure.error, failure.text) }
        endConnecting()
    }

    private func expirePolled() {
        let now = MonotonicClock.now()
        let late = lock.withLock { _ -> [PendingCall] in
            var late: [PendingCall] = []
            calls.forEach { if $0.kind == .polled, $0.deadline <= now { late.append($0) } }
            for call in late {
                let text: Words = phase == .up ? "no answer from \(name) in time" : downReason
                _ = complete(call, .failure(CallError(call.wasSent ? .timeout : .tryAgain, text)))
            }
            return late
        }
        for call in late { resume(call) }
    }

    private func runJobs() {
        let now = MonotonicClock.now()
        let due = lock.withLock { _ in
            let due = polledJobs.filter { $0.at <= now }
            if !due.isEmpty { polledJobs = polledJobs.filter { $0.at > now } }
            return due
        }
        for entry in due { entry.run() }
    }

    /// The descriptor becomes readable when a polled call's time is over, or a connection is to be tried. The caller
    /// holds the lock.
    func armTimer() {
        guard let selection else { return }
        var next = Instant.distantFuture
        calls.forEach { if $0.kind == .polled { next = min(next, $0.deadline) } }
        for entry in polledJobs { next = min(next, entry.at) }
        if phase == .down, incarnation != 0 || calls.count > 0 { next = min(next, retry.at) }
        // Without a timer a late call ends with the next look.
        try? selection.timer.arm(at: next == .distantFuture ? nil : next)
    }
}

/// What is to be done in a look from a moment on.
final class PolledJob: Sendable {
    let at: Instant
    let run: @Sendable () -> Void

    init(_ at: Instant, _ run: @escaping @Sendable () -> Void) { (self.at, self.run) = (at, run) }
}

#if SAF_LIBRARY
    /// In a library that starts no thread nobody listens in the background.
    extension IOCConnection {
        func watchOnRuntime(_ link: Link) {}
        func unwatchOnRuntime(_ link: Link) {}
        func postDelivery() {}
        func reconnectInBackgroundIfNeeded() {}
    }
#endif
