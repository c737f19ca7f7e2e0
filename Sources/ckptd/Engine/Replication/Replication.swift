public import CkptProtocol
import Containers
public import EngineKit
public import SAFTypes

/// One node's part in keeping the replicas of every checkpoint equal. It knows versions and no data.
///
/// The directory says who is active and in which epoch. The active replica numbers the updates and sends them to the
/// others, its *followers*; a follower tells what it has, and is sent what it lacks: from the log of recent updates, or
/// a copy of everything. A synchronous update is safe when every *counted* follower has it: those that the directory
/// calls current, and those the active replica has proposed to be. The states are a table in the README.
public struct Replication: Engine, Sendable {
    struct Follower: Hashable, Sendable {
        enum Stage: Hashable, Sendable {
            /// It has not said what it has.
            case unknown
            case streaming
            case copying(CopyCursor, inFlight: Int)
            /// All pieces are out; the end follows when nothing waits before it.
            case ending
        }
        var stage = Stage.unknown
        var round: UInt32 = 0
        var sent: UInt64 = 0
        var acknowledged: UInt64 = 0
        /// What it acknowledges before this is of data that a copy takes the place of.
        var copyBase: UInt64 = 0
        /// Synchronous updates wait for it.
        var isCounted = false
        /// The directory is being told that it is current.
        var isProposed = false
        /// The lane to it is full.
        var isStalled = false
        /// It has been so for too long: writers do not wait for room any more.
        var isSlow = false
    }

    struct Waiting: Hashable, Sendable {
        var change: UInt64
        var ticket: UInt64
    }

    /// The active replica.
    struct Leading: Hashable, Sendable {
        var epoch: UInt64
        var followers = OrderedMap<NodeID, Follower>()
        var waiting: [Waiting] = []
        /// Updates whose writers wait until the lanes have room again; see ``isHeldUp``.
        var held: [Waiting] = []
        var heldSince = Instant.start
        /// The first of those that wait has done so since then.
        var waitsSince = Instant.start
        /// Every counted follower has had everything up to here.
        var safe: UInt64 = 0
        var isHandingOver = false
        /// A writer that is faster than a lane would outrun the log, and who follows would need a copy again and again.
        /// Those that are counted are waited for anyway.
        var isHeldUp: Bool {
            followers.contains { $0.value.isStalled && !$0.value.isSlow && !$0.value.isCounted }
        }
        /// To whom the directory is being told to hand over.
        var proposedSuccessor: NodeID?
    }

    struct Following: Hashable, Sendable {
        enum Stage: Hashable, Sendable {
            case asked
            case streaming(EpochHistory)
            case copying
            /// The store is making the copy whole.
            case finishing(EpochHistory)
        }
        var active: NodeID
        var epoch: UInt64
        var stage = Stage.asked
        var since: Instant
        /// Updates come that do not continue what it has, and since then none that does.
        var missesSince: Instant?
    }

    struct Replica: Hashable, Sendable {
        var entry: DirectoryEntry
        var data: ReplicaData?
        var isBeingMade = false
        /// Nothing of an earlier epoch is heard.
        var promised: UInt64 = 0
        var reportedEpoch: UInt64 = 0
        var electingSince = Instant.start
        var leading: Leading?
        var following: Following?
        var round: UInt32 = 0
        /// Its data was no good; not asked for again before.
        var restsUntil = Instant.start
        /// Nodes that were current, or active, and may not have heard that they are no more: until when they have been
        /// promised that nothing is acknowledged behind their backs.
        var readers = OrderedMap<NodeID, Instant>()

        /// No disk keeps what is unlinked.
        var isPersistent: Bool { entry.attributes.flags.contains(.persistent) && !entry.isUnlinked }
    }

    public let node: NodeID
    /// Who does not answer for so long is not waited for.
    public let silenceMax: Duration
    var replicas = OrderedMap<CheckpointID, Replica>()
    /// Replicas the node has of checkpoints the directory has not spoken of yet.
    var found = OrderedMap<CheckpointID, ReplicaData>()
    /// Of persistent checkpoints: what this node's database has.
    var durable = OrderedMap<CheckpointID, UInt64>()
    var mayAct = false
    var wakesAt: Instant?
    /// Until when others have been promised so; see ``ReadGrants``.
    var granted = OrderedMap<NodeID, Instant>()
    /// Checkpoints with a follower there whose lane is full.
    var stalled = OrderedMap<NodeID, [CheckpointID]>()

    static let piecesInFlightMax = 8
    /// So many times ``silenceMax`` what does not continue a follower's data may be on its way.
    static let missesMax = 4
    /// An asynchronous follower this close to the active replica counts as having everything, and stays so close.
    static let lagMax: UInt64 = 64

    public init(node: NodeID, silenceMax: Duration = .seconds(2)) {
        self.node = node
        self.silenceMax = silenceMax
    }

