import CkptProtocol
import EngineKit
import SAFTypes

// Direct sections of a checkpoint that others follow: what their writers have done since others were told is one
// update, as it is at one moment. The main file has what was told, and is a replica as any other.
extension CkptEngine {
    /// An update of which the store has found out what it is.
    struct Telling: Hashable, Sendable {
        var transaction: Transaction
        /// Come back with it.
        var recalled: [Int] = []
        /// Nobody knows any more what they are.
        var lost: [DirectSight] = []
        var isResting: Bool
        /// Straight to their places.
        var isInPlace: Bool
        var after: AfterLook
    }

    /// What must come back before the request is done; nil: it does not concern direct sections.
    func recalls(of request: CkptRequest, in checkpoint: OpenCheckpoint) -> [Int]? {
        switch request {
        case .status, .list, .section, .read, .snapshot: return []
        // Whoever wrote before is told before.
        case .update(_, let operations): return checkpoint.directSlots(of: operations.lazy.map(\.id))
        // Nobody may write between the comparison and the write.
        case .updateIf: return checkpoint.direct.keys.sorted()
        // They begin with what was told last.
        case .subscribe, .adminSections: return nil
        case .open, .close, .unlink, .setRetention, .setActiveReplica, .synchronize, .unsubscribe, .resume, .exists,
            .watchReplicas, .map, .adminList:
            return nil
        }
    }

    mutating func tell(_ id: CheckpointID, recalling slots: [Int], _ after: AfterLook) -> [CkptEffect] {
        pending = .tell(id, after, isInPlace: false)
        return [.tell(id, recalling: slots, mayRest: false)]
    }

