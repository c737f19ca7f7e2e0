import OSAL
import SAFTypes

/// A port of one node: a number that names one receiver there.
public struct PortID: Hashable, Comparable, Sendable {
    public var rawValue: UInt32
    public init(_ value: UInt32) { rawValue = value }
    public static func < (left: PortID, right: PortID) -> Bool { left.rawValue < right.rawValue }
}

extension PortID: WireCodable, CustomStringConvertible {
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { rawValue = try reader.integer() }
    public var description: String { String(rawValue) }
}

/// The middleware's own services; the raw value is the service type in the name table (types below 64 are reserved).
public enum WellKnownService: UInt32, CaseIterable, Hashable, Sendable {
    case clmd = 1
    case amfd = 2
    case logd = 3
    case ckptd = 4
    case eventd = 5
    case cliserver = 6

    public var name: SystemString {
        switch self {
        case .clmd: "clmd"
        case .amfd: "amfd"
        case .logd: "logd"
        case .ckptd: "ckptd"
        case .eventd: "eventd"
        case .cliserver: "cliserver"
        }
    }
}

/// Whom a message is for. Names and meaning after TIPC.
public enum Address: Hashable, Sendable {
    /// One port of one node.
    case port(NodeID, PortID)
    /// A function, wherever it runs: resolved through clmd's name table, the nearest live provider first.
    case service(type: UInt32, instance: UInt32)
    /// All members of a named group.
    case group(SaName)
    /// Every node.
    case broadcast

    /// Service types below this belong to the middleware.
    public static let reservedTypesMax: UInt32 = 64
}

/// kind u8 (0 port, 1 service, 2 group, 3 broadcast) · fields.
extension Address: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .port(let node, let port):
            writer.integer(UInt8(0))
            writer.value(node)
            writer.value(port)
        case .service(let type, let instance):
            writer.integer(UInt8(1))
            writer.integer(type)
            writer.integer(instance)
        case .group(let name):
            writer.integer(UInt8(2))
            writer.value(name)
        case .broadcast:
            writer.integer(UInt8(3))
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        switch try reader.integer(UInt8.self) {
        case 0: self = .port(try reader.value(), try reader.value())
        case 1: self = .service(type: try reader.integer(), instance: try reader.integer())
        case 2: self = .group(try reader.value())
        case 3: self = .broadcast
        case let kind: throw .badValue("address kind \(kind); 0 to 3 expected")
        }
    }
}

extension Address: CustomStringConvertible {
    public var description: String {
        switch self {
        case .port(let node, let port): "port(\(node), \(port))"
        case .service(let type, let instance): "service(\(type), \(instance))"
        case .group(let name): "group(\(name))"
        case .broadcast: "broadcast"
        }
    }
}

/// A receiver on this node: the socket that leads to it.
public enum Endpoint: Hashable, Sendable {
    case wellKnown(WellKnownService)
    case port(PortID)

    public var name: SystemString {
        switch self {
        case .wellKnown(let service): service.name
        case .port(let port): "port-\(port.rawValue)"
        }
    }

    /// The socket's file under `runDirectory` (`$SAF_RUN_DIR`).
    public func path(in runDirectory: SystemString) -> SystemString { "\(runDirectory)/ioc/\(name)" }
}

#if !SAF_LIBRARY
    extension Endpoint: CustomStringConvertible {
        public var description: String { name }
    }
#endif
