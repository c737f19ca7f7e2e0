import EngineKit
import OSAL
import Testing

@testable import EOHost

@Suite("RAM journal")
struct RamJournalTests {
    private func withDirectory(_ body: (String) throws -> Void) throws {
        let directory = try File.makeTemporaryDirectory("/dev/shm/saf-journal-")
        defer { try? File.removeTree(directory) }  // a left-over must not hide the test's own outcome
        try body(directory)
    }

    @Test("Records are there after the writer has gone, in order")
    func survives() throws {
        try withDirectory { directory in
            let path = directory + "/journal"
            let first = try RamJournal(path: path)
            #expect(first.records == [])
            #expect(first.append([1, 2, 3]))
            #expect(first.append([]))
            #expect(first.append(Array(repeating: 7, count: 1_001)))
            let second = try RamJournal(path: path)
            #expect(second.damage == nil)
            #expect(second.records == [[1, 2, 3], [], Array(repeating: 7, count: 1_001)])
            #expect(second.append([4]))
            #expect(try RamJournal(path: path).records.last == [4])
        }
    }

    @Test("A full journal refuses and can be replaced, also by something larger than it was")
    func replaced() throws {
        try withDirectory { directory in
            let journal = try RamJournal(path: directory + "/journal")
            let record = [UInt8](repeating: 5, count: 10_000)
            var count = 0
            while journal.append(record) { count += 1 }
            #expect(count > 20)
            let snapshot = [UInt8](repeating: 6, count: RamJournal.capacityMin * 2)
            try journal.replace(with: [snapshot, [1]])
            #expect(journal.append([2]))
            #expect(try RamJournal(path: directory + "/journal").records == [snapshot, [1], [2]])
        }
    }

    @Test("What is no journal is replaced, and said so", arguments: 0..<50 as Range<UInt64>)
    func garbage(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        try withDirectory { directory in
            let path = directory + "/journal"
            let journal = try RamJournal(path: path)
            for value in 0..<20 as Range<UInt8> { #expect(journal.append([UInt8](repeating: value, count: 100))) }
            var bytes = try File.readAll(path)
            let limit = random.chance(percent: 50) ? 2_000 : 64
            for _ in 0..<3 {
                bytes[Int.random(in: 0..<limit, using: &random)] ^= UInt8.random(in: 1...255, using: &random)
            }
            try File.writeAtomically(path, bytes, durable: false)
            let next = try RamJournal(path: path)
            if next.damage != nil { #expect(next.records == [], "seed \(seed)") }
            #expect(next.append([9]), "seed \(seed)")
        }
    }

    @Test("An empty file and a missing directory are no crash")
    func unusable() throws {
        try withDirectory { directory in
            try File.writeAtomically(directory + "/empty", [], durable: false)
            #expect(try RamJournal(path: directory + "/empty").damage != nil)
            #expect(throws: OSError.self) { try RamJournal(path: directory + "/none/journal") }
        }
    }
}
