import CkptProtocol
import EngineKit
import IOC
import SAFTypes

// As Checkpoint+Mapped, for those that must not wait: until the replica is mapped, ckptd is asked for the data.
extension Checkpoint {
    func readMappedAlready(_ ranges: [ReadRange]) -> ReadReply? {
        withMapped(ask: { $0.beginAskingForReplica() }) { $0.read(ranges) }
    }

    private func beginAskingForReplica() -> MappedReplica? {
        var writer = ByteWriter()
        CkptRequest.map(handle).encode(to: &writer)
        service.connection.callAsync(CkptCode.map.rawValue, writer.bytes, timeout: .seconds(1)) { [self] result in
            if case .success(let reply) = result { keep(service.mappings.take(reply)) } else { keep(nil) }
        }
        return nil
    }
}
