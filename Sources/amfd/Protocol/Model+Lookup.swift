import SAFTypes

extension AmfModel {
    /// Every component that a node hosts, in the order of the model.
    public func components(on node: NodeID) -> [(name: SaName, model: ComponentModel)] {
        guard let nodeName = nodes.first(where: { $0.id == node })?.name else { return [] }
        var result: [(SaName, ComponentModel)] = []
        for application in applications {
            let applicationName = DN.application(application.name)
            for group in application.serviceGroups {
                let groupName = DN.serviceGroup(group.name, in: applicationName)
                for unit in group.serviceUnits where unit.node == nodeName {
                    let unitName = DN.serviceUnit(unit.name, in: groupName)
                    for component in unit.components {
                        result.append((DN.component(component.name, in: unitName), component))
                    }
                }
            }
        }
        return result
    }
}
