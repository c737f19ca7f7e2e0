import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptLayout
@testable import CkptStore

/// Memory that a reader has mapped, and that shows another moment of the writer's work whenever the test wants.
private final class Window {
    static let bytes = 1 << 18
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes, alignment: 64)
    var shown = 0

    init() { memory.initializeMemory(as: UInt8.self, repeating: 0) }
    deinit { memory.deallocate() }

    func show(_ content: [UInt8]) { memory.copyBytes(from: content) }
}

@Suite("Reading without asking")
struct ReaderTests {
    /// What a reader makes of a section while the writer goes on at three moments.
    private static func read(
        _ reader: inout ReplicaReader, _ id: SectionID, at first: () -> Void, _ half: () -> Void, _ last: () -> Void
    ) -> [UInt8]? {
        first()
        guard case .section(let section) = id.bytes.withUnsafeBytes({ reader.find($0) { 0 } }) else { return nil }
        let bytes = reader.file.bytes(section)
        var copy = Array(bytes[..<(bytes.count / 2)])
        half()
        copy += bytes[(bytes.count / 2)...]
        last()
        return reader.file.holds(section) ? copy : nil
    }

    private static func limits(_ seed: UInt64) -> StoreLimits {
        seed % 3 == 0 ? StoreLimits(logBytesMin: 512, logBytesMax: 1024) : StoreLimits(logBytesMin: 1024)
    }

    private static func world(_ seed: UInt64, _ recorder: CrashRecorder) throws -> StoreWorld {
        recorder.isBackwards = seed % 2 == 1
        var world = try StoreWorld(seed: seed, recorder: recorder, limits: limits(seed))
        world.image.setService(.readable)
        return world
    }

