import EngineKit
import Testing

@testable import OSAL

/// Waits until a child has ended; records an issue after half a minute.
func wait(for pid: Int32, _ pidfd: Int32, comment: Comment? = nil) -> OSAL.ExitStatus? {
    let deadline = MonotonicClock.now() + .seconds(30)
    guard (try? IO.waitUntil(pidfd, readable: true, deadline: deadline)) == true else {
        Issue.record("process \(pid) did not end")
        _ = try? Process.kill(pid, .kill)
        return nil
    }
    return Process.reap(pid)
}

/// Reads a pipe to its end.
func readAll(_ fd: Int32) throws -> String {
    var text: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 4096)
    let deadline = MonotonicClock.now() + .seconds(30)
    while try IO.waitUntil(fd, readable: true, deadline: deadline) {
        let count = try chunk.withUnsafeMutableBytes { try IO.read(fd, into: $0) } ?? 0
        if count == 0 { return String(decoding: text, as: UTF8.self) }
        text += chunk[0..<count]
    }
    Issue.record("the pipe did not end")
    return String(decoding: text, as: UTF8.self)
}

/// Runs a shell script to its end: what it printed, and how it ended.
func shell(_ script: String, _ change: (inout SpawnOptions) -> Void = { _ in }) throws -> (
    output: String, status: OSAL.ExitStatus?
) {
    var options = SpawnOptions(path: "/bin/sh", arguments: ["sh", "-c", script])
    change(&options)
    let pipe = try makePipe()
    let reader = pipe.first
    let writer = pipe.second
    options.descriptors.append(DescriptorMapping(writer.raw, as: 1))
    let child = try Process.spawn(options)
    IO.close(writer.release())
    let output = try readAll(reader.raw)
    return (output, wait(for: child.pid, child.rawPidfd))
}

@Suite struct ProcessTests {
    @Test("A program that succeeds and one that fails are told apart")
    func exitCodes() throws {
        for (path, code) in [("/bin/true", 0), ("/bin/false", 1)] {
            let child = try Process.spawn(SpawnOptions(path: path))
            #expect(wait(for: child.pid, child.rawPidfd) == .exited(code: Int32(code)))
            #expect(Process.reap(child.pid) == .unknown, "a status is taken once")
        }
    }

    @Test("A program that cannot be executed is an error of spawn, with the errno and the name")
    func cannotExecute() throws {
        do {
            _ = try Process.spawn(SpawnOptions(path: "/nonexistent/program"))
            Issue.record("it was started")
        } catch {
            #expect(error.isNotFound)
            #expect(error.description == "execve /nonexistent/program: No such file or directory")
        }
        do {
            _ = try Process.spawn(SpawnOptions(path: "/etc/passwd"))
            Issue.record("it was started")
        } catch {
            #expect(error.isNotPermitted)
        }
        var options = SpawnOptions(path: "/bin/true")
        options.workingDirectory = "/nonexistent"
        do {
            _ = try Process.spawn(options)
            Issue.record("it was started")
        } catch {
            #expect(error.call.description == "chdir")
            #expect(error.subject.contains("/nonexistent"))
        }
    }

