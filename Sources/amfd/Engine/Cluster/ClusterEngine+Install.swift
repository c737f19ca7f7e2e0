import AmfProtocol
import EngineKit
import SAFTypes

// From the model to the entities.

extension ClusterEngine {
    mutating func install(_ new: AmfModel, at now: Instant) {
        guard let merged = merge(new) else { return }
        let isFirst = nodes.isEmpty
        let saved = runs
        build(merged)
        urgent.append(.modelInstalled)
        if isFirst { adminState = merged.adminState } else { restore(saved) }
        // New groups wait for their units; the old ones have started.
        isStarted = false
        rest.append(.startTimer(.startup, at: now + merged.startupTimeout))
    }

    /// The running model plus what is new; nil if there is nothing new, or, with an effect, if `new` changes what runs.
    private mutating func merge(_ new: AmfModel) -> AmfModel? {
        guard !nodes.isEmpty else { return new }
        guard new.cluster == model.cluster else {
            return refuse("the cluster is called \(model.cluster), the model's \(new.cluster); use the same name")
        }
        var merged = model
        merged.startupTimeout = new.startupTimeout
        for node in new.nodes {
            let known = merged.nodes.firstIndex { $0.name == node.name || $0.id == node.id }
            guard let known else {
                merged.nodes.append(node)
                continue
            }
            guard merged.nodes[known].name == node.name, merged.nodes[known].id == node.id else {
                return refuse("node \(node.name) has the name or the id of another node that runs")
            }
            merged.nodes[known] = node
        }
        for application in new.applications where !model.applications.contains(application) {
            if model.applications.contains(where: { $0.name == application.name }) {
                return refuse(
                    "application \(application.name) runs with another configuration; stop the node to change it")
            }
            merged.applications.append(application)
        }
        // New entities come last in every list, so that positions of the old ones stay.
        return merged == model ? nil : merged
    }

    private mutating func refuse(_ text: String) -> AmfModel? {
        rest.append(.modelRefused(text))
        return nil
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
