import OSAL
public import SAFTypes
import Synchronization

/// A section of a mapped replica as it was at one moment; whether that still holds is asked of the reader.
public struct SectionSnapshot: Hashable, Sendable {
    /// Where its entry is, and what the words that would tell of a change were.
    let entry: Int
    let serial: UInt64
    let sequence: UInt64
    /// Of the data, in the file.
    public let offset: Int
    public let size: Int
    /// `SaTime.saTimeEnd` = never.
    public let expiration: SaTime
    public let lastUpdate: SaTime
}

/// A replica's file, mapped by a process that cannot write it, while ckptd writes on.
///
/// The bytes are another process's: every place is checked before it is touched.
public struct ReplicaFile: @unchecked Sendable {  // a place that stays, and words that are loaded atomically
    let words: SharedWords
    let count: Int

    /// Of a file that is, and stays, at least `bytes.count` bytes long.
    ///
    /// - Returns: nil when it is not a checkpoint's file of this layout.
    public init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= Layout.headerBytes, let base = bytes.baseAddress else { return nil }
        words = SharedWords(base)
        count = bytes.count
        guard words.relaxed(at: 0) == Layout.magic, words.relaxedHalf(at: 8) == Layout.version else { return nil }
    }

    /// More than this is never asked of a section: an attribute of the checkpoint.
    public var sectionSizeMax: UInt64 { words.relaxed(at: Layout.sectionSizeMaxOffset) }

    /// Which life of the direct file goes with this one.
    public var directGeneration: UInt64 { words.word(at: Layout.directOffset) }

    public var service: ServiceWord { ServiceWord(rawValue: words.word(at: Layout.serviceOffset)) }

    /// Whether everything that was read of it, before this, was read of one state.
    @inline(__always)
    public func holds(_ section: SectionSnapshot) -> Bool {
        atomicMemoryFence(ordering: .acquiring)
        return words.relaxed(at: section.entry) == section.sequence
            && words.relaxed(at: Layout.serialOffset) == section.serial
    }

    /// The number of the last step, if it is carried out: several sections that are read until ``holds(step:_:)`` are
    /// of one and the same change.
    public var step: UInt64? {
        let committed = words.word(at: Layout.commitOffset)
        return words.word(at: Layout.appliedOffset) == committed ? committed : nil
    }

    /// - Parameter sections: what was read; one that was left to its writers meanwhile is no longer of this step, and
    ///   is brought back before the next one is committed.
    public func holds(step: UInt64, _ sections: [SectionSnapshot]) -> Bool {
        atomicMemoryFence(ordering: .acquiring)
        return words.relaxed(at: Layout.commitOffset) == step && sections.allSatisfy { holds($0) }
    }

    /// The change number after a step; valid while that ``holds(step:_:)``.
    public func change(after step: UInt64) -> UInt64 {
        words.relaxed(at: Layout.rootOffset(step) + Layout.rootChange)
    }

    public func bytes(_ section: SectionSnapshot) -> UnsafeRawBufferPointer {
        UnsafeRawBufferPointer(start: words.base + section.offset, count: section.size)
    }
}

/// Finds the sections of a replica's file.
///
/// Nothing waits and nothing is locked: what was read is valid when no sequence word has changed since. Not for several
/// threads at a time.
public struct ReplicaReader {
    /// What there is to be read.
    public enum Found: Hashable, Sendable {
        case section(SectionSnapshot)
        /// It is in the direct file.
        case direct(DirectPlace)
        /// It is being changed.
        case busy
        /// Not to be had here (now): ckptd knows.
        case ask
        /// The file is longer than the mapping.
        case grown
        /// Another file has taken its place.
        case retired
    }

