public import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes

/// How large a checkpoint's recent-changes log may be.
public struct StoreLimits: Hashable, Sendable {
    /// Log of a new checkpoint.
    public var logBytesMin: Int
    /// The log does not grow beyond this for the sake of data; an update with more data than half of it goes to new
    /// extents instead, and a subscriber that missed it needs a new snapshot.
    public var logBytesMax: Int

    public init(logBytesMin: Int = 4 << 10, logBytesMax: Int = 1 << 20) {
        self.logBytesMin = logBytesMin
        self.logBytesMax = logBytesMax
    }
}

/// One checkpoint in memory that survives its writer: every step is in it wholly or not at all, whenever the writer
/// dies. Knows nothing of files, names on disk, clients or time.
///
/// A step is first prepared where nobody looks (free extents, the free end of the log, the root that does not hold),
/// then published by one store of its number, then carried out from its record; ``init(recovering:)`` carries out the
/// published step again, which does no harm, and never sees an unpublished one.
public struct CheckpointImage<Memory: StoreMemory> {
    public internal(set) var memory: Memory
    let limits: StoreLimits
    let superblock: Superblock
    var root: Root
    var allocator: ExtentAllocator
    /// What the tables hold; the tables themselves are only written from here on.
    var sections: [SectionEntry?] = []
    var openers: [OpenerRecord?] = []
    // Kept to allocate nothing per step.
    var scratch = ByteWriter(reserving: 1024)
    var rootScratch = ByteWriter(reserving: Layout.rootBytes)
    var staged: [StagedSection] = []
    var stagedOfSlot: [Int: Int] = [:]
    var items: [RecordItem] = []

    /// The next step makes the log this large, if there is room.
    public var logBytesWanted = 0
    var isLogAsWanted: Bool { root.log.capacity >= logBytesWanted }
    /// There are other replicas: what they may miss is kept, as far as it is cheaper than a copy of everything.
    public var keepsForReplicas = false

    public var checkpoint: CheckpointID { superblock.checkpoint }
    public var name: SaName { superblock.name }
    public var change: UInt64 { root.state.change }
    public var state: Transaction.State { root.state }

    /// Writes a new checkpoint into `memory`, whose content does not matter; nobody else may see it before this
    /// returns.
    public init(creating new: NewCheckpoint, in memory: Memory, limits: StoreLimits) throws(StoreError) {
        self.limits = limits
        self.memory = memory
        superblock = Superblock(
            checkpoint: new.checkpoint, name: new.name, attributes: new.attributes, createdAt: new.createdAt)
        root = Root(state: new.state)
        allocator = ExtentAllocator(start: Layout.headerBytes, used: [])
        try self.memory.grow(to: max(memory.count, Layout.headerBytes))
        self.memory.zero(at: 0, count: Layout.headerBytes)
        superblock.encoded().withUnsafeBytes { self.memory.copy($0, to: 0) }
        root.log.extent = try take(limits.logBytesMin)
        root.log.capacity = root.log.extent.size & ~7
        root.recordPosition = RecordHead.noPosition
        writeRoot()
        self.memory.publish(root.sequence, at: Layout.commitOffset)
        self.memory.publish(root.sequence, at: Layout.appliedOffset)
        var first = Transaction(
            checkpoint: new.checkpoint, time: new.createdAt, state: new.state,
            openers: new.openers.enumerated().map { .init(slot: $0.offset, opener: $0.element) })
        if new.attributes.hasDefaultSection {
            first.steps = [
                .init(.init(kind: .create, id: .defaultSection, expiration: .saTimeEnd), slot: 0, serial: 1)
            ]
        }
        try commit(first, payload: UnsafeRawBufferPointer(start: nil, count: 0), isUpdate: false)
    }

    /// Reads what a dead writer left; carries out a published step that it did not finish.
    ///
    /// - Throws: `.damaged` for bytes that no writer of ours can have left; nothing is trusted before it is checked.
    public init(recovering memory: Memory, limits: StoreLimits) throws(StoreError) {
        self.limits = limits
        self.memory = memory
        superblock = try Superblock(memory.bytes)
        let sequence: UInt64 = memory.load(at: Layout.commitOffset)
        let rootBytes = UnsafeRawBufferPointer(
            rebasing: memory.bytes[Layout.rootOffset(sequence)..<(Layout.rootOffset(sequence) + Layout.rootBytes)])
        root = try Root(rootBytes, sequence: sequence)
        try Root.check(root.sections, entryBytes: Layout.sectionEntryBytes, fileSize: memory.count, "section table")
        try Root.check(root.openers, entryBytes: Layout.openerEntryBytes, fileSize: memory.count, "opener table")
        try Root.check(root.log, entryBytes: 1, fileSize: memory.count, "log")
        guard root.sections.capacity <= Layout.entriesMax, root.openers.capacity <= Layout.entriesMax,
            root.log.capacity >= RecordHead.bytes, root.log.capacity % 8 == 0
        else { throw .damaged("table sizes") }
        allocator = ExtentAllocator(start: Layout.headerBytes, used: [])
        let isFinished = memory.load(UInt64.self, at: Layout.appliedOffset) == sequence
        let serial: UInt64 = memory.load(at: Layout.serialOffset)
        // Whoever reads meanwhile would take data that is carried out a second time for data that stands still.
        let mustHide = !isFinished || serial & 1 == 1
        if mustHide { self.memory.publish(serial | 1, at: Layout.serialOffset) }
        if !isFinished { try redo() }
        try readTables()
        if mustHide { self.memory.publish((serial | 1) &+ 1, at: Layout.serialOffset) }
        allocator = try findFreeSpace()
    }

