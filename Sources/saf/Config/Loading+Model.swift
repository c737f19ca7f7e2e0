import AmfProtocol
import SAFTypes

/// Those that there are in this release.
private let redundancyWords: [(String, RedundancyModel)] = [RedundancyModel.twoN, .noRedundancy].map { ($0.word, $0) }

/// What an application's parts share while it is read.
struct ApplicationContext {
    let file: String
    let path: String
    /// The component types of the file, by name.
    let types: [String: NamedNode]
    /// What was given as `components` or `csiTypes`, to tell what a CSI's type may be: by group name.
    var csiTypes: [String: [String]] = [:]
    var groupNames: [String] = []
}

extension Loading {
    /// One `model/*.yaml`: one application, or several under `applications`.
    func loadModel(_ source: ConfigSource) {
        guard let root = read(source) else {
            if !diagnostics.errors.contains(where: { $0.file == source.file }) {
                diagnostics.report(
                    source.file, .init(line: 1, column: 1),
                    "the file is empty; 'application: NAME' and 'serviceGroups' expected")
            }
            return
        }
        let map = MapReader(root, what: "model", file: source.file, at: root.position, diagnostics)
        var types: [String: NamedNode] = [:]
        for type in map.named("componentTypes") ?? [] {
            types[type.name] = type
            checkType(type, file: source.file)
        }
        let single = map.text("application")
        let several = map.named("applications")
        if let single {
            let application = NamedNode(name: single, position: map.position(of: "application"), body: nil)
            loadApplication(application, map, file: source.file, types: types)
            if several != nil {
                map.report(
                    map.position(of: "applications"), "either 'application' or 'applications' expected, both found")
            }
        } else if let several {
            for application in several {
                let what = "application '\(application.name)'"
                let inner = MapReader(
                    application.body, what: what, file: source.file, at: application.position, diagnostics)
                loadApplication(application, inner, file: source.file, types: types)
                inner.finish()
            }
        } else if case .map = root.value {
            // Asked for so that they are not called unknown besides.
            for key in ["adminState", "serviceGroups", "serviceInstances"] { _ = map.node(key) }
            map.report(root.position, "the key 'application' with the application's name is missing")
        }
        map.finish()
    }

    private func checkType(_ type: NamedNode, file: String) {
        let map = MapReader(
            type.body, what: "component type '\(type.name)'", file: file, at: type.position, diagnostics)
        _ = component(named: type.name, from: map)
        map.finish()
    }

    private func loadApplication(_ named: NamedNode, _ map: MapReader, file: String, types: [String: NamedNode]) {
        let index = model.applications.count
        if let first = model.applications.firstIndex(where: { $0.name == named.name }),
            let place = place(of: "applications[\(first)]")
        {
            map.report(
                named.position,
                "application '\(named.name)' is given twice (first in \(place.file), line \(place.position.line))")
        }
        var context = ApplicationContext(file: file, path: "applications[\(index)]", types: types)
        note(context.path, file, named.position)
        var application = ApplicationModel(name: named.name)
        if let state: AdminState = map.word("adminState", adminWords) { application.adminState = state }
        if MiddlewareModel.isMiddleware(named.name) {
            map.report(named.position, "the name belongs to the middleware; choose another")
        }
        let groups = map.named("serviceGroups") ?? []
        context.groupNames = groups.map(\.name)
        if groups.isEmpty { map.report(named.position, "the key 'serviceGroups' with at least one group is missing") }
        for group in groups { loadGroup(group, into: &application, &context) }
        for instance in map.named("serviceInstances") ?? [] {
            loadInstance(instance, of: nil, into: &application, context)
        }
        model.applications.append(application)
    }

    private func loadGroup(
        _ named: NamedNode, into application: inout ApplicationModel, _ context: inout ApplicationContext
    ) {
        let path = "\(context.path).serviceGroups[\(application.serviceGroups.count)]"
        note(path, context.file, named.position)
        let what = "service group '\(named.name)'"
        let map = MapReader(named.body, what: what, file: context.file, at: named.position, diagnostics)
        var group = ServiceGroupModel(name: named.name, .twoN)
        readGroup(map, into: &group)
        let shared = map.node("components")
        let units = map.named("serviceUnits", counted: "SU") ?? []
        if units.isEmpty {
            map.report(named.position, "the key 'serviceUnits' (a number, or names) is missing")
        }
        for (index, unit) in units.enumerated() {
            let unitPath = "\(path).serviceUnits[\(index)]"
            group.serviceUnits.append(loadUnit(unit, rank: index + 1, shared: shared, path: unitPath, context))
        }
        var types: [String] = []
        for type in group.serviceUnits.flatMap(\.components).flatMap(\.csiTypes) where !types.contains(type.name) {
            types.append(type.name)
        }
        context.csiTypes[named.name] = types
        application.serviceGroups.append(group)
        for instance in map.named("serviceInstances") ?? [] {
            loadInstance(instance, of: named.name, into: &application, context)
        }
        map.finish()
    }

