import EngineKit
import LogEngine
import LogProtocol
import SAFTypes
import Testing

@Suite("Registry of streams")
struct StreamRegistryTests {
    private struct Harness {
        var registry = StreamRegistry()
        var now = Instant.start + .seconds(100)
        var life: UInt64 = 0

        @discardableResult
        mutating func order(_ command: StreamRegistry.Command) -> [StreamRegistry.Outcome] {
            let before = registry
            let outcomes = registry.handle(command, at: now)
            #expect(outcomes.contains(.changed) == (registry != before))
            return outcomes
        }

        @discardableResult
        mutating func arrive(
            _ node: UInt32, keeps: Bool = true, store: UInt64 = 1, at position: LedgerPosition = LedgerPosition(),
            of controllers: UInt16 = 3, open: [StreamID] = []
        ) -> [StreamRegistry.Outcome] {
            life += 1
            return order(
                .arrived(
                    Arrival(
                        node: NodeID(node), incarnation: life, keepsFiles: keeps, store: store + UInt64(node) * 100,
                        position: position, controllers: controllers, open: open)))
        }

        mutating func catchUp(_ node: UInt32) {
            let incarnation = registry.incarnation(of: NodeID(node)) ?? 0
            order(.caughtUp(NodeID(node), incarnation: incarnation, epoch: registry.epoch))
        }

        mutating func pass(_ time: Duration) {
            now = now + time
            order(.tick)
        }

        var owner: UInt32? { registry.owner?.rawValue }
        var inSync: [UInt32] { registry.inSync.map(\.rawValue) }
    }

    @Test("A new cluster waits for all controllers, or 5 s; then the fullest ledger gives the order")
    func forming() {
        var all = Harness()
        all.arrive(1)
        all.arrive(2, at: LedgerPosition(epoch: 3, number: 10))
        #expect(all.owner == nil)
        all.arrive(3, at: LedgerPosition(epoch: 2, number: 20))
        #expect(all.owner == 2 && all.inSync == [2] && all.registry.epoch == 4)
        var some = Harness()
        #expect(some.arrive(1).contains { if case .setTimer = $0 { true } else { false } })
        some.arrive(4, keeps: false)
        some.pass(.seconds(4))
        #expect(some.owner == nil)
        some.pass(.seconds(1))
        #expect(some.owner == 1 && some.registry.ownership.keepers.map(\.node) == [NodeID(1)])
    }

    @Test("The next owner is the one in sync that came first; every life of an owner has its epoch")
    func succession() {
        var harness = Harness()
        for node in [2, 1, 3] as [UInt32] { harness.arrive(node) }
        #expect(harness.owner == 2)
        harness.catchUp(3)
        let epoch = harness.registry.epoch
        harness.order(.present([NodeID(1), NodeID(3)]))
        #expect(harness.owner == 3 && harness.inSync == [3] && harness.registry.epoch == epoch + 1)
        // The same node again, in a new life, with nobody else in sync: it goes on, in an epoch of its own.
        harness.arrive(3)
        #expect(harness.owner == 3 && harness.registry.epoch == epoch + 2)
        harness.catchUp(1)
        harness.arrive(3)
        #expect(harness.owner == 1 && harness.inSync == [1, 3] && harness.registry.epoch == epoch + 3)
        // The second word of the same life changes nothing.
        let arrival = Arrival(node: NodeID(3), incarnation: harness.life, keepsFiles: true)
        #expect(harness.order(.arrived(arrival)).isEmpty)
    }

    @Test("Who does not keep up is dropped, but never the last; what was said of a former epoch does not count")
    func lagging() {
        var harness = Harness()
        for node in [1, 2, 3] as [UInt32] { harness.arrive(node) }
        let epoch = harness.registry.epoch
        let last = harness.order(.lagging(NodeID(1), epoch: epoch))
        #expect(last == [.refused(.notExist, "no other controller has everything")])
        harness.catchUp(2)
        harness.order(.lagging(NodeID(1), epoch: epoch))
        #expect(harness.owner == 2 && harness.inSync == [2])
        let late = harness.order(.caughtUp(NodeID(3), incarnation: 3, epoch: epoch))
        #expect(late == [.refused(.notExist, "node 3 is not what it was, or epoch \(epoch) is over")])
        #expect(harness.order(.lagging(NodeID(2), epoch: epoch)) == [.refused(.notExist, "epoch \(epoch) is over")])
    }

