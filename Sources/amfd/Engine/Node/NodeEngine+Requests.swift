import AmfProtocol
import EngineKit
import SAFTypes

// Requests of processes. Error codes: saf-ais A5.10.

extension NodeEngine {
    mutating func answer(
        _ request: AmfRequest, _ ticket: UInt64, _ pid: Int32, at now: Instant, _ effects: inout [NodeEffect]
    ) {
        // The answer goes first: the process waits for it.
        var consequences: [NodeEffect] = []
        let reply = decide(request, pid, at: now, &consequences)
        effects.append(.reply(ticket, reply))
        effects.append(contentsOf: consequences)
    }

    private mutating func decide(
        _ request: AmfRequest, _ pid: Int32, at now: Instant, _ effects: inout [NodeEffect]
    ) -> NodeReply {
        switch request {
        case .register(let registration): return register(registration, pid, at: now, &effects)
        case .response(let answer): return respond(answer, pid, at: now, &effects)
        case .quiescingComplete(let answer): return quiescingCompleted(answer, pid: pid, &effects)
        case .healthcheckStart(let name, let key, let invocation, let recovery):
            guard let position = positions[name] else { return unknown(name) }
            return refusal(of: recovery) ?? startHealthcheck(position, key, invocation, recovery, at: now, &effects)
        case .healthcheckConfirm(let name, let key, let error):
            guard let position = positions[name] else { return unknown(name) }
            return confirmHealthcheck(position, key, error, &effects)
        case .healthcheckStop(let name, let key):
            guard let position = positions[name] else { return unknown(name) }
            return stopHealthcheck(position, key, &effects)
        case .errorReport(let name, let recovery):
            guard let position = positions[name] else { return unknown(name) }
            return refusal(of: recovery) ?? reportError(position, .errorReport, recovery, &effects)
        case .errorClear(let name):
            guard positions[name] != nil else { return unknown(name) }
            effects.append(.report(.errorCleared(name)))
            return .done
        case .haStateGet(let name, let csi):
            guard let position = positions[name] else { return unknown(name) }
            let held = components[position].held.first { $0.csi == csi }
            return held.map { .haState($0.haState) } ?? .failed(.notExist, "\(csi) is not assigned to \(name)")
        case .unregister(let name):
            guard let position = positions[name] else { return unknown(name) }
            guard components[position].pid == pid else {
                return .failed(.badHandle, "\(name) is not registered by process \(pid)")
            }
            return reportError(position, .unregistered, .noRecommendation, &effects)
        case .admin, .status, .loadModel, .stopNode: return .forward
        }
    }

    private func unknown(_ name: SaName) -> NodeReply {
        .failed(.notExist, "\(name) is no component of this node's model")
    }

    private mutating func reportError(
        _ position: Int, _ cause: FailureCause, _ recovery: RecommendedRecovery, _ effects: inout [NodeEffect]
    ) -> NodeReply {
        guard components[position].isRunning else {
            return .failed(.invalidParam, "\(components[position].name) is not instantiated")
        }
        fail(position, cause, recovery, &effects)
        return .done
    }

    private func refusal(of recovery: RecommendedRecovery) -> NodeReply? {
        switch recovery {
        case .noRecommendation, .componentRestart, .componentFailover, .nodeSwitchover, .nodeFailover, .nodeFailfast:
            return nil
        case .clusterReset, .applicationRestart, .containerRestart:
            return .failed(.notSupported, "recovery \(recovery.word) is not supported; recommend a smaller one")
        }
    }

    private mutating func register(
        _ registration: Registration, _ pid: Int32, at now: Instant, _ effects: inout [NodeEffect]
    ) -> NodeReply {
        let name = registration.component
        guard let position = positions[name] else {
            return refuse(name, pid, .invalidParam, "it is no component of this node's model", &effects)
        }
        let component = components[position]
        guard component.model.category == .saAware else {
            return refuse(name, pid, .invalidParam, "it is configured as non-SA-aware", &effects)
        }
        switch component.state {
        case .registering, .unconnected, .ready, .terminating: break
        case .absent, .spawning, .dying, .dead, .killing, .cleaning, .delaying, .instantiationFailed,
            .terminationFailed:
            return refuse(
                name, pid, .badOperation, "amfd has not started it; use saf admin to start it", &effects)
        }
        guard component.pid == pid else {
            return refuse(name, pid, .exist, "process \(component.pid) is this component", &effects)
        }
        if component.state != .registering, component.state != .terminating { reconcile(position, registration) }
        step(position, .registered, at: now, &effects)
        guard components[position].isRunning else { return .registered(name, component.processInstance) }
        for answer in registration.answers where !take(position, answer, &effects) {
            if components[position].earlyAnswers.count < NodeLimits.earlyAnswersMax {
                components[position].earlyAnswers.append(answer)
            }
        }
        // Pushed again: on a lost connection nobody knows what arrived; the id makes it harmless.
        if let pending = components[position].pending { effects.append(.push(pending.push)) }
        askHealthAgain(position, &effects)
        return .registered(name, component.processInstance)
    }

    /// What the component says it holds is the truth: it decides what it does.
    private mutating func reconcile(_ position: Int, _ registration: Registration) {
        components[position].held = registration.held
    }

    private mutating func refuse(
        _ name: SaName, _ pid: Int32, _ error: AisError, _ reason: String, _ effects: inout [NodeEffect]
    ) -> NodeReply {
        effects.append(.note(.refusedRegistration(name, pid: pid, reason: reason)))
        return .failed(error, "process \(pid) cannot register as \(name): \(reason)")
    }

    private mutating func respond(
        _ answer: InvocationAnswer, _ pid: Int32, at now: Instant, _ effects: inout [NodeEffect]
    ) -> NodeReply {
        for position in components.indices where components[position].pid == pid {
            let component = components[position]
            if component.terminateInvocation == answer.invocation {
                step(position, answer.error == nil ? .terminateAnswered : .terminateRefused, at: now, &effects)
                return .done
            }
            if take(position, answer, &effects) { return .done }
            // Answered twice, as the rules of re-registration ask for.
            if component.lastAnswered == answer.invocation { return .done }
            // After amfd's death the answer may come before the order is given again.
            if component.isRunning, component.earlyAnswers.count < NodeLimits.earlyAnswersMax,
                component.pending == nil, answer.invocation.rawValue >> 63 == 0
            {
                components[position].earlyAnswers.append(answer)
                return .done
            }
            effects.append(.note(.lateAnswer(component.name, answer.invocation)))
        }
        return .failed(.notExist, "nobody waits for an answer to invocation \(answer.invocation)")
    }
}
