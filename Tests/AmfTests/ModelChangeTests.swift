import AmfProtocol
import EngineKit
import SAFTypes
import Testing

@testable import AmfEngine

/// A model that is loaded while the cluster runs.
@Suite("A cluster's model changes")
struct ModelChangeTests {
    /// Three nodes with their middleware and one application, its units on the first two.
    private static func model(nodes names: [String], units: [String] = ["a", "b"]) -> AmfModel {
        var model = Models.twoN()
        let ids = ["a": 1, "b": 2, "c": 3, "d": 4, "e": 5]
        model.nodes = names.map { NodeModel(name: $0, id: NodeID(UInt32(ids[$0] ?? 9))) }
        var unit = model.applications[0].serviceGroups[0].serviceUnits[0]
        model.applications[0].serviceGroups[0].serviceUnits = units.map {
            (unit.name, unit.node) = ("SU-\($0)", $0)
            return unit
        }
        return MiddlewareModel.merged(into: model)
    }

    private static func change(
        from running: AmfModel, to wanted: AmfModel, away: [String] = [], locked: [String] = []
    ) -> Result<AmfModel, ModelObjection> {
        let nodes = running.nodes.map {
            ModelChange.Node(name: $0.name, isMember: !away.contains($0.name), isLocked: locked.contains($0.name))
        }
        do throws(ModelObjection) {
            return .success(
                try ModelChange(running: running, wanted: wanted, nodes: nodes, isAddition: false).merged())
        } catch {
            return .failure(error)
        }
    }

    private static func objection(_ result: Result<AmfModel, ModelObjection>) -> String {
        if case .failure(let objection) = result { return objection.text }
        return ""
    }

    @Test("A new node comes with its middleware, and a new service unit on it")
    func nodeAdded() throws {
        let wanted = Self.model(nodes: ["a", "b", "c", "d"], units: ["a", "b", "d"])
        let merged = try Self.change(from: Self.model(nodes: ["a", "b", "c"]), to: wanted).get()
        #expect(merged == wanted)
        #expect(merged.validate().isEmpty)
    }

    @Test("A node that is locked and stopped leaves, with its service unit")
    func nodeRemoved() throws {
        let wanted = Self.model(nodes: ["a", "c"], units: ["a"])
        let running = Self.model(nodes: ["a", "b", "c"])
        #expect(try Self.change(from: running, to: wanted, away: ["b"], locked: ["b"]).get() == wanted)
    }

    @Test("What would take something away by mistake, or change what runs, is refused with the reason")
    func refused() {
        let running = Self.model(nodes: ["a", "b", "c"])
        func text(_ wanted: AmfModel, away: [String] = [], locked: [String] = []) -> String {
            Self.objection(Self.change(from: running, to: wanted, away: away, locked: locked))
        }
        let without = Self.model(nodes: ["a", "c"], units: ["a"])
        #expect(text(without, away: ["b"]).contains("older than the cluster"))
        #expect(text(without, locked: ["b"]).contains("stop SwiftSAF there first"))
        #expect(
            text(Self.model(nodes: ["a", "b"]), away: ["c"], locked: ["c"]).isEmpty,
            "nothing of the application is on c")
        #expect(text(Self.model(nodes: ["a", "b", "c", "d", "e"])).contains("one at a time"))
        #expect(text(Self.model(nodes: ["a", "b", "c", "d"]), away: ["c"]).contains("no majority"))
        #expect(text(Self.model(nodes: ["a", "b", "c"], units: ["a"])).contains("only leave together with its node b"))
        #expect(text(Self.model(nodes: ["a", "c"], units: ["a", "c"]), away: ["b"], locked: ["b"]).isEmpty)
        var other = running
        other.applications[other.applications.count - 1].serviceGroups[0].serviceUnits[0].rank = 7
        #expect(text(other).contains("service unit SU-a of application A runs with another configuration"))
        var kept = without
        kept.applications.removeLast()
        #expect(text(kept, away: ["b"], locked: ["b"]).contains("take it out of the model, too"))
    }

    @Test("Whoever has fewer files takes nothing away; a second node may come to a cluster of one")
    func harmless() throws {
        let running = Self.model(nodes: ["a", "b", "c"])
        var fewer = running
        fewer.applications.removeLast()
        #expect(try Self.change(from: running, to: fewer).get() == running)
        let two = Self.model(nodes: ["a", "b"], units: ["a"])
        #expect(try Self.change(from: Self.model(nodes: ["a"], units: ["a"]), to: two).get() == two)
    }

    @Test("Everything that runs keeps its state, though all positions in the model have moved")
    func stateKept() throws {
        var world = AmfWorld(Models.twoN())
        world.settle()
        world.advance(.seconds(11))
        let before = world.describe()
        let active = try #require(world.processes.first { $0.held.contains { $0.haState == .active } })
        var grown = world.model
        var unit = grown.applications[0].serviceGroups[0].serviceUnits[0]
        unit.name = "SU3"
        grown.applications[0].serviceGroups[0].serviceUnits.append(unit)
        var first = Models.noRedundancy(units: 1, instances: 1).applications[0]
        first.name = "B"
        grown.applications.append(first)
        world.propose(.model(grown))
        world.settle()
        world.advance(.seconds(11))
        #expect(world.refused.isEmpty)
        #expect(world.processes.filter(\.isAlive).contains { $0.pid == active.pid }, "undisturbed")
        #expect(before.allSatisfy(world.describe().contains), "\(world.describe())")
        #expect(world.processes.filter(\.isAlive).count == 3, "two units of a 2N group in service are enough")
        let lock = world.admin(.lock, "safSu=SU2,safSg=G,safApp=A")
        world.settle()
        #expect(world.reply(lock).isThere && world.reply(lock).error == nil)
        #expect(world.describe().contains("SI1 fully-assigned W11:SU1/C1=active W11:SU3/C1=standby"))
        #expect(world.processes.filter(\.isAlive).contains { $0.pid == active.pid }, "undisturbed")
        // The grown engine's bytes are as good as any.
        #expect(AmfWorld.bytes(AmfWorld.restored(AmfWorld.bytes(world.cluster))) == AmfWorld.bytes(world.cluster))
    }

    @Test("Members of earlier versions are told of a model what they understand")
    func versions() throws {
        let model = Models.twoN()
        for event in [ClusterEvent.addition(model), .model(model)] {
            #expect(try ClusterEvent(decoding: event.encoded) == event)
        }
        var cluster = ClusterEngine()
        _ = cluster.handle(.addition(model), at: .start)
        var grown = model
        var unit = grown.applications[0].serviceGroups[0].serviceUnits[0]
        unit.name = "SU3"
        grown.applications[0].serviceGroups[0].serviceUnits.append(unit)
        let effects = cluster.handle(.addition(grown), at: .start)
        #expect(effects.contains { if case .modelRefused = $0 { true } else { false } }, "\(effects)")
    }
}
