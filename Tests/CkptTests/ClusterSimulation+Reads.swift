import CkptEngine
import CkptProtocol
import EngineKit
import IOCGroups
import SAFTypes

/// A read that somebody waits for: what it must not be older than was acknowledged before it was asked.
struct PendingRead {
    var checkpoint: CheckpointID
    var least: Set<UInt64>
}

// Reads: of the active replica by asking ckptd, here or through another node's; and of replicas that a process maps.
// Whoever reads sees every update that was acknowledged, to anybody, before.
extension ClusterSimulation {
    /// Something else is known of who is there, or of what a majority has.
    func review(_ node: NodeID) {
        guard let process = processes[node] else { return }
        let others = (process.view?.members ?? []).map(\.node).filter { $0 != node }
        processes[node]?.grants.update(
            others: others, mayAct: process.mayAct, committed: process.group.replicated.committedIndex, now: now)
        tellReaders(node)
    }

    private func tellReaders(_ node: NodeID) {
        guard let grants = processes[node]?.grants else { return }
        processes[node]?.pageEnd = grants.end(now: now)
    }

    /// As a ckptd whose replicas somebody maps.
    func askOthers(_ node: NodeID) {
        guard let process = processes[node], process.mayAct else { return }
        for peer in process.grants.others
        where !process.touched.contains(peer) && process.grants.isDue(peer, now: now) {
            guard links[node]?[peer]?.isUp == true else { continue }
            processes[node]?.touched.insert(peer)
            send(.touch(sent: now), node, peer, isSmall: true)
        }
    }

    func promise(_ node: NodeID, to peer: NodeID, sent: Instant) {
        guard let process = processes[node], process.group.status == .synchronised,
            process.view?.members.contains(where: { $0.node == peer }) == true
        else { return }
        if sabotage != .promises { feed(node, .granted(peer, until: now + process.grants.rule.length)) }
        send(.promised(sent: sent, index: process.group.replicated.index), node, peer, isSmall: true)
    }

    func promised(_ node: NodeID, by peer: NodeID, sent: Instant, index: UInt64) {
        processes[node]?.touched.remove(peer)
        processes[node]?.grants.answered(peer, sent: sent, index: sabotage == .index ? 0 : index)
        tellReaders(node)
    }

    private func isTrusted(_ node: NodeID, _ id: CheckpointID) -> Bool {
        guard let process = processes[node] else { return false }
        if sabotage == .reads { return true }
        return process.replication.isTrusted(id) { process.grants.until($0) > now }
    }

    // MARK: Readers

    /// Clients of this node read, and go on with what they wait for.
    func read(_ node: NodeID) {
        if random.chance(percent: 20), let client = clients[node]?.first, let id = client.checkpoint {
            let least = Set(acknowledged.filter { $0.value == id }.keys)
            let isWaiting = processes[node]?.reads.contains { $0.checkpoint == id } ?? true
            if !isWaiting || random.chance(percent: 10) {
                processes[node]?.reads.append(PendingRead(checkpoint: id, least: least))
            }
        }
        let waiting = processes[node]?.reads ?? []
        processes[node]?.reads.removeAll()
        for read in waiting { ask(node, read) }
        readMapped(node)
    }

    private func ask(_ node: NodeID, _ read: PendingRead) {
        switch processes[node]?.replication.route(read.checkpoint) {
        case .here:
            if isTrusted(node, read.checkpoint) {
                look(node, read, "active")
            } else {
                processes[node]?.reads.append(read)
            }
        case .there(let peer):
            if links[node]?[peer]?.isUp == true { send(.read(read), node, peer, isSmall: true) }
        case .later where (processes[node]?.reads.count ?? 0) < 20: processes[node]?.reads.append(read)
        case .later, .nowhere, nil: break
        }
    }

    /// For another node, or for this one.
    func answerRead(_ node: NodeID, _ read: PendingRead) {
        guard processes[node]?.replication.route(read.checkpoint) == .here else { return }
        ask(node, read)
    }

    /// A frozen ckptd does not keep others from reading what they map; a dead one does.
    func readMapped(_ node: NodeID) {
        guard isSynchronous, let process = processes[node], process.pageEnd > now, random.chance(percent: 20) else {
            return
        }
        for id in process.replication.ids where process.replication.isReadable(id) {
            look(node, PendingRead(checkpoint: id, least: Set(acknowledged.filter { $0.value == id }.keys)), "mapped")
        }
    }

    private func look(_ node: NodeID, _ read: PendingRead, _ how: String) {
        guard let found = view(node, read.checkpoint)?.requests else { return }
        counts.reads += 1
        let missing = read.least.subtracting(found).subtracting(excused)
        if let first = missing.min() {
            fail("the \(how) replica of \(read.checkpoint) on \(node) was read without what was acknowledged: \(first)")
        }
    }
}
