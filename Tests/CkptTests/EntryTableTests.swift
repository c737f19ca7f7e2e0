import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import CkptLayout
@testable import CkptStore

@Suite("Parked files")
struct EntryTableTests {
    private final class Entry: ParkableEntry {
        let id: CheckpointID
        var isUsed = false
        var isParkable = true
        var service: ServiceWord = .readable
        var fileBytes: Int { Int(id.rawValue) }
        init(_ id: CheckpointID) { self.id = id }
    }

    @Test(
        "Only so many are awake, all are found, and who is being worked with stays", arguments: 0..<10 as Range<UInt64>)
    func anyOrder(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var reopened = 0
        let table = EntryTable<Entry>(awakeMax: 8) { id in
            reopened += 1
            return Entry(id)
        }
        var known: Set<UInt64> = []
        for _ in 0..<2_000 {
            let number = UInt64.random(in: 1...40, using: &random)
            let id = CheckpointID(rawValue: number)
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                #expect(table.removeValue(forKey: id)?.id == (known.remove(number) == nil ? nil : id))
            case 1..<4 where !known.contains(number):
                let entry = Entry(id)
                entry.isParkable = random.chance(percent: 95)
                table[id] = entry
                known.insert(number)
                #expect(table[id] === entry)
            default:
                let entry = table[id]
                #expect((entry?.id == id) == known.contains(number), "seed \(seed)")
                if let entry { #expect(table[id] === entry) }
            }
            #expect(table.counts.awake + table.counts.parked == known.count, "seed \(seed)")
            #expect(table.fileBytes(id) == (known.contains(number) ? Int(number) : 0))
            #expect(table.service(id) == (known.contains(number) ? .readable : nil))
        }
        #expect(reopened > 100 && table.counts.awake < 20)
    }

    @Test("More checkpoints than a process may have files open: all are there, before and after a restart")
    func manyFiles() throws {
        let directory = try File.makeTemporaryDirectory("/dev/shm/ckpt-parked-")
        defer { try? File.removeTree(directory) }
        let count = CheckpointFiles.awakeMax + 500
        func id(_ number: Int) -> CheckpointID { CheckpointID(rawValue: UInt64(number + 1)) }
        func check(_ files: CheckpointFiles) throws {
            for number in stride(from: 0, to: count, by: 7) {
                let data = try files.read(id(number), slot: 0, offset: 0, count: 8)
                #expect(data.loadUnaligned(as: UInt64.self) == UInt64(number))
                #expect(files.service(id(number)) == .readable)
            }
        }
        do {
            let files = try CheckpointFiles(directory: directory)
            for number in 0..<count {
                var new = StoreWorld.new(sectionsMax: 1)
                new.checkpoint = id(number)
                new.openers = []
                try files.create(new)
                var transaction = Transaction(checkpoint: id(number), time: 1, state: new.state)
                transaction.state.change = 1
                transaction.steps = [
                    .init(
                        .init(kind: .overwrite, id: .defaultSection, data: .init(offset: 0, count: 8)), slot: 0,
                        serial: 0)
                ]
                let value = UInt64(number)
                try withUnsafeBytes(of: value) { bytes throws in
                    try files.commit(transaction, payload: bytes, isUpdate: true)
                }
            }
            #expect(files.entries.counts == (CheckpointFiles.awakeMax, 500))
            try check(files)
        }
        let files = try CheckpointFiles(directory: directory)
        let (found, damaged) = try files.recover()
        #expect(found.count == count && damaged.isEmpty)
        try check(files)
        files.remove(id(0))
        #expect(throws: StoreError.self) { try files.read(id(0), slot: 0, offset: 0, count: 8) }
    }
}
