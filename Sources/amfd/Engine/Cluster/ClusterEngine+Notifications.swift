import AmfProtocol
import SAFTypes

// What the world is told: the difference between what was told last and what is.

extension ClusterEngine {
    mutating func tell(_ group: Int) {
        for unit in groups[group].units {
            for component in units[unit].components { tellComponent(component) }
            let run = units[unit].run
            let (presence, readiness) = (presence(ofUnit: unit), readiness(ofUnit: unit))
            tell(.presence, units[unit].name, run.toldPresence.rawValue, presence.rawValue, units[unit].node)
            tell(.readiness, units[unit].name, run.toldReadiness.rawValue, readiness.rawValue, units[unit].node)
            units[unit].run.toldPresence = presence
            units[unit].run.toldReadiness = readiness
        }
        for instance in groups[group].instances {
            let (old, new) = (instances[instance].run.toldAssignment, assignmentState(of: instance))
            tell(.assignment, instances[instance].name, old.rawValue, new.rawValue, nil)
            instances[instance].run.toldAssignment = new
        }
    }

    private mutating func tellComponent(_ component: Int) {
        let (name, node) = (components[component].name, components[component].node)
        let run = components[component].run
        tell(.presence, name, run.toldPresence.rawValue, run.presence.rawValue, node)
        let (old, new) = (operational(run.toldDisabled), operational(run.isDisabled))
        tell(.operational, name, old.rawValue, new.rawValue, node)
        components[component].run.toldPresence = run.presence
        components[component].run.toldDisabled = run.isDisabled
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

    mutating func tellEscalation(_ component: Int, _ text: String) {
        var notification = AmfNotification(.escalation, components[component].name, old: 0, new: 0)
        notification.node = nodes[components[component].node].model.id
        notification.text = text
        notifications.append(notification)
    }

    mutating func tellError(_ component: Int, _ text: String) {
        var notification = AmfNotification(.error, components[component].name, old: 0, new: 0)
        notification.node = nodes[components[component].node].model.id
        notification.text = text
        notifications.append(notification)
    }
}
