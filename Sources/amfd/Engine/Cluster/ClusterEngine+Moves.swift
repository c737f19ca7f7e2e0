import AmfProtocol
import EngineKit
import SAFTypes

// From where assignments are to where they should be, one safe step after the other: everything that may be asked now
// is asked now; the answers bring the next step. Sequences: saf-ais A5.11 (SAI-AIS-AMF-B.02.01 §8).

/// One thing to ask of a component.
private struct Move: Equatable {
    var component: Int
    var csi: Int
    /// Nil: remove.
    var haState: HAState?
}

extension ClusterEngine {
    mutating func moveAssignments(_ group: Int) {
        guard mayAssign(group) else { return }
        finishSwap(group)
        let desired = desired(group)
        var moves: [Move] = []
        for place in desired.places { moves += self.moves(place, desired, group) }
        for instance in groups[group].instances where !desired.places.contains(where: { $0.instance == instance }) {
            moves += self.moves(Desired.Place(instance: instance), desired, group)
        }
        issue(moves)
    }

    func desired(_ group: Int) -> Desired {
        let views = groups[group].units.map(view)
        let wanted = groups[group].instances.filter(isAssignable)
        switch groups[group].model.redundancyModel {
        case .twoN:
            return TwoN.desired(units: views, instances: wanted, swapTarget: groups[group].run.swapTarget.map(Int.init))
        case .noRedundancy: return NoRedundancy.desired(units: views, instances: wanted)
        case .nPlusM, .nWay, .nWayActive: return Desired()  // refused by validate()
        }
    }

    private func view(_ unit: Int) -> UnitView {
        var view = UnitView(unit: unit)
        view.canTake = canTakeAssignments(unit)
        view.isStopping = readiness(ofUnit: unit) == .stopping
        for component in units[unit].components {
            for assignment in components[component].run.assignments {
                let instance = csis[Int(assignment.csi)].instance
                switch assignment.wanted {
                case .active, .quiescing: view.instancesActive.append(instance)
                case .standby: view.instancesStandby.append(instance)
                case .quiesced: view.instancesQuiesced.append(instance)
                }
            }
        }
        return view
    }

    private func isAssignable(_ instance: Int) -> Bool {
        guard instances[instance].run.adminState == .unlocked else { return false }
        let isServed = groups[instances[instance].group].units.contains { haState(of: instance, in: $0) != nil }
        return isServed || instances[instance].sponsors.allSatisfy { assignmentState(of: $0) != .unassigned }
    }

    /// The first assignment of a group waits for its units, but not for ever.
    private mutating func mayAssign(_ group: Int) -> Bool {
        if groups[group].run.isStarted { return true }
        let isDecided = groups[group].units.allSatisfy { unit in
            if canTakeAssignments(unit) || units[unit].run.isDisabled { return true }
            if isStartable(unit) && !isSelected(unit) { return true }
            if units[unit].components.contains(where: { components[$0].run.isDelayed }) { return true }
            return adminStates(ofUnit: unit).contains { $0 != .unlocked }
        }
        groups[group].run.isStarted = isStarted || isDecided
        return groups[group].run.isStarted
    }

    private mutating func finishSwap(_ group: Int) {
        guard let target = groups[group].run.swapTarget.map(Int.init) else { return }
        let assigned = groups[group].instances.filter(isAssignable)
        if !canTakeAssignments(target) || assigned.allSatisfy({ isComplete($0, in: target, as: .active) }) {
            groups[group].run.swapTarget = nil
        }
    }

    // MARK: - The rules

    private func moves(_ place: Desired.Place, _ desired: Desired, _ group: Int) -> [Move] {
        var moves: [Move] = []
        for unit in groups[group].units {
            if unit == place.active {
                moves += movesToActive(place.instance, unit, desired, group)
            } else if unit == place.standby, !holdsActive(place.instance, unit) {
                moves += movesToStandby(place, unit)
            } else {
                moves += movesAway(place, unit, group)
            }
        }
        return moves
    }

    private func holdsActive(_ instance: Int, _ unit: Int) -> Bool {
        assignments(of: instance, in: unit).contains {
            $0.assignment.state == .active || $0.assignment.state == .quiescing
        }
    }

