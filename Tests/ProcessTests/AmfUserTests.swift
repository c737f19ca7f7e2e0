import AmfProtocol
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes
import Testing

/// What only root can try: components of other users, file systems of their own.
@Suite("amfd as root", .serialized, .enabled(if: Environment.userID == 0, "needs root"))
struct AmfUserTests {
    @Test("A component of another user registers, logs, has a checkpoint and publishes, with his groups and home")
    func otherUser() throws {
        let model = TestModel.twoN(["services"]) { $0.user = "nobody" }
        let stand = try AmfStand(model, real: ["logd", "ckptd", "eventd"])
        defer { stand.end() }
        try stand.start()
        let active = stand.wait(for: "C1") { $0.has(.active) }
        let pid = try #require(active, "amfd said: \(stand.output)").pid
        let account = try #require(Environment.account(named: "nobody"))
        #expect(try File.stat("/proc/\(pid)").userID == account.userID)
        let status = try File.readText("/proc/\(pid)/status").split(separator: "\n")
        let groups = status.first { $0.hasPrefix("Groups:") }?.split(whereSeparator: { $0 == " " || $0 == "\t" })
        #expect(groups?.dropFirst().compactMap { UInt32($0) }.sorted() == account.groups.sorted())
        let variables = try File.readText("/proc/\(pid)/environ").split(separator: "\0")
        #expect(variables.contains("HOME=\(account.home)") && variables.contains("USER=nobody"))
        let log = stand.places.logDirectory + "/application.log"
        // Printed, and logged by its own ring: both are in the file.
        for line in ["services: checkpoint 7, event published", "services: logged by itself", "may not list"] {
            let isThere = stand.wait { (try? File.readText(log))?.contains(line) == true ? true : nil }
            #expect(isThere == true, "\(line) not in \((try? File.readText(log)) ?? "no log"); \(stand.output)")
        }
    }

    @Test("users and groups of cluster.yaml say who may use the services; a component may always be one")
    func access() throws {
        let account = try #require(Environment.account(named: "nobody"))
        for (rule, isAdmitted) in [
            (AccessRule(users: ["daemon"], groups: ["\(account.groupID)"]), true),
            (AccessRule(users: ["daemon", "no-such-user"]), false),
        ] {
            let stand = try AmfStand(TestModel.twoN(["services"]) { $0.user = "nobody" }, real: ["logd", "ckptd"])
            defer { stand.end() }
            var description = ClusterDescription.alone(NodeID(1), name: try #require(SaName("n1")))
            description.access = rule
            try description.save(stand.places)
            try stand.start()
            #expect(stand.wait(for: "C1") { $0.has(.active) } != nil, "amfd said: \(stand.output)")
            let log = stand.places.logDirectory + "/application.log"
            // There is no event service: whoever got his checkpoint says that of the channel.
            let line = isAdmitted ? "services: SA_AIS_ERR_TRY_AGAIN" : "services: SA_AIS_ERR_ACCESS "
            let isThere = stand.wait { (try? File.readText(log))?.contains(line) == true ? true : nil }
            #expect(isThere == true, "\(line) not in \((try? File.readText(log)) ?? "no log"); \(stand.output)")
        }
    }

    @Test("With a full run directory a killed amfd and a killed guard come back and adopt everything")
    func fullRunDirectory() throws {
        let stand = try AmfStand(TestModel.twoN())
        try File.makeDirectories(stand.places.runDirectory)
        let mount = stand.places.runDirectory
        try #require(Self.run("/bin/mount", ["-t", "tmpfs", "-o", "size=256k", "tmpfs", mount]))
        defer {
            stand.end()
            _ = Self.run("/bin/umount", ["-l", mount])
            try? File.removeTree(stand.directory)  // it could not go while something was mounted in it
        }
        try stand.start()
        let before = try #require(stand.wait(for: "C1") { $0.has(.active) }, "amfd said: \(stand.output)")
        let filler = try File.openForAppending(mount + "/filler")
        let chunk = [UInt8](repeating: 1, count: 4096)
        while (try? chunk.withUnsafeBytes({ try IO.write(filler.raw, $0) })) != nil {}
        for role in ["amfd", "guard", "amfd"] {
            let pid = try #require(stand.holder(role))
            try Process.kill(pid, .kill)
            let next = stand.wait { stand.holder(role).flatMap { $0 == pid ? nil : $0 } }
            #expect(next != nil, "no new \(role); amfd said: \(stand.output)")
            let after = stand.wait(for: "C1") { $0.has(.active) }
            #expect(after?.pid == before.pid, "amfd said: \(stand.output)")
        }
    }

    private static func run(_ program: String, _ arguments: [String]) -> Bool {
        guard let process = try? Process.spawn(SpawnOptions(path: program, arguments: [program] + arguments)) else {
            return false
        }
        _ = try? IO.waitUntil(process.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(10))
        return Process.reap(process.pid) == .exited(code: 0)
    }
}
