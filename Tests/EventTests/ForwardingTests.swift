import EngineKit
import EventEngine
import EventProtocol
import SAFTypes
import Testing

/// Events between nodes, through kills, broken links and partitions.
@Suite("Events between nodes, simulated")
struct ForwardingTests {
    /// What was acknowledged to a publisher.
    struct Published: Hashable {
        var publisher: Int
        var priority: EventPriority
        var number: Int
        var pattern: String
        var isRetained: Bool
        var text: String { "\(publisher):\(priority.rawValue):\(number)" }
    }

    final class Run {
        let world: ClusterWorld
        let seed: UInt64
        var publishers: [ClusterWorld.Client] = []
        var subscribers: [ClusterWorld.Client] = []
        var published: [Published] = []
        private var isPublishing: Set<Int> = []

        init(seed: UInt64, limits: NodeEngine.Limits) {
            self.seed = seed
            world = ClusterWorld(nodes: 3, seed: seed, limits: limits)
        }

        /// A publisher and two subscribers on every node.
        func populate() {
            let filters: [[EventFilter]] = [
                [], [.exact("a")], [.prefix("b")], [.passAll], [.suffix("a")], [.exact("c")],
            ]
            for node in world.nodes.indices {
                publishers.append(world.client(on: node))
                world.join(publishers[node], nil)
                for offset in 0...1 {
                    let client = world.client(on: node)
                    subscribers.append(client)
                    world.join(client, filters[2 * node + offset])
                }
            }
            let isReady = world.settle {
                subscribers.allSatisfy { $0.filters != nil } && publishers.allSatisfy(\.isOpen)
            }
            #expect(isReady, "seed \(seed): all have subscribed")
        }

        func publish(_ index: Int, retained: Bool = false, size: Int = 0) {
            let client = publishers[index]
            guard client.isOpen, !client.hasEnded, !isPublishing.contains(index) else { return }
            isPublishing.insert(index)
            let priority = EventPriority.allCases.randomElement(using: &world.random) ?? .lowest
            let number = client.published[priority, default: 0]
            client.published[priority] = number + 1
            let pattern = ["a", "b", "c", "ba"].randomElement(using: &world.random) ?? "a"
            let entry = Published(
                publisher: index, priority: priority, number: number, pattern: pattern, isRetained: retained)
            let event = EventMessage(
                patterns: [Array(pattern.utf8)], data: Array(entry.text.utf8) + Array(repeating: 32, count: size),
                priority: priority, retention: retained ? EventLimits.retentionMax : 0)
            world.insist(client, .publish(instance: 1, event)) { [unowned self] _ in
                isPublishing.remove(index)
                published.append(entry)
            }
        }

        func text(_ event: EventMessage) -> String {
            String(decoding: event.data.prefix { $0 != 32 }, as: UTF8.self)
        }

        /// Nothing twice, nothing that does not match, and per publisher and priority in order.
        func checkOrder(_ client: ClusterWorld.Client) {
            var last: [String: Int] = [:]
            for event in client.received where !event.isLost {
                let parts = text(event).split(separator: ":")
                guard parts.count == 3, let number = Int(parts[2]) else {
                    Issue.record("seed \(seed): \(text(event))")
                    continue
                }
                let key = "\(parts[0]):\(parts[1])"
                #expect(number > last[key] ?? -1, "seed \(seed): \(text(event)) after \(last[key] ?? -1)")
                last[key] = number
                #expect((client.filters ?? []).match(event.patterns), "seed \(seed): \(text(event)) was not wanted")
            }
        }

        func missing(_ client: ClusterWorld.Client) -> [String] {
            let received = Set(client.received.map(text))
            return published.filter { (client.filters ?? []).match([Array($0.pattern.utf8)]) }.map(\.text)
                .filter { !received.contains($0) }
        }

        func marks(_ client: ClusterWorld.Client) -> Int { client.received.filter(\.isLost).count }

        /// All is well: everybody runs, hears everybody, and what is under way arrives.
        func heal() {
            world.divide([0, 0, 0])
            for index in world.nodes.indices where world.nodes[index].registry == nil { world.start(index) }
            let isQuiet = world.settle(60_000) {
                isPublishing.isEmpty
                    && world.nodes.allSatisfy { $0.registry?.status == .synchronised }
                    && world.nodes.allSatisfy {
                        $0.engine.forwardingList.allSatisfy { $0.waiting + $0.unconfirmed == 0 }
                    }
                    && world.clients.allSatisfy { $0.waiting.isEmpty && !$0.owesConfirmation }
            }
            #expect(isQuiet, "seed \(seed): comes to rest")
        }
    }

