import EngineKit
import IOCGroups
import SAFTypes
import Testing

@testable import IOCCorosync

/// Members of one ring, whose messages are delivered to all in the order sent.
private struct Ring {
    var orders: [UInt32: RingOrder] = [:]
    var seen: [UInt32: [GroupEvent]] = [:]
    var wire: [(RingProcess, RingMessage)] = []
    var now = Instant.start + .seconds(1)
    var stopped: Set<UInt32> = []
    private var kept: [UInt32: [RingOrder.Event]] = [:]

    static func process(_ node: UInt32) -> RingProcess { RingProcess(node: node, pid: 100 + node) }

    mutating func feed(_ node: UInt32, _ event: RingOrder.Event) {
        if stopped.contains(node) {
            kept[node, default: []].append(event)
            return
        }
        if orders[node] == nil {
            orders[node] = RingOrder(
                me: Self.process(node), member: GroupMember(node: NodeID(node), incarnation: UInt64(node) * 10),
                nodesExpected: 3)
        }
        for effect in orders[node]?.handle(event, at: now) ?? [] {
            switch effect {
            case .deliver(let event): seen[node, default: []].append(event)
            case .send(let message): wire.append((Self.process(node), message))
            }
        }
    }

    mutating func configure(_ nodes: [UInt32], ring: UInt64?, quorate: Bool? = true) {
        for node in nodes {
            feed(node, .processes(nodes.map(Self.process), isNewRing: ring != nil && orders[node] != nil))
            guard let ring else { continue }
            feed(node, .ring(RingID(node: 1, sequence: ring), nodes: nodes))
            if let quorate { feed(node, .quorum(RingID(node: 1, sequence: ring), isQuorate: quorate)) }
        }
    }

    mutating func deliver(to nodes: [UInt32]) {
        while !wire.isEmpty {
            let (sender, message) = wire.removeFirst()
            for node in nodes { feed(node, .message(sender, message.encoded)) }
        }
    }

    mutating func send(_ node: UInt32, _ byte: UInt8) { wire.append((Self.process(node), .data([byte]))) }

    mutating func resume(_ node: UInt32) {
        stopped.remove(node)
        for event in kept.removeValue(forKey: node) ?? [] { feed(node, event) }
    }

    func views(_ node: UInt32) -> [GroupView] {
        (seen[node] ?? []).compactMap { if case .view(let view) = $0 { view } else { nil } }
    }
}

@Suite("Order of a ring")
struct RingOrderTests {
    @Test("A view opens when all have announced and libquorum has told its ring; the same view for all")
    func opening() {
        var ring = Ring()
        ring.configure([1, 2, 3], ring: 5, quorate: nil)
        ring.deliver(to: [1, 2, 3])
        #expect(ring.seen.isEmpty)  // nobody knows the quorum yet
        for node in UInt32(1)...3 { ring.feed(node, .quorum(RingID(node: 1, sequence: 4), isQuorate: true)) }
        ring.deliver(to: [1, 2, 3])
        #expect(ring.seen.isEmpty)  // that was another ring's
        for node in UInt32(1)...3 { ring.feed(node, .quorum(RingID(node: 1, sequence: 5), isQuorate: true)) }
        ring.send(1, 7)
        ring.deliver(to: [1, 2, 3])
        #expect(ring.views(1).count == 1)
        #expect(ring.views(1) == ring.views(2) && ring.views(2) == ring.views(3))
        #expect(ring.views(1)[0].members.map(\.node.rawValue) == [1, 2, 3])
        #expect(ring.views(1)[0].isQuorate && ring.views(1)[0].nodesExpected == 3)
        #expect(ring.seen[2]?.last == .message(from: GroupMember(node: NodeID(1), incarnation: 10), bytes: [7]))
    }

    @Test("A process that leaves its ring changes the view at once; nothing is delivered of who is not in it")
    func leaving() {
        var ring = Ring()
        ring.configure([1, 2, 3], ring: 5)
        ring.deliver(to: [1, 2, 3])
        ring.configure([1, 2], ring: nil)
        #expect(ring.views(1).last?.members.map(\.node.rawValue) == [1, 2])
        #expect(ring.views(1).last?.left.map(\.node.rawValue) == [3])
        #expect(ring.views(1).last?.nodes.map(\.rawValue) == [1, 2, 3], "its node is still there")
        #expect(ring.views(1).last?.isQuorate == true)
        #expect(ring.views(1).last?.id == ring.views(2).last?.id && ring.views(1)[0].id != ring.views(1)[1].id)
        let count = ring.seen[1]?.count
        ring.send(3, 1)
        ring.deliver(to: [1, 2])
        #expect(ring.seen[1]?.count == count)
    }

