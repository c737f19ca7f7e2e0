public import SAFTypes

/// For people, on several nodes: where the replicas of all checkpoints are. Needs root or the middleware's user;
/// refused with NOT_SUPPORTED on a node alone. after u64 (checkpoint) · limit u32.
public struct ClusterListRequest: Hashable, Sendable, WireCodable {
    /// The frame's code.
    public static let code: UInt16 = 34

    public var after: CheckpointID
    public var limit: UInt32

    public init(after: CheckpointID, limit: UInt32) {
        self.after = after
        self.limit = limit
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(after.rawValue)
        writer.integer(limit)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        after = CheckpointID(rawValue: try reader.integer())
        limit = try reader.integer()
    }
}

/// The replica of a checkpoint on one node. node u32 · state u8 · known u8 · epoch u64 · change u64 · partial u8.
public struct ReplicaStatus: Hashable, Sendable, WireCodable {
    public enum State: UInt8, Hashable, Sendable, CaseIterable {
        /// It may lack what was acknowledged.
        case synchronising = 1
        /// It has everything that was acknowledged.
        case current
        /// Its node is away, and nobody else has everything.
        case absent
    }

    public var node: NodeID
    public var state: State
    /// The node has answered: what follows is so. Else it is not known.
    public var isKnown: Bool
    /// In which its last change was made.
    public var epoch: UInt64
    public var change: UInt64
    /// It is being copied: nothing of it counts yet.
    public var isPartial: Bool

    public init(node: NodeID, state: State, isKnown: Bool, epoch: UInt64, change: UInt64, isPartial: Bool) {
        self.node = node
        self.state = state
        self.isKnown = isKnown
        self.epoch = epoch
        self.change = change
        self.isPartial = isPartial
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(state.rawValue)
        writer.bool(isKnown)
        writer.integer(epoch)
        writer.integer(change)
        writer.bool(isPartial)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        state = try State.decode(from: &reader)
        isKnown = try reader.bool()
        epoch = try reader.integer()
        change = try reader.integer()
        isPartial = try reader.bool()
    }
}

/// A checkpoint as the cluster knows it. checkpoint u64 · name · attributes · unlinked u8 · epoch u64 · (active u32) ·
/// electing u8 · openers per node (u32 · u32)… · replicas.
public struct ClusterCheckpoint: Hashable, Sendable, WireCodable {
    public struct Openings: Hashable, Sendable, WireCodable {
        public var node: NodeID
        public var count: UInt32

        public init(node: NodeID, count: UInt32) {
            self.node = node
            self.count = count
        }

        public func encode(to writer: inout ByteWriter) {
            writer.value(node)
            writer.integer(count)
        }

        public init(decoding reader: inout ByteReader) throws(DecodeError) {
            node = try reader.value()
            count = try reader.integer()
        }
    }

    public var checkpoint: CheckpointID
    public var name: SaName
    public var attributes: CreationAttributes
    public var isUnlinked: Bool
    /// Of the active replica.
    public var epoch: UInt64
    public var active: NodeID?
    /// The next active replica is being found.
    public var isElecting: Bool
    public var openings: [Openings]
    public var replicas: [ReplicaStatus]

    public init(
        checkpoint: CheckpointID, name: SaName, attributes: CreationAttributes, isUnlinked: Bool, epoch: UInt64,
        active: NodeID?, isElecting: Bool, openings: [Openings], replicas: [ReplicaStatus]
    ) {
        self.checkpoint = checkpoint
        self.name = name
        self.attributes = attributes
        self.isUnlinked = isUnlinked
        self.epoch = epoch
        self.active = active
        self.isElecting = isElecting
        self.openings = openings
        self.replicas = replicas
    }

    /// What the active replica has; nil when nobody knows.
    public var change: UInt64? { replicas.first { $0.node == active && $0.isKnown }?.change }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(checkpoint.rawValue)
        writer.value(name)
        writer.value(attributes)
        writer.bool(isUnlinked)
        writer.integer(epoch)
        writer.optional(active)
        writer.bool(isElecting)
        writer.list(openings)
        writer.list(replicas)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        checkpoint = CheckpointID(rawValue: try reader.integer())
        name = try reader.value()
        attributes = try reader.value()
        isUnlinked = try reader.bool()
        epoch = try reader.integer()
        active = try reader.optional()
        isElecting = try reader.bool()
        openings = try reader.list()
        replicas = try reader.list()
    }
}

/// A page in the order of the ids. more u8 · acting u8 · count u32 · checkpoints.
public struct ClusterListReply: Hashable, Sendable, WireCodable {
    /// Ask again with the last checkpoint's id.
    public var hasMore: Bool
    /// The node that answers takes part; else it tells what it knew last.
    public var isActing: Bool
    public var checkpoints: [ClusterCheckpoint]

    public init(hasMore: Bool, isActing: Bool, checkpoints: [ClusterCheckpoint]) {
        self.hasMore = hasMore
        self.isActing = isActing
        self.checkpoints = checkpoints
    }

    public func encode(to writer: inout ByteWriter) {
        writer.bool(hasMore)
        writer.bool(isActing)
        writer.list(checkpoints)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        hasMore = try reader.bool()
        isActing = try reader.bool()
        checkpoints = try reader.list()
    }
}
