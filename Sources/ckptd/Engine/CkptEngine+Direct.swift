import CkptProtocol
import EngineKit
import SAFTypes

// Sections that their writers write themselves (*direct*): which, when, and until when. What they are meanwhile only
// the store can see: it is looked at before anything is done that depends on it, and recalled before anything else is
// done with it.
extension CkptEngine {
    /// What goes on when the store has looked.
    enum AfterLook: Hashable, Sendable {
        case request(CkptRequest, RequestOrigin, ForwardSource?, SaTime)
        /// It was refused for want of room; now for good.
        case again(CkptRequest, RequestOrigin, ForwardSource?, SaTime)
        case purge(CheckpointID, SaTime)
        case entry(CheckpointID, DirectoryEntry?)
        case nothing
    }

    /// What direct sections a request is about.
    private enum Interest {
        /// What they are; `reserves`: and the next change number.
        case look(reserves: Bool)
        case recall([Int], reserves: Bool)
    }

    // MARK: Looking first

    /// Nil: nothing is direct that this request depends on.
    mutating func lookFirst(
        _ request: CkptRequest, _ origin: RequestOrigin, _ source: ForwardSource?, _ time: SaTime
    ) -> [CkptEffect]? {
        if directCheckpoints.isEmpty { return nil }
        guard let id = directCheckpoint(of: request, origin, source), let checkpoint = checkpoints[id] else {
            return nil
        }
        let after = AfterLook.request(request, origin, source, time)
        if checkpoint.isTold {
            return recalls(of: request, in: checkpoint).map { tell(checkpoint.id, recalling: $0, after) }
        }
        guard let interest = interest(of: request, in: checkpoint) else { return nil }
        switch interest {
        case .look(let reserves): return look(checkpoint, recalling: [], reserves: reserves, after)
        case .recall(let slots, let reserves): return look(checkpoint, recalling: slots, reserves: reserves, after)
        }
    }

    private func directCheckpoint(
        of request: CkptRequest, _ origin: RequestOrigin, _ source: ForwardSource?
    ) -> CheckpointID? {
        var id = source?.checkpoint
        if case .adminSections(let name, _, _, _) = request { id = id ?? named[name] }
        if id == nil, let handle = request.handle.flatMap({ handles[$0] }),
            handle.session == origin.identity.session
        {
            id = handle.checkpoint
        }
        return id.flatMap { directCheckpoints.contains($0) ? $0 : nil }
    }

    private func interest(of request: CkptRequest, in checkpoint: OpenCheckpoint) -> Interest? {
        func slots(of ids: some Sequence<SectionID>) -> [Int] { checkpoint.directSlots(of: ids) }
        let all = checkpoint.direct.keys.sorted()
        switch request {
        case .status, .list: return .look(reserves: false)
        case .section(_, let id): return slots(of: CollectionOfOne(id)).isEmpty ? nil : .look(reserves: false)
        case .update(_, let operations): return .recall(slots(of: operations.lazy.map(\.id)), reserves: true)
        // Nobody may write between the comparison and the write.
        case .updateIf: return .recall(all, reserves: true)
        case .read(_, let ranges):
            let asked = slots(of: ranges.lazy.map(\.id))
            return asked.isEmpty ? .look(reserves: false) : .recall(asked, reserves: false)
        case .snapshot, .subscribe, .adminSections: return .recall(all, reserves: false)
        case .open, .close, .unlink, .setRetention, .setActiveReplica, .synchronize, .unsubscribe, .resume, .exists,
            .watchReplicas, .map, .adminList:
            return nil
        }
    }

    private mutating func look(
        _ checkpoint: OpenCheckpoint, recalling slots: [Int], reserves: Bool, _ after: AfterLook
    ) -> [CkptEffect] {
        pending = .look(checkpoint.id, after)
        return [.look(checkpoint.id, recalling: slots, reserves: reserves)]
    }

    /// Brings everything back, for what has no room because of what direct sections may become; nil: nothing is direct.
    mutating func recallForRoom(
        _ request: CkptRequest, _ origin: RequestOrigin, _ source: ForwardSource?, _ time: SaTime
    ) -> [CkptEffect]? {
        guard let id = directCheckpoint(of: request, origin, source), let checkpoint = checkpoints[id],
            checkpoint.directReserve > 0
        else { return nil }
        let all = checkpoint.direct.keys.sorted()
        let after = AfterLook.again(request, origin, source, time)
        return checkpoint.isTold
            ? tell(id, recalling: all, after) : look(checkpoint, recalling: all, reserves: true, after)
    }

    /// Before a step that the service does of its own; nil: nothing is direct.
    mutating func recallBeforePurge(_ id: CheckpointID, _ time: SaTime) -> [CkptEffect]? {
        guard directCheckpoints.contains(id), let checkpoint = checkpoints[id], !checkpoint.isTold else { return nil }
        return look(checkpoint, recalling: checkpoint.direct.keys.sorted(), reserves: true, .purge(id, time))
    }

    // MARK: What was seen

