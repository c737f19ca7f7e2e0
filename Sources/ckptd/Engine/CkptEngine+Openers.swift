import CkptProtocol
import EngineKit
import SAFTypes

// Open, close, unlink, retention, and the processes that do it.
extension CkptEngine {
    /// Source: saCkptCheckpointOpen().
    mutating func open(
        _ name: SaName, _ flags: OpenFlags, _ attributes: CreationAttributes?, _ origin: RequestOrigin, _ time: SaTime,
        _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        try check(flags, attributes)
        if origin.isRetransmission, let earlier = earlierOpen(origin) {
            return [.reply(origin.identity, .opened(earlier))]
        }
        try checkOpens(of: origin.identity.session)
        let record = opener(HandleID(rawValue: nextID), flags, origin)
        if let id = named[name], let checkpoint = checkpoints[id] {
            if let attributes, !checkpoint.attributes.isCompatible(with: attributes) {
                throw Refusal(.exist, "checkpoint \(name) exists with other attributes")
            }
            guard checkpoint.openerCount < limits.openersMax else {
                throw Refusal(.noResources, "checkpoint \(name) is open \(limits.openersMax) times")
            }
            _ = makeID()
            var transaction = Transaction(checkpoint: id, time: time, state: checkpoint.state)
            transaction.state.retentionDeadline = 0
            transaction.openers = [.init(slot: checkpoint.freeOpenerSlot, opener: record)]
            pending = .open(transaction, record, origin)
            return [.commit(transaction, isUpdate: false)]
        }
        if let reason = withheld[name] {
            throw Refusal(.tryAgain, "checkpoint \(name) is not to be had now: \(reason)")
        }
        guard let attributes else { throw Refusal(.notExist, "checkpoint \(name) does not exist") }
        guard checkpoints.count < limits.checkpointsMax else {
            throw Refusal(.noResources, "\(limits.checkpointsMax) checkpoints on this node")
        }
        if attributes.flags.contains(.persistent) { durability.isUsed = true }
        _ = makeID()
        let new = NewCheckpoint(
            checkpoint: CheckpointID(rawValue: makeID()), name: name, attributes: attributes, createdAt: time,
            state: .init(
                retentionDuration: attributes.retentionDuration, nextSerial: attributes.hasDefaultSection ? 2 : 1,
                hasActiveReplica: !attributes.flags.needsActiveReplicaSet), openers: [record])
        pending = .create(new, origin)
        return [.create(new)]
    }

    /// What can be said of an open without knowing what there is.
    func check(_ flags: OpenFlags, _ attributes: CreationAttributes?) throws(Refusal) {
        guard flags.isValid else {
            throw Refusal(.badFlags, "open flags \(flags.rawValue); READ, WRITE, CREATE expected")
        }
        guard flags.contains(.create) == (attributes != nil) else {
            throw Refusal(.invalidParam, "creation attributes and the CREATE flag belong together")
        }
        if let attributes { try check(attributes) }
    }

    func checkOpens(of session: ClientSession) throws(Refusal) {
        guard sessions[session]?.handles.count ?? 0 < limits.opensPerSessionMax else {
            throw Refusal(.noResources, "\(limits.opensPerSessionMax) opens in one process")
        }
    }

    public func opener(_ handle: HandleID, _ flags: OpenFlags, _ origin: RequestOrigin) -> OpenerRecord {
        OpenerRecord(
            session: origin.identity.session, handle: handle, openNumber: origin.identity.number,
            processID: origin.process.id, processStart: origin.process.start, flags: flags, node: node ?? NodeID(0))
    }

    private func check(_ attributes: CreationAttributes) throws(Refusal) {
        guard attributes.flags.isValid else {
            throw Refusal(
                .invalidParam,
                "creation flags \(attributes.flags.rawValue); one of WR_ALL_REPLICAS, WR_ACTIVE_REPLICA, "
                    + "WR_ACTIVE_REPLICA_WEAK expected, with or without COLLOCATED and PERSISTENT")
        }
        guard attributes.sectionsMax > 0 else { throw Refusal(.invalidParam, "maxSections 0; at least 1 expected") }
        guard attributes.retentionDuration >= 0 else {
            throw Refusal(.invalidParam, "retention duration \(attributes.retentionDuration); at least 0 expected")
        }
        let (most, overflow) = attributes.sectionSizeMax.multipliedReportingOverflow(by: UInt64(attributes.sectionsMax))
        guard overflow || attributes.checkpointSize <= most else {
            throw Refusal(
                .invalidParam,
                "checkpoint size \(attributes.checkpointSize); at most maxSections × maxSectionSize = \(most) expected")
        }
    }

