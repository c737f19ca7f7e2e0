import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// A client for daemons: calls another daemon from a ``EOLoop/Loop`` and never blocks it. Loop thread only.
///
/// Reconnects by itself until ``close()``, as soon as the server's socket appears; nothing is polled meanwhile. A call
/// made while the server is away waits for it until its deadline.
public final class LoopConnection {
    public let endpoint: Endpoint
    /// Called for every push; the body is valid only during the call, the descriptors are the handler's to close.
    public var onPush: ((UInt16, UnsafeRawBufferPointer, [Int32]) -> Void)?
    /// The connection stands. Calls made here go out before those that waited. True: the server is another life than
    /// the one spoken to before, and knows nothing of us.
    public var onUp: ((_ serverIncarnationChanged: Bool) -> Void)?
    /// The server has hung up or died.
    public var onDown: (() -> Void)?
    /// Why there is no connection, for people; nil while there is one.
    public private(set) var downReason: String? = "not connected yet"

    private let loop: Loop
    private let path: String
    private let options: ClientOptions
    private let session = SessionID.random()
    private var phase = Phase.down
    private var incarnation: UInt64 = 0
    private var spinner: SpinnerID?
    private var isHot = false
    private var numbers = OutstandingNumbers()
    private var calls: [UInt64: Call] = [:]
    private var retryPause: Duration
    private var retryTimer: LoopTimer?
    /// Tells when a server may have come; nil while there is no need, or no way.
    private var arrival: Arrivals.Waiter?
    private let backlink = Backlink<LoopConnection>()

    private enum Phase {
        case down
        case connecting(Attempt)
        case up(Connected)
        case closed
    }

    private final class Attempt {
        let socket: Descriptor
        var watch: WatchID?
        var timer: LoopTimer?
        init(socket: consuming Descriptor) { self.socket = socket }
    }

    private final class Connected {
        let link: Link
        var bellWatch: WatchID?
        var socketWatch: WatchID?
        init(link: Link) { self.link = link }
    }

    private struct Call {
        let code: UInt16
        let lane: Lane
        let body: [UInt8]
        let descriptors: [SharedDescriptor]
        let timer: LoopTimer
        let then: (Result<Reply, CallError>) -> Void
        var wasSent = false
    }

    /// Starts to connect with the loop's next turn, so that the handlers can be set first.
    public init(loop: Loop, to endpoint: Endpoint, places: Places, options: ClientOptions = ClientOptions()) {
        self.loop = loop
        self.endpoint = endpoint
        self.options = options
        path = endpoint.path(in: places.runDirectory)
        retryPause = options.retryFirst
        spinner = loop.addSpinner(
            { [unowned(unsafe) self] in poll() }, beforeSleep: { [unowned(unsafe) self] in announceSleep() })
        backlink.set(self)
        loop.enqueue(.control) { [backlink] in backlink.owner?.connect() }
    }

    deinit {
        backlink.clear()
        close()
    }

    public var isUp: Bool { if case .up = phase { true } else { false } }

    /// Calls; `then` is called on the loop, exactly once, never before this returns. `descriptors` stay the caller's.
    ///
    /// Errors: `.tryAgain` not sent (no connection until the deadline, or the lane is full), `.timeout` sent, outcome
    /// unknown, and whatever the service answers.
    public func call(
        _ code: UInt16, _ body: [UInt8], lane: Lane = .normal, timeout: Duration, descriptors: [Int32] = [],
        then: @escaping (Result<Reply, CallError>) -> Void
    ) {
        func refuse(_ error: AisError, _ text: String) {
            let job = { then(.failure(CallError(error, text))) }
            if !loop.enqueue(lane, job), !loop.enqueue(.control, job) { loop.schedule(after: .zero, job) }
        }
        if case .closed = phase { return refuse(.badHandle, "the connection to \(endpoint) is closed") }
        guard calls.count < options.callsMax else {
            return refuse(.tryAgain, "\(calls.count) calls to \(endpoint) are outstanding")
        }
        var owned: [SharedDescriptor] = []
        for descriptor in descriptors {
            guard let copy = try? Descriptor(duplicating: descriptor) else {
                return refuse(.noResources, "out of descriptors")
            }
            owned.append(SharedDescriptor(copy))
        }
        let number = numbers.issue()
        let timer = loop.schedule(after: timeout) { [unowned self] in expire(number, timeout) }
        calls[number] = Call(code: code, lane: lane, body: body, descriptors: owned, timer: timer, then: then)
        if case .up(let connected) = phase { transmit(number, on: connected.link) } else { hurry() }
    }

