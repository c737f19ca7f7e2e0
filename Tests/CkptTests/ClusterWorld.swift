import CkptEngine
import CkptProtocol
import Containers
import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes

/// What a replica holds, as the simulation's clients write it: section "log" has the numbers of all requests in the
/// order they were executed, each other section that of the request that wrote it last.
struct ReplicaView: Equatable {
    static let log: SectionID = "log"
    static func section(_ number: UInt64) -> SectionID { SectionID("section-\(number)") }

    var data: ReplicaData
    var requests: [UInt64] = []
    var sections: [SectionID: UInt64] = [:]

    init(_ image: MemberNode.Image) throws {
        let content = try MemberNode.content(image)
        data = content.replica
        for (id, section) in content.sections {
            let numbers = try MemberNode.decode(section.data) { reader in
                var numbers: [UInt64] = []
                while reader.remaining > 0 { numbers.append(try reader.integer()) }
                return numbers
            }
            if id == Self.log { requests = numbers } else { sections[id] = numbers.first }
        }
    }
}

enum Frame {
    case small(ReplicaMessage)
    /// What follows the head.
    case data(ReplicaMessage, [UInt8])
    case request(Request)
    case answer(request: UInt64, checkpoint: CheckpointID, isDone: Bool)
    case touch(sent: Instant)
    case promised(sent: Instant, index: UInt64)
    case read(PendingRead)
}

struct Request: Equatable {
    var number: UInt64
    var checkpoint: CheckpointID
    var section: UInt64
    var origin: NodeID
    var session: ClientSession
    var handle: HandleID

    /// Some delete their section instead of writing to it.
    var deletes: Bool { number % 7 == 0 }
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
    var session: ClientSession
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
        case unlink(RequestIdentity)
        case other
    }
    var group: ReplicatedNode<Directory, FragmentingGroup<SimulatedGroup>>
    var replication: Replication
    var member: MemberNode
    let incarnation: UInt64
    var view: GroupView?
    var isMember = false
    var hasLooked = false
    var mayAct: Bool { isMember && hasLooked && group.status == .synchronised }
    /// What had been decided may have been thrown away with an earlier state.
    var mustLookAtAll = false
    var backlog = DirectoryBacklog()
    var proposals: [UInt64: Proposal] = [:]
    var tickets: [UInt64: Request] = [:]
    var refused: [(due: Instant, id: CheckpointID)] = []
    var wakeAt: Instant?
    var joinDue: Instant?
    var frozenUntil = Instant.start
    // Of reads: see `ClusterSimulation+Reads`.
    var grants = ReadGrants(token: .milliseconds(300))
    var touched: Set<NodeID> = []
    var pageEnd = Instant.start
    var reads: [PendingRead] = []
    // Of persistent checkpoints: see `ClusterSimulation+Disks`.
    var persistAt: Instant?
    var flight: ModelDisk.Flight?
    var undurable: Set<UInt64> = []
    /// What an answer that waits for other replicas has to wait for besides, by the ticket of the first.
    var durableTickets: [UInt64: UInt64] = [:]
    var heldForDisk: [UInt64: Request] = [:]
}
