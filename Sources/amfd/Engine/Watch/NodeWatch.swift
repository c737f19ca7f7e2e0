import EngineKit
import SAFTypes

/// Decides when a member of the cluster that is not heard of is given up, so that what it ran may run elsewhere;
/// performs nothing. Every amfd has one; only the one in charge acts.
///
/// | the node's amfd is gone, and | given up |
/// |---|---|
/// | it had stopped the node in order | at once |
/// | its corosync is gone too | when its lease is over |
/// | its corosync is there: its guard starts amfd again | after `amfdGrace`, when its lease is over |
/// | it can be fenced | as above, and when it has been fenced |
public struct NodeWatch: Engine, Sendable {
    public enum Event: Hashable, Sendable {
        /// How it looks now: at every change, and when a timer is due.
        case seen(Sight)
        /// ``MajorityLease``: the node's lease is over.
        case released(NodeID)
        /// The answer to ``Effect/fence(_:)``.
        case fenced(NodeID, succeeded: Bool)
    }

    public struct Sight: Hashable, Sendable {
        /// Nodes whose amfd is in the group's view.
        public var amfds: [NodeID]
        /// Nodes whose corosync is connected.
        public var ring: [NodeID]
        /// By the cluster engine's state.
        public var members: [ClusterMember]
        /// The view has quorum, and amfds of a majority of the nodes.
        public var isMajority: Bool
        /// This amfd is the oldest that holds the state.
        public var isInCharge: Bool
        public init(
            amfds: [NodeID], ring: [NodeID], members: [ClusterMember], isMajority: Bool, isInCharge: Bool
        ) {
            (self.amfds, self.ring, self.members) = (amfds, ring, members)
            (self.isMajority, self.isInCharge) = (isMajority, isInCharge)
        }
    }

    public enum Effect: Hashable, Sendable {
        /// Propose ``ClusterEvent/nodeLeft(_:incarnation:)``.
        case giveUp(NodeID, incarnation: UInt64)
        /// Cut the node off for certain.
        case fence(NodeID)
        /// For the log: it is not heard of, and had not said that it would leave.
        case missed(NodeID, isConnected: Bool)
        /// ``Event/seen(_:)`` is due; replaces the timer before.
        case startTimer(at: Instant)
    }

    private struct Absence: Hashable, Sendable {
        var since: Instant
        var isReleased = false
        var fencing = Fencing.none
        /// Not to be asked for again before then.
        var notBefore: Instant
    }
    private enum Fencing: Hashable, Sendable { case none, running, done }

    public let configuration: NodeWatchConfiguration
    private var sight: Sight?
    private var absences: [NodeID: Absence] = [:]

    public init(_ configuration: NodeWatchConfiguration) { self.configuration = configuration }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        var effects: [Effect] = []
        switch event {
        case .seen(let sight): look(sight, at: now, &effects)
        case .released(let node): absences[node]?.isReleased = true
        case .fenced(let node, let succeeded):
            absences[node]?.fencing = succeeded ? .done : .none
            if !succeeded { absences[node]?.notBefore = now + configuration.fencingRetry }
        }
        var next: Instant?
        for member in sight?.members ?? [] {
            guard let due = act(on: member, at: now, &effects) else { continue }
            next = min(due, next ?? due)
        }
        if let next { effects.append(.startTimer(at: next)) }
        return effects
    }

    private mutating func look(_ new: Sight, at now: Instant, _ effects: inout [Effect]) {
        sight = new
        guard new.isMajority else { return absences.removeAll() }
        for node in absences.keys.sorted() where new.amfds.contains(node) { absences[node] = nil }
        for member in new.members where !new.amfds.contains(member.node) && absences[member.node] == nil {
            absences[member.node] = Absence(since: now, notBefore: now)
            if !member.hasStopped { effects.append(.missed(member.node, isConnected: new.ring.contains(member.node))) }
        }
    }

    /// When to look again, if anything is waited for.
    private mutating func act(on member: ClusterMember, at now: Instant, _ effects: inout [Effect]) -> Instant? {
        guard let sight, sight.isInCharge, let absence = absences[member.node] else { return nil }
        if !member.hasStopped {
            let due = due(member.node, absence, sight)
            if now < due { return due }
            if configuration.fenced.contains(member.node), absence.fencing != .done {
                guard absence.fencing == .none else { return nil }
                absences[member.node]?.fencing = .running
                effects.append(.fence(member.node))
                return nil
            }
        }
        if now < absence.notBefore { return absence.notBefore }
        absences[member.node]?.notBefore = now + configuration.proposalRetry
        effects.append(.giveUp(member.node, incarnation: member.incarnation))
        return now + configuration.proposalRetry
    }

    /// A majority that has been without the node for as long as a lease lasts has granted it none since: the same as
    /// being told, for those that did not see it go.
    private func due(_ node: NodeID, _ absence: Absence, _ sight: Sight) -> Instant {
        var due = absence.isReleased ? absence.since : absence.since + configuration.leaseSpan
        if sight.ring.contains(node) { due = max(due, absence.since + configuration.amfdGrace) }
        return max(due, absence.notBefore)
    }
}

public struct NodeWatchConfiguration: Hashable, Sendable {
    /// How long an amfd may be away before what runs on its node counts as lost.
    public var amfdGrace: Duration = .seconds(10)
    /// The longest that a lease can last by the clock of those who grant it.
    public var leaseSpan: Duration
    /// Nodes with a fencing device.
    public var fenced: [NodeID]
    public var fencingRetry: Duration = .seconds(5)
    public var proposalRetry: Duration = .seconds(1)

    public init(leaseSpan: Duration, fenced: [NodeID] = []) { (self.leaseSpan, self.fenced) = (leaseSpan, fenced) }
}
