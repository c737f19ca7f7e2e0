import ClmEngine
import ClmProtocol
import EngineKit
import SAFTypes
import Testing

@Suite("clmd on several nodes")
struct ClmClusterTests {
    private func formed(_ seed: UInt64 = 1) -> SimulatedClms {
        var clms = SimulatedClms(nodes: 3, seed: seed)
        for number in 1...3 as ClosedRange<UInt32> { clms.start(number, life: UInt64(number)) }
        clms.settle()
        return clms
    }

    private func nodes(_ numbers: UInt32...) -> [NodeID] { numbers.map { NodeID($0) } }

    @Test("All join: the same view everywhere, and who came earlier has the smaller initial view number")
    func join() {
        let clms = formed()
        for number in 1...3 as ClosedRange<UInt32> {
            #expect(clms.memberIDs(number) == [1, 2, 3] && clms.viewNumber(number) == 3)
            #expect(clms.members[number]?.engine.isLocalMember == true)
            #expect(clms.members[number]?.engine.members == clms.members[1]?.engine.members)
        }
        let initial = clms.members[1]?.engine.members.values.map(\.initialViewNumber).sorted()
        #expect(initial == [1, 2, 3])
    }

    @Test("A node that is gone leaves at once and takes its bindings; a clmd that restarts in time is not noticed")
    func deaths() {
        var clms = formed()
        let binding = bound(1, node: 3)
        clms.ask(3, .bind(binding), from: session(1, node: 3))
        clms.settle()
        for number in 1...3 as ClosedRange<UInt32> { #expect(clms.names(number) == [binding]) }
        let view = clms.viewNumber(1)

        clms.crash(3)
        clms.settle(for: .seconds(4))
        #expect(clms.viewNumber(1) == view && clms.names(2) == [binding], "its node is still connected")
        clms.start(3, life: 3)
        clms.handle(3, .request(50, .bind(binding), from: session(1, node: 3)))
        clms.settle()
        #expect(clms.viewNumber(1) == view && clms.viewNumber(3) == view)
        #expect(clms.members[1]?.notices.contains(.withdrawn(binding)) == false)

        clms.crash(3)
        clms.settle(for: .seconds(6))
        #expect(clms.memberIDs(1) == [1, 2], "not back in time")
        clms.start(3, life: 3)
        clms.settle()
        #expect(clms.memberIDs(2) == [1, 2, 3])

        clms.network.connect([nodes(1, 2), nodes(3)])
        clms.settle(for: .milliseconds(100))
        for number in [1, 2] as [UInt32] {
            #expect(clms.memberIDs(number) == [1, 2])
            #expect(clms.names(number) == [], "withdrawn with the node")
            #expect(clms.viewNumber(number) == view + 3)
        }
    }

    @Test("The minority keeps what it knows, changes nothing and is no member; healed, its names are back")
    func partition() {
        var clms = formed()
        let known = bound(1, node: 3)
        clms.ask(3, .bind(known), from: session(1, node: 3))
        clms.settle()
        clms.network.connect([nodes(1, 2), nodes(3)])
        clms.settle(for: .milliseconds(100))
        #expect(clms.members[3]?.engine.isLocalMember == false)
        #expect(clms.members[3]?.views.last?.isLocalMember == false)
        #expect(clms.memberIDs(3) == [1, 2, 3] && clms.names(3) == [known])
        let late = bound(2, node: 3)
        let id = clms.ask(3, .bind(late), from: session(1, node: 3))
        guard case .failed(.tryAgain, _)? = clms.reply(3, id) else { return #expect(Bool(false)) }
        let locking = clms.ask(
            3, .administer(NodeAdministration(node: NodeID(1), operation: .lock)), from: session(2, node: 3))
        guard case .failed(.tryAgain, _)? = clms.reply(3, locking) else { return #expect(Bool(false)) }
        #expect(clms.names(1) == [])
        let elsewhere = bound(3, node: 1)
        clms.ask(1, .bind(elsewhere), from: session(1, node: 1))
        clms.network.heal()
        clms.settle()
        for number in 1...3 as ClosedRange<UInt32> {
            #expect(clms.memberIDs(number) == [1, 2, 3])
            #expect(clms.viewNumber(number) == 5)
            #expect(clms.names(number) == [known, late, elsewhere].sorted(), "what was refused is made good")
        }
        #expect(clms.members[3]?.views.last?.isLocalMember == true)
    }

    @Test("A view of one number is the same on every node that tells it, whatever is cut off when")
    func oneStory() {
        var stories = 0
        for seed in 1...60 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            var clms = formed(seed)
            var told: [UInt64: [UInt32]] = [:]
            var seen: [UInt32: Int] = [:]
            func listen(_ clms: SimulatedClms) {
                for number in 1...3 as ClosedRange<UInt32> {
                    let views = clms.members[number]?.views ?? []
                    for view in views.dropFirst(seen[number] ?? 0) where view.step == .completed {
                        let nodes = view.notifications.filter { $0.change != .left }.map(\.node.nodeID.rawValue)
                            .sorted()
                        if let other = told[view.viewNumber] {
                            #expect(nodes == other, "seed \(seed): view \(view.viewNumber) on node \(number)")
                        }
                        told[view.viewNumber] = nodes
                    }
                    seen[number] = views.count
                }
            }
            for step in 0..<200 {
                switch Int.random(in: 0..<20, using: &random) {
                case 0: clms.network.connect([nodes(1, 2), nodes(3)])
                case 1: clms.network.connect([nodes(1), nodes(2, 3)])
                case 2: clms.network.connect([nodes(1), nodes(2), nodes(3)])
                case 3...5: clms.network.heal()
                case 6:
                    // Somebody takes its leave, or comes back, at the very moment when others are cut off.
                    clms.handle(UInt32.random(in: 1...3, using: &random), .leaving)
                default: break
                }
                clms.turn(moves: Int.random(in: 0...8, using: &random), .milliseconds(5))
                listen(clms)
                if step % 50 == 49 {
                    clms.network.heal()
                    for number in 1...3 as ClosedRange<UInt32> {
                        listen(clms)
                        clms.crash(number)
                        seen[number] = 0
                        clms.start(number, life: seed * 1_000 + UInt64(step) + UInt64(number))
                        clms.settle(for: .milliseconds(500))
                        listen(clms)
                    }
                }
            }
            stories += told.count
        }
        #expect(stories > 600, "\(stories) views were told")
    }

    @Test("A client that ends while its node is cut off is gone for all when that is healed")
    func sessionEndsApart() {
        var clms = formed()
        // Long enough cut off for nobody to notice: node 3 keeps its place in the table.
        clms.ask(2, .bind(bound(1, node: 2)), from: session(1, node: 2))
        clms.settle()
        clms.network.connect([nodes(1), nodes(2), nodes(3)])
        clms.settle(for: .milliseconds(100))
        clms.handle(2, .disconnected(session(1, node: 2)))
        clms.network.heal()
        clms.settle()
        for number in 1...3 as ClosedRange<UInt32> { #expect(clms.names(number) == []) }
    }

    @Test("A node that takes its leave is gone at once, and may come again")
    func leave() {
        var clms = formed()
        clms.handle(2, .leaving)
        clms.settle(for: .milliseconds(50))
        #expect(clms.memberIDs(1) == [1, 3] && clms.viewNumber(3) == 4)
        clms.crash(2)
        clms.start(2, life: 2)
        clms.settle()
        #expect(clms.memberIDs(3) == [1, 2, 3] && clms.viewNumber(2) == 5)
    }

    @Test("A lock waits for the START trackers of all nodes, 10 s at most; locked nodes stay out until unlocked")
    func lock() {
        var clms = formed()
        clms.ask(2, .track([.changes, .startStep]), from: session(5, node: 2))
        let lock = NodeAdministration(node: NodeID(3), operation: .lock)
        let first = clms.ask(1, .administer(lock), from: session(1))
        clms.settle(for: .seconds(9))
        #expect(clms.reply(1, first) == nil && clms.memberIDs(1) == [1, 2, 3])
        clms.settle(for: .seconds(2))
        #expect(clms.reply(1, first) == .done)
        for number in 1...3 as ClosedRange<UInt32> { #expect(clms.memberIDs(number) == [1, 2]) }
        #expect(clms.members[3]?.engine.isLocalMember == false)
        clms.crash(3)
        clms.start(3, life: 30)
        clms.settle()
        #expect(clms.memberIDs(3) == [1, 2], "another life of it is locked, too")
        let unlock = NodeAdministration(node: NodeID(3), operation: .unlock)
        let second = clms.ask(2, .administer(unlock), from: session(1, node: 2))
        clms.settle()
        #expect(clms.reply(2, second) == .done && clms.memberIDs(1) == [1, 2, 3])
        let step = clms.members[2]?.views.first { $0.step == .start }
        guard let step else { return #expect(Bool(false), "was asked") }
        #expect(step.timeSupervision == 10_000_000_000 && step.rootCause == NodeID(3))
        let third = clms.ask(3, .administer(NodeAdministration(node: NodeID(1), operation: .lock)), from: session(1))
        clms.settle()
        guard let invocation = clms.members[2]?.views.last(where: { $0.step == .start })?.invocation else { return }
        clms.ask(2, .respond(ChangeResponse(invocation: invocation, answer: .ok)), from: session(5, node: 2))
        clms.settle(for: .milliseconds(100))
        #expect(clms.reply(3, third) == .done && clms.memberIDs(2) == [2, 3])
    }

    @Test(
        "Any faults in any order: healed, all nodes know the same, and all that clients want",
        arguments: seeds(
            usual: 0..<100,
            failed: [
                731_000_025, 731_000_037, 731_000_056, 731_000_150, 731_000_227, 731_000_281, 731_000_615, 731_000_702,
            ]))
    func anyFaults(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var clms = formed(seed)
        var wanted: [UInt32: [UInt64: Set<NameBinding>]] = [:]
        var life: UInt64 = 100
        var lives: [UInt32: UInt64] = [:]
        for _ in 0..<150 {
            let number = UInt32.random(in: 1...3, using: &random)
            let client = UInt64.random(in: 1...3, using: &random) + 10 * (lives[number] ?? 0)  // never used again
            let binding = bound(.random(in: 0...9, using: &random), node: number, port: UInt32(client % 10))
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<7 where clms.members[number] != nil:
                clms.ask(number, .bind(binding), from: session(client, node: number))
                wanted[number, default: [:]][client, default: []].insert(binding)
            case 7..<10 where clms.members[number] != nil:
                clms.ask(number, .withdraw(binding), from: session(client, node: number))
                wanted[number]?[client]?.remove(binding)
            case 10 where clms.members[number] != nil:
                clms.handle(number, .disconnected(session(client, node: number)))
                wanted[number]?[client] = nil
            case 11: clms.network.connect([nodes(1, 2, 3).filter { $0.rawValue != number }])
            case 12: clms.network.connect([nodes(1), nodes(2), nodes(3)])
            case 13, 14: clms.network.heal()
            case 15 where clms.members.count == 3:
                clms.crash(number)
                wanted[number] = nil
            case 16 where clms.members[number] == nil:
                life += 1
                lives[number] = life
                clms.start(number, life: life)
            case 17:
                let node = NodeID(.random(in: 1...3, using: &random))
                let operation = NodeAdministration.Operation.allCases.randomElement(using: &random) ?? .lock
                clms.ask(
                    number, .administer(NodeAdministration(node: node, operation: operation)),
                    from: session(client, node: number))
            default: break
            }
            for _ in 0..<5 { clms.turn(moves: .random(in: 0...10, using: &random), .milliseconds(20)) }
        }
        clms.network.heal()
        for number in 1...3 as ClosedRange<UInt32> where clms.members[number] == nil {
            life += 1
            clms.start(number, life: life)
        }
        for _ in 0..<4 { clms.settle(for: .seconds(10)) }
        for number in 1...3 as ClosedRange<UInt32> {
            guard clms.members[number]?.engine.isSettled == false else { continue }
            clms.handle(number, .settlingTimeOver)
        }
        for _ in 0..<2 { clms.settle(for: .seconds(10)) }
        let table = clms.members[1]?.node.core
        let all = wanted.values.flatMap { $0.values.flatMap { $0 } }.sorted()
        for number in 1...3 as ClosedRange<UInt32> {
            #expect(clms.members[number]?.node.core == table, "seed \(seed)")
            #expect(clms.viewNumber(number) == table?.viewNumber, "seed \(seed)")
            #expect(clms.members[number]?.engine.members.values.sorted { $0.nodeID < $1.nodeID } == table?.members)
            #expect(table?.nodes.map(\.node.nodeID.rawValue) == [1, 2, 3], "seed \(seed)")
            #expect(clms.names(number) == all, "seed \(seed), node \(number)")
            let unanswered = (1...(clms.members[number]?.lastRequest ?? 1)).filter { clms.reply(number, $0) == nil }
            #expect(unanswered.isEmpty, "seed \(seed), node \(number)")
        }
        #expect(table?.planned == nil)
    }
}
