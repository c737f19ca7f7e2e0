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

/// The two streams of a node; both are local to it. Raw values are the wire values.
public enum LogStream: UInt8, CaseIterable, Hashable, Sendable {
    /// What the middleware says: the daemons and their libraries.
    case system = 1
    /// What applications say, and what components print on stdout and stderr.
    case application = 2
}

extension LogStream: CustomStringConvertible {
    /// The stream's name, which is also the beginning of its files' names.
    public var description: String { self == .system ? "system" : "application" }

    /// Nil when `name` is no stream; `sys` and `app` are accepted.
    public init?(name: some StringProtocol) {
        switch name.lowercased() {
        case "system", "sys": self = .system
        case "application", "app": self = .application
        default: return nil
        }
    }
}

extension LogStream: WireCodable {
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { self = try Self.decode(from: &reader) }
}