    private func movesToActive(_ instance: Int, _ unit: Int, _ desired: Desired, _ group: Int) -> [Move] {
        let others = groups[group].units.filter { $0 != unit }
        let guarded = desired.movesTogether ? groups[group].instances : [instance]
        let isFree = !others.contains { other in guarded.contains { mayBeActive(other, for: $0) } }
        guard isFree else { return [] }
        var moves: [Move] = []
        for csi in instances[instance].csis {
            guard let component = component(for: csi, in: unit, .active) else { continue }
            let held = components[component].run.assignments.first { Int($0.csi) == csi }
            let isReady = csis[csi].sponsors.allSatisfy { isActive($0, in: unit, orHeldBy: component) }
            if isReady {
                if held?.state != .active { moves.append(Move(component: component, csi: csi, haState: .active)) }
            } else if held?.state == .active {
                // Its sponsor was lost: it comes back after the sponsor.
                moves.append(Move(component: component, csi: csi, haState: nil))
            }
        }
        return moves
    }

    private func isActive(_ csi: Int, in unit: Int, orHeldBy component: Int) -> Bool {
        if self.component(for: csi, in: unit, .active) == component { return true }
        return units[unit].components.contains { other in
            components[other].run.assignments.contains { Int($0.csi) == csi && $0.state == .active }
        }
    }

    private func movesToStandby(_ place: Desired.Place, _ unit: Int) -> [Move] {
        guard let active = place.active, isComplete(place.instance, in: active, as: .active) else { return [] }
        return instances[place.instance].csis.compactMap { csi in
            guard let component = component(for: csi, in: unit, .standby) else { return nil }
            let held = components[component].run.assignments.first { Int($0.csi) == csi }
            return held?.state == .standby ? nil : Move(component: component, csi: csi, haState: .standby)
        }
    }

    /// Active: quiesce first. Quiesced: go when somebody else is active, or nobody will be. Standby: go at once, but
    /// where nobody will be active after the present one, only when that one is done.
    private func movesAway(_ place: Desired.Place, _ unit: Int, _ group: Int) -> [Move] {
        let isInstanceShutdown = instances[place.instance].run.adminState == .shuttingDown
        let isShutdown = isInstanceShutdown || readiness(ofUnit: unit) == .stopping
        let others = groups[group].units.filter { $0 != unit }
        let mayQuiescedLeave: Bool
        let mayStandbyLeave: Bool
        if let active = place.active {
            mayQuiescedLeave = isComplete(place.instance, in: active, as: .active)
            mayStandbyLeave = true
        } else {
            let held = others.flatMap { assignments(of: place.instance, in: $0) }.map(\.assignment.wanted)
            // A lock removes the standby before the former active, a shutdown after it.
            mayQuiescedLeave = isInstanceShutdown || !held.contains(.standby)
            let isOneActive = others.contains { mayBeActive($0, for: place.instance) }
            mayStandbyLeave = !isOneActive && !(isInstanceShutdown && held.contains(.quiesced))
        }
        let isUnitActive = holdsActive(place.instance, unit)
        var moves: [Move] = []
        for csi in instances[place.instance].csis.reversed() {
            guard
                let (component, assignment) = assignments(of: place.instance, in: unit)
                    .first(where: { Int($0.assignment.csi) == csi })
            else { continue }
            switch assignment.state {
            case .active:
                let isFree = csis[csi].dependents.allSatisfy { !isHeldActive($0, in: unit, besides: component) }
                if isFree {
                    moves.append(Move(component: component, csi: csi, haState: isShutdown ? .quiescing : .quiesced))
                }
            case .quiescing:
                // Completion is awaited, unless the shutdown became a lock.
                if !isShutdown { moves.append(Move(component: component, csi: csi, haState: .quiesced)) }
            case .quiesced:
                if mayQuiescedLeave && !isUnitActive {
                    moves.append(Move(component: component, csi: csi, haState: nil))
                }
            case .standby:
                if mayStandbyLeave { moves.append(Move(component: component, csi: csi, haState: nil)) }
            case nil: moves.append(Move(component: component, csi: csi, haState: nil))
            }
        }
        return moves
    }

    private func isHeldActive(_ csi: Int, in unit: Int, besides component: Int) -> Bool {
        units[unit].components.contains { other in
            other != component
                && components[other].run.assignments.contains { Int($0.csi) == csi && $0.state == .active }
        }
    }

    // MARK: - Asking

    private mutating func issue(_ moves: [Move]) {
        var served: [Int] = []
        for move in moves where !served.contains(move.component) {
            served.append(move.component)
            let mine = moves.filter { $0.component == move.component }
            issue(mine, to: move.component)
        }
    }

