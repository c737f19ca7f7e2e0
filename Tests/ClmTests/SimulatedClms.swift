import ClmEngine
import ClmProtocol
import ClmShell
import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes
import Testing

/// clmd on several simulated nodes: engine and replicated table of each, and time, moved by hand.
struct SimulatedClms {
    typealias Node = ReplicatedNode<ClusterTable, SimulatedGroup>

    struct Member {
        var node: Node
        var engine: ClmEngine
        var view: GroupView?
        var lastTicket: UInt64 = 0
        var lastRequest: UInt64 = 0
        var requestOfTicket: [UInt64: UInt64] = [:]
        var backlog = OutcomeBacklog()
        var compareAt: Instant?
        var replies: [UInt64: ClmEngine.Reply] = [:]
        var views: [ClusterView] = []
        var notices: [TopologyNotice.Change] = []
    }

    let network: SimulatedNetwork
    var now = Instant.start + .seconds(1)
    var members: [UInt32: Member] = [:]
    private var lives: UInt64 = 0

    init(nodes: Int, seed: UInt64) { network = SimulatedNetwork(nodes: nodes, seed: seed) }

    static func record(_ number: UInt32, life: UInt64) -> NodeRecord {
        let node = ClusterNode(
            nodeID: NodeID(number), name: SaName("n\(number)")!, isMember: false, bootTimestamp: 1,
            initialViewNumber: 0)
        return NodeRecord(node: node, incarnation: life)
    }

    /// - Parameter life: of the node; the same again when only clmd is started anew.
    mutating func start(_ number: UInt32, life: UInt64, restored: ClusterTable = ClusterTable()) {
        lives += 1
        let group = network.attach(NodeID(number), incarnation: lives)
        let configuration = ReplicatedConfiguration(member: group.member)
        let node = Node(Replicated(core: ClusterTable(), configuration: configuration), over: group)
        let engine = ClmEngine(me: Self.record(number, life: life), viewFloor: 0, restored: restored)
        members[number] = Member(node: node, engine: engine)
        // A tracker and a subscriber, from the beginning.
        ask(number, .track(.changes), from: session(900, node: number))
        let all = SubscribeRequest(subscription: 1, range: ServiceRange(allOf: 100))
        ask(number, .subscribe(all), from: session(900, node: number))
        act(number) { node, now in (try? node.start("clm", at: now)) ?? [] }
    }

    /// clmd ends without a word.
    mutating func crash(_ number: UInt32) {
        members[number] = nil
        network.crash(NodeID(number))
    }

    @discardableResult
    mutating func ask(_ number: UInt32, _ request: ClmEngine.Request, from session: ClientSession) -> UInt64 {
        let id = (members[number]?.lastRequest ?? 0) + 1
        members[number]?.lastRequest = id
        handle(number, .request(id, request, from: session))
        return id
    }

    mutating func handle(_ number: UInt32, _ event: ClmEngine.Event) {
        guard let effects = members[number]?.engine.handle(event, at: now) else { return }
        for effect in effects {
            switch effect {
            case .propose(let command, let request):
                let ticket = (members[number]?.lastTicket ?? 0) + 1
                members[number]?.lastTicket = ticket
                if let request { members[number]?.requestOfTicket[ticket] = request }
                act(number) { node, now in node.propose(command, ticket: ticket, at: now) }
            case .reply(let id, let reply):
                #expect(members[number]?.replies[id] == nil, "answered twice")
                members[number]?.replies[id] = reply
            case .pushTopology(let notice, _): members[number]?.notices.append(notice.change)
            case .pushView(let view, _): members[number]?.views.append(view)
            case .startSettlingTimer: break
            case .compare(let delay):
                let due = now + delay
                let known = members[number]?.compareAt ?? due
                members[number]?.compareAt = min(known, due)
            case .keep: break
            }
        }
    }

    private mutating func act(_ number: UInt32, _ body: (inout Node, Instant) -> [Node.Output]) {
        guard var node = members[number]?.node else { return }
        let outputs = body(&node, now)
        members[number]?.node = node
        for output in outputs { perform(output, at: number) }
        release(number)
    }

    private mutating func release(_ number: UInt32) {
        while let committed = members[number]?.node.replicated.committedIndex,
            let next = members[number]?.backlog.next(through: committed)
        {
            handle(number, .table(next.outcome, next.request))
        }
    }

    private mutating func perform(_ output: Node.Output, at number: UInt32) {
        switch output {
        case .perform(let outcome, let ticket):
            let request = ticket.flatMap { members[number]?.requestOfTicket[$0] }
            let index = members[number]?.node.replicated.index ?? 0
            members[number]?.backlog.append(outcome, request, at: index)
        case .answer(let ticket, let outcome):
            release(number)
            var refusal: AisError?
            if case .refused(let error) = outcome { refusal = error }
            if let request = members[number]?.requestOfTicket.removeValue(forKey: ticket) {
                handle(number, .answered(request, refusal))
            } else if refusal != nil {
                handle(number, .refused)
            }
        case .stateReplaced:
            members[number]?.backlog.removeAll()
            if let core = members[number]?.node.core { handle(number, .replaced(core)) }
        case .status: stand(number)
        case .view(let view):
            members[number]?.view = view
            stand(number)
        case .willApply, .didApply, .journal, .performOnce, .sendSnapshot, .note: break
        }
    }

    private mutating func stand(_ number: UInt32) {
        guard let member = members[number] else { return }
        let quorum: ClmEngine.Standing.Quorum =
            switch member.node.status {
            case .outside, .withoutQuorum: .none
            case .forming, .synchronising: .forming
            case .synchronised: .synchronised
            }
        handle(
            number,
            .standing(
                ClmEngine.Standing(
                    quorum: quorum, isOldest: member.node.replicated.isOldest,
                    members: member.view?.members.map(\.node) ?? [], present: member.view?.nodes ?? [])))
    }

    /// A few movements of the network, then every daemon gets its turn.
    mutating func turn(moves: Int = .max, _ time: Duration = .milliseconds(1)) {
        var left = moves
        while left > 0, network.step() { left -= 1 }
        for number in members.keys.sorted() {
            act(number) { node, now in node.pump(at: now) }
            if let due = members[number]?.compareAt, due <= now, let core = members[number]?.node.core {
                members[number]?.compareAt = nil
                handle(number, .compared(core))
            }
        }
        now = now + time
    }

    mutating func settle(for time: Duration = .seconds(1)) {
        for _ in 0..<100 { turn(time / 100) }
    }

    func memberIDs(_ number: UInt32) -> [UInt32] {
        (members[number]?.engine.members.keys.map(\.rawValue) ?? []).sorted()
    }
    func viewNumber(_ number: UInt32) -> UInt64 { members[number]?.engine.viewNumber ?? 0 }
    func names(_ number: UInt32) -> [NameBinding] { members[number]?.engine.visibleBindings ?? [] }
    func reply(_ number: UInt32, _ id: UInt64) -> ClmEngine.Reply? { members[number]?.replies[id] }
}
