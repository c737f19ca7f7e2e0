import EngineKit
import OSAL
import Testing

@Suite("Demonstration", .serialized)
struct DemonstrationTests {
    @Test("A word count killed with all daemons, amfd and the guard is right to the last word", arguments: [UInt64(7)])
    func identical(seed: UInt64) throws {
        let programs = File.parent(of: try #require(Environment.executablePath))
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-demotest")
        defer { try? File.removeTree(folder) }
        let output = try File.openForAppending(folder + "/output")
        var options = SpawnOptions(
            path: programs + "/demo",
            arguments: [
                "demo", "--kills", "16", "--megabytes", "2", "--seed", "\(seed)",
                "--example", root + "/deploy/examples/wordcount",
            ])
        options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)]
        let child = try Process.spawn(options)
        let isOver = try IO.waitUntil(
            child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(300))
        if !isOver { _ = try? Process.kill(child.pid, .terminate) }
        let text = try File.readText(folder + "/output")
        #expect(isOver, "seed \(seed): not over in time\n\(text)")
        #expect(Process.reap(child.pid) == .exited(code: 0), "seed \(seed):\n\(text)")
        #expect(text.contains("result: identical"), "seed \(seed):\n\(text)")
        #expect(text.contains("16: active component 8"), "seed \(seed): every kill is made\n\(text)")
    }
}
