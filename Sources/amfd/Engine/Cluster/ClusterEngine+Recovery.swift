import AmfProtocol
import EngineKit
import SAFTypes

// Errors, recovery, escalation. Source: SAI-AIS-AMF-B.02.01 §3.11; saf-ais A5.7.

extension ClusterEngine {
    /// A component failed. `isDead`: its process executes nothing any more, so what it held can be given away at once.
    mutating func fail(
        _ component: Int, _ recommended: RecommendedRecovery, isDead: Bool, _ cause: FailureCause, at now: Instant
    ) {
        let run = components[component].run
        guard run.presence == .instantiated else {
            // Being recovered or terminated already: only a death is news, and a start that came to nothing.
            if run.order == .instantiate { tryAgain(component, cause) } else if isDead { died(component) }
            return
        }
        note(cause.text, of: component)
        tellError(component, cause.text)
        let recovery = permitted(recommended, component)
        switch recovery {
        case .noRecommendation, .componentRestart:
            escalate(component, isDead: isDead, at: now)
        case .componentFailover: failOver(component, isDead: isDead, at: now)
        case .nodeSwitchover: failOverNode(component, isDead: isDead, isAbrupt: false)
        case .nodeFailover, .nodeFailfast, .clusterReset, .applicationRestart, .containerRestart:
            failOverNode(component, isDead: isDead, isAbrupt: true)
        }
    }

    /// Why the component failed last, and when.
    mutating func note(_ error: String, of component: Int) {
        components[component].run.lastError = error
        components[component].run.lastErrorAt = present.nanoseconds
    }

    /// A process found by a new amfd never registered: start from the beginning.
    private mutating func tryAgain(_ component: Int, _ cause: FailureCause) {
        note(cause.text, of: component)
        if components[component].run.presence == .instantiating { components[component].run.presence = .terminating }
        give(.cleanup, to: component)
    }

    private mutating func died(_ component: Int) {
        let run = components[component].run
        switch run.presence {
        case .terminating, .terminationFailed:
            components[component].run.isDead = true
            dropAssignments(of: component)
        case .restarting:
            guard run.order == .cleanup || run.order == .terminate else { return }
            components[component].run.isDead = true
            clearAssignments(of: component)
        case .uninstantiated, .instantiating, .instantiated, .instantiationFailed: break
        }
    }

    /// What will be done for a recommendation: never less, sometimes more.
    private func permitted(_ recommended: RecommendedRecovery, _ component: Int) -> RecommendedRecovery {
        let named = recommended == .noRecommendation ? components[component].model.recoveryOnError : recommended
        guard named == .componentRestart || named == .noRecommendation else { return named }
        // A unit that is to give its assignments up is not restarted with them.
        let isLeaving = readiness(ofUnit: components[component].unit) != .inService
        return components[component].model.disableRestart || isLeaving ? .componentFailover : .componentRestart
    }

    /// Component restart, then restart of the unit, then fail-over.
    private mutating func escalate(_ component: Int, isDead: Bool, at now: Instant) {
        let unit = components[component].unit
        let group = groups[units[unit].group].model
        if !units[unit].run.restarts.isRunning(group.suRestartProbation, at: now),
            units[unit].run.componentRestarts.allows(
                max: group.componentRestartMax, within: group.componentRestartProbation, at: now)
        {
            restart(component, isDead: isDead)
            return
        }
        units[unit].run.componentRestarts = Counter()
        let isRestartable = units[unit].components.allSatisfy { !components[$0].model.disableRestart }
        if isRestartable,
            units[unit].run.restarts.allows(max: group.suRestartMax, within: group.suRestartProbation, at: now)
        {
            restartUnit(unit, failed: component, isDead: isDead)
            return
        }
        units[unit].run.restarts = Counter()
        failOver(component, isDead: isDead, at: now, wholeUnit: true)
    }

    mutating func restart(_ component: Int, isDead: Bool, isGraceful: Bool = false) {
        components[component].run.presence = .restarting
        withdrawPending(of: component)
        give(isGraceful ? .terminate : .cleanup, to: component)
        if isDead { died(component) }
    }

    mutating func restartUnit(_ unit: Int, failed: Int?, isDead: Bool, isGraceful: Bool = false) {
        units[unit].run.phase = .restarting
        for component in units[unit].components {
            switch components[component].run.presence {
            case .instantiated:
                restart(component, isDead: component == failed && isDead, isGraceful: isGraceful && component != failed)
            case .instantiating:
                components[component].run.presence = .restarting
                give(.cleanup, to: component)
            case .restarting where components[component].run.order == .instantiate: give(.cleanup, to: component)
            case .restarting, .uninstantiated, .terminating, .instantiationFailed, .terminationFailed: break
            }
        }
    }

