import SAFTypes

/// What a frame is.
public enum FrameKind: UInt8, CaseIterable, Sendable {
    /// Client → server, the first datagram: who am I. Socket only.
    case hello = 1
    /// Server → client: the connection stands; carries the shared memory and the doorbells. Socket only.
    case welcome = 2
    /// Server → client: the connection does not stand; `status` says why, the body is text. Socket only.
    case refused = 3
    case request = 4
    case reply = 5
    /// The answer to a request that failed: `status` is the AisError, the body is text.
    case failure = 6
    /// A message nobody answers: a one-way call of the client or a push of the server.
    case oneWay = 7
    /// Fills a ring up to its end. Ring only.
    case pad = 8
    /// Stands in a ring for the frame that travels on the socket with carriage number `number`. Ring only.
    case carried = 9
    /// Client → server: hands over its ``BulkMemory``; without a body, with its descriptor.
    case memory = 10
}

/// Single bits of a frame's `flags`.
public struct FrameFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The request may have been executed before: it is sent again after a reconnect.
    public static let retransmission = FrameFlags(rawValue: 1)
    /// The body is in the sealed memory whose descriptor comes last.
    public static let large = FrameFlags(rawValue: 2)
    /// The body is in the client's ``BulkMemory``. Ring only.
    public static let bulk = FrameFlags(rawValue: 4)

    static let known: FrameFlags = [.retransmission, .large, .bulk]
}

/// The 32 bytes before every body, in rings and on sockets; four little-endian words.
///
/// length u32 · version u8 · kind u8 · lane u8 · flags u8 | code u16 · descriptors u8 · 0 u8 · status u32 |
/// number u64 | acknowledged u64
public struct FrameHeader: Hashable, Sendable {
    public static let size = 32
    /// Of this header; what may be said with it is agreed in the handshake (``Hello/versions``).
    public static let version: UInt8 = 1

    /// Bytes of the body, wherever it is.
    public var length: UInt32
    public var kind: FrameKind
    public var lane: Lane
    public var flags: FrameFlags
    /// What is asked for; the meaning belongs to the service.
    public var code: UInt16
    /// Descriptors of the sender that travel with the frame, the sealed memory of a large body included.
    public var descriptors: UInt8
    /// An AisError in `failure` and `refused`, else 0.
    public var status: UInt32
    /// The request that is meant, or the carriage number.
    public var number: UInt64
    /// In a request: the sender has no use for answers to requests up to this number any more.
    public var acknowledged: UInt64

    public init(
        kind: FrameKind, lane: Lane = .normal, code: UInt16 = 0, length: Int = 0, number: UInt64 = 0,
        acknowledged: UInt64 = 0, status: UInt32 = 0, flags: FrameFlags = [], descriptors: Int = 0
    ) {
        self.length = UInt32(truncatingIfNeeded: length)
        self.kind = kind
        self.lane = lane
        self.flags = flags
        self.code = code
        self.descriptors = UInt8(truncatingIfNeeded: descriptors)
        self.status = status
        self.number = number
        self.acknowledged = acknowledged
    }

    /// The four words in host order.
    @inline(__always)
    var words: (UInt64, UInt64, UInt64, UInt64) {
        let first =
            UInt64(length) | UInt64(Self.version) << 32 | UInt64(kind.rawValue) << 40 | UInt64(lane.rawValue) << 48
            | UInt64(flags.rawValue) << 56
        let second = UInt64(code) | UInt64(descriptors) << 16 | UInt64(status) << 32
        return (first, second, number, acknowledged)
    }

    /// Checks everything that can be checked without knowing where the frame came from.
    @inline(__always)
    init(words: (UInt64, UInt64, UInt64, UInt64)) throws(DecodeError) {
        let (first, second, number, acknowledged) = words
        guard UInt8(truncatingIfNeeded: first >> 32) == Self.version,
            let kind = FrameKind(rawValue: UInt8(truncatingIfNeeded: first >> 40)),
            let lane = Lane(rawValue: UInt8(truncatingIfNeeded: first >> 48)),
            FrameFlags(rawValue: UInt8(truncatingIfNeeded: first >> 56)).isSubset(of: .known),
            UInt8(truncatingIfNeeded: second >> 24) == 0
        else { throw Self.refusal(words) }
        length = UInt32(truncatingIfNeeded: first)
        self.kind = kind
        self.lane = lane
        flags = FrameFlags(rawValue: UInt8(truncatingIfNeeded: first >> 56))
        code = UInt16(truncatingIfNeeded: second)
        descriptors = UInt8(truncatingIfNeeded: second >> 16)
        status = UInt32(truncatingIfNeeded: second >> 32)
        self.number = number
        self.acknowledged = acknowledged
    }

    private static func refusal(_ words: (UInt64, UInt64, UInt64, UInt64)) -> DecodeError {
        let version = UInt8(truncatingIfNeeded: words.0 >> 32)
        let kind = UInt8(truncatingIfNeeded: words.0 >> 40)
        let lane = UInt8(truncatingIfNeeded: words.0 >> 48)
        let flags = UInt8(truncatingIfNeeded: words.0 >> 56)
        if version != Self.version { return .badValue("frame version \(version); \(Self.version) expected") }
        if FrameKind(rawValue: kind) == nil { return .badValue("frame kind \(kind) is unknown") }
        if Lane(rawValue: lane) == nil { return .badValue("lane \(lane); 0 to 3 expected") }
        if !FrameFlags(rawValue: flags).isSubset(of: .known) { return .badValue("frame flags \(flags) are unknown") }
        return .badValue("reserved byte of a frame is not 0")
    }
}

extension FrameHeader: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        let (first, second, third, fourth) = words
        writer.integer(first)
        writer.integer(second)
        writer.integer(third)
        writer.integer(fourth)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let words = (
            try reader.integer(UInt64.self), try reader.integer(UInt64.self), try reader.integer(UInt64.self),
            try reader.integer(UInt64.self)
        )
        try self.init(words: words)
    }
}