    @Test("Sides of a partition have their own flags; when it heals, those that were away have left and joined")
    func partition() {
        var ring = Ring()
        ring.configure([1, 2, 3], ring: 5)
        ring.deliver(to: [1, 2, 3])
        ring.configure([3], ring: 8, quorate: false)
        ring.deliver(to: [3])
        ring.configure([1, 2], ring: 7)
        ring.deliver(to: [1, 2])
        #expect(ring.views(3).last?.isQuorate == false && ring.views(1).last?.isQuorate == true)
        #expect(ring.views(1).last?.nodes.map(\.rawValue) == [1, 2])
        ring.configure([1, 2, 3], ring: 12)
        ring.deliver(to: [1, 2, 3])
        #expect(ring.views(1).last?.id == ring.views(3).last?.id)
        #expect(ring.views(1).last?.joined.map(\.node.rawValue) == [3])
        #expect(ring.views(3).last?.joined.map(\.node.rawValue) == [1, 2])
        // Away and back before a view could open: both in one view.
        ring.configure([1, 2], ring: 13, quorate: nil)
        ring.configure([1, 2, 3], ring: 14)
        ring.deliver(to: [1, 2, 3])
        #expect(ring.views(1).last?.left.map(\.node.rawValue) == [3])
        #expect(ring.views(1).last?.joined.map(\.node.rawValue) == [3])
        #expect(Set(ring.views(1).map(\.id)).count == ring.views(1).count)
    }

    @Test("A change of quorum in a ring is a view at the same place for all")
    func quorum() {
        var ring = Ring()
        ring.configure([1, 2], ring: 5, quorate: false)
        ring.deliver(to: [1, 2])
        ring.feed(2, .quorum(RingID(node: 1, sequence: 5), isQuorate: true))
        ring.send(1, 9)
        ring.feed(1, .quorum(RingID(node: 1, sequence: 5), isQuorate: true))
        ring.deliver(to: [1, 2])
        #expect(ring.seen[1]?.dropFirst() == ring.seen[2]?.dropFirst())
        #expect(ring.views(1).map(\.isQuorate) == [false, true])
        #expect(ring.seen[1]?.last == .message(from: GroupMember(node: NodeID(1), incarnation: 10), bytes: [9]))
    }

    /// What of two rings and the word on each is seen, and nothing else, in every order of CPG and libquorum that keeps
    /// the order of each.
    @Test("Whenever libquorum speaks, a view has the quorum of its own ring", arguments: 0..<64)
    func anyOrder(order: Int) {
        var ring = Ring()
        ring.configure([1, 2, 3], ring: 5)
        ring.deliver(to: [1, 2, 3])
        // Node 3 dies; 1 and 2 are alone for a moment, then with each other.
        var positions = order
        for node in UInt32(1)...2 {
            let words: [RingOrder.Event] = [
                .quorum(RingID(node: node, sequence: 8), isQuorate: false),
                .quorum(RingID(node: 1, sequence: 12), isQuorate: true),
            ]
            var told: [(isWord: Bool, RingOrder.Event)] = [
                (false, .processes([Ring.process(node)], isNewRing: true)),
                (false, .ring(RingID(node: node, sequence: 8), nodes: [node])),
                (false, .processes([1, 2].map(Ring.process), isNewRing: true)),
                (false, .ring(RingID(node: 1, sequence: 12), nodes: [1, 2])),
            ]
            let first = positions % 4
            let second = max(first, positions / 4 % 2 + 3)
            positions /= 8
            told.insert((true, words[0]), at: first)
            told.insert((true, words[1]), at: second + 1)
            for (_, event) in told {
                ring.send(node, 7)
                ring.feed(node, event)
            }
        }
        ring.deliver(to: [1, 2])
        for node in UInt32(1)...2 {
            let view = ring.views(node).last
            #expect(view?.members.map(\.node.rawValue) == [1, 2] && view?.isQuorate == true)
            #expect(ring.views(node).allSatisfy { $0.isQuorate == ($0.members.count >= 2) })
            #expect(ring.views(node).map(\.id) == ring.views(3 - node).map(\.id))
            #expect(ring.seen[node]?.count == ring.views(node).count, "nothing of a view that is over is delivered")
        }
    }