    private func readGroup(_ map: MapReader, into group: inout ServiceGroupModel) {
        if let model: RedundancyModel = map.word("redundancyModel", redundancyWords) { group.redundancyModel = model }
        if let state: AdminState = map.word("adminState", adminWords) { group.adminState = state }
        if let flag = map.flag("autoRepair") { group.autoRepair = flag }
        if let flag = map.flag("autoAdjust") { group.autoAdjust = flag }
        if let time = map.duration("autoAdjustProbation", probationRange) { group.autoAdjustProbation = time }
        let units: ClosedRange<UInt32> = 0...256
        if let count = map.number("preferredInServiceSUs", units) { group.preferredInServiceSUs = count }
        if let count = map.number("preferredAssignedSUs", units) { group.preferredAssignedSUs = count }
        if let count = map.number("preferredActiveSUs", units) { group.preferredActiveSUs = count }
        if let count = map.number("preferredStandbySUs", units) { group.preferredStandbySUs = count }
        let many: ClosedRange<UInt32> = 0...1_000_000
        if let count = map.number("maxActiveSIsPerSU", many) { group.maxActiveSIsPerSU = count }
        if let count = map.number("maxStandbySIsPerSU", many) { group.maxStandbySIsPerSU = count }
        if let count = map.number("componentRestartMax", many) { group.componentRestartMax = count }
        if let time = map.duration("componentRestartProbation", probationRange) {
            group.componentRestartProbation = time
        }
        if let count = map.number("suRestartMax", many) { group.suRestartMax = count }
        if let time = map.duration("suRestartProbation", probationRange) { group.suRestartProbation = time }
        let levels = ServiceGroupModel.applicationBootLevel...UInt8.max
        if let level = map.number("bootLevel", levels) { group.bootLevel = level }
    }

    private func loadUnit(
        _ named: NamedNode, rank: Int, shared: ConfigNode?, path: String, _ context: ApplicationContext
    ) -> ServiceUnitModel {
        note(path, context.file, named.position)
        let map = MapReader(
            named.body, what: "service unit '\(named.name)'", file: context.file, at: named.position, diagnostics)
        // Over all nodes in turn; on every node the same, so that all have one model.
        let count = model.nodes.count
        let node = count == 0 ? environment.nodeName : model.nodes[(rank - 1) % count].name
        var unit = ServiceUnitModel(name: named.name, node: node, rank: UInt32(rank))
        if let rank: UInt32 = map.number("rank", 0...1_000_000) { unit.rank = rank }
        if let state: AdminState = map.word("adminState", adminWords) { unit.adminState = state }
        if let node = map.text("node") {
            unit.node = node
            note("\(path).node", context.file, map.position(of: "node"))
        }
        if let flag = map.flag("failover") { unit.failover = flag }
        let components = (map.node("components") ?? shared).map { map.named($0, called: "components") } ?? []
        if components.isEmpty {
            map.report(named.position, "no components: give 'components' to the service unit or to its service group")
        }
        for (index, component) in components.enumerated() {
            unit.components.append(
                loadComponent(
                    component, path: "\(path).components[\(index)]", isHere: unit.node == environment.nodeName, context)
            )
        }
        map.finish()
        return unit
    }

    private func loadComponent(
        _ named: NamedNode, path: String, isHere: Bool, _ context: ApplicationContext
    ) -> ComponentModel {
        note(path, context.file, named.position)
        let (type, body) = componentType(of: named, context)
        let map = MapReader(
            body, what: "component '\(named.name)'", file: context.file, at: named.position, inheriting: type?.body,
            diagnostics)
        var component = component(named: named.name, from: map)
        if map.node("command") == nil {
            map.report(named.position, "the key 'command' (the program) is missing, here and in a component type")
        } else {
            note("\(path).command", context.file, map.position(of: "command"))
        }
        if isHere { checkMachine(component, map) }
        if component.csiTypes.isEmpty { component.csiTypes = [SupportedCSIType(type?.name ?? named.name)] }
        map.finish()
        return component
    }

    /// The type a component names by `type:`, by being nothing but the type's name, or by having its name.
    private func componentType(of named: NamedNode, _ context: ApplicationContext) -> (NamedNode?, ConfigNode?) {
        var wanted: (name: String, position: SourcePosition)?
        var body = named.body
        switch named.body?.value {
        case .scalar(let text, _)?:
            wanted = (text, named.body?.position ?? named.position)
            body = nil
        case .map(let entries)?:
            guard let entry = entries.first(where: { $0.key == "type" }) else { break }
            body = ConfigNode(
                value: .map(entries.filter { $0.key != "type" }), position: named.body?.position ?? named.position)
            guard case .scalar(let text, _) = entry.value.value else {
                diagnostics.report(
                    context.file, entry.value.position,
                    "component '\(named.name)': type: the name of a component type expected, \(entry.value.kind) found")
                break
            }
            wanted = (text, entry.value.position)
        case .null?, nil: if context.types[named.name] != nil { wanted = (named.name, named.position) }
        case .list?: break
        }
        guard let wanted else { return (nil, body) }
        if let type = context.types[wanted.name] { return (type, body) }
        let known = context.types.keys.sorted()
        let list =
            known.isEmpty ? "none is defined under 'componentTypes'" : "defined: \(known.joined(separator: ", "))"
        diagnostics.report(
            context.file, wanted.position,
            "component '\(named.name)': component type '\(wanted.name)' does not "
                + "exist\(hint(wanted.name, among: known)) (\(list))"
        )
        return (nil, body)
    }
}
