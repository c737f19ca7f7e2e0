import EngineKit
import OSAL
import SAFTypes

/// What a set-up handler may do on a new connection, before anybody else's calls go out.
public struct EstablishedContext: ~Copyable {
    /// The server is another life than the one spoken to before: it knows nothing of what was set up there.
    public let serverIncarnationChanged: Bool
    /// Not the first connection of this client.
    public let isReconnect: Bool
    let connection: IOCConnection
    let link: Link
    let deadline: Instant

    /// Calls on the new connection, until ``ClientOptions/setUpTimeout`` is over for all set-up calls together.
    public func call(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration = .seconds(5)
    ) throws(CallError) -> Reply {
        try connection.setUpCall(code, body, lane, link, until: min(deadline, MonotonicClock.now() + timeout))
    }
}

extension IOCConnection {
    /// Makes a connection, trying again until `deadline`. The caller has set `phase` to connecting.
    ///
    /// - Parameter slice: how long to sleep at most without a look whether the connection is still wanted.
    func connect(until deadline: Instant, slice: Duration = .milliseconds(500)) {
        var pause = options.retryFirst
        var arrival: Arrival?
        while true {
            var isAway = false
            switch attempt(until: deadline) {
            case .success: return
            case .failure(let failure):
                let isOver = lock.withLock { _ in
                    guard phase == .connecting else { return true }
                    downReason = failure.text
                    return false
                }
                if isOver { return }
                if failure.isFinal {
                    failAll(failure.error, failure.text)
                    return endConnecting()
                }
                isAway = failure.isAway
            }
            let now = MonotonicClock.now()
            guard now < deadline else { return endConnecting() }
            if !isAway {
                arrival = nil
            } else if let waiting = arrival {
                waiting.wait(until: min(deadline, now + slice))
                if !waiting.isGood { arrival = nil }
                continue
            } else if let fresh = Arrival(beside: endpointPath) {
                arrival = fresh
                continue  // it may have come before we watched
            }
            rest(min(pause, deadline - now))
            pause = min(pause + pause, options.retryMax)
        }
    }

    var endpointPath: SystemString? {
        if case .endpoint(let endpoint) = destination { endpoint.path(in: places.runDirectory) } else { nil }
    }

    /// Sleeps until something appears where a server's socket will be.
    private final class Arrival {
        private let watch: DirectoryWatch
        private(set) var isGood = true

        /// Nil when the directory cannot be watched.
        init?(beside path: SystemString?) {
            guard let path, let watch = try? DirectoryWatch(File.parent(of: path)) else { return nil }
            self.watch = watch
        }

        func wait(until deadline: Instant) {
            guard let isHeard = try? IO.waitUntil(watch.raw, readable: true, deadline: deadline) else {
                isGood = false
                return
            }
            if isHeard { isGood = watch.drain() }
        }
    }

    /// For one-way messages: connects, or waits while somebody else does.
    func connectOrWait(until deadline: Instant) throws(CallError) {
        let isMine = lock.withLock { _ in
            guard phase == .down else { return false }
            phase = .connecting
            return true
        }
        if isMine { connect(until: deadline) } else { rest(.milliseconds(1)) }
        let (isUp, reason) = lock.withLock { _ in (phase == .up, downReason) }
        if !isUp, MonotonicClock.now() >= deadline { throw CallError(.tryAgain, reason) }
    }

    func rest(_ duration: Duration) {
        var word: UInt32 = 0
        _ = withUnsafePointer(to: &word) {
            try? Futex.wait($0, expected: 0, deadline: MonotonicClock.now() + duration)
        }
    }

    /// Nobody connects any more: whoever waits may try with his own deadline.
    func endConnecting() {
        lock.withLock { _ in
            if phase == .connecting { phase = .down }
            calls.forEach { $0.wake() }
        }
        reconnectInBackgroundIfNeeded()
    }

    /// The server refuses us and will go on to do so.
    func failAll(_ error: AisError, _ text: Words) {
        let finished = lock.withLock { _ in
            var finished: [PendingCall] = []
            for call in calls.inOrder {
                if complete(call, .failure(CallError(error, text))) { finished.append(call) }
            }
            return finished
        }
        for call in finished { resume(call) }
    }

