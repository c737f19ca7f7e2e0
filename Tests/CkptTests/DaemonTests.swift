import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

@Suite("ckptd, a real process", .serialized)
struct DaemonTests {
    @Test("Sections are written, read, listed and deleted; batches are all or nothing")
    func sections() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let name = SaName("safCkpt=a")!
        await #expect(throws: AisError.notExist) { _ = try await Checkpoint.open(name, in: service) }
        let checkpoint = try await Checkpoint.open(name, creating: DaemonHarness.attributes(), in: service)
        #expect(checkpoint.isCreated)
        try await checkpoint.createSection("one", [1, 2, 3])
        try await checkpoint.write("one", at: 5, [9])
        #expect(try await checkpoint.read("one") == [1, 2, 3, 0, 0, 9])
        await #expect(throws: AisError.notExist) {
            try await checkpoint.write { batch in
                batch.overwrite("one", [7])
                batch.create("two", [8])
                batch.write("three", at: 0, [1])
            }
        }
        #expect(CkptRefusal.operationIndex(in: Array(service.lastRefusal.utf8)) == 2)
        #expect(try checkpoint.readBlocking("one") == [1, 2, 3, 0, 0, 9])
        let generated = try await checkpoint.createSection(nil, [4])
        #expect(try await checkpoint.sections().map(\.id) == ["one", generated])
        try await checkpoint.deleteSection("one")
        #expect(try await checkpoint.readAll().sections.map(\.data) == [[4]])
        let status = try await checkpoint.status()
        #expect(status.change == 4 && status.memoryUsed == 1 && status.sectionCount == 1)
        let list = try service.list()
        #expect(list.checkpoints.map(\.name) == [name])
        #expect(list.checkpoints[0].openers.map(\.processID) == [UInt32(Environment.processID)])
        #expect(try service.sections(of: name, dataMax: 10).snapshot.sections.map(\.data) == [[4]])
        try await checkpoint.close()
        await #expect(throws: AisError.badHandle) { try await checkpoint.read() }
        try await Checkpoint.unlink(name, in: service)
        await #expect(throws: AisError.notExist) { _ = try await Checkpoint.open(name, in: service) }
    }

    @Test("A service that is closed has closed everything, while its process lives; also what was being opened")
    func farewell() async throws {
        let harness = try DaemonHarness()
        let other = harness.service()
        for round in 0..<20 {
            let name = SaName("safCkpt=farewell")!
            let service = harness.service()
            if round.isMultiple(of: 2) {
                _ = try await Checkpoint.open(name, creating: DaemonHarness.attributes(), in: service)
            } else {
                let (answers, said) = AsyncStream.makeStream(of: Void.self)
                Checkpoint.openSoon(
                    name, [.read], creating: DaemonHarness.attributes(), timeout: .seconds(10), in: service
                ) { _ in said.finish() }
                service.close()
                for await _ in answers {}
            }
            service.close()
            let deadline = MonotonicClock.now() + .seconds(20)
            while try other.list().checkpoints.contains(where: { $0.name == name && !$0.openers.isEmpty }) {
                try #require(MonotonicClock.now() < deadline, "round \(round): still open")
                await Task.yield()
            }
        }
    }

    @Test("kill -9 of ckptd under load: nothing acknowledged is lost, nothing is done twice, followers miss nothing")
    func killUnderLoad() async throws {
        let harness = try DaemonHarness()
        let seed = UInt64.random(in: 0 ... .max)
        let name = SaName("safCkpt=load")!
        let writerService = harness.service()
        let standbyService = harness.service()
        let checkpoint = try await Checkpoint.open(name, creating: DaemonHarness.attributes(), in: writerService)
        try checkpoint.writeBlocking { batch in
            batch.create("count", [0, 0, 0, 0, 0, 0, 0, 0])
            batch.create("copy", [0, 0, 0, 0, 0, 0, 0, 0])
        }
        let standby = try await Checkpoint.open(name, [.read], in: standbyService)
        let writes: UInt64 = 6_000
        let shared = Shared()
        let follower = Task { () -> (events: Int, last: UInt64, sections: [SectionID: [UInt8]], gaps: Int) in
            var sections: [SectionID: [UInt8]] = [:]
            var last: UInt64 = 0
            var (events, gaps) = (0, 0)
            for await event in standby.updates {
                if case .update(let change, _, _) = event, change != last + 1 { gaps += 1 }
                event.apply(to: &sections)
                if sections["count"] != sections["copy"] { gaps += 1_000_000 }
                last = event.change
                events += 1
                if last == writes + 1 { break }
            }
            return (events, last, sections, gaps)
        }
        let writer = try OSThread.spawn(name: "writer") {
            for number in 1...writes {
                var value = number
                let bytes = withUnsafeBytes(of: &value) { Array($0) }
                do throws(AisError) {
                    try checkpoint.writeBlocking(timeout: .seconds(20)) { batch in
                        batch.overwrite("count", bytes)
                        batch.write("copy", at: 0, bytes)
                    }
                } catch {
                    shared.failure.withLock { $0 = error }
                    return
                }
                shared.progress.store(number, ordering: .releasing)
            }
        }
        var random = SeededRandom(seed: seed)
        for kill in 1...12 {
            let target = UInt64(kill) * (writes / 13) + UInt64.random(in: 0..<200, using: &random)
            let deadline = MonotonicClock.now() + .seconds(30)
            while shared.progress.load(ordering: .acquiring) < target, shared.failure.withLock({ $0 }) == nil,
                MonotonicClock.now() < deadline
            {
                OSThread.yield()
            }
            harness.kill()
            try harness.start()
        }
        writer.join()
        #expect(shared.failure.withLock { $0 } == nil, "seed \(seed): \(writerService.lastRefusal)")
        let status = try checkpoint.statusBlocking()
        #expect(status.change == writes + 1, "seed \(seed): each write happened exactly once")
        let end = try checkpoint.readAllBlocking()
        let followed = await follower.value
        #expect(followed.gaps == 0 && followed.last == writes + 1, "seed \(seed): \(followed)")
        #expect(
            followed.sections == Dictionary(uniqueKeysWithValues: end.sections.map { ($0.id, $0.data) }), "seed \(seed)"
        )
        print("ckptd killed 12 times, seed \(seed): \(followed.events) events followed")
    }

    private final class Shared: Sendable {
        let progress = Atomic<UInt64>(0)
        let failure = Mutex<AisError?>(nil)
    }

    @Test("Retention goes on through a restart; what is kept for ever is there after it")
    func retentionAndRestart() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let (short, long) = (SaName("safCkpt=short")!, SaName("safCkpt=long")!)
        for (name, retention) in [(short, SaTime(400_000_000)), (long, SaTime.saTimeEnd)] {
            let checkpoint = try await Checkpoint.open(
                name, creating: DaemonHarness.attributes(sections: 1, retention: retention), in: service)
            try await checkpoint.overwrite(.defaultSection, [1])
            try await checkpoint.close()
        }
        harness.kill()
        try harness.start()
        let deadline = MonotonicClock.now() + .seconds(20)
        while try service.list().checkpoints.map(\.name).contains(short), MonotonicClock.now() < deadline {
            OSThread.yield()
        }
        await #expect(throws: AisError.notExist) { _ = try await Checkpoint.open(short, in: service) }
        #expect(try await Checkpoint.open(long, in: service).read() == [1])
    }

    @Test("A follower that stops taking events is caught up later, with a snapshot if it must be")
    func slowFollower() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let name = SaName("safCkpt=slow")!
        let checkpoint = try await Checkpoint.open(name, creating: DaemonHarness.attributes(sections: 1), in: service)
        let standby = try await Checkpoint.open(name, [.read], in: harness.service())
        let updates = standby.updates
        var iterator = updates.makeAsyncIterator()
        var copy: [SectionID: [UInt8]] = [:]
        try #require(await iterator.next()).apply(to: &copy)
        let writes = 6_000
        for number in 1...writes {
            try checkpoint.writeBlocking(at: (number * 8) % 4_000, [UInt8](repeating: UInt8(number & 255), count: 8))
        }
        var last: UInt64 = 0
        while last < UInt64(writes) {
            let event = try #require(await iterator.next())
            if case .update(let change, _, _) = event { #expect(change == last + 1) }
            #expect(event.change > last)
            last = event.change
            event.apply(to: &copy)
        }
        #expect(try await checkpoint.read() == copy[.defaultSection])
    }

    @Test("A section's data larger than a frame, and larger than the log keeps, survive a kill")
    func largeData() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let attributes = CreationAttributes(
            checkpointSize: 16 << 20, retentionDuration: 0, sectionsMax: 2, sectionSizeMax: 8 << 20)
        let checkpoint = try await Checkpoint.open(SaName("safCkpt=large")!, creating: attributes, in: service)
        var random = SeededRandom(seed: 3)
        let data = (0..<(3 << 20)).map { _ in UInt8(truncatingIfNeeded: random.next()) }
        try await checkpoint.createSection("big", data)
        try await checkpoint.write("big", at: 70_000, [1, 2, 3])
        harness.kill()
        try harness.start()
        var expected = data
        expected.replaceSubrange(70_000..<70_003, with: [1, 2, 3])
        let found = try await checkpoint.read("big")
        #expect(found == expected)
    }

    @Test("A damaged file is moved aside and the others are served")
    func damaged() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let good = try await Checkpoint.open(
            SaName("safCkpt=good")!, creating: DaemonHarness.attributes(sections: 1), in: service)
        try await good.overwrite(.defaultSection, [1, 2, 3])
        let bad = try await Checkpoint.open(
            SaName("safCkpt=bad")!, creating: DaemonHarness.attributes(sections: 1), in: service)
        try await bad.overwrite(.defaultSection, [4, 5, 6])
        let files = try File.list("\(harness.places.shmDirectory)/ckpt").filter { $0.hasSuffix(".ckpt") }.sorted()
        #expect(files.count == 2)
        harness.kill()
        var random = SeededRandom(seed: 1)
        let noise = (0..<5_000).map { _ in UInt8.random(in: .min ... .max, using: &random) }
        try File.writeAtomically("\(harness.places.shmDirectory)/ckpt/\(files[1])", noise, durable: false)
        try harness.start()
        #expect(try await good.read() == [1, 2, 3])
        let again = try await bad.status()
        #expect(again.change == 0, "created anew under its name")
        #expect(try File.list("\(harness.places.shmDirectory)/ckpt/damaged").count == 1)
    }
}
