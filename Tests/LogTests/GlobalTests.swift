import EngineKit
import LogProtocol
import SAFTypes
import Testing

@testable import LogEngine

@Suite("Global streams, simulated")
struct GlobalTests {
    /// Every record once in the file of every controller, in each node's order, the same everywhere.
    private func check(_ world: GlobalWorld, _ seed: UInt64) {
        let keepers = world.nodes.indices.filter { world.nodes[$0].keepsFiles }
        let first = world.records(keepers[0])
        for keeper in keepers {
            let difference = Self.difference(world.records(keeper), first)
            #expect(difference == nil, "seed \(seed), node \(keeper + 1)")
        }
        for node in world.nodes.indices {
            let prefix = "\(world.nodes[node].id.rawValue):"
            let own = first.filter { $0.hasPrefix(prefix) }
            let difference = Self.difference(own, world.accepted(node))
            #expect(difference == nil, "seed \(seed), records of node \(node + 1)")
        }
        #expect(first.count == world.nodes.reduce(0) { $0 + Int($1.spooled) }, "seed \(seed)")
    }

    /// Where two lists begin to differ.
    private static func difference(_ left: [String], _ right: [String]) -> String? {
        guard left != right else { return nil }
        let index = zip(left, right).enumerated().first { $0.element.0 != $0.element.1 }?.offset
        let at = index ?? min(left.count, right.count)
        return "\(left.count) and \(right.count) records, at \(at): \(left.dropFirst(at).prefix(3)) and "
            + "\(right.dropFirst(at).prefix(3))"
    }

    private func finish(_ world: GlobalWorld, _ seed: UInt64) {
        world.divide(Array(repeating: 0, count: world.nodes.count))
        world.slowDisks = []
        for index in world.nodes.indices where world.nodes[index].registry == nil { world.start(index) }
        #expect(world.settle { world.isQuiet }, "seed \(seed): \(Self.describe(world))")
        check(world, seed)
    }

    static func describe(_ world: GlobalWorld) -> String {
        world.nodes.map { node in
            let (engine, owner) = (node.engine, node.engine.ownership.owner?.node.rawValue ?? 0)
            let registry = node.registry.map { "\($0.status)" } ?? "down"
            return "node \(node.id.rawValue) (\(registry)): epoch \(engine.ownership.epoch), owner \(owner), in sync "
                + "\(engine.ownership.inSync.map(\.rawValue)); accepted \(node.spooled), released \(node.released); "
                + "ledger \(node.state.number), stored \(engine.stored), committed \(engine.committed), in files "
                + "\(node.noted); \(engine.sending.phase) \(engine.following.phase); up \(engine.up.map(\.rawValue))"
        }.joined(separator: "\n")
    }

    @Test("Without faults everything arrives, once, in the same order on all controllers")
    func calm() {
        let world = GlobalWorld(controllers: 3, payloads: 1, seed: 1)
        #expect(world.settle { world.nodes[0].engine.ownership.owner != nil })
        for round in 0..<400 {
            world.write(round % 4)
            for _ in 0..<5 { world.step() }
        }
        finish(world, 1)
        #expect(world.nodes[0].engine.ownership.inSync.count == 3)
    }

    @Test(
        "Kills, broken links, partitions and slow disks lose and repeat nothing",
        arguments: seeds(usual: 0..<8, failed: Array(1014..<1019) + [1033]).map { Int($0) })
    func chaos(_ run: Int) {
        let seed = UInt64(run) &* 7919 &+ 11
        let world = GlobalWorld(controllers: 2 + run % 2, payloads: run % 3 == 0 ? 2 : 1, seed: seed)
        var random = SeededRandom(seed: seed ^ 0xABCD)
        _ = world.settle(4000) { world.nodes[0].engine.ownership.owner != nil }
        for _ in 0..<300 {
            for _ in 0..<Int.random(in: 0..<30, using: &random) {
                world.write(Int.random(in: world.nodes.indices, using: &random))
                world.step()
            }
            let node = Int.random(in: world.nodes.indices, using: &random)
            switch Int.random(in: 0..<24, using: &random) {
            case 0: if world.nodes[node].registry != nil { world.kill(node) }
            case 1, 2, 3: if world.nodes[node].registry == nil { world.start(node) }
            case 4: world.breakWay(node, Int.random(in: world.nodes.indices, using: &random))
            case 5: world.divide(world.nodes.indices.map { _ in Int.random(in: 0..<2, using: &random) })
            case 6, 7: world.divide(Array(repeating: 0, count: world.nodes.count))
            case 8: world.slowDisks = [node]
            case 9, 10: world.slowDisks = []
            case 11:
                // The owner in particular.
                let owner = world.nodes[node].engine.ownership.owner.map { Int($0.node.rawValue) - 1 }
                if let owner, world.nodes[owner].registry != nil { world.kill(owner) }
            default: for _ in 0..<Int.random(in: 0..<200, using: &random) { world.step() }
            }
        }
        finish(world, seed)
    }

