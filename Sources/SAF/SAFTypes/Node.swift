/// A node of the cluster; valid only while it is a member. 0 is no node.
public struct NodeID: Hashable, Comparable, Sendable, RawRepresentable {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public init(_ value: UInt32) { rawValue = value }
    public static func < (left: NodeID, right: NodeID) -> Bool { left.rawValue < right.rawValue }
}

extension NodeID: WireCodable, CustomStringConvertible {
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { rawValue = try reader.integer() }
    public var description: String { String(rawValue) }
}

/// SaTimeT: nanoseconds since 1970-01-01 UTC, or a duration in nanoseconds, as the call says.
public typealias SaTime = Int64

extension SaTime {
    /// SA_TIME_END and SA_TIME_MAX: never, or without limit.
    public static let saTimeEnd: SaTime = .max
    /// SA_TIME_UNKNOWN.
    public static let saTimeUnknown: SaTime = .min
}
