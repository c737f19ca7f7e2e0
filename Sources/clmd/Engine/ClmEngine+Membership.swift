import ClmProtocol
import EngineKit
import SAFTypes

// What trackers are told.
extension ClmEngine {
    public var isLocalMember: Bool { !isCutOff && members[localNode] != nil }

    mutating func track(_ id: RequestID, _ flags: TrackFlags, from session: ClientSession) -> [Effect] {
        guard flags.isValid else {
            return [.reply(id, .failed(.badFlags, "track: CURRENT, CHANGES or CHANGES_ONLY expected"))]
        }
        if !flags.isDisjoint(with: [.changes, .changesOnly]) {
            guard trackers[session] != nil || trackers.count < limits.trackersMax else {
                return [.reply(id, .failed(.noResources, "track: at most \(limits.trackersMax) trackers"))]
            }
            trackers[session] = flags.subtracting(.current)
        }
        let all = flags.contains(.current) ? everybody(changed: []) : []
        return [.reply(id, .view(view(restricted(all, flags))))]
    }

    mutating func change(by transition: ClusterTransition, for request: RequestID?) -> [Effect] {
        var effects: [Effect] = []
        // A table that was handed over as a whole may be ahead of what is told of it.
        if !transition.changes.isEmpty, transition.viewNumber > viewNumber {
            effects.append(enter(transition.viewNumber))
            for change in transition.changes {
                switch change.change {
                case .left: members[change.node.nodeID] = nil
                case .joined, .reconfigured, .noChange, .unlock, .shutdown: members[change.node.nodeID] = change.node
                }
            }
            wasLocalMember = isLocalMember  // told with this view
            effects += tell(transition.changes, rootCause: transition.planned?.administration.node)
        }
        guard let change = transition.planned else { return effects }
        if let asker = request ?? steps.asker(of: change.number) {
            close(asker)
            effects.append(.reply(asker, .done))
        }
        steps.end(change.number)
        return effects
    }

    private mutating func enter(_ number: UInt64) -> Effect {
        viewNumber = number
        viewFloor = max(viewFloor, number)
        return .keep(viewNumber: viewFloor)
    }

    func tell(_ changes: [ClusterNotification], rootCause: NodeID? = nil) -> [Effect] {
        var effects: [Effect] = []
        for session in trackers.keys.sorted() {
            guard let flags = trackers[session] else { continue }
            if flags.contains(.local), !changes.isEmpty, !changes.contains(where: { $0.node.nodeID == localNode }) {
                continue
            }
            let told = flags.contains(.changes) ? everybody(changed: changes) : changes
            var view = view(restricted(told, flags))
            view.rootCause = rootCause
            effects.append(.pushView(view, to: session))
        }
        return effects
    }

    /// A node that loses the cluster, or finds it again, tells its own processes; there is no new view yet.
    mutating func tellOwnMembership() -> [Effect] {
        wasLocalMember = isLocalMember
        return tell([])
    }

    func view(_ notifications: [ClusterNotification]) -> ClusterView {
        ClusterView(
            viewNumber: viewNumber, memberCount: UInt32(members.count), notifications: notifications,
            isLocalMember: isLocalMember)
    }

    func restricted(_ notifications: [ClusterNotification], _ flags: TrackFlags) -> [ClusterNotification] {
        flags.contains(.local) ? notifications.filter { $0.node.nodeID == localNode } : notifications
    }

    /// Every member, and those who have just left, with what happened to them.
    func everybody(changed: [ClusterNotification]) -> [ClusterNotification] {
        let touched = Set(changed.map(\.node.nodeID))
        let untouched = members.values.filter { !touched.contains($0.nodeID) }
            .map { ClusterNotification(node: $0, change: .noChange) }
        return (untouched + changed).sorted { $0.node.nodeID < $1.node.nodeID }
    }
}

// This node and the group.
extension ClmEngine {
    mutating func stand(_ standing: Standing) -> [Effect] {
        self.standing = standing
        switch standing.quorum {
        case .none: isCutOff = true
        case .forming: break  // as it was
        case .synchronised:
            isCutOff = false
            return [.compare(after: .zero)]
        }
        return []
    }

    mutating func replace(with table: ClusterTable) -> [Effect] {
        var effects = replaceNames(with: table.names)
        adopt(table.names)
        var changes: [ClusterNotification] = []
        let new = table.members
        for gone in members.keys.sorted() where !new.contains(where: { $0.nodeID == gone }) {
            if let node = members.removeValue(forKey: gone) {
                changes.append(ClusterNotification(node: node, change: .left))
            }
        }
        for node in new where members[node.nodeID] != node {
            let isSame = members[node.nodeID]?.initialViewNumber == node.initialViewNumber
            members[node.nodeID] = node
            changes.append(ClusterNotification(node: node, change: isSame ? .reconfigured : .joined))
        }
        if viewNumber != table.viewNumber || !changes.isEmpty {
            effects.append(enter(table.viewNumber))
            wasLocalMember = isLocalMember
            effects += tell(changes.sorted { $0.node.nodeID < $1.node.nodeID })
        }
        for asker in steps.endAll(but: table.planned?.number) {
            close(asker)
            effects.append(.reply(asker, Self.unknownOutcome))
        }
        return effects
    }

    /// What should be and is not, proposed once more: harmless when it is under way already.
    mutating func compare(with table: ClusterTable, at now: Instant) -> [Effect] {
        guard standing.quorum == .synchronised, !isLeaving else { return [] }
        var effects: [Effect] = []
        if table.record(of: localNode)?.saysTheSame(as: me) != true {
            effects.append(
                .propose(.nodeJoined(me, viewFloor: viewFloor), answering: nil))
        }
        effects += missingNames(in: table.names)
        if let change = table.planned { effects += resume(change) }
        return effects + goneNodes(in: table, at: now)
    }

    /// The oldest member speaks for the nodes that cannot.
    private mutating func goneNodes(in table: ClusterTable, at now: Instant) -> [Effect] {
        let absent = table.nodes.filter { !standing.members.contains($0.node.nodeID) }
        for node in missingSince.keys.sorted() where !absent.contains(where: { $0.node.nodeID == node }) {
            missingSince[node] = nil
        }
        guard standing.isOldest else { return [] }
        var effects: [Effect] = []
        var wait: Duration?
        for record in absent {
            let node = record.node.nodeID
            let since = missingSince[node] ?? now
            missingSince[node] = since
            if standing.present.contains(node), now < since + limits.restartTime {
                let rest = since + limits.restartTime - now
                wait = min(wait ?? rest, rest)
            } else {
                effects.append(.propose(.nodeLeft(node, incarnation: record.incarnation), answering: nil))
            }
        }
        if let wait { effects.append(.compare(after: wait)) }
        return effects
    }
}
