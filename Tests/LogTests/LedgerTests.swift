import EngineKit
import LogEngine
import LogProtocol
import OSAL
import SAFTypes
import Testing

@testable import LogShell

@Suite("Spool and ledger")
struct LedgerTests {
    private final class Folder {
        let path: String
        init() throws { path = try File.makeTemporaryDirectory("/dev/shm/logd-ledger-") }
        deinit { try? File.removeTree(path) }
    }

    private static func entry(
        _ number: UInt64, epoch: UInt64 = 1, bytes: Int = 10, fileName: StreamID = StreamID(.clusterSystem)
    ) -> LedgerEntry {
        var writer = ByteWriter()
        let record = RecordLayout.encode(
            "\(number) " + String(repeating: "x", count: bytes), severity: .notice, stream: .clusterSystem, area: "A",
            context: "C", time: 1_772_366_400_000_000_000 + Int64(number) * 1_000_000_000)
        record.withUnsafeBytes {
            GlobalRecord.append($0, to: fileName, process: 7, program: Array("p".utf8), hasTime: true, into: &writer)
        }
        return LedgerEntry(
            position: LedgerPosition(epoch: epoch, number: number),
            batch: RecordBatch(node: NodeID(1), incarnation: 5, first: number, count: 1, records: writer.bytes))
    }

    private func all(_ ledger: LedgerFiles) throws -> [UInt64] {
        var (numbers, next) = ([UInt64](), ledger.firstKept)
        while next <= ledger.state.number {
            let (entries, _) = try ledger.load(from: next)
            guard let last = entries.last else { break }
            numbers += entries.map(\.number)
            next = last.number + 1
        }
        return numbers
    }

    // MARK: The spool

    @Test("What is committed is there in the next life, what was appended only is not; many times around")
    func spool() throws {
        let folder = try Folder()
        var random = SeededRandom(seed: 3)
        var (accepted, released, lives) = (UInt64(0), UInt64(0), 0)
        var spool = try SpoolFile(directory: folder.path, capacity: 1 << 16, incarnation: 1)
        for _ in 0..<20_000 {
            switch Int.random(in: 0..<20, using: &random) {
            case 0..<12:
                let number = spool.appended.count + 1
                _ = spool.append(Self.entry(number, bytes: Int.random(in: 0...300, using: &random)).batch.records)
            case 12..<16:
                spool.commit(spool.appended)
                accepted = spool.committed.count
            case 16..<19:
                guard let read = spool.read(from: released + 1, bytesMax: 5000) else { continue }
                var (numbers, next) = ([UInt64](), released + 1)
                read.frames.withUnsafeBytes { raw in
                    var reader = ByteReader(raw)
                    while reader.remaining > 0, let record = try? GlobalRecord(decoding: &reader) {
                        let text = String(decoding: record.record.message, as: UTF8.self)
                        numbers.append(UInt64(text.prefix { $0 != " " }) ?? 0)
                        next += 1
                    }
                }
                try #require(numbers == Array(released + 1..<released + 1 + UInt64(read.count)))
                try #require(next == released + 1 + UInt64(read.count) && next - 1 <= accepted)
                released = next - 1
                spool.release(through: released)
            default:
                spool = try SpoolFile(directory: folder.path, capacity: 1 << 20, incarnation: 2)
                lives += 1
                try #require(spool.committed.count == accepted && spool.released.count == released)
                try #require(spool.appended == spool.committed && spool.incarnation == 1)
            }
        }
        #expect(lives > 100 && accepted > 5000)
    }

    @Test("A full spool refuses, and takes again when something was released")
    func fullSpool() throws {
        let folder = try Folder()
        let spool = try SpoolFile(directory: folder.path, capacity: 1 << 16, incarnation: 1)
        var count: UInt64 = 0
        while spool.append(Self.entry(count + 1, bytes: 1000).batch.records) { count += 1 }
        #expect(count > 50 && spool.bytes <= 1 << 16)
        spool.commit(spool.appended)
        spool.release(through: 1)
        #expect(spool.append(Self.entry(count + 1, bytes: 1000).batch.records))
        // What is no mark of it changes nothing.
        spool.release(through: 10_000)
        spool.recover(SpoolMark(position: 1 << 40, count: 1 << 40))
        #expect(spool.released.count == 1 && spool.committed.count == count)
    }

    // MARK: The ledger

