import AmfProtocol
import EngineKit
import SAFTypes

// CSISet, CSIRemove, quiescing, terminate: callbacks and their answers. One CSI callback is outstanding at a time.

extension NodeEngine {
    mutating func invoke(
        _ position: Int, _ instance: InstanceNumber, _ order: PendingInvocation, _ effects: inout [NodeEffect]
    ) {
        let component = components[position]
        guard component.isRunning, component.processInstance == instance else { return }
        if component.lastAnswered == order.invocation {
            effects.append(.report(.answered(component.name, instance, order.invocation)))
            return
        }
        let isRepeated = component.pending?.invocation == order.invocation
        components[position].pending = order
        if case .set(let set) = order, set.haState != .quiescing { endQuiescing(position, &effects) }
        if case .remove = order { endQuiescing(position, &effects) }
        if let index = component.earlyAnswers.firstIndex(where: { $0.invocation == order.invocation }) {
            let answer = components[position].earlyAnswers.remove(at: index)
            take(position, answer, &effects)
            return
        }
        effects.append(.push(order.push))
        guard !isRepeated else { return }
        switch order {
        case .set: startTimer(position, .invocation, after: component.model.timeouts.csiSet, &effects)
        case .remove: startTimer(position, .invocation, after: component.model.timeouts.csiRemove, &effects)
        }
    }

    private mutating func endQuiescing(_ position: Int, _ effects: inout [NodeEffect]) {
        guard components[position].quiescing != nil else { return }
        components[position].quiescing = nil
        cancelTimer(position, .quiescing, &effects)
    }

    /// An answer that belongs to something outstanding. False: nobody waits for it.
    @discardableResult
    mutating func take(_ position: Int, _ answer: InvocationAnswer, _ effects: inout [NodeEffect]) -> Bool {
        let component = components[position]
        if let pending = component.pending, pending.invocation == answer.invocation {
            settle(position, pending, answer, &effects)
            return true
        }
        return takeHealthcheck(position, answer, &effects)
    }

    private mutating func settle(
        _ position: Int, _ pending: PendingInvocation, _ answer: InvocationAnswer, _ effects: inout [NodeEffect]
    ) {
        let component = components[position]
        components[position].pending = nil
        guard answer.error == nil else {
            cancelTimer(position, .invocation, &effects)
            switch pending {
            case .set: fail(position, .csiSetRefused, .noRecommendation, &effects)
            case .remove: fail(position, .csiRemoveRefused, .noRecommendation, &effects)
            }
            return
        }
        components[position].lastAnswered = answer.invocation
        // Before the timers: somebody waits for the report.
        effects.append(.report(.answered(component.name, component.processInstance, answer.invocation)))
        cancelTimer(position, .invocation, &effects)
        switch pending {
        case .set(let order):
            components[position].take(order)
            if order.haState == .quiescing {
                components[position].quiescing = order.invocation
                startTimer(position, .quiescing, after: component.model.timeouts.quiescingComplete, &effects)
            }
        case .remove(let order): components[position].release(order.csi)
        }
    }

    mutating func quiescingCompleted(
        _ answer: InvocationAnswer, pid: Int32, _ effects: inout [NodeEffect]
    ) -> NodeReply {
        let match = components.indices.first { position in
            let component = components[position]
            guard component.isRunning, component.pid == pid else { return false }
            return component.quiescing == answer.invocation
                || (component.quiescing == nil && component.held.contains { $0.haState == .quiescing })
        }
        guard let position = match else {
            return .failed(.invalidParam, "invocation \(answer.invocation) is not that of a quiescing assignment")
        }
        endQuiescing(position, &effects)
        guard answer.error == nil else {
            fail(position, .quiescingRefused, .noRecommendation, &effects)
            return .done
        }
        effects.append(
            .report(.quiescingComplete(components[position].name, components[position].processInstance)))
        return .done
    }

    mutating func expire(_ timer: NodeTimer, at now: Instant, _ effects: inout [NodeEffect]) {
        guard let position = positions[timer.component], components[position].timers.expire(timer) else { return }
        switch timer.kind {
        case .life: step(position, .timedOut, at: now, &effects)
        case .invocation:
            guard let pending = components[position].pending else { return }
            components[position].pending = nil
            switch pending {
            case .set: fail(position, .csiSetTimeout, .noRecommendation, &effects)
            case .remove: fail(position, .csiRemoveTimeout, .noRecommendation, &effects)
            }
        case .quiescing:
            components[position].quiescing = nil
            fail(position, .quiescingTimeout, .noRecommendation, &effects)
        case .healthcheckPeriod(let key): healthcheckIsDue(position, key, at: now, &effects)
        case .healthcheckAnswer(let key): healthcheckIsLate(position, key, &effects)
        }
    }
}
