import ClmEngine
import ClmProtocol
import EngineKit
import SAFTypes
import Testing

private let local = ClusterNode(nodeID: NodeID(1), name: SaName("one")!, bootTimestamp: 1, initialViewNumber: 1)
private let other = ClusterNode(nodeID: NodeID(2), name: SaName("two")!, bootTimestamp: 2, initialViewNumber: 2)

/// The engine with the loopback of a standalone node: a proposal is applied at once, in order.
private struct Standalone {
    var engine: ClmEngine
    private var table: NameTable
    private var nextRequest: UInt64 = 0

    init(restored: NameTable = NameTable(), limits: ClmEngine.Limits = .init()) {
        table = restored
        engine = ClmEngine(local: local, viewNumber: 1, restored: restored, limits: limits)
    }

    mutating func handle(_ event: ClmEngine.Event) -> [ClmEngine.Effect] {
        var seen: [ClmEngine.Effect] = []
        var open = engine.handle(event, at: .start)
        while !open.isEmpty {
            let effect = open.removeFirst()
            guard case .propose(let command, let request) = effect else {
                seen.append(effect)
                continue
            }
            for outcome in table.handle(command, at: .start) {
                seen += engine.handle(.names(outcome, request), at: .start)
            }
            if let request { seen += engine.handle(.answered(request, nil), at: .start) }
        }
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
        var table = NameTable()
        let stays = bound(1)
        let dies = bound(2, port: 2)
        _ = table.handle(.bind(stays, by: session(1)), at: .start)
        _ = table.handle(.bind(dies, by: session(2)), at: .start)
        var clmd = Standalone(restored: table)
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
        var clmd = Standalone(restored: NameTable(limits: .init(bindingsMax: 1)))
        #expect(clmd.ask(.bind(bound(1))) == [.reply(1, .done)])
        #expect(clmd.ask(.bind(bound(2))) == [.reply(2, .failed(.noResources, "bind 100:2: the name table is full"))])
        #expect(clmd.engine.visibleBindings == [bound(1)])
    }

    @Test("A binding of node scope is invisible elsewhere; of several providers the nearest comes first")
    func lookup() {
        var table = NameTable()
        let far = bound(1, 4, node: 2)
        let hidden = bound(1, node: 2, port: 2, scope: .node)
        let near = bound(1, port: 9)
        for binding in [far, hidden] { _ = table.handle(.bind(binding, by: session(5, node: 2)), at: .start) }
        var clmd = Standalone(restored: table)
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
            clmd.handle(.membershipChanged([joined], viewNumber: 2)) == [
                .pushView(ClusterView(viewNumber: 2, memberCount: 2, notifications: [here, joined]), to: session(2)),
                .pushView(ClusterView(viewNumber: 2, memberCount: 2, notifications: [joined]), to: session(3)),
            ])
        let left = ClusterNotification(node: other, change: .left)
        #expect(
            clmd.handle(.membershipChanged([left], viewNumber: 3)) == [
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
                case 6: .track(TrackFlags(rawValue: .random(in: 0...7, using: &random)))
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
}
