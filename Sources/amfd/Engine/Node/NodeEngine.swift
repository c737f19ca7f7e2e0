import AmfProtocol
import EngineKit
import SAFTypes

/// Decides the life cycle of every component on one node; performs nothing.
///
/// Processes and callbacks are its matter; which component should run and with what assignment is ``ClusterEngine``'s.
/// The life cycle is ``LifeTable``. Source: SAI-AIS-AMF-B.02.01 §4, §6, §7.
public struct NodeEngine: Engine, Sendable {
    public typealias Event = NodeEvent
    public typealias Effect = NodeEffect

    public let node: NodeID
    var components: [LocalComponent] = []
    /// Position in ``components``; never iterated.
    var positions: [SaName: Int] = [:]
    var nextInvocation: UInt64

    /// - Parameter incarnation: differs in every life of amfd on this node; keeps invocation ids of its lives apart.
    public init(node: NodeID, incarnation: UInt64) {
        self.node = node
        nextInvocation = (1 << 63) | ((incarnation & 0x7FFF_FFFF) << 32) | 1
    }

    public mutating func handle(_ event: NodeEvent, at now: Instant) -> [NodeEffect] {
        var effects: [NodeEffect] = []
        switch event {
        case .model(let model): configure(model)
        case .order(let order): obey(order, at: now, &effects)
        case .ended(let name, let instance):
            if let position = positions[name], components[position].state == .absent {
                components[position].instance = instance
                components[position].processInstance = instance
                components[position].state = .dead
            }
        case .adopt(let living): for process in living { adopt(process, at: now, &effects) }
        case .spawned(let name, let instance, let pid, let startedAt):
            if let position = process(name, instance) {
                components[position].pid = pid
                components[position].startedAt = startedAt
                let isReady = components[position].model.category == .nonSaAware
                step(position, isReady ? .spawnedReady : .spawned, at: now, &effects)
            }
        case .spawnFailed(let name, let instance, let reason):
            if let position = process(name, instance) {
                components[position].reason = reason
                effects.append(.note(.spawnFailed(name, reason: reason)))
                step(position, .spawnFailed, at: now, &effects)
            }
        case .lifeLockReleased(let name, let instance):
            if let position = process(name, instance) { step(position, .lockReleased, at: now, &effects) }
        case .exited(let name, let instance, let reason):
            if let position = process(name, instance) {
                if components[position].state == .registering {
                    components[position].reason = "the process ended before it registered: \(reason)"
                    effects.append(.note(.exitedEarly(name, reason: reason)))
                }
                let died = components[position].diedAfter
                if let died { report(position, exit: reason, after: died, &effects) }
                step(position, .exited, at: now, &effects)
                // A death that only its exit tells: first that it died, then how.
                if died == nil, let died = components[position].diedAfter {
                    report(position, exit: reason, after: died, &effects)
                }
            }
        case .connectionLost(let name, let instance):
            if let position = process(name, instance) { step(position, .connectionLost, at: now, &effects) }
        case .cleanedUp(let name, let instance, let succeeded, let reason):
            if let position = process(name, instance) {
                if !succeeded { components[position].reason = "clean-up failed: \(reason)" }
                step(position, succeeded ? .cleaned(retry(position)) : .cleanFailed, at: now, &effects)
            }
        case .request(let request, let ticket, let pid): answer(request, ticket, pid, at: now, &effects)
        case .timer(let timer): expire(timer, at: now, &effects)
        }
        checkInvariants()
        return effects
    }

    /// The life state of a component of this node, for status and tests.
    public func lifeState(of component: SaName) -> LifeState? {
        positions[component].map { components[$0].state }
    }

    /// The components that have, or had, a process, as they are now, for ``ClusterEvent/nodeJoined``.
    public var living: [LivingComponent] {
        components.filter { $0.instance > 0 }.map {
            LivingComponent(
                component: $0.name, instance: $0.processInstance, pid: $0.hasProcess ? $0.pid : 0,
                startedAt: $0.hasProcess ? $0.startedAt : 0, lastInstance: $0.instance)
        }
    }

    /// The applications' processes that could be working for an instance. The middleware's are left out: each serves
    /// its node, and knows by itself when it may not.
    public var mayBeActive: [ActiveProcess] { components.filter(\.mayBeActive).compactMap(Self.activeProcess) }

    /// Nil: no process of the component could be.
    public func mayBeActive(_ component: SaName) -> ActiveProcess? {
        guard let position = positions[component], components[position].mayBeActive else { return nil }
        return Self.activeProcess(components[position])
    }

