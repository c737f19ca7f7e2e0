import CkptProtocol
public import SAFTypes

/// Why a request is not done.
public struct Refusal: Error, Hashable, Sendable {
    public var code: AisError
    public var text: String
    public init(_ code: AisError, _ text: String) {
        self.code = code
        self.text = text
    }
}

/// Turns the operations of an update into the steps of a transaction, or refuses them; changes nothing.
///
/// Operations take effect in order, each seeing those before it. Source: SAI-AIS-CKPT-B.01.01/B.02.02,
/// saCkptSectionCreate() … saCkptSectionOverwrite().
struct UpdatePlan {
    private struct Planned {
        var slot: Int
        var size: Int
        var isDeleted: Bool
        var isCorrupted: Bool
    }

    private let checkpoint: OpenCheckpoint
    private let limits: CkptLimits
    private let time: SaTime
    /// Whose tags count.
    private let opener: HandleID
    private(set) var transaction: Transaction
    private(set) var generated: [SectionID] = []
    /// Sections as this update leaves them; empty while there is only one operation to plan.
    private var planned: [SectionID: Planned] = [:]
    private var created = 0
    private var count: Int
    private var memoryUsed: UInt64
    /// Before this update, with what direct sections may become.
    private let memoryReserved: UInt64
    private let isSingle: Bool

    init(_ checkpoint: OpenCheckpoint, of opener: HandleID, operations: Int, limits: CkptLimits, time: SaTime) {
        self.checkpoint = checkpoint
        self.opener = opener
        self.limits = limits
        self.time = time
        transaction = Transaction(checkpoint: checkpoint.id, time: time, state: checkpoint.state)
        transaction.state.change += 1
        count = checkpoint.sections.count
        memoryReserved = checkpoint.sections.memoryUsed + checkpoint.directReserve
        memoryUsed = memoryReserved
        let expired = checkpoint.sections.expired(at: time)
        isSingle = operations == 1 && expired.isEmpty
        for slot in expired { expire(slot) }
    }

    /// A section whose time is over is gone for whatever follows, even if no timer has said so yet.
    private mutating func expire(_ slot: Int) {
        guard let section = checkpoint.sections[slot] else { return }
        transaction.steps.append(.init(.init(kind: .expire, id: section.id), slot: slot, serial: section.serial))
        planned[section.id] = Planned(slot: slot, size: section.size, isDeleted: true, isCorrupted: false)
        count -= 1
        memoryUsed -= UInt64(section.size)
    }

    private func find(_ id: SectionID) -> Planned? {
        if !isSingle, let found = planned[id] { return found.isDeleted ? nil : found }
        guard let slot = checkpoint.sections.slot(of: id), let section = checkpoint.sections[slot] else { return nil }
        return Planned(slot: slot, size: section.size, isDeleted: false, isCorrupted: section.isCorrupted)
    }

    private func existing(_ id: SectionID) throws(Refusal) -> Planned {
        guard let found = find(id) else { throw Refusal(.notExist, "section \(id) does not exist") }
        return found
    }

    /// Plans all; the text of a refusal names the operation, counted from 0.
    mutating func add(_ operations: [SectionOperation]) throws(Refusal) {
        guard !operations.isEmpty else { throw Refusal(.invalidParam, "no operation; at least one expected") }
        let allowed = min(checkpoint.attributes.checkpointSize, limits.checkpointBytesMax)
        /// From this operation on there is too much.
        var beyond: Int?
        for (index, operation) in operations.enumerated() {
            do throws(Refusal) {
                try add(operation, index)
            } catch {
                throw Refusal(error.code, CkptRefusal.text(operation: index, error.text))
            }
            beyond = memoryUsed > allowed ? beyond ?? index : nil
        }
        guard operations.contains(where: { $0.kind.isStep || $0.kind == .put }) else {
            throw Refusal(.invalidParam, "nothing to be done: only conditions and tags")
        }
        if let beyond, memoryUsed > memoryReserved {
            let text = "\(memoryUsed) bytes of data; the checkpoint's size is \(allowed)"
            throw Refusal(.noSpace, CkptRefusal.text(operation: beyond, text))
        }
    }

    private mutating func add(_ operation: SectionOperation, _ index: Int) throws(Refusal) {
        switch operation.kind {
        case .create: try create(operation, index)
        case .write: try write(operation)
        case .overwrite: try overwrite(operation)
        case .delete:
            try refuseDefault(operation.id, "deleted")
            var section = try existing(operation.id)
            section.isDeleted = true
            count -= 1
            memoryUsed -= UInt64(section.size)
            note(operation, section)
        case .setExpiration:
            try refuseDefault(operation.id, "made to expire")
            note(operation, try existing(operation.id))
        case .put:
            var step = operation
            step.kind = find(operation.id) == nil ? .create : .overwrite
            if step.kind == .create {
                guard !operation.id.isDefault else {
                    throw Refusal(.notExist, "section \(operation.id) does not exist")
                }
                return try create(step, index)
            }
            step.expiration = 0
            try overwrite(step)
        case .require: try require(operation)
        case .tag: try tag(operation)
        case .expire: throw Refusal(.invalidParam, "expire is the service's own operation")
        }
    }

