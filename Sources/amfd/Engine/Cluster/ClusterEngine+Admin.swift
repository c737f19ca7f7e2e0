import AmfProtocol
import EngineKit
import SAFTypes

// Administrative operations. Applicability, states and error codes: saf-ais A5.11.

extension ClusterEngine {
    mutating func administer(
        _ ticket: AdminTicket, _ operation: AdminOperation, _ name: SaName, at now: Instant
    ) {
        guard let entity = positions[name] else {
            return refuse(ticket, .notExist, "\(name) is not in the model; saf status lists what is")
        }
        if pendingAdmin.contains(where: { !groups(of: $0.name).isDisjoint(with: groups(of: name)) }) {
            return refuse(ticket, .tryAgain, "another operation on \(name) or what belongs to it is under way")
        }
        guard pendingAdmin.count < ClusterLimits.pendingAdminMax else {
            return refuse(ticket, .tryAgain, "\(pendingAdmin.count) operations are under way")
        }
        let outcome: (AisError, String)?
        switch operation {
        case .unlock, .lock, .lockInstantiation, .unlockInstantiation, .shutdown:
            outcome = changeAdminState(operation, entity, name)
        case .restart: outcome = restart(entity, name)
        case .siSwap: outcome = swap(entity, name)
        case .repaired: outcome = repair(entity, name)
        case .sgAdjust: outcome = (.notSupported, "the models 2n and no-redundancy have nothing to adjust")
        }
        if let (error, text) = outcome { return refuse(ticket, error, text) }
        if operation == .shutdown {
            rest.append(.adminReply(ticket, nil, ""))
            return
        }
        var pending = PendingAdmin()
        (pending.ticket, pending.operation, pending.name) = (ticket, operation, name)
        pending.number = nextAdmin
        nextAdmin = nextAdmin == .max ? 1 : nextAdmin + 1
        pendingAdmin.append(pending)
        rest.append(.startTimer(.admin(pending.number), at: now + ClusterLimits.adminTimeout))
    }

    /// Why the operation should not be performed unless it is forced; nil: nothing against it.
    public func objection(to operation: AdminOperation, on name: SaName) -> String? {
        switch operation {
        case .lock, .lockInstantiation, .shutdown: break
        case .unlock, .unlockInstantiation, .restart, .siSwap, .sgAdjust, .repaired: return nil
        }
        let application: Int
        switch positions[name] {
        case .application(let index)?: application = index
        case .group(let group)?: application = groups[group].application
        case .unit(let unit)?: application = groups[units[unit].group].application
        case .instance(let instance)?: application = groups[instances[instance].group].application
        case .cluster?, .node?, .component?, .csi?, nil: return nil
        }
        guard MiddlewareModel.isMiddleware(applications[application].model.name) else { return nil }
        return "\(name) belongs to the middleware, which the applications of the node need; restart it, or force the "
            + "\(operation)"
    }

    private mutating func refuse(_ ticket: AdminTicket, _ error: AisError, _ text: String) {
        rest.append(.adminReply(ticket, error, text))
    }

    mutating func expireAdmin(_ number: UInt32) {
        guard let index = pendingAdmin.firstIndex(where: { $0.number == number }) else { return }
        let pending = pendingAdmin.remove(at: index)
        rest.append(
            .adminReply(
                pending.ticket, .timeout,
                "\(pending.operation) of \(pending.name) is accepted but not complete: "
                    + "\(ClusterLimits.adminTimeout) are over"
            ))
    }

    // MARK: - Administrative states

    private func adminState(of entity: Entity) -> AdminState? {
        switch entity {
        case .cluster: adminState
        case .node(let index): nodes[index].run.adminState
        case .application(let index): applications[index].run.adminState
        case .group(let index): groups[index].run.adminState
        case .unit(let index): units[index].run.adminState
        case .instance(let index): instances[index].run.adminState
        case .component, .csi: nil
        }
    }

    private mutating func setAdminState(_ new: AdminState, of entity: Entity, _ name: SaName) {
        guard let old = adminState(of: entity) else { return }
        switch entity {
        case .cluster: adminState = new
        case .node(let index): nodes[index].run.adminState = new
        case .application(let index): applications[index].run.adminState = new
        case .group(let index): groups[index].run.adminState = new
        case .unit(let index): units[index].run.adminState = new
        case .instance(let index): instances[index].run.adminState = new
        case .component, .csi: break
        }
        tellAdmin(name, old, new)
        touched = Array(groups.indices)
    }

    private mutating func changeAdminState(
        _ operation: AdminOperation, _ entity: Entity, _ name: SaName
    ) -> (AisError, String)? {
        guard let state = adminState(of: entity) else {
            return (.notSupported, "\(name) has no administrative state; \(operation) its service unit or instance")
        }
        if case .instance = entity, operation == .lockInstantiation || operation == .unlockInstantiation {
            return (.notSupported, "a service instance has no processes to instantiate; use lock or unlock")
        }
        switch Self.transition(operation, state) {
        case .to(let new):
            setAdminState(new, of: entity, name)
            return nil
        case .noOp: return (.noOp, "\(name) is \(state.word) already")
        case .bad: return (.badOperation, "\(operation) is not allowed while \(name) is \(state.word)")
        }
    }