    /// What the living process of an application's component works for, or could; empty when it has let go of
    /// everything. Nil: there is no process, or it is the middleware's.
    ///
    /// - Parameter foretold: as if this had been ordered.
    public func activities(
        of component: SaName, foretold: CSISetOrder? = nil
    ) -> (instance: InstanceNumber, activities: [Activity])? {
        guard let position = positions[component], components[position].hasProcess,
            !components[position].isMiddleware
        else { return nil }
        var known = components[position]
        if let foretold { known.pending = .set(foretold) }
        return (known.processInstance, known.activities)
    }

    private static func activeProcess(_ component: LocalComponent) -> ActiveProcess? {
        guard !component.isMiddleware else { return nil }
        return ActiveProcess(component: component.name, instance: component.processInstance)
    }

    private mutating func configure(_ model: AmfModel) {
        for (name, component) in model.components(on: node) where positions[name] == nil {
            positions[name] = components.count
            components.append(LocalComponent(name: name, model: component))
        }
    }

    /// Events about another process life of the component are about the past.
    private func process(_ name: SaName, _ instance: InstanceNumber) -> Int? {
        guard let position = positions[name], components[position].processInstance == instance else { return nil }
        return position
    }

    private func checkInvariants() {
        for component in components {
            invariant(
                component.pending == nil || component.isRunning,
                "\(component.name): a CSI callback is outstanding in \(component.state)")
            invariant(
                component.processInstance <= component.instance,
                "\(component.name): instance \(component.processInstance) runs, \(component.instance) is wanted")
        }
    }
}

// MARK: - Orders

extension NodeEngine {
    private mutating func obey(_ order: NodeOrder, at now: Instant, _ effects: inout [NodeEffect]) {
        guard let position = positions[order.component] else { return }
        switch order {
        case .instantiate(_, let instance, let environment):
            instantiate(position, instance, environment, at: now, &effects)
        case .terminate(_, let instance):
            guard instance >= components[position].instance else { return }
            components[position].instance = instance
            step(position, .terminate, at: now, &effects)
        case .cleanup(_, let instance):
            guard instance >= components[position].instance else { return }
            components[position].instance = instance
            step(position, .cleanup, at: now, &effects)
        case .confirm(_, let instance): confirm(position, instance, &effects)
        case .csiSet(let order): invoke(position, order.instance, .set(order), &effects)
        case .csiRemove(let order): invoke(position, order.instance, .remove(order), &effects)
        }
    }

    private mutating func instantiate(
        _ position: Int, _ instance: InstanceNumber, _ environment: [EnvironmentVariable], at now: Instant,
        _ effects: inout [NodeEffect]
    ) {
        let component = components[position]
        if instance > component.instance {
            components[position].instance = instance
            components[position].environment = environment
            components[position].attempts = 0
            components[position].hasReportedDelay = false
            let isSlowedDown = component.quickDeaths >= NodeLimits.quickDeathsMax
            step(position, isSlowedDown ? .instantiateLater : .instantiate, at: now, &effects)
            return
        }
        guard instance == component.instance else { return }
        // Asked again: say how it stands; what is under way reports by itself.
        switch component.state {
        case .ready where component.processInstance == instance: report(position, .reportInstantiated, &effects)
        case .absent: report(position, .reportAbsent, &effects)
        case .instantiationFailed: report(position, .reportInstantiationFailed, &effects)
        case .terminationFailed: report(position, .reportTerminationFailed, &effects)
        case .unconnected where component.processInstance == instance && component.model.category == .nonSaAware:
            report(position, .reportInstantiated, &effects)
        case .dead:
            // It ended with the amfd that had started it, which was all that would have tried again.
            components[position].environment = environment
            step(position, .instantiate, at: now, &effects)
        case .ready, .spawning, .registering, .unconnected, .terminating, .dying, .killing, .cleaning, .delaying: break
        }
    }

    /// The cluster engine believes that this instance lives.
    private mutating func confirm(_ position: Int, _ instance: InstanceNumber, _ effects: inout [NodeEffect]) {
        let component = components[position]
        guard instance >= component.instance else { return }
        components[position].instance = instance
        if component.processInstance == instance {
            switch component.state {
            case .ready: report(position, .reportAdopted, &effects)
            case .dying, .dead: report(position, .reportDead, &effects)
            case .absent: reportLost(position, &effects)
            // On its way down by an order that the cluster engine does not know of: that was given in a part of the
            // cluster that did not last.
            case .terminating, .killing, .cleaning:
                effects.append(
                    .report(
                        .failed(
                            component.name, instance, recovery: .noRecommendation, isDead: false, cause: .exited)))
            case .unconnected, .spawning, .registering, .delaying, .instantiationFailed, .terminationFailed: break
            }
        } else {
            reportLost(position, &effects)
        }
    }

    private mutating func reportLost(_ position: Int, _ effects: inout [NodeEffect]) {
        let component = components[position]
        effects.append(
            .report(
                .failed(
                    component.name, component.instance, recovery: .noRecommendation, isDead: true, cause: .died)))
        if component.state == .absent { report(position, .reportAbsent, &effects) }
    }

