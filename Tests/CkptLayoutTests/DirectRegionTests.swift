import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import CkptLayout

@Suite("Direct section")
struct DirectRegionTests {
    private static func region(limit: Int, _ data: [UInt8]) -> DirectRegion<RecordedRegion> {
        let memory = RecordedRegion(count: DirectLayout.regionBytes(limit: limit))
        let region = DirectRegion(memory: memory, limit: limit, grant: 9)
        data.withUnsafeBytes { region.prepare($0, .init(size: data.count, lastUpdate: 1, change: 1)) }
        return region
    }

    private let counter = UnsafeMutableRawBufferPointer.allocate(byteCount: 8, alignment: 8)

    private var counting: UnsafeMutableRawPointer {
        counter.initializeMemory(as: UInt8.self, repeating: 0)
        return counter.baseAddress!
    }

    @Test("What is written is what is read", arguments: 0..<60 as Range<UInt64>)
    func matchesModel(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let limit = [1, 100, 512, 513, 3_000, 70_000][Int(seed % 6)]
        var model = (0..<Int.random(in: 0...limit, using: &random)).map { UInt8(truncatingIfNeeded: $0) }
        let region = Self.region(limit: limit, model)
        #expect(try content(region) == model)
        for round in 0..<150 {
            let step = DirectStep.random(limit: limit, size: model.count, using: &random)
            try step.write(to: region, counter: counting)
            step.apply(to: &model)
            #expect(try content(region) == model, "seed \(seed), round \(round)")
            let offset = Int.random(in: 0...model.count, using: &random)
            var part = [UInt8](repeating: 0, count: Int.random(in: 0...limit, using: &random))
            let view = try part.withUnsafeMutableBytes { try region.read(at: offset, into: $0) }
            #expect(view.size == model.count && view.copied == min(part.count, model.count - offset))
            #expect(Array(part[..<view.copied]) == Array(model[offset..<(offset + view.copied)]))
        }
    }

    @Test("A writer's death after any single store: old or new, and the next writer goes on", arguments: 0..<16)
    func crashAtEveryStore(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let limit = [200, 1_100, 1_536, 2_600][seed % 4]
        var model = [UInt8](repeating: 5, count: Int.random(in: 0...limit, using: &random))
        let region = Self.region(limit: limit, model)
        region.memory.isBackwards = seed % 2 == 1
        var crashes = 0
        for _ in 0..<5 {
            let step = DirectStep.random(limit: limit, size: model.count, using: &random)
            let before = model
            step.apply(to: &model)
            region.memory.images = []
            region.memory.isRecording = true
            try step.write(to: region, counter: counting)
            region.memory.isRecording = false
            var isNew = false
            for (index, image) in region.memory.images.enumerated() {
                let left = DirectRegion(memory: RecordedRegion(image), limit: limit, grant: 9)
                let found = try content(left)
                isNew = isNew || found == model
                #expect(found == (isNew ? model : before), "seed \(seed), store \(index)")
                crashes += 1
                var next = found
                // The next writer dies, too, somewhere; the one after it finds the old or its new section.
                if index % 7 == 0 { next = try goOnAfterDeath(left, next, &random) }
                for _ in 0..<2 {
                    let step = DirectStep.random(limit: limit, size: next.count, using: &random)
                    step.apply(to: &next)
                    try step.write(to: left, counter: counting)
                    #expect(try content(left) == next, "seed \(seed), after store \(index)")
                }
            }
            #expect(isNew)
        }
        #expect(crashes > 300)
    }

    private func goOnAfterDeath(
        _ region: DirectRegion<RecordedRegion>, _ before: [UInt8], _ random: inout SeededRandom
    ) throws -> [UInt8] {
        let step = DirectStep.random(limit: region.limit, size: before.count, using: &random)
        var after = before
        step.apply(to: &after)
        let memory = region.memory
        memory.images = []
        memory.isRecording = true
        try step.write(to: region, counter: counting)
        memory.isRecording = false
        let image = memory.images[Int.random(in: 0..<memory.images.count, using: &random)]
        image.withUnsafeBytes { memory.base.copyMemory(from: $0.baseAddress!, byteCount: image.count) }
        let found = try content(region)
        #expect(found == before || found == after)
        return found
    }

    @Test("What is closed cannot be published any more, and holds for good")
    func close() throws {
        let region = Self.region(limit: 1_000, [1, 2, 3])
        region.close()
        let step = DirectStep(replaces: true, offset: 0, data: [9])
        #expect(throws: DirectRefusal.closed) { try step.write(to: region, counter: counting) }
        #expect(throws: DirectRefusal.closed) { try region.read(at: 0, into: .init(start: nil, count: 0)) }
        #expect(try content(region) == [1, 2, 3])
        // Somebody who still believes in the earlier grant of the same memory.
        let later = DirectRegion(memory: region.memory, limit: 1_000, grant: 10)
        [UInt8](repeating: 4, count: 600).withUnsafeBytes {
            later.prepare($0, .init(size: 600, lastUpdate: 2, change: 2))
        }
        #expect(throws: DirectRefusal.closed) { try step.write(to: region, counter: counting) }
        #expect(try content(later) == [UInt8](repeating: 4, count: 600))
    }

