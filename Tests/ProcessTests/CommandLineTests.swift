import EngineKit
import OSAL
import Testing

@Suite("The command line without a node")
struct CommandLineTests {
    @Test("A component started by hand says what it is for, instead of crashing", arguments: ["hello", "wordcount"])
    func startedByHand(program: String) throws {
        let run = try Command(program, ["--help"])
        #expect(run.status == .exited(code: 1))
        #expect(run.output == "\(program): not started by amfd; put it into a model and start amfd --guard\n")
    }

    @Test("Help fits 80 columns, so that its examples can be copied")
    func help() throws {
        let commands = [
            [], ["status"], ["admin"], ["ckpt"], ["ckpt", "dump"], ["ckpt", "watch"], ["ckpt", "write"],
            ["ckpt", "unlink"], ["ckpt", "retention"], ["ckpt", "active"], ["log"], ["log", "rules"],
            ["log", "severity"],
            ["events"], ["console"], ["config", "check"], ["bench"],
        ]
        for words in commands {
            let text = try Command("saf", ["help"] + words).output
            let long = text.split(separator: "\n").filter { $0.count > 80 }
            #expect(long.isEmpty, "saf help \(words.joined(separator: " ")): \(long)")
        }
        #expect(try Command("saf", ["help", "ckpt"]).output.contains("--section position --raw > file\n"))
        #expect(
            try Command("saf", ["console", "--help"]).output.hasPrefix("OVERVIEW: Runs the commands of any daemon"))
    }

    @Test("An unknown command is answered with the nearest")
    func unknownCommand() throws {
        let run = try Command("saf", ["statuss"])
        #expect(run.status == .exited(code: 64))
        #expect(run.output.hasPrefix("saf: there is no command 'statuss'; did you mean status?\n"))
        #expect(try Command("saf", ["ckpt", "dmp"]).output.hasPrefix("saf ckpt: there is no command 'dmp'; did you"))
        #expect(try Command("saf", ["events", "--channels", "--follow"]).status == .exited(code: 64))
    }

    @Test("An amfd that does not answer is named, within the time that was given")
    func silence() throws {
        let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-silence")
        defer { try? File.removeTree(folder) }
        // This process is the amfd that never answers.
        try File.makeDirectories(folder + "/amfd")
        try File.makeDirectories(folder + "/ioc")
        guard let lock = try File.fileLock(folder + "/amfd/amfd.lock") else {
            throw OSError(code: 0, call: "flock", subject: folder)
        }
        let socket = try UnixSocket.listen(at: folder + "/ioc/amfd", kind: .seqPacket, mode: 0o600)
        let begin = MonotonicClock.now()
        let run = try Command("saf", ["admin", "--timeout", "1", "lock", "SU1"], ["SAF_RUN_DIR=" + folder])
        #expect(run.status == .exited(code: 3))
        #expect(run.output.contains("amfd (pid \(Environment.processID)) is there and did not answer"), "\(run.output)")
        #expect(!run.output.contains("outcome is unknown"), "it was not even asked")
        #expect(MonotonicClock.now() - begin < .seconds(30))
        withExtendedLifetime((lock.raw, socket.raw)) {}
    }
}

/// A finished run of one of our programs.
private struct Command {
    let status: OSAL.ExitStatus
    /// What it wrote to stdout and stderr.
    let output: String

    init(_ program: String, _ arguments: [String], _ environment: [String] = []) throws {
        let programs = File.parent(of: try #require(Environment.executablePath))
        let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-command")
        defer { try? File.removeTree(folder) }
        let file = try File.openForAppending(folder + "/output")
        let kept = Environment.all.filter { !$0.hasPrefix("SA_") && !$0.hasPrefix("SAF_") && !$0.hasPrefix("COLUMNS=") }
        var options = SpawnOptions(
            path: "\(programs)/\(program)", arguments: [program] + arguments, environment: kept + environment)
        options.descriptors = [DescriptorMapping(file.raw, as: 1), DescriptorMapping(file.raw, as: 2)]
        options.deathSignal = .kill
        let child = try Process.spawn(options)
        let hasEnded = try IO.waitUntil(
            child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(60))
        if !hasEnded { _ = try Process.kill(child.pid, .kill) }
        var status = Process.reap(child.pid)
        while status == nil {
            OSThread.yield()
            status = Process.reap(child.pid)
        }
        self.status = try #require(status)
        output = try File.readText(folder + "/output")
    }
}
