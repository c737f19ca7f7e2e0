import AmfProtocol
import EngineKit
import SAFTypes

extension ClusterEngine {
    /// Everything `saf status` shows.
    ///
    /// - Parameters:
    ///   - now: the engine's time…
    ///   - wall: …and UTC at that moment, for the times of errors; 0: they are left out.
    public func status(at now: Instant = .start, wall: SaTime = 0) -> StatusReport {
        var report = StatusReport()
        report.cluster = model.cluster
        report.adminState = adminState
        report.nodes = nodes.map(status)
        report.applications = applications.map(status)
        if wall != 0 { addErrorTimes(to: &report, now, wall) }
        return report
    }

    private func addErrorTimes(to report: inout StatusReport, _ now: Instant, _ wall: SaTime) {
        for application in report.applications.indices {
            for group in report.applications[application].serviceGroups.indices {
                for unit in report.applications[application].serviceGroups[group].serviceUnits.indices {
                    let all = report.applications[application].serviceGroups[group].serviceUnits[unit].components
                    for (index, status) in all.enumerated() where !status.lastError.isEmpty {
                        guard case .component(let component) = positions[status.dn] else { continue }
                        let age = now - Instant(nanoseconds: components[component].run.lastErrorAt)
                        report.applications[application].serviceGroups[group].serviceUnits[unit].components[index]
                            .lastErrorAt = wall - age.wholeNanoseconds
                    }
                }
            }
        }
    }

    private func status(_ node: NodeEntity) -> NodeStatus {
        var status = NodeStatus()
        status.dn = node.name
        status.name = node.model.name
        status.id = node.model.id
        status.isMember = node.run.isMember
        status.adminState = node.run.adminState
        status.operationalState = node.run.isMember && !node.run.isDisabled ? .enabled : .disabled
        status.suFailovers = node.run.suFailovers.count
        return status
    }

    private func status(_ application: ApplicationEntity) -> ApplicationStatus {
        var status = ApplicationStatus()
        status.dn = application.name
        status.name = application.model.name
        status.adminState = application.run.adminState
        status.isMiddleware = MiddlewareModel.isMiddleware(application.model.name)
        status.serviceGroups = application.groups.map { group in
            var status = ServiceGroupStatus()
            status.dn = groups[group].name
            status.name = groups[group].model.name
            status.adminState = groups[group].run.adminState
            status.redundancyModel = groups[group].model.redundancyModel
            status.serviceUnits = groups[group].units.map(unitStatus)
            return status
        }
        status.serviceInstances = application.groups.flatMap { groups[$0].instances }.map(instanceStatus)
        return status
    }

    private func unitStatus(_ unit: Int) -> ServiceUnitStatus {
        let entity = units[unit]
        var status = ServiceUnitStatus()
        status.dn = entity.name
        status.name = entity.model.name
        status.node = entity.model.node
        status.rank = entity.model.rank
        status.adminState = entity.run.adminState
        status.operationalState = operational(entity.run.isDisabled)
        status.presenceState = presence(ofUnit: unit)
        status.readinessState = readiness(ofUnit: unit)
        status.components = entity.components.map(componentStatus)
        return status
    }

    private func componentStatus(_ component: Int) -> ComponentStatus {
        let entity = components[component]
        var status = ComponentStatus()
        status.dn = entity.name
        status.name = entity.model.name
        status.presenceState = entity.run.presence
        status.operationalState = operational(entity.run.isDisabled)
        status.readinessState = readiness(ofComponent: component)
        status.pid = entity.run.isDead ? 0 : entity.run.pid
        status.startedAt = entity.run.isDead ? 0 : entity.run.startedAt
        status.restarts = entity.run.starts > 0 ? entity.run.starts - 1 : 0
        status.lastError = entity.run.lastError
        status.assignments = entity.run.assignments.compactMap { assignment in
            assignment.state.map { HeldAssignment(csi: csis[Int(assignment.csi)].name, $0) }
        }
        return status
    }

    private func instanceStatus(_ instance: Int) -> ServiceInstanceStatus {
        let entity = instances[instance]
        var status = ServiceInstanceStatus()
        status.dn = entity.name
        status.name = entity.model.name
        status.serviceGroup = entity.model.serviceGroup
        status.adminState = entity.run.adminState
        status.assignmentState = assignmentState(of: instance)
        for unit in groups[entity.group].units {
            guard let haState = haState(of: instance, in: unit) else { continue }
            var assignment = SUAssignmentStatus()
            assignment.serviceUnit = units[unit].name
            assignment.haState = haState
            assignment.isChanging = units[unit].components.contains { components[$0].run.pending != nil }
            status.assignments.append(assignment)
        }
        status.csis = entity.csis.map { csi in
            var status = CSIStatus()
            status.dn = csis[csi].name
            status.name = csis[csi].model.name
            status.type = csis[csi].model.type
            for component in groups[entity.group].units.flatMap({ units[$0].components }) {
                for held in components[component].run.assignments where Int(held.csi) == csi {
                    guard let state = held.state else { continue }
                    var assignment = CSIAssignmentStatus()
                    assignment.component = components[component].name
                    assignment.haState = state
                    status.assignments.append(assignment)
                }
            }
            return status
        }
        return status
    }
}
