import AmfProtocol
import SAFTypes

// States that follow from others. Source: SAI-AIS-AMF-B.02.01 §3.2; saf-ais A5.4.

extension ClusterEngine {
    /// The five administrative states that bear on a service unit; those of node and cluster not on the middleware.
    func adminStates(ofUnit unit: Int) -> [AdminState] {
        let group = units[unit].group
        let own = [
            units[unit].run.adminState, groups[group].run.adminState,
            applications[groups[group].application].run.adminState,
        ]
        return units[unit].isMiddleware ? own : own + [nodes[units[unit].node].run.adminState, adminState]
    }

    /// The unit's node is there and works, as far as that unit is concerned.
    func isNodeEnabled(for unit: Int) -> Bool {
        let node = nodes[units[unit].node].run
        return node.isMember && (!node.isDisabled || units[unit].isMiddleware)
    }

    func presence(ofUnit unit: Int) -> PresenceState {
        let all = units[unit].components
        let counted =
            units[unit].isNonPreInstantiable ? all : all.filter { components[$0].isPreInstantiable }
        let states = counted.map { components[$0].run.presence }
        let every = all.map { components[$0].run.presence }
        if every.contains(.terminationFailed) { return .terminationFailed }
        if every.contains(.instantiationFailed) { return .instantiationFailed }
        if states.allSatisfy({ $0 == .uninstantiated }) { return .uninstantiated }
        if states.allSatisfy({ $0 == .restarting }) { return .restarting }
        if states.contains(.terminating) { return .terminating }
        if states.allSatisfy({ $0 == .instantiated || $0 == .restarting }) { return .instantiated }
        return .instantiating
    }

    func readiness(ofUnit unit: Int) -> ReadinessState {
        guard !units[unit].run.isDisabled, isNodeEnabled(for: unit), !nodes[units[unit].node].run.isStopping
        else { return .outOfService }
        let states = adminStates(ofUnit: unit)
        if states.contains(.locked) || states.contains(.lockedInstantiation) { return .outOfService }
        if states.contains(.shuttingDown) { return .stopping }
        guard !units[unit].isNonPreInstantiable else { return .inService }
        switch presence(ofUnit: unit) {
        case .instantiated, .restarting: return .inService
        case .uninstantiated, .instantiating, .terminating, .instantiationFailed, .terminationFailed:
            return .outOfService
        }
    }

    func readiness(ofComponent component: Int) -> ReadinessState {
        components[component].run.isDisabled ? .outOfService : readiness(ofUnit: components[component].unit)
    }

    /// Whether new assignments may go to the unit.
    func canTakeAssignments(_ unit: Int) -> Bool {
        guard readiness(ofUnit: unit) == .inService else { return false }
        switch units[unit].run.phase {
        case .normal, .restarting: return true
        case .failingOver, .evacuating: return false
        }
    }

    func assignments(of instance: Int, in unit: Int) -> [(component: Int, assignment: Assignment)] {
        var result: [(Int, Assignment)] = []
        for component in units[unit].components {
            for assignment in components[component].run.assignments
            where csis[Int(assignment.csi)].instance == instance {
                result.append((component, assignment))
            }
        }
        return result
    }

    func hasAssignments(_ unit: Int) -> Bool {
        units[unit].components.contains { !components[$0].run.assignments.isEmpty }
    }

    /// Whether a process of the unit could be working on the service instance, as far as anybody can know.
    func mayBeActive(_ unit: Int, for instance: Int) -> Bool {
        units[unit].components.contains { component in
            let run = components[component].run
            guard !run.isDead else { return false }
            return run.assignments.contains { assignment in
                guard csis[Int(assignment.csi)].instance == instance else { return false }
                // A component that is active by running is so from the start of its process to its end.
                if !components[component].isPreInstantiable, run.presence != .uninstantiated { return true }
                if assignment.isDoubtful { return true }
                if assignment.state == .active || assignment.state == .quiescing { return true }
                guard let pending = run.pending, pending.csis.contains(assignment.csi) else { return false }
                return pending.haState == .active || pending.haState == .quiescing
            }
        }
    }

    /// The HA state of a unit for a service instance: active before standby before quiescing before quiesced.
    func haState(of instance: Int, in unit: Int) -> HAState? {
        let states = assignments(of: instance, in: unit).compactMap { $0.assignment.state }
        let precedence: [HAState] = [.active, .standby, .quiescing, .quiesced]
        return precedence.first { states.contains($0) }
    }

    /// Whether every CSI of the instance that the unit can carry in that state is acknowledged in it.
    func isComplete(_ instance: Int, in unit: Int, as haState: HAState) -> Bool {
        let held = assignments(of: instance, in: unit)
        let needed = instances[instance].csis.filter { component(for: $0, in: unit, haState) != nil }
        return !needed.isEmpty
            && needed.allSatisfy { csi in
                held.contains { Int($0.assignment.csi) == csi && $0.assignment.state == haState }
            }
    }

    func assignmentState(of instance: Int) -> AssignmentState {
        let units = groups[instances[instance].group].units
        let states = units.compactMap { haState(of: instance, in: $0) }
        let active = states.count { $0 == .active || $0 == .quiescing }
        guard active > 0 else { return .unassigned }
        let preferred = preferredAssignments(instance)
        let isComplete = units.allSatisfy { unit in
            switch haState(of: instance, in: unit) {
            case .active: self.isComplete(instance, in: unit, as: .active)
            case .standby: self.isComplete(instance, in: unit, as: .standby)
            case .quiesced, .quiescing, nil: true
            }
        }
        let standby = states.count { $0 == .standby }
        return isComplete && active == preferred.active && standby == preferred.standby
            ? .fullyAssigned : .partiallyAssigned
    }

    private func preferredAssignments(_ instance: Int) -> (active: Int, standby: Int) {
        switch groups[instances[instance].group].model.redundancyModel {
        case .twoN, .nPlusM: (1, 1)
        case .nWay: (1, Int(instances[instance].model.preferredStandbyAssignments))
        case .nWayActive: (Int(instances[instance].model.preferredActiveAssignments), 0)
        case .noRedundancy: (1, 0)
        }
    }

    /// The component of the unit that carries the CSI, or would: the first that supports its type and has room.
    func component(for csi: Int, in unit: Int, _ haState: HAState) -> Int? {
        for component in units[unit].components
        where components[component].run.assignments.contains(where: { Int($0.csi) == csi }) {
            return component
        }
        let type = csis[csi].model.type
        return units[unit].components.first { component in
            guard let support = components[component].model.csiTypes.first(where: { $0.name == type })
            else { return false }
            let sameType = components[component].run.assignments.filter {
                csis[Int($0.csi)].model.type == type
            }
            return sameType.count < support.room(for: haState)
        }
    }
}

extension SupportedCSIType {
    /// How many CSIs of the type a component can hold in that state.
    func room(for haState: HAState) -> Int {
        let isStandby = haState == .standby
        let configured = Int(isStandby ? maxStandby : maxActive)
        let unlimited = configured == 0 ? Int.max : configured
        switch capability {
        case .xActiveAndYStandby, .xActiveOrYStandby: return unlimited
        case .oneActiveOrYStandby: return isStandby ? unlimited : 1
        case .oneActiveOrOneStandby: return 1
        case .xActive, .nonPreInstantiable: return isStandby ? 0 : unlimited
        case .oneActive: return isStandby ? 0 : 1
        }
    }
}
