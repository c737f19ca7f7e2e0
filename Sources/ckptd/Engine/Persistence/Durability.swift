import CkptProtocol
import Containers
import EngineKit
import SAFTypes

/// Why what is done cannot be made durable now.
public enum DurabilityTrouble: Hashable, Sendable {
    /// No space on the disk.
    case full(String)
    /// It is tried again.
    case failing(String)
    /// Another version's database, or an engine that is not here: not touched, so not before the next start.
    case unusable(String)

    public var reason: String {
        switch self {
        case .full(let text), .failing(let text), .unusable(let text): text
        }
    }
}

/// What the disk said to a batch.
public enum PersistentOutcome: Hashable, Sendable {
    case done
    /// Nothing was changed.
    case failed(DurabilityTrouble)
    /// The database is gone, and an empty one in its place.
    case lost
}

/// Which persistent checkpoints the database lacks something of, and which answers wait for it. Decides what the next
/// batch holds: one is under way at a time, and what comes meanwhile is the next (group commit).
///
/// A *mark* is the number of a change to a checkpoint that the database must have, counted from its beginning.
struct Durability: Sendable {
    /// Data in one batch; one checkpoint is not divided, so that the database always has it as it was at one moment.
    static let batchBytesMax = 16 << 20

    struct Kept: Hashable, Sendable {
        var mark: UInt64 = 0
        var durable: UInt64 = 0
        /// Of the last state that was noted: openers and deadlines are not kept.
        var head: PersistentHead
        var isQueued = false
        /// Every section has to be written.
        var isWhole = true
        var dirty = OrderedMap<Int, DirtySection>()
        /// Sizes of the sections that the database has, or will have with the batch under way; by slot.
        var stored: [Int?] = []
        /// Slots of writers of other nodes that have to be written, and those that the database may have.
        var dirtyWriters: Set<Int> = []
        var storedWriters: Set<Int> = []
        /// A copy is being made: what the database has is worth more, until it is whole.
        var isPartial = false
        /// Another one when other data takes the place of what there was, and for another replica of the same id.
        var generation: UInt64

        func storedSize(_ slot: Int) -> Int? { slot < stored.count ? stored[slot] : nil }

        mutating func setStored(_ slot: Int, _ size: Int?) {
            while stored.count <= slot { stored.append(nil) }
            stored[slot] = size
        }
    }

    /// A checkpoint in the batch under way; what it takes to have it in the next one, if this comes to nothing.
    struct Written: Sendable {
        var checkpoint: CheckpointID
        var mark: UInt64
        var generation: UInt64
        var change: UInt64
        var isWhole: Bool
        var dirty: OrderedMap<Int, DirtySection>
        var writers: [Int]
        var before: [(slot: Int, size: Int?)]
    }

    struct Flight: Sendable {
        var removals: [PersistentBatch.Removal]
        var removalMark: UInt64
        var written: [Written]
        var lineage: UInt64?
    }

    /// What the database has of a checkpoint that is no more.
    struct Left: Hashable, Sendable {
        var sizes: [Int?]
        var writers: Set<Int>
    }

    enum Subject: Hashable, Sendable {
        case checkpoint(CheckpointID, mark: UInt64)
        case removal(mark: UInt64)
    }

    struct Waiting: Hashable, Sendable {
        var ticket: UInt64
        var subject: Subject
        var since: Instant
    }

    /// False as long as there never was anything persistent: then nothing is looked at.
    var isUsed = false
    var kept: [CheckpointID: Kept] = [:]
    /// In the order in which they need to be written.
    var queue: [CheckpointID] = []
    var removals = OrderedMap<CheckpointID, Left>()
    var removalMark: UInt64 = 0
    var durableRemovals: UInt64 = 0
    var lineage: UInt64?
    var isLineageNew = false
    var flight: Flight?
    var waiting: [Waiting] = []
    var lastTicket: UInt64 = 0
    var lastGeneration: UInt64 = 0
    var trouble: DurabilityTrouble?
    /// The timer that begins the next batch runs.
    var isScheduled = false

    var hasWork: Bool { !queue.isEmpty || !removals.isEmpty || isUsed && isLineageNew }

    // MARK: What happens to checkpoints

