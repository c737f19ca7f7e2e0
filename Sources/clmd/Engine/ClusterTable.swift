public import ClmProtocol
public import EngineKit
public import SAFTypes

/// What all nodes of the cluster know alike: who is a member, since which view, and who provides what.
///
/// Fed the same commands it decides the same everywhere; replicated over clmd's group. Spec: SAI-AIS-CLM-B.04.01.
public struct ClusterTable: Engine, Hashable, Sendable {
    public enum Command: Hashable, Sendable {
        /// Binds, withdrawals, sessions that ended.
        case names(NameTable.Command)
        /// A node says what it is. View numbers go on above `viewFloor`, the last that the node has seen.
        case nodeJoined(NodeRecord, viewFloor: UInt64)
        /// That life of the node is over, or it takes its leave; what it had bound goes.
        case nodeLeft(NodeID, incarnation: UInt64)
        case administer(NodeAdministration)
        /// A member's trackers are done with a step of a planned change.
        case stepDone(NodeID, change: UInt64, ChangeStep, isRejected: Bool)
        case supervisionOver(change: UInt64)
    }

    public enum Outcome: Hashable, Sendable {
        case names(NameTable.Outcome)
        case transition(ClusterTransition)
        /// The record of this node is gone, member or not.
        case forgotten(NodeID)
        /// The trackers are to be asked.
        case step(PlannedChange)
        /// A tracker rejected it, or its node is gone.
        case aborted(PlannedChange)
        /// The operation was not begun. To the member that asked.
        case refused(NodeAdministration, AisError)
        case supervise(change: UInt64, until: Instant)
        case superviseNoMore(change: UInt64)
    }

    public struct Limits: Hashable, Sendable {
        public var names: NameTable.Limits
        /// How long a lock waits for the START trackers.
        public var lockSupervision: Duration

        public init(names: NameTable.Limits = .init(), lockSupervision: Duration = .seconds(10)) {
            self.names = names
            self.lockSupervision = lockSupervision
        }
    }

    let limits: Limits
    public internal(set) var names: NameTable
    /// Members and locked nodes.
    var records: [NodeID: NodeRecord] = [:]
    /// No members even if they are there, until unlocked; ascending.
    var locked: [NodeID] = []
    public internal(set) var viewNumber: UInt64 = 0
    public internal(set) var planned: PlannedChange?
    var lastChange: UInt64 = 0

    public init(limits: Limits = Limits()) {
        self.limits = limits
        names = NameTable(limits: limits.names)
    }

    /// Every node that is there, ascending.
    public var nodes: [NodeRecord] { records.values.sorted { $0.node.nodeID < $1.node.nodeID } }
    public var members: [ClusterNode] { nodes.map(\.node).filter(\.isMember) }
    public func record(of node: NodeID) -> NodeRecord? { records[node] }
    public func isLocked(_ node: NodeID) -> Bool { locked.contains(node) }

    public mutating func handle(_ command: Command, at now: Instant) -> [Outcome] {
        defer { checkInvariants() }
        switch command {
        case .names(let command): return names.handle(command, at: now).map { .names($0) }
        case .nodeJoined(let record, let floor): return join(record, above: floor, at: now)
        case .nodeLeft(let node, let incarnation):
            return records[node]?.incarnation == incarnation ? leave(node, at: now) : []
        case .administer(let administration): return administer(administration, at: now)
        case .stepDone(let node, let change, let step, let isRejected):
            guard let planned, planned.number == change, planned.step == step, planned.awaiting.contains(node) else {
                return []
            }
            if isRejected, step == .validate { return abort() }
            self.planned?.awaiting.removeAll { $0 == node }
            return advance(at: now)
        case .supervisionOver(let change):
            guard planned?.number == change else { return [] }
            planned?.awaiting.removeAll()
            return advance(at: now)
        }
    }

    private func checkInvariants() {
        invariant(planned?.awaiting.isEmpty != true, "a change that waits for nobody has happened")
        invariant(viewNumber >= (records.values.map(\.node.initialViewNumber).max() ?? 0), "nobody joins in the future")
    }
}

// MARK: Nodes that come and go

