import Testing

@testable import OSAL

/// Whether this system lets us make namespaces.
private let isPermitted: Bool = {
    var options = SpawnOptions(path: "/bin/true")
    options.namespaces = .new(.all)
    guard let process = try? Process.spawn(options) else { return false }
    _ = try? IO.waitUntil(process.rawPidfd, readable: true, deadline: soon)
    return Process.reap(process.pid) == .exited(code: 0)
}()

@Suite("Namespaces", .enabled(if: isPermitted, "needs the right to make namespaces (root)"))
struct NamespaceTests {
    @Test("A child in new namespaces is number 1 on a host of its own, without networks, and sees what was mounted")
    func new() throws {
        let scratch = try Scratch()
        try File.makeDirectories(scratch("own"))
        try File.writeAtomically(scratch("own/file"), text: "bound", durable: false)
        let mounts: [Mount] = [
            .bind(scratch("own"), at: "/mnt"), .fileSystem("tmpfs", at: "/dev/shm"), .fileSystem("proc", at: "/proc"),
        ]
        let script =
            "echo $$ `cat /mnt/file` `cat /proc/sys/kernel/hostname` `ls /proc/sys/net/ipv4/conf`; touch /dev/shm/x"
        let result = try shell(script) { $0.namespaces = .new(.all, hostName: "elsewhere", mounts: mounts) }
        #expect(result.output == "1 bound elsewhere all default lo\n")
        #expect(result.status == .exited(code: 0))
        #expect(!File.exists("/dev/shm/x") && !File.exists("/mnt/file"), "nothing is seen outside")
    }

    @Test("A child enters the namespaces of another, also that of process numbers, and the next one stays here")
    func enter() throws {
        var options = SpawnOptions(path: "/bin/sleep", arguments: ["sleep", "infinity"])
        options.namespaces = .new(.all, hostName: "held", mounts: [.fileSystem("proc", at: "/proc")])
        let holder = try Process.spawn(options)
        let result = try shell("cat /proc/sys/kernel/hostname; echo $$; readlink /proc/self/ns/pid") {
            $0.namespaces = .of(pidfd: holder.rawPidfd, .all)
        }
        let inside = try File.readLink("/proc/\(holder.pid)/ns/pid")
        #expect(result.output == "held\n2\n\(inside)\n")
        #expect(Process.inPidNamespace(of: holder.pid) == [holder.pid])
        #expect(try shell("readlink /proc/self/ns/pid").output != inside + "\n")
        try Process.kill(holder.pid, .kill)
        #expect(wait(for: holder.pid, holder.rawPidfd) == .signaled(.kill))
        #expect(Process.inPidNamespace(of: holder.pid).isEmpty)
    }

    @Test("Orphans are buried without the help of init, and die with it")
    func orphans() throws {
        var options = SpawnOptions(path: "/bin/sleep", arguments: ["sleep", "infinity"])
        options.namespaces = .new([.process])
        let holder = try Process.spawn(options)
        func run(_ script: String) throws -> String {
            try shell(script) { $0.namespaces = .of(pidfd: holder.rawPidfd, .process) }.output
        }
        _ = try run("true & exec >&-; sh -c true &")
        #expect(eventually { Process.inPidNamespace(of: holder.pid) == [holder.pid] }, "no zombie stays")
        _ = try run("sleep 1000 >/dev/null & exec >&-")
        let all = Process.inPidNamespace(of: holder.pid)
        #expect(all.count == 2)
        try Process.kill(holder.pid, .kill)
        #expect(wait(for: holder.pid, holder.rawPidfd) == .signaled(.kill))
        for pid in all { #expect(Process.information(of: pid) == nil) }
    }

    @Test("What cannot be mounted is named")
    func refused() throws {
        var options = SpawnOptions(path: "/bin/true")
        options.namespaces = .new(.all, mounts: [.bind("/no/such/folder", at: "/mnt")])
        let error = #expect(throws: OSError.self) { _ = try Process.spawn(options) }
        #expect(error?.isNotFound == true)
        #expect(error?.subject == "/bin/true (/mnt)")
    }
}