    struct Failure: Error {
        var error = AisError.tryAgain
        var text: Words
        var isFinal = false
        /// Nobody listens: waiting for a socket to appear is of use.
        var isAway = false
    }

    func attempt(until deadline: Instant) -> Result<Void, Failure> {
        let endpoint: Endpoint
        switch destination {
        case .endpoint(let known): endpoint = known
        case .address(let address, let resolve):
            guard let found = resolve(address, deadline) else {
                return .failure(Failure(text: "nobody provides \(address)"))
            }
            endpoint = found
        }
        let path = endpoint.path(in: places.runDirectory)
        let known = lock.withLock { _ in incarnation }
        do throws(OSError) {
            let socket = try ClientHandshake.start(path, session: session, knownIncarnation: known)
            let limit = min(deadline, MonotonicClock.now() + options.welcomeTimeout)
            while true {
                switch ClientHandshake.finish(socket, endpoint: endpoint) {
                case .notYet:
                    guard try IO.waitUntil(socket.raw, readable: true, deadline: limit) else {
                        return .failure(Failure(text: "\(endpoint) accepted but does not answer; is it stopped?"))
                    }
                case .established(let link, let welcome): return establish(link, welcome)
                case .refused(let error, let text):
                    let isFinal = error != .tryAgain && error != .noResources
                    return .failure(Failure(error: error, text: text, isFinal: isFinal))
                case .failed(let text): return .failure(Failure(text: text))
                }
            }
        } catch {
            if error.isNobodyListening {
                return .failure(Failure(text: "\(endpoint) is not running (\(path))", isAway: true))
            }
            if error.isNotPermitted { return .failure(Failure(error: .access, text: "\(error)", isFinal: true)) }
            return .failure(Failure(text: "\(endpoint): \(error)"))
        }
    }

    private func establish(_ link: Link, _ welcome: Welcome) -> Result<Void, Failure> {
        let (setup, known) = lock.withLock { _ in (established, incarnation) }
        do throws(OSError) {
            link.sleeper = try Sleeper(link: link)
            link.budget = SpinBudget(limit: options.spin)
        } catch {
            return .failure(Failure(text: "\(name): \(error)"))
        }
        if let setup {
            let context = EstablishedContext(
                serverIncarnationChanged: known != 0 && known != welcome.incarnation, isReconnect: known != 0,
                connection: self, link: link, deadline: MonotonicClock.now() + options.setUpTimeout)
            setup(context)
        }
        var refused: [PendingCall] = []
        let isTaken = lock.withLock { _ in
            guard phase == .connecting else { return false }
            self.link = link
            phase = .up
            incarnation = welcome.incarnation
            downReason = ""
            retry = PolledRetry()
            isReading = false
            isAnnounced = false
            for call in calls.inOrder {
                if let refusal = transmit(call, on: link), complete(call, .failure(refusal)) { refused.append(call) }
            }
            calls.forEach { $0.wake() }
            announceToListeners(link)
            return true
        }
        guard isTaken else { return .failure(Failure(text: "closed")) }
        link.ring()
        attach(link)
        for call in refused { resume(call) }
        return .success(())
    }

    /// A call on a link that nobody else knows yet.
    func setUpCall(
        _ code: UInt16, _ body: [UInt8], _ lane: Lane, _ link: Link, until deadline: Instant
    ) throws(CallError) -> Reply {
        var refusal: CallError?
        let call = lock.withLock { _ in
            let call = begin(code, lane, &refusal)
            call?.body = body
            return call
        }
        guard let call else { throw refusal ?? CallError(.badHandle, "closed") }
        defer { lock.withLock { _ in forget(call) } }
        if let failure = lock.withLock({ _ in transmit(call, on: link) }) { throw failure }
        link.ring()
        while true {
            if case .lost(let reason) = drain(link) { throw CallError(.tryAgain, reason) }
            if call.isDone { break }
            let now = MonotonicClock.now()
            guard now < deadline else { throw CallError(.timeout, "\(name) did not answer a set-up call in time") }
            guard link.reader.announceSleep(bell: 2), let sleeper = link.sleeper else { continue }
            let isSocket = sleeper.sleep(atMost: deadline - now)
            link.reader.announceAwake()
            if isSocket, let reason = hangUp(link), !call.isDone { throw CallError(.tryAgain, reason) }
        }
        if let error = call.error { throw error }
        return call.reply
    }
}
