public import EOReplicated
import EngineKit
public import LogEngine
public import SAFTypes

// Here, because engines know nothing of groups and replication.

extension StreamRegistry: ReplicatedEngine {
    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { encode(to: &writer) }

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
