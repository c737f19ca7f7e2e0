import CkptProtocol
import EngineKit
import SAFTypes

/// One checkpoint as the engine knows it.
struct OpenCheckpoint: Hashable, Sendable {
    struct Opener: Hashable, Sendable {
        var record: OpenerRecord
        /// Requests executed last, in a circle; number 0 = free.
        var executed: [RestoredCheckpoint.Executed]
        var nextExecuted: Int
        var isSubscribed = false
        /// Its process has mapped what it takes to write sections itself.
        var isDirectWriter = false

        init(_ record: OpenerRecord, executed: [RestoredCheckpoint.Executed] = []) {
            self.record = record
            let missing = max(0, OpenerRecord.executedMax - executed.count)
            let places = executed + Array(repeating: .init(number: 0, change: 0), count: missing)
            // After a restart the place after the newest one is next.
            let newest = places.indices.max { left, right in
                (places[left].change, places[left].number) < (places[right].change, places[right].number)
            }
            self.executed = places
            nextExecuted = executed.isEmpty ? 0 : ((newest ?? 0) + 1) % OpenerRecord.executedMax
        }
    }

    let id: CheckpointID
    let name: SaName
    /// As created; the retention duration in force is in `state`.
    let attributes: CreationAttributes
    var state: Transaction.State
    var sections = SectionIndex()
    /// Sections that their writers write themselves, by their slots.
    var direct: [Int: Direct] = [:]
    /// Whose processes alone may map what is written directly; nil: nobody has wanted to write it yet.
    var directUser: UInt32?
    /// Others are told what is written there.
    var isTold = false
    /// Another replica is to be the active one: no section is left to its writers.
    var isHandingOver = false
    var directWishes: [Int: DirectWish] = [:]
    private(set) var openers: [Opener?] = []
    /// Where each is among the openers.
    private(set) var openerSlots: [HandleID: Int] = [:]
    var openerCount: Int { openerSlots.count }
    /// Of writers on other nodes: those the directory has been seen to have.
    private var known: Set<HandleID> = []
    /// And those it has not, since when: their open may still be on its way here, or their close was faster.
    private var strangers: [HandleID: Instant] = [:]

    init(_ new: NewCheckpoint) {
        id = new.checkpoint
        name = new.name
        attributes = new.attributes
        state = new.state
        for (slot, opener) in new.openers.enumerated() { setOpener(slot: slot, opener) }
        if attributes.hasDefaultSection {
            sections.insert(
                .init(id: .defaultSection, size: 0, expiration: .saTimeEnd, lastUpdate: new.createdAt, serial: 1),
                slot: 0)
        }
    }

    init(_ restored: RestoredCheckpoint) {
        id = restored.checkpoint
        name = restored.name
        attributes = restored.attributes
        state = restored.state
        for section in restored.sections {
            let found = section.descriptor
            sections.insert(
                .init(
                    id: found.id, size: Int(clamping: found.size), expiration: found.expiration,
                    lastUpdate: found.lastUpdate, serial: found.serial, isCorrupted: found.state == .corrupted),
                slot: section.slot)
        }
        replaceOpeners(restored.openers)
    }

    private mutating func replaceOpeners(_ new: [RestoredCheckpoint.Opener]) {
        let subscribed = Set(openers.compactMap { $0?.isSubscribed == true ? $0?.record.handle : nil })
        openers = []
        openerSlots = [:]
        for opener in new {
            setOpener(slot: opener.slot, opener.record)
            openers[opener.slot] = Opener(opener.record, executed: opener.executed)
            openers[opener.slot]?.isSubscribed = subscribed.contains(opener.record.handle)
        }
    }

    var freeOpenerSlot: Int { openers.firstIndex { $0 == nil } ?? openers.count }

    mutating func setOpener(slot: Int, _ record: OpenerRecord?) {
        while openers.count <= slot { openers.append(nil) }
        if let old = openers[slot] { openerSlots[old.record.handle] = nil }
        if let record { openerSlots[record.handle] = slot }
        openers[slot] = record.map { Opener($0) }
    }

    /// Writers elsewhere that have closed, now that these are open.
    ///
    /// - Parameter patience: who was never seen to be open for so long is not waited for.
    mutating func closedWriters(
        _ isOpen: (HandleID) -> Bool, where isElsewhere: (HandleID) -> Bool, patience: Duration, _ now: Instant
    ) -> [HandleID] {
        var gone: [HandleID] = []
        for handle in openerSlots.keys.sorted() where isElsewhere(handle) {
            if isOpen(handle) {
                known.insert(handle)
                strangers[handle] = nil
            } else if known.remove(handle) != nil {
                gone.append(handle)
            } else if let since = strangers[handle], now - since >= patience {
                strangers[handle] = nil
                gone.append(handle)
            } else {
                strangers[handle] = strangers[handle] ?? now
            }
        }
        return gone
    }

