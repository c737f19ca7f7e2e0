public import LogClient
public import Logging

public import enum LogProtocol.LogSeverity

/// The log of this node as a backend of swift-log: `LoggingSystem.bootstrap { SAFLogHandler(label: $0) }`.
///
/// Records go to the application stream. The label is the area, the source (usually the module) the context, and
/// metadata stand after the message as ` key=value`, sorted by key. Never blocks; works while logd is down.
public struct SAFLogHandler: LogHandler {
    public var metadata: Logger.Metadata = [:]
    public var metadataProvider: Logger.MetadataProvider?
    private var chosenLevel: Logger.Level?
    private let log: Log

    public init(label: String, log: Log = Log(), metadataProvider: Logger.MetadataProvider? = nil) {
        self.log = log.with(area: label)
        self.metadataProvider = metadataProvider
    }

    /// Until it is set: what the node lets through now, so that the operator's threshold decides at run time. A level
    /// that was set lets less through, never more.
    public var logLevel: Logger.Level {
        get { chosenLevel ?? Logger.Level.allCases.first(where: { log.admits($0.severity) }) ?? .critical }
        set { chosenLevel = newValue }
    }

    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    public func log(event: LogEvent) {
        let severity = event.level.severity
        guard log.admits(severity) else { return }
        var all = metadata
        if let provided = metadataProvider?.get() { all.merge(provided) { $1 } }
        if let own = event.metadata { all.merge(own) { $1 } }
        var message = event.message.description
        if let error = event.error { message += " error=\(Self.quoted("\(error)"))" }
        for (key, value) in all.sorted(by: { $0.key < $1.key }) { message += " \(key)=\(Self.quoted("\(value)"))" }
        var (area, context, file) = (log.area, log.context.isEmpty ? event.source : log.context, event.file)
        message.withUTF8 { message in
            area.withUTF8 { area in
                context.withUTF8 { context in
                    file.withUTF8 { file in
                        log.writer.write(
                            severity, log.stream, message: UnsafeRawBufferPointer(message),
                            area: UnsafeRawBufferPointer(area), context: UnsafeRawBufferPointer(context),
                            file: UnsafeRawBufferPointer(file), line: UInt32(clamping: event.line))
                    }
                }
            }
        }
    }

    /// A value with blanks in it is quoted, so that it is seen where it ends.
    private static func quoted(_ value: String) -> String {
        guard value.isEmpty || value.contains(where: { $0 == " " || $0 == "\"" || $0 == "=" }) else { return value }
        return "\"" + value.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\\\"") + "\""
    }
}

extension Logger.Level {
    /// The severity of the same meaning.
    public var severity: LogSeverity {
        switch self {
        case .trace: .trace
        case .debug: .debug
        case .info: .info
        case .notice: .notice
        case .warning: .warning
        case .error: .error
        case .critical: .critical
        }
    }
}
