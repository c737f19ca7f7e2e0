import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes
import Testing

/// Rules of `SAI-AIS-CKPT` A1.1 to A1.5 that are not about several nodes, one test for each rule.
@Suite("AIS checkpoint semantics")
struct SemanticsTests {
    private func update(
        _ world: inout EngineWorld, _ handle: HandleID, _ operations: SectionOperation..., repeating: UInt64? = nil
    ) -> Result<UpdateReply, AisError> {
        switch world.ask(.update(handle, operations), repeating: repeating) {
        case .success(.updated(let reply)): .success(reply)
        case .success: .failure(.library)
        case .failure(let error): .failure(error)
        }
    }

    private func error<Value>(_ result: Result<Value, AisError>) -> AisError? {
        if case .failure(let error) = result { return error }
        return nil
    }

    private func sizes(_ world: inout EngineWorld, _ handle: HandleID) -> [SectionID: UInt64] {
        guard
            case .success(.list(let list)) = world.ask(.list(handle, after: 0, limit: 99, chosen: .any, time: 0))
        else { return [:] }
        return Dictionary(uniqueKeysWithValues: list.sections.map { ($0.id, $0.size) })
    }

    // MARK: A1.1 and A1.2: sizes

    @Test("A1.1 checkpointSize holds for every way in which sections grow, and for nothing that shrinks them")
    func checkpointSize() throws {
        var world = EngineWorld()
        var attributes = EngineWorld.attributes(sections: 8)
        attributes.checkpointSize = 150
        let handle = try world.open([.read, .write], attributes)
        #expect(error(update(&world, handle, world.operation(.create, "a", count: 100))) == nil)
        #expect(error(update(&world, handle, world.operation(.create, "b", count: 50))) == nil, "exactly full")
        let growing = [
            world.operation(.create, "c", count: 1), world.operation(.put, "c", count: 1, expires: .saTimeEnd),
            world.operation(.overwrite, "b", count: 51), world.operation(.write, "b", at: 50, count: 1),
            world.operation(.write, "b", at: 60, count: 1), world.operation(.put, "b", count: 51, expires: .saTimeEnd),
        ]
        for operation in growing {
            #expect(error(update(&world, handle, operation)) == .noSpace, "\(operation)")
        }
        #expect(sizes(&world, handle) == ["a": 100, "b": 50], "nothing of what was refused was done")
        _ = update(
            &world, handle, world.operation(.overwrite, "a", count: 99), world.operation(.create, "c", count: 1),
            world.operation(.write, "b", at: 50, count: 1), world.operation(.setExpiration, "b", expires: .saTimeEnd))
        for case .refuse(_, _, let text) in world.effects {
            #expect(
                CkptRefusal.operationIndex(in: Array(text.utf8)) == 2,
                "the first element from which on there is too much")
        }
        #expect(error(update(&world, handle, world.operation(.create, "empty"))) == nil, "no data needs no room")
        #expect(error(update(&world, handle, world.operation(.write, "a", at: 0, count: 100))) == nil, "in place")
        let swap = update(
            &world, handle, world.operation(.overwrite, "b", count: 100), world.operation(.overwrite, "a", count: 50))
        #expect(error(swap) == nil, "a batch counts as a whole")
        #expect(error(update(&world, handle, world.operation(.overwrite, "b", count: 10))) == nil)
        #expect(error(update(&world, handle, world.operation(.delete, "a"))) == nil)
        #expect(error(update(&world, handle, world.operation(.create, "c", count: 100))) == nil)
    }

    @Test("A1.1 maxSectionSize, maxSections and maxSectionIdSize hold to the byte")
    func limits() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes(sections: 3))
        #expect(error(update(&world, handle, world.operation(.create, "12345678", count: 100))) == nil)
        #expect(
            error(update(&world, handle, world.operation(.write, "12345678", at: 100))) == nil, "nothing at the end")
        #expect(error(update(&world, handle, world.operation(.write, "12345678", at: 101))) == .invalidParam)
        #expect(error(update(&world, handle, world.operation(.write, "12345678", at: 0, count: 101))) == .invalidParam)
        #expect(error(update(&world, handle, world.operation(.create, "123456789"))) == .invalidParam)
        #expect(error(update(&world, handle, world.operation(.create, "b"), world.operation(.create, "c"))) == nil)
        #expect(error(update(&world, handle, world.operation(.create, "d"))) == .noSpace)
        #expect(error(update(&world, handle, world.operation(.put, "d", expires: .saTimeEnd))) == .noSpace)
    }

    @Test("A1.2 a write of nothing changes no size, also behind the end; a gap counts")
    func growth() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        _ = update(&world, handle, world.operation(.create, "a", count: 3))
        _ = update(&world, handle, world.operation(.write, "a", at: 50))
        #expect(sizes(&world, handle) == ["a": 3])
        _ = update(&world, handle, world.operation(.write, "a", at: 50, count: 2))
        #expect(sizes(&world, handle) == ["a": 52])
        _ = update(&world, handle, world.operation(.write, "a", at: 0, count: 2))
        #expect(sizes(&world, handle) == ["a": 52], "inside of the section nothing grows")
        _ = update(&world, handle, world.operation(.overwrite, "a", count: 1))
        #expect(sizes(&world, handle) == ["a": 1])
    }

    // MARK: A1.2: ids that are generated

    @Test("A1.2 a section without an id gets one that fits and that nobody has; without room it is refused")
    func generatedIDs() throws {
        for (sizeMax, expected) in [(UInt64(64), "generated-1"), (8, "\u{1}"), (1, "\u{1}")] {
            var world = EngineWorld()
            var attributes = EngineWorld.attributes(sections: 9)
            attributes.sectionIDSizeMax = sizeMax
            let handle = try world.open([.read, .write], attributes)
            let reply = try update(&world, handle, world.operation(.create, .defaultSection, count: 1)).get()
            #expect(reply.generated == [SectionID(expected)])
            let two = update(
                &world, handle, world.operation(.create, .defaultSection), world.operation(.create, .defaultSection))
            if sizeMax == 1 {
                #expect(error(two) == .invalidParam, "change 2, item 1 takes two bytes")
            } else {
                let ids = try two.get().generated
                #expect(Set(ids).count == 2 && ids.allSatisfy { $0.bytes.count <= Int(sizeMax) })
            }
        }
    }

    @Test("A generated id avoids one that exists, and a retransmission is answered with the one that was given")
    func generatedIDsCollide() throws {
        var world = EngineWorld()
        var attributes = EngineWorld.attributes(sections: 9)
        attributes.sectionIDSizeMax = 64
        let handle = try world.open([.read, .write], attributes)
        _ = update(&world, handle, world.operation(.create, "generated-2"))
        let reply = try update(&world, handle, world.operation(.create, .defaultSection)).get()
        let number = world.number
        #expect(reply.generated != ["generated-2"])
        _ = update(&world, handle, world.operation(.create, "other"))
        let again = try update(&world, handle, world.operation(.create, .defaultSection), repeating: number).get()
        #expect(again == reply)
    }

    // MARK: A1.2: expiration

    @Test("A1.2 expiration is a time of day: it follows the clock when that is set forward and back")
    func clockSet() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        let hour: SaTime = 3_600_000_000_000
        let due = world.time + hour / 2
        _ = update(&world, handle, world.operation(.create, "a", count: 1, expires: due))
        let timer = try #require(world.timers.first { if case .expiration = $0.key { true } else { false } })
        #expect(timer.value == world.now + .seconds(1_800))
        world.time -= 24 * hour
        world.feed(.clockSet(time: world.time))
        #expect(
            world.timers[timer.key] == world.now + CkptLimits().clockCheck, "a day later than it was; looked at hourly")
        #expect(sizes(&world, handle) == ["a": 1])
        world.feed(.timerFired(timer.key, time: world.time))
        #expect(sizes(&world, handle) == ["a": 1], "not due")
        world.time = due
        world.feed(.clockSet(time: world.time))
        #expect(world.timers[timer.key] == world.now, "due at once")
        #expect(sizes(&world, handle).isEmpty, "gone for every request, before any timer")
        world.feed(.timerFired(timer.key, time: world.time))
        #expect(world.effects.contains { if case .publish = $0 { true } else { false } }, "followers hear of the end")
    }

    @Test("A1.2 an expired section gives back its room, its place and its id")
    func expiredRoom() throws {
        var world = EngineWorld()
        var attributes = EngineWorld.attributes(sections: 2)
        attributes.checkpointSize = 100
        let handle = try world.open([.read, .write], attributes)
        _ = update(&world, handle, world.operation(.create, "a", count: 100, expires: world.time + 5))
        _ = update(&world, handle, world.operation(.create, "b"))
        #expect(error(update(&world, handle, world.operation(.write, "b", at: 0, count: 1))) == .noSpace)
        world.time += 5
        #expect(error(update(&world, handle, world.operation(.write, "a", at: 0, count: 1))) == .notExist)
        #expect(error(update(&world, handle, world.operation(.setExpiration, "a", expires: .saTimeEnd))) == .notExist)
        #expect(error(update(&world, handle, world.operation(.delete, "a"))) == .notExist)
        #expect(world.error(world.ask(.section(handle, "a"))) == .notExist)
        #expect(world.error(world.ask(.read(handle, [ReadRange(id: "a")]))) == .notExist)
        #expect(error(update(&world, handle, world.operation(.create, "a", count: 100))) == nil)
    }

    @Test("A1.4 an expiration time that is over ends the section at once; END keeps it for ever")
    func setExpiration() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        _ = update(&world, handle, world.operation(.create, "a"), world.operation(.create, "b"))
        #expect(error(update(&world, handle, world.operation(.setExpiration, "a", expires: world.time - 1))) == nil)
        #expect(sizes(&world, handle).keys.sorted() == ["b"])
        let timer = try #require(world.timers.first { if case .expiration = $0.key { true } else { false } })
        #expect(timer.value == world.now)
        world.feed(.timerFired(timer.key, time: world.time))
        #expect(world.timers[timer.key] == nil, "nothing else expires")
        _ = update(&world, handle, world.operation(.setExpiration, "b", expires: world.time + 9))
        #expect(world.timers[timer.key] != nil)
        _ = update(&world, handle, world.operation(.setExpiration, "b", expires: .saTimeEnd))
        #expect(world.timers[timer.key] == nil)
    }

    // MARK: A1.2: unlink, retention, death

    @Test("A1.2 unlinked: who has it open works on, the name is free, the last close or death ends it")
    func unlinkWithOpeners() throws {
        var world = EngineWorld()
        let first = try world.open([.read, .write], EngineWorld.attributes(retention: .saTimeEnd))
        let second = try world.open([.read, .write], from: EngineWorld.other)
        #expect(
            world.error(world.ask(.unlink(EngineWorld.name), from: ClientSession(high: 9, low: 9))) == nil,
            "any process")
        #expect(world.error(world.ask(.unlink(EngineWorld.name))) == .notExist)
        #expect(world.error(world.ask(.exists(EngineWorld.name))) == nil)
        #expect(error(update(&world, first, world.operation(.create, "a", count: 4))) == nil)
        #expect(world.error(world.ask(.read(second, [ReadRange(id: "a")]), from: EngineWorld.other)) == nil)
        #expect(world.error(world.ask(.status(first))) == nil)
        #expect(world.error(world.ask(.setRetention(first, 5))) == .badOperation)
        #expect(world.error(world.ask(.open(EngineWorld.name, flags: .read, attributes: nil))) == .notExist)
        let fresh = try world.open([.read, .write], EngineWorld.attributes(.writeActiveReplica))
        #expect(sizes(&world, fresh).isEmpty, "another object")
        _ = world.ask(.close(first))
        #expect(!world.effects.contains { if case .remove = $0 { true } else { false } })
        world.feed(.disconnected(EngineWorld.other, isDead: true))
        #expect(
            world.effects.contains { if case .remove = $0 { true } else { false } }, "whatever its retention duration")
        #expect(world.error(world.ask(.status(fresh))) == nil)
        _ = world.ask(.unlink(EngineWorld.name))
        _ = world.ask(.close(fresh))
        #expect(world.engine.summaries(at: world.now).isEmpty)
    }

    @Test("A1.2 unlinked while nobody has it open: gone at once, retention or not")
    func unlinkRetained() throws {
        var world = EngineWorld()
        let handle = try world.open([.write], EngineWorld.attributes(retention: .saTimeEnd))
        _ = world.ask(.close(handle))
        #expect(world.error(world.ask(.unlink(EngineWorld.name))) == nil)
        #expect(world.engine.summaries(at: world.now).isEmpty)
    }

    @Test("A1.4 RetentionDurationSet: every error, any open mode, and what it changes")
    func retentionDuration() throws {
        var world = EngineWorld()
        let reader = try world.open([.read], EngineWorld.attributes(retention: .saTimeEnd))
        #expect(world.error(world.ask(.setRetention(reader, -1))) == .invalidParam)
        #expect(world.error(world.ask(.setRetention(reader, .saTimeUnknown))) == .invalidParam)
        #expect(world.error(world.ask(.setRetention(HandleID(rawValue: 1), 5))) == .badHandle)
        #expect(world.error(world.ask(.setRetention(reader, .saTimeEnd - 1))) == nil, "292 years do not overflow")
        guard case .status(let status) = try world.ask(.status(reader)).get() else { throw AisError.library }
        #expect(status.attributes.retentionDuration == .saTimeEnd - 1, "StatusGet tells the one in force")
        _ = world.ask(.close(reader))
        #expect(world.timers.count == 1)
        let again = try world.open([.read], EngineWorld.attributes(retention: 7))
        #expect(world.timers.isEmpty, "an open cancels; the duration is not compared")
        #expect(world.error(world.ask(.setRetention(again, 0))) == nil)
        _ = world.ask(.close(again))
        #expect(world.engine.summaries(at: world.now).isEmpty, "0: gone with the last close")
    }

    @Test("A1.2 the death of a process closes everything it had open, in all checkpoints")
    func death() throws {
        var world = EngineWorld()
        for name in ["a", "b", "c"] {
            _ = try world.open([.read], EngineWorld.attributes(retention: 0), name: SaName(name)!)
            _ = try world.open([.write], EngineWorld.attributes(retention: 0), name: SaName(name)!)
        }
        let other = try world.open([.read], from: EngineWorld.other, name: SaName("b")!)
        world.feed(.disconnected(EngineWorld.client, isDead: true))
        #expect(world.engine.summaries(at: world.now).map(\.name) == [SaName("b")!])
        #expect(world.engine.summaries(at: world.now).first?.openers.map(\.handle) == [other])
        #expect(world.engine.sessionCounts.all == 1)
    }

    // MARK: A1.3: active replica, corrupted sections

    @Test("A1.3 collocated and asynchronous: without an active replica what needs one is NOT_EXIST, the rest is not")
    func noActiveReplica() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes([.writeActiveReplicaWeak, .collocated]))
        let needing: [CkptRequest] = [
            .update(handle, [world.operation(.create, "a")]), .update(handle, [world.operation(.write, "a", count: 1)]),
            .update(handle, [world.operation(.overwrite, "a", count: 1)]),
            .update(handle, [world.operation(.delete, "a")]),
            .update(handle, [world.operation(.setExpiration, "a", expires: .saTimeEnd)]),
            .updateIf(change: 0, handle, [world.operation(.create, "a")]), .read(handle, [ReadRange(id: "a")]),
            .status(handle), .list(handle, after: 0, limit: 5, chosen: .any, time: 0), .synchronize(handle),
            .snapshot(handle), .section(handle, "a"),
        ]
        for request in needing { #expect(world.error(world.ask(request)) == .notExist, "\(request)") }
        #expect(world.error(world.ask(.setRetention(handle, 9))) == nil)
        #expect(!world.engine.hasActiveReplica(world.engine.summaries(at: world.now)[0].checkpoint))
        #expect(world.error(world.ask(.setActiveReplica(handle))) == nil)
        #expect(world.effects.contains { if case .replicasChanged = $0 { true } else { false } })
        #expect(world.error(world.ask(needing[0])) == nil)
        #expect(world.error(world.ask(.setActiveReplica(handle))) == nil, "it may be said again")
    }

    @Test("A1.4 ActiveReplicaSet and Synchronize: ACCESS, BAD_OPERATION, BAD_HANDLE; no sections are fine")
    func activeAndSynchronize() throws {
        let cases: [(CreationFlags, active: AisError?, synchronize: AisError?)] = [
            (.writeAllReplicas, .badOperation, .badOperation), (.writeActiveReplica, .badOperation, nil),
            (.writeActiveReplicaWeak, .badOperation, nil),
            ([.writeAllReplicas, .collocated], .badOperation, .badOperation),
            ([.writeActiveReplica, .collocated], nil, nil), ([.writeActiveReplicaWeak, .collocated], nil, nil),
        ]
        for (flags, active, synchronize) in cases {
            var world = EngineWorld()
            let handle = try world.open([.write], EngineWorld.attributes(flags))
            let reader = try world.open([.read])
            #expect(world.error(world.ask(.setActiveReplica(reader))) == .access, "\(flags)")
            #expect(world.error(world.ask(.setActiveReplica(handle))) == active, "\(flags)")
            #expect(world.error(world.ask(.synchronize(reader))) == .access, "\(flags)")
            #expect(world.error(world.ask(.synchronize(handle))) == synchronize, "\(flags)")
            #expect(world.error(world.ask(.synchronize(HandleID(rawValue: 1)))) == .badHandle)
            #expect(world.error(world.ask(.setActiveReplica(HandleID(rawValue: 1)))) == .badHandle)
        }
    }

    @Test("A1.3 a corrupted section: reads and writes of it fail, its attributes change, Overwrite, Delete, put repair")
    func corrupted() throws {
        for repair in [SectionOperation.Kind.overwrite, .put, .delete] {
            var world = EngineWorld()
            let handle = try world.open([.read, .write], EngineWorld.attributes(.writeActiveReplicaWeak))
            _ = update(&world, handle, world.operation(.create, "a", count: 4), world.operation(.create, "b", count: 4))
            let id = world.engine.summaries(at: world.now)[0].checkpoint
            world.feed(.damaged(id, slot: 0))
            #expect(world.error(world.ask(.read(handle, [ReadRange(id: "b"), ReadRange(id: "a")]))) == .library)
            #expect(error(update(&world, handle, world.operation(.write, "a", at: 0, count: 4))) == .library)
            #expect(error(update(&world, handle, world.operation(.setExpiration, "a", expires: .saTimeEnd))) == nil)
            guard case .section(let descriptor) = try world.ask(.section(handle, "a")).get() else {
                throw AisError.library
            }
            #expect(descriptor.state == .corrupted)
            #expect(world.error(world.ask(.read(handle, [ReadRange(id: "b")]))) == nil, "the others are sound")
            let expires: SaTime? = repair == .put ? .saTimeEnd : nil
            let count = repair == .delete ? 0 : 2
            #expect(error(update(&world, handle, world.operation(repair, "a", count: count, expires: expires))) == nil)
            let after = world.error(world.ask(.read(handle, [ReadRange(id: "a")])))
            #expect(after == (repair == .delete ? .notExist : nil))
        }
    }

    // MARK: A1.4: reading, iterating, looking

    @Test("A1.4 Read: every error; counts beyond the end are cut, counts beyond the limit refused")
    func read() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        _ = update(&world, handle, world.operation(.create, "a", count: 10))
        func read(_ ranges: ReadRange...) -> Result<CkptAnswer, AisError> { world.ask(.read(handle, ranges)) }
        func counts(_ result: Result<CkptAnswer, AisError>) -> [Int]? {
            guard case .success(.data(_, _, let parts)) = result else { return nil }
            return parts.map(\.count)
        }
        #expect(error(read(ReadRange(id: "a", offset: 0, count: 101))) == .invalidParam, "more than a section may have")
        #expect(counts(read(ReadRange(id: "a", offset: 0, count: 100))) == [10])
        #expect(counts(read(ReadRange(id: "a", offset: 10, count: 5), ReadRange(id: "a", offset: 8))) == [0, 2])
        #expect(counts(read(ReadRange(id: "a", offset: 3, count: ReadRange.toTheEnd))) == [7])
        #expect(error(read(ReadRange(id: "a", offset: 11, count: 0))) == .invalidParam)
        #expect(error(read(ReadRange(id: "a", offset: .max, count: .max))) == .invalidParam)
        #expect(error(read(ReadRange(id: "b"))) == .notExist)
        #expect(error(read()) == .invalidParam)
        let writer = try world.open([.write])
        #expect(world.error(world.ask(.read(writer, [ReadRange(id: "a")]))) == .access)
        #expect(world.error(world.ask(.read(HandleID(rawValue: 1), [ReadRange(id: "a")]))) == .badHandle)
        for case .refuse(_, _, let text) in world.effects {
            #expect(CkptRefusal.operationIndex(in: Array(text.utf8)) == nil)
        }
        _ = read(ReadRange(id: "a"), ReadRange(id: "z"))
        for case .refuse(_, _, let text) in world.effects {
            #expect(CkptRefusal.operationIndex(in: Array(text.utf8)) == 1, "the first element that fails")
        }
    }

    @Test("What one answer cannot hold is refused with NO_RESOURCES, not sent and lost")
    func tooMuch() throws {
        var world = EngineWorld()
        let size = UInt64(40 << 20)
        let attributes = CreationAttributes(checkpointSize: size * 2, sectionsMax: 2, sectionSizeMax: size)
        let handle = try world.open([.read, .write], attributes)
        _ = update(&world, handle, world.operation(.create, "a"), world.operation(.create, "b"))
        _ = update(&world, handle, world.operation(.write, "a", at: size - 1, count: 1))
        #expect(world.error(world.ask(.snapshot(handle))) == nil)
        _ = update(&world, handle, world.operation(.write, "b", at: size - 1, count: 1))
        #expect(world.error(world.ask(.snapshot(handle))) == .noResources)
        #expect(world.error(world.ask(.subscribe(handle, after: nil))) == .noResources)
        #expect(world.error(world.ask(.read(handle, [ReadRange(id: "a"), ReadRange(id: "b")]))) == .noResources)
        #expect(world.error(world.ask(.read(handle, [ReadRange(id: "a")]))) == nil)
        guard
            case .adminSections(let reply, _, let sections, _) = try world.ask(
                .adminSections(EngineWorld.name, after: 0, limit: 9, dataMax: .max)
            ).get()
        else { throw AisError.library }
        #expect(reply.hasMore && sections.map(\.descriptor.id) == ["a"], "a page holds what an answer holds")
    }

    @Test("A1.4 Iteration: a predicate that is none and a page of nothing are INVALID_PARAM")
    func badIteration() throws {
        var world = EngineWorld()
        let handle = try world.open([.read], EngineWorld.attributes())
        #expect(world.error(world.ask(.list(handle, after: 0, limit: 0, chosen: .any, time: 0))) == .invalidParam)
        var writer = ByteWriter()
        CkptRequest.list(handle, after: 0, limit: 5, chosen: .any, time: 0).encode(to: &writer)
        for raw: UInt8 in [0, 6, 255] {
            var body = writer.bytes
            body[20] = raw
            #expect(throws: DecodeError.self) {
                try body.withUnsafeBytes { bytes in _ = try CkptRequest(code: .list, decoding: bytes) }
            }
        }
    }

    @Test(
        "A1.4 Iteration: exactly once under creation, deletion, re-creation, growth and expiration",
        arguments: 0..<40 as Range<UInt64>)
    func iteration(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var world = EngineWorld()
        var attributes = EngineWorld.attributes(sections: 500)
        attributes.checkpointSize = 40_000
        let handle = try world.open([.read, .write], attributes)
        for number in 0..<50 {
            let expires = number % 5 == 0 ? world.time + SaTime(number * 10 + 1) : .saTimeEnd
            _ = update(&world, handle, world.operation(.create, SectionID("s\(number)"), expires: expires))
        }
        var untouched = Set((0..<50).filter { $0 % 5 != 0 }.map { SectionID("s\($0)") })
        var seen: [SectionID] = []
        var after: UInt64 = 0
        while true {
            guard
                case .list(let page) = try world.ask(.list(handle, after: after, limit: 3, chosen: .any, time: 0)).get()
            else { throw AisError.library }
            seen += page.sections.map(\.id)
            guard page.hasMore, let last = page.sections.last else { break }
            after = last.serial
            world.time += 25
            for _ in 0..<3 {
                let id = SectionID("s\(Int.random(in: 0..<70, using: &random))")
                switch Int.random(in: 0..<4, using: &random) {
                case 0:
                    untouched.remove(id)
                    _ = update(&world, handle, world.operation(.delete, id))
                case 1: _ = update(&world, handle, world.operation(.create, id))
                case 2: _ = update(&world, handle, world.operation(.write, id, at: 9, count: 9))
                default:
                    untouched.remove(id)
                    _ = update(
                        &world, handle, world.operation(.delete, id), world.operation(.create, id, count: 3))
                }
            }
        }
        for id in untouched { #expect(seen.count { $0 == id } == 1, "seed \(seed): \(id)") }
    }

    // MARK: Extensions

    @Test("Existence of a section and of a checkpoint")
    func existence() throws {
        var world = EngineWorld()
        func exists(_ name: SaName) throws -> CreationAttributes? {
            guard case .exists(let reply) = try world.ask(.exists(name)).get() else { throw AisError.library }
            return reply.attributes
        }
        #expect(try exists(EngineWorld.name) == nil)
        let handle = try world.open([.write], EngineWorld.attributes(retention: 5))
        #expect(world.error(world.ask(.section(handle, "a"))) == .notExist)
        _ = update(&world, handle, world.operation(.create, "a", count: 7))
        guard case .section(let descriptor) = try world.ask(.section(handle, "a")).get() else { throw AisError.library }
        #expect(descriptor.size == 7 && descriptor.state == .valid && descriptor.lastUpdate == world.time)
        #expect(world.error(world.ask(.section(handle, "a"), from: EngineWorld.other)) == .badHandle)
        _ = world.ask(.setRetention(handle, 6))
        #expect(try exists(EngineWorld.name)?.retentionDuration == 6)
        #expect(world.engine.summaries(at: world.now)[0].openers.count == 1, "looking opens nothing")
        _ = world.ask(.unlink(EngineWorld.name))
        #expect(try exists(EngineWorld.name) == nil)
    }

    @Test("put creates what is not there and overwrites what is; the default section, too")
    func put() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        func put(_ id: SectionID, _ count: Int, expires: SaTime = .saTimeEnd) -> AisError? {
            error(update(&world, handle, world.operation(.put, id, count: count, expires: expires)))
        }
        #expect(put("a", 5) == nil)
        #expect(put("a", 3) == nil)
        #expect(sizes(&world, handle) == ["a": 3])
        #expect(put("a", 101) == .invalidParam)
        #expect(put("b", 101) == .invalidParam)
        #expect(put("b", 1, expires: world.time) == .invalidParam)
        #expect(put("123456789", 1) == .invalidParam)
        #expect(put(.defaultSection, 1) == .notExist, "no id is no section")
        for case .commit(let transaction, _) in world.effects {
            #expect(transaction.steps.allSatisfy { $0.operation.kind.isStep })
        }
        var single = EngineWorld()
        var attributes = EngineWorld.attributes(sections: 1)
        attributes.checkpointSize = 100
        let only = try single.open([.read, .write], attributes)
        #expect(
            error(update(&single, only, single.operation(.put, .defaultSection, count: 4, expires: .saTimeEnd))) == nil)
        #expect(error(update(&single, only, single.operation(.put, "x", count: 4, expires: .saTimeEnd))) == .exist)
    }

    @Test("A difference is applied to the data it was made for, and to no other")
    func differences() throws {
        var world = EngineWorld()
        let handle = try world.open([.read, .write], EngineWorld.attributes())
        let rival = try world.open([.read, .write], from: EngineWorld.other)
        func tagged(_ tag: UInt64) -> AisError? {
            error(
                update(
                    &world, handle, world.operation(.put, "a", count: 9, expires: .saTimeEnd),
                    world.operation(.tag, "a", at: tag)))
        }
        func difference(_ base: UInt64, _ tag: UInt64) -> AisError? {
            error(
                update(
                    &world, handle, world.operation(.require, "a", at: base),
                    world.operation(.write, "a", at: 2, count: 1), world.operation(.tag, "a", at: tag)))
        }
        #expect(difference(1, 2) == .notExist)
        #expect(tagged(1) == nil)
        #expect(difference(1, 2) == nil)
        #expect(difference(1, 3) == .badOperation, "the base is an older one")
        #expect(difference(2, 3) == nil)
        let others: [(String, (inout EngineWorld) -> Void)] = [
            ("a write", { $0.feedUpdate(rival, $0.operation(.write, "a", at: 0, count: 1)) }),
            ("an overwrite", { $0.feedUpdate(rival, $0.operation(.overwrite, "a", count: 9)) }),
            (
                "another one of the name",
                { $0.feedUpdate(rival, $0.operation(.delete, "a"), $0.operation(.create, "a", count: 9)) }
            ),
            ("damage", { $0.feed(.damaged($0.checkpoint, slot: $0.slot("a"))) }),
        ]
        for (what, change) in others {
            #expect(tagged(7) == nil)
            change(&world)
            #expect(difference(7, 8) == .badOperation, "\(what)")
        }
        #expect(tagged(7) == nil)
        world.feedUpdate(rival, world.operation(.setExpiration, "a", expires: world.time + 5_000))
        #expect(difference(7, 8) == nil, "that changes no data")
        let stolen = world.ask(
            .update(
                rival, [world.operation(.require, "a", at: 8), world.operation(.write, "a", at: 0, count: 1)]),
            from: EngineWorld.other)
        #expect(world.error(stolen) == .badOperation, "a tag is its opener's own")
        #expect(error(update(&world, handle, world.operation(.require, "a", at: 8))) == .invalidParam)
        #expect(error(update(&world, handle, world.operation(.tag, "a", at: 8))) == .invalidParam)
        let untagged = update(
            &world, handle, world.operation(.delete, "a"), world.operation(.create, "b", count: 1),
            world.operation(.tag, "b"))
        #expect(error(untagged) == .invalidParam, "0 is no tag")
    }

    @Test("A restarted ckptd remembers no tag: the difference is refused, nothing is mixed")
    func tagsAfterRestart() throws {
        let handle = HandleID(rawValue: 99)
        var state = Transaction.State(change: 3, retentionDuration: 0, nextSerial: 2, hasActiveReplica: true)
        state.change = 3
        let section = SectionDescriptor(
            id: "a", expiration: .saTimeEnd, size: 9, state: .valid, lastUpdate: 1, serial: 1)
        var world = EngineWorld(incarnation: 8)
        world.feed(
            .restored(
                RestoredCheckpoint(
                    checkpoint: CheckpointID(rawValue: 100), name: EngineWorld.name,
                    attributes: EngineWorld.attributes(),
                    state: state, sections: [.init(slot: 0, descriptor: section)],
                    openers: [
                        .init(
                            slot: 0,
                            record: OpenerRecord(
                                session: EngineWorld.client, handle: handle, openNumber: 1, processID: 1,
                                processStart: 5, flags: [.read, .write]), executed: [])
                    ])))
        world.feed(.connected(EngineWorld.client, EngineWorld.process(EngineWorld.client)))
        let base = update(
            &world, handle, world.operation(.require, "a", at: 1), world.operation(.write, "a", at: 0, count: 1))
        #expect(error(base) == .badOperation)
    }
}

extension EngineWorld {
    var checkpoint: CheckpointID { engine.summaries(at: now)[0].checkpoint }

    func slot(_ id: SectionID) -> Int {
        engine.sections(of: checkpoint, limit: .max).first { $0.descriptor.id == id }?.slot ?? -1
    }

    /// An update by the other client, whatever comes of it.
    mutating func feedUpdate(_ handle: HandleID, _ operations: SectionOperation...) {
        let answer = ask(.update(handle, operations), from: Self.other)
        #expect(error(answer) == nil)
    }
}
