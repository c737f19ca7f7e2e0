import AmfProtocol
import IOCCluster
import SAFTypes
import SafCluster

let adminWords: [(String, AdminState)] = [AdminState.unlocked, .locked, .lockedInstantiation].map { ($0.word, $0) }
/// Bounds of the time limits in the model.
let timeRange: ClosedRange<Duration> = .milliseconds(10) ... .seconds(86_400)
let probationRange: ClosedRange<Duration> = .zero ... .seconds(86_400)

private let engineWords: [(String, ClusterDescription.GroupEngine)] = [("alone", .alone), ("corosync", .corosync)]
private let databaseWords: [(String, ClusterDescription.Database)] = ClusterDescription.Database.allCases.map {
    ("\($0)", $0)
}
private let securityWords: [(String, LinkSettings.Security)] = [("tls", .tls), ("none", .none)]

extension Loading {
    /// `cluster.yaml`: the nodes, and what holds for the whole cluster.
    func loadCluster(_ source: ConfigSource?) {
        guard let here = SaName(environment.nodeName) else {
            let name = source?.file ?? "cluster"
            return diagnostics.report(
                name, .init(line: 1, column: 1),
                "this node has no usable name ('\(environment.nodeName)'); set SAF_NODE_NAME to one of 1 to 256 octets")
        }
        guard let source, let root = read(source) else {
            model.nodes = [NodeModel(name: environment.nodeName, id: NodeID(1))]
            let isBroken = source.map { source in diagnostics.errors.contains { $0.file == source.file } } ?? false
            plan = isBroken ? nil : ClusterPlan(.alone(name: here), corosyncSettings)
            return
        }
        let map = MapReader(root, what: "cluster", file: source.file, at: root.position, diagnostics)
        if let name = map.text("cluster") { model.cluster = name }
        note("cluster", source.file, map.position(of: "cluster"))
        if let time = map.duration("startupTimeout", .zero ... .seconds(3_600)) { model.startupTimeout = time }
        if let state: AdminState = map.word("adminState", adminWords) { model.adminState = state }
        if let time = map.duration("daemonHealthcheckPeriod", .zero ... .seconds(86_400)) {
            model.daemonHealthcheckPeriod = time
        }
        let named = map.named("nodes") ?? []
        let nodes = named.enumerated().map { loadNode($1, at: $0, file: source.file) }
        var plan = ClusterPlan(.alone(name: here), corosyncSettings)
        readDescription(map, nodes, into: &plan)
        readCorosync(map, into: &plan.corosync)
        map.finish()
        checkNodes(named, nodes, map)
        if nodes.count > 1 { checkNames(map) }
        takeNodes(nodes, into: &plan)
        let hasErrors = diagnostics.errors.contains { $0.file == source.file && !$0.isWarning }
        if hasErrors { return }
        let isCorosync = plan.description.groupEngine == .corosync
        if let fault = plan.description.fault ?? (isCorosync ? CorosyncConfiguration.fault(plan) : nil) {
            map.report(faultPosition(map), fault)
        } else {
            self.plan = plan
        }
    }

    /// What is wrong with the whole is most often a matter of the nodes or of the quorum.
    private func faultPosition(_ map: MapReader) -> SourcePosition {
        map.node("quorum") == nil ? map.position(of: "nodes") : map.position(of: "quorum")
    }

    private var corosyncSettings: CorosyncSettings {
        var settings = CorosyncSettings()
        settings.keyFile = environment.configDirectory + "/corosync/authkey"
        return settings
    }

