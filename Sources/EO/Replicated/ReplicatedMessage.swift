import EngineKit
import IOCGroups
import SAFTypes

/// A stretch of the group's life in which one set of members was in charge: a formed view. Numbers grow from one to the
/// next; the identifier (the view's) only tells apart what can never both have been in charge.
struct Epoch: Hashable, Comparable, Sendable {
    var number: UInt64 = 0
    var id: UInt64 = 0

    static let none = Epoch()
    static func < (left: Epoch, right: Epoch) -> Bool { (left.number, left.id) < (right.number, right.id) }
}

/// number u64 · id u64.
extension Epoch: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(number)
        writer.integer(id)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        number = try reader.integer()
        id = try reader.integer()
    }
}

/// When a member became synchronised; orders members by age.
struct Seniority: Hashable, Comparable, Sendable {
    var epoch: UInt64
    var position: UInt64

    static func < (left: Seniority, right: Seniority) -> Bool {
        (left.epoch, left.position) < (right.epoch, right.position)
    }
}

/// What one member of a replicated group multicasts to the others; the only bytes of this room on the wire.
///
/// format u8 = 1 · kind u8 · flags u8 (bit 0: synchronised, bit 1: has memory) · epoch (number u64, id u64) ·
/// applied u64 · chain u64 · body by kind.
struct ReplicatedMessage: Hashable, Sendable {
    static let format: UInt8 = 1
    /// What a command needs beyond its event's bytes, rounded up.
    static let overheadMax = 128

    /// Where the sender stood when it sent: every message acknowledges.
    var isSynchronised: Bool
    var hasMemory: Bool
    var epoch: Epoch
    var applied: UInt64
    var chain: UInt64
    var body: Body

    enum Body: Hashable, Sendable {
        case command(Command)  // 1
        case report(Report)  // 2
        case acknowledge  // 3, empty
        case offer(Offer)  // 4
        case chunk(Chunk)  // 5
        case request(view: UInt64, attempt: UInt32)  // 6
        case synchronised(view: UInt64)  // 7
        case digest(index: UInt64, digest: UInt64)  // 8
        case form(view: UInt64)  // 9
    }
}

/// A command as proposed.
///
/// sequence u64 · firstWanted u64 · generation u32 · stamp u64 · version u16 · action.
struct Command: Hashable, Sendable {
    /// Counts the proposer's commands from 1; applied without gap or repetition.
    var sequence: UInt64
    /// What the proposer gave up is below this and may be skipped.
    var firstWanted: UInt64
    /// Which round of sending this is; only for the proposer's own use.
    var generation: UInt32
    /// The proposer's estimate of the group's time.
    var stamp: Instant
    var version: UInt16
    var action: Action

    /// kind u8: 1 event · bytes; 2 timer · key u64 · deadline u64; 3 done · effect · optional event bytes.
    enum Action: Hashable, Sendable {
        case event([UInt8])
        case timer(key: UInt64, deadline: Instant)
        case done(EffectID, [UInt8]?)
    }
}

/// What a member holds when it sees a view.
///
/// view u64 · flags u8 (bit 0: continuing, bit 1: has seniority, bit 2: takes snapshots by peer link) ·
/// claim epoch · stable u64 · index u64 · chain u64 · promised u64 · seniority (u64, u64) · oldest version u16 ·
/// newest version u16.
struct Report: Hashable, Sendable {
    var view: UInt64
    /// Synchronised, and in no view without quorum since.
    var isContinuing: Bool
    /// The epoch whose state it holds.
    var claim: Epoch
    /// The index up to which its log is certainly the group's (not the tail of a member being cut off).
    var stable: UInt64
    var index: UInt64
    var chain: UInt64
    /// The highest epoch number it took part in forming.
    var promised: UInt64
    var seniority: Seniority?
    var versionMin: UInt16
    var versionMax: UInt16
    var takesTransfers = false
}

/// Announces a snapshot. view u64 · position u64 · index u64 · version u16 · bytes u64 · chunks u32.
struct Offer: Hashable, Sendable {
    var view: UInt64
    /// Deliveries of the view up to this one are in the snapshot.
    var position: UInt64
    var index: UInt64
    var version: UInt16
    var byteCount: UInt64
    var chunkCount: UInt32
}

/// A piece of the snapshot that the same sender offered for `position`. view u64 · position u64 · number u32 · bytes.
struct Chunk: Hashable, Sendable {
    var view: UInt64
    var position: UInt64
    var number: UInt32
    var bytes: [UInt8]
}

