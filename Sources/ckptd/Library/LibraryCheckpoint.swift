public import DBAL
import OSAL
import SAFTypes

/// A checkpoint in a file of one process, without any server: data sets and their elements, in versions.
///
/// For state that a program wants to find again when it is started after anything, also in another version of itself: a
/// value is read by the serializer of the version that it was written in. A write is durable when it returns, and done
/// wholly or not at all, whatever dies when. Calls wait for the disk, and for each other; any thread, but not that of a
/// daemon's loop. A file belongs to one process at a time.
///
///     let settings = try DataSet("settings", .wire(version: 1), newForm)
///     let checkpoint = try LibraryCheckpoint.open("/var/lib/myprogram/state")
///     try checkpoint.write(value, to: settings)
///     let value = try checkpoint.read(settings)
///
/// Source: SAFplus clCkptLibrary…() (library checkpoints).
public final class LibraryCheckpoint: Sendable {
    private struct Held: ~Copyable, @unchecked Sendable {  // under the lock
        var database: (any Database)?
    }

    public let path: String
    private let held: Lock<Held>

    /// Opens the checkpoint, or makes it.
    ///
    /// - Parameters:
    ///   - path: of its file; what the engine keeps beside it begins with the same name. The folder must exist.
    ///   - engine: a file belongs to the engine that made it.
    ///   - isNew: whether it may be made.
    /// - Throws: `.notExist`, `.inUse`, `.damaged`, `.otherFormat`, `.missing`, `.full`, `.failed`.
    public static func open(
        _ path: String, engine: DatabaseEngine = .sqlite, creating isNew: Bool = true
    ) throws(LibraryCheckpointError) -> LibraryCheckpoint {
        guard isNew || exists(path) else { throw LibraryCheckpointError(.notExist, "\(path) does not exist") }
        do throws(DatabaseError) {
            let database = try engine.open(path)
            let form = try database.value(of: LibraryRecord.formKey)
            if let form {
                guard form == LibraryRecord.form else {
                    throw DatabaseError(.otherFormat, "\(path): not a library checkpoint, or of a later version")
                }
            } else {
                guard try database.records(from: [], limit: 1).isEmpty else {
                    throw DatabaseError(.otherFormat, "\(path): another kind of database")
                }
                try database.put(LibraryRecord.formKey, LibraryRecord.form)
            }
            return LibraryCheckpoint(path, database)
        } catch {
            throw LibraryCheckpointError(error)
        }
    }

    private init(_ path: String, _ database: any Database) {
        self.path = path
        held = Lock(Held(database: database))
    }

    /// Whether there is one at that path.
    public static func exists(_ path: String) -> Bool { File.exists(path) || File.exists(path + "-log") }

    /// Removes a checkpoint that nobody has open, with everything that belongs to it.
    ///
    /// - Throws: `.notExist`, `.failed`.
    public static func delete(_ path: String) throws(LibraryCheckpointError) {
        guard exists(path) else { throw LibraryCheckpointError(.notExist, "\(path) does not exist") }
        do throws(OSError) {
            // The file that says that there is a checkpoint goes last.
            for suffix in ["-wal", "-shm", "-journal", "-log"] where File.exists(path + suffix) {
                try File.removeTree(path + suffix)
            }
            _ = try File.remove(path)
        } catch {
            throw LibraryCheckpointError(.failed, "\(path): \(error)")
        }
    }

    /// Afterwards every call throws `.closed`. Idempotent; `deinit` does it too.
    public func close() {
        held.withLock { held in
            held.database?.close()
            held.database = nil
        }
    }

    // MARK: Writing

    /// Several changes: all of them, or none.
    ///
    /// - Throws: what `build` throws, and nothing is written then; `.full`, `.failed`, `.closed`.
    public func update(
        _ build: (inout LibraryUpdate) throws(LibraryCheckpointError) -> Void
    ) throws(LibraryCheckpointError) {
        var update = LibraryUpdate()
        try build(&update)
        let steps = update.steps
        try with { (database) throws(DatabaseError) in
            var changes: [DatabaseChange] = []
            for step in steps {
                switch step {
                case .change(let change): changes.append(change)
                case .removeAll(let prefix):
                    // What this update has written until now goes, too.
                    changes.removeAll { $0.key.starts(with: prefix) }
                    changes += try Self.keys(database, prefix).map { .delete(key: $0) }
                }
            }
            try database.apply(changes)
        }
    }

    /// Writes the data set's own value.
    ///
    /// - Parameter version: in which it is written; the newest if nil. An older one is for a program that is older.
    /// - Throws: `.unknownVersion`, `.serializer`, `.invalid` (more than 256 MiB), `.full`, `.failed`, `.closed`.
    public func write<Value>(
        _ value: Value, to set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        try update { (update) throws(LibraryCheckpointError) in try update.write(value, to: set, version: version) }
    }

    /// Writes an element.
    ///
    /// - Throws: as ``write(_:to:version:)``; `.invalid` for an empty key or one longer than
    ///   ``LibraryUpdate/keyBytesMax``.
    public func write<Value>(
        _ value: Value, as key: [UInt8], of set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        try update { (update) throws(LibraryCheckpointError) in
            try update.write(value, as: key, of: set, version: version)
        }
    }

    /// As ``write(_:as:of:version:)-([UInt8])``, for a key that is text.
    public func write<Value>(
        _ value: Value, as key: String, of set: DataSet<Value>, version: UInt32? = nil
    ) throws(LibraryCheckpointError) {
        try write(value, as: Array(key.utf8), of: set, version: version)
    }

