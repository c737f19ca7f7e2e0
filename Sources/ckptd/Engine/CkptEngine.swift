public import CkptProtocol
public import EngineKit
public import SAFTypes

/// Decides what happens to checkpoints on this node; performs nothing and holds no data.
/// Spec: SAI-AIS-CKPT-B.01.01 and B.02.02.
///
/// Whatever might not fit the store is decided first and becomes true with `.settled(.done)`; the shell reports that
/// before anything else.
///
/// Alone it decides everything. On a member of a cluster the directory decides about opens, closes, unlinks and
/// retention, and `Replication` about who takes updates; this engine is then the memory of the node's replicas and of
/// its processes: what sections there are, who may do what, what was executed.
public struct CkptEngine: Engine, Sendable {
    /// One successful open.
    struct Handle: Hashable, Sendable {
        var checkpoint: CheckpointID
        var slot: Int
        var session: ClientSession
        var flags: OpenFlags
    }

    struct Session: Hashable, Sendable {
        var process: ProcessIdentity
        var isConnected: Bool
        /// It had checkpoints open before this life of ckptd, and has not been seen in it.
        var isUnseen = false
        var handles: Set<HandleID> = []
    }

    /// What waits for the store's word.
    enum Pending: Hashable, Sendable {
        case create(NewCheckpoint, RequestOrigin)
        case open(Transaction, OpenerRecord, RequestOrigin)
        case update(Transaction, UpdateReply, RequestOrigin)
        case purge(Transaction)
        case look(CheckpointID, AfterLook)
        case recall(Transaction, AfterLook)
        case grant(CheckpointID, slot: Int, limit: Int)
        case tell(CheckpointID, AfterLook, isInPlace: Bool)
        case told(Telling)
        // Of replicas.
        case make(NewCheckpoint)
        case keepOpener(Transaction)
        case apply(Transaction, isTolerant: Bool)
        case piece(Transaction)
        case copied(Transaction)
    }

    /// An open of a process here, on a member; also when there is no replica here yet.
    struct LocalOpen: Hashable, Sendable {
        var record: OpenerRecord
        /// The directory has been seen to have it: once it has it no more, it was closed.
        var isConfirmed = false
        /// What it has been told of updates may have been undone.
        var needsSnapshot = false
    }

    public let limits: CkptLimits
    /// Nil: alone.
    public let node: NodeID?
    var checkpoints: [CheckpointID: OpenCheckpoint] = [:]
    var named: [SaName: CheckpointID] = [:]
    var handles: [HandleID: Handle] = [:]
    var sessions: [ClientSession: Session] = [:]
    /// Unlinks that led to a deletion, for as long as a retransmission may ask.
    var tombstones: [CheckpointID: RequestIdentity] = [:]
    var pending: Pending?
    /// Checkpoints with sections that their writers write themselves.
    var directCheckpoints: Set<CheckpointID> = []
    var locals: [CheckpointID: [HandleID: LocalOpen]] = [:]
    var durability = Durability()
    var fence = WriteFence()
    /// Names of checkpoints that are in the database only, and why.
    var withheld: [SaName: String] = [:]
    var nextID: UInt64
    /// Checks everything after every event; for tests, it takes time.
    public var checksDeeply = false

    /// - Parameters:
    ///   - incarnation: ``incarnation(seconds:found:node:)``, greater than in every earlier life of the daemon on this
    ///     node; ids of checkpoints and handles are made from it and the node, so that none is used twice.
    ///   - node: of a member of a cluster, below ``nodesMax``; nil alone.
    public init(limits: CkptLimits = .init(), incarnation: UInt64, node: NodeID? = nil) {
        self.limits = limits
        self.node = node
        nextID = Self.idBase(node) | (incarnation & 0xFFFF_FFFF) << Self.idShift | 1
    }

    /// Node numbers from here on have no room in the ids.
    public static let nodesMax: UInt32 = 1 << 12
    private static let nodeShift: UInt64 = 52
    private static let idShift: UInt64 = 20
    private static func idBase(_ node: NodeID?) -> UInt64 {
        UInt64((node?.rawValue ?? 0) % nodesMax) << nodeShift
    }

    /// Whether an id was made on this node.
    func isOurs(_ id: UInt64) -> Bool { id >> Self.nodeShift == Self.idBase(node) >> Self.nodeShift }

