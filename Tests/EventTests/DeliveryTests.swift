import EngineKit
import EventEngine
import EventProtocol
import SAFTypes
import Testing

@Suite("Event delivery")
struct DeliveryTests {
    static let table: [(EventFilter, String, Bool)] = [
        (.prefix("ab"), "abc", true), (.prefix("ab"), "ab", true), (.prefix("ab"), "a", false), (.prefix(""), "", true),
        (.suffix("bc"), "abc", true), (.suffix("bc"), "bcd", false), (.suffix("bc"), "c", false),
        (.suffix(""), "x", true),
        (.exact("abc"), "abc", true), (.exact("abc"), "abcd", false), (.exact(""), "", true), (.exact("A"), "a", false),
        (.passAll, "", true), (.passAll, "x", true),
    ]

    @Test("EVT B.01.01 §3.3.6: each filter type", arguments: table)
    func filter(_ filter: EventFilter, _ pattern: String, _ expected: Bool) {
        #expect(filter.matches(Array(pattern.utf8)) == expected)
    }

    @Test("Missing patterns are empty, surplus ones do not matter, no filters match all; octets are compared, not text")
    func lists() {
        let a = Array("a".utf8)
        #expect([EventFilter.exact("a"), .passAll].match([a]))
        #expect(![EventFilter.exact("a"), .exact("b")].match([a]))
        #expect([EventFilter.exact("a"), .prefix("")].match([a]))
        #expect([EventFilter.exact("a")].match([a, a, a]))
        #expect([EventFilter]().match([a]))
        #expect([EventFilter(.exact, [0, 255, 0])].match([[0, 255, 0]]))
    }

    @Test("One event that matches several subscriptions of one opening comes once; two openings, twice")
    func once() {
        var world = Harness()
        world.join(1)
        world.ask(.subscribe(instance: 1, subscription: 2, filters: [.passAll]))
        world.ask(.open(instance: 2, flags: .subscriber, name: SaName("c")!))
        world.ask(.subscribe(instance: 2, subscription: 9, filters: []))
        world.publish("x")
        #expect(world.received[ClientID(1)]?.map(\.subscription) == [1, 9])
    }

    @Test("A stopped reader gets the most important first, in order, and one mark for what was dropped")
    func overflow() {
        var limits = EventEngine.Limits()
        limits.queueMax = 3
        var world = Harness(limits: limits)
        world.join(1)
        world.join(2)
        world.stopped = [ClientID(2)]
        for (text, priority) in [
            ("a", EventPriority.lowest), ("b", .low), ("c", .lowest), ("d", .high), ("e", .highest),
        ] {
            world.publish(text, priority: priority)
        }
        #expect(world.data(of: 1) == ["a", "b", "c", "d", "e"], "others are not held up")
        world.resume(2)
        #expect(world.data(of: 2) == ["LOST", "e", "d", "b"])
        world.publish("f")
        #expect(world.data(of: 2).last == "f")
        #expect(world.engine.channelList.channels[0].dropped == 2)
    }

    @Test("What is as unimportant as everything that waits is dropped itself")
    func newestDropped() {
        var limits = EventEngine.Limits()
        limits.queueMax = 2
        var world = Harness(limits: limits)
        world.join(2)
        world.stopped = [ClientID(2)]
        for text in ["a", "b", "c", "d"] { world.publish(text, from: 2) }
        world.resume(2)
        #expect(world.data(of: 2) == ["LOST", "a", "b"])
    }

    @Test("Unsubscribing purges what waits for no other subscription")
    func purge() {
        var world = Harness()
        world.join(1, filters: [.exact("x")])
        world.ask(.subscribe(instance: 1, subscription: 2, filters: [.exact("y")]))
        world.stopped = [ClientID(1)]
        world.publish("1", ["x"])
        world.publish("2", ["y"])
        world.ask(.unsubscribe(instance: 1, subscription: 1))
        world.resume(1)
        #expect(world.data(of: 1) == ["2"])
    }

