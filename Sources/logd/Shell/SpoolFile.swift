import LogEngine
import LogProtocol
import OSAL
import SAFTypes
import Synchronization

/// How far the spool goes: a position in bytes since it was made, and how many records that are.
struct SpoolMark: Hashable, Sendable, WireCodable {
    var position: UInt64 = 0
    var count: UInt64 = 0

    init(position: UInt64 = 0, count: UInt64 = 0) { (self.position, self.count) = (position, count) }

    func encode(to writer: inout ByteWriter) {
        writer.integer(position)
        writer.integer(count)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        position = try reader.integer()
        count = try reader.integer()
    }
}

/// Records of global streams that this node has accepted and the owner of the files has not acknowledged yet, in a file
/// in memory that outlives logd. Loop thread only; nobody else writes it.
///
/// A page of header, then a ring of frames: ordinal u64 · frame of ``GlobalRecord``. What is appended counts only when
/// it is committed: with the batch that gives its room in the writers' rings back. The two marks change together, by
/// the flip of one word, whenever logd is killed.
final class SpoolFile {
    private static let magic: UInt64 = 0x3153_474F_4C46_4153  // "SAFLOGS1"
    private static let headerBytes = 4096
    private static let slotOffset = 64
    private static let ordinalBytes = 8

    let incarnation: UInt64
    private let path: String
    private let capacity: Int
    private var mapping: Mapping?
    private var file: SharedFile?
    /// What is safe, what is acknowledged, and what was appended after the former.
    private(set) var committed = SpoolMark()
    private(set) var released = SpoolMark()
    private(set) var appended = SpoolMark()
    /// Where the last reading ended: the next one mostly goes on there.
    private var cursor = SpoolMark()

    /// Takes over what an earlier life left; the file is made with the first record.
    ///
    /// - Parameter capacity: bytes, a power of two.
    init(directory: String, capacity: Int, incarnation: UInt64) throws(OSError) {
        path = directory + "/spool"
        if let file = Self.found(path), let mapping = try? Self.map(file, file.mapping.count - Self.headerBytes) {
            self.capacity = file.mapping.count - Self.headerBytes
            self.incarnation = mapping.base.load(fromByteOffset: 8, as: UInt64.self)
            (self.file, self.mapping) = (file, mapping)
            readMarks()
            return
        }
        (self.capacity, self.incarnation) = (capacity, incarnation)
    }

    /// As root the directory is everybody's: what somebody else has put there is not ours.
    private static func found(_ path: String) -> SharedFile? {
        guard let file = try? SharedFile.open(path, writable: true),
            (try? File.stat(descriptor: file.raw))?.userID == Environment.userID,
            file.mapping.count > headerBytes,
            file.mapping.base.load(as: UInt64.self) == magic
        else { return nil }
        let capacity = file.mapping.count - headerBytes
        return capacity & (capacity - 1) == 0 ? file : nil
    }

    private static func map(_ file: SharedFile, _ capacity: Int) throws(OSError) -> Mapping {
        try Mapping.mirrored(file.raw, headerBytes: headerBytes, dataBytes: capacity, writable: true)
    }

    private func opened() -> Mapping? {
        if let mapping { return mapping }
        let (incarnation, magic) = (incarnation, Self.magic)
        guard
            let file = try? SharedFile.create(
                path, size: Self.headerBytes + capacity, mode: 0o600,
                prepare: { mapping in
                    mapping.base.storeBytes(of: incarnation, toByteOffset: 8, as: UInt64.self)
                    mapping.base.storeBytes(of: magic, as: UInt64.self)
                }), let mapping = try? Self.map(file, capacity)
        else { return nil }
        (self.file, self.mapping) = (file, mapping)
        return mapping
    }

    // MARK: Marks

    private static func slot(_ index: UInt32) -> Int { 128 + Int(index & 1) * 64 }

    private func readMarks() {
        guard let base = mapping?.base else { return }
        let index = base.atomic(UInt32.self, at: Self.slotOffset).pointee.load(ordering: .acquiring)
        let slot = Self.slot(index)
        func mark(_ offset: Int) -> SpoolMark {
            SpoolMark(
                position: base.load(fromByteOffset: slot + offset, as: UInt64.self),
                count: base.load(fromByteOffset: slot + offset + 8, as: UInt64.self))
        }
        (committed, released) = (mark(0), mark(16))
        (appended, cursor) = (committed, released)
    }

