public import EOReplicated
import EngineKit
public import LogEngine
public import SAFTypes

// Here, because engines know nothing of groups and replication.

extension StreamRegistry: ReplicatedEngine {
    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { encode(version: version, to: &writer) }

    /// Where a member does not know of forms, a stream that has one is created by a command that nobody knows.
    public static func decodeEvent(version: UInt16, from reader: inout ByteReader) throws(DecodeError) -> Command {
        let command: Command = try reader.value()
        if case .open(_, let attributes?, _) = command, attributes.hasForm, version < 2 {
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
