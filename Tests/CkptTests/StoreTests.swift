import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptLayout
@testable import CkptStore

@Suite("Checkpoint image")
struct StoreTests {
    @Test("What is committed is what is read, before and after a restart", arguments: 0..<40 as Range<UInt64>)
    func matchesModel(seed: UInt64) throws {
        var world = try StoreWorld(seed: seed)
        for _ in 0..<120 {
            let (transaction, payload) = world.step()
            try world.commit(transaction, payload)
        }
        world.model.executed = Set(world.model.executed.sorted().suffix(OpenerRecord.executedMax))
        #expect(try StoreWorld.contents(world.image) == world.model, "seed \(seed)")
        let recovered = try StoreWorld.recover(world.image.memory.content)
        #expect(try StoreWorld.contents(recovered) == world.model, "seed \(seed)")
    }

    @Test("A writer's death after any single store leaves the old or the new state", arguments: 0..<24 as Range<UInt64>)
    func crashAtEveryStore(seed: UInt64) throws {
        let recorder = CrashRecorder()
        recorder.isBackwards = seed % 2 == 1
        // Odd limits make the third of the seeds take the path of data that does not fit the log.
        let limits = seed % 3 == 0 ? StoreLimits(logBytesMin: 512, logBytesMax: 1024) : StoreLimits(logBytesMin: 1024)
        var world = try StoreWorld(seed: seed, recorder: recorder, limits: limits)
        var crashes = 0
        for _ in 0..<14 {
            let (transaction, payload) = world.step(operationsMax: 3, sizeMax: 120)
            let before = world.model
            recorder.isRecording = true
            recorder.images = []
            try world.commit(transaction, payload)
            recorder.isRecording = false
            var isNew = false
            for content in recorder.images {
                let recovered = try StoreWorld.recover(content, limits: limits)
                let found = try StoreWorld.contents(recovered)
                isNew = isNew || found == world.model
                #expect(found == (isNew ? world.model : before), "seed \(seed), store \(crashes)")
                recovered.memory.free()
                crashes += 1
            }
            #expect(isNew)
        }
        #expect(crashes > 500)
    }

    @Test("A successor's death while it carries out a step again does no harm")
    func crashDuringRecovery() throws {
        let recorder = CrashRecorder()
        var world = try StoreWorld(seed: 5, recorder: recorder)
        for _ in 0..<10 {
            let (transaction, payload) = world.step()
            try world.commit(transaction, payload)
        }
        let (transaction, payload) = world.step()
        recorder.isRecording = true
        try world.commit(transaction, payload)
        let half = recorder.images.filter { content in
            content[Layout.commitOffset..<Layout.commitOffset + 8]
                != content[Layout.appliedOffset..<Layout.appliedOffset + 8]
        }
        let second = CrashRecorder()
        second.isRecording = true
        _ = try StoreWorld.Image(recovering: TestMemory(half[half.count / 2], recorder: second), limits: .init())
        #expect(!second.images.isEmpty)
        for content in second.images {
            #expect(try StoreWorld.contents(try StoreWorld.recover(content)) == world.model)
        }
    }

    @Test("No room: the step is refused, nothing is lost, and smaller ones go on")
    func noSpace() throws {
        let recorder = CrashRecorder()
        var world = try StoreWorld(seed: 9, recorder: recorder)
        recorder.growthLimit = 40_000
        var refusals = 0
        for _ in 0..<400 {
            let (transaction, payload) = world.step(operationsMax: 3, sizeMax: 6_000)
            do { try world.commit(transaction, payload) } catch StoreError.noSpace { refusals += 1 }
            world.model.executed = Set(world.model.executed.sorted().suffix(OpenerRecord.executedMax))
            var found = try StoreWorld.contents(world.image)
            found.executed = world.model.executed
            #expect(found == world.model)
        }
        #expect(refusals > 10)
        #expect(world.image.memory.count <= 40_000)
    }

    @Test("Random bytes in the file are refused or harmless, never fatal", arguments: 0..<60 as Range<UInt64>)
    func hostileFile(seed: UInt64) throws {
        var world = try StoreWorld(seed: seed)
        for _ in 0..<30 {
            let (transaction, payload) = world.step()
            try world.commit(transaction, payload)
        }
        let sound = world.image.memory.content
        var random = SeededRandom(seed: seed &* 77)
        for round in 0..<60 {
            var content = sound
            if round % 10 == 9 { content.removeLast(Int.random(in: 0...content.count, using: &random)) }
            // Half of the damage goes where the structure is.
            for _ in 0..<Int.random(in: 1...6, using: &random) where !content.isEmpty {
                let limit = random.chance(percent: 50) ? min(content.count, 1_100) : content.count
                content[Int.random(in: 0..<limit, using: &random)] = UInt8.random(in: .min ... .max, using: &random)
            }
            do {
                var image = try StoreWorld.recover(content)
                for section in image.restored().sections {
                    _ = try? image.read(slot: section.slot, offset: 0, count: Int(section.descriptor.size))
                }
                _ = image.positions(after: 0)
                var transaction = Transaction(checkpoint: image.checkpoint, time: 1, state: image.state)
                transaction.state.change &+= 1
                try image.commit(transaction, payload: UnsafeRawBufferPointer(start: nil, count: 0), isUpdate: true)
            } catch is StoreError {
                continue
            }
        }
    }

