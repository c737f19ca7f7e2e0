public import CkptProtocol
import EngineKit
import SAFTypes

// A member's replicas: made, copied, and kept equal with the active one. `Replication` says when.
extension CkptEngine {
    /// What this node has of a checkpoint.
    public func replica(_ id: CheckpointID) -> ReplicaData? { checkpoints[id]?.state.replica }

    /// Whether followers here can be told what there is.
    public func isServable(_ id: CheckpointID) -> Bool { checkpoints[id].map { !$0.state.isPartial } ?? false }

    // MARK: Made and dropped

    mutating func make(_ entry: DirectoryEntry, _ time: SaTime) -> [CkptEffect] {
        if let known = checkpoints[entry.id] { return [.replication(.held(entry.id, known.state.replica))] }
        let new = NewCheckpoint(
            checkpoint: entry.id, name: entry.name, attributes: entry.attributes, createdAt: time,
            state: .init(
                retentionDuration: entry.retention, nextSerial: entry.attributes.hasDefaultSection ? 2 : 1,
                isUnlinked: entry.isUnlinked, hasActiveReplica: entry.active == node, unlinker: entry.unlinker),
            openers: (locals[entry.id] ?? [:]).sorted { $0.key < $1.key }.map(\.value.record))
        if entry.attributes.flags.contains(.persistent) { durability.isUsed = true }
        pending = .make(new)
        return [.create(new)]
    }

    mutating func drop(_ id: CheckpointID, _ unlinker: RequestIdentity?, _ now: Instant) -> [CkptEffect] {
        guard let checkpoint = checkpoints.removeValue(forKey: id) else { return [.remove(id)] }
        directCheckpoints.remove(id)
        if named[checkpoint.name] == id { named[checkpoint.name] = nil }
        var effects: [CkptEffect] = [.cancelTimer(.expiration(id)), .cancelTimer(.telling(id))]
        if let unlinker, checkpoint.state.isUnlinked {
            effects += [.retire(id)] + bury(id, unlinker, now)
        } else {
            effects.append(.remove(id))
        }
        // Whoever follows it here has to look for another.
        return effects + [.publish(id)]
    }

    // MARK: Updates of the active replica

