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
/// Key 2 · id: version u16 · number u64, of a persistent checkpoint that is no more; they went as they are numbered.
/// However fast checkpoints change, of each only the last state waits; so what waits is bounded by how many there are.
public struct DirectoryRecords: Sendable {
    /// Version 1 did not say which replica was active, version 2 not who had left, nor what is no more.
    static let versions: ClosedRange<UInt16> = 1...3
    public static let batchMax = 1_000

    private static let stampKey: [UInt8] = [0]
    public static let checkpointPrefix: [UInt8] = [1]
    private static let buriedPrefix: [UInt8] = [2]

    /// Nil: it is to be deleted.
    private var waiting = OrderedMap<CheckpointID, RememberedCheckpoint?>()
    private var stamp = DirectoryStamp(began: 0, index: 0)
    private var isStampWaiting = false
    /// What is in the database, or in the batch that is under way.
    private var stored: OrderedMap<CheckpointID, RememberedCheckpoint>
    public private(set) var isWriting = false
    /// What is no more, as the database has it or will.
    private var buried: Graveyard
    /// Of that; false: it is to be deleted.
    private var waitingBuried = OrderedMap<CheckpointID, Bool>()

    /// - Parameter stored: what the database has.
    public init(_ stored: [RememberedCheckpoint] = [], buried: Graveyard = Graveyard()) {
        self.stored = OrderedMap(stored.map { ($0.id, $0) })
        self.buried = buried
    }

    /// A majority has decided this of a checkpoint; nil: it is no more.
    ///
    /// - Parameter isBuried: nor may it come again.
    public mutating func put(
        _ id: CheckpointID, _ entry: DirectoryEntry?, isBuried: Bool = false, at stamp: DirectoryStamp
    ) {
        self.stamp = max(self.stamp, stamp)
        if isBuried, entry?.isUnlinked ?? true { bury(id) }
        let known = entry.flatMap { RememberedCheckpoint($0) }
        if known == stored[id] {
            waiting.removeValue(forKey: id)
        } else {
            waiting.updateValue(known, forKey: id)
        }
        isStampWaiting = true
    }

    private mutating func bury(_ id: CheckpointID) {
        guard !buried.contains(id) else { return }
        if let oldest = buried.insert(id) { waitingBuried.updateValue(false, forKey: oldest) }
        waitingBuried.updateValue(true, forKey: id)
    }

    /// The directory is another as a whole.
    public mutating func replace(
        by entries: OrderedMap<CheckpointID, DirectoryEntry>, buried: Graveyard = Graveyard(),
        at stamp: DirectoryStamp
    ) {
        self.stamp = stamp
        isStampWaiting = true
        waiting.removeAll()
        for id in stored.keys where !entries.contains(id) { waiting.updateValue(nil, forKey: id) }
        for id in self.buried.ids where !buried.contains(id) {
            self.buried.remove(id)
            waitingBuried.updateValue(false, forKey: id)
        }
        for id in buried.ids { bury(id) }
        for (id, entry) in entries { put(id, entry, at: stamp) }
    }

    /// The next batch; nil when there is nothing to write, or one is being written. The stamp comes with the last: what
    /// is written by halves does not pass for newer than it is.
    public mutating func next() -> [DirectoryRecord]? {
        guard !isWriting, isStampWaiting || !waiting.isEmpty || !waitingBuried.isEmpty else { return nil }
        var batch: [DirectoryRecord] = []
        // First: what is no more is known to be so before it is forgotten that it was.
        while batch.count < Self.batchMax, let (id, isThere) = waitingBuried.popFirst() {
            let number = isThere ? buried.number(of: id) : nil
            batch.append(DirectoryRecord(key: Self.key(id, Self.buriedPrefix), value: number.map { Self.value($0) }))
        }
        while batch.count < Self.batchMax, let (id, known) = waiting.popFirst() {
            stored[id] = known
            batch.append(DirectoryRecord(key: Self.key(id), value: known.map(Self.value)))
        }
        if waiting.isEmpty, waitingBuried.isEmpty {
            batch.append(DirectoryRecord(key: Self.stampKey, value: Self.value(stamp)))
            isStampWaiting = false
        }
        isWriting = true
        return batch
    }