    /// The seconds of the clock, and more than in any earlier life, even if the clock was set back; an absurd id in a
    /// file does not count.
    public static func incarnation(seconds: UInt64, found: [RestoredCheckpoint], node: NodeID?) -> UInt64 {
        let ids = found.flatMap { [$0.checkpoint.rawValue] + $0.openers.map(\.record.handle.rawValue) }
        let ours = ids.filter { $0 >> nodeShift == idBase(node) >> nodeShift }
        let newest = (ours.max() ?? 0) >> idShift & 0xFFFF_FFFF
        return max(seconds, min(newest, seconds * 2) + 1)
    }

    public mutating func handle(_ event: CkptEvent, at now: Instant) -> [CkptEffect] {
        switch event {
        case .settled, .looked, .telling: break
        default: invariant(pending == nil, "the store answers before anything else happens")
        }
        defer { if checksDeeply { checkInvariants() } }
        return durability.isUsed ? keepDurable(event, now) : decide(event, now)
    }

    mutating func decide(_ event: CkptEvent, _ now: Instant) -> [CkptEffect] {
        switch event {
        case .restored(let checkpoint): return restore(checkpoint, now)
        case .connected(let session, let process): return connected(session, process) + tellSoon(of: session, now)
        case .disconnected(let session, let isDead): return disconnected(session, isDead: isDead, now)
        case .request(let request, let origin, let time): return answer(request, origin, nil, time, now)
        case .abandoned(let handles): return abandoned(handles, now)
        case .settled(let outcome): return settle(outcome, now)
        case .looked(let id, let sights, let change): return looked(id, sights, change: change, now)
        case .written(let id): return tell(id)
        case .telling(let id, let sights, let isResting): return telling(id, sights, isResting: isResting, now)
        case .damaged(let checkpoint, let slot): return markCorrupted(checkpoint, slot: slot)
        case .timerFired(let timer, let time): return fired(timer, time, now)
        case .clockSet(let time): return clockSet(time, now)
        case .stored(let stored, let lineage): return self.stored(stored, lineage, now)
        case .notStored(let reason): return notStored(reason)
        case .withheld(let name, let reason):
            withheld[name] = reason
            return []
        case .persisted(let outcome): return persisted(outcome, now)
        case .assignments(let table):
            fence.take(table)
            return stopLateWriters(now)
        default: return handleAsMember(event, now)
        }
    }

    /// Sessions that had checkpoints open before a restart and have not come back yet, in order.
    public var absentSessions: [(session: ClientSession, process: ProcessIdentity)] {
        sessions.filter { !$0.value.isConnected }.sorted { $0.key < $1.key }.map { ($0.key, $0.value.process) }
    }

    /// What a session has open, in order.
    public func handles(of session: ClientSession) -> [HandleID] { sessions[session]?.handles.sorted() ?? [] }

    /// A process that has not been seen since the restart: as long as it lives it may only have nothing to say, for who
    /// has no thread to spare connects when it is called. Nil for all others.
    public func unseenProcess(of session: ClientSession) -> ProcessIdentity? {
        guard let known = sessions[session], known.isUnseen else { return nil }
        return known.process
    }

    /// Never the same again, on no node; greater than any node's number.
    public mutating func makeID() -> UInt64 {
        defer { nextID += 1 }
        return nextID
    }

    mutating func answer(
        _ request: CkptRequest, _ origin: RequestOrigin, _ source: ForwardSource?, _ time: SaTime, _ now: Instant
    ) -> [CkptEffect] {
        lookFirst(request, origin, source, time) ?? answerNow(request, origin, source, time, now)
    }

    mutating func answerNow(
        _ request: CkptRequest, _ origin: RequestOrigin, _ source: ForwardSource?, _ time: SaTime, _ now: Instant,
        isLast: Bool = false
    ) -> [CkptEffect] {
        do throws(Refusal) {
            return node == nil
                ? try answerAlone(request, origin, time, now) : try answerAsMember(request, origin, source, time, now)
        } catch {
            if error.code == .noSpace, !isLast, let effects = recallForRoom(request, origin, source, time) {
                return effects
            }
            return [.refuse(origin.identity, error.code, error.text)]
        }
    }

    /// What the directory decides for a member.
    private mutating func answerAlone(
        _ request: CkptRequest, _ origin: RequestOrigin, _ time: SaTime, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        switch request {
        case .open(let name, let flags, let attributes): return try open(name, flags, attributes, origin, time, now)
        case .close(let id): return try close(id, origin, time, now)
        case .unlink(let name): return try unlink(name, origin, time, now)
        case .setRetention(let id, let duration): return try setRetention(id, duration, origin, time)
        case .setActiveReplica(let id): return try setActiveReplica(id, origin, time)
        default: return try answerData(request, origin, nil, time, now)
        }
    }

