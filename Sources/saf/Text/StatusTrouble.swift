import AmfProtocol

/// What an operator should look at first, most serious first.
enum StatusTrouble {
    static func all(in report: StatusReport) -> [String] {
        var found = report.problems
        let applications = report.applications
        for node in report.nodes where !node.isMember { found.append("node \(node.name) is not a member") }
        for node in report.nodes where node.operationalState == .disabled {
            found.append("node \(node.name) is disabled")
        }
        let daemons = applications.filter(\.isMiddleware).flatMap(\.serviceGroups).flatMap(\.serviceUnits)
        for daemon in daemons.flatMap(\.components) where daemon.presenceState != .instantiated {
            found.append("\(daemon.name) is \(daemon.presenceState.word)")
        }
        for application in applications where !application.isMiddleware {
            for instance in application.serviceInstances where instance.assignmentState != .fullyAssigned {
                found.append("\(instance.name) is \(instance.assignmentState.word)")
            }
            for unit in application.serviceGroups.flatMap(\.serviceUnits) {
                if unit.operationalState == .disabled {
                    let reason = unit.components.first { $0.operationalState == .disabled }?.lastError ?? ""
                    found.append("\(unit.name) is disabled" + (reason.isEmpty ? "" : ": \(reason)"))
                } else if unit.readinessState != .inService {
                    found.append("\(unit.name) is \(unit.readinessState.word)")
                }
            }
        }
        return found
    }
}
