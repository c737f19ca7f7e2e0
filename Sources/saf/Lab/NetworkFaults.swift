/// What is broken between the nodes, as a value; survives the restart of a node.
public struct NetworkFaults: Equatable, Sendable {
    /// Nodes of different groups do not hear each other; those in no group are one more group. Empty: no partition.
    public var groups: [[Int]] = []
    /// Nodes that hear nobody and are heard by nobody.
    public var isolated: [Int] = []
    /// Packets lost per thousand, to and from a node.
    public var lossPermille: [Int: Int] = [:]
    /// Unplugged cables, by plane and node.
    public var unplugged: [Plug] = []
    /// Cables that are longer than they are.
    public var delays: [Plug: Delay] = [:]

    /// One end of a cable.
    public struct Plug: Hashable, Sendable {
        public var plane: Int
        public var node: Int
        public init(plane: Int, node: Int) {
            self.plane = plane
            self.node = node
        }
    }

    /// What a long cable adds to the time of a packet there and the answer back; never the order of packets.
    public struct Delay: Hashable, Sendable {
        public var milliseconds: Int
        /// By chance, between nothing and so much is added to each round trip.
        public var jitter: Int
        public init(milliseconds: Int, jitter: Int = 0) { (self.milliseconds, self.jitter) = (milliseconds, jitter) }
    }

    public init() {}

    /// The plugs of ``delays``, ascending.
    var delayed: [Plug] { delays.keys.sorted { ($0.node, $0.plane) < ($1.node, $1.plane) } }

    /// The others that `node` does not hear, ascending.
    public func unheard(by node: Int, nodes: Int) -> [Int] {
        (1...nodes).filter { other in
            guard other != node else { return false }
            if isolated.contains(other) || isolated.contains(node) { return true }
            return !groups.isEmpty && group(of: other) != group(of: node)
        }
    }

    private func group(of node: Int) -> Int? { groups.firstIndex { $0.contains(node) } }

    /// The rules of nft(8) in a node's network namespace; they replace all former ones in one step.
    ///
    /// Only what comes in is dropped, on each side: a packet dropped on its way out would be reported to its sender
    /// (EPERM), which no broken network does.
    func rules(for node: Int, options: LabOptions) -> String {
        var drops: [String] = []
        func addresses(_ node: Int) -> [String] {
            options.allPlanes.map { LabOptions.address(of: node, plane: $0) }
        }
        let silent = unheard(by: node, nodes: options.nodes)
        if !silent.isEmpty {
            drops.append("ip saddr { \(silent.flatMap(addresses).joined(separator: ", ")) } drop")
        }
        if let loss = lossPermille[node], loss > 0 {
            drops.append("iifname \"eth*\" \(chance(loss))drop")
        }
        for other in options.allNodes where other != node {
            guard let loss = lossPermille[other], loss > 0 else { continue }
            let sources = addresses(other).joined(separator: ", ")
            drops.append("ip saddr { \(sources) } \(chance(loss))drop")
        }
        let forget = "table inet saflab\ndelete table inet saflab\n"
        guard !drops.isEmpty else { return forget }
        let body = (["type filter hook prerouting priority -300; policy accept;"] + drops).map { "    " + $0 }
        return forget + "table inet saflab {\n  chain faults {\n" + body.joined(separator: "\n") + "\n  }\n}\n"
    }

    /// nft refuses a comparison that always holds.
    private func chance(_ permille: Int) -> String {
        permille >= 1000 ? "" : "numgen random mod 1000 < \(permille) "
    }

    /// In words for a status line; empty when all is well.
    public var summary: [String] {
        func list(_ nodes: [Int]) -> String { nodes.map(String.init).joined(separator: ",") }
        var lines: [String] = []
        if !groups.isEmpty { lines.append("partition " + groups.map(list).joined(separator: " | ") + " | the others") }
        if !isolated.isEmpty { lines.append("isolated " + list(isolated)) }
        for (node, loss) in lossPermille.sorted(by: { $0.key < $1.key }) {
            lines.append("node \(node) loses \(loss / 10).\(loss % 10) % of the packets")
        }
        for plug in delayed {
            guard let delay = delays[plug] else { continue }
            let jitter = delay.jitter == 0 ? "" : " to \(delay.milliseconds + delay.jitter)"
            lines.append("node \(plug.node) on plane \(plug.plane) \(delay.milliseconds)\(jitter) ms farther away")
        }
        for plug in unplugged { lines.append("node \(plug.node) unplugged from plane \(plug.plane)") }
        return lines
    }
}
