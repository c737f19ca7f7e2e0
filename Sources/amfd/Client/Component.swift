import AmfProtocol
import EOLoop
import EngineKit
import ExecutionObject
import IOC
import LogClient
import OSAL
import SAFTypes
import Synchronization

/// This process as a component of the node: its registration, its assignments and its health.
///
/// ```swift
/// let component = try await Component.register()
/// for await assignment in component.assignments {
///     switch assignment.action {
///     case .set(.active, let csi): startWork(csi)
///     case .set(let haState, _): stopWork(haState)
///     case .remove: stopWork(nil)
///     case .terminate: break
///     }
///     assignment.complete()
///     if assignment.action == .terminate { break }
/// }
/// ```
///
/// Everything that amfd needs is done by a background thread of the library that lives as long as the process and holds
/// the life lock. When amfd dies, the component registers again with its next life by itself, with what it holds;
/// answers that got lost are given again. Any thread may call; nothing blocks.
///
/// Source: SAI-AIS-AMF-B.02.01 §7.
public final class Component: Sendable {
    /// The component's DN, from SA_AMF_COMPONENT_NAME.
    public let name: SaName
    /// What amfd asks, in its order. For one reader; ends after ``close()``.
    public let assignments: Assignments

    /// The library's own thread, for a task that must not wait for a CPU or for another thread to wake up: assignments
    /// arrive on it, and on a node whose components may (CAP_SYS_NICE) it runs before threads of normal priority.
    ///
    /// ```swift
    /// await withTaskExecutorPreference(Component.executor) {
    ///     for await assignment in component.assignments { … }
    /// }
    /// ```
    ///
    /// What runs on it must give it back within milliseconds: health checks, checkpoints and messages are served there,
    /// too. Put longer work into a task of its own.
    public static let executor: any TaskExecutor = RuntimeExecutor()

    private let runtime: RuntimeThread
    private let shared: Shared

    /// How a health check is started.
    public enum HealthcheckInvocation: Sendable {
        /// amfd asks every configured period and waits for the configured maximal duration.
        case byAmf
        /// The library asks, and confirms to amfd, every `period`, which must be shorter than the configured one.
        case byComponent(Duration)
    }

    /// What the runtime's thread and the callers share.
    final class Shared: Sendable {
        struct State {
            var haStates: [SaName: HAState] = [:]
            var registration: AwaitedAnswer?
        }
        let state = Mutex(State())
    }

    private init(name: SaName, runtime: RuntimeThread, shared: Shared, assignments: Assignments) {
        (self.name, self.runtime, self.shared, self.assignments) = (name, runtime, shared, assignments)
    }

    /// Registers this process as the component that amfd started it as.
    ///
    /// - Parameters:
    ///   - name: the component's DN; nil takes it from SA_AMF_COMPONENT_NAME.
    ///   - timeout: how long to wait for amfd.
    /// - Throws: `.notExist` no name: the process was not started by amfd; `.invalidParam` not a configured component;
    ///   `.access` the process does not belong to it; `.timeout`, `.tryAgain` amfd is not there or not ready. The log
    ///   has a warning with amfd's own words.
    /// - Source: SAI-AIS-AMF-B.02.01, saAmfComponentNameGet(), saAmfComponentRegister().
    public static func register(
        name: SaName? = nil, places: Places = .fromEnvironment(), timeout: Duration = .seconds(10)
    ) async throws(AisError) -> Component {
        guard let name = name ?? Environment.get("SA_AMF_COMPONENT_NAME").flatMap({ SaName($0) }) else {
            throw .notExist
        }
        let shared = Shared()
        let mailbox = AssignmentMailbox()
        let runtime = try RuntimeThread()
        do throws(AisError) {
            try await AwaitedAnswer.get { answer in
                shared.state.withLock { $0.registration = answer }
                runtime.post { loop in
                    runtime.driver = ComponentDriver(
                        loop: loop, places: places, name: name, timeout: timeout, shared: shared, runtime: runtime,
                        mailbox: mailbox)
                }
            }
        } catch {
            runtime.post { _ in runtime.driver?.close() }
            throw error
        }
        // Whoever stands on the console finds every component there.
        if places == .fromEnvironment() { ExecutionObject.shared.attach() }
        return Component(name: name, runtime: runtime, shared: shared, assignments: Assignments(mailbox: mailbox))
    }

    /// The HA state this component has for a CSI.
    ///
    /// - Throws: `.notExist` it is not assigned.
    /// - Source: saAmfHAStateGet().
    public func haState(of csi: SaName) throws(AisError) -> HAState {
        guard let state = shared.state.withLock({ $0.haStates[csi] }) else { throw .notExist }
        return state
    }