    /// The published step again.
    private mutating func redo() throws(StoreError) {
        guard let (head, record) = record(at: root.recordPosition), head.sequence == root.sequence else {
            throw .damaged("record of step \(root.sequence)")
        }
        try checkRecord(head, record)
        // The record is copied: carrying it out writes to the memory it lies in.
        let copy = Array(record)
        copy.withUnsafeBytes { carryOut($0, head) }
        memory.publish(root.sequence, at: Layout.appliedOffset)
    }

    private mutating func readTables() throws(StoreError) {
        let file = memory.bytes
        sections = Array(repeating: nil, count: root.sections.capacity)
        var ids: Set<[UInt8]> = []
        for slot in 0..<root.sections.capacity {
            let offset = entryOffset(slot) + Layout.entryImageOffset
            let bytes = UnsafeRawBufferPointer(rebasing: file[offset..<(offset + Layout.sectionImageBytes)])
            guard let entry = try SectionEntry(bytes, file: file, "section entry \(slot)") else { continue }
            guard ids.insert(Array(file[entry.extent.offset..<(entry.extent.offset + entry.idLength)])).inserted else {
                throw .damaged("section entry \(slot): id used twice")
            }
            sections[slot] = entry
        }
        openers = Array(repeating: nil, count: root.openers.capacity)
        for slot in 0..<root.openers.capacity {
            let offset = openerOffset(slot)
            let bytes = UnsafeRawBufferPointer(rebasing: file[offset..<(offset + Layout.openerHeadBytes)])
            openers[slot] = try OpenerEntry.decode(bytes, "opener entry \(slot)")
        }
    }

    /// What is left of a checkpoint that was unlinked and is gone; nil when this is a whole one.
    public static func tombstone(in memory: Memory) throws(StoreError) -> RestoredCheckpoint? {
        guard memory.count == Layout.headerBytes else { return nil }
        let superblock = try Superblock(memory.bytes)
        let sequence: UInt64 = memory.load(at: Layout.commitOffset)
        let root = try Root(memory.slice(Layout.rootOffset(sequence), Layout.rootBytes), sequence: sequence)
        guard root.state.isUnlinked else { throw .damaged("only a header, and not unlinked") }
        return RestoredCheckpoint(
            checkpoint: superblock.checkpoint, name: superblock.name, attributes: superblock.attributes,
            state: root.state,
            sections: [], openers: [])
    }

    /// What nothing refers to; two owners of one byte are damage.
    func findFreeSpace() throws(StoreError) -> ExtentAllocator {
        var used = [root.log.extent, root.sections.extent, root.openers.extent].filter { $0.size > 0 }
        used += sections.compactMap { $0?.extent }
        used.sort { $0.offset < $1.offset }
        var end = Layout.headerBytes
        for extent in used {
            guard extent.offset >= end else { throw .damaged("extent at \(extent.offset) overlaps another") }
            end = extent.end
        }
        return ExtentAllocator(start: Layout.headerBytes, used: used)
    }

    /// What the engine needs to know after a restart.
    public func restored() -> RestoredCheckpoint {
        var found: [RestoredCheckpoint.Section] = []
        for (slot, entry) in sections.enumerated() {
            guard let entry else { continue }
            let state = entry.isCorrupted ? SectionState.corrupted : .valid
            found.append(.init(slot: slot, descriptor: descriptor(entry, state: state)))
        }
        var foundOpeners: [RestoredCheckpoint.Opener] = []
        for (slot, opener) in openers.enumerated() {
            guard let opener else { continue }
            let offset = openerOffset(slot) + Layout.openerHeadBytes
            let executed = (0..<OpenerRecord.executedMax).map { index in
                RestoredCheckpoint.Executed(
                    number: memory.load(at: offset + index * 16), change: memory.load(at: offset + index * 16 + 8))
            }
            foundOpeners.append(.init(slot: slot, record: opener, executed: executed))
        }
        return RestoredCheckpoint(
            checkpoint: checkpoint, name: name, attributes: superblock.attributes, state: root.state, sections: found,
            openers: foundOpeners)
    }

    func entryOffset(_ slot: Int) -> Int { root.sections.extent.offset + slot * Layout.sectionEntryBytes }

    func openerOffset(_ slot: Int) -> Int { root.openers.extent.offset + slot * Layout.openerEntryBytes }

    func descriptor(_ entry: SectionEntry, state: SectionState) -> SectionDescriptor {
        SectionDescriptor(
            id: SectionID(Array(memory.slice(entry.extent.offset, entry.idLength))), expiration: entry.expiration,
            size: UInt64(entry.size), state: state, lastUpdate: entry.lastUpdate, serial: entry.serial)
    }

    /// A free extent of at least so many bytes; the file grows if it must.
    mutating func take(_ size: Int) throws(StoreError) -> ExtentAllocator.Extent {
        guard size <= Layout.fileBytesMax else { throw .noSpace("\(size) bytes in one checkpoint") }
        if let extent = allocator.allocate(size, fileSize: memory.count) { return extent }
        let needed = allocator.end + ExtentAllocator.rounded(size)
        // Growing by an eighth makes the cost of many small growths vanish; a nearly full file system gets the exact
        // need.
        do throws(StoreError) {
            try memory.grow(to: max(needed, memory.count + min(memory.count / 8, 64 << 20)))
        } catch {
            do throws(StoreError) { try memory.grow(to: needed) } catch {
                if let extent = allocator.allocateLarger(size) { return extent }
                throw error
            }
        }
        guard let extent = allocator.allocate(size, fileSize: memory.count) else {
            throw .noSpace("growth without effect")
        }
        return extent
    }
}
