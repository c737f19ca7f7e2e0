internal import CGDBM
internal import OSAL
internal import SAFTypes

/// A key, ordered byte by byte.
struct DatabaseKey: Comparable, Hashable {
    var bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    static func < (left: DatabaseKey, right: DatabaseKey) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }
}

/// A GNU dbm file that is never changed. Its first record, under the empty key, is our mark with a checksum of the
/// whole file: one that is not exactly as it was written is refused before libgdbm looks into it.
final class GdbmImage {
    /// mark [8] · format u32 · crc32c u32 of the file with zeroes here · length u64 of the file.
    private static let mark: [UInt8] = Array("SwiftSAF".utf8)
    private static let sumOffset = 12
    private static let markBytes = 24
    private static let format: UInt32 = 1
    /// The mark is in the first of these.
    private static let pieceBytes = 1 << 20
    /// How every file of libgdbm begins. Source: gdbmconst.h.
    private static let magics: ClosedRange<UInt32> = 0x1357_9acd...0x1357_9ad1

    private let library: GdbmLibrary
    private let path: String
    private let file: GDBM_FILE
    /// In order.
    let keys: [DatabaseKey]
    let size: Int

    /// Nil when there is no file.
    static func load(_ path: String, _ library: GdbmLibrary) throws(DatabaseError) -> GdbmImage? {
        File.exists(path) ? try GdbmImage(path, library) : nil
    }

    /// - Throws: `.damaged`, `.otherFormat`, `.failed`.
    init(_ path: String, _ library: GdbmLibrary) throws(DatabaseError) {
        let descriptor = try onDisk(path) { () throws(OSError) in try File.open(path) }
        size = try Self.check(descriptor.raw, path)
        let duplicate = try onDisk(path) { () throws(OSError) in try descriptor.duplicate() }
        let flags = GDBM_READER | GDBM_NOMMAP | GDBM_NOLOCK | GDBM_CLOEXEC | GDBM_CLOERROR
        guard let file = library.open(duplicate.release(), path, 0, flags, nil) else {
            throw Self.failure(library, nil, path, "open")
        }
        (self.library, self.path, self.file) = (library, path, file)
        do throws(DatabaseError) { keys = try Self.keys(of: file, library, path) } catch {
            _ = library.close(file)
            throw error
        }
    }

    deinit { _ = library.close(file) }

    func value(of key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        let found = Self.with(key) { library.fetch(file, $0) }
        guard let base = found.dptr else {
            guard library.lastError(file) == GDBM_ITEM_NOT_FOUND else {
                throw Self.failure(library, file, path, "fetch")
            }
            return nil
        }
        defer { library.free(base) }
        return Array(UnsafeRawBufferPointer(start: base, count: Int(found.dsize)))
    }

    private static func keys(
        of file: GDBM_FILE, _ library: GdbmLibrary, _ path: String
    ) throws(DatabaseError) -> [DatabaseKey] {
        var keys: [DatabaseKey] = []
        var key = library.first(file)
        while let base = key.dptr {
            let bytes = Array(UnsafeRawBufferPointer(start: base, count: Int(key.dsize)))
            if !bytes.isEmpty { keys.append(DatabaseKey(bytes)) }
            key = library.next(file, key)
            library.free(base)
        }
        let error = library.lastError(file)
        guard error == GDBM_ITEM_NOT_FOUND || error == GDBM_NO_ERROR else {
            throw failure(library, file, path, "next key")
        }
        return keys.sorted()
    }

    /// The file's length, if its mark fits all of it.
    private static func check(_ fd: Int32, _ path: String) throws(DatabaseError) -> Int {
        let length = try onDisk(path) { () throws(OSError) in try File.stat(descriptor: fd).size }
        let start = try piece(fd, path, at: 0, pieceBytes)
        guard let offset = place(in: start) else {
            let magic = start.prefix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
            guard magics.contains(magic) else { throw DatabaseError(.damaged, "\(path): not a GNU dbm file") }
            throw DatabaseError(.otherFormat, "\(path): a GNU dbm file of another program")
        }
        var reader = Numbers(start, at: offset + mark.count)
        let (format, sum, told) = (reader.next(UInt32.self), reader.next(UInt32.self), reader.next(UInt64.self))
        guard format == Self.format else {
            throw DatabaseError(.otherFormat, "\(path): format \(format); \(Self.format) expected")
        }
        guard told == UInt64(length) else {
            throw DatabaseError(.damaged, "\(path): \(length) bytes; \(told) expected")
        }
        guard try Self.sum(fd, path, markAt: offset) == sum else {
            throw DatabaseError(.damaged, "\(path): its content does not fit its checksum")
        }
        return length
    }