    mutating func looked(_ id: CheckpointID, _ sights: [DirectSight], change: UInt64, _ now: Instant) -> [CkptEffect] {
        guard case .look(id, let after) = pending else { return [] }
        pending = nil
        guard let checkpoint = checkpoints[id] else { return goOn(after, now) }
        if change > checkpoint.state.change { checkpoints[id]?.state.change = change }
        var transaction = Transaction(
            checkpoint: id, time: 0, state: checkpoints[id]?.state ?? checkpoint.state, purpose: .recalled)
        for sight in sights {
            guard checkpoint.direct[sight.slot] != nil, let section = checkpoint.sections[sight.slot] else { continue }
            if sight.isRecalled {
                transaction.steps.append(sight.step(id: section.id, serial: section.serial))
                checkpoints[id]?.noteRecall(slot: sight.slot, change: sight.change)
            } else {
                checkpoints[id]?.sections.resize(
                    slot: sight.slot, to: sight.size, at: sight.lastUpdate, isRepaired: false)
            }
        }
        if transaction.steps.isEmpty { return goOn(after, now) }
        pending = .recall(transaction, after)
        return [.commit(transaction, isUpdate: false)]
    }

    mutating func recalled(
        _ outcome: CommitOutcome, _ transaction: Transaction, _ after: AfterLook, _ now: Instant
    ) -> [CkptEffect] {
        let id = transaction.checkpoint
        guard outcome == .done else { return giveUp(outcome, id, after, now) }
        checkpoints[id]?.absorb(transaction)
        endDirect(id, transaction.steps.map(\.slot))
        return goOn(after, now)
    }

    /// Nothing is lost: direct sections are where they were, and those that were to come back nobody writes.
    mutating func giveUp(
        _ outcome: CommitOutcome, _ id: CheckpointID, _ after: AfterLook, _ now: Instant
    ) -> [CkptEffect] {
        switch after {
        case .request(_, let origin, _, _), .again(_, let origin, _, _): return [refusal(outcome, origin)]
        case .purge(let id, _): return [.startTimer(.expiration(id), at: now + .seconds(10))]
        case .nothing: return [.startTimer(.telling(id), at: now + limits.tellingRetry)]
        // Another one is to be the active replica: it will not have what is lost here.
        case .entry(let id, let entry):
            endDirect(id, checkpoints[id]?.direct.keys.sorted() ?? [])
            return [.abandonDirect(id)] + changed(id, entry, now)
        }
    }

    mutating func endDirect(_ id: CheckpointID, _ slots: [Int]) {
        for slot in slots { checkpoints[id]?.direct[slot] = nil }
        if checkpoints[id]?.direct.isEmpty != false { directCheckpoints.remove(id) }
    }

    mutating func goOn(_ after: AfterLook, _ now: Instant) -> [CkptEffect] {
        switch after {
        case .request(let request, let origin, let source, let time):
            return answerNow(request, origin, source, time, now)
        case .again(let request, let origin, let source, let time):
            return answerNow(request, origin, source, time, now, isLast: true)
        case .purge(let id, let time): return purgeNow(id, time, now)
        case .entry(let id, let entry): return changed(id, entry, now)
        case .nothing: return []
        }
    }

    // MARK: Granting

    /// What who has this handle gets of the direct file, now or when there is one.
    ///
    /// It belongs to one user, that of the first process that wants to write it. Who can write it can take memory out
    /// of it, and touching that when no more is left ends a process (SIGBUS): what a user can do to his own anyway.
    mutating func directAccess(_ id: HandleID, _ handle: Handle, _ user: UInt32?) -> DirectAccess {
        guard let user, let checkpoint = checkpoints[handle.checkpoint], checkpoint.attributes.mayBeDirect,
            let slot = checkpoint.openerSlots[id], let record = checkpoint.openers[slot]?.record
        else { return .none }
        let isWriter =
            handle.flags.contains([.read, .write])
            && !fence.isLate(ProcessIdentity(id: record.processID, start: record.processStart))
        guard (checkpoint.directUser ?? (isWriter ? user : nil)) == user else { return .none }
        if !isWriter { return .read }
        checkpoints[handle.checkpoint]?.directUser = user
        checkpoints[handle.checkpoint]?.setDirectWriter(opener: slot)
        return .write
    }

    /// After an update: its section is left to its writer, if that is worth it.
    mutating func grant(after transaction: Transaction) -> [CkptEffect] {
        let id = transaction.checkpoint
        guard transaction.steps.count == 1, let step = transaction.steps.first,
            step.operation.kind == .write || step.operation.kind == .overwrite,
            let execution = transaction.execution,
            checkpoints[id]?.isDirectWriter(opener: execution.openerSlot) == true, let checkpoint = checkpoints[id],
            node == nil || mayLeaveDirect(id), !hasLateWriter(checkpoint),
            checkpoint.direct[step.slot] == nil, checkpoint.direct.count < limits.directSectionsMax,
            let section = checkpoint.sections[step.slot], section.expiration == .saTimeEnd, !section.isCorrupted
        else { return [] }
        checkpoints[id]?.noteWrite(slot: step.slot)
        // All direct sections of a checkpoint are told, or none.
        let isTold = checkpoint.direct.isEmpty ? mustTell(checkpoint) : checkpoint.isTold
        guard checkpoints[id]?.isRipe(slot: step.slot) == true,
            let limit = directLimit(size: section.size, checkpoint, isTold: isTold)
        else { return [] }
        checkpoints[id]?.isTold = isTold
        pending = .grant(id, slot: step.slot, limit: limit)
        return [.grant(id, slot: step.slot, limit: limit, isTold: isTold)]
    }

