public import CkptProtocol
import EngineKit
import SAFTypes

// Persistent checkpoints: every step of one is noted, and what follows from it is answered when it is durable.
extension CkptEngine {
    /// Decides, and looks what of it has to be durable.
    mutating func keepDurable(_ event: CkptEvent, _ now: Instant) -> [CkptEffect] {
        if isOfNoConcern(event) { return decide(event, now) }
        if let refusal = refusedInTrouble(event) { return [refusal] }
        let settling = pending
        let removals = durability.removalMark
        let effects = decide(event, now)
        if case .settled(.done) = event, let settling { note(settling) }
        var out: [CkptEffect] = []
        out.reserveCapacity(effects.count + 2)
        for effect in effects {
            switch effect {
            case .record(let transaction, _): note(transaction)
            case .remove(let id), .retire(let id), .setAside(let id, _): durability.remove(id)
            case .reply(_, let answer):
                if let ticket = wait(event, settling, answer, removals, now) { out.append(.await(ticket)) }
            default: break
            }
            out.append(effect)
        }
        // First: nothing may stand between a commit and its outcome.
        if let timer = schedule(now) { out.insert(timer, at: 0) }
        return out
    }

    /// About a checkpoint that is not persistent: nothing is to be looked at.
    private func isOfNoConcern(_ event: CkptEvent) -> Bool {
        switch event {
        case .request(let request, _, _):
            guard let handle = request.handle, let id = handles[handle]?.checkpoint else { return false }
            return durability.kept[id] == nil
        case .settled:
            guard case .update(let transaction, _, _) = pending else { return false }
            return durability.kept[transaction.checkpoint] == nil
        default: return false
        }
    }

    private mutating func schedule(_ now: Instant) -> CkptEffect? {
        guard durability.hasWork, durability.flight == nil, !durability.isScheduled, durability.trouble == nil else {
            return nil
        }
        durability.isScheduled = true
        // Not at once: whatever else has come by now goes with it.
        return .startTimer(.persistence, at: now)
    }

    // MARK: What has to be durable

    private mutating func note(_ decided: Pending) {
        switch decided {
        case .create(let new, _), .make(let new): keep(new)
        case .open(let transaction, _, _), .update(let transaction, _, _), .purge(let transaction),
            .keepOpener(let transaction), .apply(let transaction, _), .piece(let transaction), .copied(let transaction):
            note(transaction)
        case .look, .recall, .grant, .tell, .told: break  // never of one that is persistent
        }
    }

    private mutating func note(_ transaction: Transaction) {
        guard durability.kept[transaction.checkpoint] != nil, let known = checkpoints[transaction.checkpoint] else {
            // Unlinked, and gone with it.
            if transaction.state.isUnlinked { durability.remove(transaction.checkpoint) }
            return
        }
        let writer = transaction.execution.flatMap { isLocal(OpenerRecord($0.writer)) ? nil : $0.openerSlot }
        durability.note(
            transaction,
            PersistentHead(name: known.name, attributes: known.attributes, state: transaction.state), writer: writer)
    }

    private mutating func keep(_ new: NewCheckpoint) {
        guard new.attributes.flags.contains(.persistent), !new.state.isUnlinked else { return }
        durability.begin(
            new.checkpoint, PersistentHead(name: new.name, attributes: new.attributes, state: new.state),
            isPartial: new.state.isPartial)
    }

