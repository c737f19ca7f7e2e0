public import CkptProtocol
public import EngineKit
import SAFTypes

// A member of a cluster: processes of this node, and what they may do.
extension CkptEngine {
    mutating func handleAsMember(_ event: CkptEvent, _ now: Instant) -> [CkptEffect] {
        guard node != nil else { return [] }
        switch event {
        case .opened(let id, let record): return opened(id, record)
        case .closed(let opens): return opens.flatMap { forget($0.handle, of: $0.checkpoint) }
        case .forwarded(let request, let origin, let id, let sender, let time):
            return answer(request, origin, ForwardSource(checkpoint: id, node: sender), time, now)
        case .entry(let id, let entry): return settleDirect(before: entry, of: id, now) ?? changed(id, entry, now)
        case .make(let entry, let time): return make(entry, time)
        case .drop(let id, let unlinker): return drop(id, unlinker, now)
        case .apply(let id, let change, let update, let isTolerant):
            return leaveDirect(id) + apply(id, change, update, isTolerant: isTolerant)
        case .wipe(let id, let base): return leaveDirect(id) + wipe(id, base: base)
        case .takePiece(let id, let parts): return leaveDirect(id) + takePiece(id, parts)
        case .finishCopy(let id, let end, let version, let history): return finishCopy(id, end, version, history)
        case .keepEpoch(let id, let epoch, let history): return keepEpoch(id, epoch, history)
        case .lineage(let lineage):
            keepLineage(lineage)
            return []
        case .restored, .connected, .disconnected, .request, .abandoned, .settled, .looked, .written, .telling,
            .damaged, .timerFired, .clockSet, .stored, .notStored, .withheld, .persisted, .assignments:
            return []
        }
    }

    mutating func answerAsMember(
        _ request: CkptRequest, _ origin: RequestOrigin, _ source: ForwardSource?, _ time: SaTime, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        if source != nil {
            switch request {
            case .subscribe, .unsubscribe, .resume, .map, .exists, .watchReplicas, .adminList:
                throw Refusal(.notSupported, "\(request.code) is answered by the node of the process")
            default: break
            }
        }
        return try answerData(request, origin, source, time, now)
    }

    /// Whether this node's processes have it open.
    func isLocal(_ record: OpenerRecord) -> Bool { record.node == NodeID(0) || record.node == node }

    func isActiveHere(_ id: CheckpointID) -> Bool { checkpoints[id]?.state.hasActiveReplica ?? false }

    // MARK: Asked before the directory and the routes

    public func checkpoint(of handle: HandleID) -> CheckpointID? { handles[handle]?.checkpoint }

    /// Everything about an open that needs no directory.
    public func admitOpen(
        _ flags: OpenFlags, _ attributes: CreationAttributes?, _ origin: RequestOrigin
    ) throws(Refusal) {
        try check(flags, attributes)
        try checkOpens(of: origin.identity.session)
        if attributes?.flags.contains(.persistent) == true, let refusal = durabilityRefusal { throw refusal }
    }

    /// Everything about a request with a handle that needs neither data nor the active replica.
    ///
    /// - Parameter entry: what the directory says of the handle's checkpoint.
    public func admit(
        _ request: CkptRequest, _ origin: RequestOrigin, entry: DirectoryEntry?
    ) throws(Refusal) -> CheckpointID {
        guard let id = request.handle else { throw Refusal(.invalidParam, "\(request.code) has no handle") }
        let handle = try opened(id, origin)
        let name = entry?.name ?? checkpoints[handle.checkpoint]?.name
        switch request {
        case .update, .updateIf, .synchronize, .setActiveReplica: try require(.write, handle.flags, name)
        case .read, .snapshot, .subscribe: try require(.read, handle.flags, name)
        default: break
        }
        guard let entry else { return handle.checkpoint }
        switch request {
        case .setRetention(_, let duration):
            guard duration >= 0 else {
                throw Refusal(.invalidParam, "retention duration \(duration); at least 0 expected")
            }
            guard !entry.isUnlinked else {
                throw Refusal(.badOperation, "checkpoint \(entry.name) is unlinked and ends with its last close")
            }
        case .setActiveReplica:
            guard entry.attributes.flags.needsActiveReplicaSet else {
                throw Refusal(
                    .badOperation, "only a collocated checkpoint with asynchronous updates has its active replica set")
            }
        case .synchronize:
            guard !entry.attributes.flags.contains(.writeAllReplicas) else {
                throw Refusal(.badOperation, "a checkpoint with synchronous updates needs no synchronisation")
            }
        default: break
        }
        return handle.checkpoint
    }

