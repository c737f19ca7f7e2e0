import AmfProtocol
import EOLoop
import EngineKit
import IOC
import OSAL
import SAFTypes

/// A component's dealings with amfd, on a loop: registers, again after every life of amfd; holds the life lock; hands
/// out callbacks; sends answers until one arrives. Loop thread only; never blocks.
final class ComponentCore {
    struct Healthcheck {
        var key: String
        var invocation: HealthcheckInvocation
        var recovery: RecommendedRecovery
    }

    /// Parts of an invocation to be answered by ``answer(_:part:_:)``.
    var onWork: (InvocationID, [Assignment.Action]) -> Void = { _, _ in }
    /// To be answered by ``answer(_:part:_:)``.
    var onHealthcheck: (InvocationID, _ key: String) -> Void = { _, _ in }
    /// After every attempt to register.
    var onRegistration: (CallError?) -> Void = { _ in }
    /// An invocation is answered and amfd has taken it, or cannot be told for now.
    var onAnswered: (InvocationAnswer) -> Void = { _ in }

    let name: SaName
    private let loop: Loop
    private let connection: LoopConnection
    private(set) var session: ComponentSession
    private var healthchecks: [Healthcheck] = []
    private var lock = HeldLifeLock()
    private var isClosed = false
    private(set) var isRegistered = false

    static let callTimeout: Duration = .seconds(10)
    /// Between two attempts to register with an amfd that refuses; doubled each time.
    private static let retryFirst: Duration = .milliseconds(100)
    private static let retryMax: Duration = .seconds(5)
    private var retryDelay = ComponentCore.retryFirst
    private var openHealthchecks: Set<InvocationID> = []

    init(loop: Loop, places: Places, name: SaName) {
        self.loop = loop
        self.name = name
        session = ComponentSession(component: name, pid: Environment.processID)
        connection = LoopConnection(loop: loop, to: .wellKnown(.amfd), places: places)
        connection.onUp = { [weak self] _ in self?.connected() }
        connection.onDown = { [weak self] in self?.isRegistered = false }
        connection.onPush = { [weak self] code, body, descriptors in
            for descriptor in descriptors { IO.close(descriptor) }
            self?.receive(code, body)
        }
    }

    /// Why there is no connection, or nil.
    var downReason: String? { connection.downReason }

    func call(
        _ request: AmfRequest, timeout: Duration = ComponentCore.callTimeout,
        then: @escaping (Result<Reply, CallError>) -> Void
    ) {
        connection.call(request.code.rawValue, request.body, lane: .control, timeout: timeout, then: then)
    }

    /// Starts a health check after every registration.
    func addHealthcheck(_ check: Healthcheck) {
        healthchecks.removeAll { $0.key == check.key }
        healthchecks.append(check)
    }

    /// Starts a health check now, and after every registration.
    func startHealthcheck(_ check: Healthcheck, then: @escaping (Result<Reply, CallError>) -> Void) {
        addHealthcheck(check)
        start(check) { result in
            // A registration in between may have started it already.
            if case .failure(let error) = result, error.code == .exist {
                then(.success(Reply(body: [], descriptors: [])))
            } else {
                then(result)
            }
        }
    }

    func stopHealthcheck(_ key: String, then: @escaping (Result<Reply, CallError>) -> Void) {
        healthchecks.removeAll { $0.key == key }
        call(.healthcheckStop(component: name, key: key), then: then)
    }

    /// Answers a part of an invocation; amfd hears of it when all parts are answered.
    func answer(_ id: InvocationID, part: Int = 0, _ error: AisError?) {
        if let answer = session.answer(id, part: part, error) { send(answer) }
    }

    func quiescingComplete(_ csi: SaName?) {
        for id in session.quiescingComplete(csi) {
            call(.quiescingComplete(InvocationAnswer(id))) { _ in }  // amfd's own time limit covers a failure
        }
    }

    func close() {
        isClosed = true
        connection.close()
        lock.release()
    }

    private func start(_ check: Healthcheck, then: @escaping (Result<Reply, CallError>) -> Void) {
        call(
            .healthcheckStart(component: name, key: check.key, check.invocation, recovery: check.recovery), then: then)
    }

    private func connected() {
        retryDelay = Self.retryFirst
        register()
    }

    private func register() {
        guard !isClosed else { return }
        let registration = session.registration
        call(.register(registration)) { [weak self] result in self?.registered(registration, result) }
    }

    private func registered(_ registration: Registration, _ result: Result<Reply, CallError>) {
        switch result {
        case .success(let reply):
            session.registered(sending: registration.answers)
            lock.take(reply)
            isRegistered = true
            // A new life of amfd knows nothing of them; the one that knows answers EXIST, which is as good.
            for check in healthchecks { start(check) { _ in } }
            onRegistration(nil)
        case .failure(let error):
            onRegistration(error)
            // amfd may still be adopting; how long it waits for us is its own configuration.
            loop.schedule(after: retryDelay) { [weak self] in
                if let self, connection.isUp, !isRegistered { register() }
            }
            retryDelay = min(retryDelay * 2, Self.retryMax)
        }
    }

    private func receive(_ code: UInt16, _ body: UnsafeRawBufferPointer) {
        // What an amfd of another version asks cannot be answered; its time limit tells it so.
        guard let push = try? AmfPush(code: code, body: body) else { return }
        switch session.receive(push) {
        case .work(let id, let actions): onWork(id, actions)
        case .healthcheck(let id, let key):
            openHealthchecks.insert(id)
            onHealthcheck(id, key)
        case .answerAgain(let answer): send(answer)
        case .ignore: break
        }
    }

    private func send(_ answer: InvocationAnswer) {
        if openHealthchecks.remove(answer.invocation) != nil, sendOneWay(answer) { return }
        call(.response(answer)) { [weak self] result in
            if case .failure(let error) = result, error.code == .timeout || error.code == .tryAgain {
                self?.session.notSent(answer)
            }
            self?.onAnswered(answer)
        }
    }

    /// Without an answer from amfd, which would wake this process a second time. What is lost with the connection is
    /// asked again after the next registration.
    private func sendOneWay(_ answer: InvocationAnswer) -> Bool {
        let request = AmfRequest.response(answer)
        return connection.send(request.code.rawValue, request.body, lane: .control)
    }
}
