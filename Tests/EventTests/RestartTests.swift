import EngineKit
import EventEngine
import EventProtocol
import SAFTypes
import Testing

@Suite("Event service over its own deaths")
struct RestartTests {
    let name = SaName("c")!

    @Test("A retained event does not come again to who had it, and comes to who subscribes later")
    func retained() throws {
        var world = Harness()
        world.join(1)
        world.publish("kept", retention: 10_000_000)
        world.join(2)
        try world.restart()
        #expect(world.data(of: 1) == ["kept"])
        #expect(world.data(of: 2) == ["kept"])
        world.join(3)
        #expect(world.data(of: 3) == ["kept"])
        guard case .success(.published(let id)) = world.publish("next", from: 2),
            let old = world.received[1]?.first?.event.id
        else {
            Issue.record("not published")
            return
        }
        #expect(id > old, "no id is given twice")
    }

    @Test("An unlinked channel stays unlinked and its retained events stay with it, whoever comes back")
    func unlinked() throws {
        var world = Harness()
        world.join(1)
        world.publish("old", retention: 10_000_000)
        world.ask(.unlink(name))
        try world.restart()
        #expect(world.ask(.open(instance: 1, flags: .subscriber, name: name), from: 2).code == .notExist)
        world.join(2)
        #expect(world.data(of: 2) == [])
        world.publish("again")
        #expect(world.data(of: 1) == ["old", "again"])
        #expect(world.data(of: 2) == [])
        world.ask(.close(instance: 1))
        try world.restart()
        #expect(world.registry.channels.count == 1)
    }

    @Test("Every request that was executed is executed once, also when its answer was lost with eventd")
    func onceOnly() throws {
        var world = Harness()
        world.join(1)
        let publish = EventRequest.publish(instance: 1, Harness.event("x"))
        let key = world.send(publish, from: 1)
        try world.restart()
        world.send(publish, from: 1, again: key.number)
        guard case .success(.published(let id)) = world.takeAnswer(key) else {
            Issue.record("not answered")
            return
        }
        #expect(world.data(of: 1) == ["x"])
        #expect(world.received[1]?.first?.event.id == id)
        // A lost answer to an unlink: the name is another channel's by now.
        let unlink = world.send(.unlink(name), from: 1)
        try world.restart()
        world.join(2)
        world.send(.unlink(name), from: 1, again: unlink.number)
        #expect(world.takeAnswer(unlink)?.code == nil)
        #expect(world.ask(.open(instance: 2, flags: .publisher, name: name), from: 2).code == nil)
    }

    @Test("An unlink that the registry has and this node did not hear of any more is not done again")
    func unlinkHalfDone() throws {
        var world = Harness()
        world.join(1)
        let key = world.send(.unlink(name), from: 1)
        // What was kept ends with the request: not the registry's change, and not its answer.
        try world.restart(losing: 2)
        world.join(2)
        world.send(.unlink(name), from: 1, again: key.number)
        #expect(world.takeAnswer(key)?.code == nil)
        #expect(world.ask(.open(instance: 2, flags: .publisher, name: name), from: 2).code == nil, "the new one lives")
    }

    @Test("What waits for a stopped reader waits on, with its marks, over a restart")
    func waiting() throws {
        var limits = NodeEngine.Limits()
        (limits.queueMax, limits.windowMax) = (2, 1)
        var world = Harness(limits: limits)
        world.join(1)
        world.join(2)
        world.stopped = [2]
        for text in ["a", "b", "c", "d"] { world.publish(text) }
        try world.restart()
        world.goOn(2)
        #expect(world.data(of: 2) == ["a", "LOST", "b", "c"])
        #expect(world.data(of: 1) == ["a", "b", "c", "d"])
    }

    @Test("A life without the last records gives its receivers the mark, and goes on")
    func recordsLost() throws {
        var world = Harness()
        world.join(1)
        world.confirmsAtOnce = false
        for text in ["a", "b", "c"] { world.publish(text) }
        try world.restart(losing: 3)
        #expect(world.data(of: 1) == ["a", "b", "c", "LOST"])
        world.publish("d")
        #expect(world.data(of: 1).last == "d")
    }

    @Test("When everything kept is lost, the channels are made again by who uses them, with the mark")
    func everythingLost() throws {
        var world = Harness()
        world.join(1)
        world.publish("a")
        world.registry = ChannelRegistry()
        world.journal = [NodeEngine(node: Harness.node, firstEvent: 9_000, lineage: 1).snapshot]
        try world.restart()
        #expect(world.data(of: 1) == ["a", "LOST"])
        world.publish("b")
        #expect(world.data(of: 1) == ["a", "LOST", "b"])
    }

    @Test("Who does not come back is closed after a while; who died, at once; who is away keeps what it has")
    func absence() throws {
        var world = Harness()
        world.join(1)
        world.join(2)
        world.run(.disconnected(Harness.session(2), isDead: false))
        world.publish("x")
        #expect(world.data(of: 2) == [])
        world.resume(2)
        #expect(world.data(of: 2) == ["x"])
        world.run(.disconnected(Harness.session(2), isDead: false))
        world.pass(.seconds(31))
        #expect(world.engine.channelList.channels[0].subscribers == 1)
        world.resume(2)
        #expect(world.data(of: 2) == ["x", "LOST"], "opened anew")
    }