    /// Opens of processes here, ascending.
    public func handles(of id: CheckpointID) -> [HandleID] { (locals[id] ?? [:]).keys.sorted() }

    // MARK: Opens

    private mutating func opened(_ id: CheckpointID, _ record: OpenerRecord) -> [CkptEffect] {
        guard sessions[record.session] != nil else {
            return [.closeHandles([OpenedHandle(id, record.handle)])]  // it has died meanwhile
        }
        guard handles[record.handle] == nil else { return [] }
        handles[record.handle] = Handle(checkpoint: id, slot: -1, session: record.session, flags: record.flags)
        sessions[record.session]?.handles.insert(record.handle)
        locals[id, default: [:]][record.handle] = LocalOpen(record: record)
        guard let checkpoint = checkpoints[id], checkpoint.openerSlots[record.handle] == nil else { return [] }
        var transaction = Transaction(checkpoint: id, time: 0, state: checkpoint.state)
        transaction.state.retentionDeadline = 0
        transaction.openers = [.init(slot: checkpoint.freeOpenerSlot, opener: record)]
        pending = .keepOpener(transaction)
        return [.commit(transaction, isUpdate: false)]
    }

    /// An open here has ended: it is not told any more when this node joins.
    mutating func forget(_ id: HandleID, of checkpoint: CheckpointID) -> [CkptEffect] {
        locals[checkpoint]?[id] = nil
        if locals[checkpoint]?.isEmpty == true { locals[checkpoint] = nil }
        guard let handle = handles.removeValue(forKey: id) else { return [] }
        sessions[handle.session]?.handles.remove(id)
        if let session = sessions[handle.session], session.handles.isEmpty, !session.isConnected {
            sessions[handle.session] = nil
        }
        return [.endSubscription(id), .endWatch(id)] + removeOpeners(of: checkpoint, [id])
    }

    /// Steps that need no room: only so many at a time.
    private static let openersPerStep = 8

