import CkptLayout
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import CkptStore

extension DirectStoreWorld {
    /// As the engine has it done; `keeps`: ckptd does not die before.
    @discardableResult
    func tell(recalling slots: [Int] = [], mayRest: Bool = true, keeps: Bool = true) throws -> (
        sights: [DirectSight], isResting: Bool
    ) {
        var payload: [UInt8] = []
        let (sights, isResting) = files.tell(id, recalling: slots, mayRest: mayRest, into: &payload)
        var transaction = step()
        transaction.purpose = .told
        let written = sights.filter { $0.isWritten && !$0.isCorrupted }
        transaction.steps = written.compactMap { files.entries[id]?.image.toldStep($0) }
        transaction.time = written.map(\.lastUpdate).max() ?? 0
        if keeps, !transaction.steps.isEmpty { try commit(transaction, payload) }
        if keeps { files.endDirect(id, slots: sights.filter { $0.isRecalled && !$0.isCorrupted }.map(\.slot)) }
        return (sights, isResting)
    }

    /// Updates that a follower who has `change` can be told.
    func updates(after change: UInt64) -> Int? { files.positions(id, after: change)?.count }

    var direct: [Int] { files.entries[id]?.image.directSlots ?? [] }
}

@Suite("Direct sections in the store, while others are told")
struct TellingStoreTests {
    private static func data(_ number: Int, count: Int = 3_000) -> [UInt8] {
        (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ number) }
    }

    @Test("What was written is one update of the main file and of its log, and the sections stay where they are")
    func update() throws {
        let world = try DirectStoreWorld()
        for slot in [0, 2] { try world.files.grant(world.id, slot: slot, limit: 4_000, isTold: true) }
        let before = world.change
        let sections = [0: try world.section(0), 2: try world.section(2)]
        #expect(sections[0]?.isTold == true && sections[0]?.call == 0, "ckptd looks by itself")
        #expect(try world.tell().isResting)
        #expect(sections[0]?.call != 0)
        for number in 1...5 {
            for section in sections.values {
                #expect(try world.write(section, Self.data(number)) == before + 1, "of the update that is told")
            }
        }
        #expect(try world.tell().sights.map(\.slot) == [0, 2])
        #expect(world.change == before + 1 && world.updates(after: before) == 1 && world.direct == [0, 2])
        for slot in [0, 2] { #expect(try world.read(slot) == Self.data(5)) }
        #expect(sections[0]?.call == 0, "ckptd was awake")
        let patch = [UInt8](repeating: 9, count: 3)
        _ = try patch.withUnsafeBytes { try sections[2]?.write(at: 1_000, $0, by: 5, time: 88) }
        let sights = try world.tell().sights
        #expect(sights.map(\.slot) == [2] && (sights.first?.data.count ?? 99) <= 8 && sights.first?.writes == 1)
        var expected = Self.data(5)
        expected.replaceSubrange(1_000..<1_003, with: patch)
        #expect(try world.read(2) == expected)
        #expect(world.files.entries[world.id]?.image.descriptor(slot: 2, state: .valid)?.lastUpdate == 88)
        #expect(try world.tell().isResting)
        _ = try sections[0].map { try world.write($0, [1]) }
        #expect(try world.tell(recalling: [0, 2], mayRest: false).sights.map(\.isWritten) == [true, false])
        #expect(world.direct == [] && world.change == before + 3 && world.updates(after: before) == 3)
        #expect(try world.read(0) == [1])
        for section in sections.values { #expect(throws: DirectRefusal.self) { try world.write(section, [1]) } }
    }

    @Test(
        "Whenever ckptd dies, what others were not told of is an update of its next life, and nothing twice",
        arguments: 0..<24 as Range<UInt64>)
    func restart(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let world = try DirectStoreWorld()
        let first = world.change
        var model: [Int: [UInt8]] = [:]
        for slot in 0..<3 {
            try world.files.grant(world.id, slot: slot, limit: 4_000, isTold: true)
            model[slot] = try world.read(slot)
        }
        var told: UInt64 = 0
        var isDirty = false
        for round in 0..<Int.random(in: 1...6, using: &random) {
            for slot in 0..<3 where random.chance(percent: 60) {
                let data = Self.data(round + 1, count: Int.random(in: 0...4_000, using: &random))
                try world.write(try world.section(slot), data)
                model[slot] = data
                isDirty = true
            }
            if random.chance(percent: 60) {
                try world.tell()
                told += isDirty ? 1 : 0
                isDirty = false
            }
        }
        switch seed % 4 {
        case 1: try world.tell(keeps: false)  // it died before it kept what it had seen
        case 2: try world.tell(recalling: [0, 1], mayRest: false, keeps: false)
        case 3: #expect(try world.section(0).lock.tryAcquire(DirectLock.owner(process: 4_000_000, start: 1)))
        default: break
        }
        #expect(try world.restart().isEmpty)
        for (slot, data) in model { #expect(try world.read(slot) == data, "seed \(seed), slot \(slot)") }
        #expect(world.change == first + told + (isDirty ? 1 : 0), "seed \(seed)")
        if isDirty { #expect(world.updates(after: world.change - 1) == 1) }
        #expect(world.direct == [])
    }

    @Test("Random bytes all over the direct file: nothing crashes or hangs, and the rest is served", arguments: 0..<60)
    func hostile(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let world = try DirectStoreWorld()
        for slot in 0..<3 { try world.files.grant(world.id, slot: slot, limit: 1_000, isTold: true) }
        let bytes = try world.map().bytes
        for _ in 0..<20 {
            for _ in 0..<Int.random(in: 1...40, using: &random) {
                let place = random.chance(percent: 60) ? Int.random(in: 64..<4_800, using: &random) : bytes.count - 1
                bytes[place] = UInt8.random(in: .min ... .max, using: &random)
            }
            for slot in world.direct {
                let section = try world.section(slot)
                let data = Self.data(seed, count: Int.random(in: 0...1_000, using: &random))
                _ = try? data.withUnsafeBytes {
                    try section.overwrite($0, by: 5, time: 7, patience: .milliseconds(1))
                }
            }
            try world.tell(recalling: random.chance(percent: 10) ? world.direct : [])
        }
        #expect(try world.read(3) == [UInt8](repeating: 1, count: 100))
        #expect(try world.restart().isEmpty)
        #expect(try world.read(3) == [UInt8](repeating: 1, count: 100))
    }

    @Test("Another replica is the active one: the sections are what others were told last")
    func abandon() throws {
        let world = try DirectStoreWorld()
        try world.files.grant(world.id, slot: 1, limit: 4_000, isTold: true)
        let section = try world.section(1)
        try world.write(section, Self.data(1))
        try world.tell()
        try world.write(section, Self.data(2))
        world.files.abandonDirect(world.id)
        #expect(try world.read(1) == Self.data(1) && world.direct == [])
        #expect(throws: DirectRefusal.self) { try world.write(section, [1]) }
        try world.files.grant(world.id, slot: 1, limit: 4_000, isTold: true)
        #expect(try world.tell().sights.isEmpty)
    }
}