    @Test("A follower whose disk stands still is waited for once, and comes in sync again", arguments: 0..<8)
    func stalled(_ run: Int) {
        let seed = UInt64(run) + 100
        let world = GlobalWorld(controllers: 3, payloads: 1, seed: seed)
        #expect(world.settle { world.nodes[0].engine.ownership.inSync.count == 3 }, "seed \(seed)")
        let owner = Int(world.nodes[0].engine.ownership.owner?.node.rawValue ?? 1) - 1
        world.slowDisks = [(owner + 1) % 3]
        let start = world.now
        var longest = Duration.zero
        var (released, since) = (UInt64(0), world.now)
        while world.now - start < .seconds(20) {
            world.write(3)
            for _ in 0..<40 { world.step() }
            if world.nodes[3].released > released { (released, since) = (world.nodes[3].released, world.now) }
            longest = max(longest, world.now - since)
        }
        #expect(longest < .seconds(4), "seed \(seed): nothing for \(longest)")
        #expect(world.nodes[0].engine.ownership.inSync.count == 2, "seed \(seed)")
        world.slowDisks = []
        #expect(world.settle { world.nodes[0].engine.ownership.inSync.count == 3 }, "seed \(seed)")
        finish(world, seed)
    }

    @Test("A controller that missed more than the others keep goes on with what there is")
    func reset() {
        let world = GlobalWorld(controllers: 3, payloads: 0, seed: 5)
        world.keptMax = 10
        #expect(world.settle { world.nodes[0].engine.ownership.inSync.count == 3 })
        world.write(0)
        #expect(world.settle { world.isQuiet })
        world.kill(2)
        for _ in 0..<300 {
            world.write(0)
            for _ in 0..<12 { world.step() }
        }
        #expect(world.settle { world.nodes[0].released == world.nodes[0].spooled })
        world.start(2)
        #expect(world.settle { world.isQuiet }, "\(Self.describe(world))")
        let (whole, rest) = (world.records(0), world.records(2))
        #expect(whole == world.accepted(0))
        #expect(rest.first == whole.first)
        #expect(rest.dropFirst() == whole.suffix(rest.count - 1))
        #expect(rest.count < whole.count)
    }

    @Test("When only one ledger is complete and is gone for good, the fullest other goes on and says what is missing")
    func incomplete() {
        let world = GlobalWorld(controllers: 2, payloads: 1, seed: 9)
        #expect(world.settle { world.nodes[0].engine.ownership.inSync.count == 2 })
        for _ in 0..<20 { world.write(2) }
        #expect(world.settle { world.isQuiet })
        world.kill(1)
        #expect(world.settle { world.nodes[0].engine.ownership.inSync == [world.nodes[0].id] })
        for _ in 0..<20 { world.write(2) }
        #expect(world.settle { world.nodes[2].released == 40 })
        world.kill(0)
        world.start(1)
        for _ in 0..<5 { world.write(2) }
        let waited = world.now
        #expect(world.settle(90_000) { world.nodes[2].released == 45 }, "\(Self.describe(world))")
        #expect(world.now - waited >= .seconds(29))
        #expect(world.settle { world.nodes[1].noted == world.nodes[1].state.number })
        #expect(world.records(1) == (1...20).map { "3:\($0)" } + ["3:missing"] + (41...45).map { "3:\($0)" })
        // The other comes back after all: its files have what was only there, and go on with what it missed.
        world.start(0)
        #expect(world.settle { world.isQuiet }, "\(Self.describe(world))")
        #expect(world.records(0) == (1...40).map { "3:\($0)" } + ["3:missing"] + (41...45).map { "3:\($0)" })
        #expect(world.nodes[0].state == world.nodes[1].state)
    }
}
