import CliClient
import CliProtocol
import CliShell
import EOLoop
import EngineKit
import OSAL
import SAFTypes
import Testing

/// A command of `saf` on a pseudo-terminal, and who types.
final class Typist {
    private let terminal: PseudoTerminal
    private let pid: Int32
    private let pidfd: SharedDescriptor
    private var isReaped = false
    /// Everything shown so far.
    private(set) var shown = ""

    init(_ places: Places, _ words: [String] = ["console"]) throws {
        terminal = try PseudoTerminal()
        let program = File.parent(of: try #require(Environment.executablePath)) + "/saf"
        try #require(File.isExecutable(program), "\(program) must have been built")
        var options = SpawnOptions(path: program, arguments: ["saf"] + words)
        options.environment = Environment.all.filter { !$0.hasPrefix("SAF_") } + places.environment + ["TERM=xterm"]
        let side = terminal.program
        options.descriptors = (0...2).map { DescriptorMapping(side, as: $0) }
        options.deathSignal = .kill
        let process = try Process.spawn(options)
        pid = process.pid
        pidfd = SharedDescriptor(process.takePidfd())
    }

    deinit {
        guard !isReaped else { return }
        _ = try? Process.kill(pid, .kill)
        _ = try? IO.waitUntil(pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10))
        _ = Process.reap(pid)
    }

    /// As Ctrl-C does where the terminal is the program's own.
    func interrupt() throws { _ = try Process.kill(pid, .interrupt) }

    func type(_ keys: String) throws {
        try Array(keys.utf8).withUnsafeBytes { bytes throws in try IO.writeAll(terminal.raw, bytes) }
    }

    /// Reads until `text` is shown after what was seen before; false after thirty seconds.
    func sees(_ text: String) throws -> Bool { try sees([text]) }

    /// All of these, in whatever order.
    func sees(_ texts: [String]) throws -> Bool {
        let deadline = MonotonicClock.now() + .seconds(30)
        while true {
            let ends = texts.compactMap { unseen.firstRange(of: $0)?.upperBound }
            if ends.count == texts.count, let end = ends.max() {
                unseen = unseen[end...]
                return true
            }
            guard try IO.waitUntil(terminal.raw, readable: true, deadline: deadline) else { return false }
            var chunk = [UInt8](repeating: 0, count: 4_096)
            let count = try chunk.withUnsafeMutableBytes { try IO.read(terminal.raw, into: $0) } ?? 0
            let new = String(decoding: chunk[..<count], as: UTF8.self)
            shown += new
            unseen += new
        }
    }

    private var unseen: Substring = ""

    /// The exit status once it has ended by itself.
    func end() throws -> OSAL.ExitStatus? {
        guard try IO.waitUntil(pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(30)) else {
            return nil
        }
        isReaped = true
        return Process.reap(pid)
    }
}

@Suite("The console on a terminal")
struct ConsoleTerminalTests {
    /// Console commands of one owner, on a loop.
    private final class Owner {
        let commands: LoopCommands

        init(_ loop: Loop, _ places: Places) {
            commands = LoopCommands(loop: loop, places: places, owner: "greeter")
            commands.register(
                CommandSpec(name: "greet", help: "Greets.", arguments: [ArgumentSpec("whom", .text)])
            ) { arguments, reply in reply.text("hello \(arguments["whom"] ?? "")") }
        }
    }

    @Test("Completion, history, a component's command, Ctrl-C gives up the line, Ctrl-D ends")
    func typing() throws {
        let temporary = try TemporaryPlaces()
        let places = temporary.places
        // A node is there when somebody holds amfd's lock.
        try File.makeDirectories(places.runDirectory + "/amfd")
        guard let lock = try File.fileLock(places.runDirectory + "/amfd/amfd.lock") else {
            Issue.record("somebody has the lock of this test's node")
            return
        }
        let server = try RunningLoop { loop throws(OSError) in
            try CliDaemon(loop: loop, places: places, version: "1.0")
        }
        defer { server.stop() }
        let owner = try RunningLoop { loop throws(OSError) in Owner(loop, places) }
        defer { owner.stop() }
        let console = Console(places: places)
        let deadline = MonotonicClock.now() + .seconds(30)
        while (try? console.owners())?.contains(where: { $0.name == "greeter" }) != true {
            try #require(MonotonicClock.now() < deadline, "the owner's commands were not registered")
            OSThread.yield()
        }
        let typist = try Typist(places)
        #expect(try typist.sees("saf> "))
        try typist.type("gre\t")
        #expect(try typist.sees("greeter"), "\(typist.shown)")
        try typist.type("gr\t")
        #expect(try typist.sees("greeter greet"), "\(typist.shown)")
        try typist.type("world\r")
        #expect(try typist.sees("hello world"), "\(typist.shown)")
        #expect(try typist.sees("saf> "))
        try typist.type("\u{1B}[A\u{7F}\u{7F}\r")  // the line before, without its last two letters
        #expect(try typist.sees("hello wor\r\n"), "\(typist.shown)")
        #expect(try typist.sees("saf> "))
        try typist.type("nonsense\u{3}greeter greet again\r")
        #expect(try typist.sees("hello again"), "\(typist.shown)")
        #expect(!typist.shown.contains("unknown"), "what Ctrl-C gave up was not run: \(typist.shown)")
        #expect(try typist.sees("saf> "))  // before it the terminal is not the console's
        try typist.type("\u{4}")
        #expect(try typist.end() == .exited(code: 0), "\(typist.shown)")
        IO.close(lock.release())
    }
}