    @Test("A ledger goes on where it was; what a kill cut off its end is dropped")
    func torn() throws {
        let folder = try Folder()
        let ledger = try LedgerFiles(directory: folder.path, retainedBytes: 1 << 30, newStore: 77)
        try ledger.append((1...50).map { Self.entry($0) }, published: 0)
        let name = try #require(try File.list(folder.path).first { $0.hasPrefix("ledger.") })
        let whole = try File.readAll(folder.path + "/" + name)
        for cut in [1, 7, 50, 100] {
            try File.writeAtomically(folder.path + "/" + name, whole.dropLast(cut), durable: false)
            let again = try LedgerFiles(directory: folder.path, retainedBytes: 1 << 30, newStore: 78)
            #expect(again.store == 77 && again.damage.count == (again.state.number < 50 ? 1 : 0))
            #expect(try all(again) == Array(1...again.state.number) && again.state.number < 50)
            let next = again.state.number + 1
            try again.append([Self.entry(next)], published: 0)
            let third = try LedgerFiles(directory: folder.path, retainedBytes: 1 << 30, newStore: 79)
            #expect(third.state.number == next && third.damage.isEmpty)
        }
        #expect(throws: OSError.self) { try ledger.append([Self.entry(70)], published: 0) }
        #expect(ledger.state.number == 50)
    }

    @Test("It keeps what is not in the files, and beyond that so many bytes; what is gone is told by a state")
    func retention() throws {
        let folder = try Folder()
        let ledger = try LedgerFiles(directory: folder.path, retainedBytes: 6 << 20, newStore: 1)
        for block in 0..<60 {
            let first = UInt64(block) * 50 + 1
            try ledger.append((first..<first + 50).map { Self.entry($0, bytes: 8000) }, published: 100)
        }
        #expect(ledger.firstKept == 1)
        try ledger.append([Self.entry(3001)], published: 3000)
        #expect(ledger.firstKept > 1)
        #expect(try all(ledger) == Array(ledger.firstKept...3001))
        let (entries, base) = try ledger.load(from: 1)
        #expect(entries.isEmpty && base?.number == ledger.firstKept - 1)
        let again = try LedgerFiles(directory: folder.path, retainedBytes: 6 << 20, newStore: 1)
        #expect(again.state == ledger.state && again.firstKept == ledger.firstKept)
        #expect(again.state.counts[StreamID(.clusterSystem)] == 3001)
    }

    @Test(
        "Cut back to any entry it is as if nothing had come after it", arguments: [0, 1, 30, 699, 700, 701, 999, 1000])
    func truncation(_ number: UInt64) throws {
        let folder = try Folder()
        let ledger = try LedgerFiles(directory: folder.path, retainedBytes: 1 << 30, newStore: 1)
        var expected = LedgerState()
        for block in 0..<20 {
            let first = UInt64(block) * 50 + 1
            let entries = (first..<first + 50).map { Self.entry($0, bytes: 8000) }
            for entry in entries where entry.number <= number { precondition(expected.apply(entry)) }
            try ledger.append(entries, published: 0)
        }
        try ledger.truncate(to: number)
        #expect(ledger.state == expected)
        #expect(try all(ledger) == (number == 0 ? [] : Array(1...number)))
        try ledger.append([Self.entry(number + 1, epoch: 2)], published: 0)
        let again = try LedgerFiles(directory: folder.path, retainedBytes: 1 << 30, newStore: 1)
        #expect(again.state == ledger.state && again.state.position.epoch == 2)
        try again.reset(expected)
        #expect(again.state == expected && again.firstKept == number + 1)
        #expect(try LedgerFiles(directory: folder.path, retainedBytes: 1 << 30, newStore: 1).state == expected)
    }

    // MARK: The files

