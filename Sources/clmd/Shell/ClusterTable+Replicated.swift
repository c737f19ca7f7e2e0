import ClmEngine
import EOReplicated
import SAFTypes

extension ClusterTable: ReplicatedEngine {
    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { encode(to: &writer) }

    public init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        self = try ClusterTable(decoding: &reader)
    }

    public static func route(_ outcome: Outcome) -> EffectRoute<NoOnceEffect> {
        switch outcome {
        case .names(.published), .names(.withdrawn), .transition, .forgotten, .step, .aborted: .everyMember
        case .names(.refused), .refused: .answer
        case .supervise(let change, let instant): .startTimer(key: change, at: instant)
        case .superviseNoMore(let change): .cancelTimer(key: change)
        }
    }

    public static func timerEvent(key: UInt64) -> Command? { .supervisionOver(change: key) }
}