    /// After the start: all that was restored is here.
    ///
    /// - Parameter stored: what the database has, and what was to be read from it has been read.
    mutating func compare(with stored: [StoredCheckpoint]) {
        let stored = Dictionary(stored.map { ($0.checkpoint, $0) }) { first, _ in first }
        for (id, known) in checkpoints.sorted(by: { $0.key < $1.key })
        where known.attributes.flags.contains(.persistent) && !known.state.isUnlinked {
            let head = PersistentHead(name: known.name, attributes: known.attributes, state: known.state)
            if let found = stored[id] { durability.begin(found) }
            // The RAM file is newer: what was acknowledged lies in both, but not which blocks differ.
            if stored[id]?.head != head || known.state.isPartial {
                let before = durability.kept[id]
                durability.begin(id, head, isPartial: known.state.isPartial)
                durability.kept[id]?.stored = before?.stored ?? []
                durability.kept[id]?.storedWriters = before?.storedWriters ?? []
            }
        }
        for (id, found) in stored.sorted(by: { $0.key < $1.key }) where durability.kept[id] == nil {
            var sizes: [Int?] = []
            for section in found.sections {
                while sizes.count <= section.slot { sizes.append(nil) }
                sizes[section.slot] = Int(clamping: section.descriptor.size)
            }
            durability.remove(id, .init(sizes: sizes, writers: Set(found.writers.map(\.slot))))
        }
    }

    /// Which is to be believed after a restart: the database instead of the RAM file.
    ///
    /// - Parameter restored: the RAM file; nil when there is none.
    public static func isNewer(_ head: PersistentHead, than restored: RestoredCheckpoint?) -> Bool {
        guard let restored else { return true }
        if restored.state.isUnlinked { return false }
        return restored.state.isPartial || restored.state.replica.version < head.version
    }

    // MARK: Who waits

    /// The answer to a request that changes something, or that changed something when it was first sent.
    private mutating func wait(
        _ event: CkptEvent, _ settling: Pending?, _ answer: CkptAnswer, _ removals: UInt64, _ now: Instant
    ) -> UInt64? {
        switch event {
        case .settled:
            switch settling {
            case .create(let new, _): return durability.wait(for: new.checkpoint, now)
            case .open(let transaction, _, _), .update(let transaction, _, _):
                return durability.wait(for: transaction.checkpoint, now)
            default: return nil
            }
        case .request(.unlink, let origin, _):
            // Of something persistent, now or when it was first sent.
            guard durability.removalMark != removals || origin.isRetransmission else { return nil }
            return durability.waitForRemovals(now)
        case .request(let request, _, _): return wait(request, nil, answer, now)
        case .forwarded(let request, _, let id, _, _): return wait(request, id, answer, now)
        default: return nil
        }
    }

    private mutating func wait(
        _ request: CkptRequest, _ forwarded: CheckpointID?, _ answer: CkptAnswer, _ now: Instant
    ) -> UInt64? {
        switch request {
        case .open:
            guard case .opened(let reply) = answer, reply.isCreated else { return nil }
            return durability.wait(for: reply.checkpoint, now)
        case .update(let handle, _), .updateIf(_, let handle, _), .setRetention(let handle, _),
            .setActiveReplica(let handle), .synchronize(let handle):
            guard let id = forwarded ?? checkpoint(of: handle) else { return nil }
            return durability.wait(for: id, now)
        default: return nil
        }
    }

    // MARK: Trouble

    /// What could not be made durable is not begun. What was executed before is answered, when it is durable.
    private func refusedInTrouble(_ event: CkptEvent) -> CkptEffect? {
        guard durability.trouble != nil else { return nil }
        let (request, origin, forwarded): (CkptRequest, RequestOrigin, CheckpointID?) =
            switch event {
            case .request(let request, let origin, _): (request, origin, nil)
            case .forwarded(let request, let origin, let id, _, _): (request, origin, id)
            default: (.resume(HandleID(rawValue: 0)), Self.nobody, nil)
            }
        switch request {
        case .open(let name, _, let attributes):
            guard attributes?.flags.contains(.persistent) == true, named[name] == nil else { return nil }
        case .unlink(let name):
            guard case .unusable = durability.trouble, let id = named[name], durability.kept[id] != nil else {
                return nil
            }
        case .update(let handle, _), .updateIf(_, let handle, _), .setRetention(let handle, _),
            .setActiveReplica(let handle), .synchronize(let handle):
            guard let id = forwarded ?? checkpoint(of: handle), durability.kept[id] != nil, let known = checkpoints[id]
            else { return nil }
            if let slot = known.openerSlots[handle], known.executed(origin.identity.number, opener: slot) != nil {
                return nil
            }
        default: return nil
        }
        guard let refusal = durabilityRefusal else { return nil }
        return .refuse(origin.identity, refusal.code, refusal.text)
    }

