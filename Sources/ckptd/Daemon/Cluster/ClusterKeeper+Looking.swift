import CkptEngine
import CkptProtocol
import EngineKit
import IOC
import IOCLinks
import SAFTypes

// For people: where the replicas are. Nothing changes here.
extension ClusterKeeper {
    /// A page of at most so many checkpoints; each node is asked once for a page.
    static let pageMax: UInt32 = 1_000
    /// Who looks waits for a second or more.
    private static let askTimeout = Duration.milliseconds(500)

    /// `then` is called once, as soon as every node with a replica has said how far it is, or did not in time.
    func list(after: CheckpointID, limit: UInt32, then: @escaping (ClusterListReply) -> Void) {
        let known = directory.host.core.entries
        var page: [DirectoryEntry] = []
        var hasMore = false
        for (id, entry) in known.entries(from: CheckpointID(rawValue: after.rawValue &+ 1)) where id > after {
            guard page.count < Int(min(max(limit, 1), Self.pageMax)) else {
                hasMore = true
                break
            }
            page.append(entry)
        }
        collect(page) { [unowned self] standings in
            let checkpoints = page.map { Self.text($0, standings) }
            then(ClusterListReply(hasMore: hasMore, isActing: mayAct, checkpoints: checkpoints))
        }
    }

    private final class Collection {
        var standings: [NodeID: [CheckpointID: ReplicaStanding]] = [:]
        var left = 1
    }

    private func collect(
        _ page: [DirectoryEntry], then: @escaping ([NodeID: [CheckpointID: ReplicaStanding]]) -> Void
    ) {
        let collection = Collection()
        func add(_ found: [ReplicaStanding]?) {
            for standing in found ?? [] {
                collection.standings[standing.node, default: [:]][standing.checkpoint] = standing
            }
            collection.left -= 1
            if collection.left == 0 { then(collection.standings) }
        }
        let single = page.count == 1 ? page[0].id : nil
        let holders = Set(page.flatMap { $0.replicas.filter { $0.value != .absent }.keys })
        for peer in holders.sorted() where peer != node {
            // Who has no link does not answer in time.
            guard let links, links.isUp(peer) else { continue }
            collection.left += 1
            links.ask(single, of: peer, timeout: Self.askTimeout) { add($0) }
        }
        add(standings(single))
    }

    private static func text(
        _ entry: DirectoryEntry, _ standings: [NodeID: [CheckpointID: ReplicaStanding]]
    ) -> ClusterCheckpoint {
        var openings: [ClusterCheckpoint.Openings] = []
        for node in Set(entry.openers.values).sorted() {
            openings.append(.init(node: node, count: UInt32(clamping: entry.openers.values.count { $0 == node })))
        }
        var attributes = entry.attributes
        attributes.retentionDuration = entry.retention
        let awaited = entry.awaited.filter { !entry.replicas.contains($0) }.map { node in
            ReplicaStatus(node: node, state: .absent, isKnown: false, epoch: 0, change: 0, isPartial: false)
        }
        return ClusterCheckpoint(
            checkpoint: entry.id, name: entry.name, attributes: attributes, isUnlinked: entry.isUnlinked,
            epoch: entry.epoch, active: entry.active, isElecting: entry.isElecting, openings: openings,
            replicas: entry.replicas.map { node, state in
                let standing = standings[node]?[entry.id]
                return ReplicaStatus(
                    node: node, state: ReplicaStatus.State(rawValue: state.rawValue) ?? .synchronising,
                    isKnown: standing != nil, epoch: standing?.version.epoch ?? 0,
                    change: standing?.version.change ?? 0, isPartial: standing?.isPartial ?? false)
            } + awaited)
    }

    /// Where the replicas of a checkpoint are, as the cluster has agreed; none when it is no more.
    func replicaSet(_ id: CheckpointID) -> ReplicaSet {
        guard let entry = replication.entry(id) else {
            return ReplicaSet(epoch: 0, active: nil, isElecting: false, replicas: [])
        }
        return ReplicaSet(
            epoch: entry.epoch, active: entry.active, isElecting: entry.isElecting,
            replicas: entry.replicas.map { node, state in
                .init(node: node, state: ReplicaStatus.State(rawValue: state.rawValue) ?? .synchronising)
            } + entry.awaited.filter { !entry.replicas.contains($0) }.map { .init(node: $0, state: .absent) })
    }

    /// An operator does not want to wait for nodes that may have more of a checkpoint than who is there. `then` is told
    /// what has become of that.
    func endSalvage(_ name: SaName, then: @escaping (String) -> Void) {
        guard let entry = directory.host.core.entry(named: name) else { return then("no checkpoint \(name)") }
        guard !entry.awaited.isEmpty else { return then("\(name) waits for no node") }
        let nodes = entry.awaited.map(\.description).joined(separator: ", ")
        enter {
            propose(.salvageOver(entry.id)) { outcome in
                switch outcome {
                case .done: then("\(name) waits no longer for \(nodes)")
                case .refused(_, let text): then("not done: \(text)")
                default: then("not done: this node cannot say anything to the directory now")
                }
            }
        }
    }

    /// In numbers, for the console.
    struct Summary {
        var status: String
        var mayAct: Bool
        var isQuorate: Bool
        var checkpoints: Int
        var active: Int
        var current: Int
        var synchronising: Int
        var waitingRequests: Int
        var forwardedRequests: Int
        var heldAnswers: Int
        var links: [LinkStatus]
    }

    var summary: Summary {
        var summary = Summary(
            status: "\(directory.host.status)", mayAct: mayAct, isQuorate: directory.host.view?.isQuorate ?? false,
            checkpoints: directory.host.core.entries.count, active: 0, current: 0, synchronising: 0,
            waitingRequests: requests.waitingCount, forwardedRequests: requests.count - requests.waitingCount,
            heldAnswers: answers.waiting.count, links: links?.status ?? [])
        for (_, entry) in directory.host.core.entries {
            if entry.active == node { summary.active += 1 }
            switch entry.replicas[node] {
            case .current: summary.current += 1
            case .synchronising: summary.synchronising += 1
            case .absent, nil: break
            }
        }
        return summary
    }
}
