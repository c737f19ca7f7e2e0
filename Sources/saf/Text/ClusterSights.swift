public import SAFTypes

/// What `saf status` shows of several nodes beside the report of amfd.
public struct ClusterSights: Hashable, Sendable {
    /// A link of corosync to another node.
    public struct Link: Hashable, Sendable {
        public var node: NodeID
        /// The plane.
        public var number: Int
        public var isUp: Bool

        public init(node: NodeID, number: Int, isUp: Bool) {
            (self.node, self.number, self.isUp) = (node, number, isUp)
        }
    }

    /// What a node has of the checkpoints.
    public struct Placement: Hashable, Sendable {
        public var node: NodeID
        public var replicas = 0
        /// …of which so many are active.
        public var active = 0

        public init(node: NodeID) { self.node = node }
    }

    public var links: [Link] = []
    /// Why they are not known.
    public var linksProblem: String?
    /// Nil: not known.
    public var checkpoints: Int?
    /// Why they are not known.
    public var checkpointsProblem: String?
    /// A daemon of this node that ought to answer, and does not.
    public var silence: String?
    public var placements: [Placement] = []
    /// The node that answers takes no part: so it was when it last did.
    public var isOld = false
    /// A line for each checkpoint with a replica that lacks something, or without an active one.
    public var incomplete: [String] = []

    public init() {}

    /// The nodes to which no link is up, ascending.
    public var unreachable: [NodeID] {
        Set(links.map(\.node)).sorted().filter { node in !links.contains { $0.node == node && $0.isUp } }
    }

    /// What an operator should look at: nodes that cannot be reached are one trouble, however many links they have, and
    /// none when nobody expects them: they are in no model yet.
    func troubles(expected: [NodeID], name: (NodeID) -> String) -> [String] {
        let lost = unreachable
        let single = links.filter { !$0.isUp && !lost.contains($0.node) }
        let unreached = lost.filter(expected.contains).map(name)
        return (unreached.isEmpty ? [] : ["no link to \(unreached.joined(separator: ", ")) is up"])
            + single.map { "link \($0.number) to \(name($0.node)) is down" }
            + [silence].compactMap(\.self)
    }

    /// Of so many checkpoints that are not complete the first are told.
    static let incompleteMax = 5

    func table(name: (NodeID) -> String) -> TextTable {
        var table = TextTable()
        let nodes = Set(links.map(\.node)).sorted()
        if let linksProblem {
            table.line("links: not known, \(linksProblem)", .attention)
        } else if !nodes.isEmpty {
            table.add([.init("LINK", .faint)] + nodes.map { .init("TO \(name($0))", .faint) })
            for number in Set(links.map(\.number)).sorted() {
                let cells = nodes.map { node -> TextTable.Cell in
                    guard let link = links.first(where: { $0.node == node && $0.number == number }) else {
                        return .init("-")
                    }
                    return link.isUp ? .init("up", .good) : .init("down", .bad)
                }
                table.add([.init("\(number)", .strong)] + cells)
            }
        }
        if let checkpointsProblem { table.line("checkpoints: not known, \(checkpointsProblem)", .attention) }
        guard let checkpoints else { return table }
        let places = placements.map { place in
            "\(name(place.node)) \(place.replicas)" + (place.active > 0 ? " (\(place.active) active)" : "")
        }
        table.rows.append(
            .flow(
                .init(
                    title: .init(
                        "checkpoints\(isOld ? " as last known" : ""): \(checkpoints)"
                            + (places.isEmpty ? "" : "; replicas:"), .faint),
                    parts: places.map { .init($0, .faint) }, separator: ", ")))
        for line in incomplete.prefix(Self.incompleteMax) {
            table.rows.append(.flow(.text(line, .attention, indent: 2)))
        }
        if incomplete.count > Self.incompleteMax {
            table.line("  and \(incomplete.count - Self.incompleteMax) more", .attention)
        }
        return table
    }
}