    @Test("A child killed by a signal says which")
    func killed() throws {
        let child = try Process.spawn(SpawnOptions(path: "/bin/sleep", arguments: ["sleep", "60"]))
        #expect(Process.reap(child.pid) == nil)
        let started = try #require(Process.startTime(of: child.pid))
        #expect(Process.isAlive(child.pid, startTime: started))
        #expect(!Process.isExiting(child.pid) && !Process.isOver(child.pid))
        #expect((Process.residentBytes(of: Environment.processID) ?? 0) > 1 << 20)
        try Process.pidfdSendSignal(child.rawPidfd, .kill)
        _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(30))
        #expect(Process.isOver(child.pid), "a zombie")
        #expect(wait(for: child.pid, child.rawPidfd) == OSAL.ExitStatus.signaled(SignalNumber.kill))
        #expect(!Process.isAlive(child.pid, startTime: started) && Process.isOver(child.pid))
        #expect(Process.isExiting(child.pid))
    }

    @Test("The child has the descriptors it was given, under their new numbers, and no other")
    func descriptorTable() throws {
        let open = try makePipe()  // some that must not leak, also without close-on-exec
        try open.first.setCloseOnExec(false)
        let file = try File.open("/etc/passwd").release()
        defer { IO.close(file) }
        let helper = try Helper("descriptors") { $0.descriptors.append(DescriptorMapping(file, as: 7)) }
        #expect(try helper.line() == "0 1 2 7")
        #expect(try helper.line() == "/etc/passwd")
    }

    @Test("Descriptors may change places")
    func swappedDescriptors() throws {
        let scratch = try Scratch()
        try File.writeAtomically(scratch("a"), text: "A", durable: false)
        try File.writeAtomically(scratch("b"), text: "B", durable: false)
        let (a, b) = (SharedDescriptor(try File.open(scratch("a"))), SharedDescriptor(try File.open(scratch("b"))))
        let result = try shell("cat /proc/self/fd/\(b.raw) /proc/self/fd/\(a.raw)") {
            $0.descriptors = [DescriptorMapping(a.raw, as: b.raw), DescriptorMapping(b.raw, as: a.raw)]
        }
        #expect(result.output == "AB")
    }

    @Test("Environment, directory and arguments are as given, with nothing inherited")
    func surroundings() throws {
        let result = try shell("echo $PWD-$ONLY-$0-$1; env | grep -c HOME=") {
            $0.environment = ["ONLY=this", "PATH=/usr/bin:/bin"]
            $0.workingDirectory = "/usr"
            $0.arguments += ["zero", "a b"]
        }
        #expect(result.output == "/usr-this-zero-a b\n0\n")
    }

    @Test("The child leads its own session, with default signals and an empty mask, whatever the parent does")
    func sessionAndSignals() throws {
        let result = try shell(
            "ps -o sid= -p $$ | tr -d ' '; grep -E 'Sig(Blk|Ign|Cgt)' /proc/self/status | cut -f2; echo $$")
        let lines = result.output.split(separator: "\n")
        #expect(lines.count == 5 && lines[0] == lines[4])
        #expect(lines[1...2].allSatisfy { $0.allSatisfy { $0 == "0" } }, "\(result.output)")
    }

    @Test("A death signal comes when the process ends, not the thread that started the child")
    func deathSignal() throws {
        let toChild = try makePipe()
        let fromChild = try makePipe()
        var options = SpawnOptions(path: "/bin/cat")
        options.descriptors = [
            DescriptorMapping(toChild.first.raw, as: 0), DescriptorMapping(fromChild.second.raw, as: 1),
        ]
        options.deathSignal = .kill
        let started = Monitor<(child: Int32, thread: Int32)?>(nil)
        let thread = try OSThread.spawn(name: "passing") { [options] in
            let child = (try? Process.spawn(options))?.pid
            started.update { $0 = (child ?? 0, OSThread.currentID) }
        }
        thread.join()
        let (child, number) = try #require(started.wait(until: soon) { $0 })
        try #require(child > 0)
        defer {
            _ = try? Process.kill(child, .kill)
            #expect(eventually { Process.reap(child) != nil })
        }
        #expect(eventually { !File.exists("/proc/self/task/\(number)") })
        try bytes("!").withUnsafeBytes { try IO.writeAll(toChild.second.raw, $0) }
        #expect(try IO.waitUntil(fromChild.first.raw, readable: true, deadline: soon), "it answers")

        let helper = try Helper("start-mortal")
        let mortal = try #require(try helper.line().flatMap { Int32($0) })
        #expect(!Process.isOver(mortal))
        try helper.kill()
        #expect(eventually { Process.isOver(mortal) })
    }

    @Test("The whole group dies, also what the child has started")
    func group() throws {
        let pipe = try makePipe()
        let reader = pipe.first
        let writer = pipe.second
        var options = SpawnOptions(
            path: "/bin/sh", arguments: ["sh", "-c", "sleep 60 & sleep 60 & echo started; wait"])
        options.descriptors = [DescriptorMapping(writer.raw, as: 1)]
        let child = try Process.spawn(options)
        IO.close(writer.release())
        var buffer = [UInt8](repeating: 0, count: 8)
        #expect(try buffer.withUnsafeMutableBytes { try IO.read(reader.raw, into: $0) } == 8)
        #expect(try Process.killGroup(child.pid))
        #expect(wait(for: child.pid, child.rawPidfd) == OSAL.ExitStatus.signaled(SignalNumber.kill))
        #expect(try buffer.withUnsafeMutableBytes { try IO.read(reader.raw, into: $0) } == 0, "all writers are gone")
        #expect(throws: OSError.self) { try Process.killGroup(0) }
        #expect(throws: OSError.self) { try Process.killGroup(1) }
    }

    @Test("Limits hold, and a limit that may not be raised is an error that names the step")
    func limits() throws {
        let result = try shell("ulimit -n; ulimit -c") {
            $0.limits = [ResourceLimit(.openFiles, 77), ResourceLimit(.coreBytes, 0)]
        }
        #expect(result.output == "77\n0\n")
        let own = try ResourceLimit.current(.openFiles)
        #expect(own.soft > 0 && own.soft <= own.hard)
        try own.apply()
    }

    @Test("A child of another user has his groups and no way back", .enabled(if: Environment.userID == 0, "needs root"))
    func otherUser() throws {
        let result = try shell("id -u; id -g; id -G; grep NoNewPrivs /proc/self/status | cut -f2") {
            $0.userID = 65534
            $0.groupID = 65534
            $0.groups = [7, 9]
            $0.noNewPrivileges = true
        }
        #expect(result.output == "65534\n65534\n65534 7 9\n1\n")
        #expect(Environment.userID == 0, "the parent stays who it was")
        var options = SpawnOptions(path: "/bin/true")
        options.userID = 65534
        options.groupID = 65534
        options.workingDirectory = "/root"
        do {
            let child = try Process.spawn(options)
            _ = wait(for: child.pid, child.rawPidfd)
        } catch { #expect(error.call.description == "chdir" && error.isNotPermitted) }
    }

    @Test("A program is executed from a descriptor, and niceness and memory score arrive")
    func fromDescriptor() throws {
        let program = try File.open("/bin/sh")
        let result = try shell("nice; cat /proc/self/oom_score_adj") {
            $0.path = "/nonexistent"
            $0.executable = program.raw
            $0.niceness = 5
            $0.outOfMemoryScore = 300
        }
        #expect(result.output == "5\n300\n")
    }

    @Test("Wrong options are refused before anything is started")
    func wrongOptions() throws {
        var options = SpawnOptions(path: "/bin/true")
        options.descriptors = [DescriptorMapping(1, as: 5), DescriptorMapping(2, as: 5)]
        #expect(throws: OSError.self) { _ = try Process.spawn(options) }
        #expect(throws: OSError.self) { _ = try Process.spawn(SpawnOptions(path: "/bin/true", arguments: ["a\0b"])) }
        var bad = SpawnOptions(path: "/bin/true")
        bad.descriptors = [DescriptorMapping(9999, as: 5)]
        do {
            _ = try Process.spawn(bad)
            Issue.record("started")
        } catch { #expect(error.description.contains("descriptors")) }
    }

    @Test("A process is known by pid and start time; the name in /proc cannot deceive")
    func information() throws {
        let tail = " S 1 2 3 0 -1 4194560 0 0 0 0 0 0 0 0 20 0 7 0 12345 0 10"
        let information = try #require(ProcessInformation(stat: "42 (a) Z 1 (x)" + tail))
        #expect(information.pid == 42 && information.name == "a) Z 1 (x" && information.state == "S")
        #expect(information.startTime == 12345 && information.threadCount == 7 && information.group == 2)
        #expect(information.residentBytes == 10 * Mapping.pageBytes && !information.isExiting)
        #expect(ProcessInformation(stat: "42 (a) S 1 2") == nil && ProcessInformation(stat: "") == nil)
        #expect(Process.information(of: 999_999_9) == nil && Process.isExiting(999_999_9))
        #expect(Process.reap(1) == OSAL.ExitStatus.unknown)
        do {
            _ = try Process.pidfdOpen(999_999_9)
            Issue.record("opened")
        } catch { #expect(error.isNoProcess) }
        let child = try Process.spawn(SpawnOptions(path: "/bin/sleep", arguments: ["sleep", "60"]))
        let again = try Process.pidfdOpen(child.pid)
        try Process.pidfdSendSignal(again.raw, .stop)
        let stopped = eventually { Process.information(of: child.pid)?.isStopped == true }
        #expect(stopped)
        try Process.kill(child.pid, .kill)
        #expect(wait(for: child.pid, again.raw) == OSAL.ExitStatus.signaled(SignalNumber.kill))
    }
}
