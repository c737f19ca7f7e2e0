public import SAFTypes

/// What clmd knows about one node of the cluster. Source: SaClmClusterNodeT, SAI-AIS-CLM-B.01.01.
///
/// nodeId u32 · name · address text · member u8 · bootTimestamp i64 · initialViewNumber u64.
public struct ClusterNode: Hashable, Sendable {
    /// Longest text form of an address, SA_CLM_MAX_ADDRESS_LENGTH.
    public static let addressBytesMax = 64

    public var nodeID: NodeID
    /// Unique in the cluster; the administrator's word for the node.
    public var name: SaName
    /// IPv4 or IPv6 in text form; empty on a node that has no link to others.
    public var address: String
    public var isMember: Bool
    /// When the node's operating system was started; UTC, nanoseconds since 1970.
    public var bootTimestamp: SaTime
    /// The view in which the node became a member: smaller for those who joined earlier.
    public var initialViewNumber: UInt64

    public init(
        nodeID: NodeID, name: SaName, address: String = "", isMember: Bool = true, bootTimestamp: SaTime,
        initialViewNumber: UInt64
    ) {
        self.nodeID = nodeID
        self.name = name
        self.address = address
        self.isMember = isMember
        self.bootTimestamp = bootTimestamp
        self.initialViewNumber = initialViewNumber
    }
}

extension ClusterNode: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(nodeID)
        writer.value(name)
        writer.string(address)
        writer.bool(isMember)
        writer.integer(bootTimestamp)
        writer.integer(initialViewNumber)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        nodeID = try reader.value()
        name = try reader.value()
        address = try reader.string(max: Self.addressBytesMax)
        isMember = try reader.bool()
        bootTimestamp = try reader.integer()
        initialViewNumber = try reader.integer()
    }
}

/// What happened to a node in a view. Source: SaClmClusterChangesT.
public enum ClusterChange: UInt8, Hashable, Sendable, CaseIterable {
    case noChange = 1, joined, left, reconfigured
}

/// One line of a ``ClusterView``: change u8 · node.
public struct ClusterNotification: Hashable, Sendable {
    public var node: ClusterNode
    public var change: ClusterChange

    public init(node: ClusterNode, change: ClusterChange) {
        self.node = node
        self.change = change
    }
}

extension ClusterNotification: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(change.rawValue)
        writer.value(node)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        change = try ClusterChange.decode(from: &reader)
        node = try reader.value()
    }
}

/// The membership as one numbered view, or what changed with it. Source: SaClmClusterNotificationBufferT.
///
/// viewNumber u64 · members u32 · notifications.
public struct ClusterView: Hashable, Sendable {
    public static let nodesMax = 4_096

    /// Grows with every transition, also across restarts of clmd.
    public var viewNumber: UInt64
    /// How many nodes are members, also when `notifications` lists fewer or more.
    public var memberCount: UInt32
    public var notifications: [ClusterNotification]

    public init(viewNumber: UInt64, memberCount: UInt32, notifications: [ClusterNotification]) {
        self.viewNumber = viewNumber
        self.memberCount = memberCount
        self.notifications = notifications
    }
}

extension ClusterView: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(viewNumber)
        writer.integer(memberCount)
        writer.list(notifications)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        viewNumber = try reader.integer()
        memberCount = try reader.integer()
        notifications = try reader.list(max: Self.nodesMax)
    }
}

/// Which transitions a tracker hears. Source: SA_TRACK_CURRENT, SA_TRACK_CHANGES, SA_TRACK_CHANGES_ONLY.
public struct TrackFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The present view at once; alone it starts no tracking.
    public static let current = TrackFlags(rawValue: 1)
    /// Every transition, with all nodes.
    public static let changes = TrackFlags(rawValue: 2)
    /// Every transition, with the changed nodes only.
    public static let changesOnly = TrackFlags(rawValue: 4)

    /// False for none, for unknown bits and for `changes` together with `changesOnly`.
    public var isValid: Bool {
        rawValue != 0 && rawValue <= 7 && !isSuperset(of: [.changes, .changesOnly])
    }
}

extension TrackFlags: WireCodable {
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        rawValue = try reader.integer()
        guard isValid else { throw .badValue("track flags \(rawValue); CURRENT, CHANGES or CHANGES_ONLY expected") }
    }
}
