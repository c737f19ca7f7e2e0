import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptEngine

@Suite("Direct sections in the engine")
struct DirectEngineTests {
    private static let direct: CreationFlags = [.writeActiveReplica, .collocated]

    private static func attributes(
        _ flags: CreationFlags = direct, size: UInt64 = 4_096, sectionMax: UInt64 = 2_048
    ) -> CreationAttributes {
        CreationAttributes(
            flags: flags, checkpointSize: size, retentionDuration: 0, sectionsMax: 4, sectionSizeMax: sectionMax,
            sectionIDSizeMax: 8)
    }

    /// With sections `a` and `b` of 10 bytes, opened by a client that maps.
    private static func world(_ attributes: CreationAttributes = attributes()) throws -> (EngineWorld, HandleID) {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], attributes)
        if attributes.flags.needsActiveReplicaSet { _ = try world.ask(.setActiveReplica(handle)).get() }
        _ = try world.ask(
            .update(
                handle, [world.operation(.create, "a", count: 10), world.operation(.create, "b", count: 10)])
        ).get()
        if let opened = world.engine.handles[handle] { _ = world.engine.directAccess(handle, opened, 0) }
        return (world, handle)
    }

    private static func grants(_ world: EngineWorld) -> [Int] {
        world.effects.compactMap { if case .grant(_, let slot, _, _) = $0 { slot } else { nil } }
    }

    private static func recalls(_ world: EngineWorld) -> [Int]? {
        world.effects.compactMap { if case .look(_, let recalled, _) = $0 { recalled } else { nil } }.first
    }

    private func write(
        _ world: inout EngineWorld, _ handle: HandleID, _ id: SectionID = "a", count: Int = 10
    ) throws -> UInt64 {
        guard
            case .updated(let reply) = try world.ask(.update(handle, [world.operation(.overwrite, id, count: count)]))
                .get()
        else { throw AisError.library }
        return reply.change
    }

    @Test("The first write of one section by who maps is answered, then the section is left to its writers")
    func grant() throws {
        var (world, handle) = try Self.world()
        _ = try write(&world, handle)
        #expect(Self.grants(world) == [0])
        let reply = world.effects.firstIndex { if case .reply = $0 { true } else { false } }
        let grant = world.effects.firstIndex { if case .grant = $0 { true } else { false } }
        #expect(try #require(reply) < #require(grant), "nobody waits for it")
        _ = try world.ask(.update(handle, [world.operation(.overwrite, "b", count: 1), world.operation(.write, "b")]))
            .get()
        #expect(Self.grants(world).isEmpty, "a batch says nothing of what comes")
        #expect(Self.recalls(world) == [], "what it does not touch stays where it is")
    }

    @Test(
        "Only collocated, asynchronous, not persistent",
        arguments: [
            [.writeAllReplicas, .collocated], [.writeActiveReplica], [.writeActiveReplicaWeak],
            [.writeActiveReplica, .collocated, .persistent],
        ] as [CreationFlags])
    func others(flags: CreationFlags) throws {
        var (world, handle) = try Self.world(Self.attributes(flags))
        _ = try write(&world, handle)
        #expect(Self.grants(world).isEmpty)
    }

    @Test("Not to who does not map; who begins to follow has it begin anew")
    func nobody() throws {
        var (world, handle) = try Self.world()
        let other = try world.open([.read, .write], from: EngineWorld.other)
        _ = try world.ask(.update(other, [world.operation(.overwrite, "a", count: 1)]), from: EngineWorld.other).get()
        #expect(Self.grants(world).isEmpty)
        _ = try write(&world, handle)
        #expect(Self.grants(world) == [0])
        _ = try world.ask(.subscribe(other, after: nil), from: EngineWorld.other).get()
        #expect(Self.recalls(world) == [0])
    }

    private func access(
        _ world: inout EngineWorld, _ handle: HandleID, _ session: ClientSession, user: UInt32?
    ) throws -> DirectAccess {
        guard case .mapping(_, let access) = try world.ask(.map(handle), from: session, user: user).get() else {
            throw AisError.library
        }
        return access
    }

    @Test("The direct file is mapped by processes of one user: who wants to write it first")
    func oneUser() throws {
        let (first, second) = (EngineWorld.client, EngineWorld.other)
        var world = EngineWorld()
        let writer = try world.open([.read, .write], Self.attributes(), from: first)
        let reader = try world.open([.read], from: second)
        let other = try world.open([.read, .write], from: second)
        #expect(try access(&world, reader, second, user: 7) == .none, "nobody has wanted to write it")
        #expect(try access(&world, writer, first, user: nil) == .none, "who could cut it off")
        #expect(try access(&world, writer, first, user: 8) == .write)
        #expect(try access(&world, reader, second, user: 7) == .none)
        #expect(try access(&world, other, second, user: 0) == .none, "root neither")
        #expect(try access(&world, reader, second, user: 8) == .read)
        #expect(try access(&world, other, second, user: 8) == .write)
    }

    /// `a` is direct and has become 30 bytes by 5 writes.
    private func direct() throws -> (EngineWorld, HandleID) {
        var (world, handle) = try Self.world()
        let change = try write(&world, handle)
        #expect(Self.grants(world) == [0])
        world.directChange = change + 5
        world.direct[0] = DirectSight(slot: 0, size: 30, lastUpdate: 99, change: change + 5)
        return (world, handle)
    }

    @Test("What depends on direct sections looks first, and says what they are")
    func look() throws {
        var (world, handle) = try direct()
        guard case .status(let status) = try world.ask(.status(handle)).get() else { throw AisError.library }
        #expect(status.memoryUsed == 40 && status.change == world.directChange)
        guard
            case .list(let list) = try world.ask(
                .list(handle, after: 0, limit: 9, chosen: .any, time: 0)
            ).get()
        else { throw AisError.library }
        #expect(list.sections.map(\.size) == [30, 10] && list.sections[0].lastUpdate == 99)
        #expect(Self.recalls(world) == [])
        #expect(!world.effects.contains { if case .commit = $0 { true } else { false } })
    }

    @Test("Whatever else is done with a direct section, it comes back first")
    func recall() throws {
        let requests: [(EngineWorld, HandleID) -> CkptRequest] = [
            { .read($1, [.init(id: "a")]) }, { .snapshot($1) }, { .subscribe($1, after: nil) },
            { .update($1, [$0.operation(.write, "a", at: 2, count: 1)]) },
            { .update($1, [$0.operation(.delete, "a")]) },
            { .update($1, [$0.operation(.create, "c"), $0.operation(.setExpiration, "a", expires: .saTimeEnd)]) },
            { world, _ in .adminSections(EngineWorld.name, after: 0, limit: 1, dataMax: 1) },
        ]
        for request in requests {
            var (world, handle) = try direct()
            let change = world.directChange
            _ = try world.ask(request(world, handle)).get()
            #expect(Self.recalls(world) == [0])
            let commits = world.effects.compactMap { effect -> Transaction? in
                if case .commit(let transaction, _) = effect { transaction } else { nil }
            }
            #expect(commits.first?.purpose == .recalled && commits.first?.state.change == change)
            #expect(commits.first?.steps.map(\.operation.data.count) == [30])
            #expect(commits.dropFirst().allSatisfy { $0.state.change == change + 1 })
            world.effects = []
            _ = try world.ask(.status(handle)).get()
            #expect(Self.recalls(world) == nil, "nothing is direct any more")
        }
    }

    @Test("Nobody writes between the comparison and the write")
    func compare() throws {
        var (world, handle) = try direct()
        let change = world.directChange
        let update = [world.operation(.overwrite, "b", count: 1)]
        #expect(world.error(world.ask(.updateIf(change: change - 1, handle, update))) == .badOperation)
        #expect(Self.recalls(world) == [0])
        #expect(world.error(world.ask(.updateIf(change: change, handle, update))) == nil)
    }

    @Test("A direct section has room only within the checkpoint's size, and gives it back when another needs it")
    func room() throws {
        var (world, handle) = try Self.world(Self.attributes(size: 600))
        _ = try write(&world, handle)
        guard case .grant(_, _, let limit, isTold: false)? = world.effects.last else {
            Issue.record("not granted")
            return
        }
        #expect(limit == 512)
        world.direct[0] = DirectSight(slot: 0, size: 30, lastUpdate: 99, change: 3)
        _ = try write(&world, handle, "b", count: 500)
        #expect(
            world.effects.contains {
                if case .look(_, recalling: [0], _) = $0 { true } else { false }
            })
        #expect(world.error(world.ask(.update(handle, [world.operation(.create, "c", count: 200)]))) == .noSpace)
    }

    @Test("A section that is recalled all the time is left alone for longer each time; one that is worth it is not")
    func patience() throws {
        var (world, handle) = try Self.world()
        var writes: [Int] = []
        for _ in 0..<8 {
            var count = 0
            repeat {
                _ = try write(&world, handle)
                count += 1
            } while Self.grants(world).isEmpty && count < 100
            writes.append(count)
            world.direct[0] = DirectSight(slot: 0, size: 10, lastUpdate: 9, change: world.directChange)
            _ = try world.ask(.snapshot(handle)).get()
        }
        #expect(writes == [1, 2, 4, 8, 16, 32, 64, 64])
        for _ in 0..<64 { _ = try write(&world, handle) }
        #expect(Self.grants(world) == [0])
        world.directChange += 10_000
        world.direct[0] = DirectSight(slot: 0, size: 10, lastUpdate: 9, change: world.directChange)
        _ = try world.ask(.snapshot(handle)).get()
        _ = try write(&world, handle)
        #expect(Self.grants(world) == [0])
    }

    @Test("No room to bring it back: the request is refused, and nothing is lost")
    func noRoom() throws {
        var (world, handle) = try direct()
        world.outcome = .noSpace("full")
        #expect(world.error(world.ask(.read(handle, [.init(id: "a")]))) == .noSpace)
        world.outcome = .done
        world.direct[0] = DirectSight(slot: 0, size: 30, lastUpdate: 99)
        guard case .data(_, _, let parts) = try world.ask(.read(handle, [.init(id: "a")])).get() else {
            throw AisError.library
        }
        #expect(parts.map(\.count) == [30])
    }

    @Test("What cannot be granted, or has become nonsense, is CORRUPTED or as before, never worse")
    func corrupted() throws {
        var (world, handle) = try direct()
        world.direct[0] = DirectSight(slot: 0, isRecalled: true, isCorrupted: true)
        #expect(world.error(world.ask(.read(handle, [.init(id: "a")]))) == .library)
        _ = try write(&world, handle)
        #expect(try world.ask(.read(handle, [.init(id: "a")])).get() != .done)
    }

    @Test(
        "Who lives but has been closed, for nothing was heard of it, cannot publish any more; who is dead cannot anyway"
    )
    func absence() throws {
        for isDead in [false, true] {
            var (world, handle) = try direct()
            world.feed(.disconnected(EngineWorld.client, isDead: isDead))
            if !isDead {
                #expect(
                    !world.effects.contains { if case .stopDirect = $0 { true } else { false } }, "it may come back")
                world.feed(.timerFired(.absence(EngineWorld.client), time: world.time))
            }
            #expect(world.engine.handles[handle] == nil)
            #expect(world.effects.contains { if case .stopDirect = $0 { true } else { false } } == !isDead)
        }
    }
}
