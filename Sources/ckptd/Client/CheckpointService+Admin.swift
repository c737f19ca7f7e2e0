public import CkptProtocol
import IOC
public import SAFTypes

/// For people who look after the service.
extension CheckpointService {
    /// A page of all checkpoints of this node, in the order of their ids. Needs root or the middleware's user.
    public func list(after: CheckpointID = .init(rawValue: 0), timeout: Duration = .seconds(5)) throws(AisError)
        -> AdminListReply
    {
        try call(
            .adminList, timeout: timeout,
            { CkptRequest.adminList(after: after, limit: CkptProtocolLimits.pageMax).encode(to: &$0) },
            { reader throws(DecodeError) in try reader.value() })
    }

    /// A page of all checkpoints of the cluster, with their replicas. Throws `.notSupported` on a node alone. Needs
    /// root or the middleware's user.
    public func clusterList(after: CheckpointID = .init(rawValue: 0), timeout: Duration = .seconds(5)) throws(AisError)
        -> ClusterListReply
    {
        let request = ClusterListRequest(after: after, limit: CkptProtocolLimits.pageMax)
        let reply: Reply
        do throws(CallError) {
            reply = try connection.call(ClusterListRequest.code, timeout: timeout) { request.encode(to: &$0) }
        } catch {
            throw failure(error)
        }
        return try Self.decoded(reply) { reader throws(DecodeError) in try reader.value() }
    }

    /// Whether what is persistent on this node is durable. Needs root or the middleware's user.
    public func durability(timeout: Duration = .seconds(5)) throws(AisError) -> DurabilityReply {
        let reply: Reply
        do throws(CallError) {
            reply = try connection.call(DurabilityReply.code, timeout: timeout) { _ in }
        } catch {
            throw failure(error)
        }
        return try Self.decoded(reply) { reader throws(DecodeError) in try reader.value() }
    }

    /// A page of one checkpoint's sections with at most `dataMax` bytes of data each.
    public func sections(
        of name: SaName, after serial: UInt64 = 0, dataMax: Int, timeout: Duration = .seconds(5)
    ) throws(AisError) -> AdminSectionsReply {
        try call(
            .adminSections, timeout: timeout,
            {
                CkptRequest.adminSections(
                    name, after: serial, limit: CkptProtocolLimits.pageMax, dataMax: UInt32(clamping: dataMax)
                ).encode(to: &$0)
            }, { reader throws(DecodeError) in try reader.value() })
    }
}
