import CkptProtocol
import EngineKit
import SAFTypes

/// Decides what happens to checkpoints on this node; performs nothing and holds no data.
/// Spec: SAI-AIS-CKPT-B.01.01 and B.02.02.
///
/// Whatever might not fit the store is decided first and becomes true with `.settled(.done)`; the shell reports that
/// before anything else.
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
        var handles: Set<HandleID> = []
    }

    /// What waits for the store's word.
    enum Pending: Hashable, Sendable {
        case create(NewCheckpoint, RequestOrigin)
        case open(Transaction, OpenerRecord, RequestOrigin)
        case update(Transaction, UpdateReply, RequestOrigin)
        case purge(Transaction)
    }

    public let limits: CkptLimits
    var checkpoints: [CheckpointID: OpenCheckpoint] = [:]
    var named: [SaName: CheckpointID] = [:]
    var handles: [HandleID: Handle] = [:]
    var sessions: [ClientSession: Session] = [:]
    /// Unlinks that led to a deletion, for as long as a retransmission may ask.
    var tombstones: [CheckpointID: RequestIdentity] = [:]
    var pending: Pending?
    var nextID: UInt64
    /// Checks everything after every event; for tests, it takes time.
    public var checksDeeply = false

    /// - Parameter incarnation: greater than in every earlier life of the daemon on this node, below 2^36; ids of
    ///   checkpoints and handles are made from it, so that none is used twice.
    public init(limits: CkptLimits = .init(), incarnation: UInt64) {
        self.limits = limits
        nextID = (incarnation & 0xF_FFFF_FFFF) << 28 | 1
    }

    public mutating func handle(_ event: CkptEvent, at now: Instant) -> [CkptEffect] {
        if case .settled = event {
        } else {
            invariant(pending == nil, "the store answers before anything else happens")
        }
        defer { if checksDeeply { checkInvariants() } }
        switch event {
        case .restored(let checkpoint): return restore(checkpoint, now)
        case .connected(let session, let process): return connected(session, process)
        case .disconnected(let session, let isDead): return disconnected(session, isDead: isDead, now)
        case .request(let request, let origin, let time):
            do throws(Refusal) {
                return try answer(request, origin, time, now)
            } catch {
                return [.refuse(origin.identity, error.code, error.text)]
            }
        case .settled(let outcome): return settle(outcome, now)
        case .damaged(let checkpoint, let slot): return markCorrupted(checkpoint, slot: slot)
        case .timerFired(let timer, let time): return fired(timer, time, now)
        }
    }

    /// Sessions that had checkpoints open before a restart and have not come back yet, in order.
    public var absentSessions: [(session: ClientSession, process: ProcessIdentity)] {
        sessions.filter { !$0.value.isConnected }.sorted { $0.key < $1.key }.map { ($0.key, $0.value.process) }
    }

    mutating func makeID() -> UInt64 {
        defer { nextID += 1 }
        return nextID
    }

    private mutating func answer(
        _ request: CkptRequest, _ origin: RequestOrigin, _ time: SaTime, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        switch request {
        case .open(let name, let flags, let attributes): return try open(name, flags, attributes, origin, time, now)
        case .close(let id): return try close(id, origin, time, now)
        case .unlink(let name): return try unlink(name, origin, time, now)
        case .setRetention(let id, let duration): return try setRetention(id, duration, origin, time)
        case .setActiveReplica(let id): return try setActiveReplica(id, origin, time)
        case .synchronize(let id): return try synchronize(id, origin)
        case .status(let id):
            let (_, checkpoint) = try opened(id, origin)
            try requireActiveReplica(checkpoint)
            return [.reply(origin.identity, .status(checkpoint.descriptor))]
        case .update(let id, let operations): return try update(id, operations, origin, time, now)
        case .updateIf(let change, let id, let operations):
            return try update(id, operations, ifChangeIs: change, origin, time, now)
        case .read(let id, let ranges): return try read(id, ranges, origin, time)
        case .list(let id, let after, let limit, let chosen, let at):
            return try list(id, after: after, limit: limit, chosen, at, origin, time)
        case .snapshot(let id): return try snapshot(id, origin, time)
        case .subscribe(let id, let after): return try subscribe(id, after: after, origin, time)
        case .unsubscribe(let id):
            let (handle, _) = try opened(id, origin)
            checkpoints[handle.checkpoint]?.setSubscribed(false, opener: handle.slot)
            return [.endSubscription(id), .reply(origin.identity, .done)]
        case .resume(let id):
            _ = try opened(id, origin)
            return [.reply(origin.identity, .done)]
        case .adminList(let after, let limit): return try adminList(after, limit, origin, now)
        case .adminSections(let name, let after, let limit, let dataMax):
            return try adminSections(name, after, limit, dataMax, origin, now)
        }
    }

    /// The handle, if it belongs to who asks.
    func opened(_ id: HandleID, _ origin: RequestOrigin) throws(Refusal) -> (Handle, OpenCheckpoint) {
        guard let handle = handles[id], handle.session == origin.identity.session,
            let checkpoint = checkpoints[handle.checkpoint]
        else { throw Refusal(.badHandle, "no open checkpoint with handle \(id) in this process") }
        return (handle, checkpoint)
    }

    func requireActiveReplica(_ checkpoint: OpenCheckpoint) throws(Refusal) {
        guard checkpoint.state.hasActiveReplica else {
            throw Refusal(.notExist, "checkpoint \(checkpoint.name) has no active replica; set one first")
        }
    }

    func require(_ flag: OpenFlags, _ handle: Handle, _ checkpoint: OpenCheckpoint) throws(Refusal) {
        guard handle.flags.contains(flag) else {
            throw Refusal(
                .access, "checkpoint \(checkpoint.name) was not opened for \(flag == .read ? "reading" : "writing")")
        }
    }

    private mutating func settle(_ outcome: CommitOutcome, _ now: Instant) -> [CkptEffect] {
        guard let decided = pending else { return [] }
        pending = nil
        switch (outcome, decided) {
        case (.done, .create(let new, let origin)): return created(new, origin)
        case (.done, .open(let transaction, let record, let origin)): return opened(transaction, record, origin)
        case (.done, .update(let transaction, let reply, let origin)):
            return [.reply(origin.identity, .updated(reply))] + updated(transaction, now)
        case (.done, .purge(let transaction)): return updated(transaction, now)
        case (_, .purge(let transaction)):
            // The sections are gone for every request all the same; the memory follows when there is room.
            return [.startTimer(.expiration(transaction.checkpoint), at: now + .seconds(10))]
        case (_, .create(_, let origin)), (_, .open(_, _, let origin)): return [refusal(outcome, origin)]
        case (.corrupted(let slot), .update(let transaction, _, let origin)):
            return markCorrupted(transaction.checkpoint, slot: slot) + [refusal(outcome, origin)]
        case (.noSpace, .update(_, _, let origin)), (.failed, .update(_, _, let origin)):
            return [refusal(outcome, origin)]
        }
    }

    private func refusal(_ outcome: CommitOutcome, _ origin: RequestOrigin) -> CkptEffect {
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
        for checkpoint in checkpoints.values {
            checkpoint.checkInvariants()
            invariant(
                checkpoint.state.isUnlinked || named[checkpoint.name] == checkpoint.id,
                "what is not unlinked has its name")
            invariant(!checkpoint.state.isUnlinked || checkpoint.openerCount > 0, "unlinked and not open is gone")
        }
        invariant(checkpoints.values.reduce(0) { $0 + $1.openerCount } == handles.count, "every open has its handle")
        invariant(sessions.values.reduce(0) { $0 + $1.handles.count } == handles.count, "every handle has its session")
        for (id, handle) in handles {
            invariant(
                checkpoints[handle.checkpoint]?.openers[handle.slot]?.record.handle == id,
                "a handle leads to its opener")
        }
    }
}
