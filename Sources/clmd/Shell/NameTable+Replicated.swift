import ClmEngine
import ClmProtocol
import EOReplicated
import SAFTypes

extension NameTable: ReplicatedEngine {
    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { encode(to: &writer) }

    public init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        self = try NameTable(decoding: &reader)
    }

    public static func route(_ outcome: Outcome) -> EffectRoute<NoOnceEffect> {
        switch outcome {
        case .published, .withdrawn: .everyMember
        case .refused: .answer
        }
    }
}
