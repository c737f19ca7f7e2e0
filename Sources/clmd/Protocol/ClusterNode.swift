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

/// What happens to a node. Source: SaClmClusterChangesT.
public enum ClusterChange: UInt8, Hashable, Sendable, CaseIterable {
    case noChange = 1, joined, left, reconfigured, unlock, shutdown
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
