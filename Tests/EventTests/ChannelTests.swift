import EngineKit
import EventEngine
import EventProtocol
import SAFTypes
import Testing

@Suite("Event channels")
struct ChannelTests {
    let name = SaName("c")!

    @Test("EVT B.01.01 §3.4.4: open flags and existence decide what an open returns")
    func open() {
        var world = Harness()
        #expect(world.ask(.open(instance: 1, flags: [], name: name)).code == .badFlags)
        #expect(world.ask(.open(instance: 1, flags: ChannelOpenFlags(rawValue: 24), name: name)).code == .badFlags)
        #expect(world.ask(.open(instance: 1, flags: .publisher, name: name)).code == .notExist)
        #expect(world.ask(.open(instance: 1, flags: [.publisher, .create], name: name)).code == nil)
        #expect(world.ask(.open(instance: 1, flags: [.publisher, .create], name: name)).code == .exist)
        #expect(world.ask(.open(instance: 2, flags: .subscriber, name: name)).code == nil)
    }

    @Test("A channel outlives its last closer, and ends with unlink and last close")
    func life() {
        var world = Harness()
        world.join(1)
        world.publish("kept", retention: 1_000_000_000)
        world.ask(.close(instance: 1))
        #expect(world.ask(.open(instance: 1, flags: .subscriber, name: name)).code == nil)
        world.ask(.unlink(name))
        #expect(world.ask(.unlink(name)).code == .notExist)
        #expect(world.ask(.subscribe(instance: 1, subscription: 1, filters: [])).code == nil)
        #expect(world.data(of: 1) == ["kept", "kept"], "who has it open goes on using it")
        // The same name is another channel.
        world.join(2)
        world.publish("new", from: 2)
        #expect(world.data(of: 1) == ["kept", "kept"])
        world.die(1)
        #expect(world.engine.channelList.channels.count == 1)
        #expect(world.registry.channels.count == 1, "nothing is left of what has ended")
    }

    @Test("What a dead process had open is closed")
    func death() {
        var world = Harness()
        world.join(1)
        world.join(2)
        world.die(2)
        world.publish("x")
        #expect(world.data(of: 1) == ["x"])
        #expect(world.data(of: 2) == [])
        #expect(world.ask(.publish(instance: 1, EventMessage()), from: 2).code == .badHandle)
    }

    @Test("Publishing and subscribing need the flag; wrong numbers are refused")
    func access() {
        var world = Harness()
        world.ask(.open(instance: 1, flags: [.subscriber, .create], name: name))
        world.ask(.open(instance: 2, flags: .publisher, name: name))
        #expect(world.publish("x").code == .access)
        #expect(world.ask(.subscribe(instance: 2, subscription: 1, filters: [])).code == .access)
        #expect(world.ask(.subscribe(instance: 9, subscription: 1, filters: [])).code == .badHandle)
        #expect(world.ask(.subscribe(instance: 1, subscription: 1, filters: [])).code == nil)
        #expect(world.ask(.subscribe(instance: 1, subscription: 1, filters: [])).code == .exist)
        #expect(world.ask(.unsubscribe(instance: 1, subscription: 7)).code == .notExist)
        #expect(world.ask(.close(instance: 8)).code == .badHandle)
    }

    @Test("Limits are enforced with the code of the specification")
    func limits() {
        var limits = NodeEngine.Limits()
        (limits.instancesMax, limits.subscriptionsMax, limits.retainedMax) = (3, 2, 1)
        var world = Harness(limits: limits, channelsMax: 2)
        world.ask(.open(instance: 1, flags: [.publisher, .subscriber, .create], name: name))
        world.ask(.open(instance: 2, flags: [.publisher, .create], name: SaName("d")!))
        #expect(world.ask(.open(instance: 3, flags: [.publisher, .create], name: SaName("e")!)).code == .noResources)
        world.ask(.open(instance: 3, flags: .publisher, name: name))
        #expect(world.ask(.open(instance: 4, flags: .publisher, name: name)).code == .noResources)
        world.ask(.subscribe(instance: 1, subscription: 1, filters: []))
        world.ask(.subscribe(instance: 1, subscription: 2, filters: []))
        #expect(world.ask(.subscribe(instance: 1, subscription: 3, filters: [])).code == .noResources)
        #expect(world.publish("a", retention: 5).code == nil)
        #expect(world.publish("b", retention: 5).code == .noResources)
        let big = EventMessage(patterns: [], data: [UInt8](repeating: 0, count: EventLimits.eventSizeMax + 1))
        #expect(world.ask(.publish(instance: 1, big)).code == .tooBig)
        let long = EventMessage(patterns: [[UInt8](repeating: 0, count: 256)], data: [])
        #expect(world.ask(.publish(instance: 1, long)).code == .tooBig)
        #expect(world.publish("x", retention: -1).code == .invalidParam)
    }
}
