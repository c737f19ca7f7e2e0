import SAFTypes

/// How bad a record is; smaller is worse. Raw values are the wire values.
///
/// The names are those of `CL_LOG_SEVERITY` (syslog's of RFC 3164, and TRACE).
public enum LogSeverity: UInt8, CaseIterable, Hashable, Sendable {
    /// The system is unusable.
    case emergency = 1
    /// Action must be taken at once.
    case alert = 2
    case critical = 3
    /// The node or the cluster lost something.
    case error = 4
    /// Recovered, or bad input.
    case warning = 5
    /// Normal but significant: what an operator would write in the diary. The default threshold.
    case notice = 6
    case info = 7
    /// For developers; a threshold of DEBUG or TRACE adds file and line to every record.
    case debug = 8
    /// Entering and leaving functions and libraries.
    case trace = 9
}

extension LogSeverity: Comparable {
    /// The worse severity is the smaller one.
    public static func < (left: LogSeverity, right: LogSeverity) -> Bool { left.rawValue < right.rawValue }
}

extension LogSeverity: CustomStringConvertible {
    /// The name as `CL_LOG_SEVERITY` and the log lines spell it.
    public var description: String {
        switch self {
        case .emergency: "EMERGENCY"
        case .alert: "ALERT"
        case .critical: "CRITICAL"
        case .error: "ERROR"
        case .warning: "WARN"
        case .notice: "NOTICE"
        case .info: "INFO"
        case .debug: "DEBUG"
        case .trace: "TRACE"
        }
    }

    /// Nil when `name` is none of the severities; letter case does not matter, and WARNING is WARN.
    public init?(name: some StringProtocol) {
        let upper = name.uppercased()
        if upper == "WARNING" {
            self = .warning
            return
        }
        guard let found = Self.allCases.first(where: { $0.description == upper }) else { return nil }
        self = found
    }
}

extension LogSeverity: WireCodable {
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { self = try Self.decode(from: &reader) }
}

/// The number by which a record names its stream: 1 and 2 belong to the node, all others are global.
public struct LogStream: RawRepresentable, Hashable, Sendable {
    public let rawValue: UInt8

    /// Nil for 0, which is no stream.
    @inlinable
    public init?(rawValue: UInt8) {
        guard rawValue != 0 else { return nil }
        self.rawValue = rawValue
    }

    @usableFromInline init(number: UInt8) { rawValue = number }

    /// What the middleware says on this node: the daemons and their libraries.
    public static let system = LogStream(number: 1)
    /// What applications say on this node, and what components print on stdout and stderr.
    public static let application = LogStream(number: 2)
    /// saLogSystem: one file for the cluster. Source: SAI-AIS-LOG-A.02.01 §2.1.
    public static let clusterSystem = LogStream(number: 3)
    /// saLogAlarm: one file for the cluster.
    public static let alarm = LogStream(number: 4)
    /// saLogNotification: one file for the cluster.
    public static let notification = LogStream(number: 5)

    /// The streams that each node has for itself.
    public static let local: [LogStream] = [.system, .application]
    /// The global streams that are always there.
    public static let wellKnown: [LogStream] = [.clusterSystem, .alarm, .notification]
    /// Numbers of global streams that applications create.
    public static let created: ClosedRange<UInt8> = 16...255

    @inlinable
    public var isGlobal: Bool { rawValue > 2 }
}

extension LogStream: Comparable {
    public static func < (left: LogStream, right: LogStream) -> Bool { left.rawValue < right.rawValue }
}

extension LogStream: CustomStringConvertible {
    /// The stream's name; of a local one and a well-known one it is also the beginning of its files' names.
    public var description: String {
        switch self {
        case .system: "system"
        case .application: "application"
        case .clusterSystem: "saLogSystem"
        case .alarm: "saLogAlarm"
        case .notification: "saLogNotification"
        default: "stream \(rawValue)"
        }
    }

    /// Nil when `name` is none of the node's and none of the well-known; `sys` and `app` are accepted.
    public init?(name: some StringProtocol) {
        switch name.lowercased() {
        case "system", "sys": self = .system
        case "application", "app": self = .application
        case "salogsystem": self = .clusterSystem
        case "salogalarm": self = .alarm
        case "salognotification": self = .notification
        default: return nil
        }
    }
}

extension LogStream: WireCodable {
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { self = try Self.decode(from: &reader) }
}
