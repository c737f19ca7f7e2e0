public import CkptProtocol
public import Containers
public import EngineKit
public import SAFTypes

/// The cluster's checkpoints: names, who has them open, where their replicas are, and which is active. Replicated:
/// every node's ckptd has the same. It holds no data and speaks to no node; each looks at the entries and does its
/// part.
///
/// What it guards: a replica is `current` only while it has every update that was acknowledged to a writer, so that any
/// current one may become active; there is at most one active replica in an epoch. Source: SAI-AIS-CKPT-B.02.02.
public struct Directory: Engine, Sendable {
    public static let checkpointsMax = 100_000
    public static let openersMax = 4_096
    /// Replicas of a checkpoint that is not collocated, if there are so many nodes.
    public static let replicasMin = 2
    /// How long a directory that begins anew waits for nodes that may have newer replicas.
    public static let recoveryMax = Duration.seconds(5)

    /// How long what a node's processes have open stays open when its ckptd is gone: it may only have been restarted.
    public static let awayMax = Duration.seconds(10)

    /// How long nodes that left with a replica are waited for when all are lost that had everything: a reboot.
    public static let salvageMax = Duration.seconds(60)

    /// A node whose ckptd is there.
    struct Member: Hashable, Sendable {
        var incarnation: UInt64
        /// It has told everything it has.
        var isComplete = false
        /// What it has told until then.
        var held: [HeldReplica] = []
    }

    /// Told apart from those that were before it, which nobody remembers; 0 before the first node.
    public internal(set) var lineage: UInt64 = 0
    public internal(set) var entries = OrderedMap<CheckpointID, DirectoryEntry>()
    /// By name, of what is not unlinked; only looked up.
    var named: [SaName: CheckpointID] = [:]
    var members = OrderedMap<NodeID, Member>()
    /// Replicas on each node.
    var load = OrderedMap<NodeID, Int>()
    /// Nodes whose ckptd are gone, with opens that are not closed yet.
    var away = OrderedMap<NodeID, Instant>()
    /// Seconds since 1970 when it began; epochs are not less, so that none is of an earlier directory.
    public internal(set) var epochFloor: UInt64 = 0
    /// Of all that ever were here, and the seconds since 1970 when a node joined last: whose epoch is raised gets none
    /// below it, so that no epoch is given again after a loss of memory. What is persistent begins above it, so that of
    /// two by one name the later has the higher epochs: a disk may bring back one that was unlinked.
    var highestEpoch: UInt64 = 0
    /// Nodes may still come with replicas that are newer.
    public internal(set) var isRecovering = true
    /// Persistent checkpoints that were unlinked, or not used for too long.
    public internal(set) var buried = Graveyard()
    /// What databases of controllers say; until that is over.
    var memories = OrderedMap<NodeID, Memory>()

    /// What the members spoke when the present event was ordered: who speaks less does not know all of the state.
    var version = versions.upperBound

    public init() {}

    public mutating func handle(_ event: DirectoryEvent, version: UInt16, at now: Instant) -> [DirectoryEffect] {
        if version != self.version {
            self.version = version
            if !waitsForWhoLeft {
                for id in entries.keys {
                    entries[id]?.forgetWhoLeft()
                    entries[id]?.retentionChanges = 0
                }
                buried = Graveyard()
            }
        }
        return handle(event, at: now)
    }

    /// Since version 3.
    var waitsForWhoLeft: Bool { version >= 3 }

    public func entry(_ id: CheckpointID) -> DirectoryEntry? { entries[id] }
    public func entry(named name: SaName) -> DirectoryEntry? { named[name].flatMap { entries[$0] } }
    /// The nodes whose ckptd are there, ascending.
    public var nodes: [NodeID] { members.keys }
    public var lives: [NodeLife] { members.map { NodeLife(node: $0.key, incarnation: $0.value.incarnation) } }
    /// Those that have told everything they have.
    public var completeLives: [NodeLife] {
        members.filter { $0.value.isComplete }.map { NodeLife(node: $0.key, incarnation: $0.value.incarnation) }
    }
    public func isMember(_ node: NodeID, incarnation: UInt64) -> Bool {
        members[node].map { $0.incarnation == incarnation && $0.isComplete } ?? false
    }