    private mutating func adopt(_ process: LivingComponent, at now: Instant, _ effects: inout [NodeEffect]) {
        guard let position = positions[process.component], components[position].state == .absent else { return }
        components[position].instance = process.instance
        components[position].processInstance = process.instance
        components[position].pid = process.pid
        components[position].startedAt = process.startedAt
        components[position].readySince = now
        if components[position].model.category == .nonSaAware {
            components[position].state = .ready
            effects.append(.note(.adopted(process.component, pid: process.pid)))
            return
        }
        step(position, .adopted, at: now, &effects)
    }
}

// MARK: - The table at work

extension NodeEngine {
    mutating func step(_ position: Int, _ event: LifeEvent, at now: Instant, _ effects: inout [NodeEffect]) {
        let before = components[position].state
        let outcome = LifeTable.next(before, event)
        components[position].state = outcome.state
        if outcome.state != before { entered(position, from: before, at: now, &effects) }
        for action in outcome.actions { perform(action, position, at: now, &effects) }
    }

    /// What a change of state always brings, whatever caused it.
    private mutating func entered(
        _ position: Int, from before: LifeState, at now: Instant, _ effects: inout [NodeEffect]
    ) {
        let wasRunning = before == .ready || before == .unconnected
        if components[position].state == .ready, before != .unconnected {
            components[position].readySince = now
        }
        if wasRunning, components[position].state == .dying || components[position].state == .dead {
            components[position].diedAfter = now - components[position].readySince
        }
        if wasRunning, !components[position].isRunning {
            let livedLong = now - components[position].readySince >= NodeLimits.quickDeath
            if livedLong {
                components[position].quickDeaths = 0
            } else if components[position].state != .terminating {
                components[position].quickDeaths += 1
            }
            components[position].pending = nil
            components[position].quiescing = nil
            components[position].healthchecks = []
            for (kind, generation) in components[position].timers.stopAll() {
                effects.append(
                    .cancelTimer(NodeTimer(component: components[position].name, kind: kind, generation: generation)))
            }
        }
        switch components[position].state {
        case .absent, .spawning, .delaying, .cleaning: components[position].forgetProcess()
        case .registering, .ready, .unconnected, .terminating, .dying, .dead, .killing, .instantiationFailed,
            .terminationFailed:
            break
        }
    }

    private mutating func perform(
        _ action: LifeAction, _ position: Int, at now: Instant, _ effects: inout [NodeEffect]
    ) {
        let component = components[position]
        let name = component.name
        switch action {
        case .spawn:
            components[position].attempts += 1
            components[position].processInstance = component.instance
            effects.append(.spawn(name, component.instance, component.model, environment: component.environment))
        case .kill: effects.append(.kill(name, component.processInstance))
        case .sendTerminate: sendTerminate(position, &effects)
        case .runCleanup:
            if component.model.cleanupCommand.isEmpty {
                step(position, .cleaned(retry(position)), at: now, &effects)
            } else {
                effects.append(.runCleanup(name, component.processInstance, component.model))
            }
        case .timer(let timer): startTimer(position, .life, after: duration(of: timer, component), &effects)
        case .cancelTimer: cancelTimer(position, .life, &effects)
        case .noteAttemptFailed:
            if component.state == .killing(then: .again) {
                components[position].reason =
                    "it did not register within \(component.model.timeouts.instantiate) of its start"
                effects.append(.note(.instantiateTimeout(name, attempt: component.attempts)))
            }
        case .reportInstantiated, .reportAdopted, .reportAbsent, .reportDelayed, .reportInstantiationFailed,
            .reportTerminationFailed, .reportDead, .reportUnconnected:
            report(position, action, &effects)
        }
    }

    private mutating func sendTerminate(_ position: Int, _ effects: inout [NodeEffect]) {
        let component = components[position]
        guard component.model.category == .saAware else {
            effects.append(.signalTerminate(component.name, component.processInstance))
            return
        }
        let invocation = component.terminateInvocation ?? newInvocation()
        components[position].terminateInvocation = invocation
        effects.append(.push(.terminate(invocation, component: component.name)))
    }

    /// What follows when clean-up after a failed attempt is done. Source: SAI-AIS-AMF-B.02.01 §4.7.
    private func retry(_ position: Int) -> Retry {
        let component = components[position]
        let model = component.model
        if component.attempts == 0 || component.attempts < max(model.instantiateWithoutDelayMax, 1) { return .now }
        let (all, overflow) = model.instantiateWithoutDelayMax.addingReportingOverflow(model.instantiateWithDelayMax)
        return overflow || component.attempts < all ? .later : .never
    }