    private func writeMarks() {
        guard let base = mapping?.base else { return }
        let word = base.atomic(UInt32.self, at: Self.slotOffset)
        let index = word.pointee.load(ordering: .relaxed) &+ 1
        let slot = Self.slot(index)
        base.storeBytes(of: committed.position, toByteOffset: slot, as: UInt64.self)
        base.storeBytes(of: committed.count, toByteOffset: slot + 8, as: UInt64.self)
        base.storeBytes(of: released.position, toByteOffset: slot + 16, as: UInt64.self)
        base.storeBytes(of: released.count, toByteOffset: slot + 24, as: UInt64.self)
        word.pointee.store(index, ordering: .releasing)
    }

    // MARK: Records

    var bytes: Int { Int(appended.position - released.position) }
    var capacityBytes: Int { capacity }

    /// Appends one frame of ``GlobalRecord``; false when there is no room, or no memory at all.
    func append(_ frame: [UInt8]) -> Bool {
        let size = Self.ordinalBytes + frame.count
        guard bytes + size <= capacity, let mapping = opened() else { return false }
        let place = mapping.base + Self.headerBytes + Int(appended.position & UInt64(capacity - 1))
        place.storeBytes(of: appended.count + 1, as: UInt64.self)
        (place + Self.ordinalBytes).copyMemory(from: frame, byteCount: frame.count)
        appended = SpoolMark(position: appended.position + UInt64(size), count: appended.count + 1)
        return true
    }

    /// What was appended up to here is accepted.
    func commit(_ mark: SpoolMark) {
        guard mark.count > committed.count else { return }
        committed = mark
        if appended.count < mark.count { appended = mark }
        writeMarks()
    }

    /// A mark that a former life noted, but did not live to commit.
    func recover(_ mark: SpoolMark) {
        guard mapping != nil, mark.count > committed.count, mark.position > committed.position,
            mark.position - released.position <= UInt64(capacity)
        else { return }
        commit(mark)
    }

    func release(through count: UInt64) {
        guard let mark = find(count), mark.count > released.count else { return }
        released = mark
        if cursor.count < mark.count { cursor = mark }
        writeMarks()
    }

    /// The mark just after record `count`.
    private func find(_ count: UInt64) -> SpoolMark? {
        guard count >= released.count, count <= committed.count else { return nil }
        var mark = cursor.count <= count ? cursor : released
        while mark.count < count {
            guard let length = length(at: mark) else { return nil }
            mark = SpoolMark(position: mark.position + UInt64(Self.ordinalBytes + length), count: mark.count + 1)
        }
        return mark
    }

    /// Bytes of the frame that begins at a mark; nil when it is not the next record.
    private func length(at mark: SpoolMark) -> Int? {
        guard let mapping, mark.position < committed.position else { return nil }
        let place = mapping.base + Self.headerBytes + Int(mark.position & UInt64(capacity - 1))
        guard place.loadUnaligned(as: UInt64.self) == mark.count + 1 else { return nil }
        let length = 4 + Int((place + Self.ordinalBytes).loadUnaligned(as: UInt32.self))
        guard length <= GlobalRecord.frameBytesMax,
            mark.position + UInt64(Self.ordinalBytes + length) <= committed.position
        else { return nil }
        return length
    }

    /// Committed records from `first` on: at least one, then as many as fit in `bytesMax`.
    func read(from first: UInt64, bytesMax: Int) -> (count: UInt32, frames: [UInt8])? {
        guard first > 0, let start = find(first - 1), let mapping else { return nil }
        var (mark, frames) = (start, [UInt8]())
        while let length = length(at: mark), frames.isEmpty || frames.count + length <= bytesMax {
            let place = mapping.base + Self.headerBytes + Int(mark.position & UInt64(capacity - 1))
            frames.append(contentsOf: UnsafeRawBufferPointer(start: place + Self.ordinalBytes, count: length))
            mark = SpoolMark(position: mark.position + UInt64(Self.ordinalBytes + length), count: mark.count + 1)
        }
        guard mark.count > start.count else { return nil }
        cursor = mark
        return (UInt32(mark.count - start.count), frames)
    }
}
