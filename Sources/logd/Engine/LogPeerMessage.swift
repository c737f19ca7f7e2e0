public import SAFTypes

/// logd → logd of another node. The code of the frame says which; each begins with version u8 (1) · epoch u64.
///
/// A *session* is one run of a sender's records to an owner, a *round* one run of an owner's entries to a follower:
/// whatever is missed, or doubtful, ends in a new one. What belongs to an old one is ignored.
public enum LogPeerMessage: Hashable, Sendable {
    public static let version: UInt8 = 1

    /// Code 1. session u64 · incarnation u64 · oldest u64. A sender asks its owner what that has of it; it itself has
    /// its records from `oldest` on.
    case ask(session: UInt64, incarnation: UInt64, oldest: UInt64)
    /// Code 2. session u64 · last u64. Send what comes after `last`.
    case have(session: UInt64, last: UInt64)
    /// Code 3. batch.
    case submit(RecordBatch)
    /// Code 4. incarnation u64 · through u64. All up to there is where it cannot be lost.
    case accepted(incarnation: UInt64, through: UInt64)
    /// Code 5. round u64 · epochs. A follower says what it has.
    case hello(round: UInt64, epochs: [LedgerPosition])
    /// Code 6. round u64 · at u64 · state (optional). The follower is to drop what comes after `at`; or, with a state,
    /// everything: the owner does not have what it lacks any more.
    case begin(round: UInt64, at: UInt64, LedgerState?)
    /// Code 7. round u64 · number u64. The follower's ledger ends there, and can be carried on.
    case ready(round: UInt64, number: UInt64)
    /// Code 8. round u64 · committed u64 · entries.
    case append(round: UInt64, committed: UInt64, [LedgerEntry])
    /// Code 9. round u64 · number u64. All up to there is on the follower's disk.
    case stored(round: UInt64, number: UInt64)
    /// Code 10. The owner wants to be spoken to again.
    case invite

    /// Bytes of entries in one message.
    static let appendBytesMax = 256 * 1024

    public var code: UInt16 {
        switch self {
        case .ask: 1
        case .have: 2
        case .submit: 3
        case .accepted: 4
        case .hello: 5
        case .begin: 6
        case .ready: 7
        case .append: 8
        case .stored: 9
        case .invite: 10
        }
    }

    public func body(epoch: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(Self.version)
        writer.integer(epoch)
        switch self {
        case .ask(let session, let incarnation, let oldest):
            for value in [session, incarnation, oldest] { writer.integer(value) }
        case .have(let session, let last):
            for value in [session, last] { writer.integer(value) }
        case .submit(let batch): writer.value(batch)
        case .accepted(let incarnation, let through):
            for value in [incarnation, through] { writer.integer(value) }
        case .hello(let round, let epochs):
            writer.integer(round)
            writer.list(epochs)
        case .begin(let round, let at, let state):
            for value in [round, at] { writer.integer(value) }
            writer.optional(state)
        case .ready(let round, let number), .stored(let round, let number):
            for value in [round, number] { writer.integer(value) }
        case .append(let round, let committed, let entries):
            for value in [round, committed] { writer.integer(value) }
            writer.list(entries)
        case .invite: break
        }
        return writer.bytes
    }

    public static func decode(
        code: UInt16, body: UnsafeRawBufferPointer
    ) throws(DecodeError) -> (epoch: UInt64, message: LogPeerMessage) {
        var reader = ByteReader(body)
        let version = try reader.integer(UInt8.self)
        guard version == Self.version else { throw .badValue("message version \(version); \(Self.version) expected") }
        let epoch = try reader.integer(UInt64.self)
        let message = try LogPeerMessage(code: code, &reader)
        try reader.finish()
        return (epoch, message)
    }

    private init(code: UInt16, _ reader: inout ByteReader) throws(DecodeError) {
        switch code {
        case 1:
            self = .ask(
                session: try reader.integer(), incarnation: try reader.integer(), oldest: try reader.integer())
        case 2: self = .have(session: try reader.integer(), last: try reader.integer())
        case 3: self = .submit(try reader.value())
        case 4: self = .accepted(incarnation: try reader.integer(), through: try reader.integer())
        case 5: self = .hello(round: try reader.integer(), epochs: try reader.list(max: LedgerState.epochsMax))
        case 6: self = .begin(round: try reader.integer(), at: try reader.integer(), try reader.optional())
        case 7: self = .ready(round: try reader.integer(), number: try reader.integer())
        case 8:
            self = .append(
                round: try reader.integer(), committed: try reader.integer(), try reader.list(max: 65_536))
        case 9: self = .stored(round: try reader.integer(), number: try reader.integer())
        case 10: self = .invite
        default: throw .badValue("message code \(code); 1 to 10 expected")
        }
    }
}
