import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes

// Writers that write sections themselves, on the node of the active replica.
extension ClusterSimulation {
    static func isDirect(_ id: SectionID) -> Bool { id.bytes.starts(with: Array("direct".utf8)) }

    var mayBeDirect: Bool { flags.contains([.writeActiveReplica, .collocated]) && !isPersistent }

    /// A client writes one of two sections: itself if that is left to it, else it asks, and maps.
    func writeDirect(_ node: NodeID, _ client: Client, _ id: CheckpointID) {
        guard mayBeDirect, let handle = client.handle, let process = processes[node],
            process.replication.route(id) == .here, process.member.engine.checkpoint(of: handle) != nil
        else { return }
        let section = SectionID("direct-\(random.chance(percent: 50) ? 1 : 2)")
        let value = number()
        let body = (0..<8).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
        let known = process.member.engine.sections(of: id, limit: 100).first { $0.descriptor.id == section }
        if let slot = known?.slot, process.member.direct[id]?[slot] != nil {
            counts.directWrites += 1
            processes[node]?.member.direct[id]?[slot] = body
            // It may have died before it could call.
            if random.chance(percent: 80) { processes[node]?.member.telling.insert(id) }
            return
        }
        let data = PayloadSlice(offset: 0, count: 8)
        let operation =
            known == nil
            ? SectionOperation(kind: .create, id: section, expiration: .saTimeEnd, data: data)
            : SectionOperation(kind: .overwrite, id: section, data: data)
        for request in [CkptRequest.map(handle), .update(handle, [operation])] {
            let origin = RequestOrigin(
                identity: RequestIdentity(session: client.session, number: number()),
                process: ProcessIdentity(id: 1, start: client.session.low))
            for case .wrote(_, let change) in tell(node, .request(request, origin, time: 5), body) {
                feed(node, .wrote(id, change: change, ticket: number()))
            }
        }
    }

    /// What was written is told sooner or later, by who leads.
    func stepDirect(_ node: NodeID) {
        guard let process = processes[node] else { return }
        for id in process.member.telling.sorted() where random.chance(percent: 30) {
            guard processes[node]?.replication.route(id) == .here else { continue }
            processes[node]?.member.telling.remove(id)
            tell(node, .timerFired(.telling(id), time: 5))
        }
        // A writer that died before it called has lost its connection.
        if isHealing, process.member.isUntold {
            for id in process.member.direct.keys { processes[node]?.member.telling.insert(id) }
        }
    }

    func toldDirect(_ node: NodeID, _ id: CheckpointID, _ change: UInt64) {
        counts.told += 1
        guard let epoch = processes[node]?.member.engine.replica(id)?.version.epoch else { return }
        if let other = actives[id]?[epoch], other != node {
            fail("\(other) and \(node) both are active in epoch \(epoch) of \(id)")
        }
        actives[id, default: [:]][epoch] = node
        feed(node, .wrote(id, change: change, ticket: number()))
    }
}
