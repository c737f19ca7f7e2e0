import CkptEngine
import CkptProtocol
import Containers
import SAFTypes

/// What the database of the directory has on a node, as a controller has one: it outlives the machine.
struct ModelDatabase {
    struct Content {
        var stamp = DirectoryStamp(began: 0, index: 0)
        var checkpoints = OrderedMap<CheckpointID, RememberedCheckpoint>()
        var buried = Graveyard()
    }

    private(set) var content = Content()
    /// What it said when this life began; nil: nothing yet.
    private(set) var known: Content?
    var mustReplace = true

    mutating func begin() { (known, mustReplace) = (content.stamp.began > 0 ? content : nil, true) }

    mutating func put(_ id: CheckpointID, _ entry: DirectoryEntry?, isBuried: Bool, at stamp: DirectoryStamp) {
        content.checkpoints[id] = entry.flatMap { RememberedCheckpoint($0) }
        if isBuried, entry?.isUnlinked ?? true { content.buried.insert(id) }
        content.stamp = stamp
    }

    mutating func replace(by directory: Directory, at stamp: DirectoryStamp) {
        content = Content(stamp: stamp, buried: directory.buried)
        for (id, entry) in directory.entries { content.checkpoints[id] = RememberedCheckpoint(entry) }
        mustReplace = false
    }
}

// Unlinks of persistent checkpoints: once they are answered, nobody brings them back.
extension ClusterSimulation {
    private func stamp(_ node: NodeID) -> DirectoryStamp {
        let replicated = processes[node]?.group.replicated
        return DirectoryStamp(began: replicated?.core.epochFloor ?? 0, index: replicated?.committedIndex ?? 0)
    }

    /// A majority has this.
    func keep(_ node: NodeID, _ id: CheckpointID, _ entry: DirectoryEntry?) {
        guard databases[node]?.mustReplace == false, let core = processes[node]?.group.core else { return }
        databases[node]?.put(id, entry, isBuried: core.buried.contains(id), at: stamp(node))
    }

    func keepAll(_ node: NodeID) {
        guard let process = processes[node], databases[node]?.mustReplace ?? true, process.isMember,
            !process.group.core.isRecovering,
            process.group.replicated.index == process.group.replicated.committedIndex
        else { return }
        databases[node, default: ModelDatabase()].replace(by: process.group.core, at: stamp(node))
    }

    func unlink(_ node: NodeID, _ client: Client) {
        guard let name = SaName("safCkpt=\(client.name)") else { return }
        let identity = RequestIdentity(session: client.session, number: number())
        propose(node, .unlink(name, by: identity), .unlink(identity))
    }

    /// Nothing of it is promised any more.
    func noteUnlink(of id: CheckpointID, by identity: RequestIdentity?) {
        guard let identity, unlinking[identity] == nil else { return }
        unlinking[identity] = id
        acknowledged = acknowledged.filter { $0.value != id }
    }

    func checkUnlinked() {
        for node in nodes {
            for entry in processes[node]?.group.core.entries.values ?? []
            where unlinked.contains(entry.id) && !entry.isUnlinked {
                fail("\(entry.id) was unlinked, and \(node) has it")
            }
        }
    }
}
