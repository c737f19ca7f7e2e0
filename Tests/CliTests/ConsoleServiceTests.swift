import CliClient
import CliProtocol
import CliShell
import EOLoop
import EngineKit
import ExecutionObject
import IOC
import OSAL
import SAFTypes
import Testing

/// Directories of one test, removed with it.
final class TemporaryPlaces: Sendable {
    let root: String
    let places: Places

    init() throws {
        root = try File.makeTemporaryDirectory("/tmp/cli-")
        places = Places(
            runDirectory: root + "/run", shmDirectory: root + "/shm", stateDirectory: root + "/state",
            logDirectory: root + "/log", configDirectory: root + "/config", nodeName: "here")
    }

    deinit { try? File.removeTree(root) }
}

/// A loop on a thread of its own, with something that lives there.
final class RunningLoop {
    private let loop: Loop
    private let thread: OSThread

    init(_ start: @escaping @Sendable (Loop) throws(OSError) -> AnyObject) throws {
        let loop = try Loop(name: "test")
        let started = Monitor<Result<Void, OSError>?>(nil)
        thread = try OSThread.spawn(name: "test-loop", stackSize: 1 << 20) {
            do throws(OSError) {
                let subject = try start(loop)
                started.update { $0 = .success(()) }
                loop.run()
                withExtendedLifetime(subject) { (subject as? CliDaemon)?.close() }
            } catch {
                started.update { $0 = .failure(error) }
            }
        }
        self.loop = loop
        let outcome = started.wait(until: MonotonicClock.now() + .seconds(10)) { $0 }
        try #require(outcome).get()
    }

    func stop() {
        loop.stop()
        thread.join()
    }
}

@Suite("cliserver and its clients")
struct ConsoleServiceTests {
    private func cliserver(_ places: Places) throws -> RunningLoop {
        try RunningLoop { loop throws(OSError) in try CliDaemon(loop: loop, places: places, version: "1.0") }
    }

    @Test("Commands of a daemon and of an application, before and after a restart of cliserver")
    func commands() throws {
        let temporary = try TemporaryPlaces()
        let places = temporary.places
        var server = try cliserver(places)
        let daemon = try RunningLoop { loop in
            let commands = LoopCommands(loop: loop, places: places, owner: "clmd")
            commands.register(
                CommandSpec(
                    name: "add", help: "Adds.",
                    arguments: [
                        ArgumentSpec("left", .integer), ArgumentSpec("right", .integer),
                    ])
            ) { arguments, reply in
                reply.either(
                    text: "sum \((arguments.integer("left") ?? 0) + (arguments.integer("right") ?? 0))",
                    json: ["sum": .integer((arguments.integer("left") ?? 0) + (arguments.integer("right") ?? 0))])
            }
            commands.register(CommandSpec(name: "fail", help: "Fails.")) { _, reply in reply.fail("no luck") }
            commands.register(CommandSpec(name: "forget", help: "Forgets.")) { _, _ in }
            commands.register(CommandSpec(name: "much", help: "Says much.")) { _, reply in
                reply.text((0..<20_000).map { "line \($0)" }.joined(separator: "\n"))
            }
            return commands
        }
        defer { daemon.stop() }
        let application = ExecutionObject(places: places, name: "safComp=counter,safSu=SU1,safSg=WC,safApp=wordcount")
        application.register(
            CommandSpec(name: "top", help: "Shows.", arguments: [ArgumentSpec("words", repeated: true)])
        ) {
            arguments, reply in reply.text(arguments.all("words").joined(separator: "+"))
        }
        let console = Console(places: places)
        defer { console.close() }
        func run(_ line: String, _ format: OutputFormat = .text) throws -> Console.Output {
            try console.run(try ConsoleLine.words(of: line), format: format, timeLimit: .seconds(10))
        }
        #expect(try run("clmd add 2 3") == Console.Output(status: .done, text: "sum 5\n"))
        #expect(try run("clmd add 2 3", .json) == Console.Output(status: .done, text: "{\"sum\":5}\n"))
        #expect(try run("clmd add 2 x").status == .usage)
        #expect(try run("clmd fail") == Console.Output(status: .failed, text: "no luck\n"))
        #expect(
            try run("clmd forget") == Console.Output(status: .failed, text: "the command ended without an answer\n"))
        let much = try run("clmd much").text
        #expect(much.hasPrefix("line 0\nline 1\n") && much.hasSuffix("line 19999\n") && much.utf8.count == 208_890)
        #expect(try run("SU1/counter top a 'b c'") == Console.Output(status: .done, text: "a+b c\n"))
        #expect(try run("counter jobs").text == "no watched job is running\n")
        #expect(try run("version").text == "SwiftSAF 1.0\n")
        #expect(try console.owners().map(\.name) == ["cliserver", "clmd", application.name])
        console.stayConnected()
        server.stop()
        let deadline = MonotonicClock.now() + .seconds(10)
        while console.isConnected, MonotonicClock.now() < deadline { OSThread.yield() }
        server = try cliserver(places)
        defer { server.stop() }
        #expect(try run("clmd add 20 3").text == "sum 23\n")
        #expect(try run("counter top again").text == "again\n")
    }

    @Test("An owner that never answers is an error in time, one that ends is an error at once")
    func slowAndDead() throws {
        let temporary = try TemporaryPlaces()
        let server = try cliserver(temporary.places)
        defer { server.stop() }
        let kept = Monitor<[CommandReply]>([])
        let registry = CommandRegistry(owner: "slow", places: temporary.places)
        registry.register(CommandSpec(name: "wait", help: "Waits.")) { _, reply in kept.update { $0.append(reply) } }
        let console = Console(places: temporary.places)
        defer { console.close() }
        while try console.owners().isEmpty {}
        let late = try console.run(["slow", "wait"], timeLimit: .milliseconds(300))
        #expect(late.status == .unavailable)
        #expect(late.text.hasPrefix("slow wait: slow did not answer within"))
        let ender = try OSThread.spawn(name: "ender", stackSize: 1 << 20) {
            _ = kept.wait(until: MonotonicClock.now() + .seconds(10)) { $0.count >= 2 ? true : nil }
            registry.close()
        }
        let dead = try console.run(["slow", "wait"], timeLimit: .seconds(60))
        ender.join()
        #expect(dead == Console.Output(status: .unavailable, text: "slow wait: slow ended before it answered"))
    }

    @Test("Without cliserver the error comes in time and says what is missing")
    func nobody() throws {
        let temporary = try TemporaryPlaces()
        let console = Console(places: temporary.places)
        defer { console.close() }
        do throws(CallError) {
            _ = try console.run(["help"], timeLimit: .milliseconds(200))
            #expect(Bool(false))
        } catch {
            #expect(error.code == .tryAgain)
            #expect(error.text.contains("cliserver"))
        }
    }

    @Test("A job past its limit is stuck, told and unhealthy")
    func jobs() throws {
        let temporary = try TemporaryPlaces()
        let object = ExecutionObject(places: temporary.places, name: "x")
        #expect(object.isHealthy)
        let ticket = object.begin("copy", limit: .nanoseconds(1))
        #expect(!object.isHealthy)
        ticket.end()
        #expect(object.isHealthy)
        #expect(object.monitored("quick", limit: .seconds(60)) { object.isHealthy })
    }
}
