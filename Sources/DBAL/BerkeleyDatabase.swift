internal import CBerkeleyDB
internal import OSAL

/// Berkeley DB: a B-tree with checksums in `path`, its transaction log in the folder `path-log`. Both belong together.
///
/// Source: Berkeley DB 5.3, Transactional Data Store. The environment is private to the process and recovered whenever
/// it is opened; a commit is durable when it returns.
public final class BerkeleyDatabase: Database {
    private typealias Environment = UnsafeMutablePointer<DB_ENV>
    private typealias Handle = UnsafeMutablePointer<DB>

    private static let mark: [UInt8] = Array("SwiftSAF 1".utf8)
    private static let pageBytes: UInt32 = 4_096
    private static let cacheBytes: UInt32 = 8 << 20
    /// Log that a restart has to go through at most, in KiB.
    private static let checkpointKibibytes: UInt32 = 4_096

    private let path: String
    private let library: BerkeleyLibrary
    private let words = BerkeleyWords()
    /// Held while it is open.
    private var lock: SharedDescriptor?
    private var environment: Environment?
    private var handle: Handle?
    private var isClosed = false
    /// libdb refuses everything until its log has been gone through again.
    private var isBroken = false

    /// - Throws: `.missing`, `.damaged`, `.otherFormat`, `.inUse`, `.full`, `.failed`.
    public init(path: String) throws(DatabaseError) {
        self.path = path
        library = try BerkeleyLibrary.open()
        do throws(OSError) {
            try File.makeDirectories(path + "-log", mode: 0o700)
            guard let lock = try File.fileLock(path + "-log/owner") else {
                throw OSError(code: 0, call: "flock", subject: path)
            }
            self.lock = SharedDescriptor(lock)
        } catch {
            if error.code == 0 { throw DatabaseError(.inUse, "\(path): another process has it open") }
            throw DatabaseError(error, path)
        }
        do throws(DatabaseError) { try start() } catch {
            stop()
            throw error
        }
    }

    deinit { close() }

    public func close() {
        if !isClosed, let environment { _ = environment.pointee.txn_checkpoint(environment, 0, 0, 0) }
        isClosed = true
        stop()
        if let lock { File.releaseLock(lock.raw) }
        lock = nil
    }

    public func apply(_ changes: [DatabaseChange]) throws(DatabaseError) {
        try DatabaseLimits.check(changes)
        let (environment, handle) = try opened()
        do throws(DatabaseError) {
            try transaction(environment) { (transaction) throws(DatabaseError) in
                for change in changes { try perform(change, handle, transaction) }
            }
        } catch {
            isBroken = true
            throw error
        }
        // Only shortens the log; if it fails the log stays as long as it is.
        _ = environment.pointee.txn_checkpoint(environment, Self.checkpointKibibytes, 0, 0)
    }

    public func value(of key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        let (_, handle) = try opened()
        return try read(handle, [1] + key)
    }

    public func records(from key: [UInt8], limit: Int) throws(DatabaseError) -> [DatabaseRecord] {
        let (_, handle) = try opened()
        guard limit > 0 else { return [] }
        var cursor: UnsafeMutablePointer<DBC>?
        try check(handle.pointee.cursor(handle, nil, &cursor, 0), "cursor")
        guard let cursor else { throw DatabaseError(.failed, "\(path): no cursor") }
        defer { _ = cursor.pointee.close(cursor) }
        var found: [DatabaseRecord] = []
        var (place, value) = (DBT(), DBT())
        var code = Self.with([1] + key) { bytes in
            place = bytes
            return cursor.pointee.get(cursor, &place, &value, UInt32(DB_SET_RANGE))
        }
        while code == 0 {
            found.append(DatabaseRecord(key: Array(Self.bytes(place).dropFirst()), value: Self.bytes(value)))
            if found.count == limit { return found }
            code = cursor.pointee.get(cursor, &place, &value, UInt32(DB_NEXT))
        }
        if code != DB_NOTFOUND { try check(code, "next record") }
        return found
    }

    // MARK: Handles

    /// After a failure the environment is opened anew, which goes through its log.
    private func opened() throws(DatabaseError) -> (Environment, Handle) {
        if isClosed { throw DatabaseError(.closed, "\(path) is closed") }
        if isBroken { stop() }
        if handle == nil {
            do throws(DatabaseError) { try start() } catch {
                stop()
                throw error
            }
        }
        guard let environment, let handle else { throw DatabaseError(.closed, "\(path) is closed") }
        return (environment, handle)
    }

    private func start() throws(DatabaseError) {
        words.last = ""
        isBroken = false
        var made: Environment?
        try check(library.makeEnvironment(&made, 0), "db_env_create")
        guard let made else { throw DatabaseError(.failed, "\(path): no environment") }
        environment = made
        made.pointee.app_private = Unmanaged.passUnretained(words).toOpaque()
        made.pointee.set_errcall(made, BerkeleyWords.note)
        let name = String(path[path.index(path.startIndex, offsetBy: Self.folderLength(path))...])
        try check(made.pointee.set_lg_dir(made, name + "-log"), "set_lg_dir")
        try check(made.pointee.set_cachesize(made, 0, Self.cacheBytes, 1), "set_cachesize")
        try check(made.pointee.log_set_config(made, UInt32(DB_LOG_AUTO_REMOVE), 1), "log_set_config")
        let parts = DB_INIT_LOG | DB_INIT_MPOOL | DB_INIT_TXN
        let flags = UInt32(DB_CREATE | DB_PRIVATE | DB_RECOVER | parts)
        try check(made.pointee.open(made, File.parent(of: path), flags, 0o600), "open")
        try open(name, made)
    }

