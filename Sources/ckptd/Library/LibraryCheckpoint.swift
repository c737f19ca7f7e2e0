public import DBAL
internal import OSAL
internal import SAFTypes

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
    private let store: LibraryStore

    public var path: String { store.path }

    /// Opens the checkpoint, or makes it.
    ///
    /// - Parameters:
    ///   - path: of its file; what the engine keeps beside it begins with the same name. The folder must exist.
    ///   - engine: a file belongs to the engine that made it.
    ///   - isNew: whether it may be made, of an empty file, too.
    /// - Throws: `.notExist`, `.inUse`, `.damaged`, `.otherFormat`, `.missing`, `.full`, `.failed`.
    public static func open(
        _ path: String, engine: DatabaseEngine = .sqlite, creating isNew: Bool = true
    ) throws(LibraryCheckpointError) -> LibraryCheckpoint {
        LibraryCheckpoint(
            try LibraryStore.open(path, creating: isNew) { () throws(DatabaseError) in
                try engine.open(path, creating: isNew)
            })
    }

    private init(_ store: LibraryStore) { self.store = store }

    deinit { store.close() }

    /// Whether there is one at that path.
    public static func exists(_ path: String) -> Bool { LibraryStore.exists(path) }

    /// Removes a checkpoint that nobody has open, with everything that belongs to it.
    ///
    /// - Throws: `.notExist`, `.failed`.
    public static func delete(_ path: String) throws(LibraryCheckpointError) {
        guard exists(path) || File.exists(path) else {
            throw LibraryCheckpointError(.notExist, "\(path) does not exist")
        }
        do throws(OSError) {
            try File.removeTree(path + "-log")
        } catch {
            throw LibraryCheckpointError(.failed, "\(path): \(error)")
        }
        try LibraryStore.deleteFiles(path)
    }

    /// Afterwards every call throws `.closed`. Idempotent; `deinit` does it too.
    public func close() { store.close() }

    // MARK: Writing

    /// Several changes: all of them, or none.
    ///
    /// - Throws: what `build` throws, and nothing is written then; `.full`, `.failed`, `.closed`.
    public func update(
        _ build: (inout LibraryUpdate) throws(LibraryCheckpointError) -> Void
    ) throws(LibraryCheckpointError) {
        var update = LibraryUpdate()
        try build(&update)
        try store.apply(update.steps)
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
        try store.content(of: set.name).map { (content) throws(LibraryCheckpointError) in try decode(content, set) }
    }

    /// An element, as ``read(_:)``.
    public func read<Value>(_ key: [UInt8], of set: DataSet<Value>) throws(LibraryCheckpointError) -> Value? {
        try store.content(of: set.name, element: key).map { (content) throws(LibraryCheckpointError) in
            try decode(content, set)
        }
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
        var found: [(key: [UInt8], value: Value)] = []
        for content in try store.elements(of: set.name, after: after, limit: limit) {
            found.append((content.key, try decode(content, set)))
        }
        return found
    }

    /// Whether the data set has a value or an element; in whatever version.
    public func contains<Value>(_ set: DataSet<Value>) throws(LibraryCheckpointError) -> Bool {
        if try version(of: set) != nil { return true }
        return try !store.elements(of: set.name, limit: 1).isEmpty
    }

    /// In which version the data set's own value was written; nil if it never was.
    public func version<Value>(of set: DataSet<Value>) throws(LibraryCheckpointError) -> UInt32? {
        try store.content(of: set.name)?.version
    }

    private func decode<Value>(
        _ content: LibraryStore.Content, _ set: DataSet<Value>
    ) throws(LibraryCheckpointError) -> Value {
        let version = content.version
        guard let serializer = set.serializers.first(where: { $0.version == version }) else {
            throw set.unknown(version, "was written in version")
        }
        do {
            return try serializer.decode(Array(content.bytes))
        } catch {
            throw LibraryCheckpointError(
                .serializer, "\(path): data set \(set.name), version \(version), cannot be read: \(error)")
        }
    }
}