    mutating func setDirectWriter(opener slot: Int) { openers[slot]?.isDirectWriter = true }

    /// Mutating, though it only looks: so it is done where the checkpoint is, and not with a copy.
    mutating func isDirectWriter(opener slot: Int) -> Bool { openers[slot]?.isDirectWriter == true }

    mutating func setSubscribed(_ isSubscribed: Bool, opener slot: Int) { openers[slot]?.isSubscribed = isSubscribed }

    /// The change number that a request of this opener led to, if it was executed.
    func executed(_ number: UInt64, opener slot: Int) -> UInt64? {
        openers[slot]?.executed.first { $0.number == number && number != 0 }?.change
    }

    func execution(of number: UInt64, _ writer: RequestWriter, opener slot: Int) -> Transaction.Execution {
        let index = slot < openers.count ? openers[slot]?.nextExecuted ?? 0 : 0
        return Transaction.Execution(openerSlot: slot, index: index, number: number, writer: writer)
    }

    /// Takes over what the store has committed.
    ///
    /// - Returns: when a section expires first, if that is another time than before.
    @discardableResult
    mutating func absorb(_ transaction: Transaction) -> SaTime? {
        let earliest = sections.earliestExpiration
        for step in transaction.steps {
            let operation = step.operation
            let time = step.copied?.lastUpdate ?? transaction.time
            switch operation.kind {
            case .create:
                sections.insert(
                    .init(
                        id: operation.id, size: operation.data.count, expiration: operation.expiration,
                        lastUpdate: time, serial: step.serial), slot: step.slot)
            case .write:
                let old = sections[step.slot]?.size ?? 0
                let end = operation.data.count == 0 ? 0 : Int(operation.offset) + operation.data.count
                sections.resize(slot: step.slot, to: max(old, end), at: time, isRepaired: false)
            case .overwrite:
                sections.resize(slot: step.slot, to: operation.data.count, at: time, isRepaired: true)
            case .setExpiration: sections.setExpiration(slot: step.slot, operation.expiration)
            case .delete, .expire:
                sections.remove(slot: step.slot)
                directWishes[step.slot] = nil
            case .require, .tag, .put: invariant(false, "an update has steps only")
            }
            if operation.kind == .create || operation.kind == .write || operation.kind == .overwrite {
                let opener = transaction.execution?.writer.handle
                let tag = opener.map { SectionIndex.Tag(opener: $0, number: step.tag) }
                sections.setTag(slot: step.slot, step.tag == 0 ? nil : tag)
            }
            if step.copied?.isCorrupted == true { sections.markCorrupted(slot: step.slot) }
        }
        switch transaction.purpose {
        case .step, .piece, .reserved, .recalled, .told: break
        case .wipe: sections = SectionIndex()
        case .copied(let openers): replaceOpeners(openers)
        }
        for step in transaction.openers { setOpener(slot: step.slot, step.opener) }
        if let execution = transaction.execution {
            openers[execution.openerSlot]?.executed[execution.index] = .init(
                number: execution.number, change: transaction.state.change)
            openers[execution.openerSlot]?.nextExecuted = (execution.index + 1) % OpenerRecord.executedMax
        }
        state = transaction.state
        return sections.earliestExpiration == earliest ? nil : sections.earliestExpiration
    }

    var descriptor: CheckpointDescriptor {
        var current = attributes
        current.retentionDuration = state.retentionDuration
        return CheckpointDescriptor(
            attributes: current, sectionCount: UInt32(clamping: sections.count), memoryUsed: sections.memoryUsed,
            change: state.change)
    }

    func checkInvariants(isAlone: Bool) {
        sections.checkInvariants()
        invariant(openers.reduce(0) { $0 + ($1 == nil ? 0 : 1) } == openerCount, "openers are counted")
        for (handle, slot) in openerSlots { invariant(openers[slot]?.record.handle == handle, "openers are found") }
        // On a member a writer may be remembered a little longer than it has the checkpoint open.
        invariant(
            !isAlone || openerCount == 0 || state.retentionDeadline == 0,
            "no retention runs while somebody has it open")
    }
}
