import AmfProtocol
import IOC
import OSAL
import SAFTypes

/// Asks the amfd of this node: for the state of everything, and for administrative operations. For tools and for tests;
/// needs to be root or the user amfd runs as. Any thread; does not connect before it is used.
public final class AdminClient: Sendable {
    private let connection: IOCConnection

    public init(places: Places = .fromEnvironment()) {
        connection = IOCConnection(to: .wellKnown(.amfd), places: places)
    }

    /// The state of the cluster as this node knows it.
    ///
    /// - Throws: `.tryAgain` amfd is not there; `.timeout`; `.access` not allowed; `.version` amfd speaks another
    /// version.
    public func status(timeout: Duration = .seconds(5)) throws(CallError) -> StatusReport {
        try Self.report(try call(.status, timeout))
    }

    /// The state of the cluster as this node knows it; errors as of ``status(timeout:)``.
    public func statusAsync(timeout: Duration = .seconds(5)) async throws(CallError) -> StatusReport {
        try Self.report(try await callAsync(.status, timeout))
    }

    /// Performs an administrative operation on an entity and waits until it is complete (SHUTDOWN: accepted).
    ///
    /// - Parameter isForced: also when it takes a service of the middleware away, which is refused otherwise.
    /// - Throws: `.noOp`, `.badOperation`, `.tryAgain`, `.repairPending`, `.notSupported`, `.notExist` as the
    /// operation's
    ///   table says, with amfd's own words; `.access` not allowed; `.timeout` the outcome is unknown.
    /// - Source: SAI-AIS-AMF-B.02.01 §8.
    public func perform(
        _ operation: AdminOperation, on entity: SaName, isForced: Bool = false, timeout: Duration = .seconds(60)
    ) throws(CallError) {
        _ = try call(.admin(operation, entity, isForced: isForced), timeout)
    }

    /// As ``perform(_:on:isForced:timeout:)``.
    public func performAsync(
        _ operation: AdminOperation, on entity: SaName, isForced: Bool = false, timeout: Duration = .seconds(60)
    ) async throws(CallError) {
        _ = try await callAsync(.admin(operation, entity, isForced: isForced), timeout)
    }

    /// Gives amfd a checked model; applications may be added to a running one.
    ///
    /// - Throws: `.invalidParam` with every error of the model; `.access`, `.tryAgain`, `.timeout`.
    public func load(_ model: AmfModel, timeout: Duration = .seconds(10)) throws(CallError) {
        _ = try call(.loadModel(model), timeout)
    }

    /// Stops this node in order; returns when amfd has accepted that.
    public func stopNode(timeout: Duration = .seconds(5)) throws(CallError) { _ = try call(.stopNode, timeout) }

    public func close() { connection.close() }

    private func call(_ request: AmfRequest, _ timeout: Duration) throws(CallError) -> Reply {
        try connection.call(request.code.rawValue, request.body, timeout: timeout)
    }

    private func callAsync(_ request: AmfRequest, _ timeout: Duration) async throws(CallError) -> Reply {
        try await connection.call(request.code.rawValue, request.body, timeout: timeout)
    }

    private static func report(_ reply: Reply) throws(CallError) -> StatusReport {
        do throws(DecodeError) {
            return try StatusReport(decoding: reply.body)
        } catch {
            throw CallError(.version, "amfd's status cannot be read (\(error)); are saf and amfd of one version?")
        }
    }
}
