internal import CSQLite

/// The default engine: SQLite with a write-ahead log, one table, ordered by key.
///
/// Source: sqlite.org/c3ref, sqlite.org/wal.html: with `synchronous=FULL` a transaction is durable when COMMIT returns.
public final class SQLiteDatabase: Database {
    /// "SAF1": tells our files from other SQLite files.
    private static let applicationID = 0x5341_4631
    private static let format = 1

    private let path: String
    private var handle: OpaquePointer?
    private var statements: [String: OpaquePointer] = [:]

    /// Opens or creates the file; beside it SQLite keeps `-wal` while it is open.
    ///
    /// - Throws: `.damaged`, `.otherFormat`, `.inUse`, `.full`, `.failed` (the directory is missing, no permission).
    public init(path: String) throws(DatabaseError) {
        self.path = path
        let flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE
        let code = sqlite3_open_v2(path, &handle, flags, nil)
        do throws(DatabaseError) {
            try check(code, "open")
            // One owner: no shared memory for readers that never come, and a second opener is refused.
            try run("PRAGMA locking_mode=EXCLUSIVE")
            try run("PRAGMA journal_mode=WAL")
            try run("PRAGMA synchronous=FULL")
            try claimFormat()
            try run("CREATE TABLE IF NOT EXISTS record(key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
        } catch {
            close()
            throw error
        }
    }

    deinit { close() }

    public func close() {
        for statement in statements.values { sqlite3_finalize(statement) }
        statements = [:]
        if let handle { sqlite3_close_v2(handle) }
        handle = nil
    }

    public func apply(_ changes: [DatabaseChange]) throws(DatabaseError) {
        try DatabaseLimits.check(changes)
        try run("BEGIN IMMEDIATE")
        do throws(DatabaseError) {
            for change in changes {
                switch change {
                case .put(let key, let value):
                    let sql =
                        "INSERT INTO record(key, value) VALUES(?1, ?2) "
                        + "ON CONFLICT(key) DO UPDATE SET value = excluded.value"
                    try run(sql, key, value)
                case .delete(let key): try run("DELETE FROM record WHERE key = ?1", key)
                }
            }
            try run("COMMIT")
        } catch {
            // A failed commit may have ended the transaction already.
            if let handle, sqlite3_get_autocommit(handle) == 0 { try? run("ROLLBACK") }
            throw error
        }
    }

    public func value(of key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        let statement = try prepare("SELECT value FROM record WHERE key = ?1")
        defer { sqlite3_reset(statement) }
        bind(key, to: statement, at: 1)
        return try step(statement) ? blob(statement, 0) : nil
    }

    public func records(from key: [UInt8], limit: Int) throws(DatabaseError) -> [DatabaseRecord] {
        let statement = try prepare("SELECT key, value FROM record WHERE key >= ?1 ORDER BY key LIMIT ?2")
        defer { sqlite3_reset(statement) }
        bind(key, to: statement, at: 1)
        sqlite3_bind_int64(statement, 2, Int64(max(0, limit)))
        var found: [DatabaseRecord] = []
        while try step(statement) { found.append(DatabaseRecord(key: blob(statement, 0), value: blob(statement, 1))) }
        return found
    }

    // MARK: Format

    /// A new file gets our marks; another's is refused before anything is written to it.
    private func claimFormat() throws(DatabaseError) {
        let (id, format) = (try number("PRAGMA application_id"), try number("PRAGMA user_version"))
        let isEmpty = try number("SELECT count(*) FROM sqlite_schema") == 0
        if id == 0, format == 0, isEmpty {
            try run("PRAGMA application_id=\(Self.applicationID)")
            try run("PRAGMA user_version=\(Self.format)")
            return
        }
        guard id == Self.applicationID else {
            throw DatabaseError(.otherFormat, "\(path): an SQLite file of another program (application id \(id))")
        }
        guard format == Self.format else {
            throw DatabaseError(.otherFormat, "\(path): format \(format); \(Self.format) expected")
        }
    }

    private func number(_ sql: String) throws(DatabaseError) -> Int {
        let statement = try prepare(sql)
        defer { sqlite3_reset(statement) }
        return try step(statement) ? Int(sqlite3_column_int64(statement, 0)) : 0
    }

    // MARK: Statements

    private func run(_ sql: String, _ values: [UInt8]...) throws(DatabaseError) {
        let statement = try prepare(sql)
        defer {
            sqlite3_reset(statement)
            sqlite3_clear_bindings(statement)
        }
        for (index, value) in values.enumerated() { bind(value, to: statement, at: Int32(index + 1)) }
        while try step(statement) {}
    }

    /// Prepared once and kept.
    private func prepare(_ sql: String) throws(DatabaseError) -> OpaquePointer {
        guard let handle else { throw DatabaseError(.closed, "\(path) is closed") }
        if let statement = statements[sql] { return statement }
        var statement: OpaquePointer?
        try check(sqlite3_prepare_v3(handle, sql, -1, UInt32(SQLITE_PREPARE_PERSISTENT), &statement, nil), sql)
        guard let statement else { throw DatabaseError(.failed, "\(path): \(sql): no statement") }
        statements[sql] = statement
        return statement
    }

    /// True when there is a row.
    private func step(_ statement: OpaquePointer) throws(DatabaseError) -> Bool {
        let code = sqlite3_step(statement)
        if code == SQLITE_ROW { return true }
        if code == SQLITE_DONE { return false }
        try check(code, sqlite3_sql(statement).map { String(cString: $0) } ?? "step")
        return false
    }

    /// SQLite takes a copy: what is bound may go.
    private func bind(_ bytes: [UInt8], to statement: OpaquePointer, at index: Int32) {
        let copied = unsafeBitCast(-1, to: sqlite3_destructor_type.self)  // SQLITE_TRANSIENT
        _ = bytes.withUnsafeBytes { raw in
            if let base = raw.baseAddress, raw.count > 0 {
                sqlite3_bind_blob64(statement, index, base, UInt64(raw.count), copied)
            } else {
                sqlite3_bind_zeroblob(statement, index, 0)
            }
        }
    }

    private func blob(_ statement: OpaquePointer, _ column: Int32) -> [UInt8] {
        let count = Int(sqlite3_column_bytes(statement, column))
        guard count > 0, let base = sqlite3_column_blob(statement, column) else { return [] }
        return Array(UnsafeRawBufferPointer(start: base, count: count))
    }

    private func check(_ code: Int32, _ doing: String) throws(DatabaseError) {
        if code == SQLITE_OK { return }
        let words = handle.map { String(cString: sqlite3_errmsg($0)) } ?? String(cString: sqlite3_errstr(code))
        let kind: DatabaseError.Kind =
            switch code & 0xff {
            case SQLITE_FULL: .full
            case SQLITE_CORRUPT, SQLITE_NOTADB: .damaged
            case SQLITE_BUSY, SQLITE_LOCKED: .inUse
            case SQLITE_TOOBIG: .tooBig
            default: .failed
            }
        throw DatabaseError(kind, "\(path): \(doing): \(words)")
    }
}
