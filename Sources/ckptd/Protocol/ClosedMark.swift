import SAFTypes

/// What a process marks in a file beside ckptd's socket when it has closed something and ckptd is not there to be told.
/// A ckptd that starts closes what the process that had it open has marked.
public enum ClosedMark {
    /// Below the directory of sockets and the like.
    public static let file: StaticString = "/ioc/ckptd.closed"

    private static let sessionBit: UInt64 = 1 << 62

    /// One open of a checkpoint. Numbers may meet: a mark counts only if it is by the process that has the open.
    public static func number(of handle: HandleID) -> UInt64 { handle.rawValue & (sessionBit - 1) }

    /// Everything that a client has open.
    public static func number(of session: ClientSession) -> UInt64 { sessionBit | session.low & (sessionBit - 1) }
}