    mutating func removeOpeners(of id: CheckpointID, _ gone: [HandleID]) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id] else { return [] }
        let slots = gone.compactMap { checkpoint.openerSlots[$0] }
        var effects: [CkptEffect] = []
        for start in stride(from: 0, to: slots.count, by: Self.openersPerStep) {
            var transaction = Transaction(checkpoint: id, time: 0, state: checkpoints[id]?.state ?? checkpoint.state)
            transaction.openers = slots[start...].prefix(Self.openersPerStep).map { .init(slot: $0, opener: nil) }
            checkpoints[id]?.absorb(transaction)
            effects.append(.record(transaction, isUpdate: false))
        }
        return effects
    }

    mutating func closeAllAsMember(
        of session: ClientSession, _ known: Session, isDead: Bool, _ now: Instant
    ) -> [CkptEffect] {
        var effects: [CkptEffect] = [.cancelTimer(.absence(session))] + tellSoon(of: session, now)
        var opens: [OpenedHandle] = []
        for id in known.handles.sorted() {
            guard let handle = handles[id] else { continue }
            opens.append(OpenedHandle(handle.checkpoint, id))
            if let name = checkpoints[handle.checkpoint]?.name {
                effects.append(.note(.closed(name, handle.checkpoint, processID: known.process.id, isDead: isDead)))
            }
            effects += forget(id, of: handle.checkpoint)
        }
        sessions[session] = nil
        return opens.isEmpty ? effects : effects + [.closeHandles(opens)]
    }

    // MARK: What the directory says

    mutating func changed(_ id: CheckpointID, _ entry: DirectoryEntry?, _ now: Instant) -> [CkptEffect] {
        var effects: [CkptEffect] = []
        let opens = (locals[id] ?? [:]).sorted { $0.key < $1.key }
        for (handle, open) in opens {
            if let entry, entry.openers[handle] == node {
                locals[id]?[handle]?.isConfirmed = true
            } else if entry == nil || open.isConfirmed {
                // The directory took this node for dead, and closed what it had open.
                effects += forget(handle, of: id)
            }
        }
        guard let entry, checkpoints[id] != nil else { return effects }
        let local = locals[id] ?? [:]
        let gone = checkpoints[id]?.closedWriters(
            { entry.openers.contains($0) }, where: { local[$0] == nil }, patience: limits.writerMemory, now)
        effects += removeOpeners(of: id, gone ?? [])
        if entry.isUnlinked, named[entry.name] == id { named[entry.name] = nil }
        return effects + keepState(id, entry, now)
    }

    /// What a later life must know when the whole cluster begins anew.
    private mutating func keepState(_ id: CheckpointID, _ entry: DirectoryEntry, _ now: Instant) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id] else { return [] }
        var transaction = Transaction(checkpoint: id, time: 0, state: checkpoint.state)
        transaction.state.retentionDuration = entry.retention
        transaction.state.isUnlinked = entry.isUnlinked
        transaction.state.unlinker = entry.unlinker
        transaction.state.hasActiveReplica = entry.active == node
        if entry.retentionDeadline == nil || checkpoint.openerCount > 0 {
            transaction.state.retentionDeadline = 0
        } else if checkpoint.state.retentionDeadline == 0 {
            // Each node's clock has a beginning of its own; the directory's is only for the directory.
            transaction.state.retentionDeadline = max(1, (now + .nanoseconds(entry.retention)).nanoseconds)
        }
        var effects: [CkptEffect] = []
        if transaction.state.hasActiveReplica, checkpoint.sections.earliestExpiration != .saTimeEnd {
            effects.append(.startTimer(.expiration(id), at: now))
        } else if checkpoint.state.hasActiveReplica, !transaction.state.hasActiveReplica {
            effects.append(.cancelTimer(.expiration(id)))
        }
        guard transaction.state != checkpoint.state else { return effects }
        checkpoints[id]?.absorb(transaction)
        return effects + [.record(transaction, isUpdate: false)]
    }

    mutating func restoreAsMember(_ restored: RestoredCheckpoint, _ now: Instant) -> [CkptEffect] {
        let id = restored.checkpoint
        let checkpoint = OpenCheckpoint(restored)
        var effects: [CkptEffect] = [
            .note(.restored(restored.name, id, sections: restored.sections.count, openers: restored.openers.count))
        ]
        // What a copy has told of a writer here names no process: it had closed already.
        for opener in restored.openers where isLocal(opener.record) && opener.record.processID != 0 {
            let record = opener.record
            handles[record.handle] = Handle(
                checkpoint: id, slot: -1, session: record.session, flags: record.flags)
            locals[id, default: [:]][record.handle] = LocalOpen(record: record)
            if sessions[record.session] == nil {
                let process = ProcessIdentity(id: record.processID, start: record.processStart)
                sessions[record.session] = Session(process: process, isConnected: false, isUnseen: true)
                effects.append(.startTimer(.absence(record.session), at: now + limits.absenceMax))
            }
            sessions[record.session]?.handles.insert(record.handle)
        }
        checkpoints[id] = checkpoint
        if !checkpoint.state.isUnlinked { named[checkpoint.name] = id }
        return effects + [.replication(.held(id, checkpoint.state.replica))]
    }

    /// What this node tells when it joins: its replicas, and what its processes have open.
    public func held(at now: Instant) -> [HeldReplica] {
        checkpoints.sorted { $0.key < $1.key }.map { id, checkpoint in
            let state = checkpoint.state
            let deadline = state.retentionDeadline
            return HeldReplica(
                id: id, name: checkpoint.name, attributes: checkpoint.attributes,
                version: state.isPartial ? .empty : state.replica.version, retention: state.retentionDuration,
                retentionLeft: deadline == 0
                    ? nil : max(0, min((Instant(nanoseconds: deadline) - now).nanoseconds, state.retentionDuration)),
                isUnlinked: state.isUnlinked, isActive: state.hasActiveReplica, openers: handles(of: id))
        }
    }

    func checkMemberInvariants() {
        invariant(
            locals.values.reduce(0) { $0 + $1.count } == handles.count, "every handle is an open of a process here")
        for (id, handle) in handles {
            invariant(locals[handle.checkpoint]?[id] != nil, "a handle leads to its open")
        }
    }
}

extension CkptRequest {
    /// What the request is about, if it is about an open checkpoint.
    public var handle: HandleID? {
        switch self {
        case .open, .unlink, .exists, .adminList, .adminSections: nil
        case .close(let id), .setRetention(let id, _), .setActiveReplica(let id), .synchronize(let id), .status(let id),
            .update(let id, _), .updateIf(_, let id, _), .read(let id, _), .list(let id, _, _, _, _),
            .snapshot(let id), .subscribe(let id, _), .unsubscribe(let id), .resume(let id), .section(let id, _),
            .watchReplicas(let id), .map(let id):
            id
        }
    }
}
