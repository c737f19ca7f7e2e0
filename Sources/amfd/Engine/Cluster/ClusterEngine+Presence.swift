import AmfProtocol
import SAFTypes

// Which processes should run: selection of units, boot levels, instantiation levels, ends of recoveries.

extension ClusterEngine {
    // MARK: - Orders

    mutating func give(_ order: OpenOrder, to component: Int) {
        components[component].run.order = order
        giveAgain(component)
    }

    /// Also after amfd's death: the node engine does nothing twice.
    mutating func giveAgain(_ component: Int) {
        let entity = components[component]
        let order: NodeOrder
        switch entity.run.order {
        case .instantiate?:
            order = .instantiate(entity.name, entity.run.instance, environment: attributes(of: component))
        case .terminate?: order = .terminate(entity.name, entity.run.instance)
        case .cleanup?: order = .cleanup(entity.name, entity.run.instance)
        case nil: return
        }
        orders.append(.order(nodes[entity.node].model.id, order))
    }

    /// A non-SA-aware component learns the attributes of its CSIs from its environment.
    private func attributes(of component: Int) -> [EnvironmentVariable] {
        guard !components[component].isPreInstantiable else { return [] }
        return components[component].run.assignments.flatMap { csis[Int($0.csi)].model.attributes }
            .map { EnvironmentVariable($0.name, $0.value) }
    }

    mutating func instantiate(_ component: Int) {
        components[component].run.instance &+= 1
        if components[component].run.presence != .restarting { components[component].run.presence = .instantiating }
        give(.instantiate, to: component)
    }

    // MARK: - Which units should run

    /// The unit's processes may run now: its node is there, nothing is broken or locked for instantiation.
    func isStartable(_ unit: Int) -> Bool {
        let node = units[unit].node
        return isNodeEnabled(for: unit) && !units[unit].run.isDisabled && !nodes[node].run.isStopping
            && !adminStates(ofUnit: unit).contains(.lockedInstantiation)
    }

    /// Whether the unit is among those that the group wants in service. Units that run stay; then by rank.
    func isSelected(_ unit: Int) -> Bool {
        let group = units[unit].group
        let model = groups[group].model
        let preferred =
            model.preferredInServiceSUs > 0
            ? Int(model.preferredInServiceSUs) : model.redundancyModel == .twoN ? 2 : groups[group].units.count
        let startable = groups[group].units.filter(isStartable)
        let (unlocked, locked) = (
            startable.filter { adminStates(ofUnit: $0).allSatisfy { $0 == .unlocked } },
            startable.filter { !adminStates(ofUnit: $0).allSatisfy { $0 == .unlocked } }
        )
        if locked.contains(unit) { return true }
        let running = unlocked.filter { presence(ofUnit: $0) != .uninstantiated }
        let stopped = unlocked.filter { presence(ofUnit: $0) == .uninstantiated }
        return running.contains(unit) || stopped.prefix(max(0, preferred - running.count)).contains(unit)
    }

    private func hasProcesses(_ unit: Int) -> Bool {
        units[unit].components.contains { component in
            switch components[component].run.presence {
            case .uninstantiated, .instantiationFailed, .terminationFailed: false
            case .instantiating, .instantiated, .terminating, .restarting: true
            }
        }
    }

    // MARK: - Units

    mutating func settleUnit(_ unit: Int) {
        switch units[unit].run.phase {
        case .failingOver: finishFailover(unit)
        case .restarting:
            let states = units[unit].components.map { components[$0].run.presence }
            if !states.contains(.restarting) { units[unit].run.phase = .normal }
        case .evacuating:
            let isBack = units[unit].components.allSatisfy {
                !components[$0].isPreInstantiable || components[$0].run.presence == .instantiated
            }
            if isBack, !hasAssignments(unit) { units[unit].run.phase = .normal }
        case .normal: break
        }
        if units[unit].run.phase != .failingOver { restartComponents(unit) }
        if isStartable(unit), nodes[units[unit].node].run.bootLevel >= groups[units[unit].group].model.bootLevel {
            if units[unit].run.phase != .failingOver, isSelected(unit) { startNextLevel(unit) }
        } else if !isStartable(unit), hasProcesses(unit), units[unit].run.phase != .failingOver,
            !hasAssignments(unit), mayStop(unit)
        {
            stopNextLevel(unit)
        }
    }

