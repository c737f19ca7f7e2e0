import AmfProtocol
import EngineKit
import SAFTypes

// Health checks. Source: SAI-AIS-AMF-B.02.01 §7.1.2; saf-ais A5.9.

extension NodeEngine {
    mutating func startHealthcheck(
        _ position: Int, _ key: String, _ invocation: HealthcheckInvocation, _ recovery: RecommendedRecovery,
        at now: Instant, _ effects: inout [NodeEffect]
    ) -> NodeReply {
        let component = components[position]
        guard let model = component.model.healthchecks.first(where: { $0.key == key }) else {
            return .failed(
                .notExist, "\(component.name) has no health check with key \(key); configure it in the model")
        }
        guard component.isRunning || component.state == .registering else {
            return .failed(.tryAgain, "\(component.name) is not instantiated")
        }
        guard !component.healthchecks.contains(where: { $0.model.key == key }) else {
            return .failed(.exist, "health check \(key) of \(component.name) is started already")
        }
        components[position].healthchecks.append(
            RunningHealthcheck(model: model, invocation: invocation, recovery: recovery))
        let delay = invocation == .amfInvoked ? Self.sharedDelay(model.period, at: now) : model.period
        startTimer(position, .healthcheckPeriod(key), after: delay, &effects)
        return .done
    }

    /// A period, shortened so that it ends at a multiple of its eighth: the checks of many components fall together and
    /// wake this node once.
    private static func sharedDelay(_ period: Duration, at now: Instant) -> Duration {
        let due = now + period
        let step = UInt64(max(1, period.nanoseconds / 8))
        return Instant(nanoseconds: due.nanoseconds - due.nanoseconds % step) - now
    }

    mutating func confirmHealthcheck(
        _ position: Int, _ key: String, _ error: AisError?, _ effects: inout [NodeEffect]
    ) -> NodeReply {
        let component = components[position]
        guard let check = component.healthchecks.first(where: { $0.model.key == key }),
            check.invocation == .componentInvoked
        else {
            return .failed(.notExist, "\(component.name) has no component-invoked health check \(key) running")
        }
        if error == nil {
            startTimer(position, .healthcheckPeriod(key), after: check.model.period, &effects)
        } else {
            endHealthcheck(position, key, &effects)
            fail(position, .healthcheckRefused, check.recovery, &effects)
        }
        return .done
    }

    mutating func stopHealthcheck(_ position: Int, _ key: String, _ effects: inout [NodeEffect]) -> NodeReply {
        guard components[position].healthchecks.contains(where: { $0.model.key == key }) else {
            return .failed(.notExist, "\(components[position].name) has no health check \(key) running")
        }
        endHealthcheck(position, key, &effects)
        return .done
    }

    /// The period is over: ask again, or, if the component should have said so itself, it failed.
    mutating func healthcheckIsDue(_ position: Int, _ key: String, at now: Instant, _ effects: inout [NodeEffect]) {
        guard let index = components[position].healthchecks.firstIndex(where: { $0.model.key == key }) else { return }
        let component = components[position]
        let check = component.healthchecks[index]
        switch check.invocation {
        case .componentInvoked:
            endHealthcheck(position, key, &effects)
            fail(position, .healthcheckMissed, check.recovery, &effects)
        case .amfInvoked:
            startTimer(
                position, .healthcheckPeriod(key), after: Self.sharedDelay(check.model.period, at: now), &effects)
            // Never two outstanding; without a connection the reconnect deadline watches.
            guard check.outstanding == nil, component.state == .ready else { return }
            let invocation = newInvocation()
            components[position].healthchecks[index].outstanding = invocation
            effects.append(.push(.healthcheck(invocation, component: component.name, key: key)))
            startTimer(position, .healthcheckAnswer(key), after: check.model.maxDuration, &effects)
        }
    }

    /// After a lost connection: what was asked may not have arrived, so it is asked again and has its whole time again.
    mutating func askHealthAgain(_ position: Int, _ effects: inout [NodeEffect]) {
        let component = components[position]
        for check in component.healthchecks {
            guard let invocation = check.outstanding else { continue }
            let key = check.model.key
            effects.append(.push(.healthcheck(invocation, component: component.name, key: key)))
            startTimer(position, .healthcheckAnswer(key), after: check.model.maxDuration, &effects)
        }
    }

    mutating func healthcheckIsLate(_ position: Int, _ key: String, _ effects: inout [NodeEffect]) {
        guard let check = components[position].healthchecks.first(where: { $0.model.key == key }) else { return }
        endHealthcheck(position, key, &effects)
        fail(position, .healthcheckTimeout, check.recovery, &effects)
    }

    mutating func takeHealthcheck(
        _ position: Int, _ answer: InvocationAnswer, _ effects: inout [NodeEffect]
    ) -> Bool {
        let checks = components[position].healthchecks
        guard let index = checks.firstIndex(where: { $0.outstanding == answer.invocation }) else { return false }
        let check = checks[index]
        components[position].healthchecks[index].outstanding = nil
        cancelTimer(position, .healthcheckAnswer(check.model.key), &effects)
        if answer.error != nil {
            endHealthcheck(position, check.model.key, &effects)
            fail(position, .healthcheckRefused, check.recovery, &effects)
        }
        return true
    }

    private mutating func endHealthcheck(_ position: Int, _ key: String, _ effects: inout [NodeEffect]) {
        components[position].healthchecks.removeAll { $0.model.key == key }
        cancelTimer(position, .healthcheckPeriod(key), &effects)
        cancelTimer(position, .healthcheckAnswer(key), &effects)
    }
}