    mutating func begin(_ id: CheckpointID, _ head: PersistentHead, isPartial: Bool = false) {
        isUsed = true
        lastGeneration += 1
        var new = Kept(head: head, generation: lastGeneration)
        new.isPartial = isPartial
        // The same id again: what is left of it in the database is overwritten.
        if let old = removals.removeValue(forKey: id) { (new.stored, new.storedWriters) = (old.sizes, old.writers) }
        if let flying = flight?.removals.first(where: { $0.checkpoint == id }) {
            (new.stored, new.storedWriters) = (flying.sizes, Set(flying.writers))
        }
        kept[id] = new
        touch(id)
    }

    /// The database has exactly this.
    mutating func begin(_ stored: StoredCheckpoint) {
        isUsed = true
        lastGeneration += 1
        var new = Kept(head: stored.head, generation: lastGeneration)
        new.isWhole = false
        for section in stored.sections { new.setStored(section.slot, Int(clamping: section.descriptor.size)) }
        new.storedWriters = Set(stored.writers.map(\.slot))
        kept[stored.checkpoint] = new
    }

    /// A step that is done.
    ///
    /// - Parameter writer: slot of the writer, if it is one of another node.
    mutating func note(_ transaction: Transaction, _ head: PersistentHead, writer: Int?) {
        let id = transaction.checkpoint
        guard kept[id] != nil else { return }
        if transaction.state.isUnlinked { return remove(id) }
        let isChanged = kept[id]?.head != head || !transaction.steps.isEmpty
        switch transaction.purpose {
        case .step:
            if let writer { kept[id]?.dirtyWriters.insert(writer) }
            for step in transaction.openers { kept[id]?.dirtyWriters.insert(step.slot) }
            guard isChanged else { return }
            for step in transaction.steps { kept[id]?.dirty[step.slot, default: DirtySection()].note(step.operation) }
        case .piece, .reserved, .recalled, .told: return
        case .wipe, .copied:
            kept[id]?.isWhole = true
            kept[id]?.dirty.removeAll()
            lastGeneration += 1
            kept[id]?.generation = lastGeneration
        }
        kept[id]?.head = head
        kept[id]?.isPartial = transaction.state.isPartial
        touch(id)
    }

    private mutating func touch(_ id: CheckpointID) {
        kept[id]?.mark += 1
        enqueue(id)
    }

    private mutating func enqueue(_ id: CheckpointID) {
        guard let known = kept[id], !known.isQueued, !known.isPartial else { return }
        kept[id]?.isQueued = true
        queue.append(id)
    }

    /// It is no more.
    mutating func remove(_ id: CheckpointID) {
        guard let old = kept.removeValue(forKey: id) else { return }
        if old.isQueued { queue.removeAll { $0 == id } }
        remove(id, Left(sizes: old.stored, writers: old.storedWriters))
    }

    mutating func remove(_ id: CheckpointID, _ left: Left) {
        isUsed = true
        removals.updateValue(left, forKey: id)
        removalMark += 1
    }

    // MARK: Batches

    /// - Parameter save: what is to be written of a checkpoint, and its bytes of data; nil when it is no more.
    mutating func nextBatch(
        _ save: (CheckpointID, Kept) -> (save: PersistentBatch.Save, bytes: Int)?
    ) -> PersistentBatch? {
        guard flight == nil, hasWork else { return nil }
        var batch = PersistentBatch(lineage: isLineageNew ? lineage : nil)
        batch.removals = removals.map {
            PersistentBatch.Removal(checkpoint: $0.key, sizes: $0.value.sizes, writers: $0.value.writers.sorted())
        }
        removals.removeAll()
        isLineageNew = false
        var written: [Written] = []
        var (taken, bytes) = (0, 0)
        while taken < queue.count, bytes < Self.batchBytesMax {
            let id = queue[taken]
            taken += 1
            guard let known = kept[id] else { continue }
            kept[id]?.isQueued = false
            guard !known.isPartial, let (save, count) = save(id, known) else { continue }
            bytes += count
            written.append(took(save, known))
            batch.saves.append(save)
        }
        queue.removeFirst(taken)
        flight = Flight(removals: batch.removals, removalMark: removalMark, written: written, lineage: batch.lineage)
        return batch
    }

