internal import OSAL

/// The engines behind ``Database``. A file belongs to the engine that made it.
public enum DatabaseEngine: String, CaseIterable, Sendable {
    /// The default; always there.
    case sqlite
    /// Berkeley DB 5.3, if its library is on this machine.
    case berkeleydb
    /// GNU dbm 1.23 or later, if its library is on this machine.
    case gdbm

    /// Opens or creates the database at `path`; what an engine keeps beside it begins with the same name.
    ///
    /// - Parameter isNew: whether SQLite may make something of an empty file; the other engines do.
    /// - Throws: `.missing` with the library that is not there; `.damaged`, `.otherFormat`, `.inUse`, `.full`,
    ///   `.failed`, `.absent`.
    public func open(_ path: String, creating isNew: Bool = true) throws(DatabaseError) -> any Database {
        switch self {
        case .sqlite: try SQLiteDatabase(path: path, creating: isNew)
        case .berkeleydb: try BerkeleyDatabase(path: path)
        case .gdbm: try GdbmDatabase(path: path)
        }
    }

    /// As ``open(_:)``, in a folder that is made, for its owner alone, if it is not there.
    public func openMakingFolder(_ path: String) throws(DatabaseError) -> any Database {
        do throws(OSError) {
            try File.makeDirectories(File.parent(of: path), mode: 0o700)
        } catch {
            throw DatabaseError(error.isNoSpace ? .full : .failed, "\(path): \(error)")
        }
        return try open(path)
    }

    /// Nil when the engine can be used; else what is missing.
    public var missing: DatabaseError? {
        do throws(DatabaseError) {
            switch self {
            case .sqlite: break
            case .berkeleydb: _ = try BerkeleyLibrary.open()
            case .gdbm: _ = try GdbmLibrary.open()
            }
            return nil
        } catch {
            return error
        }
    }
}

extension DatabaseError {
    /// A call of the operating system that failed for the database at `path`.
    init(_ error: OSError, _ path: String) {
        self.init(error.isNoSpace ? .full : .failed, "\(path): \(error)")
    }

    static func missing(_ error: OSError, engine: String) -> DatabaseError {
        DatabaseError(.missing, "the database engine \(engine) is not on this machine: \(error)")
    }
}