    private mutating func issue(_ moves: [Move], to component: Int) {
        let run = components[component].run
        guard run.pending == nil, let first = moves.first else { return }
        guard components[component].isPreInstantiable else { return issueByProcess(moves, to: component) }
        guard run.presence == .instantiated, !run.isDead else { return dropUnset(moves, of: component) }
        let held = run.assignments.filter { $0.state != nil }
        let isBundle =
            held.count > 1 && moves.count == run.assignments.count && held.count == run.assignments.count
            && moves.allSatisfy { $0.haState == first.haState }
        var pending = PendingHA()
        pending.invocation = nextInvocation
        nextInvocation &+= 1
        pending.haState = first.haState
        if isBundle {
            pending.flags = .targetAll
            pending.csis = run.assignments.map(\.csi)
        } else {
            let isNew = !held.contains { Int($0.csi) == first.csi }
            if isNew, first.haState == nil {
                components[component].run.assignments.removeAll { Int($0.csi) == first.csi }
                return
            }
            pending.flags = isNew ? .addOne : .targetOne
            pending.csis = [UInt32(first.csi)]
        }
        describe(&pending, first.csi, component)
        apply(pending, to: component)
        order(pending, component)
    }

    /// Assignments that no process of the component ever got can simply be forgotten.
    private mutating func dropUnset(_ moves: [Move], of component: Int) {
        for move in moves where move.haState == nil {
            components[component].run.assignments.removeAll {
                Int($0.csi) == move.csi && $0.state == nil && !$0.isDoubtful
            }
        }
    }

    /// A non-SA-aware component is active by running.
    private mutating func issueByProcess(_ moves: [Move], to component: Int) {
        let run = components[component].run
        guard run.order == nil else { return }
        for move in moves {
            if move.haState == .active {
                if !run.assignments.contains(where: { Int($0.csi) == move.csi }) {
                    components[component].run.assignments.append(Assignment(csi: move.csi, .active))
                }
            } else if run.presence == .uninstantiated {
                components[component].run.assignments.removeAll { Int($0.csi) == move.csi }
            }
        }
        if moves.contains(where: { $0.haState == .active }) {
            if run.presence == .uninstantiated { instantiate(component) }
            // It learns of a further CSI by its environment only.
            if run.presence == .instantiated { restart(component, isDead: false, isGraceful: true) }
        } else if run.presence == .instantiated {
            components[component].run.presence = .terminating
            give(.terminate, to: component)
        }
    }

    private func describe(_ pending: inout PendingHA, _ csi: Int, _ component: Int) {
        switch pending.haState {
        case .active:
            let former = csis[csi].run.formerActive
            pending.activeComponent = former
            pending.transition = former == nil ? .newAssign : csis[csi].run.formerWasQuiesced ? .quiesced : .notQuiesced
        case .standby:
            let group = instances[csis[csi].instance].group
            pending.activeComponent = groups[group].units.lazy.flatMap { self.units[$0].components }.first { other in
                other != component
                    && self.components[other].run.assignments.contains { Int($0.csi) == csi && $0.wanted == .active }
            }.map { components[$0].name }
        case .quiesced, .quiescing, nil: break
        }
    }

    private mutating func apply(_ pending: PendingHA, to component: Int) {
        components[component].run.pending = pending
        guard let haState = pending.haState else { return }
        for csi in pending.csis {
            if haState == .active { csis[Int(csi)].run.epoch = pending.invocation }
            if let index = components[component].run.assignments.firstIndex(where: { $0.csi == csi }) {
                components[component].run.assignments[index].wanted = haState
                if haState == .quiescing {
                    components[component].run.assignments[index].quiescing = pending.invocation
                }
            } else {
                components[component].run.assignments.append(Assignment(csi: Int(csi), haState))
            }
        }
    }

    /// Tells the node; also used to tell it again.
    mutating func order(_ pending: PendingHA, _ component: Int) {
        let entity = components[component]
        let node = nodes[entity.node].model.id
        let csi = pending.flags == .targetAll ? nil : pending.csis.first.map { csis[Int($0)].name }
        guard let haState = pending.haState else {
            orders.append(
                .order(
                    node,
                    .csiRemove(
                        CSIRemoveOrder(
                            invocation: InvocationID(pending.invocation), component: entity.name,
                            instance: entity.run.instance, csi: csi))))
            return
        }
        var descriptor = CSIDescriptor(pending.flags, csi: csi)
        descriptor.transition = pending.transition
        descriptor.activeComponent = pending.activeComponent
        descriptor.standbyRank = haState == .standby ? 1 : 0
        if pending.flags == .addOne, let first = pending.csis.first {
            descriptor.attributes = csis[Int(first)].model.attributes
        }
        let order = ClusterEffect.order(
            node,
            .csiSet(
                CSISetOrder(
                    invocation: InvocationID(pending.invocation), component: entity.name,
                    instance: entity.run.instance, haState: haState, descriptor: descriptor)))
        if haState == .active { urgent.append(order) } else { orders.append(order) }
    }
}
