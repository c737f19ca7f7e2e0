import EOReplicated
import EngineKit
import SAFTypes

/// Adds numbers; tells everybody the sum, and the adder that it was added; every tenth sum must be celebrated once.
struct SumEngine: ReplicatedEngine, Equatable {
    typealias Event = UInt64
    enum Effect: Hashable, Sendable { case sum(UInt64), added(UInt64), celebrate(UInt64) }

    var sum: UInt64 = 0
    var count: UInt64 = 0

    mutating func handle(_ event: UInt64, at now: Instant) -> [Effect] {
        sum &+= event
        count += 1
        return [.sum(sum), .added(event)] + (count % 10 == 0 ? [.celebrate(sum)] : [])
    }

    static func encode(_ event: UInt64, version: UInt16, to writer: inout ByteWriter) { writer.integer(event) }
    static func decodeEvent(version: UInt16, from reader: inout ByteReader) throws(DecodeError) -> UInt64 {
        try reader.integer()
    }
    func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) {
        writer.integer(sum)
        writer.integer(count)
    }
    init() {}
    init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        sum = try reader.integer()
        count = try reader.integer()
    }
    static func route(_ effect: Effect) -> EffectRoute<Celebration> {
        switch effect {
        case .sum: .everyMember
        case .added: .answer
        case .celebrate(let sum): .once(Celebration(sum: sum), by: .oldest)
        }
    }
}

struct Celebration: WireCodable, Hashable, Sendable {
    var sum: UInt64
    init(sum: UInt64) { self.sum = sum }
    func encode(to writer: inout ByteWriter) { writer.integer(sum) }
    init(decoding reader: inout ByteReader) throws(DecodeError) { sum = try reader.integer() }
}
