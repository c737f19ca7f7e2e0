import EngineKit
import OSAL
import SafStage
import Testing

/// A whole node, real daemons and the smallest stateful service, on RAM file systems without a free byte.
@Suite("Full RAM file systems", .serialized, .enabled(if: FullNode.isPossible, "needs root: mounts in a namespace"))
struct FullMemoryTests {
    @Test("Every daemon and the service survive kill -9 while nothing can be written, and nothing acknowledged is lost")
    func full() throws {
        let node = try FullNode()
        defer { node.end() }
        var active = try node.greeting(1)

        try node.fill()
        _ = try Process.kill(active, .kill)
        active = try node.greeting(2, not: active)
        for daemon in ["logd", "eventd", "cliserver", "clmd", "ckptd", "amfd"] { try node.killAndAwait(daemon) }
        _ = try Process.kill(active, .kill)
        active = try node.greeting(3, not: active)

        try node.empty()
        try node.awaitService()
        _ = try Process.kill(active, .kill)
        _ = try node.greeting(4, not: active)
        try node.awaitService()
    }
}

/// Its run and shared-memory folders are small file systems of a mount namespace of its own.
private final class FullNode {
    static let isPossible = Environment.userID == 0
    private let node: PrivateNode
    private let guardian: SpawnedProcess
    private let output: Descriptor

    init() throws {
        let root = #filePath.split(separator: "/", omittingEmptySubsequences: false).dropLast(3).joined(separator: "/")
        let binaries = File.parent(of: try #require(Environment.executablePath))
        node = try PrivateNode(
            name: "full", model: try File.readText(root + "/deploy/examples/hello/model.yaml"), binaries: binaries)
        for folder in [node.places.runDirectory, node.places.shmDirectory] { try File.makeDirectories(folder) }
        output = try File.openForAppending(node.folder + "/amfd.out")
        let script = """
            mount -t tmpfs -o size=2m,mode=755 tmpfs '\(node.places.runDirectory)' &&
            mount -t tmpfs -o size=48m,mode=755 tmpfs '\(node.places.shmDirectory)' && exec '\(binaries)/amfd' --guard
            """
        var options = SpawnOptions(path: "/bin/sh", arguments: ["sh", "-c", script], environment: node.environment)
        options.namespaces = .new(.mount)
        options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)]
        guardian = try Process.spawn(options)
    }

    func end() {
        let left = node.stop()
        #expect(left.isEmpty, "had to be killed: \(left)")
        node.destroy()
    }

    /// Runs a program where the node's file systems are seen.
    @discardableResult
    func run(_ script: String) throws -> String {
        let result = node.folder + "/result"
        var options = SpawnOptions(
            path: "/bin/sh", arguments: ["sh", "-c", "(\(script)) > '\(result)' 2>&1"], environment: node.environment)
        options.namespaces = .of(pidfd: guardian.rawPidfd, .mount)
        let child = try Process.spawn(options)
        let isOver = try IO.waitUntil(
            child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(60))
        if !isOver { _ = try Process.kill(child.pid, .kill) }
        _ = Process.reap(child.pid)
        let text = try File.readText(result)
        #expect(isOver, "\(script): not over in time: \(text)")
        return text
    }

    func fill() throws {
        for folder in [node.places.runDirectory, node.places.shmDirectory] {
            // Page by page at the end, until not even an empty file fits.
            let text = try run("cat /dev/zero > '\(folder)/fill'; echo more >> '\(folder)/fill2'; df '\(folder)'")
            #expect(text.contains("100%"), "not full: \(text)")
        }
    }

    func empty() throws {
        for folder in [node.places.runDirectory, node.places.shmDirectory] {
            try run("rm -f '\(folder)/fill' '\(folder)/fill2'")
        }
    }

    /// All that was logged; on the disk, which has space.
    var log: String {
        let names = ((try? File.list(node.places.logDirectory)) ?? []).filter { $0.contains("_") }
        return names.compactMap { try? File.readText(node.places.logDirectory + "/" + $0, limit: 64 << 20) }.joined()
            + ((try? File.readText(node.folder + "/amfd.out")) ?? "")
    }

    /// The process that has become active and has written this number into the checkpoint.
    func greeting(_ number: Int, not former: Int32 = 0) throws -> Int32 {
        var last = ""
        do {
            return try node.wait(for: "greeting number \(number)", timeout: .seconds(60), every: .milliseconds(50)) {
                last = try run("'\(node.binaries)/saf' ckpt dump hello --section '' --raw | od -An -tu1")
                guard Int(last.filter { $0.isNumber }) == number else { return nil }
                let units = try run("'\(node.binaries)/saf' status --json").split(
                    separator: "\"dn\":\"safComp=greeter,")
                let active = units.dropFirst().first { unit in
                    unit.prefix { $0 != "]" }.contains("\"haState\":\"active\"")
                }
                let pid = active?.split(separator: "\"pid\":").last?.prefix { $0.isNumber }
                guard let found = pid.flatMap({ Int32($0) }), found != former else { return nil }
                return found
            }
        } catch {
            throw StageError("\(error)\n\(last)\n\(log.suffix(4_000))")
        }
    }

    func killAndAwait(_ daemon: String) throws {
        let former = try node.wait(for: daemon, timeout: .seconds(60)) { node.process(of: daemon)?.pid }
        _ = try Process.kill(former, .kill)
        _ = try node.wait(for: "\(daemon) again", timeout: .seconds(60)) {
            node.process(of: daemon).flatMap { $0.pid != former ? true : nil }
        }
        try awaitService()
    }

    func awaitService() throws {
        var last = ""
        do {
            _ = try node.wait(for: "everything in service", timeout: .seconds(60), every: .milliseconds(100)) {
                last = try run("'\(node.binaries)/saf' status")
                return last.contains("everything is in service") ? true : nil
            }
        } catch {
            throw StageError("\(error)\n\(last)\n\(log.suffix(4_000))")
        }
    }
}
