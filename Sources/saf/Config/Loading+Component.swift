import AmfProtocol
import SAFTypes

private let categoryWords: [(String, ComponentCategory)] = [("sa-aware", .saAware), ("non-sa-aware", .nonSaAware)]
private let capabilityWords: [(String, CapabilityModel)] = [
    ("x-active-and-y-standby", .xActiveAndYStandby), ("x-active-or-y-standby", .xActiveOrYStandby),
    ("1-active-or-y-standby", .oneActiveOrYStandby), ("1-active-or-1-standby", .oneActiveOrOneStandby),
    ("x-active", .xActive), ("1-active", .oneActive), ("non-pre-instantiable", .nonPreInstantiable),
]
private let recoveryWords: [(String, RecommendedRecovery)] = [
    RecommendedRecovery.componentRestart, .componentFailover, .nodeSwitchover, .nodeFailover, .nodeFailfast,
].map { ($0.word, $0) }
private let resources: [(String, LimitedResource)] = LimitedResource.allCases.map { ("\($0)", $0) }

extension Loading {
    /// The keys of a component, or of a component type; `type` and `name` are taken out before.
    func component(named name: String, from map: MapReader) -> ComponentModel {
        var component = ComponentModel(name: name, command: "")
        if let category: ComponentCategory = map.word("category", categoryWords) { component.category = category }
        if let command = map.text("command") {
            component.command = program(command, map, key: "command")
        }
        if let arguments = map.texts("arguments") { component.arguments = arguments.map(\.text) }
        component.environment = environment(map)
        if let folder = map.text("workingDirectory") { component.workingDirectory = folder }
        if let user = map.text("user") { component.user = user }
        if let group = map.text("group") { component.group = group }
        component.limits = limits(map)
        if let command = map.text("cleanupCommand") {
            component.cleanupCommand = program(command, map, key: "cleanupCommand")
        }
        if let arguments = map.texts("cleanupArguments") { component.cleanupArguments = arguments.map(\.text) }
        if let level: UInt32 = map.number("instantiationLevel", 0...1_000) { component.instantiationLevel = level }
        component.timeouts = timeouts(map)
        let attempts: ClosedRange<UInt32> = 0...1_000
        if let count = map.number("instantiateWithoutDelayMax", attempts) {
            component.instantiateWithoutDelayMax = count
        }
        if let count = map.number("instantiateWithDelayMax", attempts) { component.instantiateWithDelayMax = count }
        if let time = map.duration("instantiateDelay", timeRange) { component.instantiateDelay = time }
        if let recovery: RecommendedRecovery = map.word("recoveryOnError", recoveryWords) {
            component.recoveryOnError = recovery
        }
        if let flag = map.flag("disableRestart") { component.disableRestart = flag }
        component.csiTypes = csiTypes(map)
        component.healthchecks = healthchecks(map)
        return component
    }

    /// What this machine must have for the component. As a missing program, it costs the component alone.
    func checkMachine(_ component: ComponentModel, _ map: MapReader) {
        func check(_ key: String, _ value: String, _ what: String, _ exists: (String) -> Bool) {
            guard !value.isEmpty, !exists(value) else { return }
            map.report(map.position(of: key), "\(key): there is no \(what) '\(value)' on this node", isWarning: true)
        }
        check("user", component.user, "user", environment.hasUser)
        check("group", component.group, "group", environment.hasGroup)
        check("workingDirectory", component.workingDirectory, "directory", environment.hasDirectory)
        if let rule = plan?.description.access, !component.user.isEmpty,
            !environment.admits(rule, component.user, component.group)
        {
            map.report(
                map.position(of: "user"),
                "user: '\(component.user)' may not use the services; 'users' or 'groups' of cluster.yaml must have it",
                isWarning: true)
        }
    }

    /// Finds the program now, so that a wrong path is known before anything starts. A program that is not there costs
    /// its component alone: amfd finds out the same when it is to be started.
    private func program(_ text: String, _ map: MapReader, key: String) -> String {
        let position = map.position(of: key)
        guard !text.isEmpty else {
            map.report(position, "\(key): the path of a program expected, nothing found")
            return text
        }
        let candidates: [String]
        if text.hasPrefix("/") {
            candidates = [text]
        } else if text.contains("/") {
            // Absolute, because whoever starts it works in another directory.
            let file = map.file.hasPrefix("/") ? map.file : environment.workingDirectory + "/" + map.file
            let folder = file.lastIndex(of: "/").map { String(file[..<$0]) } ?? ""
            candidates = [folder + "/" + (text.hasPrefix("./") ? String(text.dropFirst(2)) : text)]
        } else {
            candidates = environment.programFolders.map { "\($0)/\(text)" }
        }
        for candidate in candidates where environment.program(candidate) == .executable { return candidate }
        if let found = candidates.first(where: { environment.program($0) == .notExecutable }) {
            map.report(
                position, "\(key): \(found) is not an executable file; check its type and mode (chmod +x)",
                isWarning: true)
            return found
        } else {
            let places =
                candidates.count == 1
                ? candidates[0] : "'\(text)' in \(environment.programFolders.joined(separator: ", "))"
            map.report(position, "\(key): there is no program \(places)", isWarning: true)
        }
        return candidates.count == 1 ? candidates[0] : text
    }

