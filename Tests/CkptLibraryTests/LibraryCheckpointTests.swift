import CkptLibrary
import DBAL
import EngineKit
import OSAL
import SAFTypes
import Testing

@Suite("Library checkpoints")
struct LibraryCheckpointTests {
    /// Its second version has a field more.
    struct Settings: Equatable {
        var limit: UInt32
        var title: String

        static let first = Serializer<Settings>(
            version: 1,
            encode: { settings in
                var writer = ByteWriter()
                writer.integer(settings.limit)
                return writer.bytes
            },
            decode: { bytes in
                guard bytes.count == 4 else { throw DecodeError.badValue("\(bytes.count) bytes; 4 expected") }
                return Settings(limit: bytes.reversed().reduce(0) { $0 << 8 | UInt32($1) }, title: "old")
            })

        static let second = Serializer<Settings>(
            version: 2,
            encode: { settings in
                var writer = ByteWriter()
                writer.integer(settings.limit)
                writer.string(settings.title)
                return writer.bytes
            },
            decode: { bytes in
                try bytes.withUnsafeBytes { raw in
                    var reader = ByteReader(raw)
                    let limit = try reader.integer(UInt32.self)
                    return Settings(limit: limit, title: try reader.string())
                }
            })
    }

    private func withFolder(_ body: (String) throws -> Void) throws {
        let folder = try File.makeTemporaryDirectory("/dev/shm/ckpt-library-")
        defer { try? File.removeTree(folder) }
        try body(folder + "/state")
    }

    private func kind(_ body: () throws -> Void) -> LibraryCheckpointError.Kind? {
        do { try body() } catch { return (error as? LibraryCheckpointError)?.kind }
        return nil
    }

    @Test("An empty file is no checkpoint, and becomes one only if that is wanted", arguments: DatabaseEngine.allCases)
    func empty(engine: DatabaseEngine) throws {
        try withFolder { path in
            _ = try File.openForAppending(path)
            #expect(kind { _ = try LibraryCheckpoint.open(path, engine: engine, creating: false) } == .notExist)
            #expect(try !LibraryCheckpoint.exists(path) && File.stat(path).size == 0)
            try LibraryCheckpoint.delete(path)
            #expect(!File.exists(path))
        }
    }

    @Test("A database of SQLite without a table is nobody's: none, and not touched unless it is to be made")
    func untouched() throws {
        try withFolder { path in
            // sqlite.org/fileformat2.html: one page of 4,096 bytes, a leaf without a cell.
            var page = [UInt8](repeating: 0, count: 4_096)
            page.replaceSubrange(0..<24, with: Array("SQLite format 3".utf8) + [0, 16, 0, 1, 1, 0, 64, 32, 32])
            for (place, value) in [(27, 1), (31, 1), (59, 1), (95, 1), (100, 13), (105, 16)] as [(Int, UInt8)] {
                page[place] = value
            }
            try File.writeAtomically(path, page, durable: false)
            #expect(kind { _ = try LibraryCheckpoint.open(path, creating: false) } == .notExist)
            #expect(try File.readAll(path) == page)
            let set = try DataSet("raw", .bytes())
            let checkpoint = try LibraryCheckpoint.open(path)
            try checkpoint.write([1], to: set)
            #expect(try checkpoint.read(set) == [1])
        }
    }

