import EngineKit
import LogClient
import LogProtocol
import OSAL
import Synchronization
import Testing

@testable import LogShell

/// A directory in memory for rings, removed at the end.
final class RingDirectory {
    let path: String
    init() throws { path = try File.makeTemporaryDirectory("/dev/shm/logring-") }
    deinit { try? File.removeTree(path) }

    static let name = RingLayout.fileName(process: Environment.processID, startTime: 0)

    func writer(_ capacity: Int = RingLayout.capacityMin) throws -> RingWriter {
        try RingWriter.create(
            directory: path, process: Environment.processID, startTime: 0, program: "prog", node: "node",
            capacity: capacity)
    }

    func reader() throws -> RingReader { try RingReader(directory: path, name: Self.name) }
}

extension RingWriter {
    @discardableResult
    func append(_ text: String, severity: LogSeverity = .notice, area: String = "A") -> Outcome {
        let (text, area) = (Array(text.utf8), Array(area.utf8))
        return text.withUnsafeBytes { message in
            area.withUnsafeBytes { area in
                append(
                    Record(
                        time: 1_772_368_496_123_456_789, severity: severity, stream: .application, line: 0, area: area,
                        context: UnsafeRawBufferPointer(start: nil, count: 0),
                        file: UnsafeRawBufferPointer(start: nil, count: 0), message: message))
            }
        }
    }
}

@Suite("Ring")
struct RingTests {
    struct Read {
        var messages: [String] = []
        var lost: UInt64 = 0
        var cut = 0
        var stop = RingReader.Stop.empty
    }

    private func read(_ reader: RingReader, dead: Bool = false, max: Int = 1 << 30) throws -> Read {
        var result = Read()
        result.stop = try reader.read(bytesMax: max, writerIsDead: dead) { item in
            switch item {
            case .record(let record):
                result.messages.append(String(decoding: record.message, as: UTF8.self))
                if record.isCut { result.cut += 1 }
            case .lost(let count): result.lost += UInt64(count)
            }
        }
        return result
    }

    @Test("Records come out as they went in, many times around the ring", arguments: [11, 12, 13] as [UInt64])
    func wrapAround(seed: UInt64) throws {
        let directory = try RingDirectory()
        let (writer, reader) = (try directory.writer(), try directory.reader())
        var random = SeededRandom(seed: seed)
        var (next, expected) = (0, [String]())
        for _ in 0..<2000 {
            for _ in 0..<Int.random(in: 0...8, using: &random) {
                let text = "\(next) " + String(repeating: "z", count: Int.random(in: 0...300, using: &random))
                next += 1
                if writer.append(text) != .dropped { expected.append(text) }
            }
            let found = try read(reader, max: Int.random(in: 1...4000, using: &random))
            #expect(found.messages == Array(expected.prefix(found.messages.count)), "seed \(seed)")
            expected.removeFirst(min(found.messages.count, expected.count))
            if Bool.random(using: &random) { reader.consume(to: reader.position) }
        }
        #expect(reader.corruptCount == 0, "seed \(seed)")
    }

    @Test("A full ring drops and counts, and the next record that fits carries the count")
    func full() throws {
        let directory = try RingDirectory()
        let (writer, reader) = (try directory.writer(), try directory.reader())
        let text = String(repeating: "y", count: 1000)
        var written = 0
        while writer.append(text) != .dropped { written += 1 }
        for _ in 0..<4 { #expect(writer.append(text) == .dropped) }
        let first = try read(reader)
        #expect(first.messages.count == written && first.lost == 0)
        // Read is not given back yet.
        #expect(writer.append(text) == .dropped)
        reader.consume(to: reader.position)
        #expect(writer.append("after") == .written)
        let second = try read(reader)
        #expect(second.messages == ["after"] && second.lost == 6)
        #expect(writer.droppedCount == 6 && reader.lostCount == 6)
    }

    @Test("An over-long message is cut at a character and marked")
    func cut() throws {
        let directory = try RingDirectory()
        let (writer, reader) = (try directory.writer(), try directory.reader())
        writer.append(String(repeating: "€", count: 3000))
        let found = try read(reader)
        #expect(found.cut == 1 && found.messages == [String(repeating: "€", count: (RingLayout.capacityMin / 4) / 3)])
    }

    @Test("What four threads write at once arrives whole, each thread's in its order")
    func threads() throws {
        let directory = try RingDirectory()
        let (writer, reader) = (try directory.writer(1 << 16), try directory.reader())
        let (threads, count) = (4, 3000)
        let running = try (0..<threads).map { thread in
            try OSThread.spawn(name: "writer") {
                for number in 0..<count {
                    let text = "\(thread) \(number) " + String(repeating: "w", count: number % 97)
                    while writer.append(text) == .dropped { OSThread.yield() }
                }
            }
        }
        var next = [Int](repeating: 0, count: threads)
        let deadline = MonotonicClock.now() + .seconds(60)
        while next.reduce(0, +) < threads * count, MonotonicClock.now() < deadline {
            for message in try read(reader).messages {
                let parts = message.split(separator: " ", omittingEmptySubsequences: false)
                let (thread, number) = (Int(parts[0]) ?? -1, Int(parts[1]) ?? -1)
                #expect(next[thread] == number && parts[2].utf8.count == number % 97)
                next[thread] = number + 1
            }
            reader.consume(to: reader.position)
            OSThread.yield()
        }
        for thread in running { thread.join() }
        #expect(next == [Int](repeating: count, count: threads) && reader.corruptCount == 0)
    }

    @Test("A record that is being written is waited for, unless its writer is dead; what follows it is delivered")
    func unfinished() throws {
        let directory = try RingDirectory()
        let writer = try directory.writer()
        let file = try SharedFile.open(writer.path, writable: true)
        let first = RingLayout.firstPosition(capacity: writer.capacity)
        writer.append("one")
        writer.append("two")
        writer.append("three")
        let two = RecordLayout.padded(RecordLayout.textOffset + 1 + 3)
        let place = file.mapping.base + RingLayout.headerBytes + two
        // As if "two" had been reserved and stamped, but not committed.
        place.storeBytes(of: (first + UInt64(two)) | RecordLayout.writing, as: UInt64.self)
        let reader = try directory.reader()
        var found = try read(reader)
        #expect(found.messages == ["one"] && found.stop == .unfinished)
        // As if not even the stamp had been written.
        place.storeBytes(of: 0, as: UInt64.self)
        found = try read(reader)
        #expect(found.messages == [] && found.stop == .unfinished)
        found = try read(reader, dead: true)
        #expect(found.messages == ["three"] && found.stop == .empty && reader.corruptCount == 0)
    }

    @Test(
        "Whatever stands in a ring, reading ends, and gives either records or an error",
        arguments: 0..<60 as Range<UInt64>)
    func hostile(seed: UInt64) throws {
        let directory = try RingDirectory()
        let writer = try directory.writer()
        let file = try SharedFile.open(writer.path, writable: true)
        var random = SeededRandom(seed: seed)
        guard let reader = try? directory.reader() else { return }
        for _ in 0..<60 {
            for _ in 0..<Int.random(in: 0...20, using: &random) { writer.append("message \(random.next())") }
            for _ in 0..<Int.random(in: 0...3, using: &random) { spoil(file.mapping, writer.capacity, &random) }
            do {
                let found = try read(reader, dead: Bool.random(using: &random))
                #expect(
                    found.messages.allSatisfy { $0.hasPrefix("message ") }, "seed \(seed): a torn record passed its CRC"
                )
                if Bool.random(using: &random) { reader.consume(to: reader.position) }
            } catch is RingError {
                return  // set aside
            }
        }
    }