    /// The HA states this component has, by CSI.
    public var haStates: [SaName: HAState] { shared.state.withLock { $0.haStates } }

    /// The work of a CSI that was set to quiescing (nil: of all) is wound up.
    ///
    /// - Source: saAmfCSIQuiescingComplete().
    public func quiescingComplete(_ csi: SaName? = nil) {
        runtime.post { [runtime] _ in runtime.driver?.quiescingComplete(csi) }
    }

    /// Tells amfd that this component has failed.
    ///
    /// - Parameter recovery: what to do; by default as configured.
    /// - Throws: `.tryAgain`, `.timeout` amfd is not there; what it answers.
    /// - Source: saAmfComponentErrorReport().
    public func reportError(recovery: RecommendedRecovery = .noRecommendation) async throws(AisError) {
        try await ask(.errorReport(component: name, recovery: recovery))
    }

    /// Takes an earlier error report back.
    ///
    /// - Source: saAmfComponentErrorClear().
    public func clearError() async throws(AisError) { try await ask(.errorClear(component: name)) }

    /// Starts the health check that is configured under `key`. A check that says false, or does not answer in time,
    /// is a failure of the component.
    ///
    /// - Parameters:
    ///   - recovery: of such a failure.
    ///   - isHealthy: asked on the default executor; its time counts.
    /// - Throws: `.notExist` no such key; `.exist` started already; `.tryAgain`, `.timeout`.
    /// - Source: saAmfHealthcheckStart().
    public func onHealthcheck(
        key: String, invoked: HealthcheckInvocation = .byAmf, recovery: RecommendedRecovery = .noRecommendation,
        _ isHealthy: @escaping @Sendable () async -> Bool
    ) async throws(AisError) {
        try await answer { driver, then in driver.startHealthcheck(key, invoked, recovery, isHealthy, then: then) }
    }

    /// - Throws: `.notExist` not started.
    /// - Source: saAmfHealthcheckStop().
    public func stopHealthcheck(key: String) async throws(AisError) {
        try await answer { driver, then in driver.stopHealthcheck(key, then: then) }
    }

    /// Hangs up; amfd then waits for this component to come back, or to end.
    public func close() { runtime.post { [runtime] _ in runtime.driver?.close() } }

    private func ask(_ request: AmfRequest) async throws(AisError) {
        try await answer { driver, then in driver.ask(request, then: then) }
    }

    /// What the driver answers, or `.interrupt` when the task is cancelled: it is asked in any case.
    private func answer(
        _ begin: @escaping @Sendable (ComponentDriver, @escaping @Sendable (Result<Void, AisError>) -> Void) -> Void
    ) async throws(AisError) {
        try await AwaitedAnswer.get { answer in
            runtime.post { [runtime] _ in
                guard let driver = runtime.driver else { return answer.give(.failure(.badHandle)) }
                begin(driver) { answer.give($0) }
            }
        }
    }
}

/// Runs tasks on the library's thread.
private final class RuntimeExecutor: TaskExecutor {
    private let runtime = ClientRuntime.shared

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        let isTaken = runtime?.loop.post(.high) { job.runSynchronously(on: self.asUnownedTaskExecutor()) }
        // No thread to be had, or 65,536 jobs wait for it: late is better than never.
        if isTaken != true { globalConcurrentExecutor.enqueue(job) }
    }
}

/// The library's thread as a component needs it, and what lives there.
final class RuntimeThread: @unchecked Sendable {
    private let loop: Loop
    /// Touched on the loop only.
    var driver: ComponentDriver?

    init() throws(AisError) {
        guard let runtime = ClientRuntime.shared else { throw .noResources }
        loop = runtime.loop
    }

    func post(_ body: @escaping @Sendable (Loop) -> Void) {
        let loop = self.loop
        // Refused only when 65,536 jobs wait: then the process is lost anyway, and amfd's time limits tell.
        _ = loop.post(.control) { body(loop) }
    }
}

/// A ``Component``'s half on the library's thread.
final class ComponentDriver {
    private let core: ComponentCore
    private let loop: Loop
    private let shared: Component.Shared
    private let runtime: RuntimeThread
    private let mailbox: AssignmentMailbox
    private var checks: [String: @Sendable () async -> Bool] = [:]
    private var confirmTimers: [String: LoopTimer] = [:]
    private var registrationTimer: LoopTimer?
    private var lastRefusal: CallError?

