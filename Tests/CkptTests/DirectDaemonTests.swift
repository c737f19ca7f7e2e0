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

    private static func open(_ name: String, in service: CheckpointService) async throws -> Checkpoint {
        let checkpoint = try await Checkpoint.open(
            try #require(SaName(name)), [.read, .write], creating: attributes(), timeout: .seconds(30), in: service)
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
        harness.freeze()
        defer { harness.thaw() }
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

    @Test("A follower gets a snapshot and then every update; direct writes are told through ckptd meanwhile")
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
}