    private func readDescription(_ map: MapReader, _ nodes: [LoadedNode], into plan: inout ClusterPlan) {
        var description = plan.description
        description.clusterName = model.cluster
        description.groupEngine = nodes.count > 1 ? .corosync : .alone
        if let engine: ClusterDescription.GroupEngine = map.word("engine", engineWords) {
            description.groupEngine = engine
            if engine == .alone, nodes.count > 1 {
                map.report(
                    map.position(of: "engine"), "engine: \(nodes.count) nodes need 'corosync'; 'alone' is for one node")
            }
        }
        if let time = map.duration("token", .milliseconds(50) ... .seconds(60)) { description.token = time }
        if let time = map.duration("quorumLossGrace", .zero ... .seconds(3_600)) { description.quorumLossGrace = time }
        if let factor = map.factor("lease", 0.5...2) { description.leasePercent = UInt32((factor * 100).rounded()) }
        if let word: ClusterDescription.Database = map.word("database", databaseWords) { description.database = word }
        description.links.certificateDirectory = environment.configDirectory + "/certificates"
        if let word: LinkSettings.Security = map.word("linkSecurity", securityWords) {
            description.links.security = word
        }
        if let port: UInt16 = map.number("portBase", 1...65_000) { description.links.portBase = port }
        description.access = AccessRule(
            users: accounts(map, "users", environment.hasUser), groups: accounts(map, "groups", environment.hasGroup))
        let timeout = map.duration("fencingTimeout", .seconds(1) ... .seconds(3_600))
        let devices = nodes.flatMap(\.fencing)
        if !devices.isEmpty { description.fencing = FencingSettings(devices: devices) }
        if let timeout { description.fencing?.timeout = timeout }
        if timeout != nil, devices.isEmpty {
            map.report(map.position(of: "fencingTimeout"), "fencingTimeout: no node has a 'fencing' device")
        }
        plan.description = description
    }

    private func accounts(_ map: MapReader, _ key: String, _ exists: (String) -> Bool) -> [String] {
        let found = map.texts(key) ?? []
        for (text, position) in found where !text.isEmpty && !exists(text) {
            map.report(
                position, "\(key): there is no \(key.dropLast()) '\(text)' on this node: it admits nobody",
                isWarning: true)
        }
        for (text, position) in found where text.isEmpty || text.utf8.count > 255 {
            map.report(position, "\(key): a name of 1 to 255 octets, or a number, expected")
        }
        if found.count > AccessRule.entriesMax {
            map.report(map.position(of: key), "\(key): at most \(AccessRule.entriesMax) expected, \(found.count) found")
        }
        return found.map(\.text)
    }

    /// The own node must be there, and all names and planes must go together.
    private func checkNodes(_ named: [NamedNode], _ nodes: [LoadedNode], _ map: MapReader) {
        let here = environment.nodeName
        if named.isEmpty { return }
        if !named.contains(where: { $0.name == here }) {
            let found = named.map { "'\($0.name)'" }.joined(separator: ", ")
            map.report(
                named[0].position,
                "nodes: this node is called '\(here)', by SAF_NODE_NAME or the host's name; "
                    + "\(found) found: rename it, or set SAF_NODE_NAME")
        }
        if !nodes.contains(where: { $0.role == .controller }) {
            map.report(named[0].position, "nodes: at least one node of role 'controller' expected")
        }
        var seen: [String: String] = [:]
        for (named, node) in zip(named, nodes) {
            for address in node.addresses {
                if let other = seen[address.host] {
                    map.report(named.position, "nodes: the address \(address.host) is that of node '\(other)', too")
                }
                seen[address.host] = named.name
            }
        }
        guard named.count > 1, let planes = nodes.first?.addresses.count else { return }
        for (named, node) in zip(named, nodes) {
            if !node.hasAddresses {
                map.report(named.position, "node '\(named.name)': the key 'addresses' (one or two) is missing")
            } else if node.addresses.count != planes, planes > 0, !node.addresses.isEmpty {
                map.report(
                    named.position,
                    "node '\(named.name)': \(node.addresses.count) addresses, the first node has \(planes); "
                        + "as many for each node expected: the n-th addresses are one network")
            }
        }
    }

    /// These names stand in certificates and in corosync.conf.
    private func checkNames(_ map: MapReader) {
        if !ClusterNames.isGood(model.cluster, max: 32) {
            map.report(
                map.position(of: "cluster"),
                "cluster: 1 to 32 letters, digits, '.', '_' or '-' expected, "
                    + "'\(model.cluster)' found")
        }
    }

    private func takeNodes(_ nodes: [LoadedNode], into plan: inout ClusterPlan) {
        if nodes.isEmpty {
            model.nodes = [NodeModel(name: environment.nodeName, id: NodeID(1))]
            return
        }
        model.nodes = nodes.map(\.model)
        plan.description.nodes = nodes.compactMap { node in
            SaName(node.model.name).map {
                ClusterDescribedNode(id: node.model.id, name: $0, role: node.role, addresses: node.addresses)
            }
        }.sorted { $0.id < $1.id }
        if let own = nodes.first(where: { $0.model.name == environment.nodeName }) {
            plan.description.localNode = own.model.id
        }
    }
}
