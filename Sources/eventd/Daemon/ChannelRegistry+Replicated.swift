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

extension ReplicatedNote {
    /// Something an operator should look at.
    var isError: Bool {
        switch self {
        case .diverged, .memberDiverged, .eventNotUnderstood, .versionNotSpoken, .groupLost, .formedWithoutMajority:
            true
        case .formed, .snapshotOffered, .snapshotLoaded, .synchronisationRestarted, .undecodable: false
        }
    }
}
