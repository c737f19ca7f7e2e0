public import ClmProtocol
import EngineKit
import IOC
import OSAL
public import SAFTypes

extension ClusterClient {
    /// As ``currentView(timeout:)``, suspending.
    public func view(timeout: Duration = defaultTimeout) async throws(AisError) -> ClusterView {
        try decode(ClusterView.self, try await callAsync(.track, TrackFlags.current.encoded, timeout))
    }

    /// As ``lookup(type:instance:timeout:)``, suspending; does not wait for providers that are coming back.
    public func providers(
        type: UInt32, instance: UInt32, timeout: Duration = defaultTimeout
    ) async throws(AisError) -> [PortAddress] {
        let request = LookupRequest(type: type, instance: instance)
        return try decode(LookupReply.self, try await callAsync(.lookup, request.encoded, timeout)).addresses
    }

    /// As ``node(_:timeout:)``, suspending. Source: saClmClusterNodeGetAsync().
    public func member(_ id: NodeID? = nil, timeout: Duration = defaultTimeout) async throws(AisError) -> ClusterNode {
        let asked = (id ?? ClmConstants.localNode).encoded
        return try decode(ClusterNode.self, try await callAsync(.nodeGet, asked, timeout))
    }

    /// What is bound in `range` now, and every change, without a gap; also over restarts of clmd.
    ///
    /// The stream keeps at most `limit` events for a slow reader and then ends, so that it cannot miss one unseen.
    public func topology(_ range: ServiceRange, keeping limit: Int = 4_096) throws(AisError) -> AsyncStream<
        TopologyEvent
    > {
        let (stream, continuation) = AsyncStream.makeStream(
            of: TopologyEvent.self, bufferingPolicy: .bufferingOldest(limit))
        let number = try subscribe(range) { event in
            if case .dropped = continuation.yield(event) { continuation.finish() }
        }
        continuation.onTermination = { [weak self] _ in self?.unsubscribe(number) }
        return stream
    }

    /// Every new view of the cluster; a slow reader gets the newest only.
    public func views() throws(AisError) -> AsyncStream<ClusterView> {
        let (stream, continuation) = AsyncStream.makeStream(of: ClusterView.self, bufferingPolicy: .bufferingNewest(1))
        let number = try track { continuation.yield($0) }
        continuation.onTermination = { [weak self] _ in self?.stopTracking(number) }
        return stream
    }

    private func callAsync(_ code: ClmRequestCode, _ body: [UInt8], _ timeout: Duration) async throws(AisError)
        -> [UInt8]
    {
        do throws(CallError) {
            return try await connection.call(code.rawValue, body, timeout: timeout).body
        } catch {
            throw error.code
        }
    }
}
