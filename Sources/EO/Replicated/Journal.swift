import EngineKit
import IOCGroups
import SAFTypes

/// What ``Replicated`` asks its shell to keep, before it performs anything that follows.
public enum JournalWrite: Hashable, Sendable {
    /// Add this record to the journal.
    case append([UInt8])
    /// Begin the journal anew with this record (a snapshot): what was there before is not needed any more, but must
    /// stay readable until the new beginning is complete (write aside, then rename or flip).
    case replace([UInt8])
}

/// Frames journal records so that a tail torn by a crash is found and dropped. Pure; the file is somebody else's.
///
/// Frame: length u32 (of the payload) · sequence u64 (1 more than the frame before) · checksum u32 (over sequence and
/// payload) · payload. The first frame of a journal has any sequence but 0, so zeroed memory is no frame.
public struct JournalFramer: Sendable {
    public typealias Checksum = @Sendable (UnsafeRawBufferPointer) -> UInt32

    public static let headerBytes = 16
    /// Larger lengths are taken for a torn frame.
    public static let payloadBytesMax = 1 << 30

    public private(set) var lastSequence: UInt64
    private let checksum: Checksum

    /// - Parameter after: ``JournalContents/lastSequence`` when a journal is carried on, 0 for a new one.
    public init(after lastSequence: UInt64 = 0, checksum: @escaping Checksum) {
        self.lastSequence = lastSequence
        self.checksum = checksum
    }

    public mutating func frame(_ payload: [UInt8]) -> [UInt8] {
        invariant(payload.count <= Self.payloadBytesMax, "a journal record of \(payload.count) bytes")
        lastSequence += 1
        var writer = ByteWriter(reserving: Self.headerBytes + payload.count)
        writer.integer(UInt32(payload.count))
        writer.integer(lastSequence)
        writer.integer(UInt32(0))
        writer.raw(payload)
        writer.patch(Self.sum(writer.bytes, payloadAt: Self.headerBytes, count: payload.count, checksum), at: 12)
        return writer.bytes
    }

    /// Reads as many whole frames as there are from the start of `bytes`.
    public static func read(_ bytes: [UInt8], checksum: Checksum) -> JournalContents {
        var contents = JournalContents()
        var offset = 0
        while bytes.count - offset >= headerBytes {
            let (length, sequence, sum) = bytes.withUnsafeBytes { raw in
                (
                    Int(UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: UInt32.self))),
                    UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset + 4, as: UInt64.self)),
                    UInt32(littleEndian: raw.loadUnaligned(fromByteOffset: offset + 12, as: UInt32.self))
                )
            }
            let start = offset + headerBytes
            guard length <= min(payloadBytesMax, bytes.count - start), sequence != 0 else { break }
            guard contents.records.isEmpty || sequence == contents.lastSequence &+ 1 else { break }
            guard Self.sum(bytes, payloadAt: start, count: length, checksum) == sum else { break }
            contents.records.append(Array(bytes[start..<(start + length)]))
            contents.lastSequence = sequence
            offset = start + length
        }
        contents.validBytes = offset
        contents.isTorn = bytes[offset...].contains { $0 != 0 }
        return contents
    }

    /// The sequence lies 12 bytes before the payload with the checksum between: summed as if the checksum were 0.
    private static func sum(_ bytes: [UInt8], payloadAt start: Int, count: Int, _ checksum: Checksum) -> UInt32 {
        var covered = Array(bytes[(start - 12)..<(start + count)])
        for index in 8..<12 { covered[index] = 0 }
        return covered.withUnsafeBytes { checksum($0) }
    }
}

/// What a journal held.
public struct JournalContents: Hashable, Sendable {
    /// The payloads, oldest first; the first is a snapshot if ``Replicated`` wrote them.
    public var records: [[UInt8]] = []
    public var lastSequence: UInt64 = 0
    /// Where the next frame belongs; what follows is not part of the journal.
    public var validBytes = 0
    /// Something that is no whole frame follows: the crash fell into a write. Unused zeroed space is not torn.
    public var isTorn = false

    public init() {}
}

/// One record. kind u8: 1 snapshot · epoch · state bytes to the end; 2 command · proposer · spoken u16 · command.
enum JournalRecord: Hashable, Sendable {
    case snapshot(Epoch, [UInt8])
    case command(Command, from: GroupMember, spoken: UInt16)
}

extension JournalRecord: WireCodable {
    func encode(to writer: inout ByteWriter) {
        switch self {
        case .snapshot(let epoch, let bytes):
            writer.integer(UInt8(1))
            writer.value(epoch)
            writer.raw(bytes)
        case .command(let command, let proposer, let spoken):
            writer.integer(UInt8(2))
            writer.value(proposer)
            writer.integer(spoken)
            writer.value(command)
        }
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1:
            let epoch: Epoch = try reader.value()
            self = .snapshot(epoch, try reader.raw(reader.remaining))
        case 2:
            let proposer: GroupMember = try reader.value()
            let spoken: UInt16 = try reader.integer()
            self = .command(try reader.value(), from: proposer, spoken: spoken)
        default: throw .badValue("journal record kind \(kind); 1 or 2 expected")
        }
    }
}

extension ReplicaState {
    /// Replays a journal: the state as it was, with what had been performed forgotten and what is pending kept.
    ///
    /// - Throws: when the first record is no readable snapshot, or a record does not fit: a journal of something else.
    static func replaying(_ records: [[UInt8]]) throws(DecodeError) -> (ReplicaState, Epoch) {
        guard let first = records.first, case .snapshot(let epoch, let bytes) = try JournalRecord(decoding: first)
        else {
            throw .badValue("the journal does not begin with a snapshot")
        }
        var state = try ReplicaState(decoding: bytes)
        for record in records.dropFirst() {
            switch try JournalRecord(decoding: record) {
            case .snapshot: throw .badValue("a snapshot inside the journal")
            case .command(let command, let proposer, let spoken):
                guard case .applied = state.apply(command, from: proposer, spoken: spoken) else {
                    throw .badValue("command \(command.sequence) of \(proposer) does not follow the one before")
                }
            }
        }
        return (state, epoch)
    }
}
