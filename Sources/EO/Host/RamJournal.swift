public import EOReplicated
public import OSAL
import Synchronization

/// A sequence of records in a RAM file: appended without a system call, complete after a kill at any instruction.
///
/// Survives every process, not the machine: after a reboot everything starts anew anyway. Layout, little-endian:
/// magic u64 · capacity u64 · committed u64 · zeros to 64 · records. A record: length u32 · crc32c u32 · bytes ·
/// padding to 8. `committed` is stored last, so what lies beyond it was never written.
public final class RamJournal {
    static let magic: UInt64 = 0x314C_4E52_4A46_4153  // "SAFJRNL1"
    static let headerSize = 64
    static let committedOffset = 16
    static let recordHeaderSize = 8
    public static let capacityMin = 256 << 10
    /// A journal that would grow beyond this is refused: something feeds it without end.
    public static let capacityMax = 256 << 20

    private let path: String
    private var file: SharedFile

    /// Opens the journal at `path`, or makes an empty one. What is there and is no whole journal is replaced; then
    /// `damage` says what was wrong.
    public init(path: String) throws(OSError) {
        self.path = path
        do {
            file = try SharedFile.open(path, writable: true)
            damage = Self.defect(of: UnsafeRawBufferPointer(file.mapping.bytes))
        } catch {
            if !error.isNotFound { damage = error.description }
            file = try Self.empty(path, capacity: Self.capacityMin)
        }
        if damage != nil { file = try Self.empty(path, capacity: Self.capacityMin) }
    }

    /// What was wrong with an earlier journal that had to be thrown away.
    public private(set) var damage: String?

    /// Every committed record, oldest first.
    public var records: [[UInt8]] { Self.records(in: UnsafeRawBufferPointer(file.mapping.bytes)) }

    /// Octets in use, and what the file holds at most.
    public var usedBytes: Int { Int(committed.pointee.load(ordering: .acquiring)) }
    public var capacity: Int { file.mapping.count }

    /// Appends a record; false when it does not fit: then ``replace(with:)`` it by a snapshot.
    public func append(_ record: [UInt8]) -> Bool {
        let start = usedBytes
        let length = Self.space(record.count)
        guard start + length <= capacity else { return false }
        Self.write(record, into: file.mapping, at: start)
        committed.pointee.store(UInt64(start + length), ordering: .releasing)
        return true
    }

    /// Replaces everything by `records`; a kill leaves the old journal or the new one.
    public func replace(with records: [[UInt8]]) throws(OSError) {
        let needed = records.reduce(Self.headerSize) { $0 + Self.space($1.count) }
        var capacity = Self.capacityMin
        while capacity < needed * 2, capacity < Self.capacityMax { capacity *= 2 }
        guard needed <= capacity else {
            throw OSError(  // ENOSPC, for a limit of our own
                code: 28, call: "journal", subject: "\(path) needs \(needed) octets, at most \(Self.capacityMax)")
        }
        file = try SharedFile.create(path, size: capacity, mode: 0o600) { mapping in
            Self.format(mapping)
            var offset = Self.headerSize
            for record in records {
                Self.write(record, into: mapping, at: offset)
                offset += Self.space(record.count)
            }
            mapping.base.storeBytes(
                of: UInt64(offset).littleEndian, toByteOffset: Self.committedOffset, as: UInt64.self)
        }
    }

    private var committed: UnsafeMutablePointer<Atomic<UInt64>> {
        file.mapping.base.atomic(UInt64.self, at: Self.committedOffset)
    }

    private static func empty(_ path: String, capacity: Int) throws(OSError) -> SharedFile {
        try SharedFile.create(path, size: capacity, mode: 0o600) { format($0) }
    }

    private static func format(_ mapping: Mapping) {
        mapping.base.storeBytes(of: magic.littleEndian, as: UInt64.self)
        mapping.base.storeBytes(of: UInt64(mapping.count).littleEndian, toByteOffset: 8, as: UInt64.self)
        mapping.base.storeBytes(of: UInt64(headerSize).littleEndian, toByteOffset: committedOffset, as: UInt64.self)
    }

    private static func write(_ record: [UInt8], into mapping: Mapping, at offset: Int) {
        let target = mapping.base + offset
        let check = record.withUnsafeBytes { crc32c($0) }
        target.storeBytes(of: UInt32(record.count).littleEndian, as: UInt32.self)
        target.storeBytes(of: check.littleEndian, toByteOffset: 4, as: UInt32.self)
        record.withUnsafeBytes { source in
            if let base = source.baseAddress {
                (target + recordHeaderSize).copyMemory(from: base, byteCount: source.count)
            }
        }
    }

    private static func space(_ count: Int) -> Int { (recordHeaderSize + count + 7) & ~7 }

    /// Nil when `bytes` are a journal that can be read to its end.
    static func defect(of bytes: UnsafeRawBufferPointer) -> String? {
        guard bytes.count > headerSize, bytes.loadUnaligned(as: UInt64.self) == magic else { return "not a journal" }
        let capacity = bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self)
        guard capacity == UInt64(bytes.count) else {
            return "a journal of \(capacity) octets in a file of \(bytes.count)"
        }
        let committed = bytes.loadUnaligned(fromByteOffset: committedOffset, as: UInt64.self)
        guard committed >= UInt64(headerSize), committed <= UInt64(bytes.count) else {
            return "a journal that ends at \(committed)"
        }
        var end = headerSize
        for record in records(in: bytes) { end += space(record.count) }
        return end == Int(committed) ? nil : "a journal with a damaged record at \(end)"
    }

    /// The readable records from the start on; total.
    static func records(in bytes: UnsafeRawBufferPointer) -> [[UInt8]] {
        guard bytes.count > headerSize else { return [] }
        let committed = bytes.loadUnaligned(fromByteOffset: committedOffset, as: UInt64.self)
        guard committed <= UInt64(bytes.count) else { return [] }
        var found: [[UInt8]] = []
        var offset = headerSize
        while offset + recordHeaderSize <= Int(committed) {
            let length = Int(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self))
            let check = bytes.loadUnaligned(fromByteOffset: offset + 4, as: UInt32.self)
            guard offset + space(length) <= Int(committed) else { break }
            let start = offset + recordHeaderSize
            let body = UnsafeRawBufferPointer(rebasing: bytes[start..<(start + length)])
            guard crc32c(body) == check else { break }
            found.append(Array(body))
            offset += space(length)
        }
        return found
    }
}

extension RamJournal {
    /// Does what a replicated engine asks of its journal; one that is full is copied into a larger one.
    public func keep(_ write: JournalWrite) throws(OSError) {
        switch write {
        case .append(let record): if !append(record) { try replace(with: records + [record]) }
        case .replace(let record): try replace(with: [record])
        }
    }
}
