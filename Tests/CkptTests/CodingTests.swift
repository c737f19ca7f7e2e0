import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptClient

@Suite("Values in sections")
struct CodingTests {
    struct Word: Codable, Hashable {
        enum Kind: String, Codable { case noun, verb }
        var text: String
        var count: Int
        var kind: Kind?
        var places: [UInt16]
    }

    struct Everything: Codable, Hashable {
        var flag = true
        var small: Int8 = -128
        var large: UInt64 = .max
        var least: Int64 = .min
        var float: Float = 1.5
        var double = -0.1
        var text = "Grüße, \u{1F600}"
        var raw: [UInt8] = [0, 1, 255]
        var none: Int?
        var some: Int? = 7
        var nested = [Word(text: "a", count: 3, kind: .verb, places: []), Word(text: "b", count: 0, places: [1, 9])]
        var table = ["x": 1.0, "y": 2]
        var numbered = [4: "four", -1: "minus one"]
        var choice = Choice.two(value: 5)
        var depths = [[[1], []], [[2, 3]]]
    }

    enum Choice: Codable, Hashable {
        case one
        case two(value: Int)
    }

    private func roundTrip<Value: Codable & Equatable>(_ value: Value) throws {
        let bytes = try CheckpointCoding.bytes(value)
        #expect(try CheckpointCoding.value(bytes, as: Value.self) == value)
    }

    @Test("What is written is read again: every kind of value")
    func roundTrips() throws {
        try roundTrip(Everything())
        try roundTrip([UInt8]((0..<200).map { UInt8($0) }))
        try roundTrip(5)
        try roundTrip("")
        try roundTrip(Int?.none)
        try roundTrip([String: [Int?]]())
        try roundTrip([Choice.one, .two(value: .min)])
        #expect(try CheckpointCoding.value(try CheckpointCoding.bytes(Double.nan), as: Double.self).isNaN)
    }

    @Test("It is small: bytes as they are, keys once")
    func size() throws {
        #expect(try CheckpointCoding.bytes([UInt8](repeating: 7, count: 1_000)).count == 1_004)
        let words = (0..<100).map { Word(text: "w", count: $0, places: []) }
        #expect(try CheckpointCoding.bytes(words).count < 100 * 16)
        #expect(try CheckpointCoding.bytes(true) == [1, 2])
    }

    @Test("The form does not change: a value of 1 has these bytes for ever")
    func goldenBytes() throws {
        struct Point: Codable { var x: Int, name: String, other: Float? }
        let bytes = try CheckpointCoding.bytes([Point(x: -1, name: "é", other: nil), Point(x: 300, name: "", other: 1)])
        #expect(
            bytes == [
                1, 9, 2,  // version, list of 2
                10, 2, 0, 1, 0x78, 3, 1, 0, 4, 0x6E, 0x61, 0x6D, 0x65, 7, 2, 0xC3, 0xA9,  // x: -1, name: é
                10, 3, 1, 3, 0xD8, 4, 2, 7, 0, 0, 5, 0x6F, 0x74, 0x68, 0x65, 0x72, 5, 0, 0, 0x80, 0x3F,
            ])
    }

    @Test("Types may grow and shrink: unknown fields are skipped, optional ones are nil, others are missed by name")
    func evolution() throws {
        struct Old: Codable, Equatable { var a: Int, b: String }
        struct New: Codable, Equatable { var a: Int, b: String, c: Double? }
        struct Less: Codable, Equatable { var a: Int }
        struct More: Codable, Equatable { var a: Int, needed: Int }
        let old = try CheckpointCoding.bytes(Old(a: 1, b: "x"))
        #expect(try CheckpointCoding.value(old, as: New.self) == New(a: 1, b: "x", c: nil))
        #expect(try CheckpointCoding.value(old, as: Less.self) == Less(a: 1))
        let error = #expect(throws: (any Error).self) { try CheckpointCoding.value(old, as: More.self) }
        #expect(error.map { CheckpointCoding.text($0) } == "no key needed")
    }

    @Test("Another type's value is told by its place; numbers are never cut")
    func mismatches() throws {
        struct Narrow: Codable { var lines: [Line] }
        struct Line: Codable { var count: Int8 }
        struct Wide: Codable { var lines: [WideLine] }
        struct WideLine: Codable { var count: Int }
        let bytes = try CheckpointCoding.bytes(Wide(lines: [WideLine(count: 5), WideLine(count: 128)]))
        let error = #expect(throws: (any Error).self) { try CheckpointCoding.value(bytes, as: Narrow.self) }
        #expect(
            error.map { CheckpointCoding.text($0) }
                == "lines.1.count: a number of 8 bits expected, an integer found")
        #expect(throws: (any Error).self) { try CheckpointCoding.value(bytes, as: String.self) }
        #expect(throws: (any Error).self) { try CheckpointCoding.value(bytes, as: [Int].self) }
    }

    @Test("A value without end is refused, not followed")
    func depth() throws {
        final class Chain: Codable {
            var next: Chain?
            init(_ next: Chain?) { self.next = next }
        }
        var chain = Chain(nil)
        for _ in 0..<300 { chain = Chain(chain) }
        #expect(throws: EncodingError.self) { try CheckpointCoding.bytes(chain) }
        var deep: [UInt8] = [BinaryValue.version]
        for _ in 0..<100_000 { deep += [9, 1] }
        #expect(throws: DecodeError.self) { try CheckpointCoding.value(deep, as: [Int].self) }
    }

    @Test("No bytes crash the decoder or make it allocate without bound", arguments: 0..<40 as Range<UInt64>)
    func fuzz(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let sound = try CheckpointCoding.bytes(Everything())
        for _ in 0..<2_000 {
            var bytes = sound
            switch Int.random(in: 0..<4, using: &random) {
            case 0:
                bytes = (0..<Int.random(in: 0..<60, using: &random)).map { _ in UInt8.random(in: 0...12, using: &random)
                }
            case 1: bytes.removeLast(Int.random(in: 1...bytes.count, using: &random))
            case 2:
                bytes.insert(
                    UInt8.random(in: 0...255, using: &random), at: Int.random(in: 0..<bytes.count, using: &random))
            default:
                for _ in 0..<Int.random(in: 1...4, using: &random) {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
                }
            }
            do {
                let value = try BinaryValueReader.value(bytes)
                // What can be read can be written, and is the same again.
                #expect(
                    try BinaryValueReader.value(BinaryValueWriter.bytes(value)) == value || value.hasNaN, "seed \(seed)"
                )
            } catch {}  // refused, as most are
            _ = try? CheckpointCoding.value(bytes, as: Everything.self)  // it returns or throws; either is right
        }
        for tag: UInt8 in [7, 8, 9, 10] {
            let huge: [UInt8] = [1, tag, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]
            #expect(throws: DecodeError.self) { try BinaryValueReader.value(huge) }
        }
    }
}