    public mutating func handle(_ event: DirectoryEvent, at now: Instant) -> [DirectoryEffect] {
        var effects: [DirectoryEffect] = []
        switch event {
        case .joined(let join): joined(join, now, &effects)
        case .left(let lives): left(lives, now, &effects)
        case .open(let name, let handle, let node, let id, let attributes):
            open(name, handle, node, id, attributes, now, &effects)
        case .close(let handles): close(handles, now, &effects)
        case .unlink(let name, let seen, let identity): unlink(name, seen, identity, now, &effects)
        case .setRetention(let id, let duration, let seen): setRetention(id, duration, seen, now, &effects)
        case .setActive(let id, let node, let seen): setActive(id, node, seen, now, &effects)
        case .current(let id, let node, let epoch):
            change(id, now, &effects) { entry in
                guard entry.epoch == epoch, entry.active != nil, entry.replicas.contains(node) else { return }
                entry.replicas[node] = .current
            }
        case .silent(let id, let node, let epoch): silent(id, node, epoch, now, &effects)
        case .failed(let id, let node): failed(id, node, now, &effects)
        case .report(let node, let reports): for report in reports { take(report, from: node, now, &effects) }
        case .handOver(let id, let epoch, let node): handOver(id, epoch, node, now, &effects)
        case .retentionOver(let id):
            guard let entry = entries[id], let deadline = entry.retentionDeadline else { break }
            let wait = isRecovering ? now + Self.recoveryMax : deadline
            if isRecovering || deadline > now { return [.startTimer(.retention(id), at: wait)] }
            remove(entry, .retentionOver, &effects)
        case .forgotten(let node): forget(node, now, &effects)
        case .recoveryOver: endRecovery(now, &effects)
        case .salvageOver(nil): endSalvage(now, &effects)
        case .salvageOver(let id?): giveUpWaiting(id, now, &effects)
        case .remembered(let part): remember(part, now, &effects)
        case .find(let name): find(name, &effects)
        }
        return effects
    }

    /// Changes an entry and does what follows from it.
    mutating func change(
        _ id: CheckpointID, _ now: Instant, _ effects: inout [DirectoryEffect], _ body: (inout DirectoryEntry) -> Void
    ) {
        guard let before = entries[id] else { return }
        var entry = before
        body(&entry)
        settle(&entry, now, &effects)
        if !waitsForWhoLeft { entry.forgetWhoLeft() }
        // That one which is gone is current may be on its way already; it is no word of the next one on that node.
        if entry.active != nil, entry.epoch == before.epoch,
            before.replicas.contains(where: { isSpokenOf($0.key, $0.value) && !entry.replicas.contains($0.key) })
        {
            entry.raiseEpoch(to: highestEpoch)
        }
        let isChanged = entry != before
        if isChanged {
            count(before, -1)
            count(entry, 1)
            entries[id] = entry
            highestEpoch = max(highestEpoch, entry.epoch)
        }
        if !removeIfOver(entry, &effects), isChanged { effects.append(.changed(entry)) }
    }

    /// Also a current one, if its node is there: it may say what it has until it hears that it is wanted no more.
    private func isSpokenOf(_ node: NodeID, _ state: ReplicaState) -> Bool {
        state == .synchronising || waitsForWhoLeft && state == .current && members.contains(node)
    }

    /// Nobody has it open, and it is not kept without.
    private mutating func removeIfOver(_ entry: DirectoryEntry, _ effects: inout [DirectoryEffect]) -> Bool {
        guard entry.openers.isEmpty, !isRecovering, entry.isUnlinked || entry.retention == 0 else { return false }
        remove(entry, entry.isUnlinked ? .unlinked(by: entry.unlinker) : .retentionOver, &effects)
        return true
    }

    private mutating func count(_ entry: DirectoryEntry, _ delta: Int) {
        for (node, state) in entry.replicas where state != .absent { load[node, default: 0] += delta }
    }

    private mutating func remove(
        _ entry: DirectoryEntry, _ reason: DirectoryRemoval, _ effects: inout [DirectoryEffect]
    ) {
        if let known = entries.removeValue(forKey: entry.id) { count(known, -1) }
        if named[entry.name] == entry.id { named[entry.name] = nil }
        bury(entry)
        effects += [.cancelTimer(.retention(entry.id)), .removed(entry.id, reason)]
    }

    /// Remembers that it is no more; without regard to who has it open still.
    private mutating func bury(_ entry: DirectoryEntry) {
        if waitsForWhoLeft, entry.attributes.flags.contains(.persistent) { buried.insert(entry.id) }
    }

    mutating func insert(_ entry: DirectoryEntry, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        var new = entry
        settle(&new, now, &effects)
        entries[new.id] = new
        highestEpoch = max(highestEpoch, new.epoch)
        if !new.isUnlinked { named[new.name] = new.id }
        count(new, 1)
        if !removeIfOver(new, &effects) { effects.append(.changed(new)) }
    }