    init(
        loop: Loop, places: Places, name: SaName, timeout: Duration, shared: Component.Shared, runtime: RuntimeThread,
        mailbox: AssignmentMailbox
    ) {
        (self.loop, self.shared, self.runtime, self.mailbox) = (loop, shared, runtime, mailbox)
        // An assignment must not wait for a CPU, least of all on a busy machine.
        OSThread.runFirst()
        core = ComponentCore(loop: loop, places: places, name: name)
        core.onRegistration = { [weak self] error in self?.registered(error) }
        core.onWork = { [weak self] id, actions in self?.deliver(id, actions) }
        core.onHealthcheck = { [weak self] id, key in self?.check(id, key) }
        registrationTimer = loop.schedule(after: timeout) { [weak self] in
            guard let self else { return }
            finishRegistration(.failure(lastRefusal?.code ?? .tryAgain))
        }
    }

    func ask(_ request: AmfRequest, then: @escaping (Result<Void, AisError>) -> Void) {
        core.call(request) { then($0.map { _ in }.mapError(\.code)) }
    }

    func quiescingComplete(_ csi: SaName?) {
        core.quiescingComplete(csi)
        publishStates()
    }

    func startHealthcheck(
        _ key: String, _ invoked: Component.HealthcheckInvocation, _ recovery: RecommendedRecovery,
        _ isHealthy: @escaping @Sendable () async -> Bool, then: @escaping (Result<Void, AisError>) -> Void
    ) {
        guard checks[key] == nil else { return then(.failure(.exist)) }
        checks[key] = isHealthy
        let kind: AmfProtocol.HealthcheckInvocation =
            switch invoked {
            case .byAmf: .amfInvoked
            case .byComponent: .componentInvoked
            }
        core.startHealthcheck(.init(key: key, invocation: kind, recovery: recovery)) { [weak self] result in
            guard let self else { return }
            switch result {
            case .success:
                if case .byComponent(let period) = invoked { startConfirming(key, period) }
                then(.success(()))
            case .failure(let error):
                checks[key] = nil
                then(.failure(error.code))
            }
        }
    }

    func stopHealthcheck(_ key: String, then: @escaping (Result<Void, AisError>) -> Void) {
        checks[key] = nil
        if let timer = confirmTimers.removeValue(forKey: key) { loop.cancel(timer) }
        core.stopHealthcheck(key) { then($0.map { _ in }.mapError(\.code)) }
    }

    func close() {
        core.close()
        mailbox.finish()
        for key in confirmTimers.keys.sorted() { if let timer = confirmTimers[key] { loop.cancel(timer) } }
        confirmTimers = [:]
        runtime.driver = nil
    }

    // MARK: Registration

    private func registered(_ error: CallError?) {
        guard let error else { return finishRegistration(.success(())) }
        lastRefusal = error
        // Not ready yet is worth waiting for; a refusal is not.
        if error.code != .tryAgain && error.code != .timeout { finishRegistration(.failure(error.code)) }
    }

    private func finishRegistration(_ outcome: Result<Void, AisError>) {
        if case .failure(let error) = outcome {
            let words = lastRefusal?.text ?? ""
            Log.warning("\(core.name): amfd did not register it: \(words.isEmpty ? "\(error)" : words)", area: "AMF")
        }
        if let timer = registrationTimer { loop.cancel(timer) }
        registrationTimer = nil
        let waiting = shared.state.withLock { state in
            defer { state.registration = nil }
            return state.registration
        }
        waiting?.give(outcome)
    }

    // MARK: Callbacks

    private func deliver(_ id: InvocationID, _ actions: [Assignment.Action]) {
        for (part, action) in actions.enumerated() {
            let assignment = Assignment(action) { [runtime] error in
                runtime.post { _ in runtime.driver?.answer(id, part, error) }
            }
            mailbox.put(assignment)
        }
    }

    private func answer(_ id: InvocationID, _ part: Int, _ error: AisError?) {
        core.answer(id, part: part, error)
        publishStates()
    }

    private func publishStates() { shared.state.withLock { $0.haStates = core.session.held } }

    private func check(_ id: InvocationID, _ key: String) {
        guard let isHealthy = checks[key] else { return core.answer(id, .failedOperation) }
        let runtime = self.runtime
        Task {
            let error: AisError? = await isHealthy() ? nil : .failedOperation
            runtime.post { _ in runtime.driver?.answer(id, 0, error) }
        }
    }

    private func startConfirming(_ key: String, _ period: Duration) {
        confirmTimers[key] = loop.scheduleRepeating(every: period) { [weak self] in self?.confirm(key) }
        confirm(key)
    }

    private func confirm(_ key: String) {
        guard let isHealthy = checks[key] else { return }
        let runtime = self.runtime
        Task {
            let error: AisError? = await isHealthy() ? nil : .failedOperation
            runtime.post { _ in runtime.driver?.sendConfirm(key, error) }
        }
    }

    private func sendConfirm(_ key: String, _ error: AisError?) {
        core.call(.healthcheckConfirm(component: core.name, key: key, error)) { _ in }  // the next period says it again
    }
}
