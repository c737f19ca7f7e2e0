import AmfProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

/// The guard under a service manager: the test stands in for systemd.
@Suite("amfd's guard and a service manager", .serialized)
struct AmfServiceManagerTests {
    /// Everything that is said until a message has `wanted` in it; nil when it does not come.
    private func heard(_ wanted: String, _ listener: borrowing Descriptor) throws -> [String]? {
        let deadline = MonotonicClock.now() + .seconds(30)
        var messages: [String] = []
        while try IO.waitUntil(listener.raw, readable: true, deadline: deadline) {
            var buffer = [UInt8](repeating: 0, count: 4_096)
            let count = try buffer.withUnsafeMutableBytes { try IO.read(listener.raw, into: $0) } ?? 0
            messages.append(String(decoding: buffer[0..<count], as: UTF8.self))
            if messages.last?.contains(wanted) == true { return messages }
        }
        return nil
    }

    private func isUp(_ stand: AmfStand) -> Bool {
        stand.wait(for: "C1") { !$0.assignments.isEmpty } != nil
            && stand.wait(for: "C2") { !$0.assignments.isEmpty } != nil
    }

    /// Started by the manager: with its socket and a watchdog of 600 ms.
    private func managed() throws -> (stand: AmfStand, path: String) {
        let stand = try AmfStand(TestModel.twoN())
        let path = stand.directory + "/notify"
        stand.additions = ["NOTIFY_SOCKET=\(path)", "WATCHDOG_USEC=600000"]
        return (stand, path)
    }

    @Test("It hears that the node serves, a sign of life in time, what goes wrong, and that it stops")
    func words() throws {
        let (stand, path) = try managed()
        defer { stand.end() }
        let listener = try ServiceManager.listen(at: path)
        let start = MonotonicClock.now()
        try stand.start()
        let beginning = try #require(try heard("READY=1", listener), "amfd said: \(stand.output)")
        #expect(beginning.contains("WATCHDOG=1"))
        #expect(beginning.last?.contains("STATUS=amfd, process \(stand.holder("amfd") ?? 0), serves this node") == true)
        for _ in 0..<5 { #expect(try heard("WATCHDOG=1", listener) != nil) }
        #expect(MonotonicClock.now() - start >= .milliseconds(600), "a sign of life is sent when it is due, not always")
        #expect(isUp(stand), "amfd said: \(stand.output)")
        // Nobody else may speak in the guard's name.
        for pid in stand.processes where pid != stand.holder("guard") {
            let environment = try File.readText("/proc/\(pid)/environ")
            #expect(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG_USEC"))
        }
        try Process.kill(try #require(stand.holder("amfd")), .kill)
        #expect(try heard("STATUS=amfd was killed by signal 9", listener) != nil)
        #expect(try heard("READY=1", listener) != nil)
        try Process.kill(try #require(stand.holder("guard")), .terminate)
        #expect(try heard("STOPPING=1", listener) != nil)
    }

    @Test("A guard that dies is left to the manager: its new one adopts amfd, and is watched like the first")
    func restart() throws {
        let (stand, path) = try managed()
        defer { stand.end() }
        let listener = try ServiceManager.listen(at: path)
        let first = try stand.start().pid
        #expect(isUp(stand), "amfd said: \(stand.output)")
        let before = stand.components.map(\.pid)
        let amfd = try #require(stand.holder("amfd"))
        try Process.kill(first, .kill)
        #expect(stand.wait { stand.output.contains("(pid \(first)) died") ? true : nil } == true)
        let second = try stand.start().pid
        #expect(
            stand.wait { stand.output.contains("guarded by pid \(second)") ? true : nil } == true, "\(stand.output)")
        #expect(stand.holder("guard") == second && stand.holder("amfd") == amfd)
        #expect(try heard("serves this node", listener) != nil)
        // Both at once: the next guard starts an amfd, which adopts everything.
        try Process.kill(second, .stop)
        try Process.kill(amfd, .kill)
        try Process.kill(second, .kill)
        try stand.start()
        #expect(stand.wait { stand.holder("amfd").flatMap { $0 == amfd ? nil : $0 } } != nil)
        #expect(isUp(stand), "amfd said: \(stand.output)")
        #expect(stand.components.map(\.pid) == before, "somebody was disturbed; amfd said: \(stand.output)")
    }

    @Test("A manager that does not start it again in time is not waited for")
    func noRestart() throws {
        let (stand, path) = try managed()
        defer { stand.end() }
        let listener = try ServiceManager.listen(at: path)
        let first = try stand.start().pid
        _ = try #require(try heard("READY=1", listener), "amfd said: \(stand.output)")
        try Process.kill(first, .kill)
        let second = stand.wait { stand.holder("guard").flatMap { $0 == first ? nil : $0 } }
        #expect(second != nil, "amfd said: \(stand.output)")
    }

    @Test("The unit is one that systemd takes, and leaves the guard the time it needs to stop")
    func unit() throws {
        let root = File.parent(of: File.parent(of: File.parent(of: #filePath)))
        let binaries = File.parent(of: try #require(Environment.executablePath))
        let unit = try File.readText(root + "/deploy/systemd/swiftsaf.service.in")
        #expect(unit.contains("amfd --guard --stop-deadline 30\n") && unit.contains("TimeoutStopSec=45\n"))
        let analyse = "/usr/bin/systemd-analyze"
        guard File.isExecutable(analyse) else { return }
        let folder = try File.makeTemporaryDirectory("/tmp/saf-unit-")
        defer { try? File.removeTree(folder) }  // an empty folder in /tmp must not hide the test's own outcome
        let file = folder + "/swiftsaf.service"
        let text = unit.split(separator: "@PREFIX@/lib/swiftsaf", omittingEmptySubsequences: false)
        try File.writeAtomically(file, text: text.joined(separator: binaries), durable: false)
        let output = try File.openForAppending(folder + "/output")
        var options = SpawnOptions(path: analyse, arguments: [analyse, "verify", "--man=no", file])
        options.descriptors = [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)]
        let process = try Process.spawn(options)
        #expect(try IO.waitUntil(process.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(30)))
        let said = try File.readText(folder + "/output").split(separator: "\n").filter { $0.contains("swiftsaf") }
        #expect(Process.reap(process.pid) == .exited(code: 0) && said.isEmpty, "\(said)")
    }

    /// Lowering it takes CAP_SYS_RESOURCE, which a container may lack.
    private static let mayBeShielded: Bool = {
        guard let before = try? File.readText(shieldPath), (try? write("-800", to: shieldPath)) != nil else {
            return false
        }
        return (try? write(before, to: shieldPath)) != nil
    }()
    private static let shieldPath = "/proc/self/oom_score_adj"

    @Test("When memory runs out, applications go before the middleware", .enabled(if: mayBeShielded))
    func shield() throws {
        let stand = try AmfStand(TestModel.twoN())
        defer { stand.end() }
        let before = try File.readText(Self.shieldPath)
        try Self.write("-800", to: Self.shieldPath)
        defer { try? Self.write(before, to: Self.shieldPath) }  // it was possible a moment ago
        try stand.start()
        #expect(isUp(stand), "amfd said: \(stand.output)")
        for component in stand.components {
            let score = try File.readText("/proc/\(component.pid)/oom_score_adj")
            #expect(score == (component.name.hasPrefix("C") ? "0\n" : "-800\n"), "\(component.name)")
        }
    }

    private static func write(_ text: String, to path: String) throws {
        let file = try File.open(path, writable: true)
        _ = try Array(text.utf8).withUnsafeBytes { try file.write($0) }
    }
}