    @Test("Values and elements are there after it was closed", arguments: DatabaseEngine.allCases)
    func kept(engine: DatabaseEngine) throws {
        try withFolder { path in
            let set = try DataSet("settings", Settings.first, Settings.second)
            let raw = try DataSet("raw", .bytes())
            #expect(kind { _ = try LibraryCheckpoint.open(path, engine: engine, creating: false) } == .notExist)
            let checkpoint = try LibraryCheckpoint.open(path, engine: engine)
            #expect(try checkpoint.read(set) == nil && !checkpoint.contains(set))
            try checkpoint.write(Settings(limit: 3, title: "new"), to: set)
            for number in 0..<600 { try checkpoint.write([UInt8(number & 255)], as: "k\(1_000 + number)", of: raw) }
            #expect(kind { _ = try LibraryCheckpoint.open(path, engine: engine) } == .inUse)
            checkpoint.close()
            #expect(kind { _ = try checkpoint.read(set) } == .closed)

            let again = try LibraryCheckpoint.open(path, engine: engine, creating: false)
            #expect(try again.read(set) == Settings(limit: 3, title: "new"))
            #expect(try again.version(of: set) == 2)
            #expect(try again.read("k1300", of: raw) == [44])
            let all = try again.elements(of: raw)
            #expect(
                all.count == 600
                    && all.map { String(decoding: $0.key, as: UTF8.self) } == all.indices.map { "k\(1_000 + $0)" })
            let page = try again.elements(of: raw, after: all[9].key, limit: 5)
            #expect(page.map(\.key) == all[10..<15].map(\.key))
            #expect(try again.read(raw) == nil && again.contains(raw), "elements without a value")
            try again.delete(Array("k1000".utf8), of: raw)
            #expect(try again.read("k1000", of: raw) == nil)
            try again.delete(raw)
            #expect(try !again.contains(raw) && again.elements(of: raw).isEmpty && again.contains(set))
            again.close()
            try LibraryCheckpoint.delete(path)
            #expect(!LibraryCheckpoint.exists(path))
            #expect(kind { try LibraryCheckpoint.delete(path) } == .notExist)
        }
    }

    @Test("Old and new programs: what was written in one version is read by its serializer, an unknown one is named")
    func versions() throws {
        try withFolder { path in
            let old = try DataSet("settings", Settings.first)
            let new = try DataSet("settings", Settings.second, Settings.first)
            let checkpoint = try LibraryCheckpoint.open(path)
            try checkpoint.write(Settings(limit: 7, title: "dropped"), to: old)
            #expect(try checkpoint.read(new) == Settings(limit: 7, title: "old"))
            try checkpoint.write(Settings(limit: 8, title: "kept"), to: new)
            #expect(try checkpoint.read(new) == Settings(limit: 8, title: "kept"))
            let refusal = #expect(throws: LibraryCheckpointError.self) { _ = try checkpoint.read(old) }
            #expect(refusal?.kind == .unknownVersion && refusal?.code == .version)
            #expect(refusal?.text == "data set settings was written in version 2; this program knows 1")
            // The new program can write what the old one reads.
            try checkpoint.write(Settings(limit: 9, title: "dropped"), to: new, version: 1)
            #expect(try checkpoint.read(old) == Settings(limit: 9, title: "old"))
            #expect(
                kind { try checkpoint.write(Settings(limit: 1, title: ""), to: new, version: 5) } == .unknownVersion)
            #expect(try checkpoint.version(of: new) == 1, "nothing was written")
        }
    }

    @Test("Several changes happen together or not at all; a later one sees what earlier ones left")
    func update() throws {
        struct Unwilling: Error {}
        try withFolder { path in
            let raw = try DataSet("raw", .bytes())
            let refusing = try DataSet(
                "refusing", Serializer<Int>(version: 1, encode: { _ in throw Unwilling() }, decode: { _ in 0 }))
            let checkpoint = try LibraryCheckpoint.open(path)
            try checkpoint.write([1], as: "a", of: raw)
            let before = try checkpoint.elements(of: raw).count
            #expect(
                kind {
                    try checkpoint.update { (update) throws(LibraryCheckpointError) in
                        try update.write([2], as: "b", of: raw)
                        try update.write(1, to: refusing)
                    }
                } == .serializer)
            #expect(try checkpoint.elements(of: raw).count == before)
            try checkpoint.update { (update) throws(LibraryCheckpointError) in
                try update.write([3], as: "c", of: raw)
                update.delete(raw)
                try update.write([4], as: "d", of: raw)
            }
            #expect(try checkpoint.elements(of: raw).map(\.value) == [[4]])
        }
    }

    @Test("What cannot be is refused; what is not a library checkpoint is not touched; damage is told")
    func refusals() throws {
        try withFolder { path in
            #expect(kind { _ = try DataSet("", .bytes()) } == .invalid)
            #expect(kind { _ = try DataSet(String(repeating: "x", count: 256), .bytes()) } == .invalid)
            #expect(kind { _ = try DataSet("twice", .bytes(version: 2), .bytes(version: 2)) } == .invalid)
            let raw = try DataSet("raw", .bytes())
            let checkpoint = try LibraryCheckpoint.open(path)
            #expect(kind { try checkpoint.write([1], as: [], of: raw) } == .invalid)
            #expect(kind { try checkpoint.write([1], as: [UInt8](repeating: 1, count: 2_049), of: raw) } == .invalid)
            try checkpoint.write([1, 2, 3], to: raw)
            checkpoint.close()

            let database = try DatabaseEngine.sqlite.open(path)
            let record = try #require(try database.records(from: [1], limit: 1).first)
            try database.put(record.key, record.value.dropLast() + [4])
            database.close()
            let damaged = try LibraryCheckpoint.open(path)
            let error = #expect(throws: LibraryCheckpointError.self) { _ = try damaged.read(raw) }
            #expect(error?.kind == .damaged && error?.text.contains("raw") == true)
            try damaged.write([5], to: raw)
            #expect(try damaged.read(raw) == [5])

            let stranger = try DatabaseEngine.sqlite.open(path + "2")
            try stranger.put([7], [7])
            stranger.close()
            #expect(kind { _ = try LibraryCheckpoint.open(path + "2") } == .otherFormat)
            #expect(kind { _ = try LibraryCheckpoint.open("/nowhere/at/all") } == .failed)
        }
    }

    @Test(
        "A writer killed at any moment leaves whole updates, and every acknowledged one",
        arguments: DatabaseEngine.allCases)
    func killed(engine: DatabaseEngine) throws {
        let bytes = Serializer<UInt64>(
            version: 1, encode: { _ in [] }, decode: { $0.reversed().reduce(0) { $0 << 8 | UInt64($1) } })
        let text = Serializer<UInt64>(
            version: 2, encode: { _ in [] },
            decode: { bytes in
                guard let number = UInt64(String(decoding: bytes.prefix { $0 != 32 }, as: UTF8.self)) else {
                    throw DecodeError.badValue("no number")
                }
                return number
            })
        let numbers = try DataSet("numbers", bytes, text)
        try withFolder { path in
            let seed = UInt64.random(in: 1...999_999)
            var random = SeededRandom(seed: seed)
            let programs = File.parent(of: try #require(Environment.executablePath))
            var acknowledged: UInt64 = 0
            for round in 0..<6 {
                let output = try File.openForAppending("\(path).\(round)")
                var options = SpawnOptions(
                    path: programs + "/librarywriter",
                    arguments: ["librarywriter", engine.rawValue, path, "\(acknowledged)"])
                options.descriptors = [DescriptorMapping(output.raw, as: 1)]
                let child = try Process.spawn(options)
                let deadline = MonotonicClock.now() + .seconds(30)
                while try File.stat("\(path).\(round)").size < 8, MonotonicClock.now() < deadline { OSThread.yield() }
                _ = try IO.waitUntil(
                    child.rawPidfd, readable: true,
                    deadline: MonotonicClock.now() + .microseconds(Int64.random(in: 0...20_000, using: &random)))
                _ = try Process.kill(child.pid, .kill)
                _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: deadline)
                _ = Process.reap(child.pid)
                let told = try File.readAll("\(path).\(round)")
                #expect(told.count >= 8, "seed \(seed), round \(round): the writer wrote")
                let last = told.dropLast(told.count % 8).suffix(8).reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
                let checkpoint = try LibraryCheckpoint.open(path, engine: engine, creating: false)
                let found = try #require(try checkpoint.read(numbers))
                #expect(try checkpoint.read("copy", of: numbers) == found, "seed \(seed), round \(round)")
                #expect(found >= last, "seed \(seed), round \(round): \(found) of \(last)")
                acknowledged = found
                checkpoint.close()
            }
        }
    }
}