    @Test("A writer that is closed out while it writes changes nothing that holds", arguments: 0..<8 as Range<UInt64>)
    func closedWhileWriting(seed: UInt64) throws {
        // The state word is closed at a moment between any two stores: by then nothing of the write may show.
        var random = SeededRandom(seed: seed)
        let model = [UInt8](repeating: 3, count: 700)
        let region = Self.region(limit: 1_200, model)
        region.memory.isRecording = true
        try DirectStep.random(limit: 1_200, size: 700, using: &random).write(to: region, counter: counting)
        for image in region.memory.images.dropLast() {
            let left = DirectRegion(memory: RecordedRegion(image), limit: 1_200, grant: 9)
            left.close()
            #expect(try content(left) == model)
        }
    }

    @Test("Wrong bytes are CORRUPTED to readers and to writers that would keep them; replacing them repairs")
    func corrupted() throws {
        let data = (0..<2_000).map { UInt8(truncatingIfNeeded: $0 * 3) }
        let region = Self.region(limit: 2_048, data)
        let table = DirectLayout.checksumsOffset + 2 * DirectLayout.tableBytes(4)
        (region.memory.base + table + 700).storeBytes(of: 1, as: UInt8.self)
        #expect(throws: DirectRefusal.corrupted) { try content(region) }
        var block = [UInt8](repeating: 0, count: 512)
        #expect(try block.withUnsafeMutableBytes { try region.read(at: 0, into: $0) }.copied == 512)
        let part = DirectStep(replaces: false, offset: 600, data: [1])
        #expect(throws: DirectRefusal.corrupted) { try part.write(to: region, counter: counting) }
        try DirectStep(replaces: false, offset: 1_100, data: [1]).write(to: region, counter: counting)
        #expect(throws: DirectRefusal.corrupted) { try content(region) }
        try DirectStep(replaces: true, offset: 0, data: [8, 9]).write(to: region, counter: counting)
        #expect(try content(region) == [8, 9])
    }

    @Test("Random bytes anywhere never crash or hang anybody", arguments: 0..<150 as Range<UInt64>)
    func hostile(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let limit = Int.random(in: 1...4_000, using: &random)
        let region = Self.region(limit: limit, [UInt8](repeating: 1, count: limit))
        let count = DirectLayout.regionBytes(limit: limit)
        for _ in 0..<200 {
            // Half of the damage goes where the structure is.
            for _ in 0..<Int.random(in: 1...9, using: &random) {
                let place = Int.random(in: 0..<(random.chance(percent: 50) ? 192 : count), using: &random)
                (region.memory.base + place).storeBytes(
                    of: UInt8.random(in: .min ... .max, using: &random), as: UInt8.self)
            }
            do throws(DirectRefusal) {
                #expect(try content(region).count <= limit)
            } catch {
                #expect(error == .corrupted || error == .closed || error == .busy)
            }
            do throws(DirectRefusal) {
                try DirectStep.random(limit: limit, size: 0, using: &random).write(to: region, counter: counting)
            } catch {
                #expect(error == .corrupted || error == .closed || error == .tooLarge)
            }
            if random.chance(percent: 20) {
                [UInt8](repeating: 2, count: limit / 2).withUnsafeBytes {
                    region.prepare($0, .init(size: limit / 2, lastUpdate: 1, change: 1))
                }
                #expect(try content(region) == [UInt8](repeating: 2, count: limit / 2), "seed \(seed): repaired")
            }
        }
    }

    @Test("A place is taken only as ckptd wrote it")
    func places() {
        let place = DirectPlace(offset: 4096, limit: 100, grant: 7)
        let head = place.encodedHead(serial: 3)
        #expect(DirectPlace((head.0, head.1, 7), serial: 3) == place)
        #expect(DirectPlace((head.0, head.1, 0), serial: 3) == nil)
        #expect(DirectPlace((head.0, head.1, 8), serial: 3) == nil)
        #expect(DirectPlace((head.0, head.1, 7), serial: 4) == nil)
        #expect(DirectPlace((head.0 + 64, head.1, 7), serial: 3) == nil)
        let file = UnsafeMutableRawBufferPointer.allocate(byteCount: 8_192, alignment: 4096)
        defer { file.deallocate() }
        #expect(DirectSection(place, in: file) != nil)
        for (offset, limit) in [(4096, 4_000), (8_192, 1), (0, 1), (4_100, 1), (-64, 1), (4096, 0), (Int.max & ~63, 1)]
        {
            #expect(DirectSection(.init(offset: offset, limit: limit, grant: 1), in: file) == nil)
        }
    }

    @Test("Blocks are copied and checksummed as one by one")
    func copyBlocksTest() {
        var random = SeededRandom(seed: 2)
        for count in [0, 1, 2, 3, 4, 5, 8, 11] {
            let source = (0..<(count * 512)).map { _ in UInt8.random(in: .min ... .max, using: &random) }
            var target = [UInt8](repeating: 0, count: count * 512)
            var checksums = [UInt32](repeating: 0, count: count + 1)
            target.withUnsafeMutableBytes { to in
                source.withUnsafeBytes { from in
                    if let to = to.baseAddress, let from = from.baseAddress {
                        copyBlocks(to: to, from: from, count: count, first: 6, checksums: &checksums)
                    }
                }
            }
            #expect(target == source)
            for block in 0..<count {
                let single = source[(block * 512)..<(block * 512 + 512)].withUnsafeBytes {
                    crc32c($0, seed: 6 + UInt32(block))
                }
                #expect(checksums[block] == single)
            }
        }
    }
}
