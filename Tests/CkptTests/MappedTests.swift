import CkptClient
import CkptProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import Synchronization
import Testing

@Suite("Reads of a real ckptd's replicas, without asking it", .serialized)
struct MappedTests {
    private static let id = SectionID("one")

    /// Read while ckptd cannot answer.
    private func isMapped(_ harness: DaemonHarness, _ checkpoint: Checkpoint, _ id: SectionID) -> [UInt8]? {
        harness.freeze()
        defer { harness.thaw() }
        return try? checkpoint.readBlocking(id, timeout: .milliseconds(20))
    }

    @Test("A read needs no ckptd; growth, new sections, deleted ones and replaced checkpoints are seen at once")
    func changes() async throws {
        let harness = try DaemonHarness()
        let (writing, reading) = (harness.service(), harness.service())
        let name = SaName("safCkpt=mapped")!
        let attributes = CreationAttributes(
            checkpointSize: 64 << 20, retentionDuration: 0, sectionsMax: 1_000, sectionSizeMax: 16 << 20)
        let writer = try await Checkpoint.open(name, creating: attributes, in: writing)
        let reader = try await Checkpoint.open(name, [.read], in: reading)
        try writer.createSectionBlocking(Self.id, [1, 2, 3])
        #expect(try reader.readBlocking(Self.id) == [1, 2, 3])
        #expect(isMapped(harness, reader, Self.id) == [1, 2, 3], "the second read asks nobody")
        try writer.writeBlocking(Self.id, at: 3, [4])
        #expect(isMapped(harness, reader, Self.id) == [1, 2, 3, 4])
        #expect(try reader.readBlocking(Self.id, at: 2, count: 1) == [3])
        #expect(try reader.readBlocking(Self.id, at: 4) == [])
        #expect(throws: AisError.invalidParam) { try reader.readBlocking(Self.id, at: 5) }
        #expect(throws: AisError.notExist) { try reader.readBlocking("none") }

        for number in 0..<200 { try writer.createSectionBlocking(SectionID("s\(number)"), [UInt8(number)]) }
        for number in 0..<200 { #expect(try reader.readBlocking(SectionID("s\(number)")) == [UInt8(number)]) }
        #expect(isMapped(harness, reader, "s150") == [150])
        let large = (0..<(5 << 20)).map { UInt8(truncatingIfNeeded: $0 / 7) }
        try writer.overwriteBlocking("s3", large)
        #expect(try reader.readBlocking("s3").elementsEqual(large), "the file has grown")
        #expect(isMapped(harness, reader, "s3").map { $0 == large } == true)
        try writer.deleteSectionBlocking("s3")
        #expect(throws: AisError.notExist) { try reader.readBlocking("s3") }
        try writer.createSectionBlocking("s3", [7])
        #expect(try reader.readBlocking("s3") == [7])
        let several = try reader.readBlocking([ReadRange(id: Self.id), ReadRange(id: "s5", offset: 0, count: 1)])
        #expect(several.parts == [[1, 2, 3, 4], [5]])
        #expect(try several.change == writer.statusBlocking().change)
        #expect(try await reader.read(Self.id) == [1, 2, 3, 4])
        try await writer.setExpiration("s4", MonotonicClock.wallNanoseconds() - 1)
        #expect(throws: AisError.notExist) { try reader.readBlocking("s4") }

        try await Checkpoint.unlink(name, in: writing)
        let other = try await Checkpoint.open(name, creating: attributes, in: writing)
        try other.createSectionBlocking(Self.id, [9])
        #expect(try reader.readBlocking(Self.id) == [1, 2, 3, 4], "what is open stays what it was")
        #expect(try Checkpoint.openBlocking(name, [.read], in: reading).readBlocking(Self.id) == [9])
        try await reader.close()
        #expect(throws: AisError.badHandle) { try reader.readBlocking(Self.id) }
        let blind = try await Checkpoint.open(name, [.write], in: reading)
        #expect(throws: AisError.access) { try blind.readBlocking(Self.id) }
    }

    @Test("ckptd is dead: a node alone reads on; ckptd is back: so it does")
    func deadServer() async throws {
        let harness = try DaemonHarness()
        let service = harness.service()
        let name = SaName("safCkpt=dead")!
        let checkpoint = try await Checkpoint.open(
            name, creating: DaemonHarness.attributes(sections: 1), in: service)
        try checkpoint.writeBlocking(at: 0, [1])
        #expect(try checkpoint.readBlocking() == [1])
        for round in 2..<6 as Range<UInt8> {
            harness.kill()
            #expect(try checkpoint.readBlocking(timeout: .milliseconds(20)) == [round - 1])
            try harness.start()
            try checkpoint.writeBlocking(at: 0, [round], timeout: .seconds(30))
            #expect(try checkpoint.readBlocking() == [round])
            #expect(isMapped(harness, checkpoint, .defaultSection) == [round])
        }
    }

    @Test("Collocated, asynchronous: there is nothing to be read before there is an active replica")
    func noActiveReplica() async throws {
        let harness = try DaemonHarness()
        var attributes = DaemonHarness.attributes(sections: 1)
        attributes.flags = [.writeActiveReplica, .collocated]
        let checkpoint = try await Checkpoint.open(
            SaName("safCkpt=collocated")!, creating: attributes, in: harness.service())
        #expect(throws: AisError.notExist) { try checkpoint.readBlocking() }
        #expect(throws: AisError.notExist) { try checkpoint.readBlocking() }
        try await checkpoint.setActiveReplica()
        try checkpoint.writeBlocking(at: 0, [5])
        // Refused before, the client asks for the map again only after a pause; and a ckptd that is stopped in the
        // middle of a step is asked in vain.
        let deadline = MonotonicClock.now() + .seconds(30)
        var wasMapped = false
        while !wasMapped, MonotonicClock.now() < deadline {
            #expect(try checkpoint.readBlocking() == [5])
            wasMapped = isMapped(harness, checkpoint, .defaultSection) == [5]
        }
        #expect(wasMapped)
    }

    @Test("A reader cannot write: not through the descriptor, not through a mapping")
    func readOnly() async throws {
        let harness = try DaemonHarness()
        let connection = IOCConnection(to: .wellKnown(.ckptd), places: harness.places)
        defer { connection.close() }
        var body = ByteWriter()
        CkptRequest.open(
            SaName("safCkpt=ro")!, flags: [.read, .create], attributes: DaemonHarness.attributes(sections: 1)
        ).encode(to: &body)
        let bytes = body.bytes
        let opened = try OpenReply(
            decoding: try connection.call(CkptCode.open.rawValue, timeout: .seconds(30)) { $0.raw(bytes) }.body)
        let reply = try connection.call(CkptCode.map.rawValue, timeout: .seconds(30)) {
            $0.integer(opened.handle.rawValue)
        }
        #expect(try MapReply(decoding: reply.body).hasReplica)
        try #require(reply.descriptors.count == 2)
        for raw in reply.descriptors {
            let descriptor = Descriptor(owning: raw)
            #expect(throws: OSError.self) { try Mapping.map(descriptor.raw, count: 4_096, writable: true) }
            let byte = [UInt8(1)]
            #expect(throws: OSError.self) { try byte.withUnsafeBytes { try IO.writeAll(descriptor.raw, $0) } }
            #expect(try Mapping.map(descriptor.raw, count: 4_096, writable: false).count == 4_096)
            #expect(try File.stat(descriptor: descriptor.raw).mode & 0o777 == 0o600)
        }
    }

    /// A section's content that says whether it is whole: its number, again and again, and as many bytes as that says.
    private static func content(_ number: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        let words = 1 + Int(number &* 2_654_435_761 % 500)
        bytes.reserveCapacity(words * 8)
        for _ in 0..<words { for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: number >> (shift * 8))) } }
        return bytes
    }

    private static func number(_ bytes: [UInt8]) -> UInt64? {
        guard bytes.count >= 8 else { return nil }
        let number = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[$1]) << ($1 * 8) }
        return bytes == content(number) ? number : nil
    }

    private final class Shared: Sendable {
        let isOver = Atomic(false)
        let problems = Lock<[String]>([])
        let acknowledged: [Atomic<UInt64>.Box]
        let reads = Atomic<UInt64>(0)
        let writes = Atomic<UInt64>(0)
        init(sections: Int) { acknowledged = (0..<sections).map { _ in .init() } }
        func report(_ text: String) { problems.withLock { if $0.count < 20 { $0.append(text) } } }
    }

    @Test(
        "ckptd killed 200 times under writers: every read is of one write, and never older than what was acknowledged")
    func killed() async throws {
        let harness = try DaemonHarness()
        let seed = UInt64.random(in: 0 ... .max)
        let name = SaName("safCkpt=killed")!
        let sections = 3
        let attributes = CreationAttributes(
            checkpointSize: 1 << 20, retentionDuration: .saTimeEnd, sectionsMax: 64, sectionSizeMax: 1 << 14)
        let first = try await Checkpoint.open(name, creating: attributes, in: harness.service())
        for section in 0..<sections { try first.createSectionBlocking(SectionID("s\(section)"), Self.content(1)) }
        let shared = Shared(sections: sections)
        var threads: [OSThread] = []
        for section in 0..<sections {
            let writer = try await Checkpoint.open(name, in: harness.service())
            threads.append(
                try OSThread.spawn(name: "writer\(section)") {
                    var number: UInt64 = 1
                    while !shared.isOver.load(ordering: .acquiring) {
                        number += 1
                        do throws(AisError) {
                            try writer.overwriteBlocking(
                                SectionID("s\(section)"), Self.content(number), timeout: .seconds(30))
                            // Sections come and go beside it, and the file is used in new ways.
                            if number % 16 == 0 {
                                try writer.createSectionBlocking(
                                    SectionID("t\(section)"), Self.content(number), timeout: .seconds(30))
                            } else if number % 16 == 8, number > 16 {
                                try writer.deleteSectionBlocking(SectionID("t\(section)"), timeout: .seconds(30))
                            }
                        } catch {
                            return shared.report("write \(number) of \(section): \(error)")
                        }
                        shared.acknowledged[section].word.store(number, ordering: .releasing)
                        shared.writes.wrappingAdd(1, ordering: .relaxed)
                    }
                })
        }
        for index in 0..<2 {
            let reader = try await Checkpoint.open(name, [.read], in: harness.service())
            threads.append(
                try OSThread.spawn(name: "reader\(index)") {
                    var random = SeededRandom(seed: seed &+ UInt64(index))
                    var seen = [UInt64](repeating: 0, count: sections)
                    while !shared.isOver.load(ordering: .acquiring) {
                        let section = Int.random(in: 0..<sections, using: &random)
                        let least = max(seen[section], shared.acknowledged[section].word.load(ordering: .acquiring))
                        do throws(AisError) {
                            let data = try reader.readBlocking(SectionID("s\(section)"), timeout: .seconds(30))
                            guard let number = Self.number(data) else {
                                return shared.report("section \(section): \(data.count) bytes of no write")
                            }
                            if number < least {
                                return shared.report("section \(section): \(number) after \(least)")
                            }
                            seen[section] = number
                        } catch {
                            return shared.report("read of \(section): \(error)")
                        }
                        shared.reads.wrappingAdd(1, ordering: .relaxed)
                    }
                })
        }
        var random = SeededRandom(seed: seed)
        for _ in 0..<200 where shared.problems.withLock(\.isEmpty) {
            // So many writes that the next life has begun to serve, at least.
            let target =
                shared.writes.load(ordering: .relaxed) + UInt64.random(in: 1..<60, using: &random)
            let deadline = MonotonicClock.now() + .seconds(60)
            while shared.writes.load(ordering: .relaxed) < target, MonotonicClock.now() < deadline,
                shared.problems.withLock(\.isEmpty)
            {
                OSThread.yield()
            }
            harness.kill()
            try harness.start()
        }
        shared.isOver.store(true, ordering: .releasing)
        for thread in threads { thread.join() }
        #expect(shared.problems.withLock { $0 } == [], "seed \(seed)")
        let (reads, writes) = (shared.reads.load(ordering: .relaxed), shared.writes.load(ordering: .relaxed))
        #expect(reads > 1_000 && writes > 200)
        print("ckptd killed 200 times, seed \(seed): \(reads) reads, \(writes) writes")
    }
}

extension Atomic where Value == UInt64 {
    fileprivate final class Box: Sendable {
        let word = Atomic<UInt64>(0)
    }
}
