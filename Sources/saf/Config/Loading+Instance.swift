import AmfProtocol
import SAFTypes

extension Loading {
    /// - Parameter group: the service group in which it is written, when it is.
    func loadInstance(
        _ named: NamedNode, of group: String?, into application: inout ApplicationModel, _ context: ApplicationContext
    ) {
        let path = "\(context.path).serviceInstances[\(application.serviceInstances.count)]"
        note(path, context.file, named.position)
        let map = MapReader(
            named.body, what: "service instance '\(named.name)'", file: context.file, at: named.position, diagnostics)
        var instance = ServiceInstanceModel(name: named.name, serviceGroup: "")
        instance.serviceGroup = protectingGroup(map, writtenIn: group, path: path, context)
        if let rank: UInt32 = map.number("rank", 0...1_000_000) { instance.rank = rank }
        if let state: AdminState = map.word("adminState", adminWords.filter { $0.1 != .lockedInstantiation }) {
            instance.adminState = state
        }
        if let count: UInt32 = map.number("preferredActiveAssignments", 1...256) {
            instance.preferredActiveAssignments = count
        }
        if let count: UInt32 = map.number("preferredStandbyAssignments", 0...256) {
            instance.preferredStandbyAssignments = count
        }
        for (index, sponsor) in (map.named("dependencies") ?? []).enumerated() {
            note("\(path).dependencies[\(index)]", context.file, sponsor.position)
            let inner = MapReader(
                sponsor.body, what: "\(map.what), dependency on '\(sponsor.name)'", file: context.file,
                at: sponsor.position,
                diagnostics)
            let tolerance = inner.duration("toleranceTime", .zero ... .seconds(3_600)) ?? .zero
            instance.dependencies.append(SIDependencyModel(sponsor: sponsor.name, toleranceTime: tolerance))
            inner.finish()
        }
        let csis = map.named("csis") ?? [NamedNode(name: named.name, position: named.position, body: nil)]
        for (index, csi) in csis.enumerated() {
            let csiPath = "\(path).csis[\(index)]"
            instance.csis.append(loadCSI(csi, of: instance, path: csiPath, context))
        }
        map.finish()
        if let earlier = application.serviceInstances.first(where: { $0.name == named.name }),
            group != nil || earlier.serviceGroup != ""
        {
            map.report(named.position, "the name is given twice in application '\(application.name)'")
        }
        application.serviceInstances.append(instance)
    }

    private func protectingGroup(
        _ map: MapReader, writtenIn group: String?, path: String, _ context: ApplicationContext
    ) -> String {
        if let group {
            if let given = map.text("serviceGroup"), given != group {
                map.report(
                    map.position(of: "serviceGroup"), "serviceGroup: it is written inside '\(group)'; '\(given)' found")
            }
            return group
        }
        if let given = map.text("serviceGroup") {
            let position = map.position(of: "serviceGroup")
            note("\(path).serviceGroup", context.file, position)
            if !context.groupNames.contains(given) {
                let known = context.groupNames.joined(separator: ", ")
                map.report(
                    position,
                    "serviceGroup: '\(given)' does not exist\(hint(given, among: context.groupNames)) (groups: "
                        + "\(known))"
                )
            }
            return given
        }
        if context.groupNames.count == 1 { return context.groupNames[0] }
        let known = context.groupNames.joined(separator: ", ")
        map.report(
            map.position, "the key 'serviceGroup' is missing; one of \(known.isEmpty ? "the groups" : known) expected")
        return ""
    }

    private func loadCSI(
        _ named: NamedNode, of instance: ServiceInstanceModel, path: String, _ context: ApplicationContext
    ) -> CSIModel {
        note(path, context.file, named.position)
        let map = MapReader(
            named.body, what: "CSI '\(named.name)' of service instance '\(instance.name)'", file: context.file,
            at: named.position, diagnostics)
        var csi = CSIModel(name: named.name, type: "")
        let types = context.csiTypes[instance.serviceGroup] ?? []
        if let type = map.text("type") {
            csi.type = type
            note("\(path).type", context.file, map.position(of: "type"))
            if !types.isEmpty, !types.contains(type) {
                map.report(
                    map.position(of: "type"),
                    "type: no component of service group '\(instance.serviceGroup)' supports "
                        + "'\(type)'\(hint(type, among: types)) "
                        + "(supported: \(types.joined(separator: ", ")))")
            }
        } else if types.count == 1 {
            csi.type = types[0]
        } else if types.contains(named.name) {
            csi.type = named.name
        } else if !types.isEmpty {
            map.report(named.position, "the key 'type' is missing; one of \(types.joined(separator: ", ")) expected")
        }
        if let rank: UInt32 = map.number("rank", 0...1_000_000) { csi.rank = rank }
        for (index, dependency) in (map.texts("dependencies") ?? []).enumerated() {
            note("\(path).dependencies[\(index)]", context.file, dependency.position)
            csi.dependencies.append(dependency.text)
        }
        csi.attributes = attributes(map)
        map.finish()
        return csi
    }

    /// `attributes: { name: value, other: [value, value] }`.
    private func attributes(_ map: MapReader) -> [CSIAttribute] {
        guard let node = map.node("attributes") else { return [] }
        guard case .map(let entries) = node.value else {
            map.report(node.position, "attributes: a map of names and values expected, \(node.kind) found")
            return []
        }
        var attributes: [CSIAttribute] = []
        for entry in entries {
            switch entry.value.value {
            case .scalar(let text, _): attributes.append(CSIAttribute(entry.key, text))
            case .null: attributes.append(CSIAttribute(entry.key, ""))
            case .list(let values):
                for value in values {
                    if let text = map.text(value, called: "attributes.\(entry.key)") {
                        attributes.append(CSIAttribute(entry.key, text))
                    }
                }
            case .map:
                map.report(
                    entry.value.position, "attributes.\(entry.key): a text or a list of texts expected, a map found")
            }
        }
        return attributes
    }
}