    public let file: ReplicaFile
    private var words: SharedWords { file.words }
    private var count: Int { file.count }
    /// The table serial that what follows belongs to.
    private var serial: UInt64 = 1
    private var table = 0
    private var capacity = 0
    private var index = ReaderIndex()
    /// The step that last created a section when the index was made.
    private var indexed = UInt64.max
    private var misses = 0
    /// Something of the table lies behind the end of the mapping.
    private var isShort = false
    /// To look at so many entries costs about as much as to ask once.
    private static let entriesPerMiss = 1024

    public init(_ file: ReplicaFile) { self.file = file }

    /// The section of this id, if it can be read here without asking. What does not exist, or does no longer, is asked.
    ///
    /// - Parameter wall: the present time, nanoseconds since 1970; only asked when the section may have expired.
    public mutating func find(_ id: UnsafeRawBufferPointer, wall: () -> SaTime) -> Found {
        let service = file.service
        if service.contains(.retired) { return .retired }
        guard service.contains(.readable) else { return .ask }
        let present = words.word(at: Layout.serialOffset)
        if present != serial {
            if present & 1 == 1 { return .busy }
            guard load(present) else { return .busy }
        }
        let hash = crc32c(id)
        var found = lookUp(id, hash)
        if found == nil, mayIndex() { found = lookUp(id, hash) }
        guard let found else { return isShort ? .grown : .ask }
        if case .section(let section) = found, section.expiration != .saTimeEnd, section.expiration <= wall() {
            return .ask
        }
        return found
    }

    // MARK: The table

    /// Finds the section table anew; false while it is on the move.
    private mutating func load(_ present: UInt64) -> Bool {
        let step = words.word(at: Layout.commitOffset)
        let root = Layout.rootOffset(step)
        let offset = Int(truncatingIfNeeded: words.relaxed(at: root + Layout.rootTableOffset))
        let capacity = Int(words.relaxedHalf(at: root + Layout.rootTableCapacity))
        atomicMemoryFence(ordering: .acquiring)
        // The root of a step is written anew by the next but one, before that is committed.
        guard words.relaxed(at: Layout.commitOffset) == step, words.relaxed(at: Layout.serialOffset) == present else {
            return false
        }
        guard capacity <= Layout.entriesMax, offset >= (capacity == 0 ? 0 : Layout.headerBytes), offset & 7 == 0,
            offset <= Layout.fileBytesMax
        else { return false }
        (serial, table, self.capacity) = (present, offset, capacity)
        isShort = offset > count - capacity * Layout.sectionEntryBytes
        index.removeAll()
        indexed = UInt64.max
        misses = 0
        return true
    }

    private func lookUp(_ id: UnsafeRawBufferPointer, _ hash: UInt32) -> Found? {
        var cursor = index.first(hash)
        while let slot = index.next(hash, &cursor) {
            switch read(slot, id) {
            case .absent: continue
            case .there(let section): return .section(section)
            case .direct(let place): return .direct(place)
            case .busy: return .busy
            case .hidden: return .ask
            case .beyond: return .grown
            }
        }
        return nil
    }

    private enum Entry {
        case absent, busy, hidden, beyond
        case there(SectionSnapshot)
        case direct(DirectPlace)
    }

    /// What an entry says, if it is of a section with this id.
    private func read(_ slot: Int, _ id: UnsafeRawBufferPointer) -> Entry {
        let entry = table + slot * Layout.sectionEntryBytes
        guard slot < capacity, entry <= count - Layout.sectionEntryBytes else { return .beyond }
        let sequence = words.word(at: entry)
        if sequence & 1 == 1 { return .busy }
        let image = entry + Layout.entryImageOffset
        let head = words.relaxed(at: image)
        let state = UInt32(truncatingIfNeeded: head)
        let idLength = Int(UInt16(truncatingIfNeeded: head >> 32))
        if state == 0 || idLength != id.count { return .absent }
        // The data of one that is corrupted is lost.
        guard state == 1 else { return .hidden }
        let extent = Extent(offset: place(image + 8), size: place(image + 16))
        let size = place(image + 24)
        guard extent.offset >= Layout.headerBytes, extent.size >= 0, extent.size <= Layout.fileBytesMax,
            extent.offset <= Layout.fileBytesMax
        else { return .busy }
        guard extent.end <= count else { return .beyond }
        let padded = (idLength + 7) & ~7
        guard size >= 0, size <= extent.size - padded else { return .busy }
        let stored = UnsafeRawBufferPointer(start: words.base + extent.offset, count: idLength)
        guard equalBytes(stored, id) else { return .absent }
        if words.relaxed(at: entry + Layout.entryGrantOffset) != 0 { return direct(entry, sequence) }
        return .there(
            SectionSnapshot(
                entry: entry, serial: serial, sequence: sequence, offset: extent.offset + padded, size: size,
                expiration: Int64(bitPattern: words.relaxed(at: image + 32)),
                lastUpdate: Int64(bitPattern: words.relaxed(at: image + 40))))
    }

