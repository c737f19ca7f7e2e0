import EngineKit
import Testing

@testable import OSAL

/// Waits until a child has ended; records an issue after ten seconds.
func wait(for pid: Int32, _ pidfd: Int32, comment: Comment? = nil) -> OSAL.ExitStatus? {
    let deadline = MonotonicClock.now() + .seconds(10)
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
    let deadline = MonotonicClock.now() + .seconds(10)
    while try IO.waitUntil(fd, readable: true, deadline: deadline) {
        let count = try chunk.withUnsafeMutableBytes { try IO.read(fd, into: $0) } ?? 0
        if count == 0 { return String(decoding: text, as: UTF8.self) }
        text += chunk[0..<count]
    }
    Issue.record("the pipe did not end")
    return String(decoding: text, as: UTF8.self)
}

/// Runs a shell script to its end: what it printed, and how it ended.
func shell(_ script: String, _ change: (inout SpawnOptions) -> Void = { _ in }) throws -> (output: String, status: OSAL.ExitStatus?) {
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
        #expect(!Process.isExiting(child.pid))
        #expect((Process.residentBytes(of: child.pid) ?? 0) > 0)
        try Process.pidfdSendSignal(child.rawPidfd, .kill)
        #expect(wait(for: child.pid, child.rawPidfd) == OSAL.ExitStatus.signaled(SignalNumber.kill))
        #expect(!Process.isAlive(child.pid, startTime: started))
        #expect(Process.isExiting(child.pid))
    }
}
