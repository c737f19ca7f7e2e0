import AmfProtocol
import IOCCluster
import OSAL
import SAFTypes
import SafCluster

/// One node as it is written in cluster.yaml.
struct LoadedNode {
    var model: NodeModel
    var role = ClusterDescribedNode.Role.controller
    var addresses: [LinkAddress] = []
    /// Given, and perhaps wrong.
    var hasAddresses = false
    var fencing: [FencingDevice] = []
}

private let roleWords: [(String, ClusterDescribedNode.Role)] = [("controller", .controller), ("payload", .payload)]

extension Loading {
    func loadNode(_ named: NamedNode, at index: Int, file: String) -> LoadedNode {
        let map = MapReader(named.body, what: "node '\(named.name)'", file: file, at: named.position, diagnostics)
        note("nodes[\(index)]", file, named.position)
        var node = NodeModel(name: named.name, id: NodeID(UInt32(index + 1)))
        if let id: UInt32 = map.number("id", 1...65_535) { node.id = NodeID(id) }
        if let state: AdminState = map.word("adminState", adminWords) { node.adminState = state }
        if let count: UInt32 = map.number("suFailoverMax", 0...1_000_000) { node.suFailoverMax = count }
        if let time = map.duration("suFailoverProbation", probationRange) { node.suFailoverProbation = time }
        if let flag = map.flag("autoRepair") { node.autoRepair = flag }
        var loaded = LoadedNode(model: node)
        if let role: ClusterDescribedNode.Role = map.word("role", roleWords) { loaded.role = role }
        loaded.addresses = addresses(map)
        loaded.hasAddresses = map.node("addresses") != nil
        if !loaded.addresses.isEmpty, !ClusterNames.isGood(named.name, max: 64) {
            map.report(named.position, "the name of a node with addresses: 1 to 64 letters, digits, '.', '_' or '-'")
        }
        loaded.fencing = fencing(map, of: node.id)
        map.finish()
        return loaded
    }

    private func addresses(_ map: MapReader) -> [LinkAddress] {
        guard let value = map.node("addresses") else { return [] }
        var entries = [value]
        if case .list(let elements) = value.value { entries = elements }
        if entries.count > 2 {
            map.report(value.position, "addresses: one or two expected, \(entries.count) found")
        }
        return entries.prefix(2).compactMap { address($0, map) }
    }

    private func address(_ entry: ConfigNode, _ outer: MapReader) -> LinkAddress? {
        if case .scalar(let text, _) = entry.value {
            return isNumeric(text, entry.position, "addresses", outer) ? LinkAddress(text) : nil
        }
        let map = MapReader(
            entry, what: "\(outer.what), address", file: outer.file, at: entry.position, diagnostics)
        guard case .map = entry.value else { return nil }
        defer { map.finish() }
        var address = LinkAddress("")
        if let device = map.text("device") {
            // IFNAMSIZ with its final zero.
            if device.isEmpty || device.utf8.count > 15 || device.contains("/") {
                map.report(map.position(of: "device"), "device: the name of a network device (1 to 15 octets) expected")
            }
            address.device = device
        }
        if let source = map.text("source"), isNumeric(source, map.position(of: "source"), "source", map) {
            address.source = source
        }
        if let mark: UInt32 = map.number("mark", 0...UInt32.max) { address.mark = mark }
        guard let host = map.text("host") else {
            map.report(entry.position, "the key 'host' (the numeric address) is missing")
            return nil
        }
        guard isNumeric(host, map.position(of: "host"), "host", map) else { return nil }
        address.host = host
        return address
    }

    /// Names are not looked up by daemons: a name server must not decide whether a cluster stands.
    private func isNumeric(_ text: String, _ position: SourcePosition, _ key: String, _ map: MapReader) -> Bool {
        let plain = String(text.prefix { $0 != "%" })
        if (try? SocketAddress(plain, port: 1)) != nil { return true }
        map.report(position, "\(key): a numeric IPv4 or IPv6 address expected, '\(text)' found")
        return false
    }

    private func fencing(_ map: MapReader, of node: NodeID) -> [FencingDevice] {
        guard let value = map.node("fencing") else { return [] }
        var entries = [value]
        if case .list(let elements) = value.value { entries = elements }
        return entries.compactMap { entry in
            let inner = MapReader(
                entry, what: "\(map.what), fencing", file: map.file, at: entry.position, diagnostics)
            guard case .map = entry.value else { return nil }
            let agent = inner.text("agent")
            let file = inner.text("parametersFile")
            inner.finish()
            guard let agent, let file else {
                inner.report(entry.position, "the keys 'agent' (fence_…) and 'parametersFile' expected")
                return nil
            }
            let name = agent.split(separator: "/").last ?? ""
            if !name.hasPrefix("fence_") || (agent.contains("/") && !agent.hasPrefix("/")) {
                inner.report(
                    inner.position(of: "agent"),
                    "agent: a fence agent's name (fence_…) or its whole path expected, "
                        + "'\(agent)' found")
            }
            if !file.hasPrefix("/") {
                inner.report(
                    inner.position(of: "parametersFile"), "parametersFile: a whole path expected, '\(file)' found")
            }
            return FencingDevice(node: node, agent: agent, parametersFile: file)
        }
    }
}
