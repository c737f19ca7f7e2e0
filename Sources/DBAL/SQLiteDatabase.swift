internal import CSQLite
public import OSAL
internal import SAFTypes

/// The default engine: SQLite with a write-ahead log, one table, ordered by key.
///
/// Source: sqlite.org/c3ref, sqlite.org/wal.html: with `synchronous=FULL` a transaction is durable when COMMIT returns.
public final class SQLiteDatabase: Database {
    /// "SAF1": tells our files from other SQLite files.
    private static let applicationID = 0x5341_4631
    private static let format = 1

    /// Prepared once and kept.
    private enum Statement: Int, CaseIterable {
        case begin, commit, rollback, put, delete, value, records

        var sql: StaticString {
            switch self {
            case .begin: "BEGIN IMMEDIATE"
            case .commit: "COMMIT"
            case .rollback: "ROLLBACK"
            case .put:
                """
                INSERT INTO record(key, value) VALUES(?1, ?2) ON CONFLICT(key) DO UPDATE SET value = excluded.value
                """
            case .delete: "DELETE FROM record WHERE key = ?1"
            case .value: "SELECT value FROM record WHERE key = ?1"
            case .records: "SELECT key, value FROM record WHERE key >= ?1 ORDER BY key LIMIT ?2"
            }
        }
    }

    private let path: SystemString
    private var handle: OpaquePointer?
    private var statements = [OpaquePointer?](repeating: nil, count: Statement.allCases.count)

    /// Opens or creates the file; beside it SQLite keeps `-wal` while it is open.
    ///
    /// - Parameter isNew: whether it may be made.
    /// - Throws: `.damaged`, `.otherFormat`, `.inUse`, `.full`, `.failed` (the directory is missing, no permission);
    ///   `.absent` for a file that has nothing in it and may not be made.
    public init(path: SystemString, creating isNew: Bool = true) throws(DatabaseError) {
        self.path = path
        let flags =
            SQLITE_OPEN_READWRITE | (isNew ? SQLITE_OPEN_CREATE : 0) | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
        var opened: OpaquePointer?
        let code = path.withCString { sqlite3_open_v2($0, &opened, flags, nil) }
        handle = opened
        do throws(DatabaseError) {
            try check(code, "open")
            // One owner: no shared memory for readers that never come, and a second opener is refused.
            try runOnce("PRAGMA locking_mode=EXCLUSIVE")
            // Nothing is written to another's file, not even how its journal is kept.
            let isEmpty = try isEmpty()
            if isEmpty, !isNew { throw DatabaseError(.absent, "\(path): there is no database in it") }
            try runOnce("PRAGMA journal_mode=WAL")
            try runOnce("PRAGMA synchronous=FULL")
            if isEmpty { try claim() }
        } catch {
            close()
            throw error
        }
    }

    deinit { close() }

    public func close() {
        for index in statements.indices {
            sqlite3_finalize(statements[index])
            statements[index] = nil
        }
        if let handle { sqlite3_close_v2(handle) }
        handle = nil
    }

    public func apply(_ changes: [DatabaseChange]) throws(DatabaseError) {
        try DatabaseLimits.check(changes)
        try transaction { () throws(DatabaseError) in
            for change in changes {
                switch change {
                case .put(let key, let value): try run(.put, key, value)
                case .delete(let key): try run(.delete, key)
                }
            }
        }
    }

    public func value(of key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        let statement = try prepared(.value)
        defer { sqlite3_reset(statement) }
        try bind(key, to: statement, at: 1)
        return try step(statement) ? try blob(statement, 0) : nil
    }

    public func records(from key: [UInt8], limit: Int) throws(DatabaseError) -> [DatabaseRecord] {
        let statement = try prepared(.records)
        defer { sqlite3_reset(statement) }
        try bind(key, to: statement, at: 1)
        sqlite3_bind_int64(statement, 2, Int64(max(0, limit)))
        var found: [DatabaseRecord] = []
        while try step(statement) {
            found.append(DatabaseRecord(key: try blob(statement, 0), value: try blob(statement, 1)))
        }
        return found
    }

    private func transaction(_ body: () throws(DatabaseError) -> Void) throws(DatabaseError) {
        try run(.begin)
        do throws(DatabaseError) {
            try body()
            try run(.commit)
        } catch {
            // A failed commit may have ended the transaction already.
            if let handle, sqlite3_get_autocommit(handle) == 0 { try? run(.rollback) }
            throw error
        }
    }

    // MARK: Format

