import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

@testable import CkptLayout

/// A file of told sections, and somebody who has what he was told.
private final class ToldFile: @unchecked Sendable {
    let memory: UnsafeMutableRawBufferPointer
    let places: [DirectPlace]
    var content: [[UInt8]]
    var told: [UInt64?]
    private var sleeps: UInt64 = 0

    init(limits: [Int]) {
        var offset = DirectLayout.headerBytes
        places = limits.enumerated().map { index, limit in
            let place = DirectPlace(offset: offset, limit: limit, grant: UInt64(index) + 1, isTold: true)
            offset += place.bytes
            return place
        }
        memory = .allocate(byteCount: offset, alignment: 4096)
        memory.initializeMemory(as: UInt8.self, repeating: 0)
        (content, told) = (limits.map { _ in [] }, limits.map { _ in nil })
        for index in places.indices {
            section(index).prepare(.init(start: nil, count: 0), lastUpdate: 0, change: 0)
            told[index] = section(index).published
        }
    }

    deinit { memory.deallocate() }

    func section(_ index: Int) -> DirectSection { DirectSection(places[index], in: memory)! }
    var bell: DirectBell { DirectBell(memory.baseAddress!) }

    /// What is told, done to the content; true: there was nothing, and writers call from now on.
    func look(recalling recalled: Set<Int> = []) -> (sights: [DirectSight], isResting: Bool) {
        var payload: [UInt8] = [9, 9]
        var look = DirectLook(
            places.indices.map { .init($0, section($0), told: told[$0], isRecalled: recalled.contains($0)) },
            behind: payload.count)
        let old = content.map { bytes in
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 8)
            memory.copyBytes(from: bytes)
            return UnsafeRawBufferPointer(memory)
        }
        look.take(bell, from: { old[$0] }, into: &payload)
        for memory in old { memory.deallocate() }
        for sight in look.sights where sight.isWritten && !sight.isCorrupted {
            let data = payload[sight.data.offset..<(sight.data.offset + sight.data.count)]
            if sight.isWhole {
                content[sight.slot] = Array(data)
            } else {
                let missing = max(0, sight.offset + data.count - content[sight.slot].count)
                content[sight.slot] += [UInt8](repeating: 0, count: missing)
                content[sight.slot].replaceSubrange(sight.offset..<(sight.offset + data.count), with: data)
            }
        }
        for (slot, state) in look.states { told[slot] = state }
        var isResting = false
        if look.sights.isEmpty {
            sleeps += 1
            bell.sleep(sleeps)
            isResting = look.isStill
        }
        if !isResting { bell.wake(sleeps) }
        return (look.sights, isResting)
    }

    func read(_ index: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: places[index].limit)
        let view = try bytes.withUnsafeMutableBytes { try section(index).readFrozen(at: 0, into: $0) }
        return Array(bytes[..<view.copied])
    }
}

