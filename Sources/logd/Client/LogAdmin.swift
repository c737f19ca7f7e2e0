public import IOC
public import LogProtocol
public import OSAL
import SAFTypes

/// What an operator asks of logd: status, thresholds, rules, rotation, following the lines. Any thread.
public final class LogAdmin: Sendable {
    private let connection: IOCConnection
    private let places: Places
    private let timeout: Duration

    public init(places: Places = .fromEnvironment(), timeout: Duration = .seconds(5)) {
        self.places = places
        self.timeout = timeout
        connection = IOCConnection(to: .wellKnown(.logd), places: places)
    }

    private func call(_ request: LogRequest) throws(CallError) -> [UInt8] {
        try connection.call(request.code, request.body, timeout: timeout).body
    }

    private func decode<Value: WireCodable>(_ body: [UInt8]) throws(CallError) -> Value {
        do throws(DecodeError) {
            return try Value(decoding: body)
        } catch {
            throw CallError(.library, "logd's answer is not understood: \(error)")
        }
    }

    public func status() throws(CallError) -> LogStatus { try decode(try call(.status)) }

    /// The global streams, who writes their files, and what waits on each node.
    public func globalStatus() throws(CallError) -> GlobalStatus { try decode(try call(.globalStatus)) }

    /// Changes the threshold of a stream in every process of the node (of a global one: of the
    /// cluster), at once; nil: each has its own again.
    public func setSeverity(_ severity: LogSeverity?, of stream: LogStream) throws(CallError) {
        _ = try call(.setSeverity(stream, severity))
    }

    /// Replaces the filter rules; see ``FilterRules``.
    /// - Returns: what is wrong with them; then nothing was changed. Empty: they are in force.
    public func setRules(_ text: String) throws(CallError) -> [String] {
        let mistakes: RuleMistakes = try decode(try call(.setRules(text)))
        return mistakes.texts
    }

    /// Changes when a stream's file is full, and how many files are kept; until logd ends.
    public func setRotation(_ stream: LogStream, fileBytesMax: UInt64, filesMax: UInt32) throws(CallError) {
        _ = try call(.setRotation(stream, fileBytesMax: fileBytesMax, filesMax: filesMax))
    }

    /// The last lines, oldest first.
    /// - Parameter stream: nil: of all streams, in the order of time.
    public func lastLines(
        _ count: UInt32, of stream: LogStream? = nil, threshold: LogSeverity = .trace
    ) throws(CallError) -> [String] {
        let lines: LogLines = try decode(
            try call(.tail(stream: stream, threshold: threshold, backlog: count, follows: false)))
        return lines.lines
    }

    /// The last lines and all that follow, without a gap; also across a restart of logd, but for lines written
    /// while it was being restarted.
    public func follow(
        _ stream: LogStream? = nil, threshold: LogSeverity = .trace, backlog: UInt32 = 10
    ) async throws(CallError) -> LogTail {
        let tail = LogTail(
            places: places, stream: stream, threshold: threshold, backlog: min(backlog, LogLimits.backlogMax))
        do throws(CallError) {
            try await tail.start(timeout: timeout)
        } catch {
            tail.close()
            throw error
        }
        return tail
    }

    public func close() { connection.close() }
}