    enum AdminTransition: Hashable { case to(AdminState), noOp, bad }

    /// The whole table of A5.11.
    static func transition(_ operation: AdminOperation, _ state: AdminState) -> AdminTransition {
        switch (operation, state) {
        case (.unlock, .unlocked): .noOp
        case (.unlock, .locked), (.unlock, .shuttingDown): .to(.unlocked)
        case (.unlock, .lockedInstantiation): .bad
        case (.lock, .unlocked), (.lock, .shuttingDown): .to(.locked)
        case (.lock, .locked): .noOp
        case (.lock, .lockedInstantiation): .bad
        case (.lockInstantiation, .locked): .to(.lockedInstantiation)
        case (.lockInstantiation, .lockedInstantiation): .noOp
        case (.lockInstantiation, .unlocked), (.lockInstantiation, .shuttingDown): .bad
        case (.unlockInstantiation, .lockedInstantiation): .to(.locked)
        case (.unlockInstantiation, .locked): .noOp
        case (.unlockInstantiation, .unlocked), (.unlockInstantiation, .shuttingDown): .bad
        case (.shutdown, .unlocked): .to(.shuttingDown)
        case (.shutdown, .shuttingDown): .noOp
        case (.shutdown, .locked), (.shutdown, .lockedInstantiation): .bad
        case (.restart, _), (.siSwap, _), (.sgAdjust, _), (.repaired, _): .bad
        }
    }

    // MARK: - Restart, swap, repair

    private mutating func restart(_ entity: Entity, _ name: SaName) -> (AisError, String)? {
        switch entity {
        case .component(let component):
            guard components[component].run.presence == .instantiated else {
                return (
                    .badOperation, "\(name) is \(components[component].run.presence.word); restart needs instantiated"
                )
            }
            restart(component, isDead: false, isGraceful: true)
            return nil
        case .unit(let unit): return restart(units: [unit], name)
        case .node(let node): return restart(units: nodes[node].units, name)
        case .application(let application):
            return restart(units: applications[application].groups.flatMap { groups[$0].units }, name)
        case .cluster: return restart(units: Array(units.indices), name)
        case .group, .instance, .csi:
            return (.notSupported, "restart works on the cluster, nodes, applications, service units and components")
        }
    }

    private mutating func restart(units chosen: [Int], _ name: SaName) -> (AisError, String)? {
        let running = chosen.filter { presence(ofUnit: $0) == .instantiated && units[$0].run.phase == .normal }
        guard !running.isEmpty else {
            return (.badOperation, "no service unit of \(name) is instantiated; restart needs one")
        }
        for unit in running { restartUnit(unit, failed: nil, isDead: false, isGraceful: true) }
        return nil
    }

    private mutating func swap(_ entity: Entity, _ name: SaName) -> (AisError, String)? {
        guard case .instance(let instance) = entity else {
            return (.notSupported, "swap works on service instances")
        }
        let group = instances[instance].group
        guard groups[group].model.redundancyModel == .twoN else {
            return (.badOperation, "\(name) has no standby in the model \(groups[group].model.redundancyModel.word)")
        }
        guard isStable(group) else { return (.tryAgain, "assignments of \(groups[group].name) are changing") }
        let standby = groups[group].units.first { haState(of: instance, in: $0) == .standby }
        let active = groups[group].units.first { haState(of: instance, in: $0) == .active }
        guard let standby, active != nil else {
            return (.badOperation, "\(name) has no active and standby assignment to swap")
        }
        groups[group].run.swapTarget = UInt32(standby)
        return nil
    }

    private mutating func repair(_ entity: Entity, _ name: SaName) -> (AisError, String)? {
        switch entity {
        case .node(let node):
            guard nodes[node].run.isDisabled else { return (.noOp, "\(name) is enabled already") }
            nodes[node].run.isDisabled = false
            nodes[node].run.suFailovers = Counter()
            for unit in nodes[node].units where units[unit].run.isDisabled { repairUnit(unit) }
            return nil
        case .unit(let unit):
            guard units[unit].run.isDisabled else { return (.noOp, "\(name) is enabled already") }
            let isBusy = units[unit].components.contains { components[$0].run.order != nil }
            if isBusy { return (.badOperation, "components of \(name) are being cleaned up; repair it afterwards") }
            repairUnit(unit)
            return nil
        case .cluster, .application, .group, .component, .instance, .csi:
            return (.notSupported, "repaired works on nodes and service units")
        }
    }