    private mutating func took(_ save: PersistentBatch.Save, _ known: Kept) -> Written {
        let id = save.checkpoint
        var written = Written(
            checkpoint: id, mark: known.mark, generation: known.generation, change: save.head.version.change,
            isWhole: known.isWhole, dirty: known.dirty, writers: save.writers.map(\.slot), before: [])
        for writer in save.writers {
            if writer.opener == nil {
                kept[id]?.storedWriters.remove(writer.slot)
            } else {
                kept[id]?.storedWriters.insert(writer.slot)
            }
        }
        kept[id]?.dirtyWriters.removeAll()
        for slot in save.slots {
            written.before.append((slot.slot, known.storedSize(slot.slot)))
            kept[id]?.setStored(slot.slot, slot.section.map { Int(clamping: $0.size) })
        }
        kept[id]?.isWhole = false
        kept[id]?.dirty.removeAll()
        return written
    }

    /// - Returns: what is durable now: checkpoints, each with its change.
    mutating func landed(_ outcome: PersistentOutcome) -> [(checkpoint: CheckpointID, change: UInt64)] {
        guard let flight else { return [] }
        self.flight = nil
        switch outcome {
        case .done:
            durableRemovals = max(durableRemovals, flight.removalMark)
            var durable: [(checkpoint: CheckpointID, change: UInt64)] = []
            for written in flight.written {
                guard let known = kept[written.checkpoint], known.generation == written.generation else { continue }
                kept[written.checkpoint]?.durable = max(known.durable, written.mark)
                durable.append((written.checkpoint, written.change))
            }
            return durable
        case .failed: undo(flight)
        case .lost:
            // What was to go is gone; all that is left has to be written.
            durableRemovals = removalMark
            removals.removeAll()
            isLineageNew = lineage != nil
            for id in kept.keys.sorted() {
                kept[id]?.stored = []
                kept[id]?.storedWriters = []
                kept[id]?.isWhole = true
                enqueue(id)
            }
        }
        return []
    }

    private mutating func undo(_ flight: Flight) {
        for removal in flight.removals where kept[removal.checkpoint] == nil {
            removals.updateValue(
                Left(sizes: removal.sizes, writers: Set(removal.writers)), forKey: removal.checkpoint)
        }
        if flight.lineage != nil { isLineageNew = true }
        for written in flight.written {
            let id = written.checkpoint
            // Of a checkpoint that is gone meanwhile the database has what it had before.
            if let left = removals[id] {
                let writers = left.writers.union(written.writers)
                removals.updateValue(Left(sizes: Self.restored(left.sizes, written), writers: writers), forKey: id)
            }
            guard let known = kept[id] else { continue }
            kept[id]?.stored = Self.restored(known.stored, written)
            // Which of them it has is not known any more: to delete what is not there does no harm.
            kept[id]?.storedWriters.formUnion(written.writers)
            kept[id]?.dirtyWriters.formUnion(written.writers)
            if written.isWhole { kept[id]?.isWhole = true }
            for (slot, dirty) in written.dirty { kept[id]?.dirty[slot, default: DirtySection()].insert(dirty) }
            enqueue(id)
        }
    }

    private static func restored(_ stored: [Int?], _ written: Written) -> [Int?] {
        var stored = stored
        for (slot, size) in written.before where slot < stored.count { stored[slot] = size }
        return stored
    }

    // MARK: Answers

    /// Nil when it is durable already.
    mutating func wait(for id: CheckpointID, _ now: Instant) -> UInt64? {
        guard let known = kept[id], known.durable < known.mark else { return nil }
        return wait(.checkpoint(id, mark: known.mark), now)
    }

    /// For everything that was removed.
    mutating func waitForRemovals(_ now: Instant) -> UInt64? {
        durableRemovals < removalMark ? wait(.removal(mark: removalMark), now) : nil
    }

    private mutating func wait(_ subject: Subject, _ now: Instant) -> UInt64 {
        lastTicket += 1
        waiting.append(Waiting(ticket: lastTicket, subject: subject, since: now))
        return lastTicket
    }

    /// The tickets of those whose time has come.
    mutating func release() -> [UInt64] {
        var released: [UInt64] = []
        waiting.removeAll { waiting in
            let isOver =
                switch waiting.subject {
                // What is no more cannot be lost.
                case .checkpoint(let id, let mark): kept[id].map { $0.durable >= mark } ?? true
                case .removal(let mark): durableRemovals >= mark
                }
            if isOver { released.append(waiting.ticket) }
            return isOver
        }
        return released
    }

    /// The tickets of those that have waited too long.
    mutating func abandon(since earliest: Instant) -> [UInt64] {
        var abandoned: [UInt64] = []
        waiting.removeAll { waiting in
            if waiting.since <= earliest { abandoned.append(waiting.ticket) }
            return waiting.since <= earliest
        }
        return abandoned
    }
}
