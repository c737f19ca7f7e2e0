import SAFTypes

/// What a frame between two nodes is. The numbers of kinds that also exist on the local path are the same there.
public enum LinkFrameKind: UInt8, CaseIterable, Sendable {
    /// Dialer → acceptor, the first frame: who am I, whom do I mean.
    case hello = 1
    /// Acceptor → dialer: the link stands.
    case welcome = 2
    /// Acceptor → dialer: it does not; the body is the reason, as text.
    case refused = 3
    case request = 4
    case reply = 5
    /// The answer to a request that failed: `status` is the AisError, the body is text.
    case failure = 6
    /// A message nobody answers.
    case oneWay = 7
    /// The next bytes of the body whose first frame had the flag `pieces`, in the same lane.
    case piece = 10
}

/// Single bits of a link frame's `flags`.
public struct LinkFrameFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The request was sent before on a connection that broke.
    public static let retransmission = LinkFrameFlags(rawValue: 1)
    /// `length` bytes of body follow in frames of kind `piece`, not here.
    public static let pieces = LinkFrameFlags(rawValue: 4)

    static let known: LinkFrameFlags = [.retransmission, .pieces]
}

/// The 32 bytes before every body; four little-endian words, laid out as the local path's frames.
///
/// length u32 · version u8 · kind u8 · lane u8 · flags u8 | code u16 · 0 u16 · status u32 | number u64 |
/// acknowledged u64
public struct LinkHeader: Hashable, Sendable {
    public static let size = 32
    public static let version: UInt8 = 1
    /// Of frames, that this build reads and writes.
    public static let versions: ClosedRange<UInt8> = 1...1

    /// Bytes of the body.
    public var length: UInt32
    public var kind: LinkFrameKind
    public var lane: Lane
    public var flags: LinkFrameFlags
    /// What is asked for or told; the meaning belongs to the service.
    public var code: UInt16
    /// An AisError in `failure` and `refused`, else 0.
    public var status: UInt32
    /// The request that is meant.
    public var number: UInt64
    /// In a request: the sender has no use for answers to requests up to this number any more.
    public var acknowledged: UInt64

    public init(
        kind: LinkFrameKind, lane: Lane = .normal, code: UInt16 = 0, length: Int = 0, number: UInt64 = 0,
        acknowledged: UInt64 = 0, status: UInt32 = 0, flags: LinkFrameFlags = []
    ) {
        self.length = UInt32(truncatingIfNeeded: length)
        self.kind = kind
        self.lane = lane
        self.flags = flags
        self.code = code
        self.status = status
        self.number = number
        self.acknowledged = acknowledged
    }

    /// Writes the 32 bytes.
    @inline(__always)
    func store(to target: UnsafeMutableRawPointer) {
        let first =
            UInt64(length) | UInt64(Self.version) << 32 | UInt64(kind.rawValue) << 40 | UInt64(lane.rawValue) << 48
            | UInt64(flags.rawValue) << 56
        target.storeBytes(of: first.littleEndian, as: UInt64.self)
        target.storeBytes(of: (UInt64(code) | UInt64(status) << 32).littleEndian, toByteOffset: 8, as: UInt64.self)
        target.storeBytes(of: number.littleEndian, toByteOffset: 16, as: UInt64.self)
        target.storeBytes(of: acknowledged.littleEndian, toByteOffset: 24, as: UInt64.self)
    }

    /// Reads 32 bytes that are there; checks everything that can be checked without knowing who sent them.
    @inline(__always)
    init(at source: UnsafeRawPointer) throws(DecodeError) {
        let first = UInt64(littleEndian: source.loadUnaligned(as: UInt64.self))
        let second = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 8, as: UInt64.self))
        let flags = LinkFrameFlags(rawValue: UInt8(truncatingIfNeeded: first >> 56))
        guard UInt8(truncatingIfNeeded: first >> 32) == Self.version,
            let kind = LinkFrameKind(rawValue: UInt8(truncatingIfNeeded: first >> 40)),
            let lane = Lane(rawValue: UInt8(truncatingIfNeeded: first >> 48)),
            flags.isSubset(of: .known), UInt16(truncatingIfNeeded: second >> 16) == 0
        else { throw Self.refusal(first) }
        length = UInt32(truncatingIfNeeded: first)
        self.kind = kind
        self.lane = lane
        self.flags = flags
        code = UInt16(truncatingIfNeeded: second)
        status = UInt32(truncatingIfNeeded: second >> 32)
        number = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 16, as: UInt64.self))
        acknowledged = UInt64(littleEndian: source.loadUnaligned(fromByteOffset: 24, as: UInt64.self))
    }

    private static func refusal(_ first: UInt64) -> DecodeError {
        let version = UInt8(truncatingIfNeeded: first >> 32)
        let kind = UInt8(truncatingIfNeeded: first >> 40)
        let lane = UInt8(truncatingIfNeeded: first >> 48)
        let flags = UInt8(truncatingIfNeeded: first >> 56)
        if version != Self.version { return .badValue("frame version \(version); \(Self.version) expected") }
        if LinkFrameKind(rawValue: kind) == nil { return .badValue("frame kind \(kind) is unknown") }
        if Lane(rawValue: lane) == nil { return .badValue("lane \(lane); 0 to 3 expected") }
        if !LinkFrameFlags(rawValue: flags).isSubset(of: .known) {
            return .badValue("frame flags \(flags) are unknown")
        }
        return .badValue("reserved bytes of a frame are not 0")
    }
}

extension LinkHeader: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        var words = (UInt64(0), UInt64(0), UInt64(0), UInt64(0))
        withUnsafeMutableBytes(of: &words) { bytes in
            if let base = bytes.baseAddress { store(to: base) }
        }
        withUnsafeBytes(of: words) { writer.raw($0) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        guard let source = try reader.view(Self.size).baseAddress else {
            throw .truncated(needed: Self.size, remaining: 0)
        }
        try self.init(at: source)
    }
}