    /// Of the first record: nothing of what users wrote is before it.
    private static func place(in start: [UInt8]) -> Int? {
        guard start.count >= markBytes else { return nil }
        return (0...(start.count - markBytes)).first { offset in
            start[offset] == mark[0] && start[offset..<offset + mark.count].elementsEqual(mark)
        }
    }

    private static func sum(_ fd: Int32, _ path: String, markAt offset: Int) throws(DatabaseError) -> UInt32 {
        var (sum, done) = (UInt32(0), 0)
        while true {
            var bytes = try piece(fd, path, at: done, pieceBytes)
            if bytes.isEmpty { return sum }
            if done == 0 { bytes.replaceSubrange(offset + sumOffset..<offset + sumOffset + 4, with: [0, 0, 0, 0]) }
            sum = bytes.withUnsafeBytes { crc32c($0, seed: sum) }
            done += bytes.count
        }
    }

    /// Fewer bytes than asked for at the file's end only.
    private static func piece(_ fd: Int32, _ path: String, at offset: Int, _ count: Int) throws(DatabaseError)
        -> [UInt8]
    {
        try onDisk(path) { () throws(OSError) in
            var bytes = [UInt8](repeating: 0, count: count)
            var done = 0
            while done < count {
                let got = try bytes.withUnsafeMutableBufferPointer { (raw) throws(OSError) in
                    let rest = UnsafeMutableRawBufferPointer(UnsafeMutableBufferPointer(rebasing: raw[done...]))
                    return try IO.read(fd, into: rest, at: offset + done)
                }
                if got == 0 { break }
                done += got
            }
            bytes.removeLast(count - done)
            return bytes
        }
    }

    private static func with<Value>(_ bytes: [UInt8], _ body: (datum) -> Value) -> Value {
        bytes.withUnsafeBytes { raw in
            // libgdbm does not change what it is given.
            let base = UnsafeMutableRawPointer(mutating: raw.baseAddress)?.assumingMemoryBound(to: CChar.self)
            return body(datum(dptr: base, dsize: Int32(raw.count)))
        }
    }

    private static func failure(
        _ library: GdbmLibrary, _ file: GDBM_FILE?, _ path: String, _ doing: String
    ) -> DatabaseError {
        let error = file.map { library.lastError($0) } ?? library.lastNumber().map { gdbm_error($0.pointee) }
        let words = library.words(error ?? gdbm_error(GDBM_UNKNOWN_ERROR)).map { String(cString: $0) } ?? "unknown"
        return DatabaseError(.failed, "\(path): \(doing): \(words)")
    }
}

// Writing one.
extension GdbmImage {
    /// Puts a new image in the place of `path`, durably: after a crash at any moment the old or the new one is there.
    /// It is made in memory, which takes as much of it as the file is long for as long as this takes.
    ///
    /// - Parameter next: the records one by one, nil at the end.
    /// - Throws: `.full`, `.failed`; the old one is there as before.
    static func write(
        _ path: String, _ library: GdbmLibrary, next: () throws(DatabaseError) -> DatabaseRecord?
    ) throws(DatabaseError) {
        let memory = try onDisk(path) { () throws(OSError) in
            try AnonymousMemory.create(name: "gdbm", size: 0, seal: .none)
        }
        try fill(memory.raw, path, library, next)
        try seal(memory.raw, path)
        let new = path + "-new"
        do throws(DatabaseError) { try copy(memory.raw, to: new, path) } catch {
            _ = try? File.remove(new)  // the next one would replace it
            throw error
        }
        try onDisk(path) { () throws(OSError) in
            try File.rename(new, to: path)
            try File.synchronizeDirectory(File.parent(of: path))
        }
    }