    /// The answer that the first sending of this open got, or would have got.
    public func earlierOpen(_ origin: RequestOrigin) -> OpenReply? {
        guard let session = sessions[origin.identity.session] else { return nil }
        for id in session.handles.sorted() {
            guard let checkpoint = handles[id]?.checkpoint else { continue }
            let slot = checkpoints[checkpoint]?.openerSlots[id]
            let record =
                locals[checkpoint]?[id]?.record ?? slot.flatMap { checkpoints[checkpoint]?.openers[$0]?.record }
            guard record?.openNumber == origin.identity.number else { continue }
            return OpenReply(
                checkpoint: checkpoint, handle: id, isCreated: id.rawValue + 1 == checkpoint.rawValue)
        }
        return nil
    }

    mutating func created(_ new: NewCheckpoint, _ origin: RequestOrigin) -> [CkptEffect] {
        checkpoints[new.checkpoint] = OpenCheckpoint(new)
        named[new.name] = new.checkpoint
        let opener = new.openers[0]  // alone a checkpoint is made by an open
        remember(opener, of: new.checkpoint, slot: 0)
        let reply = OpenReply(checkpoint: new.checkpoint, handle: opener.handle, isCreated: true)
        return [.reply(origin.identity, .opened(reply)), .note(.created(new.name, new.checkpoint))]
    }

    mutating func opened(_ transaction: Transaction, _ record: OpenerRecord, _ origin: RequestOrigin) -> [CkptEffect] {
        let id = transaction.checkpoint
        checkpoints[id]?.absorb(transaction)
        remember(record, of: id, slot: transaction.openers[0].slot)
        let reply = OpenReply(checkpoint: id, handle: record.handle, isCreated: false)
        return [.cancelTimer(.retention(id)), .reply(origin.identity, .opened(reply))]
    }

    mutating func remember(_ record: OpenerRecord, of checkpoint: CheckpointID, slot: Int) {
        handles[record.handle] = Handle(
            checkpoint: checkpoint, slot: slot, session: record.session, flags: record.flags)
        let process = ProcessIdentity(id: record.processID, start: record.processStart)
        sessions[record.session, default: Session(process: process, isConnected: true)].handles.insert(record.handle)
    }

    /// Source: saCkptCheckpointClose().
    mutating func close(
        _ id: HandleID, _ origin: RequestOrigin, _ time: SaTime, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        // Handles are never used again: one that is unknown to a retransmission was closed by the first sending.
        if origin.isRetransmission, handles[id] == nil { return [.reply(origin.identity, .done)] }
        _ = try opened(id, origin)
        let effects = close(id, time, now)
        return effects + [.reply(origin.identity, .done)]
    }

    /// The last close starts retention, or deletes what is unlinked or not retained.
    private mutating func close(_ id: HandleID, _ time: SaTime, _ now: Instant) -> [CkptEffect] {
        guard let handle = handles.removeValue(forKey: id), let checkpoint = checkpoints[handle.checkpoint] else {
            return []
        }
        sessions[handle.session]?.handles.remove(id)
        if let session = sessions[handle.session], session.handles.isEmpty, !session.isConnected {
            sessions[handle.session] = nil
        }
        var effects: [CkptEffect] = []
        if checkpoint.openers[handle.slot]?.isSubscribed == true { effects.append(.endSubscription(id)) }
        effects.append(.endWatch(id))
        let isLast = checkpoint.openerCount == 1
        let retention = checkpoint.state.retentionDuration
        if isLast, checkpoint.state.isUnlinked || retention == 0 {
            return effects + delete(checkpoint, checkpoint.state.isUnlinked ? .unlinked : .retentionOver)
        }
        var transaction = Transaction(checkpoint: checkpoint.id, time: time, state: checkpoint.state)
        transaction.openers = [.init(slot: handle.slot, opener: nil)]
        if isLast, retention != .saTimeEnd {
            let deadline = now + .nanoseconds(retention)
            transaction.state.retentionDeadline = max(1, deadline.nanoseconds)
            effects.append(.startTimer(.retention(checkpoint.id), at: deadline))
        }
        checkpoints[checkpoint.id]?.absorb(transaction)
        return [.record(transaction, isUpdate: false)] + effects
    }

    private mutating func delete(_ checkpoint: OpenCheckpoint, _ reason: CkptNote.DeletionReason) -> [CkptEffect] {
        checkpoints[checkpoint.id] = nil
        directCheckpoints.remove(checkpoint.id)
        if named[checkpoint.name] == checkpoint.id { named[checkpoint.name] = nil }
        return [
            .cancelTimer(.expiration(checkpoint.id)), .cancelTimer(.retention(checkpoint.id)), .remove(checkpoint.id),
            .note(.deleted(checkpoint.name, checkpoint.id, reason)),
        ]
    }

