import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

@Suite("Direct writes, real processes", .serialized)
struct DirectDaemonTests {
    private static func attributes(sections: UInt32 = 4, sectionMax: UInt64 = 64 << 10) -> CreationAttributes {
        CreationAttributes(
            flags: [.writeActiveReplica, .collocated], checkpointSize: UInt64(sections) * sectionMax,
            retentionDuration: .saTimeEnd,
            sectionsMax: sections, sectionSizeMax: sectionMax)
    }

    private static func open(
        _ name: String, in service: CheckpointService, sections: UInt32 = 4
    ) async throws -> Checkpoint {
        let checkpoint = try await Checkpoint.open(
            try #require(SaName(name)), [.read, .write], creating: attributes(sections: sections),
            timeout: .seconds(30), in: service)
        try await checkpoint.setActiveReplica(timeout: .seconds(30))
        return checkpoint
    }

    /// Writes until ckptd leaves the section to us: with ckptd stopped, a write goes on.
    private static func warm(_ checkpoint: Checkpoint, _ section: SectionID, _ data: [UInt8]) throws {
        for _ in 0..<6 { try checkpoint.overwriteBlocking(section, data, timeout: .seconds(30)) }
    }

    @Test("Once granted, writes and reads go on without ckptd; what is written is there for everybody")
    func withoutDaemon() async throws {
        let harness = try DaemonHarness()
        let writer = try await Self.open("safCkpt=direct", in: harness.service())
        try writer.createSectionBlocking("a", [1, 2, 3])
        try Self.warm(writer, "a", [1, 2, 3])
        let other = try Checkpoint.openBlocking(
            try #require(SaName("safCkpt=direct")), [.read], in: harness.service())
        #expect(try other.readBlocking("a") == [1, 2, 3])
        // Who could not map it, for want of descriptors or of a CPU, tries again a moment later.
        defer { harness.thaw() }
        let deadline = MonotonicClock.now() + .seconds(30)
        while true {
            harness.freeze()
            let isDirect = (try? writer.overwriteBlocking("a", [1, 2, 3], timeout: .milliseconds(50))) != nil
            if isDirect, (try? other.readBlocking("a", timeout: .milliseconds(50))) == [1, 2, 3] { break }
            harness.thaw()
            try #require(MonotonicClock.now() < deadline, "ckptd never leaves the section to its writers")
            try Self.warm(writer, "a", [1, 2, 3])
            #expect(try other.readBlocking("a") == [1, 2, 3])
        }
        let first = try writer.writeBlocking("a", at: 5, [9], timeout: .milliseconds(500))
        #expect(try writer.readBlocking("a", timeout: .milliseconds(500)) == [1, 2, 3, 0, 0, 9])
        let second = try writer.overwriteBlocking("a", [7, 7], timeout: .milliseconds(500))
        #expect(second == first + 1)
        #expect(try other.readBlocking("a", at: 1, count: 5, timeout: .milliseconds(500)) == [7])
        harness.thaw()
        let status = try writer.statusBlocking()
        #expect(status.change == second && status.memoryUsed == 2)
        let snapshot = try writer.readAllBlocking()
        #expect(snapshot.change == second && snapshot.sections.map(\.data) == [[7, 7]])
        #expect(try writer.writeBlocking("a", at: 0, [5]) > second)
        #expect(try other.readBlocking("a") == [5, 7])
    }

    @Test("A section grows beyond what it was given through ckptd, and is given more")
    func growth() async throws {
        let harness = try DaemonHarness()
        let writer = try await Self.open("safCkpt=growing", in: harness.service())
        try writer.createSectionBlocking("a", [1])
        var model: [UInt8] = [1]
        var random = SeededRandom(seed: 4)
        for round in 0..<400 {
            let offset = Int.random(in: 0...model.count, using: &random)
            let data = [UInt8](
                repeating: UInt8(truncatingIfNeeded: round), count: Int.random(in: 1...300, using: &random))
            try writer.writeBlocking("a", at: offset, data)
            if model.count < offset + data.count {
                model += [UInt8](repeating: 0, count: offset + data.count - model.count)
            }
            model.replaceSubrange(offset..<(offset + data.count), with: data)
            #expect(try writer.readBlocking("a") == model)
            if model.count > 40_000 {
                try writer.overwriteBlocking("a", [1])
                model = [1]
            }
        }
        #expect(throws: AisError.invalidParam) { try writer.writeBlocking("a", at: 64 << 10, [1]) }
        #expect(throws: AisError.notExist) { try writer.writeBlocking("b", at: 0, [1]) }
        try writer.deleteSectionBlocking("a")
        #expect(throws: AisError.notExist) { try writer.writeBlocking("a", at: 0, [1]) }
        try writer.createSectionBlocking("a", [2])
        #expect(try writer.readBlocking("a") == [2])
        try writer.closeBlocking()
        #expect(throws: AisError.badHandle) { try writer.writeBlocking("a", at: 0, [1]) }
    }

    private final class Shared: Sendable {
        private let numbers: Mutex<[UInt64]>
        let failure = Mutex<AisError?>(nil)
        init(_ count: Int) { numbers = Mutex(Array(repeating: 0, count: count)) }
        var written: [UInt64] { numbers.withLock { $0 } }
        func wrote(_ number: UInt64, _ index: Int) { numbers.withLock { $0[index] = number } }
    }

    @Test("kill -9 of ckptd while four threads write directly: nothing acknowledged is lost")
    func killDaemon() async throws {
        let harness = try DaemonHarness()
        let seed = UInt64.random(in: 0 ... .max)
        let checkpoint = try await Self.open("safCkpt=load", in: harness.service())
        let shared = Shared(4)
        for section in 0..<4 { try checkpoint.createSectionBlocking(SectionID([UInt8(section)]), Self.filled(0)) }
        let isOver = Atomic(false)
        let writers = try (0..<4).map { index in
            try OSThread.spawn(name: "writer") {
                var number: UInt64 = 0
                while !isOver.load(ordering: .acquiring) {
                    number += 1
                    do throws(AisError) {
                        try checkpoint.overwriteBlocking(
                            SectionID([UInt8(index)]), Self.filled(number), timeout: .seconds(30))
                    } catch {
                        shared.failure.withLock { $0 = error }
                        return
                    }
                    shared.wrote(number, index)
                }
            }
        }
        var random = SeededRandom(seed: seed)
        for _ in 0..<12 {
            let before = shared.written
            let goal = UInt64.random(in: 5...300, using: &random)
            let deadline = MonotonicClock.now() + .seconds(30)
            while shared.written[0] < before[0] + goal, MonotonicClock.now() < deadline {
                OSThread.yield()
            }
            harness.kill()
            // While nobody is there each section has what was acknowledged last, or what is being written.
            let acknowledged = shared.written
            try harness.start()
            for section in 0..<4 {
                let data = try checkpoint.readBlocking(SectionID([UInt8(section)]), timeout: .seconds(30))
                let number = data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
                #expect(data == Self.filled(number) && number >= acknowledged[section], "seed \(seed)")
            }
        }
        isOver.store(true, ordering: .releasing)
        for writer in writers { writer.join() }
        #expect(shared.failure.withLock { $0 } == nil, "seed \(seed)")
        let end = try checkpoint.readAllBlocking()
        #expect(end.sections.map(\.data) == shared.written.map { Self.filled($0) })
        print(
            "seed \(seed): \(shared.written) direct writes, ckptd killed 12 times")
    }

    private static func filled(_ number: UInt64) -> [UInt8] {
        withUnsafeBytes(of: number) { Array($0) } + [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 900)
    }

    @Test("A follower gets a snapshot and then every update; direct writes are told, each for itself if they are slow")
    func follower() async throws {
        let harness = try DaemonHarness()
        let writer = try await Self.open("safCkpt=followed", in: harness.service())
        try writer.createSectionBlocking("a", [0])
        try Self.warm(writer, "a", [1])
        try writer.overwriteBlocking("a", [2])
        let standby = try await Checkpoint.open(
            try #require(SaName("safCkpt=followed")), [.read], in: harness.service())
        var iterator = standby.updates.makeAsyncIterator()
        var copy: [SectionID: [UInt8]] = [:]
        try #require(await iterator.next()).apply(to: &copy)
        #expect(copy["a"] == [2])
        for number in 3...20 {
            try writer.overwriteBlocking("a", [UInt8(number)])
            try #require(await iterator.next()).apply(to: &copy)
            #expect(copy["a"] == [UInt8(number)])
        }
    }

    @Test(
        "A full RAM file system is NO_SPACE for what needs more; what is there goes on",
        .enabled(if: Environment.userID == 0))
    func fullMemory() async throws {
        let harness = try DaemonHarness()
        harness.kill()
        let shm = harness.places.shmDirectory
        try File.makeDirectories(shm, mode: 0o755)
        try #require(try Self.run("/bin/mount", ["-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", shm]) == 0)
        defer {
            harness.kill()
            _ = try? Self.run("/bin/umount", ["-l", shm])
        }
        try harness.start()
        let writer = try await Self.open("safCkpt=full", in: harness.service(), sections: 64)
        try writer.createSectionBlocking("a", [1, 2, 3])
        try writer.createSectionBlocking("b", [4])
        for name in ["a", "b"] as [SectionID] { try Self.warm(writer, name, [7, 8]) }
        var (size, made) = (2, 0)
        var refusal: AisError?
        while refusal == nil, made < 64 {
            do throws(AisError) {
                if size < 60_000 {
                    try writer.writeBlocking("a", at: size, [UInt8](repeating: 5, count: 2_000), timeout: .seconds(30))
                    size += 2_000
                } else {
                    try writer.createSectionBlocking(SectionID("c\(made)"), [UInt8](repeating: 1, count: 60_000))
                    made += 1
                }
            } catch {
                refusal = error
            }
        }
        #expect(refusal == .noSpace && made < 20)
        #expect(try writer.readBlocking("a").prefix(3) == [7, 8, 5])
        try writer.overwriteBlocking("b", [9])
        #expect(try writer.readBlocking("b") == [9])
        harness.kill()
        try harness.start()
        #expect(try writer.readBlocking("b", timeout: .seconds(30)) == [9])
        #expect(try writer.readBlocking("a", timeout: .seconds(30)).count == size)
    }

    private static func run(_ program: String, _ arguments: [String]) throws -> Int32 {
        let child = try Process.spawn(SpawnOptions(path: program, arguments: [program] + arguments))
        _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(30))
        guard case .exited(let code)? = Process.reap(child.pid) else { return -1 }
        return code
    }

    /// A process that writes a section without end, and can be killed.
    private final class Worker {
        private let counter: SharedFile
        private let options: SpawnOptions
        private var child: Int32 = 0
        let section: String

        init(_ name: String, _ section: String, _ harness: DaemonHarness, counter: String? = nil) throws {
            self.section = section
            let path = "\(harness.root)/\(counter ?? section)-counter"
            self.counter = try SharedFile.create(path, size: 4_096, mode: 0o600)
            let tests = try #require(Environment.executablePath)
            var options = SpawnOptions(
                path: File.parent(of: tests) + "/ckptworker",
                arguments: ["ckptworker", "direct", name, section, path],
                environment: Environment.all + harness.places.environment)
            options.deathSignal = .kill
            self.options = options
        }

        var acknowledged: UInt64 { counter.mapping.base.atomic(UInt64.self).pointee.load(ordering: .acquiring) }

        func start() throws { child = try Process.spawn(options).pid }

        func kill() {
            guard child > 0 else { return }
            _ = try? Process.kill(child, .kill)
            while Process.reap(child) == nil { OSAL.pause() }
            child = 0
        }

        deinit { kill() }
    }

    private static func number(_ data: [UInt8]) -> UInt64 { data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) } }

    @Test("Whoever follows writers that ask nobody has each time what was so at one moment, and in the end everything")
    func followedWriters() async throws {
        let harness = try DaemonHarness()
        let writer = try await Self.open("safCkpt=told", in: harness.service())
        let sections = ["a", "b", "c"] as [SectionID]
        for section in sections { try writer.createSectionBlocking(section, Self.numbered(0)) }
        let standby = try await Checkpoint.open(try #require(SaName("safCkpt=told")), [.read], in: harness.service())
        let last: UInt64 = 20_000
        let failure = Mutex<AisError?>(nil)
        var updates = 0
        var thread: OSThread?
        var copy: [SectionID: [UInt8]] = [:]
        for await event in standby.updates {
            event.apply(to: &copy)
            updates += 1
            let numbers = sections.map { Self.number(copy[$0] ?? Self.numbered(0)) }
            for section in sections { #expect(copy[section] == Self.numbered(Self.number(copy[section] ?? []))) }
            // Each number is written to one section after the other.
            #expect(zip(numbers, numbers.dropFirst()).allSatisfy { $0 >= $1 } && numbers[0] <= numbers[2] + 1)
            if numbers[2] == last { break }
            guard thread == nil else { continue }
            thread = try OSThread.spawn(name: "writer") {
                for number in 1...last {
                    for section in sections {
                        do throws(AisError) {
                            try writer.overwriteBlocking(section, Self.numbered(number), timeout: .seconds(30))
                        } catch {
                            failure.withLock { $0 = error }
                        }
                    }
                }
            }
        }
        thread?.join()
        #expect(failure.withLock { $0 } == nil)
        #expect(updates < 30_000, "many of the 60,000 writes are told together")
        #expect(try writer.readAllBlocking().sections.map(\.data) == sections.map { copy[$0] })
        print("\(updates) updates of \(3 * last) writes")
    }

    /// Somebody who does what he is told.
    private final class Standby: Sendable {
        private let sections = Mutex<[SectionID: [UInt8]]>([:])

        var copy: [[UInt8]] { sections.withLock { all in all.sorted { $0.key < $1.key }.map(\.value) } }

        func follow(_ checkpoint: Checkpoint) async {
            for await event in checkpoint.updates { sections.withLock { event.apply(to: &$0) } }
        }
    }

    @Test(
        "kill -9 of writers, of ckptd, and of both: sections are whole, and nothing acknowledged is lost",
        arguments: [false, true])
    func killEverybody(isFollowed: Bool) async throws {
        let harness = try DaemonHarness()
        let seed = UInt64.random(in: 0 ... .max)
        var random = SeededRandom(seed: seed)
        let reader = try await Self.open("safCkpt=all", in: harness.service())
        let workers = try ["w0", "w1", "shared"].map { try Worker("safCkpt=all", $0, harness) }
        for worker in workers { try reader.createSectionBlocking(SectionID(worker.section), Self.numbered(0)) }
        let standby = Standby()
        let following = isFollowed ? Task { await standby.follow(reader) } : nil
        defer { following?.cancel() }
        // Two of them write the same section: what is acknowledged there may be overwritten, but never torn.
        let rival = try Worker("safCkpt=all", "shared", harness, counter: "rival")
        for worker in workers + [rival] { try worker.start() }
        for _ in 0..<40 {
            let before = workers.map(\.acknowledged)
            let deadline = MonotonicClock.now() + .seconds(60)
            while zip(workers, before).contains(where: { $0.acknowledged < $1 + 3 }), MonotonicClock.now() < deadline {
                OSThread.yield()
            }
            let moment = MonotonicClock.now() + .microseconds(Int64.random(in: 0...3_000, using: &random))
            while MonotonicClock.now() < moment { OSThread.yield() }
            let victims =
                workers.filter { _ in random.chance(percent: 40) } + (random.chance(percent: 40) ? [rival] : [])
            let daemonDies = random.chance(percent: 50)
            if daemonDies, random.chance(percent: 50) { harness.kill() }
            for victim in victims { victim.kill() }
            if daemonDies { harness.kill() }
            let acknowledged = workers.map(\.acknowledged)
            if daemonDies { try harness.start() }
            for (index, worker) in workers.enumerated() {
                let data = try reader.readBlocking(SectionID(worker.section), timeout: .seconds(60))
                let number = data.withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
                let strange = data.dropFirst(8).first { $0 != UInt8(truncatingIfNeeded: number) }
                let torn = "\(worker.section) is torn: \(data.count) bytes of \(number), also \(strange ?? 0)"
                #expect(data == Self.numbered(number), "seed \(seed): \(torn)")
                if index < 2 {
                    #expect(number >= acknowledged[index], "seed \(seed): \(worker.section) lost an update")
                }
            }
            for victim in victims { try victim.start() }
        }
        for worker in workers + [rival] { worker.kill() }
        if isFollowed {
            let deadline = MonotonicClock.now() + .seconds(60)
            var sections: [[UInt8]] = []
            repeat {
                sections = try reader.readAllBlocking(timeout: .seconds(30)).sections
                    .sorted { $0.descriptor.id < $1.descriptor.id }.map(\.data)
                await Task.yield()  // who follows may be waiting for this thread
            } while standby.copy != sections && MonotonicClock.now() < deadline
            #expect(standby.copy == sections, "seed \(seed): who follows has what there is")
        }
        print("seed \(seed): \(workers.map(\.acknowledged)) writes")
    }

    private static func numbered(_ number: UInt64) -> [UInt8] {
        withUnsafeBytes(of: number) { Array($0) }
            + [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: Int(number % 900))
    }
}
