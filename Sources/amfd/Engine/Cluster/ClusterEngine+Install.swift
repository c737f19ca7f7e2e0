import AmfProtocol
import EngineKit
import SAFTypes

// From the model to the entities.

extension ClusterEngine {
    /// - Parameter isAddition: see ``ClusterEvent/addition(_:)``.
    mutating func install(_ new: AmfModel, isAddition: Bool = false, at now: Instant) {
        let merged: AmfModel?
        do throws(ModelObjection) {
            merged = try nodes.isEmpty ? new : change(to: new, isAddition: isAddition).merged()
        } catch {
            return rest.append(.modelRefused(error.text))
        }
        guard let merged, merged != model else { return }
        let before = self
        build(merged)
        urgent.append(.modelInstalled)
        if before.nodes.isEmpty { adminState = merged.adminState } else { carryOver(before) }
        // New groups wait for their units; the old ones have started.
        isStarted = false
        rest.append(.startTimer(.startup, at: now + merged.startupTimeout))
    }

    private func change(to new: AmfModel, isAddition: Bool) -> ModelChange {
        let states = nodes.map { node in
            ModelChange.Node(
                name: node.model.name, isMember: node.run.isMember,
                isLocked: node.run.adminState == .locked || node.run.adminState == .lockedInstantiation)
        }
        return ModelChange(running: model, wanted: new, nodes: states, isAddition: isAddition)
    }

    /// Every entity that was there before has its state again, wherever it stands now.
    private mutating func carryOver(_ before: ClusterEngine) {
        for index in nodes.indices {
            if case .node(let old)? = before.positions[nodes[index].name] { nodes[index].run = before.nodes[old].run }
        }
        for index in applications.indices {
            guard case .application(let old)? = before.positions[applications[index].name] else { continue }
            applications[index].run = before.applications[old].run
        }
        for index in groups.indices {
            guard case .group(let old)? = before.positions[groups[index].name] else { continue }
            groups[index].run = before.groups[old].run
            groups[index].run.swapTarget = before.groups[old].run.swapTarget.flatMap { target in
                guard case .unit(let unit)? = positions[before.units[Int(target)].name] else { return nil }
                return UInt32(unit)
            }
        }
        for index in units.indices {
            if case .unit(let old)? = before.positions[units[index].name] { units[index].run = before.units[old].run }
        }
        for index in components.indices {
            guard case .component(let old)? = before.positions[components[index].name] else { continue }
            components[index].run = carried(before.components[old].run, before)
        }
        for index in instances.indices {
            guard case .instance(let old)? = before.positions[instances[index].name] else { continue }
            instances[index].run = before.instances[old].run
        }
        for index in csis.indices {
            if case .csi(let old)? = before.positions[csis[index].name] { csis[index].run = before.csis[old].run }
        }
        pendingAdmin.removeAll { positions[$0.name] == nil }
    }

    /// A component names CSIs by their positions.
    private func carried(_ run: ComponentRun, _ before: ClusterEngine) -> ComponentRun {
        func position(_ csi: UInt32) -> UInt32? {
            guard case .csi(let csi)? = positions[before.csis[Int(csi)].name] else { return nil }
            return UInt32(csi)
        }
        var run = run
        run.assignments = run.assignments.compactMap { assignment in
            guard let csi = position(assignment.csi) else { return nil }
            var assignment = assignment
            assignment.csi = csi
            return assignment
        }
        if var pending = run.pending {
            pending.csis = pending.csis.compactMap(position)
            run.pending = pending
        }
        return run
    }

    mutating func build(_ model: AmfModel) {
        self.model = model
        nodes = []
        applications = []
        groups = []
        units = []
        components = []
        instances = []
        csis = []
        positions = [DN.cluster(model.cluster): .cluster]
        for node in model.nodes { add(node, cluster: model.cluster) }
        for application in model.applications { add(application) }
        resolveSponsors()
    }

    private mutating func add(_ node: NodeModel, cluster: String) {
        let name = DN.node(node.name, cluster: cluster)
        var run = NodeRun()
        run.adminState = node.adminState
        positions[name] = .node(nodes.count)
        nodes.append(NodeEntity(name: name, model: node, run: run))
    }

    private mutating func add(_ application: ApplicationModel) {
        let name = DN.application(application.name)
        let position = applications.count
        var run = ApplicationRun()
        run.adminState = application.adminState
        positions[name] = .application(position)
        applications.append(ApplicationEntity(name: name, model: application, run: run))
        for group in application.serviceGroups { add(group, to: position) }
        for instance in application.serviceInstances { add(instance, to: position) }
        for group in applications[position].groups { sortByRank(group) }
    }