    /// One-way; false when there is no connection or the lane is full: nothing was sent.
    public func send(_ code: UInt16, _ body: [UInt8], lane: Lane = .normal) -> Bool {
        guard case .up(let connected) = phase else { return false }
        let header = FrameHeader(kind: .oneWay, lane: lane, code: code)
        let outcome = body.withUnsafeBytes { connected.link.send(header, $0) }
        if case .broken(let reason) = outcome { loseSoon(connected, reason) }
        guard outcome == .sent else { return false }
        connected.link.ring()
        return true
    }

    /// Calls outstanding fail with BAD_HANDLE.
    public func close() {
        if case .closed = phase { return }
        disconnect()
        phase = .closed
        downReason = "closed"
        if let spinner { loop.removeSpinner(spinner) }
        if let retryTimer { loop.cancel(retryTimer) }
        forgetArrival()
        for number in calls.keys.sorted() {
            finish(number, .failure(CallError(.badHandle, "the connection to \(endpoint) was closed")))
        }
    }

    // MARK: Connecting

    private func connect() {
        guard case .down = phase else { return }
        if let retryTimer { loop.cancel(retryTimer) }
        retryTimer = nil
        do throws(OSError) {
            let attempt = Attempt(
                socket: try ClientHandshake.start(path, session: session, knownIncarnation: incarnation))
            attempt.watch = try loop.watch(attempt.socket.raw, .read, lane: .high) { [unowned self] _ in hear(attempt) }
            attempt.timer = loop.schedule(after: options.welcomeTimeout) { [unowned self] in
                retry("\(endpoint) accepted but does not answer; is it stopped?")
            }
            phase = .connecting(attempt)
        } catch {
            guard error.isNobodyListening else { return retry("\(endpoint): \(error)") }
            waitForArrival("\(endpoint) is not running (\(path))")
        }
    }

    /// There is no server: sleeps until something appears where its socket will be.
    private func waitForArrival(_ reason: String) {
        if arrival != nil {
            downReason = reason
            return
        }
        arrival = Arrivals.of(loop).wait(in: File.parent(of: path)) { [unowned self] in arrived() }
        // It may have come before we watched.
        if arrival != nil { connect() } else { retry(reason) }
    }

    private func arrived() {
        if arrival?.isDirect == false { forgetArrival() }
        connect()
    }

    private func forgetArrival() {
        if let arrival { Arrivals.of(loop).cancel(arrival) }
        arrival = nil
    }

    /// Tries again later: ever later while nobody waits.
    private func retry(_ reason: String) {
        disconnect()
        forgetArrival()
        downReason = reason
        let longest = calls.isEmpty ? options.retryIdleMax : options.retryMax
        retryPause = min(retryPause, longest)
        retryTimer = loop.schedule(after: retryPause) { [unowned self] in connect() }
        retryPause = min(retryPause * 2, longest)
    }

    /// Somebody waits now: a long pause is not for him.
    private func hurry() {
        guard case .down = phase, let timer = retryTimer, retryPause > options.retryMax else { return }
        loop.cancel(timer)
        retryPause = options.retryFirst
        retryTimer = loop.schedule(after: retryPause) { [unowned self] in connect() }
    }

    private func hear(_ attempt: Attempt) {
        switch ClientHandshake.finish(attempt.socket, endpoint: endpoint) {
        case .notYet: return
        case .established(let link, let welcome): establish(link, welcome)
        case .refused(let error, let text): retry("\(text) (\(error))")
        case .failed(let text): retry(text)
        }
    }

    private func establish(_ link: Link, _ welcome: Welcome) {
        disconnect()
        let connected = Connected(link: link)
        do throws(OSError) {
            connected.bellWatch = try loop.watch(link.ownBell.raw, [.read, .edgeTriggered], lane: .high) {
                [unowned self] _ in isHot = true
            }
            connected.socketWatch = try loop.watch(link.socket.raw, [.read, .edgeTriggered], lane: .high) {
                [unowned self, unowned connected] _ in hearSocket(connected)
            }
        } catch {
            phase = .up(connected)
            return retry("\(endpoint): \(error)")
        }
        let isChanged = incarnation != 0 && incarnation != welcome.incarnation
        incarnation = welcome.incarnation
        phase = .up(connected)
        isHot = true
        downReason = nil
        retryPause = options.retryFirst
        forgetArrival()
        let waiting = calls.keys.sorted()
        onUp?(isChanged)
        for number in waiting {
            guard case .up(let current) = phase, current === connected else { return }
            transmit(number, on: link)
        }
    }

    /// Leaves whatever phase it is in for `down`.
    private func disconnect() {
        switch phase {
        case .down, .closed: return
        case .connecting(let attempt):
            if let watch = attempt.watch { loop.unwatch(watch) }
            if let timer = attempt.timer { loop.cancel(timer) }
        case .up(let connected):
            if let watch = connected.bellWatch { loop.unwatch(watch) }
            if let watch = connected.socketWatch { loop.unwatch(watch) }
        }
        phase = .down
        isHot = false
    }

