import EngineKit
import SAFTypes

/// A cluster of nodes in memory whose groups keep the promises of ``OrderedGroup`` and no more, driven by a seed.
///
/// Each connected set of nodes is a *ring* with one order. What a member sent and the ring has not ordered waits in its
/// outbox; what is ordered reaches each member's inbox after a while. When the connections change, each part of a ring
/// recovers as Totem does: every member of the part delivers what any of them had, then, beyond the first message that
/// none of them has, the later ones that one of them happens to hold, own messages always. So a sender that is cut off
/// may be alone in delivering its messages.
///
/// One step is one random movement; nothing moves by itself. For tests; not thread-safe.
public final class SimulatedNetwork {
    public let nodes: [NodeID]
    public private(set) var random: SeededRandom
    /// Messages that wait in one member's outbox before it is told busy.
    public let outboxMax: Int
    public let messageBytesMax: Int
    /// How often a message is delivered twice. No group does that; what stands on one should not mind.
    public var duplicatePercent = 0
    /// The number of views delivered so far.
    public private(set) var viewCount = 0

    private enum Entry {
        case message(from: GroupMember, bytes: [UInt8])
        case view(id: UInt64, members: [GroupMember])
    }
    private struct Ring {
        var nodes: Set<NodeID>
        var log: [Entry] = []
        var views: Set<UInt64> = []
        /// The members at the end of the log.
        var members: [GroupMember] = []
        var isQuorate: Bool
    }
    private struct Process {
        var member: GroupMember
        var isLost = false
        var ring: Int
        var cursor: Int
        var isJoined = false
        var outbox: [[UInt8]] = []
        var inbox: ArraySlice<GroupEvent> = []
        var seen: [GroupMember] = []
    }

    private var rings: [Ring] = []
    private var processes: [NodeID: Process] = [:]
    private var nextView: UInt64 = 1

    public init(nodes count: Int, seed: UInt64, outboxMax: Int = 64, messageBytesMax: Int = 1 << 20) {
        nodes = (1...UInt32(count)).map { NodeID($0) }
        random = SeededRandom(seed: seed)
        self.outboxMax = outboxMax
        self.messageBytesMax = messageBytesMax
        rings = [Ring(nodes: Set(nodes), isQuorate: true)]
    }

    /// Starts a process on a node; one at a time.
    public func attach(_ node: NodeID, incarnation: UInt64) -> SimulatedGroup {
        invariant(processes[node]?.isLost ?? true, "node \(node) has a process already")
        let member = GroupMember(node: node, incarnation: incarnation)
        let ring = ringIndex(of: node)
        processes[node] = Process(member: member, ring: ring, cursor: rings[ring].log.count)
        return SimulatedGroup(network: self, member: member)
    }

    /// The process of a node dies; what it had not got ordered is gone.
    public func crash(_ node: NodeID) {
        guard let process = processes.removeValue(forKey: node), process.isJoined else { return }
        changeMembers(of: process.ring) { $0.removeAll { $0 == process.member } }
    }

    /// The engine under a node's group dies: its process is told, and hears nothing more until it attaches anew.
    public func lose(_ node: NodeID) {
        guard let process = processes[node], process.isJoined else { return }
        processes[node]?.isJoined = false
        processes[node]?.isLost = true
        processes[node]?.outbox.removeAll()
        processes[node]?.inbox.append(.lost(reason: "simulated"))
        changeMembers(of: process.ring) { $0.removeAll { $0 == process.member } }
    }

    public func isLost(_ node: NodeID) -> Bool { processes[node]?.isLost ?? false }

    /// Connects the nodes in these sets only; what is in none is alone.
    public func connect(_ sets: [[NodeID]]) {
        var parts = sets.map(Set.init)
        for node in nodes where !parts.contains(where: { $0.contains(node) }) { parts.append([node]) }
        let old = rings
        let firstNew = rings.count
        var newRings: [Ring] = []
        for part in parts {
            if let same = old.indices.first(where: { old[$0].nodes == part }) {
                newRings.append(rings[same])  // undisturbed; moved below
            } else {
                newRings.append(Ring(nodes: part, isQuorate: part.count >= nodes.count / 2 + 1))
            }
        }
        let isSame = parts.map { part in old.indices.contains { old[$0].nodes == part } }
        for (offset, part) in parts.enumerated() where !isSame[offset] {
            for index in old.indices {
                let moving = sortedProcesses.filter { part.contains($0.node) && processes[$0.node]?.ring == index }
                if !moving.isEmpty { recover(moving, from: index) }
            }
        }
        rings += newRings
        for (offset, part) in parts.enumerated() {
            let index = firstNew + offset
            for node in nodes where part.contains(node) {
                guard processes[node] != nil else { continue }
                processes[node]?.ring = index
                if !isSame[offset] { processes[node]?.cursor = 0 }
            }
            guard !isSame[offset] else { continue }
            let members = nodes.filter { part.contains($0) }.compactMap { processes[$0] }.filter(\.isJoined).map(
                \.member)
            changeMembers(of: index) { $0 = members }
        }
        for index in 0..<firstNew {  // nobody is in it any more
            rings[index].log.removeAll()
            rings[index].nodes.removeAll()
        }
    }

    /// Connects all.
    public func heal() { connect([nodes]) }

    public func isQuorate(_ node: NodeID) -> Bool { rings[ringIndex(of: node)].isQuorate }

    /// Whether a view is one of the ring that the node is in now, not of one that is breaking up.
    public func isCurrent(_ view: UInt64, of node: NodeID) -> Bool {
        rings[ringIndex(of: node)].views.contains(view)
    }

