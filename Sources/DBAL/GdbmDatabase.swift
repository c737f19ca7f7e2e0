internal import Containers

/// GNU dbm: a hash file, which has neither an order nor transactions. So the file `path` is an image that is never
/// changed in place; what comes after it is in memory and in `path-log`, and now and then all of it becomes the next
/// image.
///
/// The keys and what the log holds are in memory, and while an image is written a copy of it: for small databases.
/// Source: gdbm(3), 1.23.
public final class GdbmDatabase: Database {
    /// Above this, and above the size of the image, the log becomes part of the next image.
    private static let logBytesMin = 1 << 20

    private let path: String
    private let library: GdbmLibrary
    private var log: ChangeLog?
    private var image: GdbmImage?
    /// Since the image; nil: deleted.
    private var recent = OrderedMap<DatabaseKey, [UInt8]?>()
    /// Of the log, when an image is tried next.
    private var foldAt = 0

    /// - Throws: `.missing`, `.damaged`, `.otherFormat`, `.inUse`, `.full`, `.failed`.
    public init(path: String) throws(DatabaseError) {
        self.path = path
        library = try GdbmLibrary.open()
        var recent = OrderedMap<DatabaseKey, [UInt8]?>()
        log = try ChangeLog(path + "-log", of: path) { Self.take($0, &recent) }
        self.recent = recent
        if let found = try GdbmImage.load(path, library) { image = found }
        foldAt = max(Self.logBytesMin, image?.size ?? 0)
    }

    deinit { close() }

    public func close() {
        log = nil
        image = nil
        recent = OrderedMap()
    }

    public func apply(_ changes: [DatabaseChange]) throws(DatabaseError) {
        try DatabaseLimits.check(changes)
        let log = try opened()
        if changes.isEmpty { return }
        try log.append(changes)
        for change in changes { Self.take(change, &recent) }
        if log.size >= foldAt { fold(log) }
    }

    public func value(of key: [UInt8]) throws(DatabaseError) -> [UInt8]? {
        _ = try opened()
        if let known = recent[DatabaseKey(key)] { return known }
        return try image?.value(of: key)
    }

    public func records(from key: [UInt8], limit: Int) throws(DatabaseError) -> [DatabaseRecord] {
        _ = try opened()
        var merge = Merge(image, recent, from: DatabaseKey(key))
        var found: [DatabaseRecord] = []
        while found.count < limit, let record = try merge.next() { found.append(record) }
        return found
    }

    private func opened() throws(DatabaseError) -> ChangeLog {
        guard let log else { throw DatabaseError(.closed, "\(path) is closed") }
        return log
    }

    private static func take(_ change: DatabaseChange, _ recent: inout OrderedMap<DatabaseKey, [UInt8]?>) {
        switch change {
        case .put(let key, let value): recent.updateValue(value, forKey: DatabaseKey(key))
        case .delete(let key): recent.updateValue(nil, forKey: DatabaseKey(key))
        }
    }

    /// Makes the next image. If that fails nothing is lost: the log goes on, and it is tried again when that has
    /// doubled.
    private func fold(_ log: ChangeLog) {
        do throws(DatabaseError) {
            var merge = Merge(image, recent, from: DatabaseKey([]))
            try GdbmImage.write(path, library) { () throws(DatabaseError) in try merge.next() }
            image = try GdbmImage.load(path, library)
            // Applying the log to this image again would change nothing: should clearing fail, that is what happens.
            recent = OrderedMap()
            try log.clear()
            foldAt = max(Self.logBytesMin, image?.size ?? 0)
        } catch {
            foldAt = 2 * max(log.size, Self.logBytesMin)
        }
    }
}

/// Image and what came after it, in the order of the keys.
private struct Merge {
    private let image: GdbmImage?
    private var index: Int
    private var recent: OrderedMap<DatabaseKey, [UInt8]?>.Entries
    private var ahead: (key: DatabaseKey, value: [UInt8]?)?

    init(_ image: GdbmImage?, _ recent: OrderedMap<DatabaseKey, [UInt8]?>, from key: DatabaseKey) {
        self.image = image
        index = image.map { Self.place(of: key, in: $0.keys) } ?? 0
        self.recent = recent.entries(from: key)
        ahead = self.recent.next()
    }

    mutating func next() throws(DatabaseError) -> DatabaseRecord? {
        while true {
            let old = image.flatMap { index < $0.keys.count ? $0.keys[index] : nil }
            if let ahead, old.map({ ahead.key <= $0 }) ?? true {
                if ahead.key == old { index += 1 }
                self.ahead = recent.next()
                if let value = ahead.value { return DatabaseRecord(key: ahead.key.bytes, value: value) }
                continue
            }
            guard let old, let image else { return nil }
            index += 1
            guard let value = try image.value(of: old.bytes) else { continue }
            return DatabaseRecord(key: old.bytes, value: value)
        }
    }

    /// The first that is not below `key`.
    private static func place(of key: DatabaseKey, in keys: [DatabaseKey]) -> Int {
        var (low, high) = (0, keys.count)
        while low < high {
            let middle = (low + high) / 2
            if keys[middle] < key { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