    mutating func answerData(
        _ request: CkptRequest, _ origin: RequestOrigin, _ source: ForwardSource?, _ time: SaTime, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        switch request {
        case .open, .close, .unlink, .setRetention, .setActiveReplica:
            throw Refusal(.notSupported, "\(request.code) is decided by the directory of the cluster")
        case .synchronize(let id): return try synchronize(try caller(id, origin, source), origin)
        case .status(let id):
            let checkpoint = try caller(id, origin, source).checkpoint
            try requireActiveReplica(checkpoint)
            return [.reply(origin.identity, .status(checkpoint.descriptor))]
        case .update(let id, let operations):
            return try update(try caller(id, origin, source), operations, origin, time)
        case .updateIf(let change, let id, let operations):
            return try update(try caller(id, origin, source), operations, ifChangeIs: change, origin, time)
        case .read(let id, let ranges): return try read(try caller(id, origin, source), ranges, origin, time)
        case .list(let id, let after, let limit, let chosen, let at):
            return try list(try caller(id, origin, source), after: after, limit: limit, chosen, at, origin, time)
        case .snapshot(let id): return try snapshot(try caller(id, origin, source), origin, time)
        case .subscribe(let id, let after):
            return try subscribe(id, after: after, try caller(id, origin, nil), origin)
        case .unsubscribe(let id):
            let handle = try opened(id, origin)
            if let slot = checkpoints[handle.checkpoint]?.openerSlots[id] {
                checkpoints[handle.checkpoint]?.setSubscribed(false, opener: slot)
            }
            return [.endSubscription(id), .reply(origin.identity, .done)]
        case .resume(let id):
            _ = try opened(id, origin)
            return [.reply(origin.identity, .done)]
        case .exists(let name): return exists(name, origin)
        case .section(let id, let section):
            return try self.section(try caller(id, origin, source), section, origin, time)
        case .watchReplicas(let id):
            return [.reply(origin.identity, .replicas(try opened(id, origin).checkpoint, id))]
        case .map(let id):
            let handle = try opened(id, origin)
            try require(.read, handle.flags, checkpoints[handle.checkpoint]?.name)
            let access = directAccess(id, handle, origin.user)
            return [.reply(origin.identity, .mapping(handle.checkpoint, direct: access))]
        case .adminList(let after, let limit): return try adminList(after, limit, origin, now)
        case .adminSections(let name, let after, let limit, let dataMax):
            return try adminSections(name, after, limit, dataMax, origin, source, now)
        }
    }

    /// The handle, if it belongs to who asks.
    func opened(_ id: HandleID, _ origin: RequestOrigin) throws(Refusal) -> Handle {
        guard let handle = handles[id], handle.session == origin.identity.session else {
            throw Refusal(.badHandle, "no open checkpoint with handle \(id) in this process")
        }
        return handle
    }

    /// Who asks for what to be done with data, and with which.
    struct Caller {
        var checkpoint: OpenCheckpoint
        var writer: RequestWriter
        /// Nil: nothing of it has been kept in this replica yet.
        var slot: Int?
        var flags: OpenFlags
    }

    /// A request that came from another node; that one has checked the handle.
    struct ForwardSource: Hashable, Sendable {
        var checkpoint: CheckpointID
        var node: NodeID
    }

    func caller(_ id: HandleID, _ origin: RequestOrigin, _ source: ForwardSource?) throws(Refusal) -> Caller {
        if let source {
            guard let checkpoint = checkpoints[source.checkpoint], !checkpoint.state.isPartial else {
                throw Refusal(.tryAgain, "no replica of checkpoint \(source.checkpoint) here")
            }
            return Caller(
                checkpoint: checkpoint,
                writer: RequestWriter(handle: id, node: source.node, session: origin.identity.session),
                slot: checkpoint.openerSlots[id], flags: [.read, .write])
        }
        let handle = try opened(id, origin)
        guard let checkpoint = checkpoints[handle.checkpoint], !checkpoint.state.isPartial || node == nil else {
            throw Refusal(.tryAgain, "the replica of checkpoint \(handle.checkpoint) is being made")
        }
        return Caller(
            checkpoint: checkpoint,
            writer: RequestWriter(handle: id, node: node ?? NodeID(0), session: handle.session),
            slot: handle.slot >= 0 ? handle.slot : checkpoint.openerSlots[id], flags: handle.flags)
    }

