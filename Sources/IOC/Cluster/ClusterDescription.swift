public import SAFTypes

/// What a daemon must know of its cluster: who it is, who the others are, and how they reach each other.
///
/// Compiled from `cluster.yaml` and written to ``path(_:)`` before any daemon is started; without the file a node is
/// alone. Holds no secret: every user of the node may read it.
public struct ClusterDescription: Hashable, Sendable {
    /// It is written in the oldest version that can say it, so that a daemon of the build before reads it, too.
    public static let versions: ClosedRange<UInt16> = 1...2
    public static let nodesMax = 128
    public static let addressesMax = 8

    /// What orders the members of a group.
    public enum GroupEngine: UInt8, Hashable, Sendable, CaseIterable {
        /// One node, in its own memory.
        case alone = 1
        case corosync = 2
    }

    /// The engine of the global databases that controllers keep on disk.
    public enum Database: UInt8, Hashable, Sendable, CaseIterable {
        case sqlite = 1
        case berkeleydb, gdbm
    }

    public var clusterName: String
    public var groupEngine: GroupEngine
    public var localNode: NodeID
    /// Ascending by id; holds the local node.
    public var nodes: [ClusterDescribedNode]
    public var links: LinkSettings
    /// Corosync's token time: a node's death is known after about 2.2 times this.
    public var token: Duration
    /// How long a side without quorum keeps its applications running (stopped from being active at once, by the lease).
    public var quorumLossGrace: Duration
    /// How long a member may believe in its majority after it last heard of it, in percent of ``token``.
    public var leasePercent: UInt32
    /// Nil: a lost node's work is given away without fencing it first.
    public var fencing: FencingSettings?
    /// Who may use the middleware of a node.
    public var access: AccessRule
    /// Since version 2.
    public var database = Database.sqlite

    public init(
        clusterName: String, groupEngine: GroupEngine, localNode: NodeID, nodes: [ClusterDescribedNode],
        links: LinkSettings = LinkSettings(), token: Duration = .seconds(1), quorumLossGrace: Duration = .seconds(10),
        leasePercent: UInt32 = 120, fencing: FencingSettings? = nil,
        access: AccessRule = AccessRule()
    ) {
        self.clusterName = clusterName
        self.groupEngine = groupEngine
        self.localNode = localNode
        self.nodes = nodes
        self.links = links
        self.token = token
        self.quorumLossGrace = quorumLossGrace
        self.leasePercent = leasePercent
        self.fencing = fencing
        self.access = access
    }

    /// A node without a cluster: it orders its own messages and is always quorate.
    public static func alone(_ id: NodeID = NodeID(1), name: SaName) -> ClusterDescription {
        ClusterDescription(
            clusterName: "alone", groupEngine: .alone, localNode: id,
            nodes: [ClusterDescribedNode(id: id, name: name, role: .controller)])
    }

    public func node(_ id: NodeID) -> ClusterDescribedNode? { nodes.first { $0.id == id } }
    public func node(named name: SaName) -> ClusterDescribedNode? { nodes.first { $0.name == name } }

    /// The own record; what was decoded or loaded has one, what is made by hand must.
    public var local: ClusterDescribedNode {
        guard let local = node(localNode) else { preconditionFailure("node \(localNode) is not described") }
        return local
    }
    public var others: [ClusterDescribedNode] { nodes.filter { $0.id != localNode } }

    /// What makes no sense, in one sentence; nil when all does.
    public var fault: String? {
        if clusterName.isEmpty || clusterName.utf8.count > 32 {
            return "cluster name \"\(clusterName)\": 1 to 32 octets expected"
        }
        if nodes.isEmpty || nodes.count > Self.nodesMax {
            return "\(nodes.count) nodes; 1 to \(Self.nodesMax) expected"
        }
        for (left, right) in zip(nodes, nodes.dropFirst()) where left.id >= right.id {
            return "node \(right.id) follows node \(left.id); ascending ids without repetition expected"
        }
        for (index, node) in nodes.enumerated() {
            if let fault = node.fault { return fault }
            if nodes[..<index].contains(where: { $0.name == node.name }) { return "two nodes are named \(node.name)" }
        }
        if node(localNode) == nil { return "the local node \(localNode) is not one of the nodes" }
        if groupEngine == .alone, nodes.count != 1 { return "\(nodes.count) nodes without a group engine; 1 expected" }
        if token < .milliseconds(50) || token > .seconds(60) { return "token \(token); 50 ms to 60 s expected" }
        if quorumLossGrace < .zero { return "quorum-loss grace \(quorumLossGrace); 0 or more expected" }
        if !(10...1_000).contains(leasePercent) { return "lease of \(leasePercent) %; 10 to 1000 expected" }
        return links.fault ?? fencing?.fault(in: self) ?? access.fault
    }
}

