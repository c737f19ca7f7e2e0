import SAFTypes

/// One thing that is wrong with a model.
public struct ModelError: Hashable, Sendable {
    /// Where, by the model's own keys: `applications[0].serviceGroups[1].serviceUnits[0].node`.
    public var path: String
    /// The entity's distinguished name.
    public var dn: String
    /// What was expected, what was found, what to do.
    public var message: String
    public init(path: String, dn: String, message: String) {
        (self.path, self.dn, self.message) = (path, dn, message)
    }
}

extension ModelError: CustomStringConvertible {
    public var description: String { "\(dn): \(message)" }
}

extension AmfModel {
    /// Every error, in the order of the model; empty when the model can be run.
    public func validate() -> [ModelError] {
        var validation = Validation(model: self)
        validation.run()
        return validation.errors
    }
}

private struct Validation {
    let model: AmfModel
    var errors: [ModelError] = []

    init(model: AmfModel) { self.model = model }

    mutating func run() {
        let cluster = DN.cluster(model.cluster)
        checkName(model.cluster, "cluster", cluster)
        check(model.startupTimeout, in: .zero ... .seconds(3600), "startupTimeout", cluster)
        if model.daemonHealthcheckPeriod != .zero {
            check(
                model.daemonHealthcheckPeriod, in: .milliseconds(100) ... .seconds(86_400), "daemonHealthcheckPeriod",
                cluster)
        }
        if model.nodes.isEmpty { add("nodes", cluster, "there is no node; list at least this one") }
        checkUnique(model.nodes.map(\.name), "nodes", cluster, "node")
        for (index, node) in model.nodes.enumerated() { checkNode(node, index) }
        checkUnique(model.applications.map(\.name), "applications", cluster, "application")
        for (index, application) in model.applications.enumerated() {
            checkApplication(application, "applications[\(index)]")
        }
        checkDependencyCycles()
    }

    private mutating func checkNode(_ node: NodeModel, _ index: Int) {
        let path = "nodes[\(index)]"
        let dn = DN.node(node.name, cluster: model.cluster)
        checkName(node.name, "\(path).name", dn)
        if node.id.rawValue == 0 { add("\(path).id", dn, "node id 0; 1…4294967295 expected") }
        if let first = model.nodes.firstIndex(where: { $0.id == node.id }), first < index {
            add("\(path).id", dn, "node id \(node.id) belongs to node \(model.nodes[first].name) already")
        }
        check(node.suFailoverProbation, in: .zero ... .seconds(86400), "\(path).suFailoverProbation", dn)
    }

    private mutating func checkApplication(_ application: ApplicationModel, _ path: String) {
        let dn = DN.application(application.name)
        checkName(application.name, "\(path).name", dn)
        checkUnique(application.serviceGroups.map(\.name), "\(path).serviceGroups", dn, "service group")
        checkUnique(application.serviceInstances.map(\.name), "\(path).serviceInstances", dn, "service instance")
        for (index, group) in application.serviceGroups.enumerated() {
            checkGroup(group, application, "\(path).serviceGroups[\(index)]")
        }
        for (index, instance) in application.serviceInstances.enumerated() {
            checkInstance(instance, application, "\(path).serviceInstances[\(index)]")
        }
    }

    // MARK: - Service groups

    private mutating func checkGroup(_ group: ServiceGroupModel, _ application: ApplicationModel, _ path: String) {
        let dn = DN.serviceGroup(group.name, in: DN.application(application.name))
        checkName(group.name, "\(path).name", dn)
        switch group.redundancyModel {
        case .twoN, .noRedundancy: break
        case .nPlusM, .nWay, .nWayActive:
            add(
                "\(path).redundancyModel", dn,
                "redundancy model \(group.redundancyModel.word) is not available; use 2n or no-redundancy")
        }
        let probation = Duration.zero ... .seconds(86400)
        check(group.componentRestartProbation, in: probation, "\(path).componentRestartProbation", dn)
        check(group.suRestartProbation, in: probation, "\(path).suRestartProbation", dn)
        if group.bootLevel == 0 { add("\(path).bootLevel", dn, "boot level 0; 1…255 expected") }
        if group.serviceUnits.isEmpty { add("\(path).serviceUnits", dn, "the service group has no service unit") }
        checkUnique(group.serviceUnits.map(\.name), "\(path).serviceUnits", dn, "service unit")
        for (index, unit) in group.serviceUnits.enumerated() {
            checkUnit(unit, dn, "\(path).serviceUnits[\(index)]")
        }
    }

    private mutating func checkUnit(_ unit: ServiceUnitModel, _ group: SaName, _ path: String) {
        let dn = DN.serviceUnit(unit.name, in: group)
        checkName(unit.name, "\(path).name", dn)
        if !model.nodes.contains(where: { $0.name == unit.node }) {
            let known = model.nodes.map(\.name).joined(separator: ", ")
            add("\(path).node", dn, "node \(quoted(unit.node)) does not exist; known: \(known)")
        }
        if unit.components.isEmpty { add("\(path).components", dn, "the service unit has no component") }
        checkUnique(unit.components.map(\.name), "\(path).components", dn, "component")
        for (index, component) in unit.components.enumerated() {
            checkComponent(component, dn, "\(path).components[\(index)]")
        }
    }

