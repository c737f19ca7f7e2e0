import EngineKit
public import EventProtocol
public import SAFTypes

/// What one node forwards to another.
public enum Forward: Hashable, Sendable {
    /// For the subscribers of that node. `remaining`: for how long it stays for later ones, ns. `isCopy`: published
    /// before the node had the channel open, so it is one of the retained events, or nothing.
    case event(ChannelID, EventMessage, remaining: SaTime, isCopy: Bool)
    /// Something of the channel was dropped on the way; at ``unheardTime``: who has subscribed unknown to the sender
    /// has missed something.
    case lost(ChannelID, at: SaTime)
    /// The sender forwards by this interest (``Interest/fingerprint``) of the receiver from now on.
    case knows(ChannelID, interest: UInt64)
    /// A retained event waits no longer.
    case clear(ChannelID, EventID)

    /// No event is published then. Who does not know the difference tells all subscribers of the channel.
    static let unheardTime: SaTime = 0

    func isLoss(of id: ChannelID) -> Bool {
        if case .lost(id, let time) = self { time != Self.unheardTime } else { false }
    }

    var channel: ChannelID {
        switch self {
        case .event(let id, _, _, _), .lost(let id, _), .knows(let id, _), .clear(let id, _): id
        }
    }
}

/// eventd → eventd of another node. The code of the frame says which; each begins with a version u8 (1).
///
/// What a node forwards to another is a numbered *stream*. The receiver keeps which numbers it has had for as long as
/// the stream lasts, so the sender may send anything again until it is confirmed.
public enum PeerMessage: Hashable, Sendable {
    public static let version: UInt8 = 1

    /// Code 1. stream u64 · isOpened u8. Asks for ``received(stream:isKnown:_:)``; opens the stream unless it was.
    case hello(stream: UInt64, isOpened: Bool)
    /// Code 2. stream u64 · isKnown u8 · numbers. Not known: the receiver has lost its memory of it.
    case received(stream: UInt64, isKnown: Bool, ReceivedNumbers)
    /// Code 3. stream u64 · number u64 · forward.
    case forward(stream: UInt64, number: UInt64, Forward)

    public var code: UInt16 {
        switch self {
        case .hello: 1
        case .received: 2
        case .forward: 3
        }
    }

    /// Which messages may overtake others on their way: as events of this priority. A clearing never overtakes the
    /// event that it is about.
    public var urgency: EventPriority {
        switch self {
        case .hello, .received, .forward(_, _, .lost), .forward(_, _, .knows): .highest
        case .forward(_, _, .event(_, let event, _, _)): event.priority
        case .forward(_, _, .clear): .lowest
        }
    }

    public var body: [UInt8] {
        var writer = ByteWriter()
        writer.integer(Self.version)
        switch self {
        case .hello(let stream, let isOpened):
            writer.integer(stream)
            writer.bool(isOpened)
        case .received(let stream, let isKnown, let numbers):
            writer.integer(stream)
            writer.bool(isKnown)
            writer.value(numbers)
        case .forward(let stream, let number, let forward):
            writer.integer(stream)
            writer.integer(number)
            writer.value(forward)
        }
        return writer.bytes
    }

    public init(code: UInt16, body: UnsafeRawBufferPointer) throws(DecodeError) {
        var reader = ByteReader(body)
        let version = try reader.integer(UInt8.self)
        guard version == Self.version else { throw .badValue("message version \(version); \(Self.version) expected") }
        switch code {
        case 1: self = .hello(stream: try reader.integer(), isOpened: try reader.bool())
        case 2: self = .received(stream: try reader.integer(), isKnown: try reader.bool(), try reader.value())
        case 3: self = .forward(stream: try reader.integer(), number: try reader.integer(), try reader.value())
        default: throw .badValue("message code \(code); 1 to 3 expected")
        }
        try reader.finish()
    }
}

/// kind u8: 1 event (channel, remaining i64, isCopy u8, event) · 2 lost (channel, at i64) · 3 knows (channel, u64) ·
/// 4 clear (channel, event u64).
extension Forward: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .event(let channel, let event, let remaining, let isCopy):
            writer.integer(UInt8(1))
            writer.value(channel)
            writer.integer(remaining)
            writer.bool(isCopy)
            writer.value(event)
        case .lost(let channel, let time):
            writer.integer(UInt8(2))
            writer.value(channel)
            writer.integer(time)
        case .knows(let channel, let interest):
            writer.integer(UInt8(3))
            writer.value(channel)
            writer.integer(interest)
        case .clear(let channel, let event):
            writer.integer(UInt8(4))
            writer.value(channel)
            writer.integer(event)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        let channel: ChannelID = try reader.value()
        switch kind {
        case 1:
            let remaining: SaTime = try reader.integer()
            guard remaining >= 0, remaining <= EventLimits.retentionMax else {
                throw .badValue("\(remaining) ns of retention left; 0 to \(EventLimits.retentionMax) expected")
            }
            let isCopy = try reader.bool()
            self = .event(channel, try reader.value(), remaining: remaining, isCopy: isCopy)
        case 2: self = .lost(channel, at: try reader.integer())
        case 3: self = .knows(channel, interest: try reader.integer())
        case 4: self = .clear(channel, try reader.integer())
        default: throw .badValue("forward kind \(kind); 1 to 4 expected")
        }
    }
}
