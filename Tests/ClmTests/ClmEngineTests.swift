import ClmEngine
import ClmProtocol
import EngineKit
import SAFTypes
import Testing

private let local = ClusterNode(nodeID: NodeID(1), name: SaName("one")!, bootTimestamp: 1, initialViewNumber: 1)
private let other = ClusterNode(nodeID: NodeID(2), name: SaName("two")!, bootTimestamp: 2, initialViewNumber: 2)

func record(_ node: ClusterNode, incarnation: UInt64 = 1) -> NodeRecord {
    NodeRecord(node: node, addresses: ["10.0.0.\(node.nodeID)"], incarnation: incarnation)
}

/// The engine with the loopback of a standalone node: a proposal is applied at once, in order.
private struct Standalone {
    var engine: ClmEngine
    private var table: ClusterTable
    private var nextRequest: UInt64 = 0

    init(
        restored: [(NameBinding, ClientSession)] = [], tableLimits: NameTable.Limits = .init(),
        limits: ClmEngine.Limits = .init()
    ) {
        table = ClusterTable(limits: .init(names: tableLimits))
        for (binding, session) in restored { _ = table.handle(.names(.bind(binding, by: session)), at: .start) }
        engine = ClmEngine(me: record(local), viewFloor: 0, restored: table, limits: limits)
        let alone = ClmEngine.Standing(
            quorum: .synchronised, isOldest: true, members: [NodeID(1)], present: [NodeID(1)])
        #expect(handle(.standing(alone)) == [])
    }

    mutating func handle(_ event: ClmEngine.Event) -> [ClmEngine.Effect] {
        var seen: [ClmEngine.Effect] = []
        var open = engine.handle(event, at: .start)
        while !open.isEmpty {
            switch open.removeFirst() {
            case .propose(let command, let request): seen += apply(command, for: request)
            case .compare(after: .zero): open += engine.handle(.compared(table), at: .start)
            case .keep: break
            case let effect: seen.append(effect)
            }
        }
        return seen
    }

    /// A command of this or another node.
    mutating func apply(_ command: ClusterTable.Command, for request: UInt64? = nil) -> [ClmEngine.Effect] {
        var seen: [ClmEngine.Effect] = []
        for outcome in table.handle(command, at: .start) { seen += handle(.table(outcome, request)) }
        if let request { seen += handle(.answered(request, nil)) }
        return seen
    }

    mutating func ask(_ request: ClmEngine.Request, from client: UInt64 = 1) -> [ClmEngine.Effect] {
        nextRequest += 1
        return handle(.request(nextRequest, request, from: session(client)))
    }
}

@Suite("clmd's decisions")
struct ClmEngineTests {
    private func notice(_ change: TopologyNotice.Change, to client: UInt64, _ number: UInt32 = 7) -> ClmEngine.Effect {
        .pushTopology(TopologyNotice(subscription: number, change: change), to: session(client))
    }