extension ClusterTable {
    private mutating func join(_ record: NodeRecord, above floor: UInt64, at now: Instant) -> [Outcome] {
        let id = record.node.nodeID
        guard let known = records[id], known.incarnation == record.incarnation else {
            let ended = leave(id, at: now)
            viewNumber = max(viewNumber, floor)
            records[id] = record
            records[id]?.node.isMember = false
            records[id]?.node.initialViewNumber = 0
            return ended + (locked.contains(id) ? [] : admit(id, nil))
        }
        guard !known.saysTheSame(as: record) else { return [] }
        records[id] = record
        records[id]?.node.isMember = known.node.isMember
        records[id]?.node.initialViewNumber = known.node.initialViewNumber
        return known.node.isMember ? transition([id], .reconfigured, nil) : []
    }

    private mutating func admit(_ id: NodeID, _ cause: PlannedChange?) -> [Outcome] {
        guard records[id] != nil else { return [] }
        records[id]?.node.isMember = true
        records[id]?.node.initialViewNumber = viewNumber + 1
        return transition([id], .joined, cause)
    }

    private mutating func leave(_ id: NodeID, at now: Instant) -> [Outcome] {
        guard let known = records[id] else { return [] }
        var outcomes: [Outcome] = names.handle(.nodeLeft(id), at: now).map { .names($0) }
        if known.node.isMember {
            records[id]?.node.isMember = false
            outcomes += transition([id], .left, nil)
        }
        records[id] = nil
        outcomes.append(.forgotten(id))
        if planned?.administration.node == id {  // nothing more to wait for
            outcomes += complete()
        } else {
            planned?.awaiting.removeAll { $0 == id }
        }
        return outcomes + advance(at: now)
    }

    private mutating func transition(
        _ ids: [NodeID], _ change: ClusterChange, _ cause: PlannedChange?
    ) -> [Outcome] {
        viewNumber += 1
        let changes = ids.compactMap { records[$0]?.node }.map { ClusterNotification(node: $0, change: change) }
        return [.transition(ClusterTransition(viewNumber: viewNumber, changes: changes, planned: cause))]
    }
}

// MARK: What an administrator wants

extension ClusterTable {
    private mutating func administer(_ administration: NodeAdministration, at now: Instant) -> [Outcome] {
        let node = administration.node
        guard records[node] != nil || locked.contains(node) else { return [.refused(administration, .notExist)] }
        guard planned == nil else { return [.refused(administration, .tryAgain)] }
        guard locked.contains(node) == (administration.operation == .unlock) else {
            return [.refused(administration, .noOp)]
        }
        lastChange += 1
        let step: ChangeStep =
            switch administration.operation {
            case .unlock: .completed
            case .lock: .start
            case .shutdown: .validate
            }
        let change = PlannedChange(number: lastChange, administration: administration, step: step, awaiting: [])
        guard administration.operation == .unlock else { return begin(change, at: now) }
        locked.removeAll { $0 == node }
        // Of a node that is not there nobody needs to be told, but the one that asked.
        return records[node] == nil
            ? [.transition(ClusterTransition(viewNumber: viewNumber, changes: [], planned: change))]
            : admit(node, change)
    }

    /// Asks every member's trackers about `change.step`.
    private mutating func begin(_ change: PlannedChange, at now: Instant) -> [Outcome] {
        var change = change
        change.awaiting = members.map(\.nodeID)
        planned = change
        var outcomes: [Outcome] = [.step(change)]
        if change.administration.operation == .lock {
            outcomes.append(.supervise(change: change.number, until: now + limits.lockSupervision))
        }
        return change.awaiting.isEmpty ? advance(at: now) : outcomes
    }

    /// When nobody is waited for any more: the next step.
    private mutating func advance(at now: Instant) -> [Outcome] {
        guard var change = planned, change.awaiting.isEmpty else { return [] }
        guard change.step == .validate else { return complete() }
        change.step = .start
        return begin(change, at: now)
    }

    private mutating func complete() -> [Outcome] {
        guard var change = planned else { return [] }
        planned = nil
        change.step = .completed
        let node = change.administration.node
        locked = (locked + [node]).sorted()
        let outcomes: [Outcome] = [.superviseNoMore(change: change.number)]
        guard records[node]?.node.isMember == true else {
            return outcomes + [.transition(ClusterTransition(viewNumber: viewNumber, changes: [], planned: change))]
        }
        records[node]?.node.isMember = false
        return outcomes + transition([node], .left, change)
    }

    private mutating func abort() -> [Outcome] {
        guard var change = planned else { return [] }
        planned = nil
        change.step = .aborted
        return [.superviseNoMore(change: change.number), .aborted(change)]
    }
}