    @Test("Without anybody in sync the files wait 30 s; a ledger that was lost is in sync no more")
    func nobody() {
        var harness = Harness()
        for node in [1, 2, 3] as [UInt32] { harness.arrive(node) }
        harness.order(.present([NodeID(2), NodeID(3)]))
        #expect(harness.owner == nil && harness.inSync == [1])
        harness.pass(.seconds(29))
        #expect(harness.owner == nil)
        var back = harness
        back.arrive(1)
        #expect(back.owner == 1 && back.inSync == [1])
        var wiped = harness
        wiped.arrive(1, store: 2)
        // Nobody has more than those who are there.
        #expect(wiped.owner == 2 && wiped.inSync == [2])
        harness.pass(.seconds(1))
        #expect(harness.owner == 2 && harness.inSync == [2])
    }

    @Test("A stream ends with its last opener: closed, gone for a minute, or come back without it")
    func openers() throws {
        var harness = Harness()
        for node in [1, 2, 3] as [UInt32] { harness.arrive(node) }
        let attributes = StreamAttributes(fileName: "orders")
        let name = try #require(SaName("safLgStr=orders"))
        func open(_ node: UInt32) -> StreamID? {
            for case .opened(let id) in harness.order(.open(name, attributes, by: NodeID(node))) { return id }
            return nil
        }
        let first = try #require(open(1))
        #expect(open(2) == first && harness.registry.streams[first]?.openers == [NodeID(1), NodeID(2)])
        harness.order(.close(first, by: NodeID(1)))
        harness.order(.present([NodeID(1), NodeID(3)]))
        harness.pass(.seconds(59))
        #expect(harness.registry.streams[first] != nil)
        harness.pass(.seconds(1))
        #expect(harness.registry.streams[first] == nil && harness.registry.stream(first)?.name == name)
        let second = try #require(open(1))
        #expect(second != first && harness.registry.streams[second]?.number != harness.registry.stream(first)?.number)
        harness.arrive(1, open: [second])
        #expect(harness.registry.streams[second] != nil)
        harness.arrive(1)
        #expect(harness.registry.streams[second] == nil)
    }

    @Test("Names, attributes, files and numbers of streams do not collide; there are 64")
    func limits() throws {
        var harness = Harness()
        harness.arrive(1)
        var numbers: Set<LogStream> = []
        for index in 0..<StreamRegistry.createdMax {
            let name = try #require(SaName("s\(index)"))
            let outcomes = harness.order(.open(name, StreamAttributes(fileName: "f\(index)"), by: NodeID(1)))
            guard case .opened(let id) = outcomes.last, let stream = harness.registry.streams[id] else {
                Issue.record("\(outcomes)")
                return
            }
            numbers.insert(stream.number)
        }
        #expect(numbers.count == StreamRegistry.createdMax)
        let name = try #require(SaName("other"))
        func refusal(_ attributes: StreamAttributes?) -> AisError? {
            for case .refused(let code, _) in harness.order(.open(name, attributes, by: NodeID(1))) { return code }
            return nil
        }
        #expect(refusal(nil) == .notExist)
        #expect(refusal(StreamAttributes(fileName: "f1")) == .exist)
        #expect(refusal(StreamAttributes(fileName: "saLogAlarm")) == .exist)
        #expect(refusal(StreamAttributes(fileName: "one.more")) == .noResources)
        // After many streams have come and gone, a number comes again, but no id.
        var ids: Set<StreamID> = Set(harness.registry.streams.keys)
        let known = ids.count
        for round in 0..<400 {
            guard let old = harness.registry.streams.keys.first(where: { $0.rawValue > 255 }) else { break }
            harness.order(.close(old, by: NodeID(1)))
            let again = try #require(SaName("r\(round)"))
            for case .opened(let id) in harness.order(
                .open(again, StreamAttributes(fileName: "r\(round)"), by: NodeID(1)))
            {
                ids.insert(id)
            }
        }
        #expect(ids.count == known + 400)
        #expect(Set(harness.registry.streams.map { $0.value.number }).count == StreamRegistry.streamsMax)
    }
}
