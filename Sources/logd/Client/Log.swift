import LogProtocol
import OSAL
import Synchronization

public import enum LogProtocol.LogSeverity
public import struct LogProtocol.LogStream

/// Writes log records: `Log.notice("reading \(path)", area: "WC", context: "MAIN")`.
///
/// Never blocks, never throws, does no file I/O; works while logd is down (records then wait in shared memory) and from
/// any thread. What is less severe than the threshold costs two loads, and its message is not even built. The threshold
/// is `CL_LOG_SEVERITY` (default NOTICE) unless the operator changed it at run time.
public struct Log: Sendable {
    public let stream: LogStream
    /// The part of the software that speaks, conventionally three or four capitals; lines show `---` for none.
    public let area: String
    public let context: String
    public let writer: LogWriter

    public init(
        stream: LogStream = .application, area: String = "", context: String = "", writer: LogWriter = Log.sharedWriter
    ) {
        (self.stream, self.area, self.context, self.writer) = (stream, area, context, writer)
    }

    /// The writer of this process, made on first use.
    public static let sharedWriter: LogWriter = {
        var options = LogWriter.Options()
        if let daemon = daemonName.withLock({ $0 }) {
            options.program = daemon
            options.echoes = options.echoes || isTerminal(StandardError.raw)
        }
        let writer = LogWriter(options)
        for mistake in options.mistakes { Log(stream: defaultStream, area: "LOG", writer: writer).warning(mistake) }
        return writer
    }()

    private static let daemonName = Lock<String?>(nil)
    private static let isDaemon = Atomic<Bool>(false)

    /// Makes this process log as the middleware daemon `name`, on the system stream, and to stderr too when that is a
    /// terminal or `SAF_LOG_STDERR=1`. To be called first in `main`; the returned log is for the daemon's own use.
    public static func startDaemon(_ name: String) -> Log {
        daemonName.withLock { $0 = name }
        isDaemon.store(true, ordering: .relaxed)
        return Log(stream: .system)
    }

    /// The stream of the static functions: application, or system in a daemon.
    private static var defaultStream: LogStream { isDaemon.load(ordering: .relaxed) ? .system : .application }

    /// The same log for another area or context.
    public func with(area: String? = nil, context: String? = nil) -> Log {
        Log(stream: stream, area: area ?? self.area, context: context ?? self.context, writer: writer)
    }

    /// Whether a record of this severity may pass; for callers that must collect something before they can log it.
    public func admits(_ severity: LogSeverity) -> Bool { writer.admits(severity, stream) }

    /// Writes a record of any severity.
    @inline(__always)
    public func record(
        _ severity: LogSeverity, _ message: @autoclosure () -> String, area: String? = nil, context: String? = nil,
        file: StaticString = #fileID, line: UInt32 = #line
    ) {
        guard writer.admits(severity, stream) else { return }
        writer.write(
            severity, stream, message: message(), area: area ?? self.area, context: context ?? self.context, file: file,
            line: line)
    }

    /// Writes a record of any severity with this process's own writer.
    @inline(__always)
    public static func record(
        _ severity: LogSeverity, _ message: @autoclosure () -> String, area: String = "", context: String = "",
        file: StaticString = #fileID, line: UInt32 = #line
    ) {
        let (writer, stream) = (sharedWriter, defaultStream)
        guard writer.admits(severity, stream) else { return }
        writer.write(severity, stream, message: message(), area: area, context: context, file: file, line: line)
    }
}