    private func limits(_ change: (inout NodeEngine.Limits) -> Void = { _ in }) -> NodeEngine.Limits {
        var limits = NodeEngine.Limits()
        limits.absenceMax = .seconds(3_600)
        limits.departureAfter = .seconds(3_600)
        limits.toldWithin = .seconds(600)
        limits.windowMax = 16
        change(&limits)
        return limits
    }

    @Test(
        "Kills of every eventd and breaks of every link lose nothing and repeat nothing",
        arguments: seeds(usual: 1..<13))
    func kills(seed: UInt64) {
        let run = Run(seed: seed, limits: limits())
        run.populate()
        let world = run.world
        for _ in 0..<3_000 {
            world.step()
            if world.random.chance(percent: 12) {
                run.publish(Int.random(in: 0...2, using: &world.random), retained: world.random.chance(percent: 10))
            }
            guard world.random.chance(percent: 2) else { continue }
            let node = Int.random(in: 0...2, using: &world.random)
            if world.random.chance(percent: 50) {
                world.breakWay(node, Int.random(in: 0...2, using: &world.random))
            } else if world.nodes[node].registry == nil {
                world.start(node)
            } else {
                world.kill(node)
            }
        }
        run.heal()
        #expect(run.published.count > 5, "seed \(seed): \(run.published.count)")
        for client in run.subscribers {
            run.checkOrder(client)
            #expect(run.missing(client) == [], "seed \(seed): \(client.session)")
            #expect(run.marks(client) == 0, "seed \(seed)")
        }
        // Every node has every retained event for who comes late.
        let retained = run.published.filter(\.isRetained).map(\.text).sorted()
        for node in 0...2 {
            let late = world.client(on: node)
            world.join(late, [])
            #expect(world.settle { late.filters != nil && late.received.count >= retained.count })
            #expect(late.received.map(run.text).sorted() == retained, "seed \(seed): node \(node + 1)")
        }
    }

    @Test(
        "Partitions, departures and full queues: what is missing, its reader is told of; then all is as before",
        arguments: seeds(usual: 1..<13))
    func partitions(seed: UInt64) {
        let run = Run(
            seed: seed,
            limits: limits {
                $0.departureAfter = .milliseconds(300)
                $0.forwardMax = 24
                $0.queueMax = 40
                $0.toldWithin = .milliseconds(200)
            })
        run.populate()
        let world = run.world
        for _ in 0..<4_000 {
            world.step()
            if world.random.chance(percent: 15) {
                run.publish(Int.random(in: 0...2, using: &world.random), retained: world.random.chance(percent: 10))
            }
            guard world.random.chance(percent: 1) else { continue }
            switch Int.random(in: 0...5, using: &world.random) {
            case 0: world.divide([0, 0, 1])
            case 1: world.divide([1, 0, 0])
            case 2: world.divide([0, 0, 0])
            case 3: world.breakWay(Int.random(in: 0...2, using: &world.random), 0)
            default:
                let node = Int.random(in: 0...2, using: &world.random)
                if world.nodes[node].registry == nil { world.start(node) } else { world.kill(node) }
            }
        }
        run.heal()
        for client in run.subscribers {
            run.checkOrder(client)
            #expect(run.missing(client) == [] || run.marks(client) > 0, "seed \(seed): \(client.session)")
        }
        let before = run.published.count
        for _ in 0..<10 {
            for node in 0...2 { run.publish(node) }
            run.heal()
        }
        let fresh = run.published.dropFirst(before)
        #expect(fresh.count == 30, "seed \(seed)")
        for client in run.subscribers {
            run.checkOrder(client)
            let missing = run.missing(client).filter { text in fresh.contains { $0.text == text } }
            #expect(missing == [], "seed \(seed): \(client.session)")
        }
    }