extension BinaryValue {
    /// Which is not equal to itself.
    fileprivate var hasNaN: Bool {
        switch self {
        case .float(let value): value.isNaN
        case .double(let value): value.isNaN
        case .list(let values): values.contains { $0.hasNaN }
        case .record(let fields, _): fields.contains { $0.value.hasNaN }
        case .null, .bool, .signed, .unsigned, .text, .bytes: false
        }
    }
}

@Suite("Differences of sections")
struct SectionDifferenceTests {
    private func difference(_ old: [UInt8], _ new: [UInt8]) -> SectionDifference? {
        old.withUnsafeBytes { old in new.withUnsafeBytes { SectionDifference(from: old, to: $0) } }
    }

    @Test("Applied to the old data it gives the new, and is smaller", arguments: 0..<200 as Range<UInt64>)
    func applied(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let old = (0..<Int.random(in: 1..<5_000, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
        var new = old
        for _ in 0..<Int.random(in: 0..<6, using: &random) {
            let start = Int.random(in: 0..<new.count, using: &random)
            for offset in start..<min(new.count, start + Int.random(in: 1..<90, using: &random)) {
                new[offset] = UInt8.random(in: 0...255, using: &random)
            }
        }
        if random.chance(percent: 30) { new += [UInt8](repeating: 3, count: Int.random(in: 1..<300, using: &random)) }
        guard let difference = difference(old, new) else {
            return #expect(old != new || old.isEmpty, "seed \(seed): what is equal has no difference worth everything")
        }
        var made = old + [UInt8](repeating: 0, count: new.count - old.count)
        var end = 0
        for piece in difference.pieces {
            #expect(piece.lowerBound >= end && !piece.isEmpty, "seed \(seed)")
            end = piece.upperBound
            made.replaceSubrange(piece, with: new[piece])
        }
        #expect(made == new, "seed \(seed)")
        #expect(difference.byteCount == difference.pieces.reduce(0) { $0 + $1.count })
        #expect(difference.byteCount <= new.count, "seed \(seed)")
    }

    @Test("One byte is one byte; near ones are one piece; too many, or less data, is no difference")
    func edges() {
        let old = [UInt8](repeating: 0, count: 10_000)
        var new = old
        #expect(difference(old, new)?.pieces == [])
        new[5_000] = 1
        #expect(difference(old, new)?.pieces == [5_000..<5_001])
        new[5_040] = 1
        #expect(difference(old, new)?.pieces == [5_000..<5_041])
        new[0] = 1
        new[9_999] = 1
        #expect(difference(old, new)?.pieces == [0..<1, 5_000..<5_041, 9_999..<10_000])
        #expect(difference(old, new + [4, 5])?.pieces.last == 9_999..<10_002)
        #expect(difference(old, Array(new.dropLast())) == nil)
        #expect(difference([], new) == nil)
        #expect(difference(old, old.map { _ in 1 }) == nil)
    }
}