    public mutating func handle(_ event: ReplicationEvent, at now: Instant) -> [ReplicationEffect] {
        var effects: [ReplicationEffect] = []
        switch event {
        case .entry(let id, let entry): changed(id, entry, now, &effects)
        case .held(let id, let data): held(id, data, now, &effects)
        case .notMade(let id):
            replicas[id]?.isBeingMade = false
            rest(id, now, &effects)
        case .wrote(let id, let change, let ticket): wrote(id, change, ticket, now, &effects)
        case .awaitAll(let id, let change, let ticket): awaitAll(id, change, ticket, now, &effects)
        case .message(let message, let sender): receive(message, from: sender, now, &effects)
        case .applied(let id, let isDone): applied(id, isDone, now, &effects)
        case .streamed(let id, let node, let upTo, let end): streamed(id, node, upTo, end, now, &effects)
        case .blocked(let id, let node, let change):
            replicas[id]?.leading?.followers[node]?.sent = change - 1
            stall(id, node)
        case .pieceSent(let id, let node, let next): pieceSent(id, node, next, now, &effects)
        case .pieceBlocked(let id, let node): stall(id, node)
        case .copiedBlocked(let id, let node):
            replicas[id]?.leading?.followers[node]?.stage = .ending
            stall(id, node)
        case .linkUp(let peer): linked(peer, now, &effects)
        case .linkDown(let peer):
            for id in leadingIDs(to: peer) {
                replicas[id]?.leading?.followers[peer]?.unlink()
                letGo(id, now, &effects)
            }
        case .writable(let peer): resume(peer, now, &effects)
        case .durable(let id, let change):
            durable.updateValue(change, forKey: id)
            acknowledge(id, &effects)
        case .mayAct(let isAllowed):
            guard isAllowed != mayAct else { break }
            mayAct = isAllowed
            for id in replicas.keys { effects.append(.routeChanged(id)) }
        case .refused(let id):
            lookAgain(id, &effects)
            review(id, now, &effects)
        case .noAnswer(let id, let peer):
            guard let entry = replicas[id]?.entry, entry.active == peer else { break }
            effects.append(.propose(.silent(id, peer, epoch: entry.epoch), about: id))
        case .noPromise(let id, let peer):
            guard let leading = replicas[id]?.leading, leading.followers[peer]?.isCounted ?? false else { break }
            effects.append(.propose(.silent(id, peer, epoch: leading.epoch), about: id))
        case .granted(let peer, let until): granted[peer] = max(granted[peer] ?? .start, until)
        case .ended(let peer): ended(peer, now, &effects)
        case .tick: tick(now, &effects)
        }
        return effects
    }

    // MARK: To be read

    public func entry(_ id: CheckpointID) -> DirectoryEntry? { replicas[id]?.entry }

    /// Where a data operation is done now.
    public func route(_ id: CheckpointID) -> ReplicaRoute {
        guard let replica = replicas[id] else { return .nowhere }
        if !mayAct || replica.entry.isElecting { return .later }
        guard let active = replica.entry.active else { return .nowhere }
        if active != node { return .there(active) }
        return replica.leading.map { !$0.isHandingOver } ?? false ? .here : .later
    }

    /// Whether this node's replica has everything that was acknowledged.
    public func isCurrent(_ id: CheckpointID) -> Bool {
        guard let replica = replicas[id], let data = replica.data else { return false }
        return !data.isPartial && replica.entry.replicas[node] == .current
    }

    /// Whether a read of this node's replica gives what the active one would: it is the active one, or has every
    /// synchronous update that was acknowledged, and is sent the others. True of what this node has heard so far; how
    /// long that is worth anything is not known here.
    public func isReadable(_ id: CheckpointID) -> Bool {
        guard let replica = replicas[id], isCurrent(id), !replica.entry.isElecting else { return false }
        if replica.entry.active == node { return replica.leading.map { !$0.isHandingOver } ?? false }
        guard replica.entry.attributes.flags.contains(.writeAllReplicas), let following = replica.following,
            following.epoch == replica.entry.epoch, following.missesSince == nil,
            replica.data?.version.epoch == following.epoch
        else { return false }
        if case .streaming = following.stage { return true }
        return false
    }

    /// Whether all who could be made the active replica instead of this one keep their promise.
    ///
    /// - Parameter keeps: of a node: nothing has been acknowledged there behind this one's back.
    public func isTrusted(_ id: CheckpointID, _ keeps: (NodeID) -> Bool) -> Bool {
        guard let leading = replicas[id]?.leading else { return false }
        for (peer, follower) in leading.followers where follower.isCounted { if !keeps(peer) { return false } }
        return true
    }

    public var ids: [CheckpointID] { Array(replicas.keys) }

    public func version(_ id: CheckpointID) -> ReplicaVersion? { replicas[id]?.data?.version ?? found[id]?.version }

    /// What the active replica here knows of each other one.
    public func acknowledged(_ id: CheckpointID) -> [(node: NodeID, change: UInt64)] {
        replicas[id]?.leading?.followers.map { ($0.key, $0.value.acknowledged) } ?? []
    }

    /// Whether updates made here are for nobody else, so that nothing need be done about them.
    public func isAlone(_ id: CheckpointID) -> Bool { replicas[id]?.leading?.followers.isEmpty ?? false }

    func leadingIDs(to peer: NodeID) -> [CheckpointID] {
        replicas.filter { $0.value.leading?.followers.contains(peer) ?? false }.keys
    }

    mutating func wake(_ now: Instant, _ effects: inout [ReplicationEffect]) {
        wake(at: now + silenceMax / 2, &effects)
    }

    mutating func wake(at: Instant, _ effects: inout [ReplicationEffect]) {
        if let wakesAt, wakesAt <= at { return }
        wakesAt = at
        effects.append(.wake(at: at))
    }
}

extension Replication.Follower {
    /// What was on its way may be lost.
    mutating func unlink() {
        stage = .unknown
        (isStalled, isSlow) = (false, false)
    }
}
