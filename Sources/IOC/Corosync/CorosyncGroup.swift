import EngineKit
public import IOCGroups
import OSAL
import SAFTypes

/// A group over Corosync: CPG orders, libquorum says who may act.
///
/// Under a ``FragmentingGroup`` only (``NodeGroup`` is that): what is under way when a view changes is dropped by all.
/// Nothing here waits, also while corosync is stopped: what would, happens on threads of its own.
public final class CorosyncGroup: OrderedGroup {
    /// Of a CPG message; below it several messages find room in corosync's request ring of 1 MiB.
    static let frameBytesMax = 60 << 10
    /// Own messages not yet delivered here. More than about 270 unread ones would make libqb spin.
    static let outstandingMax = 128
    static let outstandingBytesMax = 512 << 10
    /// libcpg and libquorum keep buffers of 1 MiB on the stack; so must the thread that calls ``next()`` have.
    static let stackSize = 4 << 20
    /// Events of one batch of ``next()``.
    static let batch = 64
    private static let retryDelay: Duration = .milliseconds(2)

    public let member: GroupMember
    private let wakeUp = CorosyncWakeUp.make()
    private var attempt: CorosyncAttempt?
    private var session: CorosyncSession?
    private var order: RingOrder?
    private var ready: [GroupEvent] = []
    private var head = 0
    private var unsent: [RingMessage] = []
    /// Sizes of own messages on their way, oldest first.
    private var outstanding: [Int] = []
    private var outstandingBytes = 0
    private var taken = 0
    private var isLost = false
    private var timerAt: Instant?

    public init(member: GroupMember) { self.member = member }

    deinit { leave() }

    public var messageBytesMax: Int { Self.frameBytesMax - RingMessage.headerBytes }
    public var descriptors: [Int32] { (wakeUp?.descriptors ?? []) + (session?.descriptors ?? []) }

    /// How it went is told by ``next()``: a view, or `lost` with the reason.
    public func join(_ name: String) throws(GroupError) {
        guard attempt == nil, session == nil else { throw GroupError("group \(name): joined already; leave first") }
        guard let wakeUp else { throw GroupError("group \(name): no descriptors left") }
        let attempt = CorosyncAttempt(wakeUp)
        do throws(OSError) {
            _ = try OSThread.spawn(name: "corosync-join", stackSize: Self.stackSize) { attempt.run("saf.\(name)") }
        } catch {
            throw GroupError("group \(name): \(error)")
        }
        self.attempt = attempt
    }

    public func leave() {
        attempt?.abandon()
        if let session { CorosyncAttempt.end(session) }
        (attempt, session, order) = (nil, nil, nil)
        ready.removeAll()
        head = 0
        unsent.removeAll()
        outstanding.removeAll()
        outstandingBytes = 0
        taken = 0
        isLost = false
        arm(nil)
    }

    public func multicast(_ bytes: [UInt8]) -> MulticastResult {
        guard bytes.count <= messageBytesMax else { return .tooBig }
        guard attempt != nil || session != nil, !isLost else { return .notJoined }
        guard let order, order.isInView, unsent.isEmpty else { return .busy }
        guard outstanding.count < Self.outstandingMax,
            outstandingBytes + bytes.count <= Self.outstandingBytesMax || outstanding.isEmpty
        else { return .busy }
        return put([RingMessage.version, 0], bytes) ? .sent : isLost ? .notJoined : .busy
    }

    /// What corosync's own configuration says is read when the group is joined; this is what has changed since.
    public func expect(nodes: Int) {
        feed(.expected(UInt16(clamping: nodes)))
        flush()
        schedule()
    }

    public func next() -> GroupEvent? {
        if let event = pop() { return event }
        if let finished = attempt?.take() { settle(finished) }
        guard let session, !isLost else { return pop() }
        do throws(CorosyncSession.Failure) {
            if taken == 0 { try lookAround(session) }
            while head == ready.count, taken < Self.batch, try session.takeOne() {
                taken += 1
                digest(session)
            }
        } catch {
            lose(error.reason)
        }
        flush()
        schedule()
        guard let event = pop() else {
            taken = 0
            return nil
        }
        return event
    }

    // MARK: Events

    private func pop() -> GroupEvent? {
        guard head < ready.count else { return nil }
        let event = ready[head]
        head += 1
        if head == ready.count {
            ready.removeAll(keepingCapacity: true)
            head = 0
        }
        return event
    }