    /// Components whose old process is gone start again: alone, or level by level if the whole unit restarts.
    private mutating func restartComponents(_ unit: Int) {
        let waiting = units[unit].components.filter {
            components[$0].run.presence == .restarting && components[$0].run.order == nil
        }
        guard !waiting.isEmpty else { return }
        guard units[unit].run.phase == .restarting else {
            for component in waiting { instantiate(component) }
            return
        }
        // Every old process is gone before the first new one starts.
        let isOneEnding = units[unit].components.contains {
            components[$0].run.order == .cleanup || components[$0].run.order == .terminate
        }
        guard !isOneEnding else { return }
        let level = waiting.map { components[$0].model.instantiationLevel }.min() ?? 0
        let isLowerStarting = units[unit].components.contains {
            components[$0].run.order == .instantiate && components[$0].model.instantiationLevel < level
        }
        guard !isLowerStarting else { return }
        for component in waiting where components[component].model.instantiationLevel == level {
            instantiate(component)
        }
    }

    /// Increasing level; the next when every component of the levels before is instantiated.
    private mutating func startNextLevel(_ unit: Int) {
        let awaited = units[unit].components.filter {
            components[$0].isPreInstantiable && components[$0].run.presence != .instantiated
                && components[$0].run.presence != .restarting
        }
        guard let level = awaited.map({ components[$0].model.instantiationLevel }).min() else { return }
        for component in awaited where components[component].model.instantiationLevel == level {
            let run = components[component].run
            if run.presence == .uninstantiated, run.order == nil { instantiate(component) }
        }
    }

    /// Decreasing level.
    private mutating func stopNextLevel(_ unit: Int) {
        let living = units[unit].components.filter {
            switch components[$0].run.presence {
            case .instantiating, .instantiated, .terminating, .restarting: true
            case .uninstantiated, .instantiationFailed, .terminationFailed: false
            }
        }
        guard let level = living.map({ components[$0].model.instantiationLevel }).max() else { return }
        for component in living where components[component].model.instantiationLevel == level {
            let run = components[component].run
            switch (run.presence, run.order) {
            case (.instantiated, nil):
                components[component].run.presence = .terminating
                give(.terminate, to: component)
            case (.instantiating, _), (.restarting, .instantiate?), (.restarting, nil):
                components[component].run.presence = .terminating
                give(.cleanup, to: component)
            case (.restarting, .cleanup?), (.restarting, .terminate?):
                components[component].run.presence = .terminating
            case (.instantiated, _), (.terminating, _), (.uninstantiated, _), (.instantiationFailed, _),
                (.terminationFailed, _):
                break
            }
        }
    }

    /// On a stopping node the groups of higher boot levels end first.
    private func mayStop(_ unit: Int) -> Bool {
        let node = units[unit].node
        guard nodes[node].run.isStopping else { return true }
        let level = groups[units[unit].group].model.bootLevel
        return nodes[node].units.allSatisfy { groups[units[$0].group].model.bootLevel <= level || !hasProcesses($0) }
    }

    private mutating func finishFailover(_ unit: Int) {
        let all = units[unit].components
        guard all.allSatisfy({ components[$0].run.presence == .uninstantiated && components[$0].run.order == nil })
        else { return }
        let isAutomatic = groups[units[unit].group].model.autoRepair && !units[unit].run.isGivenUp
        units[unit].run.phase = .normal
        guard isAutomatic || units[unit].run.isBeingRepaired else { return }
        units[unit].run.isBeingRepaired = false
        units[unit].run.isGivenUp = false
        units[unit].run.isDisabled = false
        for component in all { components[component].run.isDisabled = false }
    }

    // MARK: - Nodes

    mutating func settleNode(_ node: Int) {
        guard nodes[node].run.isMember else { return }
        if nodes[node].run.isStopping {
            let isDown = nodes[node].units.allSatisfy { !hasProcesses($0) }
            if isDown, !nodes[node].run.hasStopped {
                nodes[node].run.hasStopped = true
                rest.append(.nodeStopped(nodes[node].model.id))
            }
            return
        }
        if nodes[node].run.isDisabled {
            // The repair of a node is the restart of everything on it but the middleware.
            let isDown = nodes[node].units.allSatisfy { units[$0].isMiddleware || !hasProcesses($0) }
            if isDown, nodes[node].model.autoRepair {
                nodes[node].run.isDisabled = false
                nodes[node].run.bootLevel = 0
                nodes[node].run.suFailovers = Counter()
            }
            return
        }
        raiseBootLevel(node)
    }

    private mutating func raiseBootLevel(_ node: Int) {
        let current = nodes[node].run.bootLevel
        let above = nodes[node].units.map { groups[units[$0].group].model.bootLevel }.filter { $0 > current }
        guard let next = above.min() else { return }
        let isUp = nodes[node].units.allSatisfy { unit in
            guard groups[units[unit].group].model.bootLevel <= current else { return true }
            guard isStartable(unit), isSelected(unit) else { return true }
            return units[unit].components.allSatisfy {
                let run = components[$0].run
                let wasUp = run.starts > 0 && (run.presence == .instantiated || run.presence == .restarting)
                return !components[$0].isPreInstantiable || run.isDelayed || wasUp
            }
        }
        if isUp { nodes[node].run.bootLevel = next }
    }
}