    /// `environment: { NAME: value }`; those of the type first, then the component's own.
    private func environment(_ map: MapReader) -> [EnvironmentVariable] {
        var variables: [EnvironmentVariable] = []
        for node in map.nodes("environment") {
            guard case .map(let entries) = node.value else {
                map.report(node.position, "environment: a map of names and values expected, \(node.kind) found")
                continue
            }
            for entry in entries {
                var value = ""
                switch entry.value.value {
                case .scalar(let text, _): value = text
                case .null: break
                case .list, .map:
                    map.report(
                        entry.value.position, "environment.\(entry.key): a text expected, \(entry.value.kind) found")
                }
                if entry.key.isEmpty || entry.key.contains("=") {
                    map.report(entry.keyPosition, "environment: '\(entry.key)' cannot be the name of a variable")
                }
                variables.removeAll { $0.name == entry.key }
                variables.append(EnvironmentVariable(entry.key, value))
            }
        }
        return variables
    }

    /// `limits: { openFiles: 1024, addressSpace: 512MiB, coreSize: { soft: 0, hard: unlimited } }`.
    private func limits(_ map: MapReader) -> [ResourceLimitModel] {
        var limits: [ResourceLimitModel] = []
        for node in map.nodes("limits") {
            guard case .map(let entries) = node.value else {
                map.report(node.position, "limits: a map of resources expected, \(node.kind) found")
                continue
            }
            for entry in entries {
                guard let resource = resources.first(where: { $0.0 == entry.key })?.1 else {
                    let known = resources.map(\.0)
                    map.report(
                        entry.keyPosition,
                        "limits: resource '\(entry.key)' is unknown\(hint(entry.key, among: known)) "
                            + "(known: \(known.joined(separator: ", ")))")
                    continue
                }
                guard let limit = limit(entry, resource, map) else { continue }
                limits.removeAll { $0.resource == resource }
                limits.append(limit)
            }
        }
        return limits
    }

    private func limit(_ entry: ConfigNode.Entry, _ resource: LimitedResource, _ map: MapReader) -> ResourceLimitModel?
    {
        let expected = "a whole number, one with KiB, MiB or GiB, or 'unlimited' expected"
        func amount(_ node: ConfigNode) -> UInt64? {
            if case .scalar(let text, _) = node.value, let value = Self.amount(text) { return value }
            map.report(node.position, "limits.\(entry.key): \(expected), \(node.kind) found")
            return nil
        }
        guard case .map = entry.value.value else {
            return amount(entry.value).map { ResourceLimitModel(resource, soft: $0, hard: $0) }
        }
        let inner = MapReader(
            entry.value, what: "\(map.what), limits.\(entry.key)", file: map.file, at: entry.keyPosition, diagnostics)
        let hard = inner.node("hard").map(amount) ?? .max
        let soft = inner.node("soft").map(amount) ?? hard
        inner.finish()
        guard let soft, let hard else { return nil }
        if soft > hard { inner.report(entry.value.position, "soft is greater than hard") }
        return ResourceLimitModel(resource, soft: soft, hard: hard)
    }

    private static func amount(_ text: String) -> UInt64? {
        if text == "unlimited" { return .max }
        let digits = text.prefix { ("0"..."9").contains($0) }
        let scales: [String: UInt64] = ["": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40]
        let unit = text.dropFirst(digits.count).drop { $0 == " " }
        guard let count = UInt64(digits), let scale = scales[String(unit)] else { return nil }
        let (amount, overflow) = count.multipliedReportingOverflow(by: scale)
        return overflow ? nil : amount
    }

    private func timeouts(_ map: MapReader) -> ComponentTimeouts {
        var timeouts = ComponentTimeouts()
        for node in map.nodes("timeouts") {
            let inner = MapReader(node, what: "\(map.what), timeouts", file: map.file, at: node.position, diagnostics)
            if let time = inner.duration("instantiate", timeRange) { timeouts.instantiate = time }
            if let time = inner.duration("terminate", timeRange) { timeouts.terminate = time }
            if let time = inner.duration("cleanup", timeRange) { timeouts.cleanup = time }
            if let time = inner.duration("csiSet", timeRange) { timeouts.csiSet = time }
            if let time = inner.duration("csiRemove", timeRange) { timeouts.csiRemove = time }
            if let time = inner.duration("quiescingComplete", timeRange) { timeouts.quiescingComplete = time }
            inner.finish()
        }
        return timeouts
    }

    private func csiTypes(_ map: MapReader) -> [SupportedCSIType] {
        (map.named("csiTypes") ?? []).map { named in
            let what = "\(map.what), CSI type '\(named.name)'"
            let inner = MapReader(named.body, what: what, file: map.file, at: named.position, diagnostics)
            var type = SupportedCSIType(named.name)
            if let capability: CapabilityModel = inner.word("capability", capabilityWords) {
                type.capability = capability
            }
            if let count: UInt32 = inner.number("maxActive", 0...1_000_000) { type.maxActive = count }
            if let count: UInt32 = inner.number("maxStandby", 0...1_000_000) { type.maxStandby = count }
            inner.finish()
            return type
        }
    }

    private func healthchecks(_ map: MapReader) -> [HealthcheckModel] {
        (map.named("healthchecks") ?? []).map { named in
            let what = "\(map.what), health check '\(named.name)'"
            let inner = MapReader(named.body, what: what, file: map.file, at: named.position, diagnostics)
            var check = HealthcheckModel()
            check.key = named.name
            if !(1...32).contains(named.name.utf8.count) {
                inner.report(named.position, "a key of 1 to 32 octets expected")
            }
            if let time = inner.duration("period", timeRange) { check.period = time }
            if let time = inner.duration("maxDuration", timeRange) { check.maxDuration = time }
            inner.finish()
            return check
        }
    }
}
