import EOReplicated
import EngineKit
import SAFTypes
import Synchronization

/// Which versions a build of ``SumEngine`` reads and writes.
protocol SumSpeech: Sendable { static var range: ClosedRange<UInt16> { get } }
enum FirstSpeech: SumSpeech { static let range: ClosedRange<UInt16> = 1...1 }
enum SecondSpeech: SumSpeech { static let range: ClosedRange<UInt16> = 1...2 }

/// What this process wrote last; for the test.
let lastWritten = Mutex<UInt16>(0)

/// ``SumEngine`` in a build that knows these versions. In the second one events and snapshots begin with a mark, so
/// that none is taken for one of the other version.
struct SumBuild<Speech: SumSpeech>: ReplicatedEngine, Equatable {
    static var versions: ClosedRange<UInt16> { Speech.range }
    private static var mark: UInt32 { 0x5355_4D32 }
    var engine = SumEngine()

    init() {}

    mutating func handle(_ event: UInt64, at now: Instant) -> [SumEngine.Effect] { engine.handle(event, at: now) }
    static func route(_ effect: SumEngine.Effect) -> EffectRoute<Celebration> { SumEngine.route(effect) }

    static func encode(_ event: UInt64, version: UInt16, to writer: inout ByteWriter) {
        lastWritten.withLock { $0 = version }
        if version > 1 { writer.integer(mark) }
        SumEngine.encode(event, version: 1, to: &writer)
    }

    static func decodeEvent(version: UInt16, from reader: inout ByteReader) throws(DecodeError) -> UInt64 {
        try expectMark(version, &reader)
        return try SumEngine.decodeEvent(version: 1, from: &reader)
    }

    func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) {
        if version > 1 { writer.integer(Self.mark) }
        engine.encodeSnapshot(version: 1, to: &writer)
    }

    init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        try Self.expectMark(version, &reader)
        engine = try SumEngine(snapshot: &reader, version: 1)
    }

    private static func expectMark(_ version: UInt16, _ reader: inout ByteReader) throws(DecodeError) {
        guard versions.contains(version) else { throw .badValue("version \(version); \(versions) are known") }
        if version > 1, try reader.integer(UInt32.self) != mark { throw .badValue("no mark of version \(version)") }
    }
}