    @Test("A subscription or an opening that was ended while eventd was away ends with the return")
    func endedMeanwhile() throws {
        var world = Harness()
        world.join(1)
        world.join(2)
        world.ask(.open(instance: 2, flags: .subscriber, name: name), from: 2)
        world.clients[2]?.instances[2] = nil
        world.clients[2]?.subscriptions[1] = [:]
        try world.restart()
        #expect(world.engine.status.instances == 2)
        #expect(world.engine.status.subscriptions == 1)
        let interest = world.registry.channels.first?.value.interest(of: Harness.node)
        #expect(interest == .everything)
        world.die(1)
        #expect(world.registry.channels.first?.value.interest(of: Harness.node) == .nothing)
    }

    @Test("What the registry refuses to hear is told again")
    func registryAway() {
        var world = Harness()
        world.join(1)
        world.registryIsAway = true
        #expect(world.ask(.unlink(name)).code == .tryAgain)
        world.ask(.unsubscribe(instance: 1, subscription: 1))
        #expect(world.registry.channels.first?.value.interest(of: Harness.node) == .everything)
        world.registryIsAway = false
        world.pass(.seconds(1))
        #expect(world.registry.channels.first?.value.interest(of: Harness.node) == .nothing)
    }

    @Test(
        "Whenever eventd is killed, each subscriber gets each event once and in order, or the mark", arguments: 0..<150)
    func anyMoment(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var limits = NodeEngine.Limits()
        (limits.queueMax, limits.windowMax) = (random.chance(percent: 50) ? 3 : 1_000, 2)
        var world = Harness(limits: limits)
        world.confirmsAtOnce = random.chance(percent: 50)
        for client: UInt64 in 1...3 { world.join(client) }
        var published: [UInt64: [String]] = [:]
        for step in 0..<200 {
            let client = UInt64.random(in: 1...3, using: &random)
            world.now = world.now + .microseconds(Int64.random(in: 0...500, using: &random))
            switch Int.random(in: 0..<12, using: &random) {
            case 0: try world.restart()
            case 1: world.stopped.insert(client)
            case 2: world.goOn(client)
            case 3, 4: world.confirm(client)
            case 5: world.resume(client)
            case 6: world.pass(.milliseconds(1_500))
            case 7:
                // Published, the answer lost, asked again, perhaps twice.
                let request = EventRequest.publish(instance: 1, Harness.event("\(client).\(step)"))
                let key = world.send(request, from: client)
                for _ in 0..<Int.random(in: 1...2, using: &random) {
                    try world.restart()
                    world.send(request, from: client, again: key.number)
                }
                #expect(world.takeAnswer(key)?.code == nil, "seed \(seed)")
                published[client, default: []].append("\(client).\(step)")
            default:
                #expect(world.publish("\(client).\(step)", from: client).code == nil, "seed \(seed)")
                published[client, default: []].append("\(client).\(step)")
            }
        }
        world.confirmsAtOnce = true
        for client: UInt64 in 1...3 {
            world.goOn(client)
            world.confirm(client)
        }
        for client: UInt64 in 1...3 {
            let got = world.data(of: client)
            for publisher: UInt64 in 1...3 {
                let sent = published[publisher] ?? []
                let mine = got.filter { $0.hasPrefix("\(publisher).") }
                #expect(Set(mine).count == mine.count, "seed \(seed): nothing twice")
                let order = mine.compactMap { sent.firstIndex(of: $0) }
                #expect(order == order.sorted() && order.count == mine.count, "seed \(seed): in order")
                if !got.contains("LOST") { #expect(mine == sent, "seed \(seed): nothing lost without the mark") }
            }
            if limits.queueMax == 1_000 { #expect(!got.contains("LOST"), "seed \(seed): no mark without a loss") }
        }
        #expect(!world.engine.channelList.channels.isEmpty)
    }

    @Test("A restored engine is the one that was killed", arguments: 0..<40)
    func replay(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var limits = NodeEngine.Limits()
        (limits.instancesMax, limits.queueMax, limits.windowMax, limits.retainedMax) = (2, 4, 2, 3)
        var world = Harness(limits: limits, channelsMax: 3)
        world.confirmsAtOnce = false
        for _ in 0..<200 {
            let client = UInt64.random(in: 1...3, using: &random)
            let name = SaName("c\(Int.random(in: 0...3, using: &random))")!
            let instance = UInt32.random(in: 1...2, using: &random)
            world.now = world.now + .nanoseconds(Int64.random(in: 0...500, using: &random))
            switch Int.random(in: 0..<14, using: &random) {
            case 0, 1:
                world.ask(
                    .open(instance: instance, flags: [.publisher, .subscriber, .create], name: name), from: client)
            case 2: world.ask(.close(instance: instance), from: client)
            case 3: world.ask(.unlink(name), from: client)
            case 4: world.ask(.subscribe(instance: instance, subscription: 1, filters: []), from: client)
            case 5: world.ask(.unsubscribe(instance: instance, subscription: 1), from: client)
            case 6: world.die(client)
            case 7: world.stopped.insert(client)
            case 8: world.goOn(client)
            case 9: world.confirm(client)
            default:
                let retention: SaTime = random.chance(percent: 20) ? 400 : 0
                world.ask(.publish(instance: instance, Harness.event("e", retention: retention)), from: client)
            }
            guard random.chance(percent: 10) else { continue }
            var copy = NodeEngine(node: Harness.node, firstEvent: 1, lineage: 99, limits: limits)
            try copy.restore(world.journal)
            // What time alone has ended has no record of its own.
            var one = world.engine
            _ = one.handle(.timer, at: world.now)
            _ = copy.handle(.timer, at: world.now)
            #expect(one.snapshot == copy.snapshot, "seed \(seed)")
        }
    }
}