    private mutating func checkComponent(_ component: ComponentModel, _ unit: SaName, _ path: String) {
        let dn = DN.component(component.name, in: unit)
        checkName(component.name, "\(path).name", dn)
        if dn.bytes.count == SaName.lengthMax {
            add("\(path).name", dn, "the distinguished name reaches \(SaName.lengthMax) octets; use shorter names")
        }
        if component.command.isEmpty { add("\(path).command", dn, "no command; the path of the program is expected") }
        checkTimeouts(component, dn, path)
        for (index, variable) in component.environment.enumerated() {
            if variable.name.isEmpty || variable.name.utf8.contains(UInt8(ascii: "=")) {
                add(
                    "\(path).environment[\(index)]", dn,
                    "\(quoted(variable.name)) is no name of an environment variable")
            }
        }
        for (index, limit) in component.limits.enumerated() where limit.soft > limit.hard {
            add("\(path).limits[\(index)]", dn, "the soft limit \(limit.soft) is above the hard limit \(limit.hard)")
        }
        switch component.recoveryOnError {
        case .componentRestart, .componentFailover, .nodeSwitchover, .nodeFailover, .nodeFailfast: break
        case .noRecommendation, .clusterReset, .applicationRestart, .containerRestart:
            add(
                "\(path).recoveryOnError", dn,
                "\(component.recoveryOnError.word) is not available; use component-restart, component-failover, "
                    + "node-switchover, node-failover or node-failfast")
        }
        checkUnique(component.csiTypes.map(\.name), "\(path).csiTypes", dn, "CSI type")
        for (index, type) in component.csiTypes.enumerated() {
            checkName(type.name, "\(path).csiTypes[\(index)].name", dn)
        }
        checkUnique(component.healthchecks.map(\.key), "\(path).healthchecks", dn, "health check")
        for (index, healthcheck) in component.healthchecks.enumerated() {
            checkHealthcheck(healthcheck, dn, "\(path).healthchecks[\(index)]")
        }
    }

    private mutating func checkTimeouts(_ component: ComponentModel, _ dn: SaName, _ path: String) {
        let timeouts = component.timeouts
        let allowed = Duration.milliseconds(10) ... .seconds(86400)
        check(timeouts.instantiate, in: allowed, "\(path).timeouts.instantiate", dn)
        check(timeouts.terminate, in: allowed, "\(path).timeouts.terminate", dn)
        check(timeouts.cleanup, in: allowed, "\(path).timeouts.cleanup", dn)
        check(timeouts.csiSet, in: allowed, "\(path).timeouts.csiSet", dn)
        check(timeouts.csiRemove, in: allowed, "\(path).timeouts.csiRemove", dn)
        check(timeouts.quiescingComplete, in: allowed, "\(path).timeouts.quiescingComplete", dn)
        check(component.instantiateDelay, in: .zero ... .seconds(86400), "\(path).instantiateDelay", dn)
        if component.instantiateWithoutDelayMax == 0 && component.instantiateWithDelayMax == 0 {
            add(
                "\(path).instantiateWithoutDelayMax", dn,
                "no attempt to instantiate is allowed; 1 or more expected here or in instantiateWithDelayMax")
        }
    }

    private mutating func checkHealthcheck(_ healthcheck: HealthcheckModel, _ dn: SaName, _ path: String) {
        let length = healthcheck.key.utf8.count
        if length == 0 || length > Limits.healthcheckKeyMax {
            add(
                "\(path).key", dn,
                "the key \(quoted(healthcheck.key)) has \(length) octets; 1…\(Limits.healthcheckKeyMax) expected")
        }
        let allowed = Duration.milliseconds(10) ... .seconds(86400)
        check(healthcheck.period, in: allowed, "\(path).period", dn)
        check(healthcheck.maxDuration, in: allowed, "\(path).maxDuration", dn)
    }

    // MARK: - Service instances

    private mutating func checkInstance(
        _ instance: ServiceInstanceModel, _ application: ApplicationModel, _ path: String
    ) {
        let dn = DN.serviceInstance(instance.name, in: DN.application(application.name))
        checkName(instance.name, "\(path).name", dn)
        if instance.adminState == .lockedInstantiation || instance.adminState == .shuttingDown {
            add(
                "\(path).adminState", dn,
                "\(instance.adminState.word) is no state a service instance starts in; use unlocked or locked")
        }
        let group = application.serviceGroups.first { $0.name == instance.serviceGroup }
        if group == nil {
            let known = application.serviceGroups.map(\.name).joined(separator: ", ")
            add(
                "\(path).serviceGroup", dn,
                instance.serviceGroup.isEmpty
                    ? "no service group protects it; name one of \(application.name): \(known)"
                    : "\(quoted(instance.serviceGroup)) is no service group of \(application.name); known: \(known)"
            )
        }
        if instance.csis.isEmpty { add("\(path).csis", dn, "the service instance has no CSI") }
        checkUnique(instance.csis.map(\.name), "\(path).csis", dn, "CSI")
        for (index, csi) in instance.csis.enumerated() {
            checkCSI(csi, instance, group, dn, "\(path).csis[\(index)]")
        }
        checkCSICycle(instance, dn, path)
        for (index, dependency) in instance.dependencies.enumerated() {
            if sponsor(dependency.sponsor, application) == nil {
                add(
                    "\(path).dependencies[\(index)].sponsor", dn,
                    "service instance \(quoted(dependency.sponsor)) does not exist; give a name in "
                        + "\(application.name) or a DN like safSi=name,safApp=name")
            }
        }
    }

