import EOReplicated
import EventEngine
import SAFTypes

// Here, because engines know nothing of groups and replication.

extension ChannelRegistry: ReplicatedEngine {
    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { encode(to: &writer) }

    public init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        self = try ChannelRegistry(decoding: &reader)
    }

    public static func route(_ outcome: Outcome) -> EffectRoute<NoOnceEffect> {
        switch outcome {
        case .changed: .everyMember
        case .opened, .refused: .answer
        }
    }
}
