import CkptClient
import CkptProtocol
import DBAL
import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

@testable import CkptStore

@Suite("Persistent checkpoints in a real ckptd", .serialized)
struct PersistenceDaemonTests {
    private static func attributes(
        sections: UInt32 = 16, retention: SaTime = .saTimeEnd, _ flags: CreationFlags = .writeAllReplicas
    ) -> CreationAttributes {
        CreationAttributes(
            flags: flags.union(.persistent), checkpointSize: 4 << 20, retentionDuration: retention,
            sectionsMax: sections, sectionSizeMax: 4 << 20 / UInt64(sections))
    }

    private static func database(_ harness: DaemonHarness) -> String {
        harness.places.stateDirectory + "/checkpoint-data"
    }

    @Test("Without power everything persistent is there again: data, times, retention, generated ids; nothing else is")
    func coldStart() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let (kept, unlinked, plain) = (
            try #require(SaName("safCkpt=kept")), try #require(SaName("safCkpt=gone")),
            try #require(SaName("safCkpt=plain"))
        )
        let checkpoint = try await Checkpoint.open(kept, creating: Self.attributes(), in: service)
        let large = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        try await checkpoint.createSection("large", large)
        try await checkpoint.createSection("small", [1, 2, 3])
        try await checkpoint.createSection("empty", [])
        let generated = try await checkpoint.createSection(nil, [9])
        let soon = MonotonicClock.wallNanoseconds() + 1_500_000_000
        try await checkpoint.createSection("expiring", [4], expires: soon)
        try await checkpoint.createSection("deleted", [5])
        try await checkpoint.deleteSection("deleted")
        try await checkpoint.write("large", at: 100_000, [UInt8](repeating: 1, count: 64))
        let before = try await checkpoint.readAll()
        let other = try await Checkpoint.open(unlinked, creating: Self.attributes(sections: 1), in: service)
        try await other.overwrite(.defaultSection, [7])
        try await Checkpoint.unlink(unlinked, in: service)
        _ = try await Checkpoint.open(plain, creating: DaemonHarness.attributes(), in: service)
        try harness.losePower()
        try harness.start()
        let later = harness.service()
        await #expect(throws: AisError.notExist) { _ = try await Checkpoint.open(unlinked, in: later) }
        await #expect(throws: AisError.notExist) { _ = try await Checkpoint.open(plain, in: later) }
        let again = try await Checkpoint.open(kept, in: later)
        let after = try await again.readAll()
        // The end of what has expired meanwhile is an update.
        let isExpired = !after.sections.contains { $0.id == "expiring" }
        #expect(after.change == before.change || isExpired && after.change == before.change + 1)
        let living = before.sections.filter { $0.id != "expiring" }
        #expect(after.sections.filter { $0.id != "expiring" } == living)
        #expect(try await again.createSection(nil, [3]) != generated)
        let deadline = MonotonicClock.now() + .seconds(30)
        while try await again.sections().map(\.id).contains("expiring"), MonotonicClock.now() < deadline {
            await Task.yield()
        }
        await #expect(throws: AisError.notExist) { try await again.read("expiring") }
        // What is written now is there after the next time, too.
        try await again.overwrite("small", [8])
        try harness.losePower()
        try harness.start()
        let last = try await Checkpoint.open(kept, in: harness.service())
        #expect(try await last.read("small") == [8])
        #expect(try await last.read("large").count == large.count)
        await #expect(throws: AisError.notExist) { try await last.read("expiring") }
    }

    @Test("Retention goes on after a loss of power: what nobody opens goes, on the disk, too")
    func retention() async throws {
        let harness = try DaemonHarness()
        let name = try #require(SaName("safCkpt=short"))
        let checkpoint = try await Checkpoint.open(
            name, creating: Self.attributes(sections: 1, retention: 300_000_000), in: harness.service())
        try await checkpoint.overwrite(.defaultSection, [1])
        try harness.losePower()
        try harness.start()
        let service = harness.service()
        let deadline = MonotonicClock.now() + .seconds(30)
        while try service.list().checkpoints.map(\.name).contains(name), MonotonicClock.now() < deadline {
            await Task.yield()
        }
        await #expect(throws: AisError.notExist) { _ = try await Checkpoint.open(name, in: service) }
        // The answer to this one comes after everything before it is durable.
        _ = try await Checkpoint.open(
            try #require(SaName("safCkpt=after")), creating: Self.attributes(sections: 1), in: service)
        try harness.losePower()
        try harness.start()
        #expect(try harness.service().list().checkpoints.map(\.name.description) == ["safCkpt=after"])
    }

    private final class Progress: Sendable {
        let asked = Atomic<UInt64>(0)
        let acknowledged = Atomic<UInt64>(0)
    }

    @Test("Power is lost at random moments under load: nothing that was acknowledged is lost")
    func powerLoss() async throws {
        let harness = try DaemonHarness()
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededRandom(seed: seed)
        let writers = 6
        var next: UInt64 = 1
        for round in 0..<8 {
            let progress = (0..<writers).map { _ in Progress() }
            var threads: [OSThread] = []
            let shared = SharedRound()
            for (writer, progress) in progress.enumerated() {
                let service = harness.service()
                // Half of them write to one checkpoint, the others each to its own.
                let name = try #require(SaName("safCkpt=load\(writer % 2 == 0 ? 0 : writer)"))
                let checkpoint = try Checkpoint.openBlocking(name, creating: Self.attributes(), in: service)
                let (section, start) = (SectionID("w\(writer)"), next)
                threads.append(
                    try OSThread.spawn(name: "writer\(writer)") {
                        Self.write(checkpoint, section, from: start, progress, shared)
                    })
            }
            let target = Int.random(in: 20...200, using: &random)
            let deadline = MonotonicClock.now() + .seconds(60)
            while shared.reached.load(ordering: .acquiring) < target, MonotonicClock.now() < deadline {
                OSThread.yield()
            }
            harness.kill()
            shared.stop.store(true, ordering: .releasing)
            for thread in threads { thread.join() }
            // Now and then ckptd alone has died: the RAM files are newer than the disk, and count.
            if round % 4 != 3 { try File.removeTree(harness.places.shmDirectory) }
            try harness.start()
            let service = harness.service()
            for (writer, progress) in progress.enumerated() {
                let name = try #require(SaName("safCkpt=load\(writer % 2 == 0 ? 0 : writer)"))
                let checkpoint = try Checkpoint.openBlocking(name, creating: Self.attributes(), in: service)
                let acknowledged = progress.acknowledged.load(ordering: .acquiring)
                let asked = progress.asked.load(ordering: .acquiring)
                let found = Self.number(try? checkpoint.readBlocking(SectionID("w\(writer)")))
                #expect(
                    (acknowledged...max(acknowledged, asked)).contains(found) || acknowledged == 0,
                    "seed \(seed), round \(round), writer \(writer): \(found) of \(acknowledged)…\(asked)")
                next = max(next, asked + 1)
            }
        }
        print("power lost 6 times under load, ckptd killed 2 times more, seed \(seed): up to write \(next)")
    }

    private final class SharedRound: Sendable {
        let stop = Atomic<Bool>(false)
        let reached = Atomic<Int>(0)
    }

    private static func number(_ bytes: [UInt8]?) -> UInt64 {
        (bytes ?? []).prefix(8).reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }

    private static func write(
        _ checkpoint: Checkpoint, _ section: SectionID, from start: UInt64, _ progress: Progress, _ round: SharedRound
    ) {
        var number = start
        while !round.stop.load(ordering: .acquiring) {
            let data = withUnsafeBytes(of: number.littleEndian) { Array($0) } + [UInt8](repeating: 7, count: 40)
            progress.asked.store(number, ordering: .releasing)
            do throws(AisError) {
                do throws(AisError) {
                    try checkpoint.writeBlocking(timeout: .seconds(1)) { $0.overwrite(section, data) }
                } catch {
                    guard error == .notExist else { throw error }
                    try checkpoint.writeBlocking(timeout: .seconds(1)) { $0.create(section, data) }
                }
                progress.acknowledged.store(number, ordering: .releasing)
                round.reached.add(1, ordering: .releasing)
                number += 1
            } catch {
                continue  // ckptd is gone, or will be
            }
        }
    }

    @Test("A damaged database is named and moved aside; what is in memory and all others are served")
    func damaged() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let (name, plain) = (try #require(SaName("safCkpt=p")), try #require(SaName("safCkpt=plain")))
        let checkpoint = try await Checkpoint.open(name, creating: Self.attributes(sections: 1), in: service)
        try await checkpoint.overwrite(.defaultSection, [1])
        let other = try await Checkpoint.open(plain, creating: DaemonHarness.attributes(sections: 1), in: service)
        try await other.overwrite(.defaultSection, [2])
        harness.kill()
        let path = Self.database(harness)
        // What it has lies in both files.
        try File.writeAtomically(path, [UInt8](repeating: 0x55, count: 8_192), durable: false, mode: 0o600)
        _ = try File.remove(path + "-wal")
        try harness.start()
        let later = harness.service()
        #expect(try await Checkpoint.open(plain, in: later).read() == [2])
        let again = try await Checkpoint.open(name, in: later)
        #expect(try await again.read() == [1])
        try await again.overwrite(.defaultSection, [3])
        #expect(try File.list(harness.places.stateDirectory).contains { $0.hasPrefix("checkpoint-data.damaged-") })
        try harness.losePower()
        try harness.start()
        #expect(try await Checkpoint.open(name, in: harness.service()).read() == [3])
    }

    @Test("A damaged record costs the section or the checkpoint it belongs to, and nothing else")
    func damagedRecords() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let names = try ["safCkpt=a", "safCkpt=b", "safCkpt=c"].map { try #require(SaName($0)) }
        var ids: [CheckpointID] = []
        for name in names {
            let checkpoint = try await Checkpoint.open(name, creating: Self.attributes(), in: service)
            try await checkpoint.createSection("large", [UInt8](repeating: 6, count: 100_000))
            try await checkpoint.createSection("small", [6])
            ids.append(try #require(try service.list().checkpoints.first { $0.name == name }).checkpoint)
        }
        try harness.losePower()
        let database = try DatabaseEngine.sqlite.open(Self.database(harness))
        let records = PersistentRecords.self
        for key in [records.blockKey(ids[0], 0, 3), records.headKey(ids[1])] {
            var value = try #require(try database.value(of: key))
            value[value.count / 2] ^= 1
            try database.put(key, value)
        }
        database.close()
        try harness.start()
        let later = harness.service()
        await #expect(throws: AisError.notExist) { _ = try await Checkpoint.open(names[1], in: later) }
        let damaged = try await Checkpoint.open(names[0], in: later)
        await #expect(throws: AisError.library) { try await damaged.read("large") }
        #expect(try await damaged.read("small") == [6])
        #expect(try await Checkpoint.open(names[2], in: later).read("large").count == 100_000)
        // The rest of it stands in a new database, to which the damaged section is a corrupted one.
        try await damaged.overwrite("small", [7])
        try harness.losePower()
        try harness.start()
        let last = try await Checkpoint.open(names[0], in: harness.service())
        #expect(try await last.read("small") == [7])
        await #expect(throws: AisError.library) { try await last.read("large") }
        try await last.overwrite("large", [8])
        #expect(try await last.read("large") == [8])
    }

    @Test(
        "A full disk refuses what is persistent and nothing else; with space again all goes on, and nothing is lost",
        .enabled(if: Environment.userID == 0))
    func fullDisk() async throws {
        let harness = try DaemonHarness()
        harness.kill()
        let state = harness.places.stateDirectory
        try File.makeDirectories(state, mode: 0o700)
        try #require(try Self.run("/bin/mount", ["-t", "tmpfs", "-o", "size=2m", "tmpfs", state]) == 0)
        defer {
            harness.kill()
            _ = try? Self.run("/bin/umount", [state])
        }
        try harness.start()
        let service = harness.service()
        let name = try #require(SaName("safCkpt=p"))
        let checkpoint = try await Checkpoint.open(name, creating: Self.attributes(), in: service)
        let plain = try await Checkpoint.open(
            try #require(SaName("safCkpt=plain")), creating: DaemonHarness.attributes(), in: service)
        func write(_ number: Int) async throws(AisError) {
            // Sections of their own, so that the disk needs more and more.
            let data = [UInt8](repeating: UInt8(number), count: 200_000)
            try await checkpoint.write(timeout: .seconds(2)) { $0.create(SectionID("s\(number)"), data) }
        }
        var acknowledged = 0
        var refusals: [AisError] = []
        while refusals.last != .noSpace, acknowledged < 16 {
            do throws(AisError) {
                try await write(acknowledged)
                acknowledged += 1
            } catch {
                refusals.append(error)
                try #require(refusals.count < 10, "\(refusals)")
                if error == .timeout { acknowledged += 1 }  // it is done, and will be durable
            }
        }
        let degraded = try service.durability()
        #expect(degraded.trouble.contains("full") && degraded.behind == 1 && degraded.checkpoints == 1, "\(degraded)")
        #expect(refusals.last == .noSpace && acknowledged > 2, "\(refusals) after \(acknowledged)")
        try await plain.createSection("a", [1])
        // A file system that grows is a disk on which somebody made room.
        try #require(try Self.run("/bin/mount", ["-o", "remount,size=64m", state]) == 0)
        let deadline = MonotonicClock.now() + .seconds(30)
        var isDone = false
        while !isDone, MonotonicClock.now() < deadline {
            do throws(AisError) {
                try await checkpoint.createSection("last", [1])
                isDone = true
            } catch {
                try #require(error == .noSpace || error == .tryAgain)
                await Task.yield()
            }
        }
        #expect(isDone)
        let mended = try service.durability()
        #expect(mended.trouble.isEmpty && mended.behind == 0)
        try harness.losePower()
        try harness.start()
        let found = try await Checkpoint.open(name, in: harness.service()).readAll()
        #expect(found.sections.count == acknowledged + 1)
        for (number, section) in found.sections.dropLast().enumerated() {
            #expect(section.data == [UInt8](repeating: UInt8(number), count: 200_000))
        }
    }

    private static func run(_ program: String, _ arguments: [String]) throws -> Int32 {
        let child = try Process.spawn(SpawnOptions(path: program, arguments: [program] + arguments))
        _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(30))
        guard case .exited(let code) = Process.reap(child.pid) else { return -1 }
        return code
    }

    @Test("A database of another form is left alone; what is not persistent is served")
    func otherForm() async throws {
        let harness = try DaemonHarness()
        harness.kill()
        let path = Self.database(harness)
        try File.makeDirectories(harness.places.stateDirectory, mode: 0o700)
        let made = try DatabaseEngine.sqlite.open(path)
        try made.apply([PersistentRecords.record(PersistentRecords.formKey) { $0.integer(UInt16(9)) }])
        let foreign = try made.records(from: [], limit: 10)
        made.close()
        try harness.start()
        let service = harness.service()
        await #expect(throws: AisError.tryAgain) {
            _ = try await Checkpoint.open(
                try #require(SaName("safCkpt=p")), creating: Self.attributes(), timeout: .seconds(1), in: service)
        }
        #expect(service.lastRefusal.contains("form 9; 1 expected"), "\(service.lastRefusal)")
        let plain = try #require(SaName("safCkpt=plain"))
        _ = try await Checkpoint.open(plain, creating: DaemonHarness.attributes(), in: service)
        harness.kill()
        #expect(try DatabaseEngine.sqlite.open(path).records(from: [], limit: 10) == foreign)
    }
}
