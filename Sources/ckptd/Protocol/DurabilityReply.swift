public import SAFTypes

/// For people: whether what is persistent on this node is durable. Asked without a body, by root or the middleware's
/// user. checkpoints u32 · behind u32 · waiting u32 · trouble (string).
public struct DurabilityReply: Hashable, Sendable, WireCodable {
    /// The request's code in the frame.
    public static let code: UInt16 = 35

    /// Persistent ones with a replica here.
    public var checkpoints: UInt32
    /// Those the disk does not have wholly yet.
    public var behind: UInt32
    /// Answers that wait for the disk.
    public var waiting: UInt32
    /// Why nothing can be made durable now; empty when it can.
    public var trouble: String

    public init(checkpoints: UInt32, behind: UInt32, waiting: UInt32, trouble: String) {
        self.checkpoints = checkpoints
        self.behind = behind
        self.waiting = waiting
        self.trouble = trouble
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(checkpoints)
        writer.integer(behind)
        writer.integer(waiting)
        writer.string(trouble)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        checkpoints = try reader.integer()
        behind = try reader.integer()
        waiting = try reader.integer()
        trouble = try reader.string()
    }
}