@Suite("What is told of direct sections", .serialized)
struct DirectLookTests {
    @Test("Whoever does what he is told has what was written, whatever was written", arguments: 0..<20 as Range<UInt64>)
    func differences(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let file = ToldFile(limits: [8, 700, 5_000])
        var told = 0
        for _ in 0..<300 {
            for _ in 0..<Int.random(in: 0...3, using: &random) {
                let index = Int.random(in: 0..<3, using: &random)
                let size = try file.read(index).count
                let step = DirectStep.random(limit: file.places[index].limit, size: size, using: &random)
                _ = try step.data.withUnsafeBytes { bytes in
                    step.replaces
                        ? try file.section(index).overwrite(bytes, by: 5, time: 7)
                        : try file.section(index).write(at: step.offset, bytes, by: 5, time: 7)
                }
            }
            let (sights, isResting) = file.look()
            told += sights.reduce(0) { $0 + $1.data.count }
            #expect(isResting == sights.isEmpty && sights.allSatisfy { !$0.isRecalled && $0.lastUpdate == 7 })
            for index in 0..<3 { #expect(try file.read(index) == file.content[index], "seed \(seed)") }
        }
        let word = [UInt8](repeating: 200, count: 5_000)
        _ = try word.withUnsafeBytes { try file.section(2).overwrite($0, by: 5, time: 7) }
        _ = file.look()
        _ = try ([1] as [UInt8]).withUnsafeBytes { try file.section(2).write(at: 3_001, $0, by: 5, time: 7) }
        let sight = try #require(file.look().sights.first)
        #expect(sight.offset == 3_000 && sight.data.count == 8, "a word of many")
        _ = try ([1] as [UInt8]).withUnsafeBytes { try file.section(2).write(at: 3_001, $0, by: 5, time: 8) }
        let again = try #require(file.look().sights.first)
        #expect(again.isWritten && again.data.count == 0 && again.lastUpdate == 8 && again.writes == 1)
    }

    @Test("What is recalled is told once more, written or not, and nobody writes it any more")
    func recall() throws {
        let file = ToldFile(limits: [100, 100])
        _ = try ([1, 2] as [UInt8]).withUnsafeBytes { try file.section(0).overwrite($0, by: 5, time: 7) }
        let sights = file.look(recalling: [0, 1]).sights
        #expect(sights.map(\.isRecalled) == [true, true] && sights.map(\.isWritten) == [true, false])
        #expect(file.content[0] == [1, 2])
        for index in 0..<2 {
            #expect(throws: DirectRefusal.closed) {
                try ([1] as [UInt8]).withUnsafeBytes { try file.section(index).overwrite($0, by: 5, time: 7) }
            }
        }
    }