    private mutating func failOver(_ component: Int, isDead: Bool, at now: Instant, wholeUnit: Bool = false) {
        let unit = components[component].unit
        let node = units[unit].node
        guard units[unit].model.failover || wholeUnit else {
            components[component].run.isDisabled = true
            units[unit].run.phase = .evacuating
            abandon(component, isDead: isDead, isRestarted: true)
            return
        }
        let model = nodes[node].model
        let (limit, probation) = (model.suFailoverMax, model.suFailoverProbation)
        let isWithinUnit = units[unit].run.failovers.allows(max: limit, within: probation, at: now)
        let isWithinNode = nodes[node].run.suFailovers.allows(max: limit, within: probation, at: now)
        if !isWithinNode, canMoveElsewhere(node) {
            tellEscalation(
                component,
                "fail-over \(UInt64(limit) + 1) of a service unit on node \(model.name) within \(probation) "
                    + "(suFailoverMax \(limit)): the applications of the node fail over")
            return failOverNode(component, isDead: isDead, isAbrupt: true)
        }
        if !isWithinUnit { giveUp(unit, component, limit, probation) }
        failOverUnit(unit, dead: isDead ? component : nil)
        components[component].run.isDisabled = true
    }

    /// Another member could take over something that the node hosts, so that failing the node over would help somebody.
    private func canMoveElsewhere(_ node: Int) -> Bool {
        nodes[node].units.contains { unit in
            !units[unit].isMiddleware
                && groups[units[unit].group].units.contains { other in
                    guard units[other].node != node, canTakeAssignments(other) else { return false }
                    return groups[units[other].group].model.redundancyModel == .twoN || !hasAssignments(other)
                }
        }
    }

    /// A unit that fails over again and again, with no other node to go to, disturbs nobody but itself.
    private mutating func giveUp(_ unit: Int, _ component: Int, _ limit: UInt32, _ probation: Duration) {
        units[unit].run.isGivenUp = true
        let cause = components[component].run.lastError
        let text =
            "fail-over \(UInt64(limit) + 1) of \(units[unit].model.name) within \(probation) (suFailoverMax \(limit)): "
            + "taken out of service until it is repaired (saf admin repaired); the last time, \(cause)"
        note(text, of: component)
        tellEscalation(component, text)
    }

    /// Every process of the unit is cleaned up; what they held moves as soon as each is known dead.
    mutating func failOverUnit(_ unit: Int, dead: Int? = nil) {
        units[unit].run.isDisabled = true
        units[unit].run.phase = .failingOver
        for component in units[unit].components { abandon(component, isDead: component == dead, isRestarted: false) }
    }

    /// Clean the component up; its assignments are lost with its process.
    private mutating func abandon(_ component: Int, isDead: Bool, isRestarted: Bool) {
        switch components[component].run.presence {
        case .instantiated, .instantiating, .restarting:
            components[component].run.presence = .terminating
            withdrawPending(of: component)
            give(.cleanup, to: component)
            if isDead { died(component) }
        case .terminating where components[component].run.order == .terminate: give(.cleanup, to: component)
        case .uninstantiated, .terminating, .instantiationFailed, .terminationFailed: break
        }
    }

    /// All assignments of the node's applications move: at once with the death of its processes, or quiesced first.
    private mutating func failOverNode(_ component: Int, isDead: Bool, isAbrupt: Bool) {
        let node = components[component].node
        nodes[node].run.isDisabled = true
        failOverUnit(components[component].unit, dead: isDead ? component : nil)
        components[component].run.isDisabled = true
        guard isAbrupt else { return }
        let failed = components[component].unit
        for unit in nodes[node].units where unit != failed && !units[unit].isMiddleware { failOverUnit(unit) }
    }

    mutating func instantiationFailed(_ component: Int, _ reason: String) {
        let run = components[component].run
        guard run.order == .instantiate else { return }
        components[component].run.order = nil
        dropAssignments(of: component)
        components[component].run.presence = .instantiationFailed
        components[component].run.isDisabled = true
        note(reason, of: component)
        tellError(component, reason)
        failOverUnit(components[component].unit)
    }

    mutating func terminationFailed(_ component: Int, _ reason: String) {
        guard components[component].run.order != nil else { return }
        components[component].run.order = nil
        components[component].run.presence = .terminationFailed
        components[component].run.isDisabled = true
        note(reason, of: component)
        tellError(component, reason)
        failOverUnit(components[component].unit)
    }
}

extension FailureCause {
    /// For people.
    var text: String {
        switch self {
        case .died: "the process died"
        case .errorReport: "an error was reported"
        case .registerTimeout: "it did not register in time"
        case .csiSetTimeout: "it did not answer a CSISet in time"
        case .csiSetRefused: "it answered a CSISet with an error"
        case .csiRemoveTimeout: "it did not answer a CSIRemove in time"
        case .csiRemoveRefused: "it answered a CSIRemove with an error"
        case .quiescingTimeout: "it did not complete quiescing in time"
        case .quiescingRefused: "it completed quiescing with an error"
        case .healthcheckTimeout: "it did not answer a health check in time"
        case .healthcheckRefused: "a health check failed"
        case .healthcheckMissed: "it did not confirm its health in time"
        case .unregistered: "it unregistered by itself"
        case .adoptionTimeout: "it did not register again after amfd's restart"
        case .connectionLost: "it lost its connection to amfd and did not come back in time"
        case .spawnFailed: "it could not be started"
        case .exited: "the process ended"
        }
    }
}
