public import SAFTypes

/// Where the replicas of a checkpoint are, which one takes the updates, and what the others are worth.
///
/// epoch u64 · active present u8 · (active u32) · electing u8 · count u32 · replicas.
public struct ReplicaSet: Hashable, Sendable, WireCodable {
    /// A replica on one node. node u32 · state u8.
    public struct Replica: Hashable, Sendable, WireCodable {
        public var node: NodeID
        public var state: ReplicaStatus.State

        public init(node: NodeID, state: ReplicaStatus.State) {
            self.node = node
            self.state = state
        }

        public func encode(to writer: inout ByteWriter) {
            writer.value(node)
            writer.integer(state.rawValue)
        }

        public init(decoding reader: inout ByteReader) throws(DecodeError) {
            node = try reader.value()
            state = try ReplicaStatus.State.decode(from: &reader)
        }
    }

    /// Of the active replica; grows with every other one. 0 on a node alone.
    public var epoch: UInt64
    /// The node whose replica takes the updates; nil: none, and what needs one is refused with NOT_EXIST, or waits.
    public var active: NodeID?
    /// The next active replica is being found.
    public var isElecting: Bool
    /// Ascending by node.
    public var replicas: [Replica]

    public init(epoch: UInt64, active: NodeID?, isElecting: Bool, replicas: [Replica]) {
        self.epoch = epoch
        self.active = active
        self.isElecting = isElecting
        self.replicas = replicas
    }

    public func state(on node: NodeID) -> ReplicaStatus.State? { replicas.first { $0.node == node }?.state }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(epoch)
        writer.optional(active)
        writer.bool(isElecting)
        writer.list(replicas)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        epoch = try reader.integer()
        active = try reader.optional()
        isElecting = try reader.bool()
        replicas = try reader.list()
    }
}

/// ckptd → client: whether there is such a checkpoint. present u8 · attributes, with the retention duration in force.
public struct ExistsReply: Hashable, Sendable, WireCodable {
    public var attributes: CreationAttributes?

    public init(attributes: CreationAttributes?) { self.attributes = attributes }

    public func encode(to writer: inout ByteWriter) { writer.optional(attributes) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { attributes = try reader.optional() }
}
