import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

@testable import CkptLayout

@Suite("Direct section, several threads and processes", .serialized)
struct DirectProcessTests {
    private func run(_ arguments: String...) throws -> String {
        let tests = try #require(Environment.executablePath)
        var options = SpawnOptions(
            path: File.parent(of: tests) + "/directwriter", arguments: ["directwriter"] + arguments)
        let directory = try File.makeTemporaryDirectory("/dev/shm/direct-test-")
        defer { try? File.removeTree(directory) }
        let output = try File.openForAppending("\(directory)/out", mode: 0o600)
        options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)]
        options.deathSignal = .kill
        let child = try Process.spawn(options)
        let deadline = MonotonicClock.now() + .seconds(300)
        #expect(try IO.waitUntil(child.rawPidfd, readable: true, deadline: deadline))
        _ = try Process.kill(child.pid, .kill)
        while Process.reap(child.pid) == nil { OSThread.yield() }
        return try File.readText("\(directory)/out", limit: 4096)
    }

    @Test("9,000 writers killed at a random instruction: each section is exactly what was published, the lock is free")
    func kills() throws {
        let said = try run("kills", "9000", "\(UInt64.random(in: 0 ... .max))")
        #expect(said.hasPrefix("ok: 9000 killed"), "\(said)")
        print(said)
    }

    @Test("1,000 more killed while three others go on writing: nothing is torn, nobody waits for ever")
    func killsBesideOthers() throws {
        let said = try run("together", "1000", "\(UInt64.random(in: 0 ... .max))")
        #expect(said.hasPrefix("ok: 1000 killed"), "\(said)")
        print(said)
    }

    @Test("3,000 killed while somebody tells others: each is told of all that was published, as of one moment")
    func killsTold() throws {
        let said = try run("told", "3000", "\(UInt64.random(in: 0 ... .max))")
        #expect(said.hasPrefix("ok: 3000 killed"), "\(said)")
        print(said)
    }

    private final class SharedFileMemory: @unchecked Sendable {
        let buffer: UnsafeMutableRawBufferPointer
        init(count: Int) {
            buffer = .allocate(byteCount: count, alignment: 4096)
            buffer.initializeMemory(as: UInt8.self, repeating: 0)
        }
        deinit { buffer.deallocate() }
    }

    @Test("Four threads add up without losing one, while a reader never sees half a write")
    func threads() throws {
        let place = DirectPlace(offset: 4096, limit: 3_000, grant: 1)
        let memory = SharedFileMemory(count: 4096 + place.bytes)
        let section = try #require(DirectSection(place, in: memory.buffer))
        [UInt8](repeating: 0, count: 3_000).withUnsafeBytes { section.prepare($0, lastUpdate: 0, change: 0) }
        let writes = 3_000
        let failures = Atomic(0)
        let running = Atomic(4)
        let threads = try (0..<4).map { thread in
            try OSThread.spawn(name: "writer") {
                // The same value everywhere in this thread's quarter, in one write.
                guard let section = DirectSection(place, in: memory.buffer) else { return }
                for number in 1...writes {
                    let data = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 700)
                    data.withUnsafeBytes { bytes in
                        do throws(DirectRefusal) {
                            _ = try section.write(
                                at: thread * 750, bytes, by: 5, time: 1, patience: .seconds(30))
                        } catch {
                            failures.add(1, ordering: .relaxed)
                        }
                    }
                }
                running.subtract(1, ordering: .releasing)
            }
        }
        var reads = 0
        var bytes = [UInt8](repeating: 0, count: 3_000)
        while running.load(ordering: .acquiring) > 0 {
            do {
                let view = try bytes.withUnsafeMutableBytes { try section.read(at: 0, into: $0) }
                #expect(view.copied == 3_000)
                for quarter in 0..<4 { #expect(Set(bytes[(quarter * 750)..<(quarter * 750 + 700)]).count == 1) }
                reads += 1
            } catch DirectRefusal.busy {}
        }
        for thread in threads { thread.join() }
        #expect(failures.load(ordering: .relaxed) == 0)
        let counter = memory.buffer.baseAddress!.atomic(UInt64.self, at: DirectLayout.changesOffset)
        #expect(counter.pointee.load(ordering: .relaxed) == UInt64(4 * writes))
        #expect(section.lock.holder == 0)
        print("\(reads) reads beside four writers")
    }

    @Test(
        "A hostile thread that scribbles over the whole file: everybody's calls return",
        arguments: 0..<4 as Range<UInt64>)
    func scribbler(seed: UInt64) throws {
        let place = DirectPlace(offset: 4096, limit: 1_500, grant: 1)
        let memory = SharedFileMemory(count: 4096 + place.bytes)
        let section = try #require(DirectSection(place, in: memory.buffer))
        [UInt8](repeating: 7, count: 1_500).withUnsafeBytes { section.prepare($0, lastUpdate: 0, change: 0) }
        let isOver = Atomic(false)
        let scribbler = try OSThread.spawn(name: "scribbler") {
            var random = SeededRandom(seed: seed)
            while !isOver.load(ordering: .relaxed) {
                let limit = random.chance(percent: 60) ? 4096 + 256 : memory.buffer.count
                let place = Int.random(in: 4096..<limit, using: &random)
                memory.buffer[place] = UInt8.random(in: .min ... .max, using: &random)
            }
        }
        let start = MonotonicClock.now()
        var random = SeededRandom(seed: seed &+ 100)
        var bytes = [UInt8](repeating: 0, count: 1_500)
        var refused = 0
        for round in 0..<400 {
            do {
                _ = try bytes.withUnsafeMutableBytes { try section.read(at: 0, into: $0) }
            } catch {
                refused += 1
            }
            do {
                let count = Int.random(in: 0...1_500, using: &random)
                _ = try [UInt8](repeating: 1, count: count).withUnsafeBytes {
                    try section.write(at: 0, $0, by: 5, time: 1, patience: .milliseconds(2))
                }
            } catch {
                refused += 1
            }
            section.close()
            _ = try? bytes.withUnsafeMutableBytes { try section.readFrozen(at: 0, into: $0) }
            if round % 10 == 0 {
                [UInt8](repeating: 7, count: 900).withUnsafeBytes { section.prepare($0, lastUpdate: 0, change: 0) }
            }
        }
        isOver.store(true, ordering: .relaxed)
        scribbler.join()
        #expect(MonotonicClock.now() - start < .seconds(60))
        #expect(refused > 0)
    }

    @Test("A holder that sleeps costs a waiter its patience, no more; a dead one's lock is taken")
    func lock() throws {
        let memory = SharedFileMemory(count: 4096)
        let lock = DirectLock(word: try #require(memory.buffer.baseAddress))
        #expect(lock.tryAcquire(7))
        let start = MonotonicClock.now()
        #expect(!lock.acquire(8, patience: .milliseconds(20)))
        #expect(MonotonicClock.now() - start >= .milliseconds(20))
        #expect(lock.holder == 7)
        let waiter = try OSThread.spawn(name: "waiter") {
            if lock.acquire(8, patience: .seconds(30)) { lock.release() }
        }
        #expect(!lock.take(from: 9))
        #expect(lock.take(from: 7))
        waiter.join()
        #expect(lock.holder == 0)
        #expect(lock.tryAcquire(DirectLock.service))
        #expect(!lock.acquire(8, patience: .seconds(30)), "ckptd's memory is nobody's to wait for")
        let owner = DirectLock.owner(process: 4_194_303, start: 0x1_FF)
        #expect(DirectLock.process(of: owner) == 4_194_303 && owner & DirectLock.waiters == 0)
        #expect(owner != DirectLock.owner(process: 4_194_303, start: 0x1_00) && owner != DirectLock.service)
    }
}
