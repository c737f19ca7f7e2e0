import DBAL
import OSAL
import SAFTypes

/// Changes that happen together; see ``LibraryCheckpoint/update(_:)``. A later one sees what earlier ones left.
public struct LibraryUpdate {
    /// Of an element.
    public static let keyBytesMax = 2_048

    enum Step {
        case change(DatabaseChange)
        /// Everything that begins so.
        case removeAll(prefix: [UInt8])
    }

    private(set) var steps: [Step] = []

    init() {}

    /// As ``LibraryCheckpoint/write(_:to:version:)``.
    public mutating func write<Value>(
        _ value: Value, to set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        steps.append(.change(try LibraryRecord.put(LibraryRecord.key(set.name), value, set, version)))
    }

    /// As ``LibraryCheckpoint/write(_:as:of:version:)-([UInt8])``.
    public mutating func write<Value>(
        _ value: Value, as key: [UInt8], of set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        try Self.check(key, of: set.name)
        steps.append(.change(try LibraryRecord.put(LibraryRecord.key(set.name, element: key), value, set, version)))
    }

    /// As ``write(_:as:of:version:)-([UInt8])``, for a key that is text.
    public mutating func write<Value>(
        _ value: Value, as key: String, of set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        try write(value, as: Array(key.utf8), of: set, version: version)
    }

    /// As ``LibraryCheckpoint/delete(_:)-(DataSet<Value>)``.
    public mutating func delete<Value>(_ set: DataSet<Value>) {
        steps.append(.removeAll(prefix: LibraryRecord.elements(set.name)))
        steps.append(.change(.delete(key: LibraryRecord.key(set.name))))
    }

    /// As ``LibraryCheckpoint/delete(_:of:)``.
    public mutating func delete<Value>(_ key: [UInt8], of set: DataSet<Value>) throws(LibraryCheckpointError) {
        try Self.check(key, of: set.name)
        steps.append(.change(.delete(key: LibraryRecord.key(set.name, element: key))))
    }

    private static func check(_ key: [UInt8], of name: String) throws(LibraryCheckpointError) {
        guard (1...keyBytesMax).contains(key.count) else {
            throw LibraryCheckpointError(
                .invalid, "a key of \(key.count) bytes in data set \(name); 1 to \(keyBytesMax) expected")
        }
    }
}

/// How a library checkpoint lies in its database.
///
/// 0: form · 1 · length of the name u8 · name: the data set's value · 2 · length u8 · name · key: an element. A value:
/// checksum u32 (CRC-32C of key, version and bytes) · version u32 · what the serializer wrote.
enum LibraryRecord {
    static let formKey: [UInt8] = [0]
    static let form: [UInt8] = Array("SwiftSAF library checkpoint 1".utf8)
    private static let headBytes = 8

    private static func named(_ kind: UInt8, _ name: String) -> [UInt8] {
        [kind, UInt8(truncatingIfNeeded: name.utf8.count)] + Array(name.utf8)  // not longer: see DataSet
    }

    static func key(_ name: String) -> [UInt8] { named(1, name) }
    static func elements(_ name: String) -> [UInt8] { named(2, name) }
    static func key(_ name: String, element: [UInt8]) -> [UInt8] { elements(name) + element }

    static func put<Value>(
        _ key: [UInt8], _ value: Value, _ set: DataSet<Value>, _ version: UInt32?
    ) throws(LibraryCheckpointError) -> DatabaseChange {
        let serializer = try set.serializer(version)
        let bytes: [UInt8]
        do {
            bytes = try serializer.encode(value)
        } catch {
            throw LibraryCheckpointError(
                .serializer, "data set \(set.name), version \(serializer.version), cannot be written: \(error)")
        }
        var writer = ByteWriter(reserving: headBytes + bytes.count)
        writer.integer(UInt32(0))
        writer.integer(serializer.version)
        writer.raw(bytes)
        writer.patch(checksum(key, writer.bytes), at: 0)
        return .put(key: key, value: writer.bytes)
    }

    private static func checksum(_ key: [UInt8], _ value: [UInt8]) -> UInt32 {
        let ofKey = key.withUnsafeBytes { crc32c($0) }
        return value.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[4...]), seed: ofKey) }
    }

    /// Nil when it is not what was written.
    static func content(_ record: DatabaseRecord) -> (version: UInt32, bytes: [UInt8])? {
        guard record.value.count >= headBytes else { return nil }
        let (stored, version) = record.value.withUnsafeBytes { raw in
            (
                UInt32(littleEndian: raw.loadUnaligned(as: UInt32.self)),
                UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            )
        }
        guard stored == checksum(record.key, record.value) else { return nil }
        return (version, Array(record.value.dropFirst(headBytes)))
    }
}