    /// Of a section that its writers write themselves the image here is not what it is.
    private func direct(_ entry: Int, _ sequence: UInt64) -> Entry {
        let offset = entry + Layout.entryDirectOffset
        let place = DirectPlace(
            (
                words.relaxed(at: offset).littleEndian, words.relaxed(at: offset + 8).littleEndian,
                words.relaxed(at: offset + 16).littleEndian
            ), serial: words.relaxed(at: entry + Layout.entryImageOffset + 48))
        atomicMemoryFence(ordering: .acquiring)
        guard let place, words.relaxed(at: entry) == sequence else { return .busy }
        return .direct(place)
    }

    /// A length or position; negative when it is none.
    @inline(__always)
    private func place(_ offset: Int) -> Int { Int(truncatingIfNeeded: words.relaxed(at: offset)) }

    // MARK: The index

    /// Looks at all entries, if there may be one that is not in the index, and if that has been missed often enough to
    /// be worth it.
    private mutating func mayIndex() -> Bool {
        let created = words.word(at: Layout.createdOffset)
        if created == indexed { return false }
        misses += 1
        if isShort || misses * Self.entriesPerMiss < capacity { return false }
        misses = 0
        index.removeAll()
        indexed = created
        for slot in 0..<capacity {
            switch hash(slot) {
            case .free: continue
            case .used(let hash): index.insert(hash, slot)
            case .busy: indexed = UInt64.max  // look again next time
            case .beyond: isShort = true
            }
        }
        return true
    }

    private enum Hash {
        case free, busy, beyond
        case used(UInt32)
    }

    /// Of the id in an entry.
    private func hash(_ slot: Int) -> Hash {
        let entry = table + slot * Layout.sectionEntryBytes
        let sequence = words.word(at: entry)
        let image = entry + Layout.entryImageOffset
        let head = words.relaxed(at: image)
        if sequence & 1 == 1 { return .busy }
        if UInt32(truncatingIfNeeded: head) == 0 { return .free }
        let idLength = Int(UInt16(truncatingIfNeeded: head >> 32))
        let offset = place(image + 8)
        guard offset >= 0, offset <= count - idLength else { return .beyond }
        let value = crc32c(UnsafeRawBufferPointer(start: words.base + offset, count: idLength))
        atomicMemoryFence(ordering: .acquiring)
        return words.relaxed(at: entry) == sequence ? .used(value) : .busy
    }
}

/// Whether two pieces of memory of the same length are equal; the first may be changing.
@inline(__always)
private func equalBytes(_ left: UnsafeRawBufferPointer, _ right: UnsafeRawBufferPointer) -> Bool {
    var index = 0
    while index + 8 <= right.count {
        let difference =
            left.loadUnaligned(fromByteOffset: index, as: UInt64.self)
            ^ right.loadUnaligned(fromByteOffset: index, as: UInt64.self)
        if difference != 0 { return false }
        index += 8
    }
    while index < right.count {
        if left[index] != right[index] { return false }
        index += 1
    }
    return true
}
