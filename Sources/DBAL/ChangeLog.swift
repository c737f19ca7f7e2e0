internal import OSAL
internal import SAFTypes

/// What was applied to a database since its image was written, in a file that is only appended to: batches, each whole
/// or not there. Held by one process at a time.
///
/// A batch: magic u32 · crc32c u32 of the changes · length u64 of them · crc32c u32 of the head before · zeroes [12] ·
/// the changes, padded to ``align``. So a head never lies across a sector.
final class ChangeLog {
    private static let magic: UInt32 = 0x4c46_4153  // "SAFL"
    private static let headBytes = 32
    private static let align = 32

    private let path: String
    private let file: SharedDescriptor
    private(set) var size = 0

    /// Opens or creates it and hands over what is in it, in order. An end that a crash tore off was never acknowledged
    /// and is cut off.
    ///
    /// - Throws: `.inUse`, `.damaged`, `.full`, `.failed`.
    init(_ path: String, of database: String, _ each: (DatabaseChange) -> Void) throws(DatabaseError) {
        self.path = path
        let isNew = !File.exists(path)
        let taken = try onDisk(path) { () throws(OSError) -> SharedDescriptor? in
            guard let lock = try File.fileLock(path) else { return nil }
            return SharedDescriptor(lock)
        }
        guard let taken else { throw DatabaseError(.inUse, "\(database): another process has it open") }
        file = taken
        if isNew {
            try onDisk(path) { () throws(OSError) in try File.synchronizeDirectory(File.parent(of: path)) }
        }
        let content = try onDisk(path) { () throws(OSError) in try File.readAll(path, limit: .max) }
        size = try content.withUnsafeBufferPointer { (raw) throws(DatabaseError) in
            try read(UnsafeRawBufferPointer(raw), each)
        }
        if size < content.count { try onDisk(path) { () throws(OSError) in try File.truncate(path, to: size) } }
    }

    deinit { File.releaseLock(file.raw) }

    /// Durable when it returns.
    ///
    /// - Throws: `.full`, `.failed`: nothing was appended.
    func append(_ changes: [DatabaseChange]) throws(DatabaseError) {
        let batch = Self.encode(changes)
        do throws(OSError) {
            var done = 0
            while done < batch.count {
                done += try batch.withUnsafeBufferPointer { (raw) throws(OSError) in
                    let rest = UnsafeRawBufferPointer(UnsafeBufferPointer(rebasing: raw[done...]))
                    return try IO.write(file.raw, rest, at: size + done)
                }
            }
            try IO.synchronize(file.raw)
        } catch {
            // What was written of it is found torn, should cutting it off fail as well.
            try? File.truncate(path, to: size)
            throw DatabaseError(error, path)
        }
        size += batch.count
    }

    /// What was in it is in the image now.
    func clear() throws(DatabaseError) {
        try onDisk(path) { () throws(OSError) in
            try File.truncate(path, to: 0)
            try IO.synchronize(file.raw)
        }
        size = 0
    }

    // MARK: Form

    static func encode(_ changes: [DatabaseChange]) -> [UInt8] {
        var writer = ByteWriter(reserving: headBytes + 64 * changes.count)
        writer.raw([UInt8](repeating: 0, count: headBytes))
        for change in changes {
            switch change {
            case .put(let key, let value):
                writer.integer(UInt8(1))
                writer.byteString(key)
                writer.byteString(value)
            case .delete(let key):
                writer.integer(UInt8(2))
                writer.byteString(key)
            }
        }
        let length = writer.count - headBytes
        writer.raw([UInt8](repeating: 0, count: (align - length % align) % align))
        let sum = writer.bytes.withUnsafeBytes {
            crc32c(UnsafeRawBufferPointer(rebasing: $0[headBytes..<headBytes + length]))
        }
        writer.patch(magic, at: 0)
        writer.patch(sum, at: 4)
        writer.patch(UInt64(length), at: 8)
        writer.patch(writer.bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[..<16])) }, at: 16)
        return writer.bytes
    }

    /// Where the whole batches end. Something wrong is the torn end only if nothing whole comes after it.
    private func read(
        _ raw: UnsafeRawBufferPointer, _ each: (DatabaseChange) -> Void
    ) throws(DatabaseError) -> Int {
        var offset = 0
        while offset < raw.count {
            guard let batch = Self.batch(raw, at: offset) else {
                var later = offset + Self.align
                while later < raw.count {
                    if Self.batch(raw, at: later) != nil {
                        throw DatabaseError(.damaged, "\(path): damaged at byte \(offset)")
                    }
                    later += Self.align
                }
                return offset
            }
            var reader = ByteReader(UnsafeRawBufferPointer(rebasing: raw[batch.changes]))
            do throws(DecodeError) {
                while reader.remaining > 0 { each(try Self.change(&reader)) }
            } catch {
                throw DatabaseError(.otherFormat, "\(path): the batch at byte \(offset): \(error)")
            }
            offset = batch.end
        }
        return offset
    }

    private static func batch(_ raw: UnsafeRawBufferPointer, at offset: Int) -> (changes: Range<Int>, end: Int)? {
        guard raw.count - offset >= headBytes else { return nil }
        let head = UnsafeRawBufferPointer(rebasing: raw[offset..<offset + headBytes])
        guard number(head, 0, UInt32.self) == magic,
            number(head, 16, UInt32.self) == crc32c(UnsafeRawBufferPointer(rebasing: head[..<16]))
        else { return nil }
        let length = number(head, 8, UInt64.self)
        guard length <= UInt64(raw.count - offset - headBytes) else { return nil }
        let changes = offset + headBytes..<offset + headBytes + Int(length)
        guard number(head, 4, UInt32.self) == crc32c(UnsafeRawBufferPointer(rebasing: raw[changes])) else { return nil }
        let end = changes.upperBound + (align - Int(length) % align) % align
        return end <= raw.count ? (changes, end) : nil
    }

    private static func number<Value: FixedWidthInteger>(
        _ raw: UnsafeRawBufferPointer, _ offset: Int, _ type: Value.Type
    ) -> Value {
        Value(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: type))
    }

    private static func change(_ reader: inout ByteReader) throws(DecodeError) -> DatabaseChange {
        let kind = try reader.integer(UInt8.self)
        let key = try reader.byteString(max: DatabaseLimits.keyBytesMax)
        switch kind {
        case 1: return .put(key: key, value: try reader.byteString(max: DatabaseLimits.valueBytesMax))
        case 2: return .delete(key: key)
        default: throw .badValue("kind \(kind) of a change; 1 or 2 expected")
        }
    }
}
