import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes
import Testing

/// Ledgers on a few nodes, moved by hand.
private struct LedgerCluster {
    /// As daemons have it.
    typealias Group = FragmentingGroup<SimulatedGroup>
    typealias Node = ReplicatedNode<Ledger, Group>
    let network: SimulatedNetwork
    var now = Instant.start + .seconds(1)
    var members: [Int: Node] = [:]
    var outputs: [Int: [Node.Output]] = [:]
    var nextIncarnation: UInt64 = 1
    /// Whether peer links lose what they are given; what they were given.
    var areLinksUp = true
    var sent: [(from: Int, to: Int)] = []

    init(nodes: Int) { network = SimulatedNetwork(nodes: nodes, seed: 1) }

    /// Some of them, or all, started and settled.
    static func settled(
        nodes: Int, _ started: [Int]? = nil, _ adjust: (inout ReplicatedConfiguration) -> Void = { _ in }
    ) -> LedgerCluster {
        var cluster = LedgerCluster(nodes: nodes)
        for node in started ?? Array(1...nodes) { cluster.start(node, adjust) }
        cluster.settle()
        return cluster
    }

    mutating func start(
        _ node: Int, ledger: Ledger = Ledger(), _ adjust: (inout ReplicatedConfiguration) -> Void = { _ in }
    ) {
        let group = network.attach(NodeID(UInt32(node)), incarnation: nextIncarnation)
        nextIncarnation += 1
        var configuration = ReplicatedConfiguration(member: group.member)
        configuration.digestInterval = 4
        adjust(&configuration)
        members[node] = Node(Replicated(core: ledger, configuration: configuration), over: Group(group))
        act(node) { node, now in (try? node.start("g", at: now)) ?? [] }
    }

    mutating func crash(_ node: Int) {
        members[node] = nil
        network.crash(NodeID(UInt32(node)))
    }

    mutating func act(_ node: Int, _ body: (inout Node, Instant) -> [Node.Output]) {
        guard var member = members[node] else { return }
        let outputs = body(&member, now)
        members[node] = member
        self.outputs[node, default: []] += outputs
        for case .sendSnapshot(let joiner, let point, let bytes) in outputs {
            let to = Int(joiner.node.rawValue)
            sent.append((node, to))
            guard areLinksUp else { continue }
            let sender = member.group.member
            act(to) { node, now in node.snapshotReceived(from: sender, point: point, bytes: bytes, at: now) }
        }
    }

    mutating func propose(_ event: Ledger.Event, _ ticket: UInt64, at node: Int) {
        act(node) { node, now in node.propose(event, ticket: ticket, at: now) }
    }

    mutating func add(_ requests: ClosedRange<UInt64>, at node: Int) {
        for request in requests { propose(.add(name: 1, amount: 1, request: request), request, at: node) }
    }

    mutating func settle(for time: Duration = .milliseconds(50)) {
        for _ in 0..<50 {
            while network.step() {}
            for node in members.keys.sorted() { act(node) { node, now in node.pump(at: now) } }
            now = now + time / 50
        }
    }

    mutating func connect(_ sets: [[Int]]) { network.connect(sets.map { $0.map { NodeID(UInt32($0)) } }) }

    func outcomes(_ node: Int, of ticket: UInt64) -> [ProposalOutcome] {
        (outputs[node] ?? []).compactMap {
            if case .answer(ticket, let outcome) = $0 { outcome } else { nil }
        }
    }

    func notes(_ node: Int) -> [ReplicatedNote] {
        (outputs[node] ?? []).compactMap { if case .note(let note) = $0 { note } else { nil } }
    }
    func status(_ node: Int) -> ReplicatedStatus? { members[node]?.status }
    func requests(_ node: Int) -> [UInt64]? { members[node]?.core.requests }
    func performed(_ node: Int) -> [UInt64] {
        (outputs[node] ?? []).compactMap { if case .performOnce(_, let alarm) = $0 { alarm.request } else { nil } }
    }
}

extension ReplicatedNote {
    fileprivate var isWithoutMajority: Bool { if case .formedWithoutMajority = self { true } else { false } }
    fileprivate var isDiverged: Bool { if case .diverged = self { true } else { false } }
    fileprivate var isOffer: Bool { if case .snapshotOffered = self { true } else { false } }
    fileprivate var isOfMemberDiverged: Bool { if case .memberDiverged = self { true } else { false } }
}

