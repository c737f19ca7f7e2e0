internal import DBAL
internal import OSAL
internal import SAFTypes

/// Changes that happen together; see ``LibraryCheckpoint/update(_:)``. A later one sees what earlier ones left.
public struct LibraryUpdate {
    /// Of an element.
    public static var keyBytesMax: Int { LibraryRecord.keyBytesMax }

    private(set) var steps: [LibraryStore.Step] = []

    init() {}

    /// As ``LibraryCheckpoint/write(_:to:version:)``.
    public mutating func write<Value>(
        _ value: Value, to set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        steps.append(.change(try Self.put(LibraryRecord.key(set.name), value, set, version)))
    }

    /// As ``LibraryCheckpoint/write(_:as:of:version:)-([UInt8])``.
    public mutating func write<Value>(
        _ value: Value, as key: [UInt8], of set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        try Self.check(key, of: set.name)
        steps.append(.change(try Self.put(LibraryRecord.key(set.name, element: key), value, set, version)))
    }

    /// As ``write(_:as:of:version:)-([UInt8])``, for a key that is text.
    public mutating func write<Value>(
        _ value: Value, as key: String, of set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        try write(value, as: Array(key.utf8), of: set, version: version)
    }

    /// As ``LibraryCheckpoint/delete(_:)-(DataSet<Value>)``.
    public mutating func delete<Value>(_ set: DataSet<Value>) {
        steps.append(.removeAll(set.name))
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

    private static func put<Value>(
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
        return bytes.withUnsafeBytes { LibraryRecord.put(key, version: serializer.version, $0) }
    }
}
