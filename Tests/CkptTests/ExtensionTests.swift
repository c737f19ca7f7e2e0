import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

/// What the service does beyond AIS, and the Swift forms of what AIS has, with a real ckptd.
@Suite("Checkpoint extensions, a real process", .serialized)
struct ExtensionTests {
    private static let name = SaName("safCkpt=extended")!

    @Test("Sections are a collection of data by id")
    func collection() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        #expect(try await Checkpoint.exists(Self.name, in: service) == false)
        let checkpoint = try await Checkpoint.open(
            Self.name, creating: DaemonHarness.attributes(sections: 1_024), in: service)
        #expect(try await Checkpoint.exists(Self.name, in: service))
        #expect(try Checkpoint.attributesBlocking(of: Self.name, in: service)?.sectionsMax == 1_024)
        let contents = checkpoint.contents
        #expect(try await contents["a"] == nil)
        try await contents.set([1, 2], for: "a")
        try await contents.set([3], for: "a")
        #expect(try await contents["a"] == [3])
        #expect(try await contents.contains("a"))
        #expect(try checkpoint.containsBlocking("b") == false)
        #expect(try await checkpoint.describe("a").size == 1)
        for number in 0..<600 { try checkpoint.putBlocking(SectionID("n\(number)"), [UInt8(number & 255)]) }
        #expect(try await contents.count == 601)
        var seen: [SectionID] = []
        for try await section in contents {
            if seen.count < 300 {
                // Changed under the iteration: what is not touched comes once all the same.
                try await contents.remove(SectionID("n\(599 - seen.count / 10)"))
                try await contents.set([], for: SectionID("new\(seen.count)"))
            }
            seen.append(section.id)
        }
        #expect(Set(seen).count == seen.count)
        #expect(Set((0..<569).map { SectionID("n\($0)") }).isSubset(of: seen))
        var iteration = checkpoint.iterate()
        var count = 0
        while try iteration.next() != nil { count += 1 }
        #expect(try await contents.count == count)
        #expect(try iteration.next() == nil, "the end stays the end")
        #expect(try await contents.remove("a"))
        #expect(try await contents.remove("a") == false)
        #expect(try await contents.all()["n0"] == [0])
        var expiring: [SectionID] = []
        try await checkpoint.setExpiration("n0", .saTimeEnd - 1)
        for try await section in contents.only(.expiringAtOrBefore, time: .saTimeEnd - 1) {
            expiring.append(section.id)
        }
        #expect(expiring == ["n0"])
    }

    @Test("A mirror sends what has changed, and what the section has is always what was given")
    func mirror() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let attributes = CreationAttributes(checkpointSize: 4 << 20, sectionsMax: 4, sectionSizeMax: 2 << 20)
        let checkpoint = try await Checkpoint.open(Self.name, creating: attributes, in: service)
        let rival = try await Checkpoint.open(Self.name, in: harness.service())
        var random = SeededRandom(seed: 5)
        var data = (0..<(1 << 20)).map { _ in UInt8.random(in: 0...255, using: &random) }
        let mirror = checkpoint.mirror("state")
        for round in 0..<60 {
            for _ in 0..<10 {
                let start = Int.random(in: 0..<data.count - 100, using: &random)
                for offset in start..<start + 20 { data[offset] = UInt8.random(in: 0...255, using: &random) }
            }
            switch round {
            case 20: try rival.writeBlocking("state", at: 7, [1, 2, 3])
            case 30: try rival.deleteSectionBlocking("state")
            case 40:
                harness.kill()
                try harness.start()
            case 50: data += [UInt8](repeating: 9, count: 100)
            case 55: data.removeLast(1_000)
            default: break
            }
            if round % 2 == 0 { try await mirror.overwrite(data) } else { try mirror.overwriteBlocking(data) }
            if round % 10 == 0 || round == 56 {
                let found = try await rival.read("state")
                #expect(found == data, "round \(round)")
            }
        }
        let found = try await rival.read("state")
        #expect(found == data)
        let sent = mirror.statistics
        print(
            "mirror: \(sent.writes) writes, \(sent.fullWrites) whole, \(sent.bytesSent) of \(sent.bytesGiven) bytes"
        )
        #expect(sent.writes == 60)
        #expect(
            sent.fullWrites == 5, "the first, after a rival's write and deletion, after a restart, and shorter data")
        #expect(sent.bytesSent * 8 < sent.bytesGiven)
    }

    @Test("What a follower is told of a difference is the difference")
    func followedMirror() async throws {
        let harness = try DaemonHarness()
        let attributes = CreationAttributes(checkpointSize: 1 << 20, sectionsMax: 4, sectionSizeMax: 1 << 20)
        let checkpoint = try await Checkpoint.open(Self.name, creating: attributes, in: harness.service())
        let standby = try await Checkpoint.open(Self.name, [.read], in: harness.service())
        var updates = standby.updates.makeAsyncIterator()
        _ = await updates.next()
        let mirror = checkpoint.mirror("state")
        var data = [UInt8](repeating: 0, count: 100_000)
        try await mirror.overwrite(data)
        data[70_000] = 1
        try await mirror.overwrite(data)
        try await mirror.overwrite(data)
        var changes: [[SectionChange]] = []
        for _ in 0..<3 { if case .update(_, _, let told)? = await updates.next() { changes.append(told) } }
        #expect(changes.count == 3)
        let expected: [[SectionChange]] = [
            [.written("state", offset: 70_000, data: [1])], [.written("state", offset: 0, data: [])],
        ]
        #expect(Array(changes.dropFirst()) == expected)
    }

    @Test("Replica changes: the state now, then every other; over a restart of ckptd; an end with the close")
    func replicaChanges() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        var attributes = DaemonHarness.attributes()
        attributes.flags = [.writeActiveReplica, .collocated]
        let checkpoint = try await Checkpoint.open(Self.name, creating: attributes, in: service)
        let watcher = try await Checkpoint.open(Self.name, [.read], in: harness.service())
        var changes = watcher.replicaChanges.makeAsyncIterator()
        let before = try #require(await changes.next())
        #expect(before.active == nil && before.replicas.map(\.state) == [.current])
        await #expect(throws: AisError.notExist) { try await checkpoint.contents["a"] }
        try await checkpoint.setActiveReplica()
        let after = try #require(await changes.next())
        #expect(after.active == before.replicas[0].node)
        #expect(try await checkpoint.replicas() == after)
        harness.kill()
        try harness.start()
        #expect(try watcher.replicasBlocking(timeout: .seconds(30)) == after)
        try await watcher.close()
        #expect(await changes.next() == nil)
    }

    @Test("A process that dies closes what it had open: an unretained checkpoint is gone")
    func deathOfAProcess() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let tests = try #require(Environment.executablePath)
        var options = SpawnOptions(
            path: File.parent(of: tests) + "/ckptworker", arguments: ["ckptworker", "hold", "safCkpt=brief", "brief"],
            environment: Environment.all + harness.places.environment)
        options.deathSignal = .kill
        let worker = try Process.spawn(options)
        let name = SaName("safCkpt=brief")!
        let deadline = MonotonicClock.now() + .seconds(30)
        while try Checkpoint.attributesBlocking(of: name, in: service) == nil, MonotonicClock.now() < deadline {
            OSThread.yield()
        }
        let own = try await Checkpoint.open(name, in: service)
        #expect(try service.list().checkpoints[0].openers.count == 2)
        _ = try Process.kill(worker.pid, .kill)
        while Process.reap(worker.pid) == nil { OSAL.pause() }
        while try service.list().checkpoints[0].openers.count == 2, MonotonicClock.now() < deadline { OSThread.yield() }
        #expect(try service.list().checkpoints[0].openers.count == 1)
        try await own.close()
        #expect(try await Checkpoint.exists(name, in: service) == false)
    }

    @Test("Values of Codable types; what is no such value is told by section and place")
    func values() async throws {
        struct Position: Codable, Equatable { var line: Int, words: [String] }
        struct Other: Codable { var line: String }
        let harness = try DaemonHarness()
        let service = harness.service()
        let checkpoint = try await Checkpoint.open(Self.name, creating: DaemonHarness.attributes(), in: service)
        let position = Position(line: 4, words: ["a", "b"])
        try await checkpoint.setValue(position, of: "position")
        #expect(try await checkpoint.value(of: "position") == position)
        try checkpoint.setValueBlocking([1, 2], of: "position")
        #expect(try checkpoint.valueBlocking(of: "position", as: [Int].self) == [1, 2])
        await #expect(throws: AisError.notExist) { try await checkpoint.value(of: "none", as: Int.self) }
        try await checkpoint.setValue(position, of: "position")
        await #expect(throws: AisError.library) { try await checkpoint.value(of: "position", as: Other.self) }
        #expect(service.lastRefusal.hasSuffix("line: text expected, an integer found"), "\(service.lastRefusal)")
        try await checkpoint.put("position", [9, 9])
        await #expect(throws: AisError.library) { try await checkpoint.value(of: "position", as: Position.self) }
    }

    @Test("A caller that wants to hear of membership is served on a node alone, which is its own cluster")
    func membershipAlone() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        service.requiresMembership = true
        let checkpoint = try await Checkpoint.open(Self.name, creating: DaemonHarness.attributes(), in: service)
        try await checkpoint.put("a", [1])
        #expect(try checkpoint.readBlocking("a") == [1])
        try await checkpoint.close()
    }

    @Test("A1.4 Read: a count that no section may have is refused, a negative one too")
    func counts() async throws {
        let harness = try DaemonHarness()
        let checkpoint = try await Checkpoint.open(
            Self.name, creating: DaemonHarness.attributes(), in: harness.service())
        try await checkpoint.put("a", [1, 2, 3])
        #expect(try await checkpoint.read("a", at: 1, count: 1 << 16) == [2, 3])
        await #expect(throws: AisError.invalidParam) { try await checkpoint.read("a", count: 1 << 17) }
        #expect(throws: AisError.invalidParam) { try checkpoint.readBlocking("a", count: -1) }
        #expect(throws: AisError.invalidParam) { try checkpoint.readBlocking("a", at: -1) }
    }
}
