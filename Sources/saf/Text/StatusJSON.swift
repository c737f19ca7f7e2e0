public import AmfProtocol
public import CliProtocol
import SAFTypes

extension StatusText {
    /// `saf status --json`: every field of the report, and its troubles; states as the words of the text form, times in
    /// ns since 1970 UTC.
    public static func json(_ report: StatusReport, sights: ClusterSights? = nil) -> JSONValue {
        [
            "links": sights.map { .array($0.links.map(link)) } ?? .null,
            "checkpoints": sights.map(checkpoints) ?? .null,
            "cluster": .string(report.cluster),
            "adminState": .string(report.adminState.word),
            "problems": .array(report.problems.map { .string($0) }),
            "troubles": .array(StatusTrouble.all(in: report, sights).map { .string($0) }),
            "quorate": .bool(report.isQuorate), "oldest": .integer(Int64(report.oldest.rawValue)),
            "nodes": .array(report.nodes.map(node)),
            "applications": .array(report.applications.map(application)),
        ]
    }

    private static func link(_ link: ClusterSights.Link) -> JSONValue {
        [
            "node": .integer(Int64(link.node.rawValue)), "number": .integer(Int64(link.number)), "up": .bool(link.isUp),
        ]
    }

    private static func checkpoints(_ sights: ClusterSights) -> JSONValue {
        guard let count = sights.checkpoints else { return .null }
        let placements = sights.placements.map { place -> JSONValue in
            [
                "node": .integer(Int64(place.node.rawValue)), "replicas": .integer(Int64(place.replicas)),
                "active": .integer(Int64(place.active)),
            ]
        }
        return [
            "count": .integer(Int64(count)), "placements": .array(placements),
            "incomplete": .array(sights.incomplete.map { .string($0) }), "old": .bool(sights.isOld),
        ]
    }

    private static func node(_ node: NodeStatus) -> JSONValue {
        [
            "dn": .string(node.dn.description), "name": .string(node.name), "id": .integer(Int64(node.id.rawValue)),
            "member": .bool(node.isMember), "heard": .bool(node.isHeard),
            "lease": .string("\(node.lease)"),
            "adminState": .string(node.adminState.word),
            "operationalState": .string(node.operationalState.word), "suFailovers": .integer(Int64(node.suFailovers)),
        ]
    }

    private static func application(_ application: ApplicationStatus) -> JSONValue {
        [
            "dn": .string(application.dn.description), "name": .string(application.name),
            "middleware": .bool(application.isMiddleware), "adminState": .string(application.adminState.word),
            "serviceGroups": .array(application.serviceGroups.map(group)),
            "serviceInstances": .array(application.serviceInstances.map(instance)),
        ]
    }

    private static func group(_ group: ServiceGroupStatus) -> JSONValue {
        [
            "dn": .string(group.dn.description), "name": .string(group.name),
            "adminState": .string(group.adminState.word),
            "redundancyModel": .string(group.redundancyModel.word),
            "serviceUnits": .array(group.serviceUnits.map(unit)),
        ]
    }

    private static func unit(_ unit: ServiceUnitStatus) -> JSONValue {
        [
            "dn": .string(unit.dn.description), "name": .string(unit.name), "node": .string(unit.node),
            "rank": .integer(Int64(unit.rank)), "adminState": .string(unit.adminState.word),
            "operationalState": .string(unit.operationalState.word), "presenceState": .string(unit.presenceState.word),
            "readinessState": .string(unit.readinessState.word), "components": .array(unit.components.map(component)),
        ]
    }

    private static func component(_ component: ComponentStatus) -> JSONValue {
        [
            "dn": .string(component.dn.description), "name": .string(component.name),
            "presenceState": .string(component.presenceState.word),
            "operationalState": .string(component.operationalState.word),
            "readinessState": .string(component.readinessState.word),
            "pid": component.pid == 0 ? nil : .integer(Int64(component.pid)),
            "startedAt": component.startedAt == 0 ? nil : .integer(component.startedAt),
            "restarts": .integer(Int64(component.restarts)),
            "lastError": component.lastError.isEmpty ? nil : .string(component.lastError),
            "lastErrorAt": component.lastErrorAt == 0 ? nil : .integer(component.lastErrorAt),
            "assignments": .array(
                component.assignments.map {
                    ["csi": .string($0.csi.description), "haState": .string($0.haState.word)]
                }),
        ]
    }

    private static func instance(_ instance: ServiceInstanceStatus) -> JSONValue {
        [
            "dn": .string(instance.dn.description), "name": .string(instance.name),
            "serviceGroup": .string(instance.serviceGroup), "adminState": .string(instance.adminState.word),
            "assignmentState": .string(instance.assignmentState.word),
            "assignments": .array(
                instance.assignments.map {
                    [
                        "serviceUnit": .string($0.serviceUnit.description), "haState": .string($0.haState.word),
                        "changing": .bool($0.isChanging),
                    ]
                }),
            "csis": .array(
                instance.csis.map { csi in
                    [
                        "dn": .string(csi.dn.description), "name": .string(csi.name), "type": .string(csi.type),
                        "assignments": .array(
                            csi.assignments.map {
                                ["component": .string($0.component.description), "haState": .string($0.haState.word)]
                            }),
                    ]
                }),
        ]
    }
}