    private func loseSoon(_ connected: Connected, _ reason: String) {
        loop.enqueue(.control) { [backlink] in backlink.owner?.lose(connected, reason) }
    }

    private func lose(_ connected: Connected, _ reason: String) {
        guard case .up(let current) = phase, current === connected else { return }
        retryPause = options.retryFirst
        retry(reason)
        onDown?()
    }

    private func hearSocket(_ connected: Connected) {
        guard case .up(let current) = phase, current === connected else { return }
        do throws(DecodeError) {
            guard try connected.link.drainSocket() else { return }
            while let lane = connected.link.reader.readyLane(), isUp { _ = try take(connected.link, lane) }
            lose(connected, "\(endpoint) has hung up")
        } catch {
            lose(connected, "\(endpoint) broke the protocol: \(error)")
        }
    }

    // MARK: Frames

    private func transmit(_ number: UInt64, on link: Link) {
        guard let call = calls[number] else { return }
        let header = FrameHeader(
            kind: .request, lane: call.lane, code: call.code, number: number, acknowledged: numbers.acknowledged,
            flags: call.wasSent ? .retransmission : [])
        let outcome = call.body.withUnsafeBytes {
            link.send(header, $0, descriptors: call.descriptors.isEmpty ? [] : call.descriptors.map(\.raw))
        }
        switch outcome {
        case .sent:
            calls[number]?.wasSent = true
            isHot = true
            link.reader.announceAwake()
            link.ring()
        case .full:
            if !call.wasSent {
                finishSoon(number, CallError(.tryAgain, "lane \(call.lane) to \(endpoint) is full"))
            }
        case .failed(let text): finishSoon(number, CallError(.noResources, text))
        case .broken(let reason):
            if case .up(let connected) = phase { loseSoon(connected, reason) }
        }
    }

    private func expire(_ number: UInt64, _ timeout: Duration) {
        guard let call = calls[number] else { return }
        let error =
            call.wasSent
            ? CallError(.timeout, "no answer from \(endpoint) within \(timeout)")
            : CallError(.tryAgain, downReason ?? "\(endpoint) was not reached within \(timeout)")
        finish(number, .failure(error))
    }

    private func finishSoon(_ number: UInt64, _ error: CallError) {
        let job: () -> Void = { [backlink] in backlink.owner?.finish(number, .failure(error)) }
        if !loop.enqueue(.high, job), !loop.enqueue(.control, job) { loop.schedule(after: .zero, job) }
    }

    private func finish(_ number: UInt64, _ result: Result<Reply, CallError>) {
        guard let call = calls.removeValue(forKey: number) else {
            if case .success(let reply) = result { for descriptor in reply.descriptors { IO.close(descriptor) } }
            return
        }
        numbers.finish(number)
        loop.cancel(call.timer)
        call.then(result)
    }

    private func poll() -> Bool {
        guard isHot, case .up(let connected) = phase else { return false }
        var taken = 0
        do throws(DecodeError) {
            while taken < 64, isUp, let lane = connected.link.reader.readyLane() {
                _ = try take(connected.link, lane)
                taken += 1
            }
        } catch {
            lose(connected, "\(endpoint) broke the protocol: \(error)")
            return true
        }
        if taken > 0, connected.link.reader.takeSpaceWake() { connected.link.ringForSpace() }
        return taken > 0
    }

    private func take(_ link: Link, _ lane: Lane) throws(DecodeError) -> Bool {
        var violation: String?
        let isTaken = try link.receive(lane) { header, body, descriptors in
            switch header.kind {
            case .reply: finish(header.number, .success(Reply(body: Array(body), descriptors: descriptors)))
            case .failure:
                for descriptor in descriptors { IO.close(descriptor) }
                let error = AisError(rawValue: header.status) ?? .library
                finish(header.number, .failure(CallError(error, String(decoding: body, as: UTF8.self))))
            case .oneWay:
                if let onPush {
                    onPush(header.code, body, descriptors)
                } else {
                    for descriptor in descriptors { IO.close(descriptor) }
                }
            case .hello, .welcome, .refused, .request, .pad, .carried, .memory:
                for descriptor in descriptors { IO.close(descriptor) }
                violation = "a frame of kind \(header.kind)"
            }
        }
        if let violation { throw .badValue(violation) }
        return isTaken
    }

    private func announceSleep() -> Bool {
        guard isHot, case .up(let connected) = phase else { return false }
        guard connected.link.reader.announceSleep(bell: 1) else { return true }
        isHot = false
        return false
    }
}
