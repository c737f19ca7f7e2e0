public import EOReplicated
public import SAFTypes

extension Directory: ReplicatedEngine {
    /// Version 1 did not say which epochs there have been, version 2 not who left with a replica, nor what is no more;
    /// commands before version 3 do not say what they are about.
    public static var versions: ClosedRange<UInt16> { 1...3 }

    public static func canEncode(_ event: DirectoryEvent, version: UInt16) -> Bool {
        if case .salvageOver = event { version >= 3 } else { true }
    }

    public static func encode(_ event: DirectoryEvent, version: UInt16, to writer: inout ByteWriter) {
        event.encode(version: version, to: &writer)
    }

    public static func decodeEvent(
        version: UInt16, from reader: inout ByteReader
    ) throws(DecodeError) -> DirectoryEvent {
        try DirectoryEvent(decoding: &reader, version: version)
    }

    public func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) { encode(to: &writer, version: version) }

    public init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        self = try Directory(decoding: &reader, version: version)
    }

    public static func route(_ effect: DirectoryEffect) -> EffectRoute<NoOnceEffect> {
        switch effect {
        case .changed, .members, .removed: .everyMember
        case .unknown(_, let node): .node(node)
        case .opened, .refused, .outdated, .found: .answer
        case .startTimer(let timer, let at): .startTimer(key: timer.key, at: at)
        case .cancelTimer(let timer): .cancelTimer(key: timer.key)
        }
    }

    public static func timerEvent(key: UInt64) -> DirectoryEvent? { DirectoryTimer(key: key).event }
}
