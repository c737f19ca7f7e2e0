import AmfProtocol
import SAFTypes

/// Why a model is not applied to a cluster that runs, for people.
struct ModelObjection: Error {
    let text: String
    init(_ text: String) { self.text = text }
}

/// What a later model may change in the one that runs; pure.
///
/// | | |
/// |---|---|
/// | applications, nodes that are new | are added; a node brings its middleware |
/// | service units that are new in an application | are added |
/// | a node's settings | are changed |
/// | a node that is missing | is taken out when it is locked and stopped; its service units must leave it, too |
/// | an application that is missing | stays: whoever has fewer files takes nothing away |
/// | anything else | is refused |
///
/// Nodes come and go one at a time: majorities before and after have a node in common.
struct ModelChange {
    struct Node {
        var name: String
        var isMember: Bool
        var isLocked: Bool
    }

    let running: AmfModel
    let wanted: AmfModel
    /// Of the running model.
    let nodes: [Node]
    let isAddition: Bool

    func merged() throws(ModelObjection) -> AmfModel {
        guard wanted.cluster == running.cluster else {
            throw ModelObjection(
                "the cluster is called \(running.cluster), the model's \(wanted.cluster); use the same name")
        }
        var merged = running
        merged.startupTimeout = wanted.startupTimeout
        let gone = isAddition ? [] : try removedNodes()
        merged.nodes = try changedNodes(gone)
        merged.applications = []
        for application in running.applications {
            let new = wanted.applications.first { $0.name == application.name }
            merged.applications.append(try changed(application, to: new, gone))
        }
        merged.applications += wanted.applications.filter { new in
            !running.applications.contains { $0.name == new.name }
        }
        try checkHosts(merged)
        return merged
    }

    // MARK: Nodes

    private func removedNodes() throws(ModelObjection) -> [String] {
        let gone = running.nodes.map(\.name).filter { name in !wanted.nodes.contains { $0.name == name } }
        let new = wanted.nodes.map(\.name).filter { name in !running.nodes.contains { $0.name == name } }
        for name in gone {
            guard let node = nodes.first(where: { $0.name == name }) else { continue }
            guard node.isLocked else {
                throw ModelObjection(
                    "node \(name) of the cluster is missing: this machine's cluster.yaml is older than the cluster; "
                        + "if the node shall leave, it must be locked first (saf admin lock \(name)) and stopped")
            }
            guard !node.isMember else {
                throw ModelObjection(
                    "node \(name) shall leave and runs: stop SwiftSAF there first, then load this again")
            }
        }
        guard gone.count + new.count <= 1 else {
            throw ModelObjection(
                "nodes come and go one at a time, so that every two majorities have one in common; here "
                    + (gone.map { "\($0) leaves" } + new.map { "\($0) is new" }).joined(separator: ", "))
        }
        let members = nodes.count { $0.isMember }
        let count = running.nodes.count + new.count - gone.count
        // The second node of a cluster of one cannot come otherwise.
        guard gone.count + new.count == 0 || members > count / 2 || running.nodes.count == 1 else {
            throw ModelObjection(
                "\((new + gone)[0]): of \(count) nodes the \(members) that run would be no majority, and stop; "
                    + "start the others first")
        }
        return gone
    }

    private func changedNodes(_ gone: [String]) throws(ModelObjection) -> [NodeModel] {
        var nodes = running.nodes.filter { !gone.contains($0.name) }
        for node in wanted.nodes {
            guard let known = nodes.firstIndex(where: { $0.name == node.name || $0.id == node.id }) else {
                nodes.append(node)
                continue
            }
            guard nodes[known].name == node.name, nodes[known].id == node.id else {
                throw ModelObjection("node \(node.name) has the name or the id of another node that runs")
            }
            nodes[known] = node
        }
        return nodes
    }

    // MARK: Applications

    private func changed(
        _ running: ApplicationModel, to new: ApplicationModel?, _ gone: [String]
    ) throws(ModelObjection) -> ApplicationModel {
        var result = running
        if !isAddition, MiddlewareModel.isMiddleware(running.name) {
            // A group and an instance for each node, named like it.
            result.serviceGroups.removeAll { gone.contains($0.name) }
            result.serviceInstances.removeAll { gone.contains($0.name) }
            result.serviceGroups += (new?.serviceGroups ?? []).filter { group in
                !running.serviceGroups.contains { $0.name == group.name }
            }
            result.serviceInstances += (new?.serviceInstances ?? []).filter { instance in
                !running.serviceInstances.contains { $0.name == instance.name }
            }
            return result
        }
        guard let new, new != running else { return result }
        guard !isAddition, withoutUnits(new) == withoutUnits(running) else {
            throw ModelObjection(
                "application \(new.name) runs with another configuration; while it runs service units can be added, "
                    + "and go with a node that leaves; anything else is changed while SwiftSAF is stopped on all nodes")
        }
        for index in running.serviceGroups.indices {
            result.serviceGroups[index].serviceUnits = try changedUnits(
                running.serviceGroups[index], to: new.serviceGroups[index], of: running.name, gone)
        }
        return result
    }

    private func withoutUnits(_ application: ApplicationModel) -> ApplicationModel {
        var result = application
        for index in result.serviceGroups.indices { result.serviceGroups[index].serviceUnits = [] }
        return result
    }

    private func changedUnits(
        _ running: ServiceGroupModel, to new: ServiceGroupModel, of application: String, _ gone: [String]
    ) throws(ModelObjection) -> [ServiceUnitModel] {
        var units: [ServiceUnitModel] = []
        for unit in running.serviceUnits {
            guard let wanted = new.serviceUnits.first(where: { $0.name == unit.name }) else {
                guard gone.contains(unit.node) else {
                    throw ModelObjection(
                        "service unit \(unit.name) of application \(application) is missing; it can only leave "
                            + "together with its node \(unit.node)")
                }
                continue
            }
            var moved = unit
            moved.node = wanted.node
            if gone.contains(unit.node), wanted == moved {
                units.append(wanted)
                continue
            }
            guard wanted.node == unit.node || wanted != moved else {
                throw ModelObjection(
                    "service unit \(unit.name) of application \(application) is on node \(unit.node) and would be on "
                        + "\(wanted.node): name its node in the model (node: \(unit.node))")
            }
            guard wanted == unit else {
                throw ModelObjection(
                    "service unit \(unit.name) of application \(application) runs with another configuration; stop "
                        + "SwiftSAF on all nodes to change it")
            }
            units.append(unit)
        }
        return units + new.serviceUnits.filter { unit in !running.serviceUnits.contains { $0.name == unit.name } }
    }

    /// An application whose file is missing here stays, and may have something on a node that leaves.
    private func checkHosts(_ merged: AmfModel) throws(ModelObjection) {
        for application in merged.applications {
            for unit in application.serviceGroups.flatMap(\.serviceUnits) {
                guard !merged.nodes.contains(where: { $0.name == unit.node }) else { continue }
                throw ModelObjection(
                    "service unit \(unit.name) of application \(application.name) is on node \(unit.node), which "
                        + "shall leave: take it out of the model, too")
            }
        }
    }
}