    @Test("Retained events come at subscribe, once per opening, until their time ends or somebody clears them")
    func retention() {
        var world = Harness()
        world.join(1)
        world.publish("short", ["k"], retention: 1_000)
        guard case .success(.published(let id)) = world.publish("long", ["k"], retention: 1_000_000) else {
            Issue.record("not published")
            return
        }
        world.now = world.now + .nanoseconds(5_000)
        world.run(.timer)
        world.join(2, filters: [.exact("k")])
        world.ask(.subscribe(instance: 1, subscription: 5, filters: []), from: 2)
        #expect(world.data(of: 2) == ["long"])
        #expect(world.ask(.clearRetention(instance: 1, event: 3)).code == .invalidParam)
        #expect(world.ask(.clearRetention(instance: 1, event: id)).code == nil)
        #expect(world.ask(.clearRetention(instance: 1, event: id)).code == .notExist)
        world.join(3)
        #expect(world.data(of: 3) == [])
        #expect(world.timer == nil)
    }

    @Test("A new life finds channels and retained events again, and gives no id twice")
    func restart() {
        var world = Harness()
        world.join(1)
        world.publish("kept", retention: 10_000_000)
        world.ask(.open(instance: 2, flags: [.publisher, .create], name: SaName("other")!))
        world.ask(.unlink(SaName("other")!))
        var next = Harness()
        let records = world.kept.map { (key: $0.key.description, record: $0.value) }
        for effect in next.engine.restore(records) { if case .setTimer(let instant) = effect { next.timer = instant } }
        #expect(next.ask(.open(instance: 1, flags: .subscriber, name: SaName("c")!)).code == nil)
        next.ask(.subscribe(instance: 1, subscription: 1, filters: []))
        #expect(next.data(of: 1) == ["kept"])
        #expect(next.timer != nil)
        #expect(next.ask(.open(instance: 2, flags: .subscriber, name: SaName("other")!)).code == .notExist)
        guard case .success(.published(let id)) = next.ask(.publishNamed(SaName("c")!, EventMessage())),
            let old = next.received[ClientID(1)]?.first?.event.id
        else {
            Issue.record("not published")
            return
        }
        #expect(id > old)
    }

    @Test("No order of requests, deaths and stops breaks an invariant or the order of one publisher", arguments: 0..<60)
    func anyOrder(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var limits = EventEngine.Limits()
        (limits.channelsMax, limits.instancesMax, limits.queueMax, limits.retainedMax) = (3, 2, 4, 3)
        var world = Harness(limits: limits)
        var number = 0
        for _ in 0..<300 {
            let client = UInt64.random(in: 1...3, using: &random)
            let name = SaName("c\(Int.random(in: 0...3, using: &random))")!
            let instance = UInt32.random(in: 1...2, using: &random)
            world.now = world.now + .nanoseconds(Int64.random(in: 0...500, using: &random))
            switch Int.random(in: 0..<12, using: &random) {
            case 0, 1:
                world.ask(
                    .open(instance: instance, flags: [.publisher, .subscriber, .create], name: name), from: client)
            case 2: world.ask(.close(instance: instance), from: client)
            case 3: world.ask(.unlink(name), from: client)
            case 4: world.ask(.subscribe(instance: instance, subscription: 1, filters: []), from: client)
            case 5: world.run(.clientLeft(ClientID(client)))
            case 6: world.stopped.insert(ClientID(client))
            case 7: world.resume(client)
            default:
                number += 1
                let retention: SaTime = random.chance(percent: 20) ? 400 : 0
                let event = EventMessage(patterns: [], data: Array("\(number)".utf8), retention: retention)
                world.ask(.publish(instance: instance, event), from: client)
            }
        }
        for (_, deliveries) in world.received {
            for instance in 1...2 {
                let ids = deliveries.filter { $0.instance == instance && !$0.event.isLost && $0.event.retention == 0 }
                    .map(\.event.id)
                #expect(ids == ids.sorted(), "seed \(seed): order of one priority")
                #expect(Set(ids).count == ids.count, "seed \(seed): nothing twice")
            }
        }
    }
}