    // MARK: What clients want

    private mutating func open(
        _ name: SaName, _ handle: HandleID, _ node: NodeID, _ id: CheckpointID, _ attributes: CreationAttributes?,
        _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        func refuse(_ code: AisError, _ text: String) { effects.append(.refused(code, text)) }
        guard members.contains(node) else { return refuse(.tryAgain, "node \(node) has not joined") }
        if let known = named[name], let entry = entries[known], !(entry.isLost && attributes != nil) {
            if let attributes, !entry.attributes.isCompatible(with: attributes) {
                return refuse(.exist, "checkpoint \(name) exists with other attributes")
            }
            if entry.isLost, entry.replicas.isEmpty {
                return refuse(.notExist, "the data of checkpoint \(name) is lost; CREATE makes it anew")
            }
            guard entry.openers.count < Self.openersMax else {
                return refuse(.noResources, "checkpoint \(name) is open \(Self.openersMax) times")
            }
            change(known, now, &effects) { $0.openers[handle] = node }
            effects.append(.opened(known, isCreated: false))
            return
        }
        guard !isRecovering else { return refuse(.tryAgain, "the nodes have not yet told which checkpoints they have") }
        guard let attributes else { return refuse(.notExist, "checkpoint \(name) does not exist") }
        guard entries.count < Self.checkpointsMax else {
            return refuse(.noResources, "\(Self.checkpointsMax) checkpoints in the cluster")
        }
        // Its data is lost for good: the name is free for another.
        if let lost = named[name] { change(lost, now, &effects) { $0.isUnlinked = true } }
        named[name] = nil
        var entry = DirectoryEntry(id: id, name: name, attributes: attributes)
        entry.openers[handle] = node
        entry.replicas[node] = .current
        if entry.electsItself { (entry.active, entry.epoch) = (node, max(1, firstEpoch(of: attributes))) }
        insert(entry, now, &effects)
        effects.append(.opened(id, isCreated: true))
    }

    /// Of a checkpoint that nobody has written to.
    func firstEpoch(of attributes: CreationAttributes) -> UInt64 {
        max(epochFloor, attributes.flags.contains(.persistent) ? highestEpoch + 1 : highestEpoch)
    }

    private mutating func close(_ handles: [OpenedHandle], _ now: Instant, _ effects: inout [DirectoryEffect]) {
        for opened in handles { change(opened.checkpoint, now, &effects) { $0.openers[opened.handle] = nil } }
    }

    private mutating func unlink(
        _ name: SaName, _ seen: CheckpointID?, _ identity: RequestIdentity, _ now: Instant,
        _ effects: inout [DirectoryEffect]
    ) {
        if entries.contains(where: { $0.value.unlinker == identity }) { return }  // done by an earlier sending
        guard let id = named[name] else {
            return effects.append(.refused(.notExist, "checkpoint \(name) does not exist"))
        }
        if let seen, seen != id {
            return effects.append(.outdated("checkpoint \(name) is another than when its unlink was asked for"))
        }
        named[name] = nil
        if let entry = entries[id] { bury(entry) }
        change(id, now, &effects) { entry in
            entry.isUnlinked = true
            entry.unlinker = identity
        }
    }

    private mutating func setRetention(
        _ id: CheckpointID, _ duration: SaTime, _ seen: Int64?, _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        guard let entry = entries[id] else {
            return effects.append(.refused(.badHandle, "the checkpoint is no more"))
        }
        guard !entry.isUnlinked else {
            return effects.append(
                .refused(.badOperation, "checkpoint \(entry.name) is unlinked and ends with its last close"))
        }
        // As it is to be: perhaps by an earlier sending.
        guard entry.retentionChanges == seen ?? entry.retentionChanges || entry.retention == duration else {
            return effects.append(.outdated("checkpoint \(entry.name) has been given another retention duration"))
        }
        let isCounted = waitsForWhoLeft
        change(id, now, &effects) { entry in
            if isCounted, entry.retention != duration { entry.retentionChanges += 1 }
            entry.retention = duration
        }
    }

    private func find(_ name: SaName, _ effects: inout [DirectoryEffect]) {
        let entry = entry(named: name)
        guard entry != nil || !isRecovering else {
            return effects.append(.refused(.tryAgain, "the nodes have not yet told which checkpoints they have"))
        }
        effects.append(.found(entry))
    }
}
