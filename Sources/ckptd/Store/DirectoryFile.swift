public import DBAL
import OSAL

/// The file in which a controller keeps the directory of checkpoints. Every call may wait for the disk: on the loop's
/// worker only, one at a time.
///
/// What cannot be kept up is removed, so that nobody ever believes a database that has fallen behind.
public final class DirectoryFile: @unchecked Sendable {  // used by one thread at a time, see above
    private let path: String
    private let engine: DatabaseEngine
    private var database: (any Database)?

    public init(_ path: String, _ engine: DatabaseEngine) {
        self.path = path
        self.engine = engine
    }

    /// Everything that is in it, ascending by key; creates it when there is none.
    ///
    /// - Throws: as ``DatabaseEngine/open(_:)``.
    public func load() throws(DatabaseError) -> [DatabaseRecord] {
        let database = try opened()
        var (records, next): ([DatabaseRecord], [UInt8]) = ([], [])
        while true {
            let page = try database.records(from: next, limit: 1_000)
            records += page
            guard let last = page.last, page.count == 1_000 else { return records }
            next = last.key + [0]
        }
    }

    /// All or nothing, and durable when it returns.
    public func write(_ changes: [DatabaseChange]) throws(DatabaseError) { try opened().apply(changes) }

    /// Removes it with everything that belongs to it; a later ``write(_:)`` begins a new one.
    public func erase() throws(OSError) {
        close()
        let folder = File.parent(of: path)
        guard File.exists(folder) else { return }
        let name = path.dropFirst(folder.utf8.count).drop { $0 == "/" }
        for found in try File.list(folder) where found == name || found.hasPrefix(name + "-") {
            try File.removeTree(folder + "/" + found)
        }
    }

    public func close() {
        database?.close()
        database = nil
    }

    private func opened() throws(DatabaseError) -> any Database {
        if let database { return database }
        let database = try engine.openMakingFolder(path)
        self.database = database
        return database
    }
}
