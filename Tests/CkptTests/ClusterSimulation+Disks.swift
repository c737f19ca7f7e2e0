import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes

@testable import CkptStore

/// What a node has on its disk, and is about to have: it outlives the machine.
struct ModelDisk {
    /// As the checkpoint was in memory when the batch was made.
    struct Flight {
        var due: Instant
        var removed: [CheckpointID]
        var saved: [CheckpointID: [UInt8]]
        var lineage: UInt64?
    }

    var checkpoints: [CheckpointID: [UInt8]] = [:]
    var lineage: UInt64?
}

// Persistent checkpoints. How they lie in a database is tested elsewhere; here the disk has copies of images.
extension ClusterSimulation {
    var isPersistent: Bool { flags.contains(.persistent) }

    /// An image of the disk's as a life without RAM files has it: only writers of other nodes are remembered.
    private func restored(_ content: [UInt8], on node: NodeID) throws -> MemberNode.Image {
        var image = try MemberNode.Image(recovering: TestMemory(content), limits: Self.storeLimits)
        let writers = image.restored().openers.filter { $0.record.node != node }.map {
            RestoredCheckpoint.Opener(slot: $0.slot, record: OpenerRecord($0.record.writer), executed: $0.executed)
        }
        try image.commit(
            Transaction(checkpoint: image.checkpoint, time: 0, state: image.state, purpose: .copied(writers)),
            payload: UnsafeRawBufferPointer(start: nil, count: 0), isUpdate: false)
        return image
    }

    private func stored(_ image: MemberNode.Image) -> StoredCheckpoint {
        let found = image.restored()
        return StoredCheckpoint(
            checkpoint: found.checkpoint,
            head: PersistentHead(name: found.name, attributes: found.attributes, state: found.state),
            sections: found.sections, writers: found.openers)
    }

    /// The RAM files of the last life, and what only the disk has, or has newer.
    func contents(_ node: NodeID) throws -> [[UInt8]] {
        var contents = memories[node] ?? [:]
        for (id, content) in disks[node]?.checkpoints ?? [:] {
            let image = try restored(content, on: node)
            let ram = try contents[id].map {
                try MemberNode.Image(recovering: TestMemory($0), limits: Self.storeLimits).restored()
            }
            if CkptEngine.isNewer(stored(image).head, than: ram) { contents[id] = image.memory.content }
        }
        return contents.sorted { $0.key < $1.key }.map(\.value)
    }

    func tellStored(_ node: NodeID) {
        do {
            let images = try (disks[node]?.checkpoints ?? [:]).sorted { $0.key < $1.key }.map {
                try restored($0.value, on: node)
            }
            tell(node, .stored(images.map(stored), lineage: disks[node]?.lineage))
        } catch {
            fail("the disk of \(node) cannot be read: \(error)")
        }
    }

    /// What the engine wants of the disk, and of answers that wait for it.
    func performDisk(_ node: NodeID, _ effect: CkptEffect) {
        switch effect {
        case .startTimer(.persistence, let at): processes[node]?.persistAt = at
        case .persist(let batch):
            var flight = ModelDisk.Flight(
                due: now + .microseconds(Int64.random(in: 0...30_000, using: &random)),
                removed: batch.removals.map(\.checkpoint), saved: [:], lineage: batch.lineage)
            for save in batch.saves {
                flight.saved[save.checkpoint] = processes[node]?.member.images[save.checkpoint]?.memory.content
            }
            processes[node]?.flight = flight
        case .await(let ticket): processes[node]?.undurable.insert(ticket)
        case .release(let tickets):
            for ticket in tickets {
                processes[node]?.undurable.remove(ticket)
                if let request = processes[node]?.heldForDisk.removeValue(forKey: ticket) {
                    answer(node, request, isDone: true)
                }
            }
        case .abandon(let tickets, _, _):
            for ticket in tickets {
                processes[node]?.undurable.remove(ticket)
                if let request = processes[node]?.heldForDisk.removeValue(forKey: ticket) {
                    answer(node, request, isDone: false)
                }
            }
        default: break
        }
    }

    func stepDisk(_ node: NodeID) {
        if let at = processes[node]?.persistAt, at <= now {
            processes[node]?.persistAt = nil
            tell(node, .timerFired(.persistence, time: 5))
        }
        guard let flight = processes[node]?.flight, flight.due <= now else { return }
        processes[node]?.flight = nil
        if !isHealing, random.chance(percent: 3) {
            counts.refusals += 1
            tell(node, .persisted(.failed(.full("so says the simulation"))))
            return
        }
        land(node, flight)
        tell(node, .persisted(.done))
    }

    /// Whole or not at all; nobody may have been told when the power goes.
    private func land(_ node: NodeID, _ flight: ModelDisk.Flight) {
        counts.batches += 1
        var disk = disks[node] ?? ModelDisk()
        for id in flight.removed { disk.checkpoints[id] = nil }
        disk.checkpoints.merge(flight.saved) { _, new in new }
        disk.lineage = flight.lineage ?? disk.lineage
        disks[node] = disk
    }

    /// What was under way may be on the disk or not.
    func losePower(_ node: NodeID) {
        if let flight = processes[node]?.flight, random.chance(percent: 50) { land(node, flight) }
    }

    /// As a replica that nobody has in memory.
    func diskView(_ node: NodeID, _ id: CheckpointID) -> ReplicaView? {
        guard let content = disks[node]?.checkpoints[id] else { return nil }
        do { return try ReplicaView(try restored(content, on: node)) } catch {
            fail("what the disk of \(node) has of \(id) cannot be read: \(error)")
            return nil
        }
    }

    /// Every current replica has on its disk what was acknowledged.
    func checkDisks() {
        guard isPersistent, let core = processes[nodes[0]]?.group.core else { return }
        for (request, id) in acknowledged {
            guard let entry = core.entry(id), !entry.isLost else { continue }
            for (peer, state) in entry.replicas where state == .current {
                if diskView(peer, id)?.requests.contains(request) != true {
                    fail("request \(request) was acknowledged, and the disk of \(peer) does not have it")
                }
            }
        }
    }
}
