import EngineKit
import OSAL
import SAFTypes

extension IOCConnection {
    /// Calls and waits for the answer, at most `timeout`. `descriptors` stay the caller's.
    ///
    /// - Throws: `.tryAgain` not executed: no connection until the deadline, or the lane is full (the text says which);
    ///   `.timeout` sent but not answered, the outcome is unknown; `.badHandle` closed; and what the service answers.
    public func call(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration, descriptors: [Int32] = []
    ) throws(CallError) -> Reply {
        let deadline = MonotonicClock.now() + timeout
        let owned = try Self.duplicate(descriptors)
        var isReader = false
        var refusal: CallError?
        var wake: Link?
        var call: PendingCall?
        lock.withLock { _ in
            guard let fresh = begin(code, lane, &refusal) else { return }
            fresh.body = body
            fresh.descriptors = owned
            call = fresh
            (isReader, wake) = start(fresh, &refusal)
        }
        return try finish(call, wake, isReader, refusal, deadline, timeout)
    }

    /// The same with a body that is encoded into a buffer kept for it: the warm request path allocates nothing.
    public func call(
        _ code: UInt16, lane: Lane = .normal, timeout: Duration, encoding encode: (inout ByteWriter) -> Void
    ) throws(CallError) -> Reply {
        let deadline = MonotonicClock.now() + timeout
        var isReader = false
        var refusal: CallError?
        var wake: Link?
        var call: PendingCall?
        lock.withLock { _ in
            guard let fresh = begin(code, lane, &refusal) else { return }
            fresh.usesWriter = true
            encode(&fresh.writer)
            call = fresh
            (isReader, wake) = start(fresh, &refusal)
        }
        return try finish(call, wake, isReader, refusal, deadline, timeout)
    }

    /// Sends a message nobody answers; connects first if necessary, for at most `timeout`.
    ///
    /// - Throws: `.tryAgain` nothing was sent: no connection, or the lane is full; `.badHandle` closed.
    public func send(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration = .seconds(1)
    ) throws(CallError) {
        let deadline = MonotonicClock.now() + timeout
        let header = FrameHeader(kind: .oneWay, lane: lane, code: code)
        while true {
            let (link, phase) = lock.withLock { _ in (self.link, self.phase) }
            if phase == .closed { throw CallError(.badHandle, "the connection to \(name) is closed") }
            guard let link else {
                try connectOrWait(until: deadline)
                continue
            }
            let outcome = lock.withLock { _ in
                self.link === link ? body.withUnsafeBytes { link.send(header, $0) } : .broken("lost")
            }
            switch outcome {
            case .sent:
                link.ring()
                return
            case .full: throw CallError(.tryAgain, "lane \(lane) to \(name) is full")
            case .failed(let text): throw CallError(.noResources, text)
            case .broken(let reason): lose(link, reason)
            }
        }
    }

    private static func duplicate(_ descriptors: [Int32]) throws(CallError) -> [SharedDescriptor] {
        if descriptors.isEmpty { return [] }
        var owned: [SharedDescriptor] = []
        for descriptor in descriptors {
            guard let copy = try? Descriptor(duplicating: descriptor) else {
                throw CallError(.noResources, "descriptor \(descriptor) cannot be duplicated")
            }
            owned.append(SharedDescriptor(copy))
        }
        return owned
    }

    // MARK: Under the lock

    func begin(_ code: UInt16, _ lane: Lane, _ refusal: inout CallError?) -> PendingCall? {
        guard phase != .closed, lastCode == nil || lastCode == code else {
            refusal = CallError(.badHandle, "the connection to \(name) is closed")
            return nil
        }
        guard calls.count < options.callsMax else {
            refusal = CallError(.tryAgain, "\(calls.count) calls to \(name) are outstanding")
            return nil
        }
        let call = pool.popLast() ?? PendingCall()
        call.code = code
        call.lane = lane
        call.number = numbers.issue()
        calls[call.number] = call
        return call
    }

    /// Sends a new call if there is a connection, and takes the reader's place if it is free.
    func start(_ call: PendingCall, _ refusal: inout CallError?) -> (isReader: Bool, wake: Link?) {
        guard phase == .up, let link else { return (false, nil) }
        var isReader = false
        if !isReading, call.kind == .blocking {
            isReader = true
            isReading = true
            if isAnnounced {
                isAnnounced = false
                link.reader.announceAwake()
            }
        }
        refusal = transmit(call, on: link)
        if refusal != nil {
            forget(call)
            if isReader { stopReading(link) }
            return (false, nil)
        }
        return (isReader, link)
    }

    /// Nil when the call is on its way or waits for a connection; else why it can be neither.
    func transmit(_ call: PendingCall, on link: Link) -> CallError? {
        let header = FrameHeader(
            kind: .request, lane: call.lane, code: call.code, number: call.number, acknowledged: numbers.acknowledged,
            flags: call.wasSent ? .retransmission : [])
        let descriptors = call.descriptors.isEmpty ? [] : call.descriptors.map { $0.raw }
        switch call.withBody({ link.send(header, $0, descriptors: descriptors) }) {
        case .sent:
            call.wasSent = true
            return nil
        case .full:
            if call.wasSent { return nil }
            return CallError(.tryAgain, "lane \(call.lane) to \(name) is full")
        case .failed(let text): return CallError(.noResources, text)
        case .broken: return nil  // whoever reads notices, and the call waits for the next connection
        }
    }