@Suite("Replicated: groups of several members")
struct ReplicatedGroupTests {
    @Test("A cold start with a node missing waits for the grace, goes on and says so; the late node joins")
    func grace() {
        var cluster = LedgerCluster(nodes: 3)
        cluster.start(1)
        cluster.start(2)
        cluster.settle(for: .milliseconds(4_900))
        #expect(cluster.status(1) == .forming && cluster.status(2) == .forming)
        cluster.settle(for: .milliseconds(600))
        for node in [1, 2] {
            #expect(cluster.status(node) == .synchronised)
            #expect(cluster.notes(node).filter(\.isWithoutMajority).count == 1)
        }
        cluster.add(1...3, at: 2)
        cluster.settle()
        cluster.start(3)
        cluster.settle()
        #expect(cluster.status(3) == .synchronised && cluster.requests(3) == [1, 2, 3])
        #expect(cluster.notes(3).filter(\.isWithoutMajority).isEmpty, "two remembered: no guess was needed")
    }

    @Test("Without a grace it waits for ever, until the last node is there")
    func noGrace() {
        var cluster = LedgerCluster(nodes: 3)
        for node in [1, 2] { cluster.start(node) { $0.formationGrace = nil } }
        cluster.settle(for: .seconds(3_600))
        #expect(cluster.status(1) == .forming && cluster.status(2) == .forming)
        cluster.start(3) { $0.formationGrace = nil }
        cluster.settle()
        for node in 1...3 { #expect(cluster.status(node) == .synchronised) }
        #expect(cluster.notes(1).filter(\.isWithoutMajority).isEmpty)
    }

    @Test("What a member proposed before it was cut off is not applied when it is back, if the others have gone on")
    func late() {
        var cluster = LedgerCluster.settled(nodes: 3)
        // It does not know yet that it is alone; some of it has been handed down, some waits.
        cluster.add(1...80, at: 3)
        cluster.connect([[1, 2], [3]])
        cluster.settle()
        cluster.add(100...101, at: 1)
        cluster.settle()
        cluster.connect([[1, 2, 3]])
        cluster.settle()
        cluster.settle()
        #expect((1...3).allSatisfy { cluster.status($0) == .synchronised && cluster.requests($0) == [100, 101] })
        for ticket: UInt64 in 1...80 { #expect(cluster.outcomes(3, of: ticket) == [.refused(.timeout)]) }
        cluster.add(102...102, at: 3)
        cluster.settle()
        #expect(cluster.outcomes(3, of: 102) == [.done])
        #expect((1...3).allSatisfy { cluster.requests($0) == [100, 101, 102] })
    }

    @Test("What was proposed in a majority that is lost for a moment is applied once it is there again")
    func momentary() {
        var cluster = LedgerCluster.settled(nodes: 3)
        cluster.add(1...80, at: 3)
        cluster.connect([[1], [2], [3]])
        cluster.settle()
        cluster.connect([[1, 2, 3]])
        cluster.settle()
        cluster.settle()
        for ticket: UInt64 in 1...80 { #expect(cluster.outcomes(3, of: ticket) == [.done]) }
        #expect((1...3).allSatisfy { cluster.requests($0) == Array(1...80) })
    }

    @Test("A member whose state differs finds out by the digest, drops it and synchronises", arguments: 1...3)
    func divergence(flawed: Int) {
        var cluster = LedgerCluster(nodes: 3)
        for node in 1...3 {
            var ledger = Ledger()
            if node == flawed { ledger.flaw.atRequests = 2 }
            cluster.start(node, ledger: ledger)
        }
        cluster.settle()
        cluster.add(1...3, at: flawed)
        cluster.settle()
        cluster.add(4...6, at: flawed)
        cluster.settle()
        for node in 1...3 {
            #expect(cluster.status(node) == .synchronised && cluster.members[node]?.core.totals == [1: 6])
            #expect(cluster.notes(node).filter(\.isDiverged).count == (node == flawed ? 1 : 0))
            #expect(cluster.notes(node).filter(\.isOfMemberDiverged).count == (node == flawed ? 0 : 1))
        }
        // What was the oldest member's falls to the next oldest.
        cluster.propose(.alarm(request: 8), 8, at: flawed)
        cluster.settle()
        let performer = flawed == 1 ? 2 : 1
        for node in 1...3 { #expect(cluster.performed(node) == (node == performer ? [8] : [])) }
    }

    @Test("Where two of five differ, the oldest among them, only one that is right offers its state")
    func divergenceOfTwo() {
        var cluster = LedgerCluster(nodes: 5)
        for node in 1...5 {
            var ledger = Ledger()
            if node <= 2 { ledger.flaw.atRequests = node }
            cluster.start(node, ledger: ledger)
        }
        cluster.settle()
        cluster.add(1...7, at: 5)
        cluster.settle()
        for node in 1...5 { #expect(cluster.status(node) == .synchronised) }
        // The fault of 1 and that of 2 make the same wrong total, but two of five are no majority.
        for node in 1...5 { #expect(cluster.members[node]?.core.totals == [1: 7]) }
        for node in 1...2 { #expect(cluster.notes(node).filter(\.isOffer).isEmpty) }
        #expect(cluster.notes(3).filter(\.isOffer).count == 1)
    }

    @Test("A once-only effect for a node that was away is performed when it is back, without anything else happening")
    func nodeComesBack() {
        var cluster = LedgerCluster.settled(nodes: 3)
        cluster.crash(1)
        cluster.settle()
        cluster.propose(.alarm(request: 7), 7, at: 2)  // one for node 1
        cluster.settle()
        #expect(cluster.performed(2) == [] && cluster.performed(3) == [])
        cluster.start(1)
        cluster.settle()
        #expect(cluster.performed(1) == [7])
    }

    @Test(
        "When the group is lost everywhere and made anew, the members remember, and what they had asked has no answer")
    func rejoin() throws {
        var cluster = LedgerCluster.settled(nodes: 3)
        cluster.add(1...5, at: 2)
        cluster.settle()
        cluster.add(6...6, at: 2)
        for node in cluster.network.nodes { cluster.network.lose(node) }
        cluster.settle()
        for node in 1...3 { #expect(cluster.status(node) == .outside) }
        for node in 1...3 {
            let group = cluster.network.attach(NodeID(UInt32(node)), incarnation: 100)
            cluster.act(node) { node, now in (try? node.rejoin("g", over: LedgerCluster.Group(group), at: now)) ?? [] }
        }
        cluster.settle()
        cluster.add(7...8, at: 2)
        cluster.settle()
        for node in 1...3 {
            #expect(cluster.status(node) == .synchronised && cluster.requests(node) == [1, 2, 3, 4, 5, 7, 8])
            #expect(cluster.notes(node).filter(\.isWithoutMajority).isEmpty)
        }
        let answers = (cluster.outputs[2] ?? []).compactMap { output -> ProposalOutcome? in
            if case .answer(6, let outcome) = output { outcome } else { nil }
        }
        #expect(answers == [.refused(.timeout)])
    }

    @Test("Members back from an earlier life of the group do not go on without one that was in charge meanwhile")
    func rejoinedDoNotRemember() {
        var cluster = LedgerCluster(nodes: 3)
        for node in 1...3 { cluster.start(node) { $0.formationGrace = nil } }
        cluster.settle()
        for node in [2, 3] { cluster.network.lose(NodeID(UInt32(node))) }
        cluster.settle()
        cluster.add(1...3, at: 1)  // all the members there are have it
        cluster.settle()
        cluster.network.connect([[NodeID(2), NodeID(3)]])
        for node in [2, 3] {
            let group = cluster.network.attach(NodeID(UInt32(node)), incarnation: 100)
            cluster.act(node) { node, now in (try? node.rejoin("g", over: LedgerCluster.Group(group), at: now)) ?? [] }
        }
        cluster.settle()
        #expect(cluster.status(2) == .forming && cluster.status(3) == .forming)
        cluster.network.heal()
        cluster.settle()
        for node in 1...3 {
            #expect(cluster.status(node) == .synchronised && cluster.requests(node) == [1, 2, 3])
        }
    }

    @Test("With links a snapshot goes there only; the group carries none of it")
    func byLink() {
        var cluster = LedgerCluster.settled(nodes: 3, [1, 2]) {
            ($0.carriesSnapshots, $0.formationGrace) = (true, .zero)
        }
        cluster.add(1...9, at: 1)
        cluster.settle()
        cluster.start(3) { $0.carriesSnapshots = true }
        cluster.settle()
        #expect(cluster.status(3) == .synchronised && cluster.requests(3) == Array(1...9))
        #expect(cluster.sent.map(\.from) == [1] && cluster.sent.map(\.to) == [3])
    }

    @Test("Links that bring nothing: the next oldest tries, then the group is used")
    func linksDown() {
        var cluster = LedgerCluster.settled(nodes: 3, [1, 2]) {
            ($0.carriesSnapshots, $0.formationGrace) = (true, .zero)
        }
        cluster.add(1...9, at: 1)
        cluster.settle()
        cluster.areLinksUp = false
        cluster.start(3) { $0.carriesSnapshots = true }
        cluster.settle(for: .milliseconds(3_900))
        #expect(cluster.status(3) == .synchronising)
        #expect(cluster.sent.map(\.from) == [1, 2])
        cluster.settle(for: .milliseconds(500))
        #expect(cluster.status(3) == .synchronised && cluster.requests(3) == Array(1...9))
        #expect(cluster.sent.count == 2)
    }

    @Test("A joiner without links is served through the group")
    func joinerWithoutLinks() {
        var cluster = LedgerCluster.settled(nodes: 3, [1, 2]) {
            ($0.carriesSnapshots, $0.formationGrace) = (true, .zero)
        }
        cluster.add(1...9, at: 1)
        cluster.settle()
        cluster.start(3)
        cluster.settle()
        #expect(cluster.status(3) == .synchronised && cluster.sent.isEmpty)
    }

    @Test("A slow link is waited for as long as something comes")
    func slowLink() {
        var cluster = LedgerCluster.settled(nodes: 3, [1, 2]) {
            ($0.carriesSnapshots, $0.formationGrace) = (true, .zero)
        }
        cluster.areLinksUp = false
        cluster.add(1...2, at: 1)
        cluster.settle()
        cluster.start(3) { $0.carriesSnapshots = true }
        for _ in 0..<10 {
            cluster.settle(for: .seconds(1))
            cluster.act(3) { node, now in
                node.snapshotArriving(at: now)
                return []
            }
        }
        #expect(cluster.sent.count == 1)
        cluster.settle(for: .seconds(3))
        #expect(cluster.sent.count == 2)
    }

    @Test("An event too large for the group is refused at once, and does not hold up the next")
    func tooBig() throws {
        let member = GroupMember(node: NodeID(1), incarnation: 1)
        let replicated = Replicated(core: Ledger(), configuration: ReplicatedConfiguration(member: member))
        var node = LoopbackLedger(replicated, over: LoopbackGroup(member: member, messageBytesMax: 145))
        _ = try node.start("g", at: .start)
        #expect(
            told(node.propose(.add(name: 1, amount: 1, request: 1), ticket: 1, at: .start)) == [
                "answer 1 refused(\(AisError.tooBig))"
            ])
        #expect(told(node.propose(.reminded(key: 1), ticket: 2, at: .start)) == ["rang(1) ticket 2", "answer 2 done"])
    }

    @Test("The group's time goes on after a restart, though the own clock began anew")
    func timeAfterRestart() throws {
        var node = try loopback(journaling: true)
        let late = Instant.start + .seconds(1_000)
        var outputs = try node.start("ledger", at: late)
        outputs += node.propose(.remind(key: 3, after: .seconds(2)), ticket: 1, at: late)
        var journal: [[UInt8]] = []
        for output in outputs {
            if case .journal(.append(let record)) = output { journal.append(record) }
            if case .journal(.replace(let record)) = output { journal = [record] }
        }
        var next = try loopback(incarnation: 2, restoring: journal)
        _ = try next.start("ledger", at: .start)
        #expect(next.nextDeadline(after: .start) == Instant.start + .seconds(2))
        #expect(told(next.pump(at: .start + .seconds(2))) == ["rang(3) ticket -"])
    }
}
