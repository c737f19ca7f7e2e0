public import EOReplicated
import EngineKit
public import LogEngine
public import SAFTypes

// Here, because engines know nothing of groups and replication.

extension StreamRegistry: ReplicatedEngine {
    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { encode(version: version, to: &writer) }

    /// Where a member does not know of forms, nobody creates a stream that has one.
    public static func canEncode(_ command: Command, version: UInt16) -> Bool {
        guard case .open(_, let attributes?, _) = command else { return true }
        return version >= 2 || !attributes.hasForm
    }

    public static func decodeEvent(version: UInt16, from reader: inout ByteReader) throws(DecodeError) -> Command {
        let command: Command = try reader.value()
        guard canEncode(command, version: version) else {
            throw .badValue("a stream with a format; not all members know it")
        }
        return command
    }

    public init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        self = try StreamRegistry(decoding: &reader)
    }

    public static func route(_ outcome: Outcome) -> EffectRoute<NoOnceEffect> {
        switch outcome {
        case .changed: .everyMember
        case .opened, .refused: .answer
        case .setTimer(let instant): .startTimer(key: 1, at: instant)
        case .cancelTimer: .cancelTimer(key: 1)
        }
    }

    public static func timerEvent(key: UInt64) -> Command? { .tick }
}