    private static let nobody = RequestOrigin(
        identity: RequestIdentity(session: ClientSession(high: 0, low: 0), number: 0),
        process: ProcessIdentity(id: 0, start: 0))

    /// Why nothing new can be made durable; nil when it can.
    var durabilityRefusal: Refusal? {
        switch durability.trouble {
        case nil: nil
        case .full(let text): Refusal(.noSpace, "what is persistent cannot be kept: \(text)")
        case .failing(let text), .unusable(let text): Refusal(.tryAgain, "what is persistent cannot be kept: \(text)")
        }
    }

    // MARK: Batches

    mutating func beginBatch(_ now: Instant) -> [CkptEffect] {
        durability.isScheduled = false
        var effects: [CkptEffect] = []
        if durability.trouble != nil {
            let abandoned = durability.abandon(since: Instant(nanoseconds: patienceStart(now)))
            if !abandoned.isEmpty {
                let text = durability.trouble?.reason ?? ""
                effects.append(.abandon(abandoned, .timeout, "it is done, but not durable: \(text)"))
            }
            if !durability.hasWork {
                // What could not be written is no more.
                durability.trouble = nil
                effects.append(.note(.durableAgain))
            }
        }
        if let batch = nextBatch() { effects.append(.persist(batch)) }
        return effects
    }

    private func patienceStart(_ now: Instant) -> UInt64 {
        let patience = UInt64(clamping: limits.durableMax.nanoseconds)
        return now.nanoseconds > patience ? now.nanoseconds - patience : 0
    }

    private mutating func nextBatch() -> PersistentBatch? {
        if case .unusable = durability.trouble { return nil }
        let (checkpoints, node) = (checkpoints, node)
        return durability.nextBatch { id, kept in checkpoints[id].map { Self.save($0, kept, node) } }
    }

    /// Writers of other nodes, as far as the database lacks something of them.
    private static func writers(
        _ checkpoint: OpenCheckpoint, _ kept: Durability.Kept, _ node: NodeID?
    ) -> [PersistentBatch.Writer] {
        guard let node else { return kept.storedWriters.sorted().map { .init(slot: $0, opener: nil) } }
        let slots = kept.isWhole ? kept.storedWriters.union(checkpoint.openers.indices) : kept.dirtyWriters
        return slots.sorted().compactMap { slot in
            let opener = slot < checkpoint.openers.count ? checkpoint.openers[slot] : nil
            guard let opener, opener.record.node != node, opener.record.node != NodeID(0) else {
                return kept.storedWriters.contains(slot) ? .init(slot: slot, opener: nil) : nil
            }
            return .init(slot: slot, opener: .init(slot: slot, record: opener.record, executed: opener.executed))
        }
    }

    private static func save(
        _ checkpoint: OpenCheckpoint, _ kept: Durability.Kept, _ node: NodeID?
    ) -> (save: PersistentBatch.Save, bytes: Int) {
        var slots: [PersistentBatch.Slot] = []
        var bytes = 0
        func take(_ slot: Int, _ dirty: DirtySection) {
            let section = checkpoint.sections[slot]?.descriptor
            let stored = kept.storedSize(slot)
            let storedBlocks = stored.map(PersistentLayout.blocks) ?? 0
            guard let section else {
                if stored != nil { slots.append(.init(slot: slot, section: nil, blocks: [], stale: 0..<storedBlocks)) }
                return
            }
            let size = Int(clamping: section.size)
            let blocks = dirty.blocks(size: size, stored: stored)
            let count = PersistentLayout.blocks(size)
            slots.append(
                .init(slot: slot, section: section, blocks: blocks, stale: count..<max(count, storedBlocks)))
            bytes += blocks.reduce(PersistentLayout.inlineBytesMax) { $0 + $1.count * PersistentLayout.blockBytes }
        }
        if kept.isWhole {
            var whole = DirtySection()
            whole.insertAll()
            for slot in 0..<max(checkpoint.sections.slots.count, kept.stored.count) { take(slot, whole) }
        } else {
            for (slot, dirty) in kept.dirty { take(slot, dirty) }
        }
        let head = PersistentHead(name: checkpoint.name, attributes: checkpoint.attributes, state: checkpoint.state)
        let writers = writers(checkpoint, kept, node)
        return (.init(checkpoint: checkpoint.id, head: head, slots: slots, writers: writers), bytes)
    }

