import EngineKit
import EventProtocol
import IOCGroups
import SAFTypes
import Testing

@testable import EventEngine

/// What is published by a node that does not know yet who wants it.
@Suite("Events for who has subscribed unknown to their node")
struct UnheardTests {
    /// On each of three nodes a publisher, and a subscriber that nobody has a reason to tell of a loss.
    private struct Apart {
        let world: ClusterWorld
        var publishers: [ClusterWorld.Client] = []
        var others: [ClusterWorld.Client] = []

        init(seed: UInt64, departureAfter: Duration) {
            var limits = NodeEngine.Limits()
            limits.absenceMax = .seconds(3_600)
            limits.toldWithin = .milliseconds(200)
            limits.departureAfter = departureAfter
            world = ClusterWorld(nodes: 3, seed: seed, limits: limits)
            for node in 0...2 {
                publishers.append(world.client(on: node))
                others.append(world.client(on: node))
                world.join(publishers[node], nil)
                world.join(others[node], [.exact("a")])
            }
            let (publishers, others) = (publishers, others)
            #expect(
                world.settle { (publishers + others).allSatisfy(\.isOpen) && others.allSatisfy { $0.filters != nil } })
            #expect(world.settle { world.nodes.map(\.view.count) == [3, 3, 3] })
            pass(departureAfter)
        }

        func pass(_ duration: Duration) {
            let time = world.now + duration
            #expect(world.settle { world.now > time })
        }

        func divide() {
            world.divide([0, 0, 1])
            #expect(world.settle { world.nodes.map(\.view.count) == [2, 2, 1] })
        }

        func publish(_ pattern: String, from node: Int) {
            var isPublished = false
            let event = EventMessage(patterns: [Array(pattern.utf8)], data: [1])
            world.insist(publishers[node], .publish(instance: 1, event)) { _ in isPublished = true }
            #expect(world.settle { isPublished })
        }

        func subscribe(_ pattern: String, on node: Int) -> ClusterWorld.Client {
            let client = world.client(on: node)
            world.join(client, [.exact(pattern)])
            #expect(world.settle { client.filters != nil })
            return client
        }
    }

    private func marks(_ client: ClusterWorld.Client) -> Int { client.received.filter(\.isLost).count }

    @Test(
        "Who subscribes on one side of a partition is told when the other has published such events, and nobody else",
        arguments: [0, 2], [Duration.milliseconds(500), .seconds(10)])
    func subscribedApart(subscriber: Int, departureAfter: Duration) {
        let apart = Apart(seed: 8, departureAfter: departureAfter)
        let world = apart.world
        apart.divide()
        let late = apart.subscribe("z", on: subscriber)
        apart.publish("z", from: 2 - subscriber)
        apart.pass(.seconds(2))
        #expect(late.received.isEmpty)
        world.divide([0, 0, 0])
        #expect(world.settle { !late.received.isEmpty })
        #expect(late.received.map(\.isLost) == [true])
        apart.publish("z", from: 2 - subscriber)
        #expect(world.settle { late.received.last?.isLost == false })
        #expect(marks(late) == 1)
        // All subscribers of a node that was taken for gone have the mark.
        let isGone = subscriber == 2 && departureAfter < .seconds(2)
        for (node, other) in apart.others.enumerated() where !(isGone && node == 2) {
            #expect(node == 2 || marks(other) == 0, "node \(node + 1)")
        }
    }

    @Test("Nobody is told of a loss when nothing of what it wants was published meanwhile", arguments: [0, 2])
    func nothingMissed(subscriber: Int) {
        let apart = Apart(seed: 9, departureAfter: .seconds(10))
        let world = apart.world
        // Long ago.
        apart.publish("z", from: 2 - subscriber)
        apart.pass(.seconds(11))
        apart.divide()
        let late = apart.subscribe("z", on: subscriber)
        apart.publish("y", from: 2 - subscriber)
        world.divide([0, 0, 0])
        apart.pass(.seconds(4))
        apart.publish("z", from: subscriber)
        #expect(world.settle { late.received.count == 1 })
        apart.publish("z", from: 2 - subscriber)
        #expect(world.settle { late.received.count == 2 })
        #expect(marks(late) == 0)
    }

    @Test("Nor who subscribes after a partition, whatever was published in it")
    func subscribedTogether() {
        let apart = Apart(seed: 10, departureAfter: .seconds(10))
        let world = apart.world
        apart.divide()
        apart.publish("z", from: 0)
        world.divide([0, 0, 0])
        // The links stand again, and who was away is still in doubt.
        apart.pass(.seconds(4))
        let late = apart.subscribe("z", on: 2)
        apart.publish("z", from: 0)
        #expect(world.settle { !late.received.isEmpty })
        #expect(late.received.map(\.isLost) == [false])
    }

    @Test("A node on which nobody had the channel open before is told, too")
    func openedApart() {
        let world = ClusterWorld(
            nodes: 3, seed: 11,
            limits: {
                var limits = NodeEngine.Limits()
                limits.toldWithin = .milliseconds(200)
                limits.departureAfter = .milliseconds(500)
                return limits
            }())
        let publisher = world.client(on: 2)
        world.join(publisher, nil)
        #expect(world.settle { publisher.isOpen && world.nodes.map(\.view.count) == [3, 3, 3] })
        world.divide([0, 0, 1])
        // The publisher's node is taken for gone before anybody subscribes.
        #expect(world.settle { world.nodes[0].engine.channels.first?.value.record.users.isEmpty == true })
        let late = world.client(on: 0)
        world.join(late, [.exact("z")])
        #expect(world.settle { late.filters != nil })
        var isPublished = false
        let event = EventMessage(patterns: [Array("z".utf8)], data: [1])
        world.insist(publisher, .publish(instance: 1, event)) { _ in isPublished = true }
        #expect(world.settle { isPublished })
        world.divide([0, 0, 0])
        #expect(world.settle { !late.received.isEmpty })
        #expect(late.received.map(\.isLost) == [true])
    }

    @Test("A node that learns late who is away tells of what it published until then, also when its eventd was killed")
    func publishedBeforeTheView() {
        let apart = Apart(seed: 12, departureAfter: .seconds(10))
        let world = apart.world
        // As a node that was frozen: the others are in another view already.
        apart.publish("z", from: 2)
        apart.divide()
        let late = apart.subscribe("z", on: 0)
        world.kill(2)
        world.start(2)
        world.divide([0, 0, 0])
        #expect(world.settle { !late.received.isEmpty })
        #expect(late.received.map(\.isLost) == [true])
    }

    @Test("Who is there and has not said in time that it knows of a subscription tells what it published until it did")
    func silent() {
        for publishes in [true, false] {
            let apart = Apart(seed: 13, departureAfter: .seconds(10))
            let world = apart.world
            world.silent = NodeID(3)
            let late = apart.subscribe("z", on: 0)
            if publishes { apart.publish("z", from: 2) }
            world.silent = nil
            apart.pass(.seconds(5))
            #expect(marks(late) == (publishes ? 1 : 0))
        }
    }
}