    @Test("Damaged structure with a repaired checksum is refused, too", arguments: 0..<200 as Range<UInt64>)
    func hostileRoot(seed: UInt64) throws {
        var world = try StoreWorld(seed: 3)
        for _ in 0..<20 {
            let (transaction, payload) = world.step()
            try world.commit(transaction, payload)
        }
        var random = SeededRandom(seed: seed)
        var root = world.image.root
        let wild = [Int.max, -16, 0, 16, 1024, 1 << 40, world.image.memory.count, 4096]
        func pick() -> Int { wild[Int.random(in: 0..<wild.count, using: &random)] }
        switch seed % 5 {
        case 0: root.sections = .init(extent: .init(offset: pick(), size: pick()), capacity: abs(pick() % (1 << 30)))
        case 1: root.openers = .init(extent: .init(offset: pick(), size: pick()), capacity: abs(pick() % (1 << 30)))
        case 2: root.log = .init(extent: .init(offset: pick(), size: pick()), capacity: abs(pick() % (1 << 30)))
        case 3: root.recordPosition = UInt64(bitPattern: Int64(pick()))
        default: root.logEnd = UInt64(bitPattern: Int64(pick()))
        }
        var writer = ByteWriter()
        if root.sections.extent.offset < 0 || root.openers.extent.offset < 0 || root.log.extent.offset < 0 { return }
        if [root.sections, root.openers, root.log].contains(where: { $0.extent.size < 0 }) { return }
        root.encoded(to: &writer)
        var content = world.image.memory.content
        content.replaceSubrange(
            Layout.rootOffset(root.sequence)..<(Layout.rootOffset(root.sequence) + Layout.rootBytes), with: writer.bytes
        )
        for index in 0..<8 where seed % 2 == 0 { content[Layout.appliedOffset + index] = 0xFF }
        do {
            let image = try StoreWorld.recover(content)
            _ = image.restored()
            _ = image.positions(after: 0)
        } catch is StoreError {}
    }

    @Test("A flipped bit in a section's data is noticed by a read and repaired by an overwrite")
    func corruptedData() throws {
        var world = try StoreWorld(seed: 1)
        let data = (0..<2_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        var transaction = Transaction(checkpoint: world.image.checkpoint, time: 1, state: world.image.state)
        transaction.steps = [
            .init(.init(kind: .create, id: "a", data: .init(offset: 0, count: 2_000)), slot: 0, serial: 1)
        ]
        transaction.state.change = 1
        try world.commit(transaction, data)
        let entry = world.image.sections[0]!
        var flipped = world.image.memory
        flipped.store(UInt8(data[700] ^ 1), at: entry.dataOffset + 700)
        #expect(try world.image.read(slot: 0, offset: 0, count: 512).count == 512)
        #expect(throws: StoreError.corrupted(slot: 0)) { try world.image.read(slot: 0, offset: 600, count: 100) }
        transaction.state.change = 2
        transaction.steps = [
            .init(.init(kind: .write, id: "a", offset: 690, data: .init(offset: 0, count: 5)), slot: 0, serial: 0)
        ]
        #expect(throws: StoreError.corrupted(slot: 0)) { try world.commit(transaction, data) }
        transaction.steps = [
            .init(.init(kind: .overwrite, id: "a", data: .init(offset: 0, count: 1_000)), slot: 0, serial: 0)
        ]
        try world.commit(transaction, data)
        #expect(Array(try world.image.read(slot: 0, offset: 0, count: 1_000)) == Array(data[0..<1_000]))
    }

    @Test("The log tells every update since a change, or says that it cannot", arguments: 0..<20 as Range<UInt64>)
    func recentChanges(seed: UInt64) throws {
        let limits = StoreLimits(logBytesMin: 2_048, logBytesMax: seed % 4 == 0 ? 1_024 : 1 << 20)
        var world = try StoreWorld(seed: seed, limits: limits)
        var history: [[SectionOperation.Kind]] = []
        var told = 0
        for round in 0..<80 {
            let (transaction, payload) = world.step(sizeMax: 100)
            try world.commit(transaction, payload)
            history.append(transaction.steps.map(\.operation.kind))
            if round % 7 == 3 {
                world.image = try StoreWorld.recover(world.image.memory.content, limits: limits)
            }
            for back in 0..<6 where back <= history.count {
                let since = UInt64(history.count - back)
                guard let positions = world.image.positions(after: since) else { continue }
                #expect(positions.count == back)
                for (index, position) in positions.enumerated() {
                    var writer = ByteWriter()
                    #expect(world.image.encodeUpdate(at: position, handle: HandleID(rawValue: 3), to: &writer))
                    let push = try writer.bytes.withUnsafeBytes { try UpdatePush(decoding: $0) }
                    #expect(push.change == since + 1 + UInt64(index))
                    #expect(push.operations.map(\.kind) == history[Int(since) + index])
                    told += 1
                }
            }
        }
        #expect(told > 20)
    }

    @Test("An extent holds what it was asked to hold")
    func extentSizes() {
        for id in [0, 1, 7, 8, 9, 255, 65_535] {
            for size in [0, 1, 63, 64, 65, 511, 512, 513, 516, 1_024, 4_095, 65_536, 1 << 20, 1_000_003] {
                let extent = ExtentAllocator.rounded(SectionEntry.extentBytes(idLength: id, size: size))
                let entry = SectionEntry(
                    idLength: id, extent: .init(offset: 1024, size: extent), size: size, expiration: 0, lastUpdate: 0,
                    serial: 0)
                #expect(entry.capacity >= size)
                #expect(entry.checksumsOffset + 4 * SectionEntry.blocks(entry.capacity) <= entry.extent.end)
            }
        }
        for size in 1..<5_000 {
            #expect(ExtentAllocator.rounded(size) >= size)
            #expect(size <= 64 || ExtentAllocator.rounded(size) <= size + size / 4 + 16)
        }
    }
}
