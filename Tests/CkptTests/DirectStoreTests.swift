import CkptLayout
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import CkptStore

/// A store with one checkpoint of four sections, and clients that map what ckptd would give them.
final class DirectStoreWorld {
    let root: String
    private(set) var files: CheckpointFiles
    let id = CheckpointID(rawValue: 0x1234)
    var change: UInt64 { files.entries[id]?.image.change ?? 0 }

    init() throws {
        root = try File.makeTemporaryDirectory("/dev/shm/direct-store-")
        files = try CheckpointFiles(directory: root + "/ckpt")
        try files.create(StoreWorld.new(sectionsMax: 8))
        var transaction = step()
        for slot in 0..<4 {
            transaction.steps.append(
                .init(
                    .init(
                        kind: .create, id: SectionID([UInt8(slot)]), expiration: .saTimeEnd,
                        data: .init(offset: 0, count: 100)), slot: slot, serial: UInt64(slot) + 1))
        }
        transaction.state.nextSerial = 5
        try commit(transaction, [UInt8](repeating: 1, count: 100))
    }

    deinit { try? File.removeTree(root) }

    func step() -> Transaction {
        var transaction = Transaction(
            checkpoint: id, time: 9, state: files.entries[id]?.image.state ?? .init(retentionDuration: 0))
        transaction.state.change += 1
        return transaction
    }

    func commit(_ transaction: Transaction, _ payload: [UInt8], isUpdate: Bool = true) throws {
        try payload.withUnsafeBytes { bytes throws in
            try files.commit(transaction, payload: bytes, isUpdate: isUpdate)
        }
    }

    /// As another life of ckptd finds it.
    func restart() throws -> [CheckpointFiles.Damage] {
        files = try CheckpointFiles(directory: root + "/other")  // lets go of the lock
        files = try CheckpointFiles(directory: root + "/ckpt")
        return try files.recover().damaged
    }

    /// A client's view of a section.
    func section(_ slot: Int) throws -> DirectSection {
        let place = try #require(files.entries[id]?.image.directPlace(slot))
        return try #require(DirectSection(place, in: try map().bytes))
    }

    /// The mapping is left to the process's end.
    func map() throws -> Mapping {
        let file = try File.open(files.directPath(id), writable: true)
        let mapping = try Mapping.map(file.raw, count: try File.stat(descriptor: file.raw).size, writable: true)
        _ = Unmanaged.passRetained(mapping)
        return mapping
    }

    @discardableResult
    func write(_ section: DirectSection, _ data: [UInt8], by owner: UInt32 = 5) throws -> UInt64 {
        try data.withUnsafeBytes { try section.overwrite($0, by: owner, time: 77) }
    }

    func read(_ slot: Int) throws -> [UInt8] {
        let size = try #require(files.entries[id]?.image.descriptor(slot: slot, state: .valid)?.size)
        return Array(try files.read(id, slot: slot, offset: 0, count: Int(size)))
    }

    /// As the engine has it done.
    @discardableResult
    func recall(_ slots: [Int]) throws -> [DirectSight] {
        var payload: [UInt8] = []
        let (sights, change) = files.look(id, recalling: slots, reserves: false, into: &payload)
        var transaction = step()
        transaction.state.change = change
        transaction.purpose = .recalled
        let recalled = sights.filter(\.isRecalled)
        transaction.steps = recalled.compactMap { files.entries[id]?.image.recalledStep($0.slot, $0) }
        try commit(transaction, payload, isUpdate: false)
        return recalled
    }
}

