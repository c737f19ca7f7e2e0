import IOCGroups
import SAFTypes

/// Names a round: the ring, and who was in the group when it began.
struct RingRound: Hashable, Sendable {
    var ring: RingID
    var list: UInt64

    init(ring: RingID, processes: [RingProcess]) {
        self.ring = ring
        list = processes.sorted().reduce(UInt64(processes.count)) {
            RingHash.mix($0, UInt64($1.node) << 32 | UInt64($1.pid))
        }
    }

    var hash: UInt64 { RingHash.mix(RingHash.mix(UInt64(ring.node), ring.sequence), list) }
}

/// What a process says of itself in a round.
struct RingAnnouncement: Hashable, Sendable {
    var incarnation: UInt64
    /// Which announcement of this life it is: no two views are made of the same.
    var number: UInt32
    var isQuorate: Bool
    var nodesExpected: UInt16

    func member(_ process: RingProcess) -> GroupMember {
        GroupMember(node: NodeID(process.node), incarnation: incarnation)
    }

    func hash(_ process: RingProcess) -> UInt64 {
        let who = RingHash.mix(UInt64(process.node) << 32 | UInt64(process.pid), incarnation)
        return RingHash.mix(who, UInt64(number) << 1 | (isQuorate ? 1 : 0))
    }
}

/// What goes through CPG. version u8 (1) · kind u8 · body.
enum RingMessage: Hashable, Sendable {
    /// Kind 0: the bytes of a message of the group.
    case data([UInt8])
    /// Kind 1: ring · list u64 · incarnation u64 · number u32 · quorate u8 · nodes expected u16.
    case announcement(RingRound, RingAnnouncement)
    /// Kind 2: ring · list u64. The round has waited long enough.
    case close(RingRound)
    /// Kind 3: ring · quorate u8. The quorum of a ring changed.
    case quorum(RingID, isQuorate: Bool)

    static let version: UInt8 = 1
    static let headerBytes = 2
}

extension RingMessage: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(Self.version)
        switch self {
        case .data(let bytes):
            writer.integer(UInt8(0))
            writer.raw(bytes)
        case .announcement(let round, let announcement):
            writer.integer(UInt8(1))
            writer.value(round)
            writer.integer(announcement.incarnation)
            writer.integer(announcement.number)
            writer.bool(announcement.isQuorate)
            writer.integer(announcement.nodesExpected)
        case .close(let round):
            writer.integer(UInt8(2))
            writer.value(round)
        case .quorum(let ring, let isQuorate):
            writer.integer(UInt8(3))
            writer.value(ring)
            writer.bool(isQuorate)
        }
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt8.self)
        guard version == Self.version else { throw .badValue("message of version \(version); 1 expected") }
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 0: self = .data(try reader.raw(reader.remaining))
        case 1:
            let round: RingRound = try reader.value()
            self = .announcement(
                round,
                RingAnnouncement(
                    incarnation: try reader.integer(), number: try reader.integer(), isQuorate: try reader.bool(),
                    nodesExpected: try reader.integer()))
        case 2: self = .close(try reader.value())
        case 3: self = .quorum(try reader.value(), isQuorate: try reader.bool())
        default: throw .badValue("message of kind \(kind); 0 to 3 expected")
        }
    }
}

/// node u32 · sequence u64.
extension RingID: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(node)
        writer.integer(sequence)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.integer()
        sequence = try reader.integer()
    }
}

/// ring · list u64.
extension RingRound: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.value(ring)
        writer.integer(list)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        ring = try reader.value()
        list = try reader.integer()
    }
}

/// A 64-bit mixture that is the same in every process.
enum RingHash {
    static func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
        var mixed = (left ^ (right &* 0x9E37_79B9_7F4A_7C15)) &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