    /// The service looks of its own, or because a writer has called.
    mutating func tell(_ id: CheckpointID) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id], checkpoint.isTold, !checkpoint.direct.isEmpty,
            node == nil || isActiveHere(id)
        else { return [] }
        pending = .tell(id, .nothing, isInPlace: false)
        return [.tell(id, recalling: [], mayRest: true)]
    }

    /// A writer may have gone before it called.
    func tellSoon(_ id: CheckpointID, _ now: Instant) -> [CkptEffect] {
        guard directCheckpoints.contains(id), checkpoints[id]?.isTold == true else { return [] }
        return [.startTimer(.telling(id), at: now + limits.tellingPause)]
    }

    /// As ``tellSoon(_:_:)``, of all that a process has open.
    func tellSoon(of session: ClientSession, _ now: Instant) -> [CkptEffect] {
        if directCheckpoints.isEmpty { return [] }
        let ids = (sessions[session]?.handles ?? []).compactMap { handles[$0]?.checkpoint }
        return Set(ids).sorted().flatMap { tellSoon($0, now) }
    }

    /// The checkpoint of a process that says that it has written; nil when it may not say so.
    public func written(_ id: HandleID, by session: ClientSession) -> CheckpointID? {
        guard let handle = handles[id], handle.session == session, directCheckpoints.contains(handle.checkpoint) else {
            return nil
        }
        return handle.checkpoint
    }

    // MARK: What was found

    mutating func telling(
        _ id: CheckpointID, _ sights: [DirectSight], isResting: Bool, _ now: Instant
    ) -> [CkptEffect] {
        guard case .tell(id, let after, let isInPlace) = pending else { return [] }
        pending = nil
        guard let checkpoint = checkpoints[id] else { return goOn(after, now) }
        var transaction = Transaction(
            checkpoint: id, time: 0, state: checkpoint.state, purpose: isInPlace ? .recalled : .told)
        var telling = Telling(transaction: transaction, isResting: isResting, isInPlace: isInPlace, after: after)
        for sight in sights {
            guard checkpoint.direct[sight.slot] != nil, let section = checkpoint.sections[sight.slot] else { continue }
            if sight.isCorrupted {
                telling.lost.append(sight)
            } else if sight.isWritten {
                transaction.steps.append(sight.toldStep(id: section.id, serial: section.serial))
                transaction.time = max(transaction.time, sight.lastUpdate)
            }
            if sight.isRecalled, !sight.isCorrupted { telling.recalled.append(sight.slot) }
            checkpoints[id]?.noteTold(sight)
        }
        if transaction.steps.isEmpty { return finish(telling, now) }
        transaction.state.change += 1
        telling.transaction = transaction
        pending = .told(telling)
        return [.commit(transaction, isUpdate: true)]
    }

    mutating func told(_ outcome: CommitOutcome, _ telling: Telling, _ now: Instant) -> [CkptEffect] {
        let id = telling.transaction.checkpoint
        guard outcome == .done else {
            if telling.isInPlace { return giveUp(outcome, id, telling.after, now) }
            // All come back, straight to their places: that needs no room.
            pending = .tell(id, telling.after, isInPlace: true)
            return [.tell(id, recalling: checkpoints[id]?.direct.keys.sorted() ?? [], mayRest: false)]
        }
        checkpoints[id]?.absorb(telling.transaction)
        let told = CkptEffect.told(id, change: telling.transaction.state.change)
        return (node == nil ? [] : [told]) + [.publish(id)] + finish(telling, now)
    }

    /// Others have been told, or there was nothing.
    private mutating func finish(_ telling: Telling, _ now: Instant) -> [CkptEffect] {
        let id = telling.transaction.checkpoint
        var effects: [CkptEffect] = []
        if !telling.recalled.isEmpty {
            endDirect(id, telling.recalled)
            effects.append(.endDirect(id, slots: telling.recalled))
        }
        if !telling.isResting { effects += tellSoon(id, now) }
        guard !telling.lost.isEmpty, let checkpoint = checkpoints[id] else { return effects + goOn(telling.after, now) }
        // Here they are corrupted until they are overwritten; others keep what they were told.
        var transaction = Transaction(checkpoint: id, time: 0, state: checkpoint.state, purpose: .recalled)
        for sight in telling.lost {
            guard let section = checkpoint.sections[sight.slot] else { continue }
            transaction.steps.append(sight.step(id: section.id, serial: section.serial))
        }
        pending = .recall(transaction, telling.after)
        return effects + [.commit(transaction, isUpdate: false)]
    }

    // MARK: Several nodes

    /// This node's replica takes updates, as far as the directory has said.
    func mayLeaveDirect(_ id: CheckpointID) -> Bool { isActiveHere(id) && checkpoints[id]?.isHandingOver == false }

    /// Before the directory's word counts: who is to hand over tells everything first, and who is the active one no
    /// more has nothing to tell. Nil: nothing is direct, or it stays so.
    mutating func settleDirect(before entry: DirectoryEntry?, of id: CheckpointID, _ now: Instant) -> [CkptEffect]? {
        checkpoints[id]?.isHandingOver = entry?.successor != nil || entry?.isElecting == true
        guard directCheckpoints.contains(id), let checkpoint = checkpoints[id], let entry else { return nil }
        if entry.active == node {
            guard entry.successor != nil else { return nil }
            return tell(id, recalling: checkpoint.direct.keys.sorted(), .entry(id, entry))
        }
        return leaveDirect(id) + changed(id, entry, now)
    }

    /// Others tell this node what is: what was written directly and not told is gone, and nobody writes so any more.
    mutating func leaveDirect(_ id: CheckpointID) -> [CkptEffect] {
        guard directCheckpoints.contains(id) else { return [] }
        endDirect(id, checkpoints[id]?.direct.keys.sorted() ?? [])
        return [.abandonDirect(id), .cancelTimer(.telling(id))]
    }

    // MARK: Late writers

    /// Somebody has mapped the checkpoint whose updates are refused as too late: a direct write cannot be refused.
    func hasLateWriter(_ checkpoint: OpenCheckpoint) -> Bool {
        checkpoint.openers.contains { opener in
            guard let opener, opener.isDirectWriter else { return false }
            return fence.isLate(ProcessIdentity(id: opener.record.processID, start: opener.record.processStart))
        }
    }

    /// Nobody writes directly where such a one could: who still may asks from now on, until that process is gone.
    func stopLateWriters(_ now: Instant) -> [CkptEffect] {
        directCheckpoints.sorted().flatMap { id -> [CkptEffect] in
            guard let checkpoint = checkpoints[id], hasLateWriter(checkpoint) else { return [] }
            return [.stopDirect(id)] + tellSoon(id, now)
        }
    }
}
