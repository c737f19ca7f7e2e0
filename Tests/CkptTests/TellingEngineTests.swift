import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptEngine

@Suite("Direct sections in the engine, while others are told")
struct TellingEngineTests {
    private static let attributes = CreationAttributes(
        flags: [.writeActiveReplica, .collocated], checkpointSize: 4_096, retentionDuration: 0, sectionsMax: 8,
        sectionSizeMax: 2_048, sectionIDSizeMax: 8)

    private struct World {
        var world = EngineWorld()
        let handle: HandleID
        let follower: HandleID
        let id: CheckpointID

        /// Sections `a`, `b`, `c` of 10 bytes; `a` and `b` are left to their writers while somebody follows.
        init(_ attributes: CreationAttributes = TellingEngineTests.attributes) throws {
            handle = try world.open([.read, .write], attributes)
            _ = try world.ask(.setActiveReplica(handle)).get()
            for section in ["a", "b", "c"] as [SectionID] {
                _ = try world.ask(.update(handle, [world.operation(.create, section, count: 10)])).get()
            }
            follower = try world.open([.read], from: EngineWorld.other)
            _ = try world.ask(.subscribe(follower, after: nil), from: EngineWorld.other).get()
            let opened = try #require(world.engine.handles[handle])
            id = opened.checkpoint
            _ = world.engine.directAccess(handle, opened, 0)
            for section in ["a", "b"] as [SectionID] { try write(section) }
        }

        mutating func write(_ section: SectionID, count: Int = 10) throws {
            _ = try world.ask(.update(handle, [world.operation(.overwrite, section, count: count)])).get()
        }

        var change: UInt64 { world.engine.checkpoints[id]?.state.change ?? 0 }
        var direct: [Int] { world.engine.checkpoints[id]?.direct.keys.sorted() ?? [] }

        var commits: [Transaction] {
            world.effects.compactMap { if case .commit(let transaction, true) = $0 { transaction } else { nil } }
        }
        var looks: [(recalled: [Int], mayRest: Bool)] {
            world.effects.compactMap { if case .tell(_, let slots, let mayRest) = $0 { (slots, mayRest) } else { nil } }
        }
        var published: Int { world.effects.count { if case .publish = $0 { true } else { false } } }

        /// A writer has written so much, at the end of what there is.
        mutating func wrote(_ slot: Int, _ count: Int = 4, at offset: Int = 0, time: SaTime = 99) {
            var sight = DirectSight(slot: slot, size: 30, lastUpdate: time, data: .init(offset: 0, count: count))
            (sight.isWritten, sight.offset, sight.writes) = (true, offset, 3)
            world.direct[slot] = sight
        }
    }

