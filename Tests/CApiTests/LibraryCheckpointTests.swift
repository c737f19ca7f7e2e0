import OSAL
import Testing

/// safCkptLibrary.h: checkpoints in a file, without a service.
@Suite("C library checkpoints", .serialized, .enabled(if: CToolchain.canBuild, CToolchain.why))
struct LibraryCheckpointTests {
    private func run(_ source: String, _ arguments: (String) -> [String]) throws {
        let program = try CToolchain.compile(source, library: "SafCkptLibrary")
        let folder = try File.makeTemporaryDirectory("/dev/shm/capi-library-")
        defer { try? File.removeTree(folder) }
        let run = try CommandRun(
            [program] + arguments(folder), environment: CToolchain.environment, output: program + ".out",
            timeout: .seconds(240))
        #expect(run.succeeded, "\(run)")
    }

    @Test("Every function, every error: files, data sets, versions, elements, updates, threads, forks, damage")
    func functions() throws { try run("library.c") { [$0] } }

    @Test("A writer killed at any moment, from the making of the file on, leaves what an update left")
    func killed() throws {
        let seed = UInt32.random(in: 1...999_999)
        try run("librarykill.c") { ["\($0)/state", "60", "\(seed)"] }
    }
}
