import Containers
import LogProtocol
public import SAFTypes

/// Records of one node, in their order. node · incarnation u64 · first u64 · count u32 · records.
///
/// Each node counts the records it accepted, from 1, for as long as its spool lives (`incarnation`).
public struct RecordBatch: Hashable, Sendable, WireCodable {
    public var node: NodeID
    public var incarnation: UInt64
    public var first: UInt64
    public var count: UInt32
    /// Frames of ``GlobalRecord``. Empty: these records were acknowledged by an owner that is gone, and are not here.
    public var records: [UInt8]

    public init(node: NodeID, incarnation: UInt64, first: UInt64, count: UInt32, records: [UInt8]) {
        (self.node, self.incarnation, self.first) = (node, incarnation, first)
        (self.count, self.records) = (count, records)
    }

    public static let recordBytesMax = 256 * 1024

    public var last: UInt64 { first &+ UInt64(count) &- 1 }

    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(incarnation)
        writer.integer(first)
        writer.integer(count)
        writer.byteString(records)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        incarnation = try reader.integer()
        first = try reader.integer()
        count = try reader.integer()
        guard first > 0, count > 0, first < 1 << 62 else { throw .badValue("records \(first) and \(count) more") }
        records = try reader.byteString(max: Self.recordBytesMax)
        guard !records.isEmpty else { return }
        let found = try GlobalRecord.count(records)
        guard found == count else { throw .badValue("\(found) records; \(count) announced") }
    }
}

/// One step of the ledger: the total order of all records of all global streams. number u64 · epoch u64 · batch.
public struct LedgerEntry: Hashable, Sendable, WireCodable {
    public var position: LedgerPosition
    public var batch: RecordBatch

    public init(position: LedgerPosition, batch: RecordBatch) { (self.position, self.batch) = (position, batch) }

    public var number: UInt64 { position.number }
    /// What it takes in memory and on the way, about.
    public var bytes: Int { batch.records.count + 64 }

    public func encode(to writer: inout ByteWriter) {
        writer.value(position)
        writer.value(batch)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        position = try reader.value()
        batch = try reader.value()
    }
}

/// What a ledger amounts to: its end, which owners numbered how far, and what it has of each node.
///
/// version u8 (1) · position · epochs (epoch u64, last u64) · origins (node, incarnation u64, last u64) ·
/// counts (stream, u64).
public struct LedgerState: Hashable, Sendable, WireCodable {
    public struct Origin: Hashable, Sendable {
        public var incarnation: UInt64
        public var last: UInt64
        public init(incarnation: UInt64, last: UInt64) { (self.incarnation, self.last) = (incarnation, last) }
    }

    static let epochsMax = 256

    public private(set) var position = LedgerPosition()
    /// The last number of each epoch, ascending.
    public private(set) var epochs: [LedgerPosition] = []
    public private(set) var origins: OrderedMap<NodeID, Origin> = [:]
    /// How many records each stream has had: their numbers in its files. Streams that ended long ago are forgotten.
    public private(set) var counts: OrderedMap<StreamID, UInt64> = [:]
    static let countsMax = 512

    public init() {}

    public var number: UInt64 { position.number }

    /// Takes the next entry; false when it does not follow.
    public mutating func apply(_ entry: LedgerEntry) -> Bool {
        guard entry.number == position.number + 1, entry.position.epoch >= position.epoch else { return false }
        position = entry.position
        if epochs.last?.epoch == position.epoch { epochs.removeLast() }
        epochs.append(position)
        if epochs.count > Self.epochsMax { epochs.removeFirst() }
        origins[entry.batch.node] = Origin(incarnation: entry.batch.incarnation, last: entry.batch.last)
        count(entry.batch)
        return true
    }

    private mutating func count(_ batch: RecordBatch) {
        batch.records.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            // Both were checked when the batch was decoded.
            while let stream = try? GlobalRecord.skip(&reader) { counts[stream, default: 0] += 1 }
        }
        while counts.count > Self.countsMax,
            let oldest = counts.first(after: StreamID(rawValue: UInt32(UInt8.max)))?.key
        {
            counts[oldest] = nil
        }
    }

    /// The number of the last entry that two ledgers certainly have in common. What one owner has numbered begins
    /// alike in all ledgers, and so does all that was before.
    public static func common(_ left: [LedgerPosition], _ right: [LedgerPosition]) -> UInt64 {
        for one in left.reversed() {
            if let other = right.last(where: { $0.epoch == one.epoch }) { return min(one.number, other.number) }
        }
        return 0
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(UInt8(1))
        writer.value(position)
        writer.list(epochs)
        writer.integer(UInt32(origins.count))
        for (node, origin) in origins {
            writer.value(node)
            writer.integer(origin.incarnation)
            writer.integer(origin.last)
        }
        writer.integer(UInt32(counts.count))
        for (stream, count) in counts {
            writer.value(stream)
            writer.integer(count)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt8.self)
        guard version == 1 else { throw .badValue("ledger version \(version); 1 expected") }
        position = try reader.value()
        epochs = try reader.list(max: Self.epochsMax)
        let count = try reader.integer(UInt32.self)
        guard count <= 65_536 else { throw .badValue("\(count) nodes") }
        for _ in 0..<count {
            let node: NodeID = try reader.value()
            let origin = Origin(incarnation: try reader.integer(), last: try reader.integer())
            guard origin.last < LedgerPosition.max else { throw .badValue("record \(origin.last)") }
            origins[node] = origin
        }
        let streams = try reader.integer(UInt32.self)
        guard streams <= Self.countsMax else { throw .badValue("\(streams) streams") }
        for _ in 0..<streams {
            let stream: StreamID = try reader.value()
            let count = try reader.integer(UInt64.self)
            guard count < LedgerPosition.max else { throw .badValue("\(count) records") }
            counts[stream] = count
        }
    }
}
