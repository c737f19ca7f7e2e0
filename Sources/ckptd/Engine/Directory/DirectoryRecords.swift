public import CkptProtocol
import Containers
public import SAFTypes

/// A change to the database of the directory: key and value as they lie there; no value: deleted.
public struct DirectoryRecord: Hashable, Sendable {
    public var key: [UInt8]
    public var value: [UInt8]?
}

/// The database of the directory on a controller: what is to be written, one batch at a time, and what was read.
///
/// Key 0: version u16 · stamp. Key 1 · id (big-endian, so that they lie in their order): version u16 · checkpoint.
/// However fast checkpoints change, of each only the last state waits; so what waits is bounded by how many there are.
public struct DirectoryRecords: Sendable {
    /// Version 1 did not say which replica was active.
    static let versions: ClosedRange<UInt16> = 1...2
    public static let batchMax = 1_000

    private static let stampKey: [UInt8] = [0]
    public static let checkpointPrefix: [UInt8] = [1]

    /// Nil: it is to be deleted.
    private var waiting = OrderedMap<CheckpointID, RememberedCheckpoint?>()
    private var stamp = DirectoryStamp(began: 0, index: 0)
    private var isStampWaiting = false
    /// What is in the database, or in the batch that is under way.
    private var stored: OrderedMap<CheckpointID, RememberedCheckpoint>
    public private(set) var isWriting = false

    /// - Parameter stored: what the database has.
    public init(_ stored: [RememberedCheckpoint] = []) {
        self.stored = OrderedMap(stored.map { ($0.id, $0) })
    }

    /// A majority has decided this of a checkpoint; nil: it is no more.
    public mutating func put(_ id: CheckpointID, _ entry: DirectoryEntry?, at stamp: DirectoryStamp) {
        self.stamp = max(self.stamp, stamp)
        let known = entry.flatMap { RememberedCheckpoint($0) }
        if known == stored[id] {
            waiting.removeValue(forKey: id)
        } else {
            waiting.updateValue(known, forKey: id)
        }
        isStampWaiting = true
    }

    /// The directory is another as a whole.
    public mutating func replace(by entries: OrderedMap<CheckpointID, DirectoryEntry>, at stamp: DirectoryStamp) {
        self.stamp = stamp
        isStampWaiting = true
        waiting.removeAll()
        for id in stored.keys where !entries.contains(id) { waiting.updateValue(nil, forKey: id) }
        for (id, entry) in entries { put(id, entry, at: stamp) }
    }

    /// The next batch; nil when there is nothing to write, or one is being written. The stamp comes with the last: what
    /// is written by halves does not pass for newer than it is.
    public mutating func next() -> [DirectoryRecord]? {
        guard !isWriting, isStampWaiting || !waiting.isEmpty else { return nil }
        var batch: [DirectoryRecord] = []
        while batch.count < Self.batchMax, let (id, known) = waiting.popFirst() {
            stored[id] = known
            batch.append(DirectoryRecord(key: Self.key(id), value: known.map(Self.value)))
        }
        if waiting.isEmpty {
            batch.append(DirectoryRecord(key: Self.stampKey, value: Self.value(stamp)))
            isStampWaiting = false
        }
        isWriting = true
        return batch
    }

    /// The batch is in the database.
    public mutating func written() { isWriting = false }

    /// The database is gone: everything has to be written again.
    public mutating func lost(_ entries: OrderedMap<CheckpointID, DirectoryEntry>, at stamp: DirectoryStamp) {
        isWriting = false
        stored.removeAll()
        replace(by: entries, at: stamp)
    }

    // MARK: Form

    private static func key(_ id: CheckpointID) -> [UInt8] {
        checkpointPrefix + withUnsafeBytes(of: id.rawValue.bigEndian) { Array($0) }
    }

    private static func value(_ value: some WireCodable) -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(versions.upperBound)
        writer.value(value)
        return writer.bytes
    }

    /// What a database says; nil for one that has never been written to the end.
    ///
    /// - Parameter records: all of it, ascending by key.
    /// - Throws: a record that is none, or of another version.
    public static func decode(
        _ records: [(key: [UInt8], value: [UInt8])]
    ) throws(DecodeError) -> (stamp: DirectoryStamp, checkpoints: [RememberedCheckpoint])? {
        var stamp: DirectoryStamp?
        var checkpoints: [RememberedCheckpoint] = []
        for record in records {
            if record.key == stampKey {
                stamp = try decode(record.value)
            } else if record.key.count == 9, record.key.starts(with: checkpointPrefix) {
                let known: RememberedCheckpoint = try decode(record.value, since2: [0])
                guard key(known.id) == record.key else { throw .badValue("checkpoint \(known.id) under another's key") }
                checkpoints.append(known)
            } else {
                throw .badValue(
                    "key \(record.key.prefix(16)) of \(record.key.count) octets; 0, or 1 and an id expected")
            }
        }
        return stamp.map { ($0, checkpoints) }
    }

    /// - Parameter since2: what stands for the fields that came with version 2, at the end.
    private static func decode<Value: WireCodable>(
        _ bytes: [UInt8], since2: [UInt8] = []
    ) throws(DecodeError) -> Value {
        guard bytes.count >= 2 else { throw .truncated(needed: 2, remaining: bytes.count) }
        let version = UInt16(bytes[0]) | UInt16(bytes[1]) << 8
        guard versions.contains(version) else {
            throw .badValue("a record of version \(version); \(versions) expected")
        }
        return try Value(decoding: Array(bytes.dropFirst(2)) + (version == 1 ? since2 : []))
    }
}