    /// The disk has said what became of the batch.
    mutating func persisted(_ outcome: PersistentOutcome, _ now: Instant) -> [CkptEffect] {
        var effects: [CkptEffect] = []
        let durable = durability.landed(outcome)
        switch outcome {
        case .done:
            if durability.trouble != nil { effects.append(.note(.durableAgain)) }
            durability.trouble = nil
        case .lost: break
        case .failed(let trouble):
            if durability.trouble == nil { effects.append(.note(.notDurable(trouble.reason))) }
            durability.trouble = trouble
            durability.isScheduled = true
            return effects + [.startTimer(.persistence, at: now + limits.durableRetry)]
        }
        if node != nil { effects += durable.map { .replication(.durable($0.checkpoint, change: $0.change)) } }
        let released = durability.release()
        if !released.isEmpty { effects.append(.release(released)) }
        // All that has come meanwhile is the next batch.
        if let batch = nextBatch() { effects.append(.persist(batch)) }
        return effects
    }

    /// What the start has found out of the database.
    mutating func stored(_ stored: [StoredCheckpoint], _ lineage: UInt64?, _ now: Instant) -> [CkptEffect] {
        durability.lineage = durability.lineage ?? lineage
        compare(with: stored)
        guard node != nil else { return [] }
        return durability.kept.sorted { $0.key < $1.key }.filter { $0.value.durable == $0.value.mark }.map {
            .replication(.durable($0.key, change: $0.value.head.version.change))
        }
    }

    mutating func notStored(_ reason: String) -> [CkptEffect] {
        (durability.isUsed, durability.trouble) = (true, .unusable(reason))
        compare(with: [])
        return [.note(.notDurable(reason))]
    }

    mutating func keepLineage(_ lineage: UInt64) {
        guard durability.lineage != lineage else { return }
        (durability.lineage, durability.isLineageNew) = (lineage, true)
    }

    // MARK: To be read

    /// For people.
    public struct DurabilitySummary: Hashable, Sendable {
        public var checkpoints: Int
        /// Not all of them is in the database yet.
        public var behind: Int
        public var waitingAnswers: Int
        public var trouble: DurabilityTrouble?
    }

    public var durabilitySummary: DurabilitySummary {
        DurabilitySummary(
            checkpoints: durability.kept.count,
            behind: durability.kept.reduce(0) { $0 + ($1.value.durable < $1.value.mark ? 1 : 0) },
            waitingAnswers: durability.waiting.count, trouble: durability.trouble)
    }

    /// Of the directory that the database belongs to.
    public var lineage: UInt64? { durability.lineage }

    func checkDurabilityInvariants() {
        for (id, kept) in durability.kept {
            invariant(checkpoints[id]?.state.isUnlinked == false, "what is kept durable is there")
            invariant(kept.durable <= kept.mark, "nothing is durable that was not noted")
            invariant(
                kept.isPartial || kept.durable == kept.mark || kept.isQueued
                    || durability.flight?.written.contains { $0.checkpoint == id } == true,
                "what is not durable is on its way")
            invariant(durability.removals[id] == nil, "what is there is not removed")
        }
        invariant(
            durability.queue.count == durability.kept.reduce(0) { $0 + ($1.value.isQueued ? 1 : 0) },
            "the queue has each once")
        if !durability.isUsed { return }
        for checkpoint in checkpoints.values
        where checkpoint.attributes.flags.contains(.persistent) && !checkpoint.state.isUnlinked {
            invariant(durability.kept[checkpoint.id] != nil, "what is persistent is kept")
        }
    }
}