/// A node of the cluster as it is configured, member or not.
public struct ClusterDescribedNode: Hashable, Sendable {
    public enum Role: UInt8, Hashable, Sendable, CaseIterable {
        /// May take the cluster's decisions and keep its files.
        case controller = 1
        /// Only carries work.
        case payload = 2
    }

    public var id: NodeID
    public var name: SaName
    public var role: Role
    /// In the order to try; the n-th addresses of all nodes are one network (plane).
    public var addresses: [LinkAddress]

    public init(id: NodeID, name: SaName, role: Role, addresses: [LinkAddress] = []) {
        self.id = id
        self.name = name
        self.role = role
        self.addresses = addresses
    }

    var fault: String? {
        if id.rawValue == 0 { return "node \(name): id 0; 1 or more expected" }
        if addresses.count > ClusterDescription.addressesMax {
            return "node \(name): \(addresses.count) addresses; at most \(ClusterDescription.addressesMax) expected"
        }
        for address in addresses where address.host.isEmpty { return "node \(name): an empty address" }
        return nil
    }
}

/// One address of a node, and how that node binds its own end to it.
public struct LinkAddress: Hashable, Sendable {
    /// A numeric address: a daemon that asks a resolver waits for it. `saf config check` insists on it.
    public var host: String
    /// Bind to this network device (SO_BINDTODEVICE).
    public var device: String?
    /// Bind to this source address; nil: what the route says.
    public var source: String?
    /// Firewall mark (SO_MARK).
    public var mark: UInt32?

    public init(_ host: String, device: String? = nil, source: String? = nil, mark: UInt32? = nil) {
        self.host = host
        self.device = device
        self.source = source
        self.mark = mark
    }
}

/// How daemons of one service reach each other on different nodes.
public struct LinkSettings: Hashable, Sendable {
    public enum Security: UInt8, Hashable, Sendable, CaseIterable {
        /// Plain TCP: for a network that nobody else can reach.
        case none = 1
        /// TLS 1.3 with certificates of the cluster's authority on both sides.
        case tls = 2
    }

    public var security: Security
    /// A service listens at this plus its number.
    public var portBase: UInt16
    /// `ca.pem`, `node.pem` and `node.key` of this node; used with TLS only.
    public var certificateDirectory: String

    public init(
        security: Security = .tls, portBase: UInt16 = 7_400,
        certificateDirectory: String = "/etc/swiftsaf/certificates"
    ) {
        self.security = security
        self.portBase = portBase
        self.certificateDirectory = certificateDirectory
    }

    var fault: String? {
        if portBase == 0 || portBase > 65_000 { return "port base \(portBase); 1 to 65000 expected" }
        if security == .tls, certificateDirectory.isEmpty { return "TLS without a certificate directory" }
        return nil
    }
}

/// How a lost node is cut off for certain before its work is given away.
public struct FencingSettings: Hashable, Sendable {
    /// How long one agent may take.
    public var timeout: Duration
    /// Several for one node are tried in their order.
    public var devices: [FencingDevice]

    public init(timeout: Duration = .seconds(60), devices: [FencingDevice]) {
        self.timeout = timeout
        self.devices = devices
    }

    func fault(in cluster: ClusterDescription) -> String? {
        if timeout <= .zero { return "fencing timeout \(timeout); more than 0 expected" }
        for device in devices {
            if cluster.node(device.node) == nil { return "fencing device of node \(device.node), which is none" }
            if device.agent.isEmpty { return "fencing device of node \(device.node) without an agent" }
        }
        return nil
    }
}

/// One way to fence one node.
public struct FencingDevice: Hashable, Sendable {
    public var node: NodeID
    /// The agent's program, as the fence-agents call it (`fence_ipmilan`), or its path.
    public var agent: String
    /// A file of `name=value` lines for the agent's standard input; only root may read it, it holds passwords.
    public var parametersFile: String

    public init(node: NodeID, agent: String, parametersFile: String) {
        self.node = node
        self.agent = agent
        self.parametersFile = parametersFile
    }
}

/// Who may connect to the daemons of a node, by the credentials the kernel gives (SO_PEERCRED). Both lists empty:
/// everybody. Root and the user amfd runs as may always.
public struct AccessRule: Hashable, Sendable {
    public static let entriesMax = 64

    /// Names, or decimal numbers.
    public var users: [String]
    /// A user belongs to a group by its account, not only by the process's own group.
    public var groups: [String]

    public init(users: [String] = [], groups: [String] = []) {
        self.users = users
        self.groups = groups
    }

    public var isOpen: Bool { users.isEmpty && groups.isEmpty }

    var fault: String? {
        for (what, names) in [("user", users), ("group", groups)] {
            if names.count > Self.entriesMax { return "\(names.count) \(what)s; at most \(Self.entriesMax) expected" }
            if names.contains("") { return "a \(what) without a name" }
        }
        return nil
    }
}
