@testable import CkptEngine
import CkptProtocol
import CkptStore
import DBAL
import EngineKit
import OSAL
import SAFTypes
import Testing

@Suite("Persistent checkpoints: what is durable, and who waits for it")
struct PersistenceTests {
    private static let block = PersistentLayout.blockBytes

    @Test("An update is answered when the disk has it; those that come meanwhile are one batch")
    func groupCommit() throws {
        let world = try PersistenceWorld()
        let opened = try world.open("safCkpt=p")
        _ = world.update(opened.handle, .create, "a", [1])
        world.settle()
        let before = world.batches
        let first = world.update(opened.handle, .overwrite, "a", [2])
        #expect(world.answers[first] == nil)
        world.gather()
        let others = (0..<5).map { world.update(opened.handle, .overwrite, "a", [UInt8($0)]) }
        #expect(world.answers[first] == nil && world.flight != nil)
        world.land(.done)
        #expect(world.answers[first] != nil)
        #expect(others.allSatisfy { world.answers[$0] == nil } && world.flight != nil)
        world.land(.done)
        #expect(others.allSatisfy { (try? world.answers[$0]?.get()) != nil })
        #expect(world.batches == before + 2)
        #expect(try world.content()[opened.checkpoint]?.sections == ["a": [4]])
    }

    @Test("The creation and the unlinking of a persistent checkpoint are answered when they are durable")
    func createAndUnlink() throws {
        let world = try PersistenceWorld()
        let name = try #require(SaName("safCkpt=p"))
        let create = world.ask(
            .open(name, flags: [.read, .write, .create], attributes: PersistenceWorld.attributes))
        #expect(world.answers[create] == nil)
        world.settle()
        guard case .opened(let reply) = try #require(world.answers[create]).get() else { throw AisError.library }
        #expect(try world.content().keys.contains(reply.checkpoint))
        let unlink = world.ask(.unlink(name))
        #expect(world.answers[unlink] == nil)
        world.settle()
        #expect(world.answers[unlink] != nil)
        #expect(try world.content().isEmpty)
        // Who has it open goes on with it, and does not wait: it ends with a loss of power.
        let write = world.update(reply.handle, .create, "a", [1])
        #expect(world.answers[write] != nil && world.flight == nil)
    }

    @Test("What is not persistent waits for nothing, whatever the disk does")
    func others() throws {
        let world = try PersistenceWorld()
        _ = try world.open("safCkpt=p")
        var attributes = PersistenceWorld.attributes
        attributes.flags = .writeAllReplicas
        let plain = try world.open("safCkpt=plain", attributes)
        world.feed(.persisted(.failed(.full("no space"))))
        let write = world.update(plain.handle, .create, "a", [1])
        #expect((try? world.answers[write]?.get()) != nil)
        #expect(try world.content().count == 1)
    }

    @Test("A few bytes of a large section cost a block, not the section")
    func delta() throws {
        let world = try PersistenceWorld()
        let opened = try world.open("safCkpt=p")
        let size = 1 << 20
        _ = world.update(opened.handle, .create, "large", [UInt8](repeating: 7, count: size))
        world.settle()
        let before = world.changesWritten
        _ = world.update(
            opened.handle, .write, "large", at: UInt64(5 * Self.block + 3), [UInt8](repeating: 9, count: 64))
        world.settle()
        #expect(world.changesWritten - before == 3, "head, section and one block")
        var expected = [UInt8](repeating: 7, count: size)
        expected.replaceSubrange((5 * Self.block + 3)..<(5 * Self.block + 67), with: [UInt8](repeating: 9, count: 64))
        #expect(try world.content()[opened.checkpoint]?.sections["large"] == expected)
    }

