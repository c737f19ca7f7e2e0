import AmfProtocol
import SAFTypes

let adminWords: [(String, AdminState)] = [AdminState.unlocked, .locked, .lockedInstantiation].map { ($0.word, $0) }
/// Bounds of the time limits in the model.
let timeRange: ClosedRange<Duration> = .milliseconds(10) ... .seconds(86_400)
let probationRange: ClosedRange<Duration> = .zero ... .seconds(86_400)

extension Loading {
    /// `cluster.yaml`: the node, and what holds for the whole cluster.
    func loadCluster(_ source: ConfigSource?) {
        guard let source, let root = read(source) else {
            model.nodes = [NodeModel(name: environment.nodeName, id: NodeID(1))]
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
        let nodes = map.named("nodes") ?? []
        for (index, named) in nodes.enumerated() {
            model.nodes.append(loadNode(named, at: index, file: source.file))
        }
        map.finish()
        checkNodes(nodes, map)
    }

    private func loadNode(_ named: NamedNode, at index: Int, file: String) -> NodeModel {
        let map = MapReader(named.body, what: "node '\(named.name)'", file: file, at: named.position, diagnostics)
        note("nodes[\(index)]", file, named.position)
        var node = NodeModel(name: named.name, id: NodeID(UInt32(index + 1)))
        if let id: UInt32 = map.number("id", 1...65_535) { node.id = NodeID(id) }
        if let state: AdminState = map.word("adminState", adminWords) { node.adminState = state }
        if let count: UInt32 = map.number("suFailoverMax", 0...1_000_000) { node.suFailoverMax = count }
        if let time = map.duration("suFailoverProbation", probationRange) { node.suFailoverProbation = time }
        if let flag = map.flag("autoRepair") { node.autoRepair = flag }
        map.finish()
        return node
    }

    /// A node of this release is alone; a second one would be promised and never come.
    private func checkNodes(_ nodes: [NamedNode], _ map: MapReader) {
        let here = environment.nodeName
        if nodes.isEmpty {
            model.nodes = [NodeModel(name: here, id: NodeID(1))]
        } else if nodes.count > 1 {
            map.report(
                nodes[1].position, "nodes: exactly one node expected (this release runs alone), \(nodes.count) found")
        } else if nodes[0].name != here {
            map.report(
                nodes[0].position,
                "nodes: this node is called '\(here)', by SAF_NODE_NAME or the host's name; "
                    + "'\(nodes[0].name)' found: rename it, or set SAF_NODE_NAME")
        }
    }
}