    @Test("While somebody follows sections are left to writers who are to be told of, and ckptd looks soon")
    func grant() throws {
        let world = try World()
        #expect(world.direct == [0, 1])
        #expect(
            world.world.effects.contains {
                if case .grant(_, slot: 1, _, isTold: true) = $0 { true } else { false }
            })
        let due = try #require(world.world.timers[.telling(world.id)])
        #expect(due - world.world.now == .milliseconds(1))
    }

    @Test("What was written is one update, with one number, and everybody is told; then ckptd looks again, then rests")
    func told() throws {
        var world = try World()
        let before = world.change
        world.wrote(0, 4, at: 20, time: 70)
        world.wrote(1, 30, time: 80)
        world.world.direct[1]?.isWhole = true
        world.world.feed(.written(world.id))
        #expect(world.looks.map(\.mayRest) == [true])
        let update = try #require(world.commits.first)
        #expect(update.purpose == .told && update.state.change == before + 1 && update.time == 80)
        #expect(update.steps.map(\.operation.kind) == [.write, .overwrite])
        #expect(update.steps[0].operation.offset == 20 && update.steps[0].operation.data.count == 4)
        #expect(world.published == 1 && world.change == before + 1)
        #expect(world.world.timers[.telling(world.id)] == world.world.now + .milliseconds(1))
        world.world.timers = [:]
        world.world.feed(.timerFired(.telling(world.id), time: 0))
        #expect(world.looks.map(\.mayRest) == [true] && world.commits.isEmpty && world.published == 0)
        #expect(world.world.timers.isEmpty, "nothing wakes ckptd until somebody writes")
        #expect(world.direct == [0, 1])
    }

    @Test("Questions are answered after what was written before, and nothing comes back for them")
    func questions() throws {
        let questions: [(HandleID) -> CkptRequest] = [
            { .status($0) }, { .list($0, after: 0, limit: 9, chosen: .any, time: 0) }, { .section($0, "a") },
            { .read($0, [.init(id: "a")]) }, { .snapshot($0) },
        ]
        for question in questions {
            var world = try World()
            world.wrote(0, 20, at: 10)
            let answer = try world.world.ask(question(world.handle)).get()
            #expect(world.looks.map(\.recalled) == [[]] && world.commits.count == 1 && world.direct == [0, 1])
            if case .data(_, let change, let parts) = answer {
                #expect(change == world.change && parts.map(\.count) == [30])
            }
            if case .status(let status) = answer { #expect(status.memoryUsed == 50 && status.change == world.change) }
        }
    }

    @Test("An update through ckptd comes after what was written before; what it is about comes back")
    func updates() throws {
        var world = try World()
        let before = world.change
        world.wrote(0)
        try world.write("c")
        #expect(world.looks.map(\.recalled) == [[]])
        #expect(world.commits.map(\.state.change) == [before + 1, before + 2] && world.published == 2)
        #expect(world.commits.map(\.purpose) == [.told, .step])
        world.wrote(1)
        _ = try world.world.ask(.update(world.handle, [world.world.operation(.delete, "a")])).get()
        #expect(world.looks.map(\.recalled) == [[0]] && world.direct == [1, 2])
        let end = world.world.effects.firstIndex { $0 == .endDirect(world.id, slots: [0]) }
        let delete = world.world.effects.lastIndex { if case .commit = $0 { true } else { false } }
        #expect(try #require(end) < #require(delete), "nobody writes it while it is deleted")
        let operations = [world.world.operation(.overwrite, "c", count: 1)]
        let stale = world.change
        world.wrote(1)
        let refused = world.world.ask(.updateIf(change: stale, world.handle, operations))
        #expect(world.world.error(refused) == .badOperation, "somebody wrote")
        #expect(world.looks.map(\.recalled) == [[1, 2]] && world.direct == [])
        #expect(world.world.error(world.world.ask(.updateIf(change: world.change, world.handle, operations))) == nil)
    }

    @Test("Who begins to follow begins with what was told last")
    func follower() throws {
        var world = try World()
        world.wrote(0)
        let before = world.change
        guard
            case .subscription(_, _, _, let change, _) = try world.world.ask(.subscribe(world.handle, after: nil)).get()
        else { throw AisError.library }
        #expect(change == before && world.looks.isEmpty && world.direct == [0, 1])
    }

    @Test("Sections have room within what may be told at a time")
    func room() throws {
        var attributes = Self.attributes
        (attributes.checkpointSize, attributes.sectionSizeMax) = (8 << 20, 1 << 20)
        var world = try World(attributes)
        try world.write("c", count: 300 << 10)
        #expect(world.direct == [0, 1], "too large to be told again and again")
        try world.write("c", count: 200 << 10)
        #expect(world.world.engine.checkpoints[world.id]?.direct[2]?.limit == 256 << 10)
    }

    @Test("No room for the update: everything comes back, straight to its place; refused: nothing is lost")
    func noRoom() throws {
        var world = try World()
        world.wrote(0)
        world.world.outcome = .noSpace("full")
        let read = CkptRequest.read(world.handle, [.init(id: "a")])
        #expect(world.world.error(world.world.ask(read)) == .noSpace)
        #expect(world.looks.map(\.recalled) == [[], [0, 1]] && world.direct == [0, 1])
        world.world.feed(.written(world.id))
        world.world.outcome = .done
        world.wrote(0)
        world.world.direct[0]?.isRecalled = true
        world.world.feed(.timerFired(.telling(world.id), time: 0))
        #expect(world.direct == [1] && world.published == 1)
    }

    @Test("What nobody wrote is CORRUPTED here, and nobody else is told of it")
    func corrupted() throws {
        var world = try World()
        world.world.direct[0] = DirectSight(slot: 0, isRecalled: true, isCorrupted: true)
        world.wrote(1)
        world.world.feed(.written(world.id))
        #expect(world.commits.first?.steps.map(\.slot) == [1] && world.direct == [1])
        let read = CkptRequest.read(world.handle, [.init(id: "a")])
        #expect(world.world.error(world.world.ask(read)) == .library)
        try world.write("a")
        #expect(world.world.error(world.world.ask(read)) == nil)
    }

    @Test("A writer that dies or leaves may not have called: ckptd looks", arguments: [false, true])
    func death(isDead: Bool) throws {
        var world = try World()
        world.world.feed(.timerFired(.telling(world.id), time: 0))
        world.world.timers = [:]
        world.world.feed(.disconnected(EngineWorld.client, isDead: isDead))
        #expect(world.world.timers[.telling(world.id)] != nil)
        world.world.timers = [:]
        if !isDead {
            world.world.feed(.connected(EngineWorld.client, EngineWorld.process(EngineWorld.client)))
            #expect(world.world.timers[.telling(world.id)] != nil, "it wrote while it could not call")
        }
        #expect(world.world.engine.written(world.handle, by: EngineWorld.other) == nil, "not for others")
    }

    @Test("Where one has mapped it who is too late nobody writes directly, until that one is gone")
    func lateWriter() throws {
        var world = try World()
        let (csi, other) = (WriteFenceTests.words, WriteFenceTests.other)
        func table(_ floor: UInt64) -> AssignmentTable {
            let process = EngineWorld.process(EngineWorld.client)
            let held = AssignmentTable.Holder(
                pid: Int32(process.id), startTime: process.start, held: AssignmentEpoch(of: csi, epoch: 4))
            return AssignmentTable(
                incarnation: 1, holders: [held], floors: [.init(csi, epoch: floor), .init(other, epoch: 9)])
        }
        world.world.feed(.assignments(table(4)))
        #expect(!world.world.effects.contains(.stopDirect(world.id)) && world.direct == [0, 1])
        world.wrote(0)
        world.world.timers = [:]
        world.world.feed(.assignments(table(5)))
        #expect(world.world.effects.contains(.stopDirect(world.id)))
        #expect(world.world.timers[.telling(world.id)] != nil, "what it wrote before is told")
        let opened = try #require(world.world.engine.handles[world.handle])
        let lateMayWrite = world.world.engine.directAccess(world.handle, opened, 0) == .write
        #expect(!lateMayWrite, "what it maps it can only read")
        // Another process may write, but nobody without asking.
        let next = ClientSession(high: 7, low: 7)
        let successor = try world.world.open([.read, .write], from: next)
        let mapped = try #require(world.world.engine.handles[successor])
        let nextMayWrite = world.world.engine.directAccess(successor, mapped, 0) == .write
        #expect(nextMayWrite)
        func write(_ section: SectionID) throws -> Bool {
            let operations = [world.world.operation(.overwrite, section, count: 10)]
            for _ in 0..<3 { _ = try world.world.ask(.update(successor, operations), from: next).get() }
            return world.world.effects.contains { if case .grant = $0 { true } else { false } }
                || world.world.engine.checkpoints[world.id]?.direct.isEmpty == false
        }
        for section in ["a", "b"] as [SectionID] { _ = try write(section) }
        #expect(try !write("c"))
        world.world.feed(.disconnected(EngineWorld.client, isDead: true))
        #expect(try write("c"))
    }
}