    /// Source: saCkptCheckpointUnlink(). The name is free at once; who has it open keeps it.
    mutating func unlink(
        _ name: SaName, _ origin: RequestOrigin, _ time: SaTime, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        if origin.isRetransmission, wasUnlinked(by: origin.identity) { return [.reply(origin.identity, .done)] }
        guard let id = named[name], let checkpoint = checkpoints[id] else {
            throw Refusal(.notExist, "checkpoint \(name) does not exist")
        }
        var transaction = Transaction(checkpoint: id, time: time, state: checkpoint.state)
        transaction.state.isUnlinked = true
        transaction.state.retentionDeadline = 0
        transaction.state.unlinker = origin.identity
        named[name] = nil
        let isOpen = checkpoint.openerCount > 0
        var effects: [CkptEffect] = [.record(transaction, isUpdate: false)]
        if isOpen {
            checkpoints[id]?.absorb(transaction)
        } else {
            checkpoints[id] = nil
            directCheckpoints.remove(id)
            effects += [.cancelTimer(.expiration(id)), .cancelTimer(.retention(id)), .retire(id)]
            effects += bury(id, origin.identity, now)
        }
        return effects + [.note(.unlinked(name, id, isOpen: isOpen)), .reply(origin.identity, .done)]
    }

    mutating func bury(_ id: CheckpointID, _ unlinker: RequestIdentity, _ now: Instant) -> [CkptEffect] {
        tombstones[id] = unlinker
        return [.startTimer(.tombstone(id), at: now + limits.unlinkMemory)]
    }

    /// Whether this request has unlinked something here, for as long as it may be asked.
    public func wasUnlinked(by identity: RequestIdentity) -> Bool {
        tombstones.values.contains(identity) || checkpoints.values.contains { $0.state.unlinker == identity }
    }

    /// Source: saCkptCheckpointRetentionDurationSet().
    mutating func setRetention(
        _ id: HandleID, _ duration: SaTime, _ origin: RequestOrigin, _ time: SaTime
    ) throws(Refusal) -> [CkptEffect] {
        let (handle, checkpoint) = try openedHere(id, origin)
        if origin.isRetransmission, checkpoint.executed(origin.identity.number, opener: handle.slot) != nil {
            return [.reply(origin.identity, .done)]
        }
        guard duration >= 0 else { throw Refusal(.invalidParam, "retention duration \(duration); at least 0 expected") }
        guard !checkpoint.state.isUnlinked else {
            throw Refusal(.badOperation, "checkpoint \(checkpoint.name) is unlinked and ends with its last close")
        }
        var transaction = Transaction(checkpoint: checkpoint.id, time: time, state: checkpoint.state)
        transaction.state.retentionDuration = duration
        let writer = RequestWriter(handle: id, node: NodeID(0), session: handle.session)
        transaction.execution = checkpoint.execution(of: origin.identity.number, writer, opener: handle.slot)
        checkpoints[checkpoint.id]?.absorb(transaction)
        return [.record(transaction, isUpdate: false), .reply(origin.identity, .done)]
    }

    /// Source: saCkptActiveReplicaSet().
    mutating func setActiveReplica(_ id: HandleID, _ origin: RequestOrigin, _ time: SaTime) throws(Refusal)
        -> [CkptEffect]
    {
        let (handle, checkpoint) = try openedHere(id, origin)
        if origin.isRetransmission, checkpoint.executed(origin.identity.number, opener: handle.slot) != nil {
            return [.reply(origin.identity, .done)]
        }
        try require(.write, handle.flags, checkpoint.name)
        guard checkpoint.attributes.flags.needsActiveReplicaSet else {
            throw Refusal(
                .badOperation, "only a collocated checkpoint with asynchronous updates has its active replica set")
        }
        var transaction = Transaction(checkpoint: checkpoint.id, time: time, state: checkpoint.state)
        transaction.state.hasActiveReplica = true
        let writer = RequestWriter(handle: id, node: NodeID(0), session: handle.session)
        transaction.execution = checkpoint.execution(of: origin.identity.number, writer, opener: handle.slot)
        checkpoints[checkpoint.id]?.absorb(transaction)
        return [
            .record(transaction, isUpdate: false), .replicasChanged(checkpoint.id), .reply(origin.identity, .done),
        ]
    }