    @Test(
        "What a reader gets is wholly old or wholly new, whatever stores come in between",
        arguments: 0..<30 as Range<UInt64>)
    func anyInterleaving(seed: UInt64) throws {
        let recorder = CrashRecorder()
        var world = try Self.world(seed, recorder)
        var random = SeededRandom(seed: seed &+ 1000)
        let window = Window()
        window.show(world.image.memory.content)
        var old = ReplicaReader(try #require(ReplicaFile(UnsafeRawBufferPointer(window.memory))))
        var seen = (old: 0, new: 0, none: 0)
        for _ in 0..<14 {
            let (transaction, payload) = world.step(operationsMax: 3, sizeMax: 200)
            let before = world.model
            let first = world.image.memory.content
            recorder.isRecording = true
            recorder.images = [first]
            try world.commit(transaction, payload)
            recorder.isRecording = false
            let images = recorder.images + [world.image.memory.content]
            let ids = Set(before.sections.keys).union(world.model.sections.keys).sorted()
            for _ in 0..<120 where !ids.isEmpty {
                let id = ids[Int.random(in: 0..<ids.count, using: &random)]
                // Often near the end, where it becomes new.
                let from = random.chance(percent: 40) ? max(0, images.count - 8) : 0
                let moments = (0..<3).map { _ in Int.random(in: from..<images.count, using: &random) }.sorted()
                var fresh = ReplicaReader(try #require(ReplicaFile(UnsafeRawBufferPointer(window.memory))))
                let usesFresh = random.chance(percent: 50)
                window.show(images[moments[0]])
                if usesFresh { swap(&fresh, &old) }
                let data = Self.read(
                    &old, id, at: {}, { window.show(images[moments[1]]) }, { window.show(images[moments[2]]) })
                if usesFresh { swap(&fresh, &old) }
                guard let data else {
                    seen.none += 1
                    continue
                }
                let wasOld = data == before.sections[id]?.data
                let isNew = data == world.model.sections[id]?.data
                #expect(wasOld || isNew, "seed \(seed), \(id), stores \(moments) of \(images.count)")
                if wasOld { seen.old += 1 } else { seen.new += 1 }
                // Nothing has happened, or all of it.
                if moments[2] == 0 { #expect(wasOld) }
                if moments[0] == images.count - 1 { #expect(isNew) }
            }
            window.show(world.image.memory.content)
            for id in ids {
                let data = Self.read(&old, id, at: {}, {}, {})
                #expect(data == world.model.sections[id]?.data, "seed \(seed): at rest all is readable")
            }
        }
        #expect(seen.old > 100 && seen.new > 30 && seen.none > 0, "\(seen)")
    }

    @Test("Nor while a successor carries out the step of a writer that died", arguments: 0..<12 as Range<UInt64>)
    func recovery(seed: UInt64) throws {
        let recorder = CrashRecorder()
        var world = try StoreWorld(seed: seed, recorder: recorder, limits: Self.limits(seed))
        world.image.setService(.readable)
        for _ in 0..<8 {
            let (transaction, payload) = world.step(operationsMax: 6, sizeMax: 200)
            try world.commit(transaction, payload)
        }
        let before = world.model
        let (transaction, payload) = world.step(operationsMax: 6, sizeMax: 200)
        recorder.isRecording = true
        try world.commit(transaction, payload)
        recorder.isRecording = false
        var random = SeededRandom(seed: seed)
        let window = Window()
        let ids = Set(before.sections.keys).union(world.model.sections.keys).sorted()
        for _ in 0..<10 {
            let death = Int.random(in: 0..<recorder.images.count, using: &random)
            let second = CrashRecorder()
            second.isBackwards = seed % 2 == 0
            second.isRecording = true
            second.images = [recorder.images[death]]
            let image = try StoreWorld.Image(
                recovering: TestMemory(recorder.images[death], recorder: second), limits: Self.limits(seed))
            let images = second.images + [image.memory.content]
            for _ in 0..<60 {
                let id = ids[Int.random(in: 0..<ids.count, using: &random)]
                let moments = (0..<3).map { _ in Int.random(in: 0..<images.count, using: &random) }.sorted()
                window.show(images[moments[0]])
                var reader = ReplicaReader(try #require(ReplicaFile(UnsafeRawBufferPointer(window.memory))))
                let data = Self.read(
                    &reader, id, at: {}, { window.show(images[moments[1]]) }, { window.show(images[moments[2]]) })
                guard let data else { continue }
                #expect(
                    data == before.sections[id]?.data || data == world.model.sections[id]?.data,
                    "seed \(seed), death at \(death), stores \(moments)")
            }
            window.show(image.memory.content)
            let state = image.change == before.change ? before : world.model
            var reader = ReplicaReader(try #require(ReplicaFile(UnsafeRawBufferPointer(window.memory))))
            for (id, section) in state.sections {
                #expect(Self.read(&reader, id, at: {}, {}, {}) == section.data, "seed \(seed), death at \(death)")
            }
        }
    }

    /// A section's life of updates, of being left to its writers, told, and brought back with and without a step.
    private static func life(_ world: inout StoreWorld, rounds: Int) throws {
        for _ in 0..<rounds {
            let ids = world.slots.filter { !world.image.isDirect($0.value) }.keys.sorted()
            let left = world.image.directSlots
            switch Int.random(in: 0..<10, using: &world.random) {
            case 0..<3 where !ids.isEmpty:
                // Most often in place, as most updates are.
                let id = ids[Int.random(in: 0..<ids.count, using: &world.random)]
                let size = try #require(world.model.sections[id]).data.count
                try change(&world, id, size: size, purpose: .step)
            case 3..<6 where !ids.isEmpty:
                let slot = try #require(world.slots[ids[Int.random(in: 0..<ids.count, using: &world.random)]])
                try world.image.reserve(slot: slot, bytes: 256)
                world.image.setDirect(slot, .init(offset: 4_096, limit: 256, grant: world.image.nextGrant))
            case 6..<9 where !left.isEmpty:
                let slot = left[Int.random(in: 0..<left.count, using: &world.random)]
                let id = try #require(world.slots.first { $0.value == slot }?.key)
                let purpose = [nil, Transaction.Purpose.told, .recalled].randomElement(using: &world.random)
                if let purpose = purpose ?? nil { try change(&world, id, size: 200, purpose: purpose) }
                if purpose != .some(.told) { world.image.clearDirect(slot) }
            default:
                for slot in left { world.image.clearDirect(slot) }
                let (transaction, payload) = world.step(operationsMax: 2, sizeMax: 200)
                try world.commit(transaction, payload)
            }
        }
    }

    private static func change(
        _ world: inout StoreWorld, _ id: SectionID, size: Int, purpose: Transaction.Purpose
    ) throws {
        let data = (0..<size).map { _ in UInt8.random(in: .min ... .max, using: &world.random) }
        var transaction = Transaction(
            checkpoint: world.image.checkpoint, time: 1, state: world.image.state, purpose: purpose)
        transaction.state.change += 1
        transaction.steps = [
            .init(
                .init(kind: .overwrite, id: id, data: .init(offset: 0, count: size)),
                slot: try #require(world.slots[id]), serial: 0,
                copied: purpose == .recalled ? .init(lastUpdate: 1, size: size, isCorrupted: false) : nil)
        ]
        try world.commit(transaction, data)
    }

    @Test(
        "Between any two moments at which a reader looks, at every store: what it takes has not changed meanwhile",
        arguments: 0..<16 as Range<UInt64>)
    func everyMoment(seed: UInt64) throws {
        let recorder = CrashRecorder()
        var world = try Self.world(seed, recorder)
        for _ in 0..<3 {
            let (transaction, payload) = world.step(operationsMax: 2, sizeMax: 200)
            try world.commit(transaction, payload)
        }
        recorder.isRecording = true
        try Self.life(&world, rounds: 24)
        recorder.isRecording = false
        let images = recorder.images.map { Moment($0) }
        // Each section as it may be found, and when it is found first.
        var found: [SectionSnapshot: Int] = [:]
        let ids = Set(world.slots.keys)
        for (index, image) in images.enumerated() {
            guard var reader = image.file.map({ ReplicaReader($0) }) else { continue }
            for id in ids {
                guard case .section(let section) = id.bytes.withUnsafeBytes({ reader.find($0) { 0 } }) else { continue }
                found[section] = found[section] ?? index
            }
        }
        for (section, first) in found {
            var isChanged = false
            for last in first..<images.count {
                isChanged = isChanged || !images[last].isEqual(images[first], section)
                let isTaken = images[last].file?.holds(section) == true
                #expect(!isTaken || !isChanged, "seed \(seed): torn between stores \(first) and \(last)")
                if isTaken, isChanged { return }
            }
        }
        #expect(found.count > 8)
    }

    /// What the memory was after one store.
    private final class Moment {
        private let memory: UnsafeMutableRawBufferPointer
        let file: ReplicaFile?

        init(_ content: [UInt8]) {
            memory = .allocate(byteCount: content.count, alignment: 64)
            memory.copyBytes(from: content)
            file = ReplicaFile(UnsafeRawBufferPointer(memory))
        }

        deinit { memory.deallocate() }

        func isEqual(_ other: Moment, _ section: SectionSnapshot) -> Bool {
            let end = section.offset + section.size
            guard end <= memory.count, end <= other.memory.count else { return false }
            for offset in stride(from: section.offset, to: end - 7, by: 8)
            where memory.load(fromByteOffset: offset, as: UInt64.self)
                != other.memory.load(fromByteOffset: offset, as: UInt64.self)
            { return false }
            for offset in (end & ~7)..<end where memory[offset] != other.memory[offset] { return false }
            return true
        }
    }

    @Test("All sections of one step are of one change, or are not taken")
    func oneStep() throws {
        let recorder = CrashRecorder()
        var world = try StoreWorld(seed: 4, recorder: recorder)
        world.image.setService(.readable)
        var random = SeededRandom(seed: 4)
        let window = Window()
        var taken: Set<UInt64> = []
        for _ in 0..<10 {
            let (transaction, payload) = world.step(operationsMax: 4, sizeMax: 100)
            let before = world.model
            recorder.isRecording = true
            recorder.images = [world.image.memory.content]
            try world.commit(transaction, payload)
            recorder.isRecording = false
            let images = recorder.images + [world.image.memory.content]
            for _ in 0..<100 {
                let moments = [0, 1].map { _ in Int.random(in: 0..<images.count, using: &random) }.sorted()
                window.show(images[moments[0]])
                var reader = ReplicaReader(try #require(ReplicaFile(UnsafeRawBufferPointer(window.memory))))
                guard let step = reader.file.step else { continue }
                let change = reader.file.change(after: step)
                let model = change == before.change ? before : world.model
                #expect(change == model.change)
                var all: [SectionID: [UInt8]] = [:]
                for id in model.sections.keys.sorted() {
                    if id == model.sections.keys.sorted().last { window.show(images[moments[1]]) }
                    all[id] = Self.read(&reader, id, at: {}, {}, {})
                }
                guard reader.file.holds(step: step, []) else { continue }
                taken.insert(change)
                #expect(all == model.sections.mapValues(\.data), "stores \(moments) of \(images.count)")
            }
        }
        #expect(taken.count > 5)
    }

    @Test("A damaged section, a wiped replica and a file that serves nobody are asked about")
    func asks() throws {
        var world = try StoreWorld(seed: 7)
        world.image.setService(.readable)
        for _ in 0..<12 {
            let (transaction, payload) = world.step()
            try world.commit(transaction, payload)
        }
        let id = try #require(world.model.sections.keys.min())
        let slot = try #require(world.slots[id])
        func find(_ reader: inout ReplicaReader) -> ReplicaReader.Found {
            id.bytes.withUnsafeBytes { reader.find($0) { 76_999 } }
        }
        func isThere(_ found: ReplicaReader.Found) -> Bool { if case .section = found { true } else { false } }
        let window = Window()
        window.show(world.image.memory.content)
        var reader = ReplicaReader(try #require(ReplicaFile(UnsafeRawBufferPointer(window.memory))))
        let found = find(&reader)
        guard case .section(let section) = found else { throw StoreError.system("not found") }
        #expect(reader.file.holds(section))
        world.image.hide(slot: slot)
        window.show(world.image.memory.content)
        #expect(find(&reader) == .busy && !reader.file.holds(section), "damaged")

        var overwrite = Transaction(checkpoint: world.image.checkpoint, time: 6_000, state: world.image.state)
        overwrite.state.change += 1
        overwrite.steps = [
            .init(.init(kind: .overwrite, id: id, data: .init(offset: 0, count: 3)), slot: slot, serial: 0)
        ]
        try world.commit(overwrite, [1, 2, 3])
        window.show(world.image.memory.content)
        #expect(isThere(find(&reader)), "an overwrite repairs it")

        overwrite.state.change += 1
        overwrite.steps = [.init(.init(kind: .setExpiration, id: id, expiration: 77_000), slot: slot, serial: 0)]
        try world.commit(overwrite, [])
        window.show(world.image.memory.content)
        #expect(isThere(find(&reader)))
        #expect(id.bytes.withUnsafeBytes { reader.find($0) { 77_000 } } == .ask, "expired")

        world.image.setService([])
        window.show(world.image.memory.content)
        #expect(find(&reader) == .ask)
        world.image.setService(.readable)
        window.show(world.image.memory.content)
        guard case .section(let last) = find(&reader) else { throw StoreError.system("not found") }
        var wipe = Transaction(checkpoint: world.image.checkpoint, time: 6_000, state: world.image.state)
        wipe.purpose = .wipe
        try world.image.commit(wipe, payload: UnsafeRawBufferPointer(start: nil, count: 0), isUpdate: false)
        window.show(world.image.memory.content)
        #expect(!reader.file.holds(last))
        #expect(find(&reader) == .ask)
    }

    @Test(
        "A mapping that is too short, and random bytes, are never touched beyond its end",
        arguments: 0..<40 as Range<UInt64>)
    func hostileFile(seed: UInt64) throws {
        var world = try StoreWorld(seed: seed)
        world.image.setService(.readable)
        for _ in 0..<30 {
            let (transaction, payload) = world.step()
            try world.commit(transaction, payload)
        }
        let sound = world.image.memory.content
        var random = SeededRandom(seed: seed &* 31)
        for round in 0..<80 {
            var content = sound
            if round % 4 == 3 { content.removeLast(Int.random(in: 0...content.count, using: &random)) }
            for _ in 0..<Int.random(in: 0...6, using: &random) where !content.isEmpty {
                let start = world.image.root.sections.extent.offset
                let limit = random.chance(percent: 50) ? min(content.count, 1_100) : content.count
                let place = random.chance(percent: 40) ? start : 0
                let at = min(content.count - 1, place + Int.random(in: 0..<limit, using: &random))
                content[at] = UInt8.random(in: .min ... .max, using: &random)
            }
            // Exactly as long as the mapping, so that a sanitizer, or a crash, tells of a step beyond.
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: content.count, alignment: 64)
            defer { memory.deallocate() }
            memory.copyBytes(from: content)
            guard let file = ReplicaFile(UnsafeRawBufferPointer(memory)) else { continue }
            var reader = ReplicaReader(file)
            for id in world.model.sections.keys {
                guard case .section(let section) = id.bytes.withUnsafeBytes({ reader.find($0) { 0 } }) else { continue }
                let bytes = reader.file.bytes(section)
                let end = UnsafeRawPointer(memory.baseAddress! + memory.count)
                #expect(bytes.count == 0 || bytes.baseAddress! + bytes.count <= end)
            }
        }
    }
}
