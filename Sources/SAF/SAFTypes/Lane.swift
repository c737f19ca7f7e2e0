/// One of the four priorities in which frames and jobs travel; a busier lower lane never delays a higher one.
///
/// Raw values are the wire values. Source: the seeds' IOC priorities.
public enum Lane: UInt8, CaseIterable, Hashable, Sendable {
    /// Supervision and membership: what keeps the node alive.
    case control = 0
    case high = 1
    case normal = 2
    /// Bulk traffic that may wait.
    case low = 3
}

extension Lane: Comparable {
    /// The more urgent lane is the smaller one.
    public static func < (left: Lane, right: Lane) -> Bool { left.rawValue < right.rawValue }
}

extension Lane: WireCodable {
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { self = try Self.decode(from: &reader) }
}
