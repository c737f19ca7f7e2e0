import SAFTypes

/// Names one client for as long as it lives, across its connections: 128 bits that nobody can guess.
public struct SessionID: Hashable, Sendable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    /// A new one.
    public static func random() -> SessionID {
        SessionID(high: UInt64.random(in: 1 ... .max), low: UInt64.random(in: .min ... .max))
    }
}

extension SessionID: Comparable {
    public static func < (left: SessionID, right: SessionID) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

/// high u64 · low u64.
extension SessionID: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(high)
        writer.integer(low)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        high = try reader.integer()
        low = try reader.integer()
    }
}

extension SessionID: CustomStringConvertible {
    public var description: String { String(high, radix: 16) + "-" + String(low, radix: 16) }
}

/// Names one request for ever: a retransmission has the same. For services that keep what they executed.
public struct RequestID: Hashable, Sendable {
    public var session: SessionID
    public var number: UInt64

    public init(session: SessionID, number: UInt64) {
        self.session = session
        self.number = number
    }
}

/// session · number u64.
extension RequestID: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(session)
        writer.integer(number)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        session = try reader.value()
        number = try reader.integer()
    }
}