    func requireActiveReplica(_ checkpoint: OpenCheckpoint) throws(Refusal) {
        guard checkpoint.state.hasActiveReplica || node != nil else {
            throw Refusal(.notExist, "checkpoint \(checkpoint.name) has no active replica; set one first")
        }
    }

    func require(_ flag: OpenFlags, _ flags: OpenFlags, _ name: SaName?) throws(Refusal) {
        guard flags.contains(flag) else {
            let what = name.map { "checkpoint \($0)" } ?? "the checkpoint"
            throw Refusal(.access, "\(what) was not opened for \(flag == .read ? "reading" : "writing")")
        }
    }

    private mutating func settle(_ outcome: CommitOutcome, _ now: Instant) -> [CkptEffect] {
        guard let decided = pending else { return [] }
        pending = nil
        switch (outcome, decided) {
        case (.done, .create(let new, let origin)): return created(new, origin)
        case (.done, .open(let transaction, let record, let origin)): return opened(transaction, record, origin)
        case (.done, .update(let transaction, let reply, let origin)):
            let reply = CkptEffect.reply(origin.identity, .updated(reply))
            if node == nil { return [reply] + updated(transaction, now) + grant(after: transaction) }
            return [.wrote(transaction.checkpoint, change: transaction.state.change), reply]
                + updated(transaction, now) + grant(after: transaction)
        case (.done, .purge(let transaction)):
            if node == nil { return updated(transaction, now) }
            return [.wrote(transaction.checkpoint, change: transaction.state.change)] + updated(transaction, now)
        case (_, .recall(let transaction, let after)): return recalled(outcome, transaction, after, now)
        case (_, .grant(let id, let slot, let limit)): return granted(outcome, id, slot: slot, limit: limit, now)
        case (_, .told(let telling)): return told(outcome, telling, now)
        case (_, .look), (_, .tell): return []  // it is not the store's outcome that it waits for
        case (_, .purge(let transaction)):
            // The sections are gone for every request all the same; the memory follows when there is room.
            return [.startTimer(.expiration(transaction.checkpoint), at: now + .seconds(10))]
        case (_, .create(_, let origin)), (_, .open(_, _, let origin)): return [refusal(outcome, origin)]
        case (.corrupted(let slot), .update(let transaction, _, let origin)):
            return markCorrupted(transaction.checkpoint, slot: slot) + [refusal(outcome, origin)]
        case (.noSpace, .update(_, _, let origin)), (.failed, .update(_, _, let origin)):
            return [refusal(outcome, origin)]
        case (_, .make), (_, .keepOpener), (_, .apply), (_, .piece), (_, .copied):
            return settleReplica(outcome, decided)
        }
    }

    func refusal(_ outcome: CommitOutcome, _ origin: RequestOrigin) -> CkptEffect {
        switch outcome {
        case .done: .reply(origin.identity, .done)
        case .noSpace(let text): .refuse(origin.identity, .noSpace, "no room in the RAM files: \(text)")
        case .corrupted: .refuse(origin.identity, .library, "the section is corrupted; overwrite or delete it")
        case .failed(let text): .refuse(origin.identity, .library, text)
        }
    }

    func checkInvariants() {
        invariant(named.count <= checkpoints.count, "a name has a checkpoint")
        for (name, id) in named {
            invariant(
                checkpoints[id]?.name == name && checkpoints[id]?.state.isUnlinked == false,
                "names lead to their checkpoint")
        }
        checkDurabilityInvariants()
        for checkpoint in checkpoints.values {
            checkpoint.checkInvariants(isAlone: node == nil)
            invariant(
                checkpoint.state.isUnlinked || named[checkpoint.name] == checkpoint.id || node != nil,
                "what is not unlinked has its name")
            invariant(
                !checkpoint.state.isUnlinked || checkpoint.openerCount > 0 || node != nil,
                "unlinked and not open is gone")
        }
        if node != nil { return checkMemberInvariants() }
        invariant(checkpoints.values.reduce(0) { $0 + $1.openerCount } == handles.count, "every open has its handle")
        invariant(sessions.values.reduce(0) { $0 + $1.handles.count } == handles.count, "every handle has its session")
        for (id, handle) in handles {
            invariant(
                checkpoints[handle.checkpoint]?.openers[handle.slot]?.record.handle == id,
                "a handle leads to its opener")
        }
    }
}