    private static func fill(
        _ memory: Int32, _ path: String, _ library: GdbmLibrary, _ next: () throws(DatabaseError) -> DatabaseRecord?
    ) throws(DatabaseError) {
        let duplicate = try onDisk(path) { () throws(OSError) in try Descriptor(duplicating: memory) }
        let flags = GDBM_NEWDB | GDBM_NOMMAP | GDBM_NOLOCK | GDBM_CLOEXEC | GDBM_CLOERROR
        guard let file = library.open(duplicate.release(), path, 0, flags, nil) else {
            throw failure(library, nil, path, "create")
        }
        func store(_ record: DatabaseRecord) throws(DatabaseError) {
            let code = with(record.key) { key in
                with(record.value) { value in library.store(file, key, value, GDBM_REPLACE) }
            }
            guard code == 0 else { throw failure(library, file, path, "store") }
        }
        do throws(DatabaseError) {
            var first = ByteWriter()
            first.raw(mark)
            first.integer(format)
            first.raw([UInt8](repeating: 0, count: markBytes - sumOffset))
            try store(DatabaseRecord(key: [], value: first.bytes))
            while let record = try next() { try store(record) }
        } catch {
            _ = library.close(file)
            throw error
        }
        guard library.close(file) == 0 else { throw failure(library, nil, path, "close") }
    }

    /// Length and checksum into the mark.
    private static func seal(_ memory: Int32, _ path: String) throws(DatabaseError) {
        let length = try onDisk(path) { () throws(OSError) in try File.stat(descriptor: memory).size }
        guard let offset = place(in: try piece(memory, path, at: 0, pieceBytes)) else {
            throw DatabaseError(.failed, "\(path): libgdbm put the first record behind \(pieceBytes) bytes")
        }
        func patch(_ number: some FixedWidthInteger, at place: Int) throws(DatabaseError) {
            let bytes = withUnsafeBytes(of: number.littleEndian) { Array($0) }
            _ = try onDisk(path) { () throws(OSError) in
                try bytes.withUnsafeBufferPointer { (raw) throws(OSError) in
                    try IO.write(memory, UnsafeRawBufferPointer(raw), at: place)
                }
            }
        }
        try patch(UInt64(length), at: offset + sumOffset + 4)
        try patch(try sum(memory, path, markAt: offset), at: offset + sumOffset)
    }

    private static func copy(_ memory: Int32, to new: String, _ path: String) throws(DatabaseError) {
        _ = try onDisk(path) { () throws(OSError) in try File.remove(new) }
        let target = try onDisk(path) { () throws(OSError) in try File.openForAppending(new, mode: 0o600) }
        var done = 0
        while true {
            let bytes = try piece(memory, path, at: done, pieceBytes)
            if bytes.isEmpty { break }
            try onDisk(path) { () throws(OSError) in
                try bytes.withUnsafeBufferPointer { (raw) throws(OSError) in
                    try IO.writeAll(target.raw, UnsafeRawBufferPointer(raw))
                }
            }
            done += bytes.count
        }
        try onDisk(path) { () throws(OSError) in try IO.synchronize(target.raw) }
    }
}

/// Little-endian numbers one after the other; zero beyond the end.
private struct Numbers {
    private let bytes: [UInt8]
    private var offset: Int

    init(_ bytes: [UInt8], at offset: Int) { (self.bytes, self.offset) = (bytes, offset) }

    mutating func next<Value: FixedWidthInteger>(_ type: Value.Type) -> Value {
        defer { offset += MemoryLayout<Value>.size }
        return bytes.dropFirst(offset).prefix(MemoryLayout<Value>.size).reversed().reduce(0) { $0 << 8 | Value($1) }
    }
}

/// Runs `body`; what the operating system refuses is told as the database's failure.
func onDisk<Value: ~Copyable>(
    _ path: String, _ body: () throws(OSError) -> Value
) throws(DatabaseError) -> Value {
    do throws(OSError) { return try body() } catch { throw DatabaseError(error, path) }
}
