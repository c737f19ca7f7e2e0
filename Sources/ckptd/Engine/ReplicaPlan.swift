import CkptProtocol
import SAFTypes

/// Turns what another node says of a checkpoint's sections into steps for this node's replica; changes nothing.
struct ReplicaPlan {
    private struct Planned {
        var slot: Int
        var serial: UInt64
        var isDeleted = false
    }

    private let checkpoint: OpenCheckpoint
    /// Nothing larger is believed.
    private let sizeMax: UInt64
    private var planned: [SectionID: Planned] = [:]
    private var created = 0
    private var steps: [Transaction.Step] = []

    private init(_ checkpoint: OpenCheckpoint, _ limits: CkptLimits) {
        self.checkpoint = checkpoint
        sizeMax = min(checkpoint.attributes.sectionSizeMax, limits.checkpointBytesMax)
    }

    private func fits(_ offset: UInt64, _ count: Int) -> Bool {
        UInt64(count) <= sizeMax && offset <= sizeMax - UInt64(count)
    }

    private func find(_ id: SectionID) -> Planned? {
        if let known = planned[id] { return known.isDeleted ? nil : known }
        guard let slot = checkpoint.sections.slot(of: id), let section = checkpoint.sections[slot] else { return nil }
        return Planned(slot: slot, serial: section.serial)
    }

    private mutating func create(
        _ operation: SectionOperation, serial: UInt64, copied: Transaction.CopiedSection? = nil
    ) {
        let slot = checkpoint.sections.freeSlot(created)
        created += 1
        planned[operation.id] = Planned(slot: slot, serial: serial)
        steps.append(.init(operation, slot: slot, serial: serial, copied: copied))
    }

    private mutating func change(
        _ operation: SectionOperation, _ section: Planned, copied: Transaction.CopiedSection? = nil
    ) {
        steps.append(.init(operation, slot: section.slot, serial: section.serial, copied: copied))
    }

    private mutating func delete(_ operation: SectionOperation, _ section: Planned) {
        planned[operation.id] = Planned(slot: section.slot, serial: section.serial, isDeleted: true)
        steps.append(.init(operation, slot: section.slot, serial: section.serial))
    }

    /// An update of the active replica. Nil when it cannot be done, so that this replica is not what that one thinks.
    ///
    /// - Parameter isTolerant: not all sections are here yet; what is missing comes as it is after the update.
    static func transaction(
        _ checkpoint: OpenCheckpoint, _ update: ReplicaUpdate, isTolerant: Bool, _ limits: CkptLimits
    ) -> Transaction? {
        var plan = ReplicaPlan(checkpoint, limits)
        let creations = UInt64(update.operations.count { $0.kind == .create })
        guard update.nextSerial > creations else { return nil }
        var serial = update.nextSerial - creations
        for operation in update.operations {
            guard plan.fits(operation.offset, operation.data.count) else { return nil }
            let found = plan.find(operation.id)
            switch (operation.kind, found) {
            case (.create, nil):
                plan.create(operation, serial: serial)
                serial += 1
            case (.delete, let section?), (.expire, let section?): plan.delete(operation, section)
            case (.write, let section?), (.overwrite, let section?), (.setExpiration, let section?):
                plan.change(operation, section)
            case (.create, _), (.require, _), (.tag, _), (.put, _): return nil
            case (_, nil): if !isTolerant { return nil }
            }
        }
        var transaction = Transaction(
            checkpoint: checkpoint.id, time: update.time, state: checkpoint.state, steps: plan.steps)
        transaction.state.change += 1
        transaction.state.nextSerial = max(transaction.state.nextSerial, update.nextSerial)
        return transaction
    }

    /// Sections, or parts of them, as they are at the active replica now. Nil when they cannot be of this checkpoint.
    static func piece(_ checkpoint: OpenCheckpoint, _ parts: [PieceSection], _ limits: CkptLimits) -> Transaction? {
        var plan = ReplicaPlan(checkpoint, limits)
        for part in parts {
            guard part.descriptor.size <= plan.sizeMax, plan.fits(part.offset, part.data.count) else { return nil }
            plan.take(part)
        }
        return Transaction(
            checkpoint: checkpoint.id, time: 0, state: checkpoint.state, steps: plan.steps, purpose: .piece)
    }

    private mutating func take(_ part: PieceSection) {
        let descriptor = part.descriptor
        let isCorrupted = descriptor.state == .corrupted
        let copied = Transaction.CopiedSection(
            lastUpdate: descriptor.lastUpdate, size: isCorrupted ? 0 : Int(clamping: descriptor.size),
            isCorrupted: isCorrupted)
        let known = find(descriptor.id)
        if let known, known.serial == descriptor.serial {
            if part.offset > 0, !isCorrupted {
                return change(
                    .init(kind: .write, id: descriptor.id, offset: part.offset, data: part.data), known, copied: copied)
            }
            change(.init(kind: .overwrite, id: descriptor.id, data: part.data), known, copied: copied)
            return change(
                .init(kind: .setExpiration, id: descriptor.id, expiration: descriptor.expiration), known,
                copied: copied)
        }
        guard part.offset == 0 || isCorrupted else { return }
        if let known { delete(.init(kind: .delete, id: descriptor.id), known) }
        create(
            .init(kind: .create, id: descriptor.id, expiration: descriptor.expiration, data: part.data),
            serial: descriptor.serial, copied: copied)
    }
}
