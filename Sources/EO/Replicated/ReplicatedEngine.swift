import EngineKit
import SAFTypes

/// An engine that ``Replicated`` can run on every member of a group.
///
/// The `now` it is handed is the *group's time*: monotone, the same on every member, shared by no clock of any node;
/// only differences mean something. Its initial value must be the same on every member: what differs from node to node
/// arrives as an event. Everything else is as for every ``Engine``; above all, never iterate a dictionary to decide.
public protocol ReplicatedEngine: Engine, Sendable where Event: Sendable, Effect: Sendable {
    /// An effect that must happen once however often the performer dies; it stays pending in the replicated state until
    /// it is reported done. ``NoOnceEffect`` for engines without.
    associatedtype OnceEffect: WireCodable & Hashable & Sendable = NoOnceEffect

    /// The versions of events and snapshots this build reads and writes; the highest that all members speak is used.
    static var versions: ClosedRange<UInt16> { get }
    static func encode(_ event: Event, version: UInt16, to writer: inout ByteWriter)
    /// Whether a version has words for this event; if not, its proposal is refused with VERSION. Default: yes.
    static func canEncode(_ event: Event, version: UInt16) -> Bool
    /// Total. Must read exactly what ``encode(_:version:to:)`` wrote.
    static func decodeEvent(version: UInt16, from reader: inout ByteReader) throws(DecodeError) -> Event

    /// An event, ordered while members spoke that version: an older build decides as it always did, and who speaks with
    /// it must decide the same. Default: as ``Engine/handle(_:at:)``, whatever the version.
    mutating func handle(_ event: Event, version: UInt16, at now: Instant) -> [Effect]

    /// The whole state; equal states give equal bytes (sort what has no order).
    func encodeSnapshot(version: UInt16, to writer: inout ByteWriter)
    init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError)
    /// Equal on members with equal states, whatever their builds. Default: a hash of the snapshot of that version.
    func digest(version: UInt16) -> UInt64

    /// Who performs an effect, and when.
    static func route(_ effect: Effect) -> EffectRoute<OnceEffect>
    /// The event that the expiry of a timer (``EffectRoute/startTimer(key:at:)``) is; nil ignores it. Default: nil.
    static func timerEvent(key: UInt64) -> Event?
}

extension ReplicatedEngine {
    public static var versions: ClosedRange<UInt16> { 1...1 }
    public static func canEncode(_ event: Event, version: UInt16) -> Bool { true }
    public static func timerEvent(key: UInt64) -> Event? { nil }
    public mutating func handle(_ event: Event, version: UInt16, at now: Instant) -> [Effect] { handle(event, at: now) }

    public func digest(version: UInt16) -> UInt64 {
        var writer = ByteWriter()
        encodeSnapshot(version: version, to: &writer)
        return StateHash.of(writer.bytes)
    }
}

extension ReplicatedEngine where Event: WireCodable {
    public static func encode(_ event: Event, version: UInt16, to writer: inout ByteWriter) { writer.value(event) }
    public static func decodeEvent(version: UInt16, from reader: inout ByteReader) throws(DecodeError) -> Event {
        try reader.value()
    }
}

/// Who performs an effect of a replicated engine.
public enum EffectRoute<OnceEffect: Sendable>: Sendable {
    /// Every synchronised member, as soon as it has applied the command. For what is local and revocable.
    case everyMember
    /// That node's member, as soon as it has applied the command. Lost if it dies first; an assignment under the lease.
    case node(NodeID)
    /// The member that proposed the command, once a majority has the command: what a client is told. Comes with the
    /// proposal's ticket.
    case answer
    /// Kept pending in the state; performed by `by` once a majority has the command, and again by a successor, until
    /// `.effectDone` is applied. Performing twice must be harmless.
    case once(OnceEffect, by: Performer)
    /// Kept in the state; the oldest member proposes the expiry when the group's time reaches `at`. The same key again
    /// replaces it.
    case startTimer(key: UInt64, at: Instant)
    case cancelTimer(key: UInt64)
}

/// Who performs a once-only effect.
public enum Performer: Hashable, Sendable {
    /// The member that has been synchronised longest.
    case oldest
    /// That node's member; the effect waits for it when it is not there.
    case node(NodeID)
}

/// No value: for engines without once-only effects.
public enum NoOnceEffect: WireCodable, Hashable, Sendable {
    public func encode(to writer: inout ByteWriter) {}
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        throw .badValue("a once-only effect; this engine has none")
    }
}

/// Identifies a once-only effect: the command (by its index) that asked for it, and which one of it.
public struct EffectID: Hashable, Comparable, Sendable {
    public var index: UInt64
    public var ordinal: UInt32

    public init(index: UInt64, ordinal: UInt32) {
        self.index = index
        self.ordinal = ordinal
    }

    public static func < (left: EffectID, right: EffectID) -> Bool {
        (left.index, left.ordinal) < (right.index, right.ordinal)
    }
}

/// index u64 · ordinal u32.
extension EffectID: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(index)
        writer.integer(ordinal)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        index = try reader.integer()
        ordinal = try reader.integer()
    }
}

/// A quick 64-bit hash that is the same in every process and on every machine; no protection against malice.
///
/// FNV-1a over 64-bit little-endian words, finished as in SplitMix64.
public enum StateHash {
    public static func of(_ bytes: [UInt8], seed: UInt64 = 0) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325 ^ seed
        bytes.withUnsafeBytes { raw in
            var offset = 0
            while offset + 8 <= raw.count {
                let word = UInt64(littleEndian: raw.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
                hash = (hash ^ word) &* 0x0000_0100_0000_01b3
                hash ^= hash >> 29
                offset += 8
            }
            while offset < raw.count {
                hash = (hash ^ UInt64(raw[offset])) &* 0x0000_0100_0000_01b3
                offset += 1
            }
        }
        return mix(hash, UInt64(bytes.count))
    }

    public static func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
        var mixed = (left ^ (right &* 0x9E37_79B9_7F4A_7C15)) &+ 0x9E37_79B9_7F4A_7C15
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}
