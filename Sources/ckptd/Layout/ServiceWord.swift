/// What a process that maps a replica may do with it. Written by ckptd only, in the header of the replica's file,
/// before it stops being so.
public struct ServiceWord: OptionSet, Hashable, Sendable {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// What is read here is what a read through ckptd would give, as long as the ``LeasePage`` says so, too.
    public static let readable = ServiceWord(rawValue: 1)
    /// Sections may be written directly.
    public static let directGranted = ServiceWord(rawValue: 2)
    /// Others must be told of direct writes.
    public static let directTold = ServiceWord(rawValue: 4)
    /// The file is gone or replaced by another: who maps it lets it go, and asks for the new one.
    public static let retired = ServiceWord(rawValue: 8)
}