    /// Deletes the data set with all its elements; nothing if there is none.
    public func delete<Value>(_ set: DataSet<Value>) throws(LibraryCheckpointError) {
        try update { (update) throws(LibraryCheckpointError) in update.delete(set) }
    }

    /// Deletes an element; nothing if there is none.
    public func delete<Value>(_ key: [UInt8], of set: DataSet<Value>) throws(LibraryCheckpointError) {
        try update { (update) throws(LibraryCheckpointError) in try update.delete(key, of: set) }
    }

    // MARK: Reading

    /// The data set's own value, in whatever version it was written; nil if it never was.
    ///
    /// - Throws: `.unknownVersion` with the version that was found and those that are known; `.serializer`, `.damaged`,
    ///   `.failed`, `.closed`.
    public func read<Value>(_ set: DataSet<Value>) throws(LibraryCheckpointError) -> Value? {
        try value(LibraryRecord.key(set.name), set)
    }

    /// An element, as ``read(_:)``.
    public func read<Value>(_ key: [UInt8], of set: DataSet<Value>) throws(LibraryCheckpointError) -> Value? {
        try value(LibraryRecord.key(set.name, element: key), set)
    }

    /// As ``read(_:of:)-([UInt8],_)``, for a key that is text.
    public func read<Value>(_ key: String, of set: DataSet<Value>) throws(LibraryCheckpointError) -> Value? {
        try read(Array(key.utf8), of: set)
    }

    /// Elements in the order of their keys' bytes.
    ///
    /// - Parameters:
    ///   - after: only those behind this key.
    ///   - limit: no more than so many at once.
    public func elements<Value>(
        of set: DataSet<Value>, after: [UInt8]? = nil, limit: Int = .max
    ) throws(LibraryCheckpointError) -> [(key: [UInt8], value: Value)] {
        let prefix = LibraryRecord.elements(set.name)
        let start = after.map { prefix + $0 + [0] } ?? prefix
        let records = try elements(prefix: prefix, from: start, limit: limit)
        var found: [(key: [UInt8], value: Value)] = []
        found.reserveCapacity(records.count)
        for record in records {
            found.append((Array(record.key.dropFirst(prefix.count)), try decode(record, set)))
        }
        return found
    }

    /// Whether the data set has a value or an element; in whatever version.
    public func contains<Value>(_ set: DataSet<Value>) throws(LibraryCheckpointError) -> Bool {
        if try version(of: set) != nil { return true }
        return try !elements(prefix: LibraryRecord.elements(set.name), limit: 1).isEmpty
    }

    /// In which version the data set's own value was written; nil if it never was.
    public func version<Value>(of set: DataSet<Value>) throws(LibraryCheckpointError) -> UInt32? {
        let key = LibraryRecord.key(set.name)
        guard let bytes = try with({ (database) throws(DatabaseError) in try database.value(of: key) }) else {
            return nil
        }
        return try content(DatabaseRecord(key: key, value: bytes), of: set.name).version
    }

    // MARK: Bytes

    private func elements(
        prefix: [UInt8], from start: [UInt8]? = nil, limit: Int
    ) throws(LibraryCheckpointError) -> [DatabaseRecord] {
        try with { (database) throws(DatabaseError) in
            try Self.records(database, from: start ?? prefix, prefix, limit)
        }
    }

    private func value<Value>(_ key: [UInt8], _ set: DataSet<Value>) throws(LibraryCheckpointError) -> Value? {
        let bytes = try with { (database) throws(DatabaseError) in try database.value(of: key) }
        guard let bytes else { return nil }
        return try decode(DatabaseRecord(key: key, value: bytes), set)
    }

    private func content(
        _ record: DatabaseRecord, of name: String
    ) throws(LibraryCheckpointError) -> (version: UInt32, bytes: [UInt8]) {
        guard let content = LibraryRecord.content(record) else {
            throw LibraryCheckpointError(.damaged, "\(path): a value of data set \(name) is not what was written")
        }
        return content
    }

    private func decode<Value>(_ record: DatabaseRecord, _ set: DataSet<Value>) throws(LibraryCheckpointError) -> Value
    {
        let (version, bytes) = try content(record, of: set.name)
        guard let serializer = set.serializers.first(where: { $0.version == version }) else {
            throw set.unknown(version, "was written in version")
        }
        do {
            return try serializer.decode(bytes)
        } catch {
            throw LibraryCheckpointError(
                .serializer, "\(path): data set \(set.name), version \(version), cannot be read: \(error)")
        }
    }

    private func with<Result>(
        _ body: (any Database) throws(DatabaseError) -> Result
    ) throws(LibraryCheckpointError) -> Result {
        let result: Swift.Result<Result, DatabaseError> = held.withLock { held in
            guard let database = held.database else { return .failure(DatabaseError(.closed, "\(path) is closed")) }
            do throws(DatabaseError) { return .success(try body(database)) } catch { return .failure(error) }
        }
        switch result {
        case .success(let value): return value
        case .failure(let error): throw LibraryCheckpointError(error)
        }
    }

    private static func records(
        _ database: any Database, from start: [UInt8], _ prefix: [UInt8], _ limit: Int
    ) throws(DatabaseError) -> [DatabaseRecord] {
        var found: [DatabaseRecord] = []
        var next = start
        while found.count < limit {
            let wanted = min(256, limit - found.count)
            let page = try database.records(from: next, limit: wanted)
            found += page.prefix { $0.key.starts(with: prefix) }
            guard page.count == wanted, let last = page.last, last.key.starts(with: prefix) else { break }
            next = last.key + [0]
        }
        return found
    }

    private static func keys(_ database: any Database, _ prefix: [UInt8]) throws(DatabaseError) -> [[UInt8]] {
        try records(database, from: prefix, prefix, .max).map(\.key)
    }
}
