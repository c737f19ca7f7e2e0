/// Why something could not be done in the lab; says what to do about it.
public struct LabError: Error, Equatable, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// What a lab shall be: a value, fixed when it is brought up.
public struct LabOptions: Equatable, Sendable {
    public static let nodesRange = 1...16
    public static let planesRange = 1...2
    public static let tokenRange = 50...60_000

    /// Nodes are numbered from 1.
    public var nodes = 3
    /// Networks between the nodes, numbered from 0; every node has one interface on each.
    public var planes = 2
    /// Corosync's token time in milliseconds: a dead node is noticed after about 2.2 times as long.
    public var token = 300
    /// Whether corosync's traffic is encrypted and authenticated.
    public var isEncrypted = true
    /// Whether the links between the daemons are encrypted, with certificates of the lab's own authority.
    public var areLinksEncrypted = false
    /// Whether corosync runs with realtime priority; without it a short token needs an idle machine.
    public var isRealtime = true
    /// Whether one node of two is quorate alone; nil: exactly when there are two nodes, and no tie breaker.
    /// Source: votequorum(5), two_node.
    public var isTwoNode: Bool?
    /// Whether the half with the lowest node id stays quorate. Source: votequorum(5), auto_tie_breaker.
    public var hasAutoTieBreaker = false
    /// Nodes that only carry work; the others are controllers.
    public var payloads: Set<Int> = []
    /// Part of the folder's name, so that several labs can be told apart: letters, digits and "-".
    public var name = "lab"

    public init() {}

    /// Throws what is out of range.
    func validate() throws(LabError) {
        func check(_ value: Int, _ range: ClosedRange<Int>, _ what: String) throws(LabError) {
            guard range.contains(value) else {
                throw LabError("\(value) \(what): from \(range.lowerBound) to \(range.upperBound) expected")
            }
        }
        try check(nodes, Self.nodesRange, "nodes")
        try check(planes, Self.planesRange, "planes")
        try check(token, Self.tokenRange, "ms token")
        let isNamed = !name.isEmpty && name.utf8.count <= 20
        guard isNamed, name.allSatisfy({ $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") }) else {
            throw LabError("lab name \"\(name)\": 1 to 20 letters, digits and \"-\" expected")
        }
        if let node = payloads.filter({ !allNodes.contains($0) }).min() {
            throw LabError("payload node \(node): this lab has the nodes 1 to \(nodes)")
        }
        if payloads.count >= nodes { throw LabError("\(nodes) payload nodes: at least one must be a controller") }
        if isTwoNode == true, nodes != 2 { throw LabError("two-node quorum needs two nodes, not \(nodes)") }
        if isTwoNode == true, hasAutoTieBreaker {
            throw LabError("two-node quorum and the automatic tie breaker exclude each other (votequorum(5))")
        }
    }

    /// The numbers of all nodes.
    public var allNodes: ClosedRange<Int> { 1...nodes }
    /// The numbers of all planes.
    public var allPlanes: Range<Int> { 0..<planes }

    /// The address of a node on a plane. Every lab uses the same: they do not see each other.
    public static func address(of node: Int, plane: Int) -> String { "10.77.\(plane).\(node)" }

    public static func nodeName(_ node: Int) -> String { "node\(node)" }
}
