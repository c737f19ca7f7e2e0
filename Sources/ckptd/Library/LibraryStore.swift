package import DBAL
package import OSAL
internal import SAFTypes

#if SAF_LIBRARY
    /// The one engine of the C library: Embedded Swift calls a wrong function through a protocol's table of another
    /// module.
    package typealias LibraryEngine = SQLiteDatabase
#else
    package typealias LibraryEngine = any Database
#endif

/// The bytes of a library checkpoint, for the interfaces in Swift and C. Thread-safe; calls wait for each other.
package final class LibraryStore: Sendable {
    private struct Held: ~Copyable, @unchecked Sendable {  // under the lock
        var database: (LibraryEngine)?
    }

    /// A change; see ``apply(_:)``.
    package enum Step {
        case change(DatabaseChange)
        /// The data set with all its elements.
        case removeAll(SystemString)
    }

    /// What was written under a key, in a version.
    package struct Content {
        package var key: [UInt8]
        package var version: UInt32
        package var bytes: ArraySlice<UInt8>
    }

    package let path: SystemString
    private let held: Lock<Held>

    /// - Throws: `.notExist` unless it is there or may be made; what the database says; `.otherFormat`.
    package static func open(
        _ path: SystemString, creating isNew: Bool, _ makeDatabase: () throws(DatabaseError) -> LibraryEngine
    ) throws(LibraryCheckpointError) -> LibraryStore {
        guard isNew || exists(path) else { throw LibraryCheckpointError(.notExist, "\(path) does not exist") }
        do throws(DatabaseError) {
            let database = try makeDatabase()
            if let form = try database.value(of: LibraryRecord.formKey) {
                guard form == LibraryRecord.form else {
                    throw DatabaseError(.otherFormat, "\(path): not a library checkpoint, or of a later version")
                }
            } else {
                guard try database.records(from: [], limit: 1).isEmpty else {
                    throw DatabaseError(.otherFormat, "\(path): another kind of database")
                }
                guard isNew else { throw DatabaseError(.absent, "\(path) has nothing in it") }
                try database.put(LibraryRecord.formKey, LibraryRecord.form)
            }
            return LibraryStore(path, database)
        } catch {
            throw LibraryCheckpointError(error)
        }
    }

    private init(_ path: SystemString, _ database: LibraryEngine) {
        self.path = path
        held = Lock(Held(database: database))
    }

    /// Whether there is one at that path, of whatever engine.
    package static func exists(_ path: SystemString) -> Bool { hasFile(path) || File.exists(path + "-log") }

    /// An empty file is what somebody else has made, or what was left by who died while making it.
    package static func hasFile(_ path: SystemString) -> Bool { ((try? File.stat(path))?.size ?? 0) > 0 }

    /// Removes the files of SQLite: first the one that makes it a checkpoint, for what is left of the others alone is
    /// nothing to a new one. (sqlite.org/fileformat2.html: a log belongs to a file that is not empty.)
    package static func deleteFiles(_ path: SystemString) throws(LibraryCheckpointError) {
        do throws(OSError) {
            try File.remove(path)
            try File.remove(path + "-wal")
            try File.remove(path + "-shm")
            try File.remove(path + "-journal")
        } catch {
            throw LibraryCheckpointError(.failed, "\(path): \(error)")
        }
    }

    /// Afterwards every call throws `.closed`. Idempotent.
    package func close() {
        held.withLock { held in
            held.database?.close()
            held.database = nil
        }
    }

    /// All or none, in their order: a later one sees what earlier ones left.
    package func apply(_ steps: [Step]) throws(LibraryCheckpointError) {
        try with { (database) throws(DatabaseError) in
            var changes: [DatabaseChange] = []
            for step in steps {
                switch step {
                case .change(let change): changes.append(change)
                case .removeAll(let name):
                    let prefix = LibraryRecord.elements(name)
                    // What this update has written until now goes, too.
                    changes.removeAll { $0.key.starts(with: prefix) }
                    for record in try Self.records(database, from: prefix, prefix, .max) {
                        changes.append(.delete(key: record.key))
                    }
                    changes.append(.delete(key: LibraryRecord.key(name)))
                }
            }
            try database.apply(changes)
        }
    }

    /// The data set's own value, or an element; nil if there is none.
    package func content(
        of name: SystemString, element: [UInt8]? = nil
    ) throws(LibraryCheckpointError) -> Content? {
        let key = LibraryRecord.key(name, element: element)
        let bytes = try with { (database) throws(DatabaseError) in try database.value(of: key) }
        guard let bytes else { return nil }
        return try content(DatabaseRecord(key: key, value: bytes), of: name, key: element ?? [])
    }

    /// In the order of their keys' bytes.
    package func elements(
        of name: SystemString, after: [UInt8]? = nil, limit: Int
    ) throws(LibraryCheckpointError) -> [Content] {
        let prefix = LibraryRecord.elements(name)
        let start = after.map { prefix + $0 + [0] } ?? prefix
        let records = try with { (database) throws(DatabaseError) in
            try Self.records(database, from: start, prefix, limit)
        }
        var found: [Content] = []
        found.reserveCapacity(records.count)
        for record in records {
            found.append(try content(record, of: name, key: Array(record.key[prefix.count...])))
        }
        return found
    }

    private func content(
        _ record: DatabaseRecord, of name: SystemString, key: [UInt8]
    ) throws(LibraryCheckpointError) -> Content {
        guard let (version, bytes) = LibraryRecord.content(record) else {
            throw LibraryCheckpointError(.damaged, "\(path): a value of data set \(name) is not what was written")
        }
        return Content(key: key, version: version, bytes: bytes)
    }

    private func with<Result>(
        _ body: (LibraryEngine) throws(DatabaseError) -> Result
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
        _ database: LibraryEngine, from start: [UInt8], _ prefix: [UInt8], _ limit: Int
    ) throws(DatabaseError) -> [DatabaseRecord] {
        var found: [DatabaseRecord] = []
        var next = start
        while found.count < limit {
            let wanted = min(256, limit - found.count)
            let page = try database.records(from: next, limit: wanted)
            for record in page where record.key.starts(with: prefix) { found.append(record) }
            guard page.count == wanted, let last = page.last, last.key.starts(with: prefix) else { break }
            next = last.key + [0]
        }
        return found
    }
}
