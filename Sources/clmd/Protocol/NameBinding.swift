public import SAFTypes

/// Instances `lower` … `upper` of a service type, both included. Types below ``reservedTypes`` belong to SwiftSAF.
///
/// type u32 · lower u32 · upper u32.
public struct ServiceRange: Hashable, Sendable {
    public static let reservedTypes: UInt32 = 64

    public let type: UInt32
    public let lower: UInt32
    public let upper: UInt32

    /// Nil when `lower` is greater than `upper`.
    public init?(type: UInt32, lower: UInt32, upper: UInt32) {
        guard lower <= upper else { return nil }
        self.type = type
        self.lower = lower
        self.upper = upper
    }

    public init(type: UInt32, instance: UInt32) {
        self.type = type
        lower = instance
        upper = instance
    }

    /// Every instance of `type`.
    public init(allOf type: UInt32) {
        self.type = type
        lower = 0
        upper = .max
    }

    public func contains(_ instance: UInt32) -> Bool { lower <= instance && instance <= upper }

    public func overlaps(_ other: ServiceRange) -> Bool {
        type == other.type && lower <= other.upper && other.lower <= upper
    }
}

extension ServiceRange: Comparable {
    public static func < (left: ServiceRange, right: ServiceRange) -> Bool {
        (left.type, left.lower, left.upper) < (right.type, right.lower, right.upper)
    }
}

extension ServiceRange: CustomStringConvertible {
    public var description: String { lower == upper ? "\(type):\(lower)" : "\(type):\(lower)-\(upper)" }
}

extension ServiceRange: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(type)
        writer.integer(lower)
        writer.integer(upper)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let type: UInt32 = try reader.integer()
        let lower: UInt32 = try reader.integer()
        let upper: UInt32 = try reader.integer()
        guard let range = ServiceRange(type: type, lower: lower, upper: upper) else {
            throw .badValue("instances \(lower)-\(upper); the lower bound first expected")
        }
        self = range
    }
}

/// Who may find a binding.
public enum BindingScope: UInt8, Hashable, Sendable, CaseIterable {
    /// Processes of the same node.
    case node = 1
    case cluster = 2
}

/// A port that lives somewhere: node u32 · port u32 · incarnation u64.
///
/// The incarnation tells a port from an earlier one of the same number.
public struct PortAddress: Hashable, Sendable {
    public var node: NodeID
    public var port: UInt32
    public var incarnation: UInt64

    public init(node: NodeID, port: UInt32, incarnation: UInt64) {
        self.node = node
        self.port = port
        self.incarnation = incarnation
    }
}

extension PortAddress: Comparable {
    public static func < (left: PortAddress, right: PortAddress) -> Bool {
        (left.node.rawValue, left.port, left.incarnation) < (right.node.rawValue, right.port, right.incarnation)
    }
}

extension PortAddress: CustomStringConvertible {
    public var description: String { "port \(port) of node \(node)" }
}

extension PortAddress: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(port)
        writer.integer(incarnation)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        port = try reader.integer()
        incarnation = try reader.integer()
    }
}

/// One line of the name table: range · address · scope u8.
public struct NameBinding: Hashable, Sendable {
    public var range: ServiceRange
    public var address: PortAddress
    public var scope: BindingScope

    public init(range: ServiceRange, address: PortAddress, scope: BindingScope) {
        self.range = range
        self.address = address
        self.scope = scope
    }
}

extension NameBinding: Comparable {
    public static func < (left: NameBinding, right: NameBinding) -> Bool {
        left.range == right.range
            ? (left.address, left.scope.rawValue) < (right.address, right.scope.rawValue) : left.range < right.range
    }
}

extension NameBinding: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(range)
        writer.value(address)
        writer.integer(scope.rawValue)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        range = try reader.value()
        address = try reader.value()
        scope = try BindingScope.decode(from: &reader)
    }
}

/// A name service client: the process behind one IOC session. node u32 · session u64 · session2 u64.
///
/// The two halves are the session's 128 bits; they survive a reconnect and are never used again.
public struct ClientSession: Hashable, Sendable {
    public var node: NodeID
    public var high: UInt64
    public var low: UInt64

    public init(node: NodeID, high: UInt64, low: UInt64) {
        self.node = node
        self.high = high
        self.low = low
    }
}

extension ClientSession: Comparable {
    public static func < (left: ClientSession, right: ClientSession) -> Bool {
        (left.node.rawValue, left.high, left.low) < (right.node.rawValue, right.high, right.low)
    }
}

extension ClientSession: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(high)
        writer.integer(low)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        high = try reader.integer()
        low = try reader.integer()
    }
}
