import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes
import Testing

/// A client of an engine whose store always says yes, or what a test tells it to.
struct EngineWorld {
    var engine: CkptEngine
    var now = Instant(nanoseconds: 1_000_000_000)
    var time: SaTime = 1_700_000_000_000_000_000
    var outcome = CommitOutcome.done
    var number: UInt64 = 0
    /// What is stored: the files as a restart would find them.
    var timers: [CkptTimer: Instant] = [:]
    var effects: [CkptEffect] = []
    /// What direct sections have become, by their slots, and the number of the last direct write.
    var direct: [Int: DirectSight] = [:]
    var directChange: UInt64 = 0

    private mutating func look(_ id: CheckpointID, _ recalled: [Int], reserves: Bool) -> CkptEvent {
        var sights = direct.values.sorted { $0.slot < $1.slot }
        for index in sights.indices where recalled.contains(sights[index].slot) {
            sights[index].isRecalled = true
            sights[index].data = PayloadSlice(offset: 0, count: sights[index].size)
            direct[sights[index].slot] = nil
        }
        defer { if reserves { directChange += 1 } }
        return .looked(id, sights, change: directChange)
    }

    /// As the store does with sections whose writes others are told: `direct` is what was written since.
    private mutating func tell(_ id: CheckpointID, _ recalled: [Int], mayRest: Bool) -> CkptEvent {
        var sights: [DirectSight] = []
        for slot in Set(direct.keys).union(recalled).sorted() {
            var sight = direct[slot] ?? DirectSight(slot: slot)
            sight.isRecalled = sight.isRecalled || recalled.contains(slot)
            sights.append(sight)
        }
        if outcome == .done { direct = [:] }
        return .telling(id, sights, isResting: mayRest ? sights.isEmpty : true)
    }

    static let client = ClientSession(high: 1, low: 1)
    static let other = ClientSession(high: 2, low: 2)
    static let name = SaName("safCkpt=x")!

    init(limits: CkptLimits = .init(), incarnation: UInt64 = 7) {
        engine = CkptEngine(limits: limits, incarnation: incarnation)
        engine.checksDeeply = true
    }

    /// Feeds an event and the store's answers; keeps all effects.
    mutating func feed(_ event: CkptEvent) {
        effects = []
        var queue = [event]
        while !queue.isEmpty {
            let produced = engine.handle(queue.removeFirst(), at: now)
            effects += produced
            for effect in produced {
                switch effect {
                case .create, .commit, .grant: queue.append(.settled(outcome))
                case .look(let id, let recalled, let reserves):
                    queue.append(look(id, recalled, reserves: reserves))
                case .tell(let id, let recalled, let mayRest): queue.append(tell(id, recalled, mayRest: mayRest))
                case .startTimer(let timer, let at): timers[timer] = at
                case .cancelTimer(let timer): timers[timer] = nil
                default: break
                }
            }
        }
    }

    static func process(_ session: ClientSession) -> ProcessIdentity {
        ProcessIdentity(id: UInt32(session.low), start: 5)
    }

    mutating func ask(
        _ request: CkptRequest, from session: ClientSession = client, user: UInt32? = 0,
        repeating earlier: UInt64? = nil
    ) -> Result<CkptAnswer, AisError> {
        if earlier == nil { number += 1 }
        let identity = RequestIdentity(session: session, number: earlier ?? number)
        feed(
            .request(
                request,
                RequestOrigin(
                    identity: identity, process: Self.process(session), user: user, isRetransmission: earlier != nil,
                    isAdministrator: true),
                time: time))
        var answers: [Result<CkptAnswer, AisError>] = []
        for effect in effects {
            if case .reply(identity, let answer) = effect { answers.append(.success(answer)) }
            if case .refuse(identity, let error, _) = effect { answers.append(.failure(error)) }
        }
        #expect(answers.count == 1, "every request is answered once")
        return answers[0]
    }

    mutating func open(
        _ flags: OpenFlags = [.read, .write], _ attributes: CreationAttributes? = nil,
        from session: ClientSession = client,
        name: SaName = name
    ) throws -> HandleID {
        let all = attributes == nil ? flags : flags.union(.create)
        guard case .opened(let reply) = try ask(.open(name, flags: all, attributes: attributes), from: session).get()
        else {
            throw AisError.library
        }
        return reply.handle
    }

    func error(_ result: Result<CkptAnswer, AisError>) -> AisError? {
        if case .failure(let error) = result { return error }
        return nil
    }