    private func spoil(_ mapping: Mapping, _ capacity: Int, _ random: inout SeededRandom) {
        let values: [UInt64] = [
            0, .max, 7, 8, UInt64(capacity), UInt64(capacity) * 2, random.next(),
            UInt64.random(in: 0...100_000, using: &random),
        ]
        let value = values.randomElement(using: &random) ?? 0
        switch Int.random(in: 0...9, using: &random) {
        case 0: mapping.base.storeBytes(of: value, toByteOffset: RingLayout.reservedOffset, as: UInt64.self)
        case 1: mapping.base.storeBytes(of: value, toByteOffset: RingLayout.consumedOffset, as: UInt64.self)
        case 2...5:
            let place = Int.random(in: 0..<(capacity / 8), using: &random) * 8
            mapping.base.storeBytes(of: value, toByteOffset: RingLayout.headerBytes + place, as: UInt64.self)
        default:
            let place = Int.random(in: 0..<capacity, using: &random)
            mapping.base.storeBytes(
                of: UInt8(truncatingIfNeeded: value), toByteOffset: RingLayout.headerBytes + place, as: UInt8.self)
        }
    }

    @Test("A file that is no ring is refused: header, size, start", arguments: 0..<40 as Range<UInt64>)
    func noRing(seed: UInt64) throws {
        let directory = try RingDirectory()
        var random = SeededRandom(seed: seed)
        var bytes = (0..<Int.random(in: 1...9000, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random)
        }
        if Bool.random(using: &random), bytes.count > 16 {
            withUnsafeBytes(of: RingLayout.magic) { for index in 0..<8 { bytes[index] = $0[index] } }
        }
        try File.writeAtomically(directory.path + "/" + RingDirectory.name, bytes, durable: false)
        #expect(throws: (any Error).self, "seed \(seed)") { try directory.reader() }
    }

    @Test(
        "A ring whose positions are about to run out of numbers is refused, not read for ever",
        arguments: [UInt64.max - 7, UInt64.max - 71, 1 << 63, 1 << 62])
    func farPositions(position: UInt64) throws {
        let directory = try RingDirectory()
        let writer = try directory.writer()
        let file = try SharedFile.open(writer.path, writable: true)
        file.mapping.base.storeBytes(of: position, toByteOffset: RingLayout.consumedOffset, as: UInt64.self)
        file.mapping.base.storeBytes(of: UInt64.max - 7, toByteOffset: RingLayout.reservedOffset, as: UInt64.self)
        #expect(throws: (any Error).self) { try directory.reader() }
    }

    @Test("A line reads as the manual says")
    func line() throws {
        let directory = try RingDirectory()
        let (writer, reader) = (try directory.writer(), try directory.reader())
        writer.append("two\nlines \u{1B}[31m", severity: .warning)
        var (format, out) = (LineFormat(), [UInt8]())
        let origin = LineFormat.Origin(node: reader.origin.node, process: 42, program: reader.origin.program)
        _ = try reader.read(bytesMax: 1 << 20, writerIsDead: false) { item in
            if case .record(let record) = item { format.append(record, of: origin, to: &out) }
        }
        #expect(
            String(decoding: out, as: UTF8.self)
                == "2026-03-01T12:34:56.123456Z (node.42 : prog.A.---.00001 : WARN) two\\nlines \\x1b[31m\n")
    }
}