    @Test("A ring that libquorum never tells of, or that CPG does not name, is given up after a while")
    func silence() {
        for isNamed in [true, false] {
            var ring = Ring()
            ring.configure([1, 2, 3], ring: 5)
            ring.deliver(to: [1, 2, 3])
            let count = ring.seen[1]?.count
            let isTold = ring.orders[1]?.deadline == nil
            #expect(isTold)
            ring.feed(1, .processes([1, 2].map(Ring.process), isNewRing: true))
            if isNamed { ring.feed(1, .ring(RingID(node: 1, sequence: 8), nodes: [1, 2])) }
            ring.send(2, 9)
            ring.deliver(to: [1])
            ring.now = ring.now + (RingOrder.silenceMax - .milliseconds(1))
            ring.feed(1, .tick)
            #expect(ring.seen[1]?.count == count)
            ring.now = ring.now + .milliseconds(1)
            #expect(ring.orders[1]?.deadline == ring.now)
            ring.feed(1, .tick)
            #expect(ring.seen[1]?.last.map { if case .lost = $0 { true } else { false } } == true)
            #expect(ring.orders[1]?.deadline == nil)
        }
    }

    @Test(
        "Fewer configured nodes are a view at the same place for all, more count from the next ring"
    )
    func configured() {
        var ring = Ring()
        ring.configure([1, 2, 3], ring: 5)
        ring.deliver(to: [1, 2, 3])
        #expect(ring.views(1).last?.majority == 2)
        for node in UInt32(1)...3 { ring.feed(node, .expected(4)) }
        ring.deliver(to: [1, 2, 3])
        #expect(ring.views(1).count == 1)
        ring.configure([1, 2, 3, 4], ring: 9)
        ring.deliver(to: [1, 2, 3, 4])
        #expect(ring.views(1).last?.nodesExpected == 4)
        ring.configure([1, 2, 3], ring: 13)
        ring.deliver(to: [1, 2, 3])
        #expect(ring.views(1).last?.majority == 3)
        ring.feed(1, .expected(3))
        ring.feed(2, .expected(3))
        ring.deliver(to: [1, 2, 3])
        #expect(ring.views(1).last?.majority == 3, "one has not heard of it")
        ring.feed(3, .expected(3))
        ring.send(1, 7)
        ring.deliver(to: [1, 2, 3])
        for node in UInt32(1)...3 {
            #expect(ring.views(node).last?.majority == 2)
            #expect(ring.views(node).last?.id == ring.views(1).last?.id)
            #expect(ring.seen[node]?.last == .message(from: GroupMember(node: NodeID(1), incarnation: 10), bytes: [7]))
        }
        #expect(Set(ring.views(1).map(\.id)).count == ring.views(1).count)
    }

    @Test("A stopped process delays a view by the close, not longer; running again it joins the open view")
    func stopped() {
        var ring = Ring()
        ring.configure([1, 2, 3], ring: 5)
        ring.deliver(to: [1, 2, 3])
        ring.stopped = [3]
        ring.configure([1, 2, 3, 4], ring: 9)
        ring.deliver(to: [1, 2, 3, 4])
        #expect(ring.views(1).count == 1)
        ring.feed(1, .tick)
        ring.deliver(to: [1, 2, 3, 4])
        #expect(ring.views(1).count == 1)  // not due
        ring.now = ring.now + RingOrder.closeDelay
        ring.feed(1, .tick)
        ring.feed(2, .tick)
        ring.send(1, 3)
        ring.deliver(to: [1, 2, 3, 4])
        #expect(ring.views(4).last?.members.map(\.node.rawValue) == [1, 2, 4])
        ring.resume(3)
        ring.deliver(to: [1, 2, 3, 4])
        for node in UInt32(1)...4 {
            #expect(ring.views(node).last?.members.map(\.node.rawValue) == [1, 2, 3, 4])
            #expect(ring.views(node).last?.id == ring.views(1).last?.id)
        }
        #expect(ring.views(3).last?.left.map(\.node.rawValue) == [1, 2])
        #expect(ring.views(3).last?.joined.map(\.node.rawValue) == [1, 2, 4])
        #expect(ring.seen[3]?.contains { if case .message = $0 { true } else { false } } == false)
    }

    @Test("Put out of the group is lost; bytes of others are not taken")
    func foreign() {
        var ring = Ring()
        ring.configure([1, 2], ring: 5)
        ring.deliver(to: [1, 2])
        let count = ring.seen[1]?.count
        for bytes in [[], [1], [2, 0, 1], [1, 9], [1, 1, 0]] as [[UInt8]] {
            ring.feed(1, .message(Ring.process(2), bytes))
        }
        #expect(ring.seen[1]?.count == count)
        ring.feed(1, .processes([Ring.process(2)], isNewRing: false))
        #expect(ring.seen[1]?.last == .lost(reason: "corosync put this process out"))
    }
}