    mutating func apply(
        _ id: CheckpointID, _ change: UInt64, _ update: ReplicaUpdate, isTolerant: Bool
    ) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id], change == checkpoint.state.change + 1,
            var transaction = ReplicaPlan.transaction(checkpoint, update, isTolerant: isTolerant, limits)
        else { return [.replication(.applied(id, false))] }
        if let writer = update.writer, !isTolerant {
            note(update.number, of: writer, slot: checkpoint.openerSlots[writer.handle], checkpoint, in: &transaction)
        }
        pending = .apply(transaction, isTolerant: isTolerant)
        return [.commit(transaction, isUpdate: true)]
    }

    /// The request is executed by this step; an opener that has not written before gets its place.
    func note(
        _ number: UInt64, of writer: RequestWriter, slot: Int?, _ checkpoint: OpenCheckpoint,
        in transaction: inout Transaction
    ) {
        guard let slot else {
            let record = locals[checkpoint.id]?[writer.handle]?.record ?? OpenerRecord(writer)
            transaction.openers = [.init(slot: checkpoint.freeOpenerSlot, opener: record)]
            transaction.execution = .init(
                openerSlot: checkpoint.freeOpenerSlot, index: 0, number: number, writer: writer)
            return
        }
        transaction.execution = checkpoint.execution(of: number, writer, opener: slot)
    }

    // MARK: A copy

    mutating func wipe(_ id: CheckpointID, base: UInt64) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id] else { return [.replication(.applied(id, false))] }
        var transaction = Transaction(checkpoint: id, time: 0, state: checkpoint.state, purpose: .wipe)
        transaction.state.replica = ReplicaData(version: .init(epoch: 0, change: base), isPartial: true)
        checkpoints[id]?.absorb(transaction)
        for handle in (locals[id] ?? [:]).keys { locals[id]?[handle]?.needsSnapshot = true }
        return [.record(transaction, isUpdate: false)]
    }

    mutating func takePiece(_ id: CheckpointID, _ parts: [PieceSection]) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id], checkpoint.state.isPartial,
            let transaction = ReplicaPlan.piece(checkpoint, parts, limits)
        else { return [.replication(.applied(id, false))] }
        guard !transaction.steps.isEmpty else { return [] }
        pending = .piece(transaction)
        return [.commit(transaction, isUpdate: false)]
    }

    mutating func finishCopy(
        _ id: CheckpointID, _ end: CopyEnd, _ version: ReplicaVersion, _ history: EpochHistory
    ) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id], checkpoint.state.isPartial, checkpoint.state.change == version.change,
            !checkpoint.attributes.hasDefaultSection || checkpoint.sections.slot(of: .defaultSection) != nil
        else { return [.replication(.applied(id, false))] }
        var openers: [RestoredCheckpoint.Opener] = []
        var told: Set<HandleID> = []
        for entry in end.writers where told.insert(entry.writer.handle).inserted {
            let record = locals[id]?[entry.writer.handle]?.record ?? OpenerRecord(entry.writer)
            openers.append(.init(slot: openers.count, record: record, executed: entry.executed))
        }
        for (handle, open) in (locals[id] ?? [:]).sorted(by: { $0.key < $1.key }) where !told.contains(handle) {
            openers.append(.init(slot: openers.count, record: open.record, executed: []))
        }
        var transaction = Transaction(checkpoint: id, time: 0, state: checkpoint.state, purpose: .copied(openers))
        transaction.state.replica = ReplicaData(version: version, history: history)
        transaction.state.nextSerial = end.nextSerial
        pending = .copied(transaction)
        return [.commit(transaction, isUpdate: false)]
    }

    mutating func keepEpoch(_ id: CheckpointID, _ epoch: UInt64, _ history: EpochHistory) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id] else { return [] }
        var transaction = Transaction(checkpoint: id, time: 0, state: checkpoint.state)
        (transaction.state.epoch, transaction.state.history) = (epoch, history)
        guard transaction.state != checkpoint.state else { return [] }
        checkpoints[id]?.absorb(transaction)
        return [.record(transaction, isUpdate: false)]
    }

    /// What of a checkpoint is to be sent next: whole sections and parts of large ones, in the order of the serials.
    ///
    /// - Returns: Nil when nothing is left.
    public func piece(
        of id: CheckpointID, from cursor: CopyCursor, bytesMax: Int
    ) -> (parts: [CopiedPart], next: CopyCursor)? {
        guard let checkpoint = checkpoints[id] else { return nil }
        var after = cursor.offset > 0 ? cursor.serial - 1 : cursor.serial
        var parts: [CopiedPart] = []
        var next = cursor
        var left = bytesMax
        while left > 0 {
            let page = checkpoint.sections.page(after: after, limit: Self.sectionsPerLook) { _ in true }
            for section in page.sections where left > 0 {
                let descriptor = section.descriptor
                let size = descriptor.state == .valid ? Int(clamping: descriptor.size) : 0
                // What was sent in part may be gone, or smaller, by now.
                let offset = descriptor.serial == next.serial ? next.offset : 0
                next = CopyCursor(serial: descriptor.serial)
                if offset > 0, offset >= size { continue }
                let count = min(size - offset, left)
                parts.append(CopiedPart(slot: section.slot, descriptor: descriptor, offset: offset, count: count))
                left -= count + descriptor.id.bytes.count + Self.partOverhead
                if offset + count < size {
                    next.offset = offset + count
                    left = 0
                }
            }
            guard page.hasMore else { break }
            after = next.serial
        }
        return parts.isEmpty ? nil : (parts, next)
    }

    /// Large sections are looked at few at a time: one may be all that a piece holds.
    private static let sectionsPerLook = 16
    private static let partOverhead = 64

    /// Who has written, and what was executed; the end of a copy.
    public func copyEnd(of id: CheckpointID) -> CopyEnd? {
        guard let checkpoint = checkpoints[id] else { return nil }
        let writers = checkpoint.openers.compactMap { opener -> CopyEnd.Writer? in
            guard let opener else { return nil }
            // The place that comes next holds the oldest.
            let turned = opener.executed[opener.nextExecuted...] + opener.executed[..<opener.nextExecuted]
            let executed = turned.filter { $0.number != 0 }
            var writer = opener.record.writer
            if isLocal(opener.record), let node { writer.node = node }
            return executed.isEmpty ? nil : CopyEnd.Writer(writer: writer, executed: executed)
        }
        return CopyEnd(nextSerial: checkpoint.state.nextSerial, writers: writers)
    }

    // MARK: The store's word

    mutating func settleReplica(_ outcome: CommitOutcome, _ decided: Pending) -> [CkptEffect] {
        switch decided {
        case .make(let new):
            guard outcome == .done else { return [.replication(.notMade(new.checkpoint))] }
            let checkpoint = OpenCheckpoint(new)
            checkpoints[new.checkpoint] = checkpoint
            if !new.state.isUnlinked { named[new.name] = new.checkpoint }
            return [
                .note(.created(new.name, new.checkpoint)),
                .replication(.held(new.checkpoint, checkpoint.state.replica)),
            ]
        case .keepOpener(let transaction):
            // Without room it is kept with its first update, or forgotten when ckptd dies before.
            if outcome == .done { checkpoints[transaction.checkpoint]?.absorb(transaction) }
            return []
        case .apply(let transaction, let isTolerant):
            let id = transaction.checkpoint
            guard outcome == .done else { return [.replication(.applied(id, false))] }
            checkpoints[id]?.absorb(transaction)
            return isTolerant ? [.replication(.applied(id, true))] : [.replication(.applied(id, true)), .publish(id)]
        case .piece(let transaction):
            guard outcome == .done else { return [.replication(.applied(transaction.checkpoint, false))] }
            checkpoints[transaction.checkpoint]?.absorb(transaction)
            return []
        case .copied(let transaction):
            let id = transaction.checkpoint
            guard outcome == .done else { return [.replication(.applied(id, false))] }
            checkpoints[id]?.absorb(transaction)
            return [.replication(.applied(id, true)), .publish(id)]
        case .create, .open, .update, .purge, .look, .recall, .grant, .tell, .told: return []
        }
    }
}