    private mutating func overwrite(_ operation: SectionOperation) throws(Refusal) {
        try checkSize(0, operation.data.count)
        var section = try existing(operation.id)
        memoryUsed = memoryUsed - UInt64(section.size) + UInt64(operation.data.count)
        section.size = operation.data.count
        section.isCorrupted = false
        note(operation, section)
    }

    private func require(_ operation: SectionOperation) throws(Refusal) {
        let section = try existing(operation.id)
        let tag = SectionIndex.Tag(opener: opener, number: operation.offset)
        guard operation.offset != 0, planned[operation.id] == nil, !section.isCorrupted,
            checkpoint.sections.tag(slot: section.slot) == tag
        else {
            throw Refusal(
                .badOperation, "section \(operation.id) is not what the difference was made for; overwrite all of it")
        }
    }

    private mutating func tag(_ operation: SectionOperation) throws(Refusal) {
        let slot = try existing(operation.id).slot
        let last = transaction.steps.lastIndex { step in
            step.slot == slot && [.create, .write, .overwrite].contains(step.operation.kind)
        }
        guard let last, operation.offset != 0 else {
            throw Refusal(.invalidParam, "a tag other than 0, of data that the same update changes, expected")
        }
        transaction.steps[last].tag = operation.offset
    }

    private mutating func note(_ operation: SectionOperation, _ section: Planned, serial: UInt64 = 0) {
        transaction.steps.append(.init(operation, slot: section.slot, serial: serial))
        if !isSingle { planned[operation.id] = section }
    }

    private func refuseDefault(_ id: SectionID, _ what: String) throws(Refusal) {
        if id.isDefault, checkpoint.attributes.hasDefaultSection {
            throw Refusal(.invalidParam, "the default section cannot be \(what)")
        }
    }

    private func checkSize(_ offset: UInt64, _ size: Int) throws(Refusal) {
        let most = min(checkpoint.attributes.sectionSizeMax, limits.checkpointBytesMax)
        guard UInt64(size) <= most, offset <= most - UInt64(size) else {
            throw Refusal(.invalidParam, "\(size) bytes at \(offset); a section has at most \(most)")
        }
    }

    private mutating func create(_ operation: SectionOperation, _ index: Int) throws(Refusal) {
        let attributes = checkpoint.attributes
        if attributes.hasDefaultSection {
            throw Refusal(.exist, "the default section is the only one of this checkpoint and exists already")
        }
        guard UInt64(operation.id.bytes.count) <= attributes.sectionIDSizeMax else {
            throw Refusal(
                .invalidParam,
                "section id of \(operation.id.bytes.count) bytes; at most \(attributes.sectionIDSizeMax) expected")
        }
        guard operation.expiration > time else {
            throw Refusal(.invalidParam, "expiration time \(operation.expiration) is in the past")
        }
        try checkSize(0, operation.data.count)
        var named = operation
        if operation.id.isDefault {
            let ids = Self.generatedIDs(change: transaction.state.change, index: index, attributes)
            guard let id = ids.first(where: { find($0) == nil }) else {
                throw Refusal(
                    .invalidParam,
                    "ids of at most \(attributes.sectionIDSizeMax) bytes have no room for a generated one")
            }
            named.id = id
            generated.append(id)
        } else if find(operation.id) != nil {
            throw Refusal(.exist, "section \(operation.id) exists already")
        }
        let most = min(Int(attributes.sectionsMax), limits.sectionsMax)
        guard count < most else { throw Refusal(.noSpace, "\(count) sections; the checkpoint has at most \(most)") }
        let slot = checkpoint.sections.freeSlot(created)
        created += 1
        count += 1
        memoryUsed += UInt64(operation.data.count)
        note(
            named, Planned(slot: slot, size: operation.data.count, isDeleted: false, isCorrupted: false),
            serial: transaction.state.nextSerial)
        transaction.state.nextSerial += 1
    }

    /// The ids that are tried for a section that is created without one, the first that is free is taken.
    static func generatedIDs(
        change: UInt64, index: Int, _ attributes: CreationAttributes
    ) -> some Sequence<SectionID> {
        sequence(state: index) { (item: inout Int) -> SectionID? in
            defer { item += CkptProtocolLimits.operationsMax }
            return .generated(change: change, item: item, sizeMax: attributes.sectionIDSizeMax)
        }
    }

    private mutating func write(_ operation: SectionOperation) throws(Refusal) {
        try checkSize(operation.offset, operation.data.count)
        var section = try existing(operation.id)
        if section.isCorrupted {
            throw Refusal(.library, "section \(operation.id) is corrupted; overwrite or delete it")
        }
        if operation.data.count > 0 {
            let end = Int(operation.offset) + operation.data.count
            if end > section.size {
                memoryUsed += UInt64(end - section.size)
                section.size = end
            }
        }
        note(operation, section)
    }
}