    private mutating func repairUnit(_ unit: Int) {
        units[unit].run.phase = .failingOver
        units[unit].run.isBeingRepaired = true
        units[unit].run.restarts = Counter()
        units[unit].run.componentRestarts = Counter()
        units[unit].run.failovers = Counter()
        for component in units[unit].components {
            switch components[component].run.presence {
            case .instantiationFailed, .terminationFailed:
                components[component].run.presence = .terminating
                give(.cleanup, to: component)
            case .uninstantiated, .instantiating, .instantiated, .terminating, .restarting: break
            }
        }
    }

    // MARK: - Completion

    /// Nothing is asked and not answered, and no recovery is under way.
    func isStable(_ group: Int) -> Bool {
        groups[group].run.swapTarget == nil
            && groups[group].units.allSatisfy { unit in
                let isResting =
                    units[unit].run.phase == .normal
                    || units[unit].components.allSatisfy { isAtRest($0) }
                        && units[unit].run.phase == .failingOver
                return isResting && units[unit].components.allSatisfy { isAtRest($0) }
            }
    }

    private func isAtRest(_ component: Int) -> Bool {
        let run = components[component].run
        return run.pending == nil && (run.order == nil || run.isDelayed)
            && !run.assignments.contains { $0.state == .quiescing }
    }

    mutating func settleAdmin() {
        finishShutdowns()
        var open: [PendingAdmin] = []
        for pending in pendingAdmin {
            let scope = groups.indices.filter(groups(of: pending.name).contains)
            guard scope.allSatisfy(isStable) else {
                open.append(pending)
                continue
            }
            rest.append(.cancelTimer(.admin(pending.number)))
            if let failed = failedComponent(pending.name) {
                rest.append(
                    .adminReply(
                        pending.ticket, .repairPending,
                        "done, but \(components[failed].name) is \(components[failed].run.presence.word): "
                            + components[failed].run.lastError))
            } else {
                rest.append(.adminReply(pending.ticket, nil, ""))
            }
        }
        pendingAdmin = open
    }

    /// SHUTTING_DOWN becomes LOCKED when nothing is assigned any more.
    private mutating func finishShutdowns() {
        if adminState == .shuttingDown, !units.indices.contains(where: isToShutDown) {
            setAdminState(.locked, of: .cluster, DN.cluster(model.cluster))
        }
        for node in nodes.indices where nodes[node].run.adminState == .shuttingDown {
            if !nodes[node].units.contains(where: isToShutDown) {
                setAdminState(.locked, of: .node(node), nodes[node].name)
            }
        }
        for index in applications.indices where applications[index].run.adminState == .shuttingDown {
            let scope = applications[index].groups.flatMap { groups[$0].units }
            if !scope.contains(where: hasAssignments) {
                setAdminState(.locked, of: .application(index), applications[index].name)
            }
        }
        for group in groups.indices where groups[group].run.adminState == .shuttingDown {
            if !groups[group].units.contains(where: hasAssignments) {
                setAdminState(.locked, of: .group(group), groups[group].name)
            }
        }
        for unit in units.indices where units[unit].run.adminState == .shuttingDown && !hasAssignments(unit) {
            setAdminState(.locked, of: .unit(unit), units[unit].name)
        }
        for instance in instances.indices where instances[instance].run.adminState == .shuttingDown {
            let scope = groups[instances[instance].group].units
            if scope.allSatisfy({ assignments(of: instance, in: $0).isEmpty }) {
                setAdminState(.locked, of: .instance(instance), instances[instance].name)
            }
        }
    }

    /// What happens to node and cluster does not touch the middleware.
    private func isToShutDown(_ unit: Int) -> Bool { !units[unit].isMiddleware && hasAssignments(unit) }

    /// The groups whose assignments an operation on the entity can touch.
    private func groups(of name: SaName) -> Set<Int> {
        switch positions[name] {
        case .cluster?: Set(groups.indices)
        case .node(let node)?: Set(nodes[node].units.map { units[$0].group })
        case .application(let application)?: Set(applications[application].groups)
        case .group(let group)?: [group]
        case .unit(let unit)?: [units[unit].group]
        case .component(let component)?: [units[components[component].unit].group]
        case .instance(let instance)?: [instances[instance].group]
        case .csi(let csi)?: [instances[csis[csi].instance].group]
        case nil: []
        }
    }

    private func failedComponent(_ name: SaName) -> Int? {
        let scope: [Int]
        switch positions[name] {
        case .unit(let unit)?: scope = units[unit].components
        case .component(let component)?: scope = [component]
        case .node(let node)?: scope = nodes[node].units.flatMap { units[$0].components }
        case .cluster?, .application?, .group?, .instance?, .csi?, nil:
            let touched = groups(of: name)
            scope = groups.indices.filter(touched.contains).flatMap { groups[$0].units }.flatMap {
                units[$0].components
            }
        }
        return scope.first {
            let presence = components[$0].run.presence
            return presence == .instantiationFailed || presence == .terminationFailed
        }
    }
}