    @Test(
        "However entries are cut into batches, and wherever logd is killed, the files are the same", arguments: 0..<20)
    func files(_ seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let (one, other) = (try Folder(), try Folder())
        let attributes = StreamAttributes(
            fileName: "s", fileBytesMax: 4096, filesMax: 3, fullAction: seed % 3 == 0 ? .wrap : .rotate,
            format: seed % 2 == 0 ? "" : "@Cr @Ct @Cx @Cb", recordBytes: seed % 4 == 1 ? 300 : 0)
        let definitions = [StreamID(rawValue: 300): StreamFiles.Definition(attributes: attributes)]
        let entries = (1...300).map { number -> LedgerEntry in
            Self.entry(
                UInt64(number), bytes: Int.random(in: 0...400, using: &random),
                fileName: number % 3 == 0 ? StreamID(rawValue: 300) : StreamID(.clusterSystem))
        }
        let whole = try GlobalFiles(directory: one.path + "/log", stateDirectory: one.path)
        _ = try whole.write(entries, names: [:], definitions: definitions)
        var pieces = try GlobalFiles(directory: other.path + "/log", stateDirectory: other.path)
        func contents(_ folder: Folder) throws -> [String: [UInt8]] {
            var found: [String: [UInt8]] = [:]
            for name in try File.list(folder.path + "/log") where name.contains("_") {
                found[name] = try File.readAll(folder.path + "/log/" + name)
            }
            return found
        }
        while pieces.written < 300 {
            let next = Int(pieces.written)
            let note = try? File.readAll(other.path + "/written")
            let before = next == 0 ? [:] : try contents(other)
            let batch = Array(entries[next..<min(300, next + Int.random(in: 1...40, using: &random))])
            _ = try pieces.write(batch, names: [:], definitions: definitions)
            guard random.chance(percent: 30) else { continue }
            if let note, random.chance(percent: 50) {
                // Killed before the note was written, so before anything was removed: it comes again.
                try File.writeAtomically(other.path + "/written", note, durable: false)
                for (name, bytes) in before where !File.exists(other.path + "/log/" + name) {
                    try File.writeAtomically(other.path + "/log/" + name, bytes, durable: false)
                }
            }
            pieces = try GlobalFiles(directory: other.path + "/log", stateDirectory: other.path)
        }
        let (expected, found) = (try contents(one), try contents(other))
        #expect(expected.keys.sorted() == found.keys.sorted())
        for (name, bytes) in expected { #expect(found[name] == bytes, "\(name)") }
        #expect(expected.keys.count { $0.hasPrefix("s_") } == (seed % 3 == 0 ? 1 : 3))
        guard seed % 4 == 1 else { return }
        for (name, bytes) in expected where name.hasPrefix("s_") {
            #expect(bytes.count % 300 == 0 && bytes.split(separator: 10).allSatisfy { $0.count == 299 }, "\(name)")
            #expect(bytes.starts(with: "     ".utf8))
        }
    }

    @Test("Records of a stream that the registry here has not heard of wait for it, but not for ever")
    func gate() {
        let (early, late) = (StreamID(rawValue: 256), StreamID(rawValue: 257))
        let known = [Self.entry(1), Self.entry(2, fileName: early)]
        let unknown = [Self.entry(3, fileName: early), Self.entry(4, fileName: late)]
        let now = Instant.start + .seconds(1)
        var gate = PublicationGate()
        #expect(gate.offer(known, next: late, at: now) == known && !gate.isHolding)
        #expect(gate.offer(unknown, next: late, at: now) == nil && gate.isHolding)
        #expect(gate.release(next: late, at: now) == nil)
        #expect(gate.release(next: StreamID(rawValue: 258), at: now) == unknown && !gate.isHolding)
        #expect(gate.offer(unknown, next: late, at: now) == nil)
        #expect(gate.release(next: late, at: now + PublicationGate.patience) == unknown, "nobody will tell")
        #expect(gate.offer(unknown, next: late, at: now) == nil)
        gate.drop()
        #expect(gate.release(next: StreamID(rawValue: 258), at: now) == nil, "the ledger was cut back")
    }

    @Test("Beside the files stands how to read them; what says something else, or has ended, is put by")
    func configuration() throws {
        let folder = try Folder()
        let logs = folder.path + "/log"
        let files = try GlobalFiles(directory: logs, stateDirectory: folder.path)
        func texts() throws -> [String: String] {
            try File.list(logs).reduce(into: [:]) { $0[$1] = try File.readText(logs + "/" + $1) }
        }
        try files.configure(["a": "A", "b": "B"], at: 0)
        try files.configure(["a": "A", "b": "B"], at: 1)
        #expect(try texts() == ["a.cfg": "A", "b.cfg": "B"])
        try files.configure(["a": "A2"], at: 2)
        #expect(try texts() == ["a.cfg": "A2", "a_19700101T000002.cfg": "A", "b_19700101T000002.cfg": "B"])
        try files.configure([:], at: 2)
        #expect(try texts()["a_19700101T000002-2.cfg"] == "A2" && texts().count == 3)
    }
}