    /// A new file gets our marks, all at once: a process that dies here leaves a file that the next one takes for new.
    private func claim() throws(DatabaseError) {
        try transaction { () throws(DatabaseError) in
            try runOnce("PRAGMA application_id=1396786737")
            try runOnce("PRAGMA user_version=1")
            try runOnce("CREATE TABLE record(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        }
    }

    /// Whether nobody has made anything of the file; another's is refused.
    private func isEmpty() throws(DatabaseError) -> Bool {
        let (id, format) = (try number("PRAGMA application_id"), try number("PRAGMA user_version"))
        if id == 0, format == 0, try number("SELECT count(*) FROM sqlite_schema") == 0 { return true }
        guard id == Self.applicationID else {
            throw DatabaseError(.otherFormat, "\(path): an SQLite file of another program (application id \(id))")
        }
        guard format == Self.format else {
            throw DatabaseError(.otherFormat, "\(path): format \(format); \(Self.format) expected")
        }
        return false
    }

    private func number(_ sql: StaticString) throws(DatabaseError) -> Int {
        let statement = try prepare(sql)
        defer { sqlite3_finalize(statement) }
        return try step(statement) ? Int(sqlite3_column_int64(statement, 0)) : 0
    }

    private func runOnce(_ sql: StaticString) throws(DatabaseError) {
        let statement = try prepare(sql)
        defer { sqlite3_finalize(statement) }
        while try step(statement) {}
    }

    // MARK: Statements

    private func run(_ what: Statement, _ values: [UInt8]...) throws(DatabaseError) {
        let statement = try prepared(what)
        defer {
            sqlite3_reset(statement)
            sqlite3_clear_bindings(statement)
        }
        for (index, value) in values.enumerated() { try bind(value, to: statement, at: Int32(index + 1)) }
        while try step(statement) {}
    }

    private func prepared(_ what: Statement) throws(DatabaseError) -> OpaquePointer {
        if let statement = statements[what.rawValue] { return statement }
        let statement = try prepare(what.sql)
        statements[what.rawValue] = statement
        return statement
    }

    private func prepare(_ sql: StaticString) throws(DatabaseError) -> OpaquePointer {
        guard let handle else { throw DatabaseError(.closed, "\(path) is closed") }
        var statement: OpaquePointer?
        let text = UnsafeRawPointer(sql.utf8Start).assumingMemoryBound(to: CChar.self)
        try check(
            sqlite3_prepare_v3(handle, text, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil), "\(sql)")
        guard let statement else { throw DatabaseError(.failed, "\(path): \(sql): no statement") }
        return statement
    }

    /// True when there is a row.
    private func step(_ statement: OpaquePointer) throws(DatabaseError) -> Bool {
        let code = sqlite3_step(statement)
        if code == SQLITE_ROW { return true }
        if code == SQLITE_DONE { return false }
        try check(code, Self.words(sqlite3_sql(statement)))
        return false
    }

    /// SQLite takes a copy: what is bound may go.
    private func bind(_ bytes: [UInt8], to statement: OpaquePointer, at index: Int32) throws(DatabaseError) {
        let copied = unsafeBitCast(-1, to: sqlite3_destructor_type.self)  // SQLITE_TRANSIENT
        let code = bytes.withUnsafeBytes { raw in
            if let base = raw.baseAddress, raw.count > 0 {
                sqlite3_bind_blob64(statement, index, base, UInt64(raw.count), copied)
            } else {
                sqlite3_bind_zeroblob(statement, index, 0)
            }
        }
        try check(code, "bind")
    }

    private func blob(_ statement: OpaquePointer, _ column: Int32) throws(DatabaseError) -> [UInt8] {
        let count = Int(sqlite3_column_bytes(statement, column))
        guard count > 0 else { return [] }
        guard let base = sqlite3_column_blob(statement, column), ForeignMemory.canAllocate(count) else {
            throw DatabaseError(.noMemory, "\(path): a value of \(count) bytes")
        }
        return Array(UnsafeRawBufferPointer(start: base, count: count))
    }

    private static func words(_ text: UnsafePointer<CChar>?) -> Words {
        #if SAF_LIBRARY
            ""
        #else
            text.map { String(cString: $0) } ?? ""
        #endif
    }

    private func check(_ code: Int32, _ doing: @autoclosure () -> Words) throws(DatabaseError) {
        if code == SQLITE_OK { return }
        let words = Self.words(handle.map { sqlite3_errmsg($0) } ?? sqlite3_errstr(code))
        let kind: DatabaseError.Kind =
            switch code & 0xff {
            case SQLITE_FULL: .full
            case SQLITE_CORRUPT, SQLITE_NOTADB: .damaged
            case SQLITE_BUSY, SQLITE_LOCKED: .inUse
            case SQLITE_TOOBIG: .tooBig
            case SQLITE_NOMEM: .noMemory
            default: .failed
            }
        throw DatabaseError(kind, "\(path): \(doing()): \(words)")
    }
}