    private func duration(of timer: LifeTimer, _ component: LocalComponent) -> Duration {
        let timeouts = component.model.timeouts
        switch timer {
        case .instantiate, .reconnect: return timeouts.instantiate
        case .terminate: return timeouts.terminate
        case .exitGrace: return min(timeouts.terminate, NodeLimits.exitGrace)
        case .cleanup: return timeouts.cleanup
        case .retryDelay:
            guard component.attempts == 0 else { return component.model.instantiateDelay }
            let doublings = min(component.quickDeaths, NodeLimits.quickDeathsMax + 7) - NodeLimits.quickDeathsMax
            return min(NodeLimits.firstBackOff * Int(1 << doublings), NodeLimits.backOffMax)
        }
    }

    mutating func report(_ position: Int, _ action: LifeAction, _ effects: inout [NodeEffect]) {
        let component = components[position]
        let (name, instance) = (component.name, component.instance)
        switch action {
        case .reportInstantiated:
            effects.append(
                .report(.instantiated(name, instance, pid: component.pid, startedAt: component.startedAt)))
        case .reportAdopted:
            effects.append(
                .report(
                    .adopted(
                        name, component.processInstance, pid: component.pid, startedAt: component.startedAt,
                        held: component.held)))
            effects.append(.note(.adopted(name, pid: component.pid)))
        case .reportAbsent: effects.append(.report(.uninstantiated(name, instance)))
        case .reportDelayed:
            if !component.hasReportedDelay {
                components[position].hasReportedDelay = true
                effects.append(.report(.instantiationDelayed(name, instance, reason: component.reason)))
            }
        case .reportInstantiationFailed:
            effects.append(.report(.instantiationFailed(name, instance, reason: component.reason)))
            effects.append(.note(.instantiationFailed(name, reason: component.reason)))
        case .reportTerminationFailed:
            let reason = component.reason.isEmpty ? "it is not gone after SIGKILL" : component.reason
            effects.append(.report(.terminationFailed(name, instance, reason: reason)))
            effects.append(.note(.terminationFailed(name, reason: reason)))
        case .reportDead:
            effects.append(
                .report(
                    .failed(
                        name, component.processInstance, recovery: .noRecommendation, isDead: true, cause: .died)))
            effects.append(.note(.failed(name, .died, recovery: component.model.recoveryOnError)))
        case .reportUnconnected: fail(position, .connectionLost, .noRecommendation, &effects)
        case .spawn, .kill, .sendTerminate, .runCleanup, .timer, .cancelTimer, .noteAttemptFailed: break
        }
    }

    private mutating func report(
        _ position: Int, exit reason: String, after lived: Duration, _ effects: inout [NodeEffect]
    ) {
        let component = components[position]
        let text = "\(reason) after \(lived.components.seconds) s"
        components[position].diedAfter = nil
        effects.append(.report(.exited(component.name, component.processInstance, reason: text)))
        effects.append(.note(.ended(component.name, pid: component.pid, reason: text)))
    }

    /// A living component misbehaves: the cluster engine decides what to do.
    mutating func fail(
        _ position: Int, _ cause: FailureCause, _ recovery: RecommendedRecovery, _ effects: inout [NodeEffect]
    ) {
        let component = components[position]
        let named = recovery == .noRecommendation ? component.model.recoveryOnError : recovery
        effects.append(
            .report(
                .failed(
                    component.name, component.processInstance, recovery: recovery, isDead: false, cause: cause)))
        effects.append(.note(.failed(component.name, cause, recovery: named)))
    }

    mutating func newInvocation() -> InvocationID {
        defer { nextInvocation += 1 }
        return InvocationID(nextInvocation)
    }

    mutating func startTimer(
        _ position: Int, _ kind: NodeTimer.Kind, after duration: Duration, _ effects: inout [NodeEffect]
    ) {
        let generation = components[position].timers.start(kind)
        let timer = NodeTimer(component: components[position].name, kind: kind, generation: generation)
        effects.append(.startTimer(timer, after: duration))
    }

    mutating func cancelTimer(_ position: Int, _ kind: NodeTimer.Kind, _ effects: inout [NodeEffect]) {
        guard let generation = components[position].timers.stop(kind) else { return }
        let timer = NodeTimer(component: components[position].name, kind: kind, generation: generation)
        effects.append(.cancelTimer(timer))
    }
}

/// Bounds of the node engine's own, which no configuration sets.
enum NodeLimits {
    /// A process that answered terminate has this long to end before it is killed.
    static let exitGrace: Duration = .seconds(2)
    /// A component that dies, or has to be killed, sooner than this after it was ready died quickly…
    static let quickDeath: Duration = .seconds(1)
    /// …and after so many in a row its next start waits, twice as long each time.
    static let quickDeathsMax: UInt32 = 3
    static let firstBackOff: Duration = .milliseconds(20)
    static let backOffMax: Duration = .seconds(1)
    /// Answers kept for orders that have not come again yet.
    static let earlyAnswersMax = 16
}
