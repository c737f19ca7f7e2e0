import CkptProtocol
import EngineKit
import IOC
import SAFTypes

// As Checkpoint+Mapped, for those that must not wait: until the replica is mapped, ckptd is asked for the data.
extension Checkpoint {
    func readMappedAlready(_ ranges: [ReadRange]) -> ReadReply? {
        readMapped(ranges, ask: { $0.beginAskingForReplica() })
    }

    private func beginAskingForReplica() -> MappedReplica? {
        var writer = ByteWriter()
        CkptRequest.map(handle).encode(to: &writer)
        service.connection.callAsync(service.frameCode(.map), writer.bytes, timeout: .seconds(1)) { [self] result in
            guard case .success(let reply) = result else { return _ = keep(nil) }
            keep(service.mappings.take(reply, isStrict: service.requiresMembership))
        }
        return nil
    }
}