extension ReplicatedMessage: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(Self.format)
        writer.integer(kind)
        writer.integer(UInt8((isSynchronised ? 1 : 0) | (hasMemory ? 2 : 0)))
        writer.value(epoch)
        writer.integer(applied)
        writer.integer(chain)
        switch body {
        case .command(let command): writer.value(command)
        case .report(let report): writer.value(report)
        case .acknowledge: break
        case .offer(let offer): writer.value(offer)
        case .chunk(let chunk): writer.value(chunk)
        case .request(let view, let attempt):
            writer.integer(view)
            writer.integer(attempt)
        case .synchronised(let view): writer.integer(view)
        case .digest(let index, let digest):
            writer.integer(index)
            writer.integer(digest)
        case .form(let view): writer.integer(view)
        }
    }

    private var kind: UInt8 {
        switch body {
        case .command: 1
        case .report: 2
        case .acknowledge: 3
        case .offer: 4
        case .chunk: 5
        case .request: 6
        case .synchronised: 7
        case .digest: 8
        case .form: 9
        }
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        let format = try reader.integer(UInt8.self)
        guard format == Self.format else { throw .badValue("format \(format); \(Self.format) expected") }
        let kind = try reader.integer(UInt8.self)
        let flags = try reader.integer(UInt8.self)
        guard flags <= 3 else { throw .badValue("flags \(flags); bits 0 and 1 only expected") }
        isSynchronised = flags & 1 != 0
        hasMemory = flags & 2 != 0
        epoch = try reader.value()
        applied = try reader.integer()
        chain = try reader.integer()
        switch kind {
        case 1: body = .command(try reader.value())
        case 2: body = .report(try reader.value())
        case 3: body = .acknowledge
        case 4: body = .offer(try reader.value())
        case 5: body = .chunk(try reader.value())
        case 6:
            let view: UInt64 = try reader.integer()
            body = .request(view: view, attempt: try reader.integer())
        case 7: body = .synchronised(view: try reader.integer())
        case 8:
            let index: UInt64 = try reader.integer()
            body = .digest(index: index, digest: try reader.integer())
        case 9: body = .form(view: try reader.integer())
        default: throw .badValue("message kind \(kind); 1 to 9 expected")
        }
    }
}

extension Command: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(sequence)
        writer.integer(firstWanted)
        writer.integer(generation)
        writer.integer(stamp.nanoseconds)
        writer.integer(version)
        switch action {
        case .event(let bytes):
            writer.integer(UInt8(1))
            writer.byteString(bytes)
        case .timer(let key, let deadline):
            writer.integer(UInt8(2))
            writer.integer(key)
            writer.integer(deadline.nanoseconds)
        case .done(let effect, let bytes):
            writer.integer(UInt8(3))
            writer.value(effect)
            writer.bool(bytes != nil)
            if let bytes { writer.byteString(bytes) }
        }
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        sequence = try reader.integer()
        firstWanted = try reader.integer()
        generation = try reader.integer()
        stamp = Instant(nanoseconds: try reader.integer())
        version = try reader.integer()
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: action = .event(try reader.byteString())
        case 2:
            let key: UInt64 = try reader.integer()
            action = .timer(key: key, deadline: Instant(nanoseconds: try reader.integer()))
        case 3:
            let effect: EffectID = try reader.value()
            action = .done(effect, try reader.bool() ? try reader.byteString() : nil)
        default: throw .badValue("command kind \(kind); 1 to 3 expected")
        }
    }
}

extension Report: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(view)
        writer.integer(UInt8((isContinuing ? 1 : 0) | (seniority != nil ? 2 : 0) | (takesTransfers ? 4 : 0)))
        writer.value(claim)
        writer.integer(stable)
        writer.integer(index)
        writer.integer(chain)
        writer.integer(promised)
        writer.integer(seniority?.epoch ?? 0)
        writer.integer(seniority?.position ?? 0)
        writer.integer(versionMin)
        writer.integer(versionMax)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        view = try reader.integer()
        let flags = try reader.integer(UInt8.self)
        guard flags <= 7 else { throw .badValue("report flags \(flags); bits 0 to 2 only expected") }
        isContinuing = flags & 1 != 0
        takesTransfers = flags & 4 != 0
        claim = try reader.value()
        stable = try reader.integer()
        index = try reader.integer()
        chain = try reader.integer()
        promised = try reader.integer()
        let (epoch, position): (UInt64, UInt64) = (try reader.integer(), try reader.integer())
        seniority = flags & 2 != 0 ? Seniority(epoch: epoch, position: position) : nil
        versionMin = try reader.integer()
        versionMax = try reader.integer()
        guard seniority != nil || (epoch, position) == (0, 0) else { throw .badValue("a seniority not flagged") }
        guard promised < 1 << 62 else { throw .badValue("epoch number \(promised)") }  // the next must exist
        guard versionMin <= versionMax else { throw .badValue("versions \(versionMin)...\(versionMax)") }
    }
}

extension Offer: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(view)
        writer.integer(position)
        writer.integer(index)
        writer.integer(version)
        writer.integer(byteCount)
        writer.integer(chunkCount)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        view = try reader.integer()
        position = try reader.integer()
        index = try reader.integer()
        version = try reader.integer()
        byteCount = try reader.integer()
        chunkCount = try reader.integer()
    }
}

extension Chunk: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(view)
        writer.integer(position)
        writer.integer(number)
        writer.byteString(bytes)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        view = try reader.integer()
        position = try reader.integer()
        number = try reader.integer()
        bytes = try reader.byteString()
    }
}