    static func attributes(
        _ flags: CreationFlags = .writeAllReplicas, sections: UInt32 = 4, retention: SaTime = 1_000_000_000
    ) -> CreationAttributes {
        CreationAttributes(
            flags: flags, checkpointSize: 300, retentionDuration: retention, sectionsMax: sections, sectionSizeMax: 100,
            sectionIDSizeMax: 8)
    }

    func operation(
        _ kind: SectionOperation.Kind, _ id: SectionID, at offset: UInt64 = 0, count: Int = 0, expires: SaTime? = nil
    ) -> SectionOperation {
        let expiration = expires ?? (kind == .create ? .saTimeEnd : 0)
        return SectionOperation(
            kind: kind, id: id, offset: offset, expiration: expiration, data: .init(offset: 0, count: count))
    }
}

@Suite("Checkpoint engine")
struct EngineTests {
    @Test("A1.4 Open: every error of the table")
    func openErrors() throws {
        var world = EngineWorld(limits: .tiny)
        func open(_ flags: OpenFlags, _ attributes: CreationAttributes?, _ name: String = "safCkpt=x") -> AisError? {
            world.error(world.ask(.open(SaName(name)!, flags: flags, attributes: attributes)))
        }
        let sound = EngineWorld.attributes()
        #expect(open([], nil) == .badFlags)
        #expect(open(OpenFlags(rawValue: 8), nil) == .badFlags)
        #expect(open(.read, sound) == .invalidParam)
        #expect(open(.create, nil) == .invalidParam)
        #expect(open(.read, nil) == .notExist)
        for flags: UInt32 in [0, 3, 8, 16, 15, 33] {
            #expect(open(.create, EngineWorld.attributes(CreationFlags(rawValue: flags))) == .invalidParam)
        }
        var wrong = sound
        wrong.checkpointSize = 401
        #expect(open(.create, wrong) == .invalidParam)
        wrong = sound
        wrong.retentionDuration = -1
        #expect(open(.create, wrong) == .invalidParam)
        wrong = sound
        wrong.sectionsMax = 0
        wrong.checkpointSize = 0
        #expect(open(.create, wrong) == .invalidParam)
        #expect(open(.create, sound) == nil, "CREATE alone is legal")
        #expect(open([.create, .read], sound) == nil, "the same attributes again are legal")
        var other = sound
        other.retentionDuration = 77
        #expect(open([.create, .read], other) == nil, "the retention duration is not compared")
        #expect(open(.read, nil) == .noResources, "three opens in one process")
        other.sectionsMax = 3
        other.checkpointSize = 300
        let tooMany = world.ask(.open(EngineWorld.name, flags: [.create], attributes: other), from: EngineWorld.other)
        #expect(world.error(tooMany) == .exist)
        world.outcome = .noSpace("full")
        #expect(
            world.error(world.ask(.open(SaName("y")!, flags: .create, attributes: sound), from: EngineWorld.other))
                == .noSpace)
        world.outcome = .done
        #expect(
            world.error(world.ask(.open(SaName("y")!, flags: .read, attributes: nil), from: EngineWorld.other))
                == .notExist)
    }

    @Test("A1.4 sections: every error of the table")
    func sectionErrors() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        let reader = try world.open(.read, from: EngineWorld.other)
        func update(_ operations: SectionOperation...) -> AisError? {
            world.error(world.ask(.update(handle, operations)))
        }
        let stranger = world.ask(.update(handle, [world.operation(.create, "a")]), from: EngineWorld.other)
        #expect(world.error(stranger) == .badHandle, "a handle is its process's own")
        #expect(
            world.error(world.ask(.update(reader, [world.operation(.create, "a")]), from: EngineWorld.other)) == .access
        )
        #expect(update() == .invalidParam)
        #expect(update(world.operation(.create, "a", count: 100)) == nil)
        #expect(update(world.operation(.create, "a")) == .exist)
        #expect(update(world.operation(.create, "123456789")) == .invalidParam, "id too long")
        #expect(update(world.operation(.create, "b", count: 101)) == .invalidParam)
        #expect(update(world.operation(.create, "b", expires: world.time)) == .invalidParam, "time is over")
        #expect(update(world.operation(.write, "a", at: 1, count: 100)) == .invalidParam)
        #expect(update(world.operation(.write, "a", at: .max, count: 1)) == .invalidParam)
        #expect(update(world.operation(.write, "z", count: 1)) == .notExist)
        #expect(update(world.operation(.overwrite, "z", count: 1)) == .notExist)
        #expect(update(world.operation(.overwrite, "a", count: 101)) == .invalidParam)
        #expect(update(world.operation(.delete, "z")) == .notExist)
        #expect(update(world.operation(.setExpiration, "z", expires: .saTimeEnd)) == .notExist)
        #expect(update(world.operation(.expire, "a")) == .invalidParam)
        #expect(update(world.operation(.create, "b", count: 100), world.operation(.create, "c", count: 100)) == nil)
        #expect(update(world.operation(.create, "d", count: 1)) == .noSpace, "checkpointSize is 300")
        #expect(update(world.operation(.create, "d")) == nil)
        #expect(update(world.operation(.create, "e")) == .noSpace, "maxSections is 4")
        #expect(
            update(world.operation(.delete, "d"), world.operation(.create, "e")) == nil, "each sees those before it")
        #expect(
            update(world.operation(.overwrite, "a", count: 9), world.operation(.write, "zz", count: 1)) == .notExist)
        #expect(world.error(world.ask(.read(handle, []))) == .invalidParam)
        #expect(world.error(world.ask(.read(handle, [ReadRange(id: "a", offset: 101)]))) == .invalidParam)
        #expect(world.error(world.ask(.read(handle, [ReadRange(id: "nope")]))) == .notExist)
        let whole = try world.ask(.read(reader, [ReadRange(id: "a", offset: 90)]), from: EngineWorld.other).get()
        guard case .data(_, _, let parts) = whole else { throw AisError.library }
        #expect(parts.map(\.count) == [10], "the failed batch changed nothing; the count is cut")
        let writeOnly = try world.open(.write)
        #expect(world.error(world.ask(.read(writeOnly, [ReadRange(id: "a")]))) == .access)
        #expect(world.error(world.ask(.snapshot(writeOnly))) == .access)
        #expect(world.error(world.ask(.subscribe(writeOnly, after: nil))) == .access)
        #expect(world.error(world.ask(.status(writeOnly))) == nil)
    }

    @Test("A1.2: the single section is the default section")
    func defaultSection() throws {
        var world = EngineWorld()
        var attributes = EngineWorld.attributes(sections: 1)
        attributes.checkpointSize = 100
        let handle = try world.open([.read, .write], attributes)
        func update(_ operation: SectionOperation) -> AisError? { world.error(world.ask(.update(handle, [operation]))) }
        #expect(update(world.operation(.write, .defaultSection, at: 3, count: 5)) == nil)
        #expect(update(world.operation(.create, "a")) == .exist)
        #expect(update(world.operation(.create, .defaultSection)) == .exist)
        #expect(update(world.operation(.delete, .defaultSection)) == .invalidParam)
        #expect(update(world.operation(.setExpiration, .defaultSection, expires: world.time + 5)) == .invalidParam)
    }

    @Test("A1.4: retention, unlink, synchronise, active replica")
    func checkpointOperations() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        #expect(world.error(world.ask(.setRetention(handle, -1))) == .invalidParam)
        #expect(world.error(world.ask(.setRetention(handle, 0))) == nil)
        #expect(world.error(world.ask(.synchronize(handle))) == .badOperation)
        #expect(world.error(world.ask(.setActiveReplica(handle))) == .badOperation)
        #expect(world.error(world.ask(.unlink(EngineWorld.name))) == nil)
        #expect(world.error(world.ask(.unlink(EngineWorld.name))) == .notExist)
        #expect(world.error(world.ask(.setRetention(handle, 5))) == .badOperation)
        #expect(world.error(world.ask(.status(handle))) == nil, "who has it open keeps it")
        let name = SaName("collocated")!
        let attributes = EngineWorld.attributes([.writeActiveReplica, .collocated])
        let active = try world.open([.read, .write], attributes, name: name)
        let reader = try world.open(.read, name: name)
        for request: CkptRequest in [
            .update(active, [world.operation(.create, "a")]), .read(active, [ReadRange(id: "a")]), .status(active),
            .list(active, after: 0, limit: 5, chosen: .any, time: 0), .synchronize(active),
        ] { #expect(world.error(world.ask(request)) == .notExist, "no active replica: \(request)") }
        #expect(world.error(world.ask(.setActiveReplica(reader))) == .access)
        #expect(world.error(world.ask(.setActiveReplica(active))) == nil)
        #expect(world.error(world.ask(.synchronize(active))) == nil)
        #expect(world.error(world.ask(.synchronize(reader))) == .access)
        #expect(world.error(world.ask(.close(active))) == nil)
        #expect(world.error(world.ask(.close(active))) == .badHandle)
    }

    @Test("A1.2: retention starts with the last close, an open ends it, its end deletes")
    func retention() throws {
        var world = EngineWorld()
        let first = try world.open([.read, .write], EngineWorld.attributes())
        let second = try world.open(.read, from: EngineWorld.other)
        _ = world.ask(.close(first))
        #expect(world.timers.keys.contains { if case .retention = $0 { true } else { false } } == false)
        _ = world.ask(.close(second), from: EngineWorld.other)
        let timer = try #require(world.timers.first { if case .retention = $0.key { true } else { false } })
        #expect(timer.value == world.now + .seconds(1))
        _ = try world.open(.read)
        #expect(world.timers[timer.key] == nil)
        world.feed(.disconnected(EngineWorld.client, isDead: true))
        #expect(world.timers[timer.key] != nil, "a dead process has closed")
        world.now = world.now + .seconds(2)
        world.feed(.timerFired(timer.key, time: world.time))
        #expect(world.effects.contains { if case .remove = $0 { true } else { false } })
        #expect(world.error(world.ask(.open(EngineWorld.name, flags: .read, attributes: nil))) == .notExist)
    }

    @Test("A1.2: retention 0 ends with the last close, unlinked too; END never does")
    func retentionEdges() throws {
        for (duration, isKept) in [(SaTime(0), false), (.saTimeEnd, true)] {
            var world = EngineWorld()
            let handle = try world.open(.write, EngineWorld.attributes(retention: duration))
            _ = world.ask(.close(handle))
            #expect(world.timers.isEmpty)
            #expect((world.error(world.ask(.open(EngineWorld.name, flags: .read, attributes: nil))) == nil) == isKept)
        }
        var world = EngineWorld()
        let handle = try world.open(.write, EngineWorld.attributes(retention: .saTimeEnd))
        _ = world.ask(.unlink(EngineWorld.name))
        let fresh = try world.open(.write, EngineWorld.attributes(.writeActiveReplica), from: EngineWorld.other)
        _ = world.ask(.close(handle))
        #expect(world.effects.contains { if case .remove = $0 { true } else { false } })
        #expect(world.error(world.ask(.status(fresh), from: EngineWorld.other)) == nil, "the new one is another")
    }

    @Test("A1.2: an expired section is gone for everybody, timer or not")
    func expiration() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        let soon = world.time + 1_000_000
        _ = world.ask(
            .update(handle, [world.operation(.create, "a", count: 10, expires: soon), world.operation(.create, "b")]))
        let timer = try #require(world.timers.first { if case .expiration = $0.key { true } else { false } })
        #expect(timer.value == world.now + .milliseconds(1))
        world.time = soon
        #expect(world.error(world.ask(.read(handle, [ReadRange(id: "a")]))) == .notExist)
        #expect(world.error(world.ask(.update(handle, [world.operation(.write, "a", count: 1)]))) == .notExist)
        guard case .list(let list) = try world.ask(.list(handle, after: 0, limit: 9, chosen: .any, time: 0)).get()
        else { return }
        #expect(list.sections.map(\.id) == ["b"])
        #expect(
            world.error(world.ask(.update(handle, [world.operation(.create, "a", count: 5)]))) == nil, "the id is free")
        #expect(world.timers[timer.key] == nil)
        _ = world.ask(.update(handle, [world.operation(.setExpiration, "b", expires: soon + 9)]))
        world.time += 10
        world.feed(.timerFired(timer.key, time: world.time))
        #expect(
            world.effects.contains {
                if case .commit(let step, true) = $0 { step.steps.map(\.operation.kind) == [.expire] } else { false }
            })
        #expect(world.effects.contains { if case .publish = $0 { true } else { false } }, "subscribers hear of it")
    }

    @Test("A1.4 iteration: what exists throughout is returned exactly once", arguments: 0..<20 as Range<UInt64>)
    func iteration(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var world = EngineWorld()
        var attributes = EngineWorld.attributes(sections: 1_000)
        attributes.sectionIDSizeMax = 100
        let handle = try world.open([.read, .write], attributes)
        var alive: [SectionID] = []
        func create() {
            guard
                case .success(.updated(let reply)) = world.ask(
                    .update(handle, [world.operation(.create, .defaultSection)]))
            else { return }
            alive += reply.generated
        }
        for _ in 0..<60 { create() }
        var stable = Set(alive)
        var seen: [SectionID] = []
        var after: UInt64 = 0
        while true {
            guard
                case .list(let page) = try world.ask(.list(handle, after: after, limit: 7, chosen: .any, time: 0)).get()
            else { return }
            seen += page.sections.map(\.id)
            guard page.hasMore, let last = page.sections.last else { break }
            after = last.serial
            for _ in 0..<4 {
                if random.chance(percent: 50) {
                    create()
                } else {
                    let victim = alive.remove(at: Int.random(in: 0..<alive.count, using: &random))
                    stable.remove(victim)
                    _ = world.ask(.update(handle, [world.operation(.delete, victim)]))
                }
            }
        }
        #expect(Set(seen).count == seen.count && stable.isSubset(of: seen), "seed \(seed)")
    }

    @Test("Iteration by expiration time and state")
    func chosen() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        let t = world.time + 1_000
        _ = world.ask(
            .update(
                handle,
                [
                    world.operation(.create, "a"), world.operation(.create, "b", expires: t),
                    world.operation(.create, "c", expires: t + 5),
                ]))
        func ids(_ chosen: SectionsChosen, _ time: SaTime) -> [SectionID] {
            guard
                case .success(.list(let list)) = world.ask(
                    .list(handle, after: 0, limit: 9, chosen: chosen, time: time))
            else { return [] }
            return list.sections.map(\.id)
        }
        #expect(ids(.forever, 0) == ["a"])
        #expect(ids(.expiringAtOrBefore, t) == ["b"])
        #expect(ids(.expiringAtOrAfter, t + 5) == ["a", "c"])
        #expect(ids(.corrupted, 0).isEmpty)
        guard case .success(.opened(let reply)) = world.ask(.open(EngineWorld.name, flags: .read, attributes: nil))
        else { return }
        world.feed(.damaged(reply.checkpoint, slot: 0))
        #expect(ids(.corrupted, 0) == ["a"])
        #expect(world.error(world.ask(.read(handle, [ReadRange(id: "a")]))) == .library)
        #expect(world.error(world.ask(.update(handle, [world.operation(.write, "a", count: 1)]))) == .library)
        #expect(world.error(world.ask(.update(handle, [world.operation(.overwrite, "a", count: 1)]))) == nil)
        #expect(ids(.corrupted, 0).isEmpty, "an overwrite repairs")
    }

    @Test("A retransmission is answered, not executed again")
    func atMostOnce() throws {
        var world = EngineWorld()
        let first = try world.ask(
            .open(EngineWorld.name, flags: [.write, .create], attributes: EngineWorld.attributes())
        ).get()
        #expect(
            try world.ask(
                .open(EngineWorld.name, flags: [.write, .create], attributes: EngineWorld.attributes()), repeating: 1
            ).get() == first)
        guard case .opened(let opened) = first else { return }
        let create = CkptRequest.update(
            opened.handle, [world.operation(.create, .defaultSection), world.operation(.create, .defaultSection)])
        let answer = try world.ask(create).get()
        let number = world.number
        _ = world.ask(.update(opened.handle, [world.operation(.create, "x")]))
        #expect(try world.ask(create, repeating: number).get() == answer)
        #expect(!world.effects.contains { if case .commit = $0 { true } else { false } })
        _ = try world.open(.read, from: EngineWorld.other)
        _ = world.ask(.close(opened.handle))
        #expect(try world.ask(.close(opened.handle), repeating: world.number).get() == .done)
        _ = world.ask(.unlink(EngineWorld.name))
        let unlink = world.number
        _ = try world.open(.write, EngineWorld.attributes())
        #expect(try world.ask(.unlink(EngineWorld.name), repeating: unlink).get() == .done)
        #expect(
            world.error(world.ask(.open(EngineWorld.name, flags: .read, attributes: nil))) == nil, "the new one stays")
    }

    @Test("After a restart openers may come back; who does not is closed")
    func restart() throws {
        func restored(_ id: UInt64) -> RestoredCheckpoint {
            var state = Transaction.State(change: 9, retentionDuration: 1_000_000_000, nextSerial: 5)
            state.hasActiveReplica = true
            let handle = HandleID(rawValue: id - 1)
            return RestoredCheckpoint(
                checkpoint: CheckpointID(rawValue: id), name: EngineWorld.name, attributes: EngineWorld.attributes(),
                state: state,
                sections: [],
                openers: [
                    .init(
                        slot: 1,
                        record: OpenerRecord(
                            session: EngineWorld.client, handle: handle, openNumber: 3, processID: 1, processStart: 5,
                            flags: [.read, .write]), executed: [.init(number: 41, change: 9)])
                ])
        }
        var world = EngineWorld(incarnation: 8)
        world.feed(.restored(restored(100)))
        #expect(world.engine.absentSessions.map(\.session) == [EngineWorld.client])
        #expect(world.engine.unseenProcess(of: EngineWorld.client) == ProcessIdentity(id: 1, start: 5))
        let absence = try #require(world.timers[.absence(EngineWorld.client)])
        #expect(absence == world.now + CkptLimits().absenceMax)
        world.feed(.connected(EngineWorld.client, EngineWorld.process(EngineWorld.client)))
        #expect(world.timers.isEmpty && world.engine.unseenProcess(of: EngineWorld.client) == nil)
        let update = CkptRequest.update(HandleID(rawValue: 99), [world.operation(.create, "new")])
        #expect(try world.ask(update, repeating: 41).get() == .updated(UpdateReply(change: 9)))
        #expect(try world.ask(update).get() == .updated(UpdateReply(change: 10)))
        var late = EngineWorld(incarnation: 8)
        late.feed(.restored(restored(100)))
        late.feed(.timerFired(.absence(EngineWorld.client), time: late.time))
        #expect(late.timers.keys.contains(.retention(CheckpointID(rawValue: 100))))
        #expect(late.error(late.ask(.status(HandleID(rawValue: 99)))) == .badHandle)
        late.feed(.restored(restored(100)))
        #expect(late.effects.contains { if case .setAside = $0 { true } else { false } }, "one id, two files")
        late.feed(.restored(restored(.max)))
        #expect(late.effects.contains { if case .setAside = $0 { true } else { false } }, "an id nobody has given")
    }

    @Test("No order of requests, deaths, refusals and timers breaks an invariant", arguments: 0..<150 as Range<UInt64>)
    func anyOrder(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var world = EngineWorld(limits: .tiny)
        var handles: [(HandleID, ClientSession)] = []
        let names = ["a", "b", "c", "d"].map { SaName($0)! }
        let sessions = [EngineWorld.client, EngineWorld.other, ClientSession(high: 3, low: 3)]
        for _ in 0..<300 {
            let session = sessions.randomElement(using: &random)!
            let name = names.randomElement(using: &random)!
            world.outcome = random.chance(percent: 10) ? .noSpace("full") : .done
            let (handle, owner) = handles.randomElement(using: &random) ?? (HandleID(rawValue: 1), session)
            let id = SectionID(["s", "t", "u"].randomElement(using: &random)!)
            switch Int.random(in: 0..<12, using: &random) {
            case 0, 1, 2:
                let retention = [0, 5_000, SaTime.saTimeEnd].randomElement(using: &random)!
                let attributes = random.chance(percent: 70) ? EngineWorld.attributes(retention: retention) : nil
                let flags: OpenFlags = attributes == nil ? [.read, .write] : [.read, .write, .create]
                let answer = world.ask(.open(name, flags: flags, attributes: attributes), from: session)
                if case .success(.opened(let reply)) = answer { handles.append((reply.handle, session)) }
            case 3: _ = world.ask(.close(handle), from: owner)
            case 4: _ = world.ask(.unlink(name), from: session)
            case 5: world.feed(.disconnected(session, isDead: random.chance(percent: 50)))
            case 6: world.feed(.connected(session, EngineWorld.process(session)))
            case 7:
                if let timer = world.timers.min(by: { $0.value < $1.value }) {
                    world.timers[timer.key] = nil
                    world.now = max(world.now, timer.value)
                    world.time += 2_000
                    world.feed(.timerFired(timer.key, time: world.time))
                }
            case 8: _ = world.ask(.setRetention(handle, 3_000), from: owner)
            case 9:
                _ = world.ask(
                    .update(handle, [world.operation(.create, id, count: 50, expires: world.time + 3_000)]), from: owner
                )
            default:
                let kinds: [SectionOperation.Kind] = [.create, .write, .overwrite, .delete]
                let operations = (0..<2).map { _ in world.operation(kinds.randomElement(using: &random)!, id, count: 0)
                }
                _ = world.ask(.update(handle, operations), from: owner)
            }
        }
    }
}