    @Test(
        "A late subscriber of any node gets what is retained until cleared or expired, also without its node"
    )
    func retained() {
        let run = Run(seed: 5, limits: limits())
        run.populate()
        let world = run.world
        var ids: [EventID] = []
        func publish(_ text: String, for retention: SaTime) {
            let event = EventMessage(patterns: [], data: Array(text.utf8), retention: retention)
            world.insist(run.publishers[0], .publish(instance: 1, event)) { reply in
                if case .published(let id) = reply { ids.append(id) }
            }
            run.heal()
        }
        publish("kept", for: EventLimits.retentionMax)
        publish("cleared", for: EventLimits.retentionMax)
        publish("short", for: 60_000_000_000)
        #expect(ids.count == 3)
        guard ids.count == 3 else { return }
        // By a node that did not publish it.
        world.insist(run.publishers[2], .clearRetention(instance: 1, event: ids[1])) { _ in }
        run.heal()
        func late(_ node: Int) -> [String] {
            let client = world.client(on: node)
            world.join(client, [])
            #expect(world.settle { client.filters != nil })
            run.heal()
            return client.received.map(run.text)
        }
        world.kill(0)
        for node in 1...2 { #expect(late(node) == ["kept", "short"]) }
        world.now = world.now + .seconds(61)
        for node in 1...2 { #expect(late(node) == ["kept"]) }
    }

    @Test("What is published anywhere after a subscribe was answered comes", arguments: 1...20 as ClosedRange<UInt64>)
    func subscribeThenPublish(seed: UInt64) {
        let run = Run(seed: seed, limits: limits())
        run.populate()
        let world = run.world
        let late = world.client(on: 2)
        var isPublished = false
        world.insist(late, .open(instance: 1, flags: .subscriber, name: ClusterWorld.name)) { reply in
            guard case .opened(let id) = reply else { return }
            (late.channel, late.isOpen) = (id.rawValue, true)
            world.insist(late, .subscribe(instance: 1, subscription: 1, filters: [.exact("z")])) { _ in
                let event = EventMessage(patterns: [Array("z".utf8)], data: [1])
                world.insist(run.publishers[0], .publish(instance: 1, event)) { _ in isPublished = true }
            }
        }
        #expect(world.settle { isPublished })
        run.heal()
        #expect(late.received.count == 1, "seed \(seed)")
    }

    @Test("A retained event that is cleared while a node is away and the queue to it is full is cleared there, too")
    func clearedBehindFullQueue() {
        let run = Run(seed: 9, limits: limits { $0.forwardMax = 4 })
        run.populate()
        let world = run.world
        var ids: [EventID] = []
        var count = 0
        func publish(_ text: String, priority: EventPriority, for retention: SaTime) {
            let wanted = count + 1
            let event = EventMessage(
                patterns: [], data: Array(text.utf8), priority: priority, retention: retention)
            world.insist(run.publishers[0], .publish(instance: 1, event)) { reply in
                if case .published(let id) = reply, retention > 0 { ids.append(id) }
                count += 1
            }
            #expect(world.settle { count >= wanted })
        }
        publish("kept", priority: .highest, for: EventLimits.retentionMax)
        publish("cleared", priority: .highest, for: EventLimits.retentionMax)
        run.heal()
        world.divide([0, 0, 1])
        for _ in 0..<60 { publish("many", priority: .highest, for: 0) }
        var isCleared = false
        #expect(ids.count == 2)
        guard ids.count == 2 else { return }
        world.insist(run.publishers[0], .clearRetention(instance: 1, event: ids[1])) { _ in isCleared = true }
        #expect(world.settle { isCleared })
        run.heal()
        for node in 0...2 {
            let client = world.client(on: node)
            world.join(client, [])
            #expect(world.settle { client.filters != nil && !client.received.isEmpty })
            #expect(client.received.filter { !$0.isLost }.map(run.text) == ["kept"], "node \(node + 1)")
        }
    }

    @Test("A node that has left holds no unlinked channel, and finds it ended when it comes back")
    func departure() {
        let run = Run(seed: 6, limits: limits { $0.departureAfter = .seconds(2) })
        run.populate()
        let world = run.world
        world.divide([0, 0, 1])
        let left = run.publishers[0...1] + run.subscribers[0...3]
        world.insist(run.publishers[0], .unlink(ClusterWorld.name)) { _ in }
        for client in left { world.insist(client, .close(instance: 1)) { _ in client.isOpen = false } }
        let isGone = world.settle { world.nodes[0].engine.channelList.channels.isEmpty }
        #expect(isGone, "seed 6: the channel ends without the node that has left")
        #expect(world.nodes[2].engine.channelList.channels.count == 1, "which has not heard of it")
        world.divide([0, 0, 0])
        let hasEnded = world.settle { (run.publishers[2...2] + run.subscribers[4...5]).allSatisfy(\.hasEnded) }
        #expect(hasEnded, "seed 6: its clients are told")
        #expect(world.settle { world.nodes[2].engine.channelList.channels.isEmpty })
    }
}