    /// On several nodes there may be another replica at any time.
    private func mustTell(_ checkpoint: OpenCheckpoint) -> Bool {
        node != nil || checkpoint.openers.contains { $0?.isSubscribed == true }
    }

    /// What the section may become without anybody's being asked: never more than the checkpoint allows.
    private func directLimit(size: Int, _ checkpoint: OpenCheckpoint, isTold: Bool) -> Int? {
        var most = min(Int(clamping: checkpoint.attributes.sectionSizeMax), limits.directBytesMax)
        if isTold {
            let others = checkpoint.direct.values.reduce(0) { $0 + $1.limit }
            most = min(most, limits.toldBytesMax, limits.toldSumMax - others)
        }
        let allowed = min(checkpoint.attributes.checkpointSize, limits.checkpointBytesMax)
        let used = checkpoint.sections.memoryUsed + checkpoint.directReserve
        let room = Int(clamping: allowed > used ? allowed - used : 0)
        let wanted = max(512, size + min(size, 1 << 20))
        let limit = min(most, wanted, size + room)
        return limit > 0 && limit >= size ? limit : nil
    }

    mutating func granted(
        _ outcome: CommitOutcome, _ id: CheckpointID, slot: Int, limit: Int, _ now: Instant
    ) -> [CkptEffect] {
        guard outcome == .done, let section = checkpoints[id]?.sections[slot] else {
            checkpoints[id]?.noteRecall(slot: slot, change: 0)
            if case .corrupted(let slot) = outcome { return markCorrupted(id, slot: slot) }
            return []
        }
        checkpoints[id]?.sections.setTag(slot: slot, nil)
        checkpoints[id]?.direct[slot] = .init(limit: max(limit, section.size))
        checkpoints[id]?.noteGrant(slot: slot)
        directCheckpoints.insert(id)
        return tellSoon(id, now)
    }
}

extension CreationAttributes {
    /// Where the writer's process is, there the data is, and nobody waits for another replica or a disk.
    var mayBeDirect: Bool {
        flags.contains(.collocated) && !flags.contains(.writeAllReplicas) && !flags.contains(.persistent)
    }
}

extension OpenCheckpoint {
    struct Direct: Hashable, Sendable {
        var limit: Int
    }

    /// How often a section was written through ckptd since it was recalled, and how often that was too soon.
    struct DirectWish: Hashable, Sendable {
        var writes = 0
        var recalls = 0
        var changeAtGrant: UInt64 = 0
        /// Writes that others were told of, since the grant.
        var told: UInt64 = 0
    }

    /// Bytes that direct sections may take beyond what they had when they were last looked at.
    var directReserve: UInt64 {
        direct.reduce(0) { sum, item in
            sum + UInt64(max(0, item.value.limit - (sections[item.key]?.size ?? 0)))
        }
    }

    /// Those of these sections that are direct, ascending.
    func directSlots(of ids: some Sequence<SectionID>) -> [Int] {
        Set(ids.compactMap { sections.slot(of: $0) }).filter { direct[$0] != nil }.sorted()
    }

    mutating func noteWrite(slot: Int) { directWishes[slot, default: DirectWish()].writes += 1 }

    /// A section that is recalled again and again is left alone for longer each time.
    func isRipe(slot: Int) -> Bool {
        guard let wish = directWishes[slot] else { return true }
        return wish.writes >= 1 << wish.recalls
    }

    mutating func noteGrant(slot: Int) { directWishes[slot, default: DirectWish()].changeAtGrant = state.change }

    mutating func noteTold(_ sight: DirectSight) {
        directWishes[sight.slot, default: DirectWish()].told &+= sight.writes
        if sight.isRecalled { noteRecall(slot: sight.slot, writes: directWishes[sight.slot]?.told ?? 0) }
    }

    mutating func noteRecall(slot: Int, change: UInt64) {
        let before = directWishes[slot]?.changeAtGrant ?? 0
        noteRecall(slot: slot, writes: change > before ? change - before : 0)
    }

    mutating func noteRecall(slot: Int, writes: UInt64) {
        var wish = directWishes[slot] ?? DirectWish()
        let wasWorthIt = writes > 256
        wish.recalls = wasWorthIt ? 0 : min(wish.recalls + 1, 6)
        (wish.writes, wish.told) = (0, 0)
        directWishes[slot] = wish
    }
}
