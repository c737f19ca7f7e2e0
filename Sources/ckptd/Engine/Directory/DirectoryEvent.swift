public import CkptProtocol
public import EngineKit
public import SAFTypes

/// A command to the directory; every node applies it at the same place of the order.
///
/// It may come late: a node that is cut off says it again when it is back, and its client has long been told TIMEOUT.
/// So what a client wants names what it was about when it was asked for (`seen`), and is refused when that is another
/// meanwhile. Nil: whatever there is, as builds before version 3 say it.
public enum DirectoryEvent: Hashable, Sendable {
    /// A node's ckptd is there (again) and tells what it has; in several parts, of which the last says so.
    case joined(NodeJoin)
    /// The ckptd of these nodes are gone, at one point of the order: none of them is newer than another.
    case left([NodeLife])
    /// `id` is the checkpoint's if it is created.
    case open(SaName, handle: HandleID, on: NodeID, id: CheckpointID, attributes: CreationAttributes?)
    /// Said again by a node that is not sure whether it was heard; what is not open is not closed.
    case close([OpenedHandle])
    /// `seen`: the checkpoint that had the name; ``unknown``: none.
    case unlink(SaName, seen: CheckpointID? = nil, by: RequestIdentity)
    /// `seen`: how often it had been changed (``DirectoryEntry/retentionChanges``); -1: the checkpoint was not known.
    case setRetention(CheckpointID, SaTime, seen: Int64? = nil)
    case setActive(CheckpointID, NodeID, seen: SeenActivity? = nil)
    /// Said by the active replica of that epoch: this one has everything, and is waited for from now on.
    case current(CheckpointID, NodeID, epoch: UInt64)
    /// This replica has not answered for too long; others need not wait for it.
    case silent(CheckpointID, NodeID, epoch: UInt64)
    /// A node cannot keep its replica: no room, or damage.
    case failed(CheckpointID, NodeID)
    /// What a node's current replicas have, in the epoch of the election; older epochs find no ear there any more.
    case report(NodeID, [ReplicaReport])
    /// Said by the active replica of that epoch: the successor has everything, and nothing is accepted here any more.
    case handOver(CheckpointID, epoch: UInt64, to: NodeID)
    case retentionOver(CheckpointID)
    /// A node has been away for too long: what its processes had open is closed.
    case forgotten(NodeID)
    /// Who has not come until now is not waited for.
    case recoveryOver
    /// Who has not come back until now is not waited for when all are lost that had everything. Of one checkpoint: an
    /// operator does not want to wait any longer, not even for who is known to have everything.
    case salvageOver(CheckpointID?)
    /// What the database of a controller says; told before that node joins, and heard by a directory that begins anew.
    case remembered(DirectoryMemory)
    /// What there is by a name, at this place of the order. Before version 3: nothing, and no answer.
    case find(SaName)

    /// No checkpoint has this id.
    public static let unknown = CheckpointID(rawValue: 0)
}

/// Who was active, or was to be, when another was asked for. An epoch has one active replica.
public struct SeenActivity: Hashable, Sendable {
    public var epoch: UInt64
    public var successor: NodeID?

    public init(epoch: UInt64, successor: NodeID?) {
        self.epoch = epoch
        self.successor = successor
    }
}

/// One life of a node's ckptd.
public struct NodeLife: Hashable, Sendable {
    public var node: NodeID
    public var incarnation: UInt64

    public init(node: NodeID, incarnation: UInt64) {
        self.node = node
        self.incarnation = incarnation
    }
}

public struct ReplicaReport: Hashable, Sendable {
    public var id: CheckpointID
    /// Of the election.
    public var epoch: UInt64
    public var version: ReplicaVersion

    public init(id: CheckpointID, epoch: UInt64, version: ReplicaVersion) {
        self.id = id
        self.epoch = epoch
        self.version = version
    }
}

public struct NodeJoin: Hashable, Sendable {
    public var node: NodeID
    /// This life of its ckptd.
    public var incarnation: UInt64
    /// How many nodes the cluster has.
    public var nodesExpected: UInt32
    /// Seconds since 1970: where epochs begin anew, they begin above all earlier ones.
    public var time: UInt64
    /// Of the directory that the node was part of before; 0 when it was of none.
    public var lineage: UInt64
    /// For the directory, if it begins with this node.
    public var newLineage: UInt64
    public var held: [HeldReplica]
    public var isLast: Bool

    public init(
        node: NodeID, incarnation: UInt64, nodesExpected: UInt32, time: UInt64, lineage: UInt64, newLineage: UInt64,
        held: [HeldReplica], isLast: Bool
    ) {
        self.node = node
        self.incarnation = incarnation
        self.nodesExpected = nodesExpected
        self.time = time
        self.lineage = lineage
        self.newLineage = newLineage
        self.held = held
        self.isLast = isLast
    }
}

public enum DirectoryEffect: Hashable, Sendable {
    /// This entry is another than before; every node looks what that means for it, once a majority has it: what a
    /// node that is being cut off was told alone has not happened. See ``DirectoryBacklog``.
    case changed(DirectoryEntry)
    /// Who has told what it has; before what follows from that.
    case members([NodeLife])
    /// It is no more.
    case removed(CheckpointID, DirectoryRemoval)
    /// A node that joins has a replica of what is no more.
    case unknown(CheckpointID, NodeID)
    /// Answers to whoever proposed.
    case opened(CheckpointID, isCreated: Bool)
    case refused(AisError, String)
    /// Nothing was done: what it was about is another meanwhile.
    case outdated(String)
    case found(DirectoryEntry?)
    case startTimer(DirectoryTimer, at: Instant)
    case cancelTimer(DirectoryTimer)
}

public enum DirectoryTimer: Hashable, Sendable {
    case recovery
    case away(NodeID)
    case retention(CheckpointID)
    /// Of all that are waited for; it is started anew for those that have longer.
    case salvage

    /// Ids of checkpoints are greater than any node's.
    public var key: UInt64 {
        switch self {
        case .recovery: 0
        case .away(let node): UInt64(node.rawValue)
        case .retention(let id): id.rawValue
        case .salvage: UInt64(UInt32.max)
        }
    }

    public init(key: UInt64) {
        if key > UInt64(UInt32.max) {
            self = .retention(CheckpointID(rawValue: key))
        } else if key == UInt64(UInt32.max) {
            self = .salvage
        } else {
            self = key == 0 ? .recovery : .away(NodeID(UInt32(key)))
        }
    }

    /// What its expiry is for the directory.
    public var event: DirectoryEvent {
        switch self {
        case .recovery: .recoveryOver
        case .away(let node): .forgotten(node)
        case .retention(let id): .retentionOver(id)
        case .salvage: .salvageOver(nil)
        }
    }
}

public struct OpenedHandle: Hashable, Sendable {
    public var checkpoint: CheckpointID
    public var handle: HandleID

    public init(_ checkpoint: CheckpointID, _ handle: HandleID) {
        self.checkpoint = checkpoint
        self.handle = handle
    }
}

public enum DirectoryRemoval: Hashable, Sendable {
    case unlinked(by: RequestIdentity?)
    case retentionOver
}
