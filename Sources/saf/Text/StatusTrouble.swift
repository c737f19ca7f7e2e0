import AmfProtocol
import SAFTypes

/// What an operator should look at first, most serious first.
enum StatusTrouble {
    static func all(in report: StatusReport, _ sights: ClusterSights? = nil) -> [String] {
        var found = report.problems
        let silent = report.nodes.filter { $0.isMember && !$0.isHeard }.map(\.name)
        if !silent.isEmpty { found.append("nothing is heard of \(silent.joined(separator: ", "))") }
        for node in report.nodes where !node.isMember { found.append("node \(node.name) is not a member") }
        found += sights?.troubles(expected: report.nodes.map(\.id)) { id in report.nodeName(id) } ?? []
        // That of a node that is away is no news.
        for node in report.nodes where node.operationalState == .disabled && node.isMember {
            found.append("node \(node.name) is disabled")
        }
        let isMiddleware = report.applications.filter(\.isMiddleware)
        for application in isMiddleware { found += daemons(of: application, in: report) }
        if report.adminState != .unlocked { found.append("the cluster is \(report.adminState.word)") }
        for node in report.nodes where node.adminState != .unlocked {
            found.append("node \(node.name) is \(node.adminState.word)")
        }
        for application in report.applications where !application.isMiddleware {
            found += locks(of: application)
            for instance in application.serviceInstances where instance.assignmentState != .fullyAssigned {
                found.append("\(instance.name) is \(instance.assignmentState.word)")
            }
            for unit in application.serviceGroups.flatMap(\.serviceUnits) where !isAway(unit, in: report) {
                found += states(of: unit)
            }
        }
        return found
    }

    /// Of a node that is away everything that runs there is out of service; its absence has been told.
    private static func isAway(_ unit: ServiceUnitStatus, in report: StatusReport) -> Bool {
        unit.adminState == .unlocked && report.nodes.contains { $0.name == unit.node && !$0.isMember }
    }

    /// A daemon that does not run, or that somebody took out of service; of a node that is away that is no news.
    private static func daemons(of application: ApplicationStatus, in report: StatusReport) -> [String] {
        var found: [String] = []
        let away = Set(report.nodes.filter { !$0.isMember }.map(\.name))
        for unit in application.serviceGroups.flatMap(\.serviceUnits) where !away.contains(unit.node) {
            let place = report.nodes.count > 1 ? " on \(unit.node)" : ""
            let absent = unit.components.filter { $0.presenceState != .instantiated }
            for daemon in absent { found.append("\(daemon.name)\(place) is \(daemon.presenceState.word)") }
            let names = unit.components.map(\.name).joined(separator: ", ")
            if unit.adminState != .unlocked {
                found.append("\(names) is \(unit.adminState.word)")
            } else if absent.isEmpty {
                found += states(of: unit, called: names)
            }
        }
        return found + locks(of: application)
    }

    private static func locks(of application: ApplicationStatus) -> [String] {
        var locked: [(String, AdminState)] = [(application.name, application.adminState)]
        locked += application.serviceGroups.map { ($0.name, $0.adminState) }
        locked += application.serviceInstances.map { ($0.name, $0.adminState) }
        return locked.filter { $0.1 != .unlocked }.map { "\($0.0) is \($0.1.word)" }
    }

    private static func states(of unit: ServiceUnitStatus, called name: String? = nil) -> [String] {
        let name = name ?? unit.name
        if unit.adminState != .unlocked { return ["\(name) is \(unit.adminState.word)"] }
        if unit.operationalState == .disabled {
            let reason = unit.components.first { $0.operationalState == .disabled }?.lastError ?? ""
            return ["\(name) is disabled" + (reason.isEmpty ? "" : ": \(reason)")]
        }
        return unit.readinessState == .inService ? [] : ["\(name) is \(unit.readinessState.word)"]
    }
}

extension StatusReport {
    /// How people call it, also one that is in no model.
    func nodeName(_ id: NodeID) -> String { nodes.first { $0.id == id }?.name ?? "node \(id)" }

    /// The node that answers, if its lease is over: what may be active there stands still.
    var stoppedNode: NodeStatus? { nodes.first { $0.lease == .over } }
}