    /// The batch is in the database.
    public mutating func written() { isWriting = false }

    /// The database is gone: everything has to be written again.
    public mutating func lost(
        _ entries: OrderedMap<CheckpointID, DirectoryEntry>, buried: Graveyard = Graveyard(), at stamp: DirectoryStamp
    ) {
        isWriting = false
        stored.removeAll()
        self.buried = Graveyard()
        replace(by: entries, buried: buried, at: stamp)
    }

    // MARK: Form

    private static func key(_ id: CheckpointID, _ prefix: [UInt8] = checkpointPrefix) -> [UInt8] {
        prefix + withUnsafeBytes(of: id.rawValue.bigEndian) { Array($0) }
    }

    private static func value(_ value: some WireCodable) -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(versions.upperBound)
        writer.value(value)
        return writer.bytes
    }

    private static func value(_ number: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(versions.upperBound)
        writer.integer(number)
        return writer.bytes
    }

    /// What a database says.
    public struct Content: Sendable {
        public var stamp: DirectoryStamp
        public var checkpoints: [RememberedCheckpoint]
        public var buried: Graveyard
    }

    /// Nil for one that has never been written to the end.
    ///
    /// - Parameter records: all of it, ascending by key.
    /// - Throws: a record that is none, or of another version.
    public static func decode(
        _ records: [(key: [UInt8], value: [UInt8])]
    ) throws(DecodeError) -> Content? {
        var stamp: DirectoryStamp?
        var checkpoints: [RememberedCheckpoint] = []
        var buried: [(number: UInt64, id: CheckpointID)] = []
        for record in records {
            if record.key == stampKey {
                stamp = try decode(record.value) { reader, _ throws(DecodeError) in try reader.value() }
            } else if record.key.count == 9, record.key.starts(with: checkpointPrefix) {
                let known: RememberedCheckpoint = try decode(record.value) { reader, version throws(DecodeError) in
                    try RememberedCheckpoint(decoding: &reader, version: version)
                }
                guard key(known.id) == record.key else { throw .badValue("checkpoint \(known.id) under another's key") }
                checkpoints.append(known)
            } else if record.key.count == 9, record.key.starts(with: buriedPrefix) {
                let number: UInt64 = try decode(record.value) { reader, _ throws(DecodeError) in try reader.integer() }
                let id = record.key.dropFirst().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
                buried.append((number, CheckpointID(rawValue: id)))
            } else {
                throw .badValue(
                    "key \(record.key.prefix(16)) of \(record.key.count) octets; 0, or 1 or 2 and an id expected")
            }
        }
        return stamp.map { Content(stamp: $0, checkpoints: checkpoints, buried: Graveyard(buried)) }
    }

    private static func decode<Value>(
        _ bytes: [UInt8], _ read: (inout ByteReader, UInt16) throws(DecodeError) -> Value
    ) throws(DecodeError) -> Value {
        guard bytes.count >= 2 else { throw .truncated(needed: 2, remaining: bytes.count) }
        let version = UInt16(bytes[0]) | UInt16(bytes[1]) << 8
        guard versions.contains(version) else {
            throw .badValue("a record of version \(version); \(versions) expected")
        }
        let outcome = bytes.withUnsafeBytes { raw -> Result<Value, DecodeError> in
            var reader = ByteReader(raw)
            do throws(DecodeError) {
                _ = try reader.integer(UInt16.self)
                let value = try read(&reader, version)
                try reader.finish()
                return .success(value)
            } catch {
                return .failure(error)
            }
        }
        return try outcome.get()
    }
}