@Suite("Direct sections in the store")
struct DirectStoreTests {
    @Test("A section is granted, written by others, and comes back as they left it")
    func grantAndRecall() throws {
        let world = try DirectStoreWorld()
        let before = world.change
        try world.files.grant(world.id, slot: 1, limit: 5_000)
        let section = try world.section(1)
        var bytes = [UInt8](repeating: 0, count: 5_000)
        #expect(try bytes.withUnsafeMutableBytes { try section.read(at: 0, into: $0) }.size == 100)
        let data = (0..<4_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        #expect(try world.write(section, data) == before + 1)
        var nothing: [UInt8] = []
        let (seen, change) = world.files.look(world.id, recalling: [], reserves: false, into: &nothing)
        #expect(seen == [DirectSight(slot: 1, size: 4_000, lastUpdate: 77, change: before + 1)])
        #expect(change == before + 1 && nothing.isEmpty)
        let recalled = try world.recall([1])
        #expect(recalled.map(\.slot) == [1] && world.change == before + 1)
        #expect(try world.read(1) == data)
        #expect(world.files.entries[world.id]?.image.descriptor(slot: 1, state: .valid)?.lastUpdate == 77)
        #expect(world.files.entries[world.id]?.image.isDirect(1) == false)
        #expect(throws: DirectRefusal.self) { try world.write(section, [1]) }
        #expect(try world.read(0) == [UInt8](repeating: 1, count: 100))
    }

    @Test("ckptd's own changes and direct ones have numbers of one order")
    func numbers() throws {
        let world = try DirectStoreWorld()
        try world.files.grant(world.id, slot: 0, limit: 512)
        let section = try world.section(0)
        let first = try world.write(section, [1])
        var nothing: [UInt8] = []
        let (_, reserved) = world.files.look(world.id, recalling: [], reserves: true, into: &nothing)
        #expect(reserved == first)
        #expect(try world.write(section, [2]) == first + 2, "first + 1 is ckptd's")
    }

    @Test("Both dead at any time: a restart takes back what was published", arguments: 0..<12 as Range<UInt64>)
    func restart(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try DirectStoreWorld()
        var model: [Int: [UInt8]] = [:]
        for slot in 0..<4 where slot == 0 || random.chance(percent: 70) {
            let limit = Int.random(in: 100...9_000, using: &random)
            try world.files.grant(world.id, slot: slot, limit: limit)
            let data = (0..<Int.random(in: 0...limit, using: &random)).map { UInt8(truncatingIfNeeded: $0) }
            try world.write(try world.section(slot), data)
            model[slot] = data
        }
        let last = world.change + UInt64(model.count)
        let stray = try world.section(0)
        if seed % 3 == 1 {
            // The writer died with the lock.
            #expect(stray.lock.tryAcquire(DirectLock.owner(process: 4_000_000, start: 1)))
        }
        if seed % 3 == 2 {
            // ckptd died after it had closed them, or after it had brought them back, but not said so.
            var payload: [UInt8] = []
            let slots = model.keys.sorted()
            let (sights, change) = world.files.look(world.id, recalling: slots, reserves: false, into: &payload)
            if seed % 2 == 0, let entry = world.files.entries[world.id] {
                var transaction = Transaction(
                    checkpoint: world.id, time: 0, state: entry.image.state, purpose: .recalled)
                transaction.state.change = change
                transaction.steps = sights.compactMap { entry.image.recalledStep($0.slot, $0) }
                try payload.withUnsafeBytes { try entry.image.commit(transaction, payload: $0, isUpdate: false) }
            }
        }
        #expect(try world.restart().isEmpty)
        for (slot, data) in model { #expect(try world.read(slot) == data, "seed \(seed), slot \(slot)") }
        #expect(world.change == last)
        #expect(!(try File.list(world.root + "/ckpt").contains { $0.hasSuffix(".direct") }))
        #expect(throws: DirectRefusal.self) { try world.write(stray, [1]) }
        #expect(throws: StoreError.self) { try world.files.grant(world.id, slot: 0, limit: 1) }
        try world.files.grant(world.id, slot: 0, limit: 9_000)
        try world.write(try world.section(0), [4])
        try world.recall([0])
        #expect(try world.read(0) == [4])
    }

    @Test("A step that brings sections back is wholly done or not at all, whenever ckptd dies")
    func crashDuringRecall() throws {
        let recorder = CrashRecorder()
        var world = try StoreWorld(seed: 3, recorder: recorder)
        for _ in 0..<12 {
            let (transaction, payload) = world.step()
            try world.commit(transaction, payload)
        }
        let slot = try #require(world.slots.values.min())
        let before = try StoreWorld.contents(world.image)
        try world.image.reserve(slot: slot, bytes: 3_000)
        #expect(try StoreWorld.contents(world.image) == before)
        world.image.setDirect(slot, DirectPlace(offset: 4096, limit: 3_000, grant: world.image.nextGrant))
        let data = [UInt8](repeating: 7, count: 2_500)
        let sight = DirectSight(
            slot: slot, size: 2_500, lastUpdate: 3, isRecalled: true, data: .init(offset: 0, count: 2_500))
        var transaction = Transaction(
            checkpoint: world.image.checkpoint, time: 0, state: world.image.state, purpose: .recalled)
        transaction.state.change += 5
        transaction.steps = [try #require(world.image.recalledStep(slot, sight))]
        let grown = world.image.memory.count
        recorder.isRecording = true
        try data.withUnsafeBytes { try world.image.commit(transaction, payload: $0, isUpdate: false) }
        world.image.clearDirect(slot)
        recorder.isRecording = false
        #expect(world.image.memory.count == grown, "it needs no room")
        var backs = 0
        for content in recorder.images {
            let found = try StoreWorld.recover(content)
            if found.isDirect(slot) {
                #expect(found.directPlace(slot)?.limit == 3_000, "what it is now is still there")
            } else {
                #expect(Array(try found.read(slot: slot, offset: 0, count: 2_500)) == data)
                backs += 1
            }
            for (other, place) in world.slots where place != slot {
                let size = try #require(before.sections[other]).data.count
                #expect(Array(try found.read(slot: place, offset: 0, count: size)) == before.sections[other]?.data)
            }
            found.memory.free()
        }
        #expect(backs > 0 && recorder.images.count > 300)
    }

    @Test("Memory whose holder only sleeps is not used again; that of a dead one is")
    func quarantine() throws {
        let world = try DirectStoreWorld()
        try world.files.grant(world.id, slot: 0, limit: 600)
        let place = try #require(world.files.entries[world.id]?.image.directPlace(0))
        let me = DirectLock.owner(
            process: UInt32(Environment.processID),
            start: try #require(Process.startTime(of: Environment.processID)))
        let section = try world.section(0)
        #expect(section.lock.tryAcquire(me))
        try world.recall([0])
        try world.files.grant(world.id, slot: 0, limit: 600)
        #expect(world.files.entries[world.id]?.image.directPlace(0)?.offset != place.offset)
        try world.recall([0])
        section.lock.release()
        try world.files.grant(world.id, slot: 0, limit: 600)
        try world.files.grant(world.id, slot: 1, limit: 600)
        let places = (0...1).compactMap { world.files.entries[world.id]?.image.directPlace($0)?.offset }
        #expect(places.contains(place.offset), "it is free now")
        // A process that is no more.
        let dead = try world.section(1)
        #expect(dead.lock.tryAcquire(DirectLock.owner(process: 4_194_000, start: 3)))
        let offset = world.files.entries[world.id]?.image.directPlace(1)?.offset
        try world.recall([1])
        try world.files.grant(world.id, slot: 1, limit: 600)
        #expect(world.files.entries[world.id]?.image.directPlace(1)?.offset == offset)
        try world.write(try world.section(1), [1, 2])
    }

    @Test("Whatever stands in the direct file, ckptd goes on: it is CORRUPTED, or somebody's data", arguments: 0..<40)
    func hostile(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let world = try DirectStoreWorld()
        for slot in 0..<4 { try world.files.grant(world.id, slot: slot, limit: 700) }
        let mapping = try world.map()
        for _ in 0..<12 {
            for _ in 0..<Int.random(in: 1...400, using: &random) {
                let limit = random.chance(percent: 40) ? 4_096 + 192 : mapping.count
                mapping.bytes[Int.random(in: 0..<limit, using: &random)] = .random(in: .min ... .max, using: &random)
            }
            let before = world.change
            var nothing: [UInt8] = []
            _ = world.files.look(world.id, recalling: [], reserves: true, into: &nothing)
            let recalled = try world.recall([0, 2])
            #expect(recalled.map(\.slot).filter { [0, 2].contains($0) } == [0, 2])
            #expect(world.change >= before && world.change - before < 1 << 41)
            for slot in [0, 2] {
                let isLost = recalled.first { $0.slot == slot }?.isCorrupted == true
                if isLost {
                    #expect(throws: StoreError.corrupted(slot: slot)) { try world.read(slot) }
                } else {
                    #expect(try world.read(slot).count <= 700)
                }
                var transaction = Transaction(
                    checkpoint: world.id, time: 1, state: try #require(world.files.entries[world.id]).image.state)
                transaction.steps = [
                    .init(
                        .init(kind: .overwrite, id: SectionID([UInt8(slot)]), data: .init(offset: 0, count: 3)),
                        slot: slot, serial: 0)
                ]
                try world.commit(transaction, [4, 5, 6])
                #expect(try world.read(slot) == [4, 5, 6], "overwriting repairs")
                try world.files.grant(world.id, slot: slot, limit: 700)
            }
        }
        #expect(try world.restart().isEmpty)
    }

    @Test("A direct file that somebody cut off is not touched any more")
    func cutOff() throws {
        let world = try DirectStoreWorld()
        try world.files.grant(world.id, slot: 0, limit: 700)
        let file = try SharedFile.open(world.files.directPath(world.id), writable: true)
        try file.truncate(to: 100)
        #expect(throws: StoreError.self) { try world.files.grant(world.id, slot: 1, limit: 700) }
        let recalled = try world.recall([])
        #expect(recalled.map(\.isCorrupted) == [true])
        #expect(throws: StoreError.corrupted(slot: 0)) { try world.read(0) }
        #expect(try world.read(1) == [UInt8](repeating: 1, count: 100))
        #expect(try world.restart().isEmpty)
    }

    @Test(
        "A file that is cut off while ckptd is at it: zeroes, which are CORRUPTED, and nothing in it is believed again")
    func cutOffMeanwhile() throws {
        let world = try DirectStoreWorld()
        for slot in [0, 1] { try world.files.grant(world.id, slot: slot, limit: 5_000) }
        let direct = try #require(world.files.entries[world.id]?.direct)
        let sections = [0, 1].compactMap { direct.places[$0].flatMap { direct.section($0) } }
        let file = try SharedFile.open(direct.path, writable: true)
        try file.truncate(to: 0)
        #expect(sections.count == 2)
        for section in sections {
            section.close()
            #expect(throws: DirectRefusal.self) { try section.readFrozen(at: 0, into: .init(start: nil, count: 0)) }
            #expect(throws: DirectRefusal.self) {
                try [1].withUnsafeBytes { try section.overwrite($0, by: 5, time: 1) }
            }
        }
        // Longer again, it is not what is mapped here.
        try file.truncate(to: direct.bytes)
        #expect(!direct.isWhole)
        #expect(try world.recall([]).map(\.isCorrupted) == [true, true])
        #expect(throws: StoreError.self) { try world.files.grant(world.id, slot: 2, limit: 700) }
        #expect(try world.read(2) == [UInt8](repeating: 1, count: 100))
        #expect(try world.restart().isEmpty)
    }

    @Test(
        "What a writer gets writes, and cannot make the file shorter; nor when it has gone to another process",
        .enabled(if: File.canForbidCutting))
    func uncuttable() throws {
        let world = try DirectStoreWorld()
        try world.files.grant(world.id, slot: 0, limit: 700)
        guard let descriptor = try world.files.openDirect(world.id, writable: true) else {
            Issue.record("there is no direct file")
            return
        }
        let raw = descriptor.raw
        let size = try File.stat(descriptor: raw).size
        let mapping = try Mapping.map(raw, count: size, writable: true)
        let place = try #require(world.files.entries[world.id]?.image.directPlace(0))
        try world.write(try #require(DirectSection(place, in: mapping.bytes)), [3, 4])
        for length in [0, 100, size - 1, size + 4_096] {
            #expect(throws: OSError.self) { try File.truncate(descriptor: raw, to: length) }
        }
        #expect(try File.stat(descriptor: raw).size == size)
        let own = try #require(world.files.entries[world.id]?.direct)
        #expect(own.isWhole)
        try world.files.grant(world.id, slot: 1, limit: 100_000)
        #expect(own.bytes > size, "ckptd makes it longer as before")
        try world.recall([0])
        #expect(try world.read(0) == [3, 4])
        withExtendedLifetime(descriptor) {}
    }
}
