import CkptLibrary
import OSAL
import SAFTypes
import Testing

/// What a program in C has written a program in Swift reads, and the other way round.
@Suite("Library checkpoints, C and Swift", .serialized, .enabled(if: CToolchain.canBuild, CToolchain.why))
struct LibraryExchangeTests {
    /// As in libraryexchange.c.
    struct Settings: Equatable {
        var limit: UInt32
        var title: String

        static let titleBytes = 16

        static let first = Serializer<Settings>(
            version: 1,
            encode: { settings in
                var writer = ByteWriter()
                writer.integer(settings.limit)
                return writer.bytes
            },
            decode: { try decode($0, titleBytes: 0) })

        static let second = Serializer<Settings>(
            version: 2,
            encode: { settings in
                var writer = ByteWriter()
                writer.integer(settings.limit)
                let title = Array(settings.title.utf8.prefix(titleBytes - 1))
                writer.raw(title + [UInt8](repeating: 0, count: titleBytes - title.count))
                return writer.bytes
            },
            decode: { try decode($0, titleBytes: titleBytes) })

        private static func decode(_ bytes: [UInt8], titleBytes: Int) throws -> Settings {
            try bytes.withUnsafeBytes { raw in
                var reader = ByteReader(raw)
                let limit = try reader.integer(UInt32.self)
                let title = try reader.raw(titleBytes).prefix { $0 != 0 }
                try reader.finish()
                return Settings(limit: limit, title: titleBytes == 0 ? "old" : String(decoding: title, as: UTF8.self))
            }
        }
    }

    struct Unread: Error {}

    let settings: DataSet<Settings>
    let raw: DataSet<[UInt8]>
    let later: DataSet<Settings>

    init() throws {
        settings = try DataSet("settings", Settings.first, Settings.second)
        raw = try DataSet("raw", .bytes())
        later = try DataSet("later", Settings.first, Settings.second)
    }

    private func run(_ argument: String, _ path: String) throws {
        let program = try CToolchain.compile("libraryexchange.c", library: "SafCkptLibrary")
        let run = try CommandRun(
            [program, argument, path], environment: CToolchain.environment, output: program + ".out",
            timeout: .seconds(60))
        #expect(run.succeeded, "\(run)")
    }

    /// What the C program expects to find beside what it has left itself.
    private func leave(in checkpoint: LibraryCheckpoint) throws {
        try checkpoint.update { (update) throws(LibraryCheckpointError) in
            try update.write(Settings(limit: 8, title: "dropped"), to: settings, version: 1)
            try update.delete(Array("k0".utf8), of: settings)
            try update.write(Settings(limit: 110, title: "Swift"), as: "k10", of: settings)
            try update.write(Array("Swift".utf8), to: raw)
        }
        checkpoint.close()
    }

    @Test("C writes, Swift reads and changes it, C reads that; values keep the version they were written in")
    func fromC() throws {
        let folder = try File.makeTemporaryDirectory("/dev/shm/capi-exchange-")
        defer { try? File.removeTree(folder) }
        let path = folder + "/state"
        try run("write", path)
        let checkpoint = try LibraryCheckpoint.open(path, creating: false)
        #expect(try checkpoint.read(settings) == Settings(limit: 7, title: "from C"))
        #expect(try checkpoint.version(of: settings) == 2)
        let elements = try checkpoint.elements(of: settings)
        #expect(elements.map { String(decoding: $0.key, as: UTF8.self) } == (0..<10).map { "k\($0)" })
        #expect(
            elements.map(\.value)
                == (0..<10).map { Settings(limit: 100 + $0, title: $0 % 2 == 0 ? "old" : "C") })
        #expect(try checkpoint.read(raw) == Array("bytes \0 of C".utf8))
        #expect {
            _ = try checkpoint.read(later)
        } throws: {
            ($0 as? LibraryCheckpointError)?.kind == .unknownVersion
        }
        try leave(in: checkpoint)
        try run("read", path)
    }

    @Test("Swift makes it, C reads it, and does not know a version of Swift's")
    func fromSwift() throws {
        let folder = try File.makeTemporaryDirectory("/dev/shm/capi-exchange-")
        defer { try? File.removeTree(folder) }
        let path = folder + "/state"
        let checkpoint = try LibraryCheckpoint.open(path)
        try checkpoint.write(Settings(limit: 102, title: "dropped"), as: "k2", of: settings, version: 1)
        // A form of its own.
        let third = Serializer<Settings>(version: 3, encode: { Array($0.title.utf8) }, decode: { _ in throw Unread() })
        try checkpoint.write(Settings(limit: 1, title: "later"), to: DataSet("later", third))
        try leave(in: checkpoint)
        try run("read", path)
    }
}
