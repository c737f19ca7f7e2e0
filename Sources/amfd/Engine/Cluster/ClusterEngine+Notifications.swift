import AmfProtocol
import SAFTypes

// What the world is told: the difference between what was told last and what is.

extension ClusterEngine {
    mutating func tell() {
        for index in components.indices {
            let run = components[index].run
            tell(.presence, components[index].name, run.toldPresence.rawValue, run.presence.rawValue, components[index].node)
            let (old, new) = (operational(run.toldDisabled), operational(run.isDisabled))
            tell(.operational, components[index].name, old.rawValue, new.rawValue, components[index].node)
            components[index].run.toldPresence = run.presence
            components[index].run.toldDisabled = run.isDisabled
        }
        for index in units.indices {
            let run = units[index].run
            let (presence, readiness) = (presence(ofUnit: index), readiness(ofUnit: index))
            tell(.presence, units[index].name, run.toldPresence.rawValue, presence.rawValue, units[index].node)
            tell(.readiness, units[index].name, run.toldReadiness.rawValue, readiness.rawValue, units[index].node)
            units[index].run.toldPresence = presence
            units[index].run.toldReadiness = readiness
        }
        for index in instances.indices {
            let state = assignmentState(of: index)
            tell(.assignment, instances[index].name, instances[index].run.toldAssignment.rawValue, state.rawValue, nil)
            instances[index].run.toldAssignment = state
        }
    }

    func operational(_ isDisabled: Bool) -> OperationalState { isDisabled ? .disabled : .enabled }

    private mutating func tell(
        _ attribute: AmfNotification.Attribute, _ name: SaName, _ old: UInt8, _ new: UInt8, _ node: Int?
    ) {
        guard old != new else { return }
        var notification = AmfNotification(attribute, name, old: old, new: new)
        if let node { notification.node = nodes[node].model.id }
        notifications.append(notification)
    }

    mutating func tellAdmin(_ name: SaName, _ old: AdminState, _ new: AdminState) {
        tell(.admin, name, old.rawValue, new.rawValue, nil)
    }

    mutating func tellHA(_ component: Int, _ csi: Int, _ old: HAState?, _ new: HAState?) {
        var notification = AmfNotification(.ha, csis[csi].name, old: old?.rawValue ?? 0, new: new?.rawValue ?? 0)
        notification.assignee = components[component].name
        notification.node = nodes[components[component].node].model.id
        notifications.append(notification)
    }

    mutating func tellMembership(_ node: Int, isMember: Bool) {
        tell(.membership, nodes[node].name, isMember ? 1 : 2, isMember ? 2 : 1, node)
    }

    mutating func tellError(_ component: Int, _ text: String) {
        var notification = AmfNotification(.error, components[component].name, old: 0, new: 0)
        notification.node = nodes[components[component].node].model.id
        notification.text = text
        notifications.append(notification)
    }
}
