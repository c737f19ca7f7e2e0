import EngineKit
import EventEngine
import EventProtocol
import SAFTypes
import Testing

@Suite("Event channel registry")
struct RegistryTests {
    let name = SaName("c")!

    private func open(_ registry: inout ChannelRegistry, _ node: UInt32, creating: Bool = true) -> ChannelID? {
        let command = ChannelRegistry.Command.open(name, creating: creating, lineage: 9, by: NodeID(node))
        for outcome in registry.handle(command, at: .start) { if case .opened(let id) = outcome { return id } }
        return nil
    }

    @Test("An unlinked channel lives until the last node has closed it; its name is free at once, for another id")
    func unlink() throws {
        var registry = ChannelRegistry()
        #expect(open(&registry, 1, creating: false) == nil)
        let first = try #require(open(&registry, 1))
        #expect(open(&registry, 2, creating: false) == first)
        _ = registry.handle(.unlink(first), at: .start)
        #expect(
            registry.handle(.unlink(first), at: .start).contains {
                if case .refused(.notExist, _) = $0 { true } else { false }
            })
        let second = try #require(open(&registry, 3))
        #expect(second != first)
        _ = registry.handle(.declare(first, by: NodeID(1), nil), at: .start)
        #expect(registry.channels.keys == [first, second])
        #expect(registry.handle(.nodeGone(NodeID(2)), at: .start) == [.changed(first, nil)])
        #expect(registry.channels.keys == [second])
        // The one that is linked stays without openers.
        _ = registry.handle(.nodeGone(NodeID(3)), at: .start)
        #expect(open(&registry, 1, creating: false) == second)
    }

    @Test("The interest of a node is the same in every order of its subscriptions, and everything when there are many")
    func interest() {
        let lists: [[EventFilter]] = [[.exact("a")], [.prefix("b"), .passAll], [.exact("a")], [.suffix("c")]]
        #expect(Interest(of: lists) == Interest(of: lists.reversed()))
        #expect(Interest(of: lists).lists.count == 3)
        #expect(Interest(of: lists).matches([Array("bx".utf8)]))
        #expect(!Interest(of: lists).matches([Array("ab".utf8)]))
        #expect(Interest(of: []) == .nothing)
        #expect(Interest(of: lists + [[]]) == .everything)
        #expect(Interest(of: (0...Interest.listsMax).map { [.exact("\($0)")] }) == .everything)
    }

    @Test("A registry that was loaded from a snapshot decides as the one that wrote it", arguments: 0..<40)
    func snapshot(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var registry = ChannelRegistry(channelsMax: 4)
        for _ in 0..<200 {
            let node = NodeID(UInt32.random(in: 1...3, using: &random))
            let name = SaName("c\(Int.random(in: 0...5, using: &random))")!
            let id = registry.channels.keys.randomElement(using: &random) ?? ChannelID(rawValue: 1)
            let command: ChannelRegistry.Command =
                switch Int.random(in: 0...5, using: &random) {
                case 0, 1: .open(name, creating: random.chance(percent: 70), lineage: UInt32(seed), by: node)
                case 2: .declare(id, by: node, Interest(of: [[.exact("\(Int.random(in: 0...9, using: &random))")]]))
                case 3: .declare(id, by: node, nil)
                case 4: .unlink(id)
                default: .nodeGone(node)
                }
            var copy = try ChannelRegistry(decoding: registry.encoded)
            #expect(copy == registry, "seed \(seed)")
            #expect(copy.handle(command, at: .start) == registry.handle(command, at: .start), "seed \(seed)")
        }
    }
}
