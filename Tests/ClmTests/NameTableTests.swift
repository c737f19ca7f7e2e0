import ClmEngine
import ClmProtocol
import EngineKit
import SAFTypes
import Testing

func session(_ number: UInt64, node: UInt32 = 1) -> ClientSession {
    ClientSession(node: NodeID(node), high: 0, low: number)
}

func bound(
    _ lower: UInt32, _ upper: UInt32? = nil, type: UInt32 = 100, node: UInt32 = 1, port: UInt32 = 1,
    incarnation: UInt64 = 1,
    scope: BindingScope = .cluster
) -> NameBinding {
    NameBinding(
        range: ServiceRange(type: type, lower: lower, upper: upper ?? lower)!,
        address: PortAddress(node: NodeID(node), port: port, incarnation: incarnation), scope: scope)
}

@Suite("Name table")
struct NameTableTests {
    @Test("A binding is published once, found by its range and withdrawn with its session")
    func lifeOfABinding() {
        var table = NameTable()
        let binding = bound(1, 9)
        #expect(table.handle(.bind(binding, by: session(1)), at: .start) == [.published(binding)])
        #expect(table.handle(.bind(binding, by: session(1)), at: .start) == [])
        #expect(table.entries.map(\.binding) == [binding])
        #expect(table.handle(.sessionLeft(session(1)), at: .start) == [.withdrawn(binding)])
        #expect(table.handle(.sessionLeft(session(1)), at: .start) == [])
        #expect(table.count == 0)
    }

    @Test("Only the owner withdraws; the last to bind is the owner")
    func ownership() {
        var table = NameTable()
        let binding = bound(1)
        _ = table.handle(.bind(binding, by: session(1)), at: .start)
        #expect(table.handle(.withdraw(binding, by: session(2)), at: .start) == [])
        #expect(table.handle(.bind(binding, by: session(2)), at: .start) == [])
        #expect(table.handle(.sessionLeft(session(1)), at: .start) == [])
        #expect(table.handle(.withdraw(binding, by: session(2)), at: .start) == [.withdrawn(binding)])
    }

    @Test("A recycled port is another provider")
    func incarnation() {
        var table = NameTable()
        let old = bound(1, incarnation: 1)
        let new = bound(1, incarnation: 2)
        _ = table.handle(.bind(old, by: session(1)), at: .start)
        #expect(table.handle(.bind(new, by: session(2)), at: .start) == [.published(new)])
        #expect(table.handle(.sessionLeft(session(1)), at: .start) == [.withdrawn(old)])
        #expect(table.entries.map(\.binding) == [new])
    }

    @Test("Limits are refusals, not growth")
    func limits() {
        var table = NameTable(limits: .init(bindingsMax: 3, bindingsPerSessionMax: 2))
        #expect(table.handle(.bind(bound(1), by: session(1)), at: .start) == [.published(bound(1))])
        #expect(table.handle(.bind(bound(2), by: session(1)), at: .start) == [.published(bound(2))])
        #expect(
            table.handle(.bind(bound(3), by: session(1)), at: .start) == [
                .refused(bound(3), by: session(1), .noResources)
            ])
        #expect(table.handle(.bind(bound(3), by: session(2)), at: .start) == [.published(bound(3))])
        #expect(
            table.handle(.bind(bound(4), by: session(3)), at: .start) == [
                .refused(bound(4), by: session(3), .noResources)
            ])
    }

    @Test("A node that left takes its bindings along")
    func nodeLeft() {
        var table = NameTable()
        _ = table.handle(.bind(bound(1, node: 2), by: session(1, node: 2)), at: .start)
        _ = table.handle(.bind(bound(1, node: 1), by: session(1)), at: .start)
        #expect(table.handle(.nodeLeft(NodeID(2)), at: .start) == [.withdrawn(bound(1, node: 2))])
        #expect(table.count == 1)
    }

    @Test(
        "Any order of commands: what was told is what is there, and a snapshot is the same table",
        arguments: 0..<100 as Range<UInt64>)
    func anyOrder(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var table = NameTable(limits: .init(bindingsMax: 12, bindingsPerSessionMax: 4))
        var told: Set<NameBinding> = []
        for _ in 0..<200 {
            let who = session(.random(in: 1...4, using: &random), node: .random(in: 1...2, using: &random))
            let lower = UInt32.random(in: 0...5, using: &random)
            let binding = bound(
                lower, lower + .random(in: 0...3, using: &random), type: .random(in: 64...66, using: &random),
                node: who.node.rawValue)
            let command: NameTable.Command =
                switch Int.random(in: 0..<10, using: &random) {
                case 0..<6: .bind(binding, by: who)
                case 6..<8: .withdraw(binding, by: who)
                case 8: .sessionLeft(who)
                default: .nodeLeft(who.node)
                }
            for outcome in table.handle(command, at: .start) {
                switch outcome {
                case .published(let new): #expect(told.insert(new).inserted, "seed \(seed)")
                case .withdrawn(let old): #expect(told.remove(old) != nil, "seed \(seed)")
                case .refused(let refused, _, _): #expect(!told.contains(refused), "seed \(seed)")
                }
            }
            #expect(table.entries.map(\.binding) == told.sorted(), "seed \(seed)")
        }
        let copy = try NameTable(decoding: table.encoded)
        #expect(copy.encoded == table.encoded, "seed \(seed)")
        #expect(copy.entries.map(\.session) == table.entries.map(\.session), "seed \(seed)")
    }
}