    private func open(_ name: String, _ environment: Environment) throws(DatabaseError) {
        var made: Handle?
        try check(library.makeDatabase(&made, environment, 0), "db_create")
        guard let made else { throw DatabaseError(.failed, "\(path): no database") }
        handle = made
        try check(made.pointee.set_flags(made, UInt32(DB_CHKSUM)), "set_flags")
        try check(made.pointee.set_pagesize(made, Self.pageBytes), "set_pagesize")
        let isNew = !File.exists(path)
        // A new file and its mark come into being together.
        try transaction(environment) { (transaction) throws(DatabaseError) in
            let code = made.pointee.open(made, transaction, name, nil, DB_BTREE, UInt32(DB_CREATE), 0o600)
            if code == Self.invalid || code == DB_OLD_VERSION {
                throw DatabaseError(.damaged, "\(path): open: \(said(code))")
            }
            try check(code, "open")
            if isNew { try put([0], Self.mark, made, transaction) }
        }
        let mark = try read(made, [0])
        guard mark == Self.mark else {
            let found = mark.map { "format '\(String(decoding: $0, as: UTF8.self))'" } ?? "no mark of this program"
            throw DatabaseError(.otherFormat, "\(path): \(found); 'SwiftSAF 1' expected")
        }
    }

    private func stop() {
        if let handle { _ = handle.pointee.close(handle, 0) }
        handle = nil
        if let environment { _ = environment.pointee.close(environment, 0) }
        environment = nil
    }

    private static func folderLength(_ path: String) -> Int {
        path.lastIndex(of: "/").map { path.distance(from: path.startIndex, to: $0) + 1 } ?? 0
    }

    // MARK: Records

    private func transaction(
        _ environment: Environment,
        _ body: (UnsafeMutablePointer<DB_TXN>) throws(DatabaseError) -> Void
    ) throws(DatabaseError) {
        var begun: UnsafeMutablePointer<DB_TXN>?
        try check(environment.pointee.txn_begin(environment, nil, &begun, 0), "begin")
        guard let begun else { throw DatabaseError(.failed, "\(path): no transaction") }
        do throws(DatabaseError) { try body(begun) } catch {
            _ = begun.pointee.abort(begun)
            throw error
        }
        try check(begun.pointee.commit(begun, 0), "commit")  // ends it, done or not
    }

    private func perform(
        _ change: DatabaseChange, _ handle: Handle, _ transaction: UnsafeMutablePointer<DB_TXN>
    ) throws(DatabaseError) {
        switch change {
        case .put(let key, let value): try put([1] + key, value, handle, transaction)
        case .delete(let key):
            let code = Self.with([1] + key) { bytes in
                var key = bytes
                return handle.pointee.del(handle, transaction, &key, 0)
            }
            if code != DB_NOTFOUND { try check(code, "delete") }
        }
    }

    private func put(
        _ key: [UInt8], _ value: [UInt8], _ handle: Handle, _ transaction: UnsafeMutablePointer<DB_TXN>
    ) throws(DatabaseError) {
        let code = Self.with(key) { key in
            Self.with(value) { value in
                var (key, value) = (key, value)
                return handle.pointee.put(handle, transaction, &key, &value, 0)
            }
        }
        try check(code, "put")
    }

    private func read(_ handle: Handle, _ key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        var value = DBT()
        let code = Self.with(key) { bytes in
            var key = bytes
            return handle.pointee.get(handle, nil, &key, &value, 0)
        }
        if code == DB_NOTFOUND { return nil }
        try check(code, "get")
        return Self.bytes(value)
    }

    private static func with(_ bytes: [UInt8], _ body: (DBT) -> Int32) -> Int32 {
        bytes.withUnsafeBytes { raw in
            var value = DBT()
            value.data = UnsafeMutableRawPointer(mutating: raw.baseAddress)
            value.size = UInt32(raw.count)
            return body(value)
        }
    }

    /// A copy: libdb's own memory is good until its next call only.
    private static func bytes(_ value: DBT) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: value.data, count: value.data == nil ? 0 : Int(value.size)))
    }

    // MARK: Errors

    /// EINVAL: the file is none of libdb's, or its log is not the one that it was written with.
    private static let invalid: Int32 = 22

    private func said(_ code: Int32) -> String {
        let number = library.words(code).map { String(cString: $0) } ?? "error \(code)"
        return words.last.isEmpty ? number : "\(number) (\(words.last))"
    }

    private func check(_ code: Int32, _ doing: String) throws(DatabaseError) {
        if code == 0 { return }
        if code == DB_RUNRECOVERY { isBroken = true }
        let error = OSError(code: code, call: "libdb")
        let kind: DatabaseError.Kind =
            switch code {
            case _ where error.isNoSpace: .full
            case DB_CHKSUM_FAIL, DB_PAGE_NOTFOUND, DB_VERIFY_BAD: .damaged
            case DB_RUNRECOVERY: words.isDamage ? .damaged : .failed
            case DB_VERSION_MISMATCH: .otherFormat
            default: .failed
            }
        throw DatabaseError(kind, "\(path): \(doing): \(said(code))")
    }
}
