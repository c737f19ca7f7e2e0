public import EOReplicated
public import SAFTypes

extension Directory: ReplicatedEngine {
    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { encode(to: &writer) }

    public init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        self = try Directory(decoding: &reader)
    }

    public static func route(_ effect: DirectoryEffect) -> EffectRoute<NoOnceEffect> {
        switch effect {
        case .changed, .members, .removed: .everyMember
        case .unknown(_, let node): .node(node)
        case .opened, .refused: .answer
        case .startTimer(let timer, let at): .startTimer(key: timer.key, at: at)
        case .cancelTimer(let timer): .cancelTimer(key: timer.key)
        }
    }

    public static func timerEvent(key: UInt64) -> DirectoryEvent? { DirectoryTimer(key: key).event }
}
