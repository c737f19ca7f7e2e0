public import SAFTypes

/// An ordered key-value database in a file, of one process: what is applied is there after a crash of anything.
///
/// The one interface to whatever engine is underneath; `Tests/DBALTests` holds every engine to it. One thread at a
/// time.
/// Every call may wait for the disk: daemons make them on their slow worker.
public protocol Database: AnyObject {
    /// All changes or none, in their order; durable when this returns.
    ///
    /// Many changes in one call cost one write to the disk (group commit).
    ///
    /// - Throws: `.full`, `.failed`: nothing was changed; `.damaged`; `.closed`.
    func apply(_ changes: [DatabaseChange]) throws(DatabaseError)

    /// Nil when there is none.
    func value(of key: [UInt8]) throws(DatabaseError) -> [UInt8]?

    /// The records from `key` on, itself included, in the order of the keys' bytes; at most `limit`.
    func records(from key: [UInt8], limit: Int) throws(DatabaseError) -> [DatabaseRecord]

    /// Afterwards every call throws `.closed`. Idempotent; `deinit` does it too.
    func close()
}

extension Database {
    /// The records whose keys begin with `prefix`, in order; at most `limit`.
    public func records(withPrefix prefix: [UInt8], limit: Int = .max) throws(DatabaseError) -> [DatabaseRecord] {
        var found: [DatabaseRecord] = []
        var next = prefix
        while found.count < limit {
            let page = try records(from: next, limit: min(DatabaseLimits.pageRecords, limit - found.count))
            found += page.prefix { $0.key.starts(with: prefix) }
            guard page.count == DatabaseLimits.pageRecords, let last = page.last, last.key.starts(with: prefix) else {
                break
            }
            next = last.key + [0]  // the smallest key behind it
        }
        return found
    }

    public func put(_ key: [UInt8], _ value: [UInt8]) throws(DatabaseError) {
        try apply([.put(key: key, value: value)])
    }
    public func delete(_ key: [UInt8]) throws(DatabaseError) { try apply([.delete(key: key)]) }
}

public struct DatabaseRecord: Hashable, Sendable {
    public var key: [UInt8]
    public var value: [UInt8]

    public init(key: [UInt8], value: [UInt8]) {
        self.key = key
        self.value = value
    }
}

public enum DatabaseChange: Hashable, Sendable {
    /// Inserts, or replaces the value.
    case put(key: [UInt8], value: [UInt8])
    /// Nothing when there is no such key.
    case delete(key: [UInt8])

    public var key: [UInt8] {
        switch self {
        case .put(let key, _), .delete(let key): key
        }
    }
}

/// What any engine takes.
public enum DatabaseLimits {
    public static let keyBytesMax = 4_096
    public static let valueBytesMax = 256 << 20
    /// Records that ``Database/records(withPrefix:limit:)`` asks for at a time.
    static let pageRecords = 256

    /// - Throws: `.tooBig` with what is too big.
    static func check(_ changes: [DatabaseChange]) throws(DatabaseError) {
        for change in changes {
            guard (1...keyBytesMax).contains(change.key.count) else {
                throw DatabaseError(.tooBig, "a key of \(change.key.count) bytes; 1 to \(keyBytesMax) expected")
            }
            if case .put(_, let value) = change, value.count > valueBytesMax {
                throw DatabaseError(.tooBig, "a value of \(value.count) bytes; at most \(valueBytesMax) expected")
            }
        }
    }
}

/// Why a database call failed; `text` names the file and what the engine said.
public struct DatabaseError: Error, Hashable, Sendable {
    public enum Kind: Hashable, Sendable {
        /// No space on the disk; nothing was changed.
        case full
        /// The file is not a database of this engine, or its content contradicts itself.
        case damaged
        /// The file has another format than this build writes.
        case otherFormat
        /// Another process has it open.
        case inUse
        /// There is none, and none was to be made; nothing was written.
        case absent
        /// The engine's library is not on this machine.
        case missing
        case tooBig
        /// This process can have no more memory; nothing was changed.
        case noMemory
        case closed
        /// Anything else; nothing was changed.
        case failed
    }

    public var kind: Kind
    public var text: Words

    public init(_ kind: Kind, _ text: Words) {
        self.kind = kind
        self.text = text
    }
}

#if !SAF_LIBRARY
    extension DatabaseError: CustomStringConvertible {
        public var description: String { text }
    }
#endif
