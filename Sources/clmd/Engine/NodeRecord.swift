public import ClmProtocol
public import SAFTypes

/// A node as clmd's group knows it: what it said of itself, and what the group made of it.
///
/// node · addresses · incarnation u64.
public struct NodeRecord: Hashable, Sendable, WireCodable {
    public static let addressesMax = 8

    /// Its view number and its membership are the group's to set.
    public var node: ClusterNode
    /// Every address, in the order to try; the first is SaClm's, too.
    public var addresses: [String]
    /// Of this life of the node: a restarted clmd keeps it, a node that starts again has another.
    public var incarnation: UInt64

    public init(node: ClusterNode, addresses: [String] = [], incarnation: UInt64) {
        self.node = node
        self.addresses = addresses
        self.incarnation = incarnation
    }

    /// Whether the other says the same of the same life.
    func saysTheSame(as other: NodeRecord) -> Bool {
        var copy = other
        copy.node.isMember = node.isMember
        copy.node.initialViewNumber = node.initialViewNumber
        return copy == self
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(UInt8(clamping: addresses.count))
        for address in addresses.prefix(Self.addressesMax) { writer.string(address) }
        writer.integer(incarnation)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        let count = Int(try reader.integer(UInt8.self))
        guard count <= Self.addressesMax else {
            throw .badValue("\(count) addresses; at most \(Self.addressesMax) expected")
        }
        addresses = []
        for _ in 0..<count { addresses.append(try reader.string(max: 255)) }
        incarnation = try reader.integer()
    }
}

/// An administrator's change that waits for the trackers of all members.
///
/// number u64 · administration · step u8 · awaiting (node ids).
public struct PlannedChange: Hashable, Sendable, WireCodable {
    public var number: UInt64
    public var administration: NodeAdministration
    public var step: ChangeStep
    /// Members that have not said yet that their trackers are done with the step; ascending.
    public var awaiting: [NodeID]

    public init(number: UInt64, administration: NodeAdministration, step: ChangeStep, awaiting: [NodeID]) {
        self.number = number
        self.administration = administration
        self.step = step
        self.awaiting = awaiting
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(number)
        writer.value(administration)
        writer.integer(step.rawValue)
        writer.list(awaiting)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        number = try reader.integer()
        administration = try reader.value()
        step = try ChangeStep.decode(from: &reader)
        awaiting = try reader.list(max: ClusterView.nodesMax)
    }
}

/// One step from a view to the next.
public struct ClusterTransition: Hashable, Sendable {
    /// Of the new view.
    public var viewNumber: UInt64
    public var changes: [ClusterNotification]
    /// The operation that caused it, if one did.
    public var planned: PlannedChange?

    public init(viewNumber: UInt64, changes: [ClusterNotification], planned: PlannedChange? = nil) {
        self.viewNumber = viewNumber
        self.changes = changes
        self.planned = planned
    }
}