    private func openedHere(_ id: HandleID, _ origin: RequestOrigin) throws(Refusal) -> (Handle, OpenCheckpoint) {
        let handle = try opened(id, origin)
        guard let checkpoint = checkpoints[handle.checkpoint] else {
            throw Refusal(.badHandle, "the checkpoint is no more")
        }
        return (handle, checkpoint)
    }

    /// Source: saCkptCheckpointSynchronize(). One replica is always synchronous.
    func synchronize(_ caller: Caller, _ origin: RequestOrigin) throws(Refusal) -> [CkptEffect] {
        let checkpoint = caller.checkpoint
        try require(.write, caller.flags, checkpoint.name)
        guard !checkpoint.attributes.flags.contains(.writeAllReplicas) else {
            throw Refusal(.badOperation, "a checkpoint with synchronous updates needs no synchronisation")
        }
        try requireActiveReplica(checkpoint)
        return [.reply(origin.identity, .done)]
    }

    // Processes come and go.

    mutating func connected(_ session: ClientSession, _ process: ProcessIdentity) -> [CkptEffect] {
        let wasAbsent = sessions[session].map { !$0.isConnected } ?? false
        sessions[session, default: Session(process: process, isConnected: true)].isConnected = true
        sessions[session]?.isUnseen = false
        return wasAbsent ? [.cancelTimer(.absence(session))] : []
    }

    /// A dead process has closed everything. A living one may come back; until then its subscriptions wait.
    mutating func disconnected(_ session: ClientSession, isDead: Bool, _ now: Instant) -> [CkptEffect] {
        guard let known = sessions[session] else { return [] }
        if isDead || known.handles.isEmpty { return closeAll(of: session, isDead: isDead, now) }
        sessions[session]?.isConnected = false
        var effects = tellSoon(of: session, now)
        for id in known.handles.sorted() {
            guard let checkpoint = handles[id]?.checkpoint, let slot = checkpoints[checkpoint]?.openerSlots[id],
                checkpoints[checkpoint]?.openers[slot]?.isSubscribed == true
            else { continue }
            checkpoints[checkpoint]?.setSubscribed(false, opener: slot)
            effects.append(.endSubscription(id))
        }
        return effects + [.startTimer(.absence(session), at: now + limits.absenceMax)]
    }

    mutating func closeAll(of session: ClientSession, isDead: Bool, _ now: Instant) -> [CkptEffect] {
        guard let known = sessions[session] else { return [] }
        if node != nil { return closeAllAsMember(of: session, known, isDead: isDead, now) }
        sessions[session]?.isConnected = false
        // It may have written, and not called any more.
        var effects: [CkptEffect] = [.cancelTimer(.absence(session))] + tellSoon(of: session, now)
        for id in known.handles.sorted() {
            guard let handle = handles[id], let checkpoint = checkpoints[handle.checkpoint] else { continue }
            effects.append(
                .note(.closed(checkpoint.name, checkpoint.id, processID: known.process.id, isDead: isDead)))
            // One that lives, but was not heard of for too long, must not go on writing what it has mapped.
            if !isDead, directCheckpoints.contains(checkpoint.id) { effects.append(.stopDirect(checkpoint.id)) }
            effects += close(id, 0, now)
        }
        sessions[session] = nil
        return effects
    }

    mutating func abandoned(_ gone: [HandleID], _ now: Instant) -> [CkptEffect] {
        if node == nil { return gone.flatMap { close($0, 0, now) } }
        let opens = gone.compactMap { id in handles[id].map { OpenedHandle($0.checkpoint, id) } }
        let effects = opens.flatMap { forget($0.handle, of: $0.checkpoint) }
        return opens.isEmpty ? effects : effects + [.closeHandles(opens)]
    }

    mutating func fired(_ timer: CkptTimer, _ time: SaTime, _ now: Instant) -> [CkptEffect] {
        switch timer {
        case .retention(let id):
            guard let checkpoint = checkpoints[id], checkpoint.openerCount == 0 else { return [] }
            guard checkpoint.state.retentionDeadline <= now.nanoseconds else {
                return [.startTimer(timer, at: Instant(nanoseconds: checkpoint.state.retentionDeadline))]
            }
            return delete(checkpoint, .retentionOver)
        case .expiration(let id):
            return node == nil || isActiveHere(id) ? purge(id, time, now) : []
        case .absence(let session):
            guard let known = sessions[session], !known.isConnected else { return [] }
            return closeAll(of: session, isDead: false, now)
        case .tombstone(let id):
            guard tombstones.removeValue(forKey: id) != nil else { return [] }
            return [.remove(id)]
        case .persistence: return beginBatch(now)
        case .telling(let id): return tell(id)
        }
    }
}