    private mutating func checkCSI(
        _ csi: CSIModel, _ instance: ServiceInstanceModel, _ group: ServiceGroupModel?, _ parent: SaName, _ path: String
    ) {
        let dn = DN.csi(csi.name, in: parent)
        checkName(csi.name, "\(path).name", dn)
        for unit in group?.serviceUnits ?? [] {
            let isSupported = unit.components.contains { $0.csiTypes.contains { $0.name == csi.type } }
            if !isSupported {
                add(
                    "\(path).type", dn,
                    "no component of service unit \(unit.name) supports the CSI type \(quoted(csi.type)); "
                        + "add it to csiTypes of one")
            }
        }
        for (index, attribute) in csi.attributes.enumerated() where attribute.name.isEmpty {
            add("\(path).attributes[\(index)]", dn, "an attribute has no name")
        }
        for (index, dependency) in csi.dependencies.enumerated() {
            if !instance.csis.contains(where: { $0.name == dependency }) {
                add(
                    "\(path).dependencies[\(index)]", dn,
                    "CSI \(quoted(dependency)) does not exist in service instance \(instance.name)")
            }
        }
    }

    private mutating func checkCSICycle(_ instance: ServiceInstanceModel, _ dn: SaName, _ path: String) {
        var open = Array(instance.csis.indices)
        while let free = open.first(where: { index in
            instance.csis[index].dependencies.allSatisfy { name in
                !open.contains { instance.csis[$0].name == name && $0 != index || name == instance.csis[index].name }
            }
        }) {
            open.removeAll { $0 == free }
        }
        guard let first = open.first else { return }
        let names = open.map { instance.csis[$0].name }.joined(separator: ", ")
        add("\(path).csis[\(first)].dependencies", dn, "CSIs depend on each other in a circle: \(names)")
    }

    /// The (application, instance) that a dependency names.
    private func sponsor(_ name: String, _ application: ApplicationModel) -> String? {
        if application.serviceInstances.contains(where: { $0.name == name }) {
            return DN.serviceInstance(name, in: DN.application(application.name)).description
        }
        for other in model.applications {
            for instance in other.serviceInstances {
                let dn = DN.serviceInstance(instance.name, in: DN.application(other.name)).description
                if dn == name { return dn }
            }
        }
        return nil
    }

    private mutating func checkDependencyCycles() {
        var open: [(dn: String, path: String, sponsors: [String])] = []
        for (index, application) in model.applications.enumerated() {
            for (number, instance) in application.serviceInstances.enumerated() {
                let dn = DN.serviceInstance(instance.name, in: DN.application(application.name)).description
                let sponsors = instance.dependencies.compactMap { sponsor($0.sponsor, application) }
                open.append((dn, "applications[\(index)].serviceInstances[\(number)]", sponsors))
            }
        }
        while let free = open.firstIndex(where: { entry in
            !entry.sponsors.contains { name in open.contains { $0.dn == name } }
        }) {
            open.remove(at: free)
        }
        guard let first = open.first else { return }
        let names = open.map(\.dn).joined(separator: "; ")
        errors.append(
            ModelError(
                path: "\(first.path).dependencies", dn: first.dn,
                message: "service instances depend on each other in a circle, or on one: \(names)"))
    }

    // MARK: - Helpers

    private mutating func add(_ path: String, _ dn: SaName, _ message: String) {
        errors.append(ModelError(path: path, dn: dn.description, message: message))
    }

    private mutating func checkName(_ name: String, _ path: String, _ dn: SaName) {
        if !DN.isLegalValue(name) {
            add(path, dn, "\(quoted(name)) is no legal name; 1…64 printable octets expected")
        }
    }

    private mutating func checkUnique(_ names: [String], _ path: String, _ dn: SaName, _ kind: String) {
        for (index, name) in names.enumerated() where names[..<index].contains(name) {
            add("\(path)[\(index)]", dn, "\(kind) \(quoted(name)) exists already; names must be unique")
        }
    }

    private mutating func check(
        _ duration: Duration, in range: ClosedRange<Duration>, _ path: String, _ dn: SaName
    ) {
        if !range.contains(duration) {
            add(path, dn, "\(duration) is out of range; \(range.lowerBound)…\(range.upperBound) expected")
        }
    }

    private func quoted(_ text: String) -> String { "\"\(text)\"" }
}
