import EngineKit
import OSAL
import SafLab
import Testing

@Suite("Demonstration", .serialized)
struct DemonstrationTests {
    @Test("A word count killed with all daemons, amfd and the guard is right to the last word", arguments: [UInt64(7)])
    func identical(seed: UInt64) throws {
        let run = try DemoRun(["--kills", "16", "--megabytes", "2", "--seed", "\(seed)"])
        let status = try run.end(within: .seconds(300))
        #expect(status == .exited(code: 0), "seed \(seed):\n\(run.output)")
        #expect(run.output.contains("result: identical"), "seed \(seed):\n\(run.output)")
        #expect(run.output.contains("16: active component 8"), "seed \(seed): every kill is made\n\(run.output)")
    }

    private static let obstacle = ClusterLab.obstacle()

    @Test(
        "On three nodes each kind of fault leaves it right to the last word, and never are two active at once",
        .enabled(if: obstacle == nil, Comment(rawValue: obstacle ?? "")), arguments: [UInt64(7)])
    func cluster(seed: UInt64) throws {
        let run = try DemoRun(["--cluster", "--kills", "15", "--megabytes", "32", "--seed", "\(seed)"])
        let status = try run.end(within: .seconds(400))
        #expect(status == .exited(code: 0), "seed \(seed):\n\(run.output)")
        #expect(run.output.contains("result: identical"), "seed \(seed):\n\(run.output)")
        #expect(run.output.contains("two active        never"), "seed \(seed):\n\(run.output)")
    }

    @Test("An interrupted demonstration takes its node along")
    func interrupted() throws {
        let run = try DemoRun(["--kills", "0", "--megabytes", "64"])
        let node = try run.wait(for: "its node") { run.marked.count > 6 ? run.marked : nil }
        _ = try Process.kill(run.pid, .interrupt)
        let status = try run.end(within: .seconds(20))
        #expect(status == .exited(code: 128 + 2))
        let left = node.filter { pid in Process.information(of: pid).map { !$0.isExiting } ?? false }
        #expect(left.isEmpty, "still running: \(left)")
    }
}

/// One run of `demo`, with its output in a folder of its own.
private final class DemoRun {
    private let folder: String
    private let child: SpawnedProcess
    private let mark: String
    var pid: Int32 { child.pid }
    private var isReaped = false

    init(_ arguments: [String]) throws {
        let programs = File.parent(of: try #require(Environment.executablePath))
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-demotest")
        let file = try File.openForAppending(folder + "/output")
        mark = "DEMONSTRATION_TEST=" + folder
        var options = SpawnOptions(
            path: programs + "/demo",
            arguments: ["demo"] + arguments + ["--example", root + "/deploy/examples/wordcount"],
            environment: Environment.all + [mark])
        options.descriptors = [DescriptorMapping(file.raw, as: 1), DescriptorMapping(file.raw, as: 2)]
        child = try Process.spawn(options)
    }

    var output: String { (try? File.readText(folder + "/output")) ?? "" }

    /// What lives of the run, but for the demonstration itself.
    var marked: [Int32] {
        ((try? File.list("/proc")) ?? []).compactMap { Int32($0) }.filter { other in
            guard other != pid, let all = try? File.readAll("/proc/\(other)/environ") else { return false }
            return all.split(separator: 0).contains { $0.elementsEqual(mark.utf8) }
        }
    }

    func wait<Value>(for what: String, _ condition: () -> Value?) throws -> Value {
        let deadline = MonotonicClock.now() + .seconds(60)
        while MonotonicClock.now() < deadline {
            if let value = condition() { return value }
            OSThread.yield()
        }
        throw NotInTime(what: "\(what)\n\(output)")
    }

    /// Nil when it had to be ended.
    func end(within limit: Duration) throws -> OSAL.ExitStatus? {
        let isOver = try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + limit)
        if !isOver { _ = try? Process.kill(pid, .terminate) }
        isReaped = true
        let status = Process.reap(pid)
        return isOver ? status : nil
    }

    deinit {
        if !isReaped {
            _ = try? Process.kill(pid, .terminate)
            _ = Process.reap(pid)
        }
        try? File.removeTree(folder)
    }

    struct NotInTime: Error { let what: String }
}