    @Test("Bytes that nobody wrote are corrupted, and the section is nobody's any more")
    func corrupted() throws {
        let file = ToldFile(limits: [600, 100])
        _ = try [UInt8](repeating: 3, count: 600).withUnsafeBytes {
            try file.section(0).overwrite($0, by: 5, time: 7)
        }
        for offset in (file.places[0].offset + 192)..<(file.places[0].offset + file.places[0].bytes) {
            file.memory[offset] ^= 1
        }
        let sights = file.look().sights
        #expect(sights.count == 1 && sights[0].isCorrupted && sights[0].isRecalled)
        #expect(throws: DirectRefusal.closed) {
            try ([1] as [UInt8]).withUnsafeBytes { try file.section(0).overwrite($0, by: 5, time: 7) }
        }
        #expect(file.look().sights.map(\.slot) != [1])
    }

    @Test("A closed gate costs a writer its patience, no more")
    func gate() throws {
        let file = ToldFile(limits: [100])
        file.bell.closeGate()
        let start = MonotonicClock.now()
        #expect(throws: DirectRefusal.busy) {
            try ([1] as [UInt8]).withUnsafeBytes {
                try file.section(0).overwrite($0, by: 5, time: 7, patience: .milliseconds(20))
            }
        }
        #expect(MonotonicClock.now() - start >= .milliseconds(20))
        let writer = try OSThread.spawn(name: "writer") {
            _ = try? ([4] as [UInt8]).withUnsafeBytes { bytes in
                try file.section(0).overwrite(bytes, by: 5, time: 7, patience: .seconds(30))
            }
        }
        file.bell.wake(0)
        writer.join()
        #expect(try file.read(0) == [4])
    }

    /// A number, as data of a length of its own.
    private static func data(_ number: UInt64) -> [UInt8] {
        withUnsafeBytes(of: number) { Array($0) } + [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: 300)
    }

    @Test("Beside writers that never stop every look is of one moment, and none takes their sections away")
    func oneMoment() throws {
        let file = ToldFile(limits: [400, 400, 400, 400])
        let isOver = Atomic(false)
        let refused = Atomic(0)
        // Two writers, two sections each: the same number to one after the other.
        let writers = try (0..<2).map { writer in
            try OSThread.spawn(name: "writer") {
                var number: UInt64 = 1
                while !isOver.load(ordering: .relaxed) {
                    for index in [2 * writer, 2 * writer + 1] {
                        Self.data(number).withUnsafeBytes { bytes in
                            do throws(DirectRefusal) {
                                _ = try file.section(index).overwrite(bytes, by: 5, time: 1, patience: .seconds(30))
                            } catch {
                                refused.add(1, ordering: .relaxed)
                            }
                        }
                    }
                    number += 1
                }
            }
        }
        var updates = 0
        let deadline = MonotonicClock.now() + .seconds(60)
        while updates < 2_000, MonotonicClock.now() < deadline {
            let sights = file.look().sights
            if !sights.isEmpty { updates += 1 }
            #expect(!sights.contains { $0.isRecalled })
            for writer in 0..<2 {
                let numbers = [2 * writer, 2 * writer + 1].map { index in
                    file.content[index].isEmpty
                        ? 0 : file.content[index].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
                }
                #expect(numbers[0] == numbers[1] || numbers[0] == numbers[1] + 1)
            }
        }
        isOver.store(true, ordering: .relaxed)
        for writer in writers { writer.join() }
        #expect(updates == 2_000 && refused.load(ordering: .relaxed) == 0)
    }

    @Test("Whoever sleeps until he is called misses no write")
    func bell() throws {
        let file = ToldFile(limits: [100, 100])
        let called = Atomic<UInt64>(0)
        let running = Atomic(2)
        let writers = try (0..<2).map { index in
            try OSThread.spawn(name: "writer") {
                var random = SeededRandom(seed: UInt64(index))
                for number in 1...UInt64(20_000) {
                    let section = file.section(index)
                    withUnsafeBytes(of: number) { bytes in
                        // The gate may be closed for as long as the other thread has no processor.
                        _ = try? section.overwrite(bytes, by: 5, time: 1, patience: .seconds(30))
                    }
                    let sleep = section.call
                    if sleep != 0 { called.store(sleep, ordering: .releasing) }
                    if random.chance(percent: 20) { OSThread.yield() }
                }
                running.subtract(1, ordering: .releasing)
            }
        }
        var sleeps = 0
        let deadline = MonotonicClock.now() + .seconds(100)
        while MonotonicClock.now() < deadline {
            let isOver = running.load(ordering: .acquiring) == 0
            guard file.look().isResting else { continue }
            sleeps += 1
            if isOver { break }
            while called.exchange(0, ordering: .acquiring) == 0, running.load(ordering: .acquiring) > 0 {
                OSThread.yield()
                guard MonotonicClock.now() < deadline else { break }
            }
        }
        for writer in writers { writer.join() }
        #expect(running.load(ordering: .relaxed) == 0 && sleeps > 1)
        for index in 0..<2 {
            #expect(file.content[index].withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) } == 20_000)
        }
    }

    @Test("A hostile thread scribbles over everything: every look ends", arguments: 0..<4 as Range<UInt64>)
    func scribbler(seed: UInt64) throws {
        let file = ToldFile(limits: [100, 1_500, 600])
        let isOver = Atomic(false)
        let scribbler = try OSThread.spawn(name: "scribbler") {
            var random = SeededRandom(seed: seed)
            while !isOver.load(ordering: .relaxed) {
                let start = file.places.randomElement(using: &random)?.offset ?? 0
                let place =
                    random.chance(percent: 50)
                    ? start + Int.random(in: 0..<256, using: &random)
                    : Int.random(in: 64..<file.memory.count, using: &random)
                file.memory[place] = UInt8.random(in: .min ... .max, using: &random)
            }
        }
        let start = MonotonicClock.now()
        var corrupted = 0
        for round in 0..<2_000 {
            let sights = file.look(recalling: round % 7 == 0 ? [1] : []).sights
            corrupted += sights.count { $0.isCorrupted }
            for sight in sights where sight.isRecalled {
                file.content[sight.slot] = []
                file.section(sight.slot).prepare(.init(start: nil, count: 0), lastUpdate: 0, change: 0)
                file.told[sight.slot] = file.section(sight.slot).published
            }
        }
        isOver.store(true, ordering: .relaxed)
        scribbler.join()
        #expect(MonotonicClock.now() - start < .seconds(60) && corrupted > 0)
    }
}