    private mutating func add(_ group: ServiceGroupModel, to application: Int) {
        let name = DN.serviceGroup(group.name, in: applications[application].name)
        let position = groups.count
        var run = GroupRun()
        run.adminState = group.adminState
        positions[name] = .group(position)
        groups.append(GroupEntity(name: name, model: group, application: application, run: run))
        applications[application].groups.append(position)
        for unit in group.serviceUnits { add(unit, to: position) }
    }

    private mutating func add(_ unit: ServiceUnitModel, to group: Int) {
        guard let node = nodes.firstIndex(where: { $0.model.name == unit.node }) else { return }
        let name = DN.serviceUnit(unit.name, in: groups[group].name)
        let position = units.count
        var run = UnitRun()
        run.adminState = unit.adminState
        positions[name] = .unit(position)
        let isNonPreInstantiable = unit.components.allSatisfy { $0.category == .nonSaAware }
        units.append(
            UnitEntity(
                name: name, model: unit, group: group, node: node, isNonPreInstantiable: isNonPreInstantiable,
                isMiddleware: MiddlewareModel.isMiddleware(applications[groups[group].application].model.name),
                run: run)
        )
        groups[group].units.append(position)
        nodes[node].units.append(position)
        for component in unit.components {
            let componentName = DN.component(component.name, in: name)
            positions[componentName] = .component(components.count)
            units[position].components.append(components.count)
            components.append(
                ComponentEntity(name: componentName, model: component, unit: position, node: node, run: ComponentRun()))
        }
    }

    private mutating func add(_ instance: ServiceInstanceModel, to application: Int) {
        let groupName = DN.serviceGroup(instance.serviceGroup, in: applications[application].name)
        guard case .group(let group) = positions[groupName] else { return }
        let name = DN.serviceInstance(instance.name, in: applications[application].name)
        let position = instances.count
        var run = InstanceRun()
        run.adminState = instance.adminState
        positions[name] = .instance(position)
        instances.append(InstanceEntity(name: name, model: instance, group: group, run: run))
        groups[group].instances.append(position)
        let first = csis.count
        for csi in instance.csis {
            let csiName = DN.csi(csi.name, in: name)
            positions[csiName] = .csi(csis.count)
            csis.append(CSIEntity(name: csiName, model: csi, instance: position, run: CSIRun()))
        }
        for index in first..<csis.count {
            for dependency in csis[index].model.dependencies {
                guard let sponsor = (first..<csis.count).first(where: { csis[$0].model.name == dependency })
                else { continue }
                csis[index].sponsors.append(sponsor)
                csis[sponsor].dependents.append(index)
            }
        }
        instances[position].csis = sponsorsFirst(Array(first..<csis.count))
    }

    /// By rank and model order, but no CSI before its sponsors. A cycle, which validate() refuses, keeps model order.
    private func sponsorsFirst(_ all: [Int]) -> [Int] {
        var open = all.sorted { (rankOrder(csis[$0].model.rank), $0) < (rankOrder(csis[$1].model.rank), $1) }
        var result: [Int] = []
        while let next = open.first(where: { csis[$0].sponsors.allSatisfy(result.contains) }) {
            result.append(next)
            open.removeAll { $0 == next }
        }
        return result + open
    }

    private mutating func sortByRank(_ group: Int) {
        let unitOrder = groups[group].units.sorted {
            (rankOrder(units[$0].model.rank), $0) < (rankOrder(units[$1].model.rank), $1)
        }
        let instanceOrder = groups[group].instances.sorted {
            (rankOrder(instances[$0].model.rank), $0) < (rankOrder(instances[$1].model.rank), $1)
        }
        groups[group].units = unitOrder
        groups[group].instances = instanceOrder
    }

    private mutating func resolveSponsors() {
        for index in instances.indices {
            let application = applications[groups[instances[index].group].application].name
            instances[index].sponsors = instances[index].model.dependencies.compactMap { dependency in
                let sibling = DN.serviceInstance(dependency.sponsor, in: application)
                if case .instance(let sponsor) = positions[sibling] { return sponsor }
                guard let name = SaName(dependency.sponsor), case .instance(let sponsor) = positions[name]
                else { return nil }
                return sponsor
            }
            for sponsor in instances[index].sponsors {
                groups[instances[sponsor].group].dependents.append(instances[index].group)
            }
        }
    }

    /// 1 is the best, 0 (or absent) the worst.
    private func rankOrder(_ rank: UInt32) -> UInt32 { rank == 0 ? .max : rank }
}