    private func settle(_ result: Result<CorosyncSession, CorosyncSession.Failure>) {
        attempt = nil
        switch result {
        case .failure(let failure): lose(failure.reason)
        case .success(let session):
            guard session.localNode == member.node.rawValue else {
                CorosyncAttempt.end(session)
                return lose("corosync calls this node \(session.localNode); the cluster's description \(member.node)")
            }
            self.session = session
            order = RingOrder(
                me: RingProcess(node: session.localNode, pid: UInt32(Environment.processID)), member: member,
                nodesExpected: session.nodesExpected)
        }
    }

    private func lookAround(_ session: CorosyncSession) throws(CorosyncSession.Failure) {
        wakeUp?.drain()
        timerAt = nil
        try session.takeQuorum()
        digest(session)
        feed(.tick)
    }

    private func digest(_ session: CorosyncSession) {
        guard !session.inbox.events.isEmpty else { return }
        let events = session.inbox.events
        session.inbox.events.removeAll(keepingCapacity: true)
        for event in events {
            if case .message(let process, _) = event, process == order?.me, !outstanding.isEmpty {
                outstandingBytes -= outstanding.removeFirst()
            }
            feed(event)
        }
    }

    private func feed(_ event: RingOrder.Event) {
        for effect in order?.handle(event, at: MonotonicClock.now()) ?? [] {
            switch effect {
            case .deliver(.lost(let reason)): lose(reason)
            case .deliver(let event): ready.append(event)
            case .send(let message): unsent.append(message)
            }
        }
    }

    private func lose(_ reason: String) {
        guard !isLost else { return }
        isLost = true
        ready.append(.lost(reason: reason))
    }

    // MARK: Sending

    private func flush() {
        while let message = unsent.first, !isLost, outstanding.count < 2 * Self.outstandingMax - 16 {
            guard put(message.encoded, []) else { return }
            unsent.removeFirst()
        }
    }

    private func put(_ head: [UInt8], _ body: [UInt8]) -> Bool {
        switch session?.multicast(head, body) {
        case .done:
            outstanding.append(head.count + body.count)
            outstandingBytes += head.count + body.count
            return true
        case .failed(let reason): lose(reason)
        case .busy, nil: break
        }
        return false
    }

    private func schedule() {
        let retry = unsent.isEmpty || isLost ? nil : MonotonicClock.now() + Self.retryDelay
        let deadline = isLost ? nil : order?.deadline
        arm([retry, deadline].compactMap { $0 }.min())
    }

    private func arm(_ time: Instant?) {
        guard time != timerAt else { return }
        timerAt = time
        wakeUp?.arm(time)
    }
}

/// Wakes the group's loop: rung by the joining thread, and a deadline.
final class CorosyncWakeUp: Sendable {
    private let bell: Doorbell
    private let timer: TimerDescriptor

    private init() throws(OSError) {
        bell = try Doorbell()
        timer = try TimerDescriptor()
    }

    static func make() -> CorosyncWakeUp? { try? CorosyncWakeUp() }  // without descriptors joining says so

    var descriptors: [Int32] { [bell.raw, timer.raw] }
    func ring() { bell.ring() }
    func drain() {
        bell.drain()
        timer.drain()
    }
    func arm(_ time: Instant?) { try? timer.arm(at: time) }  // a valid time and an own descriptor: cannot fail
}

/// A join under way on its thread. Abandoned, it ends what it made.
final class CorosyncAttempt: Sendable {
    private enum State { case running, finished(Result<CorosyncSession, CorosyncSession.Failure>), abandoned }
    private let state = Lock<State>(.running)
    private let wakeUp: CorosyncWakeUp

    init(_ wakeUp: CorosyncWakeUp) { self.wakeUp = wakeUp }

    private var isWanted: Bool {
        state.withLock { state in
            if case .abandoned = state { false } else { true }
        }
    }

    func run(_ group: String) {
        let result: Result<CorosyncSession, CorosyncSession.Failure>
        do throws(CorosyncSession.Failure) {
            result = .success(try CorosyncSession.join(group, while: { isWanted }))
        } catch {
            result = .failure(error)
        }
        let isTaken = state.withLock { state in
            if case .abandoned = state { return false }
            state = .finished(result)
            return true
        }
        if isTaken { wakeUp.ring() } else if case .success(let session) = result { session.finish() }
    }

    func take() -> Result<CorosyncSession, CorosyncSession.Failure>? {
        state.withLock { state in
            guard case .finished(let result) = state else { return nil }
            state = .abandoned
            return result
        }
    }

    func abandon() {
        if case .success(let session)? = take() { return Self.end(session) }
        state.withLock { $0 = .abandoned }
    }

    /// Ends a session without waiting for it. Without a thread to be had it stays as it is until the process ends.
    static func end(_ session: CorosyncSession) {
        _ = try? OSThread.spawn(name: "corosync-leave", stackSize: CorosyncGroup.stackSize) { session.finish() }
    }
}