    /// Moves one message a step further; false when nothing can move.
    public func step() -> Bool {
        var moves: [(NodeID, Bool)] = []
        for node in nodes {
            guard let process = processes[node], process.isJoined else { continue }
            if !process.outbox.isEmpty { moves.append((node, true)) }
            if process.cursor < rings[process.ring].log.count { moves.append((node, false)) }
        }
        guard let (node, isOrdering) = moves.randomElement(using: &random) else { return false }
        if isOrdering { order(from: node) } else { deliverNext(to: node) }
        return true
    }

    /// Whether the process has something to take.
    public func hasInbox(_ node: NodeID) -> Bool { processes[node].map { !$0.inbox.isEmpty } ?? false }

    // MARK: What the group handles call

    fileprivate func join(_ member: GroupMember) throws(GroupError) {
        guard let process = processes[member.node], process.member == member, !process.isJoined, !process.isLost
        else {
            throw GroupError("member \(member) is gone or has joined")
        }
        processes[member.node]?.isJoined = true
        processes[member.node]?.cursor = rings[process.ring].log.count
        changeMembers(of: process.ring) { $0.append(member) }
    }

    fileprivate func leave(_ member: GroupMember) {
        if processes[member.node]?.member == member { crash(member.node) }
    }

    fileprivate func multicast(_ bytes: [UInt8], from member: GroupMember) -> MulticastResult {
        guard let process = processes[member.node], process.member == member, process.isJoined else {
            return .notJoined
        }
        guard bytes.count <= messageBytesMax else { return .tooBig }
        guard process.outbox.count < outboxMax else { return .busy }
        processes[member.node]?.outbox.append(bytes)
        return .sent
    }

    fileprivate func next(for member: GroupMember) -> GroupEvent? {
        guard let process = processes[member.node], process.member == member, !process.inbox.isEmpty else { return nil }
        return processes[member.node]?.inbox.popFirst()
    }

    // MARK: Movements

    private var sortedProcesses: [GroupMember] { nodes.compactMap { processes[$0]?.member } }
    private func ringIndex(of node: NodeID) -> Int {
        rings.lastIndex { $0.nodes.contains(node) } ?? 0
    }

    private func order(from node: NodeID) {
        guard let process = processes[node], !process.outbox.isEmpty else { return }
        let bytes = processes[node]?.outbox.removeFirst() ?? []
        rings[process.ring].log.append(.message(from: process.member, bytes: bytes))
        if duplicatePercent > 0, random.chance(percent: duplicatePercent) {
            rings[process.ring].log.append(.message(from: process.member, bytes: bytes))
        }
    }

    private func changeMembers(of ring: Int, _ change: (inout [GroupMember]) -> Void) {
        change(&rings[ring].members)
        rings[ring].members.sort()
        rings[ring].log.append(.view(id: nextView, members: rings[ring].members))
        rings[ring].views.insert(nextView)
        nextView += 1
    }

    private func deliverNext(to node: NodeID) {
        guard let process = processes[node], process.cursor < rings[process.ring].log.count else { return }
        processes[node]?.cursor += 1
        deliver(rings[process.ring].log[process.cursor], ring: process.ring, to: node)
    }

    private func deliver(_ entry: Entry, ring: Int, to node: NodeID) {
        switch entry {
        case .message(let sender, let bytes): processes[node]?.inbox.append(.message(from: sender, bytes: bytes))
        case .view(let id, let members):
            guard let seen = processes[node]?.seen else { return }
            processes[node]?.inbox.append(
                .view(
                    GroupView(
                        id: id, members: members, joined: members.filter { !seen.contains($0) },
                        left: seen.filter { !members.contains($0) }, isQuorate: rings[ring].isQuorate,
                        nodesExpected: nodes.count, nodes: rings[ring].nodes.sorted())))
            processes[node]?.seen = members
            viewCount += 1
        }
    }

    /// The end of a ring for the members that move on together.
    private func recover(_ moving: [GroupMember], from ring: Int) {
        let joined = moving.filter { processes[$0.node]?.isJoined == true }
        guard !joined.isEmpty else { return }
        for member in joined {  // some of what was sent is under way when the ring breaks
            while random.chance(percent: 30), processes[member.node]?.outbox.isEmpty == false {
                order(from: member.node)
            }
        }
        let log = rings[ring].log
        var prefix = joined.compactMap { processes[$0.node]?.cursor }.max() ?? 0
        while prefix < log.count, isHeld(log[prefix], by: joined) { prefix += 1 }
        var tail: [Entry] = []
        for entry in log[min(prefix, log.count)...].dropFirst() where isHeld(entry, by: joined) { tail.append(entry) }
        for member in joined {
            while let cursor = processes[member.node]?.cursor, cursor < prefix { deliverNext(to: member.node) }
            for entry in tail { deliver(entry, ring: ring, to: member.node) }
        }
    }

    /// Whether one of the members has received a message that none has delivered yet.
    private func isHeld(_ entry: Entry, by members: [GroupMember]) -> Bool {
        guard case .message(let sender, _) = entry else { return true }  // told by Corosync itself, on every node
        return members.contains(sender) || random.chance(percent: 50)
    }
}

/// One process's handle on a ``SimulatedNetwork``.
public struct SimulatedGroup: OrderedGroup {
    public let network: SimulatedNetwork
    public let member: GroupMember

    public var messageBytesMax: Int { network.messageBytesMax }
    public mutating func join(_ name: String) throws(GroupError) { try network.join(member) }
    public mutating func leave() { network.leave(member) }
    public mutating func multicast(_ bytes: [UInt8]) -> MulticastResult { network.multicast(bytes, from: member) }
    public mutating func next() -> GroupEvent? { network.next(for: member) }
}
