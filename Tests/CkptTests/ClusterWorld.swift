import CkptEngine
import CkptProtocol
import Containers
import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes

/// A replica's data in memory: sections that hold the number of the request that wrote them last, and all requests in
/// order. It keeps the last few updates, as a store's log does.
struct ModelStore: Equatable {
    struct Update: Equatable {
        var request: UInt64
        var section: UInt64
    }
    static let logMax: UInt64 = 12

    var data = ReplicaData()
    var sections = OrderedMap<UInt64, UInt64>()
    private(set) var updates: [Update] = []
    private var positions: [UInt64: UInt64] = [:]
    var handles: Set<HandleID> = []
    var isActive = false

    var change: UInt64 { data.version.change }

    mutating func write(_ update: Update) {
        updates.append(update)
        positions[update.request] = UInt64(updates.count)
        sections[update.section] = update.request
        data.version.change += 1
    }

    func position(of request: UInt64) -> UInt64? { positions[request] }

    mutating func replaceUpdates(_ new: [Update]) {
        updates = new
        positions = [:]
        for (offset, update) in updates.enumerated() { positions[update.request] = UInt64(offset) + 1 }
    }

    /// What the updates lead to.
    var expected: OrderedMap<UInt64, UInt64> {
        OrderedMap(updates.map { ($0.section, $0.request) })
    }
}

enum Frame {
    case small(ReplicaMessage)
    case update(ReplicaMessage, ModelStore.Update)
    case piece(ReplicaMessage, [(UInt64, UInt64)])
    case copied(ReplicaMessage, [ModelStore.Update])
    case request(Request)
    case answer(request: UInt64, checkpoint: CheckpointID, isDone: Bool)
}

struct Request: Equatable {
    var number: UInt64
    var checkpoint: CheckpointID
    var section: UInt64
    var origin: NodeID
}

/// One way from a node to another: what is under way is lost when it breaks.
struct ModelLink {
    static let roomMax = 6
    var isUp = false
    var frames: [Frame] = []
    /// Somebody was told that it is full.
    var isWanted = false
}

/// What a client of a node is about.
struct Client {
    enum Stage: Equatable {
        case idle
        case opening(ticket: UInt64)
        case open
    }
    var name: Int
    var stage = Stage.idle
    var checkpoint: CheckpointID?
    var handle: HandleID?
    var pending: Request?
    var sentAt: Instant?
}

struct SimulatedProcess {
    enum Proposal {
        case about(CheckpointID)
        case open(client: Int)
        case other
    }
    var group: ReplicatedNode<Directory, FragmentingGroup<SimulatedGroup>>
    var replication: Replication
    let incarnation: UInt64
    var view: GroupView?
    var isMember = false
    var backlog = DirectoryBacklog()
    var proposals: [UInt64: Proposal] = [:]
    var tickets: [UInt64: Request] = [:]
    var refused: [(due: Instant, id: CheckpointID)] = []
    var wakeAt: Instant?
    var joinDue: Instant?
    var frozenUntil = Instant.start
}