    func forget(_ call: PendingCall) {
        guard calls.remove(call.number) != nil else { return }
        numbers.finish(call.number)
        if call.kind == .asynchronous { asynchronousCount -= 1 }
    }

    /// Gives the reader's place to the next who waits, or to those who listen. The caller holds the lock.
    func stopReading(_ link: Link) {
        guard self.link === link else { return }
        isReading = false
        var next: PendingCall?
        calls.forEach { call in
            if call.kind == .blocking, !call.isDone, call.number < next?.number ?? .max { next = call }
        }
        if let next { return next.wake() }
        announceToListeners(link)
    }

    /// Nobody reads: the server is to ring the bell that the runtime, or the owner of the push descriptor, hears.
    func announceToListeners(_ link: Link) {
        guard pushHandler != nil || listensByDescriptor || asynchronousCount > 0 else { return }
        isAnnounced = true
        if !link.reader.announceSleep(bell: 1) { link.ownBell.ring() }
    }

    /// Ends a call; true when it has a completion that the caller must ``resume(_:)`` without the lock.
    func complete(_ call: PendingCall, _ result: Result<Reply, CallError>) -> Bool {
        forget(call)
        switch result {
        case .success(let reply): call.reply = reply
        case .failure(let error): call.error = error
        }
        call.isDone = true
        if call.kind == .polled { armTimer() }
        if call.kind != .blocking { return true }
        call.wake()
        return false
    }

    // MARK: Waiting

    private func finish(
        _ call: PendingCall?, _ wake: Link?, _ isReader: Bool, _ refusal: CallError?, _ deadline: Instant,
        _ timeout: Duration
    ) throws(CallError) -> Reply {
        if let wake, wake.ring(), isReader { wake.budget.woke() }
        if let refusal {
            if let call { recycle(call) }
            throw refusal
        }
        guard let call else { throw CallError(.library, "no call") }
        if isReader, let wake { read(wake, for: call, until: deadline) }
        if !call.isDone { waitForTurn(call, deadline, timeout) }
        let error = call.error
        let reply = call.reply
        recycle(call)
        if let error { throw error }
        return reply
    }

    private func recycle(_ call: PendingCall) {
        call.clear()
        lock.withLock { _ in if pool.count < 16 { pool.append(call) } }
    }

    private enum Turn { case done, connect, read(Link), sleep(UInt32) }

    /// Until the call is done: reads when nobody does, connects when nobody does, sleeps otherwise.
    private func waitForTurn(_ call: PendingCall, _ deadline: Instant, _ timeout: Duration) {
        while true {
            let isLate = MonotonicClock.now() >= deadline
            let turn: Turn = lock.withLock { _ in
                call.isSleeping = false
                if call.isDone { return .done }
                if isLate {
                    let late: Words = "no answer from \(name) within \(timeout)"
                    let unsent = phase == .up ? late : downReason
                    _ = complete(
                        call, .failure(call.wasSent ? CallError(.timeout, late) : CallError(.tryAgain, unsent)))
                    return .done
                }
                switch phase {
                case .closed: return .done
                case .down:
                    phase = .connecting
                    return .connect
                case .connecting:
                    call.isSleeping = true
                    return .sleep(call.wakeCount)
                case .up:
                    guard !isReading, let link else {
                        call.isSleeping = true
                        return .sleep(call.wakeCount)
                    }
                    isReading = true
                    isAnnounced = false
                    link.reader.announceAwake()
                    return .read(link)
                }
            }
            switch turn {
            case .done: return
            case .connect: connect(until: deadline)
            case .read(let link): read(link, for: call, until: deadline)
            case .sleep(let count):
                _ = try? Futex.wait(UnsafePointer(call.word), expected: count, deadline: deadline)
            }
        }
    }

    /// Reads for everybody until `call` is done, the deadline comes or the connection is lost; then gives the place up.
    private func read(_ link: Link, for call: PendingCall, until deadline: Instant) {
        defer { lock.withLock { _ in stopReading(link) } }
        var sleptAt: Instant?
        while true {
            switch drain(link) {
            case .lost(let reason): return lose(link, reason)
            case .some:
                if let since = sleptAt { link.budget.slept(since: since, until: MonotonicClock.now()) }
                sleptAt = nil
            case .nothing: break
            }
            if call.isDone { return }
            if spin(link, deadline) { continue }
            if call.isDone || lock.withLock({ _ in self.link !== link }) { return }
            let now = MonotonicClock.now()
            if now >= deadline { return }
            guard link.reader.announceSleep(bell: 2) else { continue }
            if sleptAt == nil { sleptAt = now }
            guard let sleeper = link.sleeper, sleeper.sleep(atMost: deadline - now) else {
                link.reader.announceAwake()
                continue
            }
            link.reader.announceAwake()
            if let reason = hangUp(link) { return lose(link, reason) }
        }
    }

    /// Polls for something to read; false when the budget is spent.
    func spin(_ link: Link, _ deadline: Instant) -> Bool {
        guard !link.budget.isZero else { return false }
        let start = MonotonicClock.now()
        var now = start
        repeat {
            // Whoever shares the processor may be the one who answers.
            for _ in 0..<(link.budget.isShared ? 2 : 32) {
                if link.reader.readyLane() != nil {
                    link.budget.found(since: start, now: MonotonicClock.now())
                    return true
                }
                pause()
            }
            now = link.budget.giveWay(since: start, now: MonotonicClock.now())
        } while now < min(link.budget.end(from: start), deadline)
        link.budget.spent()
        return false
    }
}
