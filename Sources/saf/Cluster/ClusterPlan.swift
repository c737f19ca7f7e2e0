public import IOCCluster

/// Everything that `cluster.yaml` says of the nodes together: what daemons must know, and what corosync must.
public struct ClusterPlan: Hashable, Sendable {
    public var description: ClusterDescription
    public var corosync: CorosyncSettings

    public init(_ description: ClusterDescription, _ corosync: CorosyncSettings = CorosyncSettings()) {
        self.description = description
        self.corosync = corosync
    }
}

/// What only corosync must know. Source: corosync.conf(5), votequorum(5).
public struct CorosyncSettings: Hashable, Sendable {
    public var quorum = QuorumSettings()
    /// aes256 and sha256 with the common key; without it whoever reaches the network can be a member.
    public var isEncrypted = true
    /// Realtime priority for corosync; without it a short token needs an idle machine.
    public var isRealtime = true
    /// Where each node has the common key.
    public var keyFile = "/etc/swiftsaf/corosync/authkey"
    /// Nil: corosync writes to the system's log.
    public var logFile: String?

    public init() {}
}

public struct QuorumSettings: Hashable, Sendable {
    /// One node of two is quorate alone, once both have met. Nil: with two nodes and nothing else that decides.
    public var twoNode: Bool?
    /// Of two halves the one with the lowest node id stays quorate.
    public var autoTieBreaker = false
    /// Nil: the number of nodes.
    public var expectedVotes: UInt32?
    /// Nobody is quorate before all have met once. Nil: as corosync does (with `twoNode` only).
    public var waitForAll: Bool?
    public var device: QuorumDevice?

    public init() {}

    public func isTwoNode(_ nodes: Int) -> Bool { twoNode ?? (nodes == 2 && !autoTieBreaker && device == nil) }

    /// What excludes what, in one sentence; nil when all goes together.
    public func fault(nodes: Int) -> String? {
        if twoNode == true, nodes != 2 { return "twoNode needs two nodes, not \(nodes)" }
        if twoNode == true, autoTieBreaker { return "twoNode and autoTieBreaker exclude each other (votequorum(5))" }
        if twoNode == true, device != nil { return "twoNode and qdevice exclude each other (votequorum(5))" }
        if autoTieBreaker, device != nil { return "autoTieBreaker and qdevice exclude each other (votequorum(5))" }
        if let expectedVotes, device != nil {
            return "expectedVotes \(expectedVotes) and qdevice exclude each other: the device's votes are added"
        }
        if let expectedVotes, Int(expectedVotes) < nodes {
            return "expectedVotes \(expectedVotes) for \(nodes) nodes: two halves could both be quorate"
        }
        return nil
    }
}

/// A third opinion of a host that is no node. Source: corosync-qdevice(8).
public struct QuorumDevice: Hashable, Sendable {
    public enum Algorithm: String, Hashable, Sendable, CaseIterable {
        /// Half of the votes each: exactly one of two halves goes on.
        case ffsplit
        /// The last node standing goes on.
        case lms
    }

    /// Where corosync-qnetd runs.
    public var host: String
    public var algorithm: Algorithm
    /// TLS to it, with certificates that corosync-qdevice-net-certutil(8) makes on each node.
    public var isEncrypted: Bool

    public init(host: String, algorithm: Algorithm = .ffsplit, isEncrypted: Bool = true) {
        self.host = host
        self.algorithm = algorithm
        self.isEncrypted = isEncrypted
    }
}