    @Test("A subscriber hears what is bound, then every change, until it leaves")
    func subscription() {
        var clmd = Standalone()
        let early = bound(1)
        let late = bound(2, port: 2)
        let request = SubscribeRequest(subscription: 7, range: ServiceRange(allOf: 100))
        #expect(clmd.handle(.settlingTimeOver) == [])
        #expect(clmd.ask(.bind(early), from: 1) == [.reply(1, .done)])
        #expect(
            clmd.ask(.subscribe(request), from: 2) == [
                .reply(2, .done), notice(.published(early), to: 2), notice(.settled, to: 2),
            ])
        #expect(clmd.ask(.bind(late), from: 1) == [notice(.published(late), to: 2), .reply(3, .done)])
        #expect(clmd.ask(.bind(bound(1, type: 101)), from: 1) == [.reply(4, .done)])
        #expect(clmd.ask(.withdraw(early), from: 1) == [notice(.withdrawn(early), to: 2), .reply(5, .done)])
        #expect(clmd.handle(.disconnected(session(1))) == [notice(.withdrawn(late), to: 2)])
        #expect(clmd.ask(.unsubscribe(7), from: 2) == [.reply(6, .done)])
        #expect(clmd.ask(.bind(late), from: 3) == [.reply(7, .done)])
    }

    @Test("A restarted clmd tells a subscriber nothing about those who bind again in time")
    func restartWithoutFlap() {
        let stays = bound(1)
        let dies = bound(2, port: 2)
        var clmd = Standalone(restored: [(stays, session(1)), (dies, session(2))])
        #expect(clmd.engine.start() == [.startSettlingTimer(.seconds(3))])
        let request = SubscribeRequest(subscription: 7, range: ServiceRange(allOf: 100))
        #expect(
            clmd.ask(.subscribe(request), from: 3)
                == [.reply(1, .done), notice(.published(stays), to: 3), notice(.published(dies), to: 3)])
        #expect(clmd.ask(.bind(stays), from: 1) == [.reply(2, .done)])
        #expect(clmd.handle(.settlingTimeOver) == [notice(.withdrawn(dies), to: 3), notice(.settled, to: 3)])
        #expect(clmd.engine.isSettled)
    }

    @Test("While clients may still be binding again, an unknown name means try again, later it does not exist")
    func lookupWhileSettling() {
        var clmd = Standalone()
        let lookup = ClmEngine.Request.lookup(LookupRequest(type: 100, instance: 1))
        guard case .reply(_, .failed(.tryAgain, _)) = clmd.ask(lookup).first else { return #expect(Bool(false)) }
        _ = clmd.handle(.settlingTimeOver)
        guard case .reply(_, .failed(.notExist, let text)) = clmd.ask(lookup).first else { return #expect(Bool(false)) }
        #expect(text == "service 100:1: nobody is bound to it")
    }

    @Test("Reserved types and ports of other nodes cannot be bound")
    func refusedBinds() {
        var clmd = Standalone()
        for binding in [bound(1, type: 63), bound(1, node: 2)] {
            guard case .reply(_, .failed(.invalidParam, _)) = clmd.ask(.bind(binding)).first else {
                return #expect(Bool(false))
            }
        }
        #expect(clmd.engine.visibleBindings.isEmpty)
    }

    @Test("A full name table refuses once, and says so")
    func fullTable() {
        var clmd = Standalone(tableLimits: .init(bindingsMax: 1))
        #expect(clmd.ask(.bind(bound(1))) == [.reply(1, .done)])
        #expect(clmd.ask(.bind(bound(2))) == [.reply(2, .failed(.noResources, "bind 100:2: the name table is full"))])
        #expect(clmd.engine.visibleBindings == [bound(1)])
    }

    @Test("A binding of node scope is invisible elsewhere; of several providers the nearest comes first")
    func lookup() {
        let far = bound(1, 4, node: 2)
        let hidden = bound(1, node: 2, port: 2, scope: .node)
        let near = bound(1, port: 9)
        var clmd = Standalone(restored: [far, hidden].map { ($0, session(5, node: 2)) })
        _ = clmd.handle(.settlingTimeOver)
        _ = clmd.ask(.bind(near))
        func ask(_ instance: UInt32) -> [PortAddress] {
            guard
                case .reply(_, .lookup(let reply))? = clmd.ask(.lookup(LookupRequest(type: 100, instance: instance)))
                    .first
            else { return [] }
            return reply.addresses
        }
        #expect(ask(1) == [near.address, far.address])
        #expect(ask(4) == [far.address])
        #expect(ask(5) == [])
        #expect(clmd.engine.visibleBindings == [near, far].sorted())
    }

    @Test("A subscriber that lost frames is told to start over")
    func overflow() {
        var clmd = Standalone()
        _ = clmd.ask(.subscribe(SubscribeRequest(subscription: 7, range: ServiceRange(allOf: 100))), from: 2)
        #expect(clmd.handle(.overflowed(session(2))) == [notice(.lost, to: 2)])
    }

    @Test("One process has a bounded number of subscriptions")
    func subscriptionLimit() {
        var clmd = Standalone(limits: .init(subscriptionsPerSessionMax: 1))
        let range = ServiceRange(allOf: 100)
        _ = clmd.ask(.subscribe(SubscribeRequest(subscription: 1, range: range)))
        guard
            case .reply(_, .failed(.noResources, _)) = clmd.ask(
                .subscribe(SubscribeRequest(subscription: 2, range: range))
            ).first
        else { return #expect(Bool(false)) }
    }

    @Test("CLM B.01.01: CURRENT answers the view and tracks nothing; CHANGES tells all nodes, CHANGES_ONLY the changed")
    func tracking() {
        var clmd = Standalone()
        let here = ClusterNotification(node: local, change: .noChange)
        let joined = ClusterNotification(node: other, change: .joined)
        #expect(
            clmd.ask(.track(.current), from: 1) == [
                .reply(1, .view(ClusterView(viewNumber: 1, memberCount: 1, notifications: [here])))
            ])
        #expect(
            clmd.ask(.track(.changes), from: 2) == [
                .reply(2, .view(ClusterView(viewNumber: 1, memberCount: 1, notifications: [])))
            ])
        _ = clmd.ask(.track(.changes), from: 3)
        _ = clmd.ask(.track(.changesOnly), from: 3)
        #expect(
            clmd.apply(.nodeJoined(record(other), viewFloor: 0)) == [
                .pushView(ClusterView(viewNumber: 2, memberCount: 2, notifications: [here, joined]), to: session(2)),
                .pushView(ClusterView(viewNumber: 2, memberCount: 2, notifications: [joined]), to: session(3)),
            ])
        var gone = other
        gone.isMember = false
        let left = ClusterNotification(node: gone, change: .left)
        #expect(
            clmd.apply(.nodeLeft(NodeID(2), incarnation: 1)) == [
                .pushView(ClusterView(viewNumber: 3, memberCount: 1, notifications: [here, left]), to: session(2)),
                .pushView(ClusterView(viewNumber: 3, memberCount: 1, notifications: [left]), to: session(3)),
            ])
        #expect(clmd.ask(.trackStop, from: 2) == [.reply(5, .done)])
        guard case .reply(_, .failed(.notExist, _)) = clmd.ask(.trackStop, from: 2).first else {
            return #expect(Bool(false))
        }
    }

    @Test("A node is found by number; 0xFFFFFFFF is this one")
    func nodeGet() {
        var clmd = Standalone()
        #expect(clmd.ask(.nodeGet(ClmConstants.localNode)) == [.reply(1, .node(local))])
        #expect(clmd.ask(.nodeGet(NodeID(1))) == [.reply(2, .node(local))])
        guard case .reply(_, .failed(.notExist, _)) = clmd.ask(.nodeGet(NodeID(9))).first else {
            return #expect(Bool(false))
        }
    }

    @Test("Every request is answered exactly once, in any order of events", arguments: 0..<50 as Range<UInt64>)
    func answeredOnce(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var clmd = Standalone()
        for number in 1...200 as ClosedRange<UInt64> {
            let range = ServiceRange(
                type: .random(in: 60...70, using: &random), instance: .random(in: 0...3, using: &random))
            let binding = bound(range.lower, type: range.type)
            let request: ClmEngine.Request =
                switch Int.random(in: 0..<8, using: &random) {
                case 0, 1: .bind(binding)
                case 2: .withdraw(binding)
                case 3: .lookup(LookupRequest(type: range.type, instance: range.lower))
                case 4: .subscribe(SubscribeRequest(subscription: .random(in: 0...2, using: &random), range: range))
                case 5: .unsubscribe(.random(in: 0...2, using: &random))
                case 6: .track(TrackFlags(rawValue: .random(in: 0...0x3F, using: &random)))
                default: .trackStop
                }
            let effects = clmd.ask(request, from: .random(in: 1...3, using: &random))
            let replies = effects.filter { if case .reply(number, _) = $0 { true } else { false } }
            #expect(replies.count == 1, "seed \(seed), request \(number): \(request)")
            if random.chance(percent: 10) {
                _ = clmd.handle(.disconnected(session(.random(in: 1...3, using: &random))))
            }
        }
    }

    @Test("CLM B.04.01: LOCAL tells of the own node only; a locked node leaves when START trackers have answered")
    func steps() {
        var clmd = Standalone()
        _ = clmd.ask(.track([.changes, .startStep]), from: 1)
        _ = clmd.ask(.track([.changesOnly, .validateStep, .local]), from: 2)
        let lock = NodeAdministration(node: NodeID(1), operation: .lock)
        let asked = clmd.ask(.administer(lock), from: 3)
        var step = ClusterView(
            viewNumber: 1, memberCount: 1, notifications: [.init(node: local, change: .left)], step: .start,
            invocation: 1, rootCause: NodeID(1))
        step.timeSupervision = 10_000_000_000
        #expect(asked == [.pushView(step, to: session(1))])
        guard case .reply(4, .failed(.tryAgain, _)) = clmd.ask(.administer(lock), from: 4).first else {
            return #expect(Bool(false), "one change at a time")
        }
        guard
            case .reply(5, .failed(.notExist, _)) = clmd.ask(
                .respond(ChangeResponse(invocation: 1, answer: .ok)), from: 2
            ).first
        else { return #expect(Bool(false), "the invocation of another") }
        let done = clmd.ask(.respond(ChangeResponse(invocation: 1, answer: .ok)), from: 1)
        var gone = local
        gone.isMember = false
        let left = ClusterView(
            viewNumber: 2, memberCount: 0, notifications: [.init(node: gone, change: .left)], isLocalMember: false,
            rootCause: NodeID(1))
        #expect(
            done == [
                .reply(6, .done), .pushView(left, to: session(1)), .pushView(left, to: session(2)), .reply(3, .done),
            ])
        #expect(!clmd.engine.isLocalMember)
        #expect(clmd.ask(.nodeGet(NodeID(1))).contains(.reply(7, .node(gone))))
        let unlock = NodeAdministration(node: NodeID(1), operation: .unlock)
        #expect(clmd.ask(.administer(unlock), from: 3).contains(.reply(8, .done)))
        #expect(clmd.engine.isLocalMember && clmd.engine.viewNumber == 3)
        guard case .reply(9, .failed(.noOp, _)) = clmd.ask(.administer(unlock)).first else {
            return #expect(Bool(false))
        }
        let unknown = NodeAdministration(node: NodeID(9), operation: .lock)
        guard case .reply(10, .failed(.notExist, _)) = clmd.ask(.administer(unknown)).first else {
            return #expect(Bool(false))
        }
    }

    @Test("CLM B.04.01: a VALIDATE tracker rejects a shutdown; one that dies has nothing against it")
    func rejection() {
        var clmd = Standalone()
        _ = clmd.ask(.track([.changes, .validateStep]), from: 1)
        let shutdown = NodeAdministration(node: NodeID(1), operation: .shutdown)
        guard case .pushView(let first, _)? = clmd.ask(.administer(shutdown), from: 3).first else {
            return #expect(Bool(false))
        }
        #expect(first.step == .validate && first.notifications.map(\.change) == [.shutdown])
        let effects = clmd.ask(.respond(ChangeResponse(invocation: first.invocation, answer: .rejected)), from: 1)
        #expect(effects.first == .reply(3, .done))
        guard case .pushView(let aborted, _)? = effects.dropFirst().first, effects.count == 3,
            case .reply(2, .failed(.failedOperation, _))? = effects.last
        else { return #expect(Bool(false), "\(effects)") }
        #expect(aborted.step == .aborted && aborted.invocation == 0 && clmd.engine.isLocalMember)
        _ = clmd.ask(.administer(shutdown), from: 3)
        #expect(clmd.handle(.disconnected(session(1))).contains(.reply(4, .done)))
        #expect(!clmd.engine.isLocalMember)
    }

    @Test("Without quorum what is known is found, and changes are to be tried again; the node's own are told")
    func withoutQuorum() {
        var clmd = Standalone()
        let known = bound(1)
        _ = clmd.handle(.settlingTimeOver)
        _ = clmd.ask(.bind(known))
        _ = clmd.ask(.track(.changesOnly), from: 2)
        let alone = clmd.handle(.standing(ClmEngine.Standing(quorum: .none)))
        #expect(
            alone == [
                .pushView(
                    ClusterView(viewNumber: 1, memberCount: 1, notifications: [], isLocalMember: false),
                    to: session(2))
            ])
        #expect(
            clmd.ask(.lookup(LookupRequest(type: 100, instance: 1)))
                == [.reply(3, .lookup(LookupReply(addresses: [known.address])))])
        guard case .reply(4, .failed(.tryAgain, _)) = clmd.ask(.lookup(LookupRequest(type: 100, instance: 2))).first
        else { return #expect(Bool(false)) }
    }
}
