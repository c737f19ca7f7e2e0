import EngineKit
import EventEngine
import EventProtocol
import SAFTypes
import Testing

@testable import eventd

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
        #expect(world.received[1]?.map(\.subscription) == [1, 9])
    }

    @Test("A stopped reader gets the most important first, in order, and one mark for what was dropped")
    func overflow() {
        var limits = NodeEngine.Limits()
        (limits.queueMax, limits.windowMax) = (3, 1)
        var world = Harness(limits: limits)
        world.join(1)
        world.join(2)
        world.stopped = [2]
        for (text, priority) in [
            ("a", EventPriority.lowest), ("b", .low), ("c", .lowest), ("d", .high), ("e", .highest),
        ] {
            world.publish(text, priority: priority)
        }
        #expect(world.data(of: 1) == ["a", "b", "c", "d", "e"], "others are not held up")
        world.goOn(2)
        #expect(world.data(of: 2) == ["a", "LOST", "e", "d", "b"])
        world.publish("f")
        #expect(world.data(of: 2).last == "f")
        #expect(world.engine.channelList.channels[0].dropped == 1)
    }

    @Test("What is as unimportant as everything that waits is dropped itself")
    func newestDropped() {
        var limits = NodeEngine.Limits()
        (limits.queueMax, limits.windowMax) = (2, 1)
        var world = Harness(limits: limits)
        world.join(2)
        world.stopped = [2]
        for text in ["a", "b", "c", "d"] { world.publish(text, from: 2) }
        world.goOn(2)
        #expect(world.data(of: 2) == ["a", "LOST", "b", "c"])
    }

    @Test("Unsubscribing purges what waits for no other subscription; the rest goes to one that matches")
    func purge() {
        var limits = NodeEngine.Limits()
        limits.windowMax = 1
        var world = Harness(limits: limits)
        world.join(1, filters: [.exact("x")])
        world.ask(.subscribe(instance: 1, subscription: 2, filters: [.exact("y")]))
        world.ask(.subscribe(instance: 1, subscription: 3, filters: [.prefix("xx")]))
        world.stopped = [1]
        world.publish("on its way", ["y"])
        world.publish("1", ["x"])
        world.publish("2", ["y"])
        world.ask(.unsubscribe(instance: 1, subscription: 1))
        world.publish("3", ["xx"])
        world.goOn(1)
        #expect(world.data(of: 1) == ["on its way", "2", "3"])
        #expect(world.received[1]?.map(\.subscription) == [2, 2, 3])
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
        world.pass(.seconds(100))
        #expect(world.timer == nil, "nothing is waited for any more")
    }

    @Test("Of what a daemon publishes by the channel's name a bounded number is retained, the oldest giving way")
    func retainedNamed() throws {
        var limits = NodeEngine.Limits()
        (limits.retainedMax, limits.retainedNamedMax) = (3, 2)
        var world = Harness(limits: limits)
        world.join(1)
        let name = try #require(world.clients[1]?.instances[1]?.name)
        func publish(_ text: String) {
            let event = EventMessage(patterns: [], data: Array(text.utf8), retention: 100_000_000_000)
            #expect(world.ask(.publishNamed(name, event), from: 1).code == nil)
        }
        for text in ["one", "two", "three"] { publish(text) }
        world.join(2)
        #expect(world.data(of: 2) == ["two", "three"])
    }

    @Test("A delivery that was lost on its way is sent again when the receiver, asked by a repetition, lacks it")
    func probe() {
        var world = Harness()
        world.join(1)
        world.confirmsAtOnce = false
        world.publish("a")
        world.publish("b")
        world.publish("c")
        // The client's runtime had no room for the last two.
        var numbers = ReceivedNumbers()
        _ = numbers.insert(1)
        world.clients[1]?.instances[1]?.received = numbers
        world.received[1]?.removeLast(2)
        world.confirm(1)
        #expect(world.data(of: 1) == ["a"], "they may still be on their way")
        world.pass(.seconds(2))
        #expect(world.data(of: 1) == ["a", "b"], "the repetition")
        world.confirm(1)
        #expect(world.data(of: 1) == ["a", "b", "c"])
        world.confirm(1)
        world.pass(.seconds(200))
        #expect(world.timer == nil)
    }

    @Test(
        "An event goes once to each other node with a subscriber whose filters may match, and from there to nobody else"
    )
    func forwarding() {
        var world = Harness()
        world.join(1)
        guard let id = world.registry.channels.first?.key else {
            Issue.record("no channel")
            return
        }
        let wishes: [(UInt32, [[EventFilter]])] = [
            (2, [[.exact("x")], [.prefix("x")]]), (3, [[.exact("y")]]), (4, []), (5, [[]]),
        ]
        for (node, lists) in wishes {
            for outcome in world.registry.handle(.declare(id, by: NodeID(node), Interest(of: lists)), at: world.now) {
                if case .changed(let id, let channel) = outcome { world.run(.registered(id, channel)) }
            }
        }
        for (node, _) in wishes { world.link(NodeID(node)) }
        let before = world.forwardedEvents.count
        #expect(before == 0)
        let text = EventConsole.text([], world.engine.remoteInterest, world.engine.forwardingList).split(
            separator: "\n")
        #expect(text.contains("c  node 2: wants [prefix \"x\"] [exact \"x\"]"), "\(text)")
        #expect(text.contains("c  node 4: wants nothing"), "\(text)")
        #expect(text.contains("c  node 5: wants everything"), "\(text)")
        #expect(
            text.contains("to node 2: 0 waiting (0 octets), 1 on their way, 0 dropped, linked, not in the group"),
            "\(text)")
        world.publish("e", ["x"])
        #expect(world.forwardedEvents.map(\.0) == [NodeID(2), NodeID(5)])
        guard let event = world.forwardedEvents.first?.1 else { return }
        let other = NodeID(2)
        world.run(.received(.hello(stream: 9, isOpened: false), from: other))
        let forward = Forward.event(id, event, remaining: 0, isCopy: false)
        for _ in 1...2 { world.run(.received(.forward(stream: 9, number: 1, forward), from: other)) }
        #expect(world.data(of: 1) == ["e", "e"])
        #expect(world.forwardedEvents.count == 2)
    }
}
