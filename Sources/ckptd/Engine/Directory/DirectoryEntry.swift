public import CkptProtocol
public import Containers
public import EngineKit
public import SAFTypes

/// What a node's replica of a checkpoint is worth.
public enum ReplicaState: UInt8, Hashable, Sendable, CaseIterable {
    /// It is being made, or brought up to date: it may lack what was acknowledged.
    case synchronising = 1
    /// It has every update that was acknowledged; the active replica waits for it.
    case current
    /// Its node left when there was no other that is current: nobody but it has everything that was acknowledged.
    case absent
}

/// A checkpoint as the whole cluster knows it: everything but its data.
public struct DirectoryEntry: Hashable, Sendable {
    public let id: CheckpointID
    public let name: SaName
    /// As created; the retention duration in force is ``retention``.
    public let attributes: CreationAttributes
    public internal(set) var retention: SaTime
    /// A duration that is in force again is another than before. Since version 3.
    public internal(set) var retentionChanges: Int64 = 0
    public internal(set) var isUnlinked = false
    /// Whose request unlinked it.
    public internal(set) var unlinker: RequestIdentity?
    public internal(set) var openers = OrderedMap<HandleID, NodeID>()
    public internal(set) var replicas = OrderedMap<NodeID, ReplicaState>()
    /// Of the active replica; each has one of its own, and an election takes one before there is a winner.
    public internal(set) var epoch: UInt64 = 0
    /// The node whose replica takes the updates. Its replica is current.
    public internal(set) var active: NodeID?
    /// What the current replicas have, while the active one is being elected.
    public internal(set) var reports: OrderedMap<NodeID, ReplicaVersion>?
    /// The node whose replica is to be active as soon as it has everything (saCkptActiveReplicaSet).
    public internal(set) var successor: NodeID?
    /// Who was active until its node left; where somebody must set the active replica, it is set when that one is back.
    var former: NodeID?
    /// After a cold start the replicas say what they have; who has less than the elected one is not current.
    var isFound = false
    /// All that were current are lost; the newest of what is left is taken.
    var isSalvaged = false
    /// Nodes that left with a replica and have not been back: should all be lost that had everything, they may have
    /// more than who is there.
    public internal(set) var departed: [NodeID] = []
    /// Nobody is there who had everything: until then those are waited for.
    public internal(set) var salvageDeadline: Instant?
    /// In the group's time; nil while no retention runs.
    public internal(set) var retentionDeadline: Instant?

    init(id: CheckpointID, name: SaName, attributes: CreationAttributes) {
        self.id = id
        self.name = name
        self.attributes = attributes
        retention = attributes.retentionDuration
    }

    public var isElecting: Bool { reports != nil }

    /// Nobody has what was written, and nobody can come back with it.
    public var isLost: Bool { hasNobody && salvageDeadline == nil }

    /// Nobody has everything, and nobody can come back with it.
    var hasNobody: Bool {
        epoch > 0 && active == nil && reports == nil && !replicas.contains { $0.value != .synchronising }
    }

    /// What was said in the epoch before counts no more.
    mutating func raiseEpoch(to least: UInt64) { epoch = max(epoch + 1, least) }

    /// Nodes that are waited for because nobody is there who had everything.
    public var awaited: [NodeID] {
        guard active == nil, reports == nil && count(.current) == 0 || awaitsMost else { return [] }
        return replicas.filter { $0.value == .absent }.keys + (salvageDeadline == nil ? [] : departed)
    }

    /// Of replicas that were found, and of which none is elected: none that is there is known to have as much as this
    /// one. Where somebody must set the active replica, nothing is waited for that was not asked for.
    func mayHaveMost(_ node: NodeID, without gone: [NodeID] = []) -> Bool {
        guard isFound, !isSalvaged, active == nil, !attributes.flags.needsActiveReplicaSet else { return false }
        guard let most = reports?[node] else { return true }
        return !replicas.contains { other, state in
            state == .current && other != node && !gone.contains(other) && reports?[other].map { $0 >= most } == true
        }
    }

    /// A replica that was found and has left again may have more than those that are there.
    var awaitsMost: Bool { replicas.contains { $0.value == .absent && mayHaveMost($0.key) } }

    /// Its replica may be needed again.
    mutating func depart(_ node: NodeID) {
        replicas[node] = nil
        if !departed.contains(node) { departed = (departed + [node]).sorted() }
    }

    mutating func isBack(_ node: NodeID) { departed.removeAll { $0 == node } }
    mutating func forgetWhoLeft() { (departed, salvageDeadline) = ([], nil) }

    /// Whoever had reported as what is left does so again, when all are there.
    mutating func endSalvage() {
        guard isSalvaged else { return }
        replicas.updateAll { _, state in if state == .current { state = .synchronising } }
        (isFound, isSalvaged, reports) = (false, false, nil)
    }

    public func isOpen(on node: NodeID) -> Bool { openers.contains { $0.value == node } }
    func count(_ state: ReplicaState) -> Int { replicas.reduce(0) { $0 + ($1.value == state ? 1 : 0) } }

    /// Whether an active replica is found without being asked for.
    var electsItself: Bool { !attributes.flags.needsActiveReplicaSet || successor != nil }
}

/// A replica that a node has when it joins, and the opens it knows of.
public struct HeldReplica: Hashable, Sendable {
    public var id: CheckpointID
    public var name: SaName
    public var attributes: CreationAttributes
    public var version: ReplicaVersion
    public var retention: SaTime
    /// Nanoseconds left of the retention duration; nil when none ran.
    public var retentionLeft: SaTime?
    public var isUnlinked: Bool
    /// It was the active one.
    public var isActive: Bool
    public var openers: [HandleID]

    public init(
        id: CheckpointID, name: SaName, attributes: CreationAttributes, version: ReplicaVersion, retention: SaTime,
        retentionLeft: SaTime? = nil, isUnlinked: Bool = false, isActive: Bool = false, openers: [HandleID] = []
    ) {
        self.id = id
        self.name = name
        self.attributes = attributes
        self.version = version
        self.retention = retention
        self.retentionLeft = retentionLeft
        self.isUnlinked = isUnlinked
        self.isActive = isActive
        self.openers = openers
    }
}