    @Test("A full disk: nothing is answered that is not durable, new updates are refused, and it ends by itself")
    func fullDisk() throws {
        let world = try PersistenceWorld()
        let opened = try world.open("safCkpt=p")
        _ = world.update(opened.handle, .create, "a", [1])
        world.settle()
        let inFlight = world.update(opened.handle, .overwrite, "a", [2])
        world.gather()
        world.land(.failed(.full("no space left")))
        #expect(world.answers[inFlight] == nil)
        #expect(world.engine.durabilitySummary.trouble == .full("no space left"))
        let refused = world.update(opened.handle, .overwrite, "a", [3])
        #expect(world.answers[refused] == .failure(.noSpace))
        let create = world.ask(
            .open(
                try #require(SaName("safCkpt=q")), flags: [.read, .create], attributes: PersistenceWorld.attributes))
        #expect(world.answers[create] == .failure(.noSpace))
        // The first sending of a request that waits is not refused when it is repeated.
        world.ask(
            .update(
                opened.handle,
                [.init(kind: .overwrite, id: "a", data: PayloadSlice(offset: 0, count: 1))]), [2], repeating: inFlight)
        #expect(world.answers[inFlight] == nil)
        world.now = world.now + .seconds(1)
        world.gather()
        world.land(.failed(.full("no space left")))
        world.now = world.now + .seconds(1)
        world.gather()
        world.land(.done)
        #expect((try? world.answers[inFlight]?.get()) != nil)
        #expect(world.engine.durabilitySummary.trouble == nil)
        #expect(try world.content()[opened.checkpoint]?.sections == ["a": [2]])
        let after = world.update(opened.handle, .overwrite, "a", [4])
        world.settle()
        #expect((try? world.answers[after]?.get()) != nil)
    }

    @Test("Who waits too long for a disk that refuses is told that the outcome is unknown")
    func patience() throws {
        let world = try PersistenceWorld()
        let opened = try world.open("safCkpt=p")
        let write = world.update(opened.handle, .create, "a", [2])
        for _ in 0..<30 {
            world.gather()
            world.land(.failed(.failing("input/output error")))
            world.now = world.now + .seconds(1)
        }
        #expect(world.answers[write] == .failure(.timeout))
        let refused = world.update(opened.handle, .overwrite, "a", [3])
        #expect(world.answers[refused] == .failure(.tryAgain))
    }

    @Test("A database that cannot be used is not touched, and what is persistent is refused")
    func unusable() throws {
        let world = try PersistenceWorld()
        world.feed(.notStored("form 9; 1 expected"))
        let name = try #require(SaName("safCkpt=p"))
        let create = world.ask(.open(name, flags: [.read, .create], attributes: PersistenceWorld.attributes))
        #expect(world.answers[create] == .failure(.tryAgain))
        #expect(world.flight == nil && world.file.isMissing)
        world.feed(.withheld(name, "no room"))
        let open = world.ask(.open(name, flags: .read, attributes: nil))
        #expect(world.answers[open] == .failure(.tryAgain))
    }

    @Test("A database that is lost is written anew from memory")
    func lost() throws {
        let world = try PersistenceWorld()
        let opened = try world.open("safCkpt=p")
        _ = world.update(opened.handle, .create, "a", [UInt8](repeating: 5, count: 3 * Self.block))
        world.settle()
        let write = world.update(opened.handle, .create, "b", [1])
        world.gather()
        world.land(.lost)
        #expect(world.answers[write] == nil)
        world.settle()
        #expect(world.answers[write] != nil)
        #expect(
            try world.content()[opened.checkpoint]?.sections
                == ["a": [UInt8](repeating: 5, count: 3 * Self.block), "b": [1]])
    }

    @Test("Random updates, failures and restarts: the database always has what was, at one moment, all there was")
    func random() throws {
        let first = Environment.get("SAF_SIM_SEED").flatMap { UInt64($0) } ?? UInt64.random(in: 0...1_000_000_000)
        for seed in first..<first + 12 { try random(seed) }
        print("persistence, seeds from \(first)")
    }

    private func random(_ seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let engines = DatabaseEngine.allCases.filter { $0.missing == nil }
        let world = try PersistenceWorld(engines[Int(seed % UInt64(engines.count))])
        var handles: [SaName: HandleID] = [:]
        let names = try (0..<3).map { try #require(SaName("safCkpt=\($0)")) }
        let ids: [SectionID] = ["a", "b", "c", "d"]
        /// The last change of each that was acknowledged.
        var asked: [UInt64: (name: SaName, checkpoint: CheckpointID?)] = [:]
        var acknowledged: [CheckpointID: UInt64] = [:]
        var open: [SaName: CheckpointID] = [:]
        func hear() {
            for (number, about) in asked {
                guard let answer = world.answers[number] else { continue }
                asked[number] = nil
                if case .success(.opened(let reply)) = answer {
                    handles[about.name] = reply.handle
                    open[about.name] = reply.checkpoint
                } else if case .success(.updated(let reply)) = answer, let id = about.checkpoint {
                    acknowledged[id] = max(acknowledged[id] ?? 0, reply.change)
                }
            }
        }
        for _ in 0..<150 {
            let name = names[Int.random(in: 0..<3, using: &random)]
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<12:
                guard let handle = handles[name] else {
                    asked[
                        world.ask(
                            .open(name, flags: [.read, .write, .create], attributes: PersistenceWorld.attributes))] =
                        (name, nil)
                    break
                }
                let kind: SectionOperation.Kind = [.create, .write, .write, .overwrite, .delete][
                    Int.random(in: 0..<5, using: &random)]
                let most = [10, 3_000, 3 * Self.block][Int.random(in: 0..<3, using: &random)]
                let count = kind == .delete ? 0 : Int.random(in: 0...most, using: &random)
                let data = [UInt8](repeating: UInt8.random(in: 1...255, using: &random), count: count)
                let offset = kind == .write ? UInt64.random(in: 0...UInt64(4 * Self.block), using: &random) : 0
                let id = ids[Int.random(in: 0..<4, using: &random)]
                asked[world.update(handle, kind, id, at: offset, data)] = (name, open[name])
            case 12:
                if let handle = handles[name] {
                    world.ask(.setRetention(handle, SaTime.random(in: 1...9, using: &random) << 40))
                }
            case 13:
                if handles.removeValue(forKey: name) != nil, let id = open.removeValue(forKey: name) {
                    world.ask(.unlink(name))
                    acknowledged[id] = nil
                    asked = asked.filter { $0.value.checkpoint != id }
                }
            case 14..<17: world.land(.done)
            case 17: world.land(.failed(.failing("so says the test")))
            case 18:
                guard Int.random(in: 0..<8, using: &random) == 0, world.flight != nil else { break }
                world.land(.lost)
                acknowledged = [:]
            default:
                if Int.random(in: 0..<4, using: &random) == 0 {
                    hear()
                    try world.restart()
                    // Everybody is dead, or comes back with what it had open: here the latter.
                    asked = [:]
                }
            }
            world.now = world.now + .milliseconds(Int64.random(in: 0..<400, using: &random))
            world.gather()
            hear()
        }
        #expect(try world.content() == world.durable, "seed \(seed)")
        for (id, change) in acknowledged where world.flight == nil {
            let head = try #require(world.durable[id]?.head, "seed \(seed): \(id) was acknowledged")
            #expect(head.version.change >= change, "seed \(seed)")
        }
    }

    @Test("Ranges of blocks are merged, few, and never less than what was noted", arguments: 0..<20 as Range<UInt64>)
    func ranges(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var dirty = DirtySection()
        var expected: Set<Int> = []
        for _ in 0..<60 {
            let start = Int.random(in: 0..<400, using: &random)
            let count = Int.random(in: 1...4, using: &random)
            dirty.insert(start..<start + count)
            expected.formUnion(start..<start + count)
            #expect(dirty.ranges.count <= DirtySection.rangesMax)
            #expect(expected.isSubset(of: Set(dirty.ranges.joined())), "seed \(seed)")
            for (left, right) in zip(dirty.ranges, dirty.ranges.dropFirst()) {
                #expect(left.upperBound < right.lowerBound, "seed \(seed)")
            }
        }
    }
}
