public import IOC
public import LogProtocol
public import OSAL
public import SAFTypes

/// Opens global streams: one file, on the cluster's controllers, for what any node writes. Any thread.
///
///     let stream = try LogStreams().open(name, creating: StreamAttributes(fileName: "orders"))
///     Log(stream: stream).notice("order 17 taken")
///
/// A stream is open for this process until it closes it or ends; with its last opener in the cluster it ends, its files
/// stay. The well-known streams (``LogStream/clusterSystem``, ``LogStream/alarm``, ``LogStream/notification``) need not
/// be opened. Writing is as for every stream: it never blocks, and works while logd is down.
public final class LogStreams: Sendable {
    private let connection: IOCConnection
    private let timeout: Duration

    public init(places: Places = .fromEnvironment(), timeout: Duration = .seconds(5)) {
        self.timeout = timeout
        connection = IOCConnection(to: .wellKnown(.logd), places: places)
    }

    /// Opens a stream, with attributes creates it when there is none of the name.
    ///
    /// Errors: `.notExist` without attributes, `.exist` it has others, `.invalidParam` they make no sense,
    /// `.noResources` too many streams, `.tryAgain` the cluster has no quorum.
    public func open(_ name: SaName, creating attributes: StreamAttributes? = nil) throws(CallError) -> LogStream {
        let request = LogRequest.open(name, attributes)
        let body = try connection.call(request.code, request.body, timeout: timeout).body
        do throws(DecodeError) {
            return try OpenedStream(decoding: body).stream
        } catch {
            throw CallError(.library, "logd's answer is not understood: \(error)")
        }
    }

    /// Errors: those of the connection only; a stream that is not open is no error.
    public func close(_ stream: LogStream) throws(CallError) {
        let request = LogRequest.close(stream)
        _ = try connection.call(request.code, request.body, timeout: timeout)
    }

    public func close() { connection.close() }
}
