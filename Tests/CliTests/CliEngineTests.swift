import CliEngine
import CliProtocol
import EngineKit
import SAFTypes
import Testing

private let clmd = OwnerDescription(
    name: "clmd", kind: .daemon, pid: 10,
    commands: [
        CommandSpec(name: "nodes", help: "Lists the members."),
        CommandSpec(
            name: "names",
            help: "Lists "
                + "bindings.", arguments: [ArgumentSpec("type", .integer(0...99), optional: true)]),
    ])
private let counter = OwnerDescription(
    name: "safComp=counter,safSu=SU1,safSg=WC,safApp=wordcount", kind: .application, pid: 20,
    commands: [CommandSpec(name: "top", help: "Most frequent words.", arguments: [ArgumentSpec("count", .integer)])])

private struct Console {
    var engine: CliEngine
    private var request: UInt64 = 0

    init(limits: CliEngine.Limits = .init()) {
        engine = CliEngine(version: "1.0", limits: limits)
        _ = handle(.settlingTimeOver)
        _ = handle(.register(0, clmd, from: 1))
        _ = handle(.register(0, counter, from: 2))
    }

    mutating func handle(_ event: CliEngine.Event) -> [CliEngine.Effect] { engine.handle(event, at: .start) }

    mutating func run(_ line: String, from client: UInt64 = 9, within limit: Duration = .seconds(5)) -> [CliEngine
        .Effect]
    {
        request += 1
        let words = (try? ConsoleLine.words(of: line)) ?? []
        return handle(.execute(request, ExecuteRequest(words: words, timeLimit: limit), from: client))
    }

    /// The text when the line is answered at once.
    mutating func answer(_ line: String) -> (CommandStatus, String)? {
        guard case .page(_, let page)? = run(line).first else { return nil }
        return (page.status, page.text)
    }
}

@Suite("cliserver's decisions")
struct CliEngineTests {
    @Test("A command travels to its owner and its answer back")
    func route() {
        var console = Console()
        let invocation = Invocation(id: 1, format: .text, command: "names", arguments: ["64"])
        #expect(console.run("clmd names 64") == [.startDeadline(1, after: .seconds(5)), .invoke(invocation, at: 1)])
        #expect(
            console.handle(.result(7, CommandResult(invocation: 1, status: .done, text: "x"), from: 1))
                == [.accept(7), .stopDeadline(1), .page(1, CommandPage(status: .done, text: "x"))])
        #expect(
            console.handle(.result(8, CommandResult(invocation: 1, status: .done, text: "x"), from: 1)) == [.accept(8)])
    }

    @Test("An application's component is found by a short form of its DN")
    func shortForm() {
        var console = Console()
        let invocation = Invocation(id: 1, format: .text, command: "top", arguments: ["3"])
        #expect(
            console.run("wordcount/counter top 3") == [
                .startDeadline(1, after: .seconds(5)), .invoke(invocation, at: 2),
            ])
    }

    @Test("Nobody but the owner may answer")
    func strangersAnswer() {
        var console = Console()
        _ = console.run("clmd nodes")
        #expect(
            console.handle(.result(7, CommandResult(invocation: 1, status: .done, text: "x"), from: 2)) == [.accept(7)])
        #expect(console.handle(.deadlinePassed(1)).count == 3)
    }

    @Test("A slow owner is an error after the deadline and holds up nobody")
    func slowOwner() {
        var console = Console()
        _ = console.run("clmd nodes", within: .milliseconds(250))
        #expect(console.run("counter top 1").count == 2)
        #expect(
            console.handle(.deadlinePassed(1)) == [
                .stopDeadline(1),
                .page(
                    1, CommandPage(status: .unavailable, text: "clmd nodes: clmd did not answer within 0.25 seconds")),
                .cancel(1, at: 1),
            ])
        #expect(
            console.handle(.result(7, CommandResult(invocation: 1, status: .done, text: "late"), from: 1)) == [
                .accept(7)
            ])
        #expect(console.handle(.deadlinePassed(1)) == [])
    }

    @Test("A dead owner is an error at once, and its commands are gone")
    func deadOwner() {
        var console = Console()
        _ = console.run("clmd nodes")
        #expect(
            console.handle(.peerLeft(1)) == [
                .stopDeadline(1),
                .page(1, CommandPage(status: .unavailable, text: "clmd nodes: clmd ended before it answered")),
            ])
        #expect(console.answer("clmd nodes")?.0 == .usage)
    }

    @Test("A client that hangs up cancels what it asked for")
    func clientLeft() {
        var console = Console()
        _ = console.run("clmd nodes", from: 9)
        #expect(console.handle(.peerLeft(9)) == [.stopDeadline(1), .cancel(1, at: 1)])
    }

    @Test("A restarted owner's new connection counts")
    func restartedOwner() {
        var console = Console()
        #expect(console.handle(.register(5, clmd, from: 4)) == [.accept(5)])
        guard case .invoke(_, at: 4)? = console.run("clmd nodes").last else { return #expect(Bool(false)) }
        _ = console.handle(.peerLeft(1))
        guard case .invoke(_, at: 4)? = console.run("clmd nodes").last else { return #expect(Bool(false)) }
    }

    @Test(
        "Wrong lines say what was expected",
        arguments: [
            ("clmd nodse", "clmd has no command 'nodse'; did you mean nodes?\nit has: names, nodes"),
            ("clmdd nodes", "'clmdd' is not known on this node; did you mean clmd?\nregistered: clmd, counter"),
            ("clmd names x", "names: <type> is 'x'; a whole number from 0 to 99 expected\nusage: clmd names [<type>]"),
            (
                "clmd names 100",
                "names: <type> is '100'; a whole number from 0 to 99 expected\nusage: clmd names [<type>]"
            ),
            ("clmd nodes now", "nodes: 'now' is one argument too many\nusage: clmd nodes"),
            ("counter top", "top: argument <count> is missing\nusage: counter top <count>"),
            ("", "nothing to do; 'help' lists the commands"),
        ])
    func wrongLines(line: String, text: String) throws {
        var console = Console()
        let found = console.answer(line)
        let answer = try #require(found)
        #expect(answer.0 == .usage)
        #expect(answer.1 == text)
    }

    @Test("help, version and an owner without a command")
    func builtIn() {
        var console = Console()
        #expect(console.answer("version")?.1 == "SwiftSAF 1.0\n")
        #expect(
            console.answer("help")?.1 == """
                A line is OWNER COMMAND ARGUMENTS, for example: clmd nodes
                  help [OWNER [COMMAND]]  this list, or what OWNER offers
                  status                  nodes, service units and assignments
                  version                 the version of SwiftSAF
                cliserver: owners, status
                clmd: names, nodes
                counter: top

                """)
        #expect(
            console.answer("help clmd")?.1 == """
                clmd, daemon, pid 10
                  names [<type>]  Lists bindings.
                  nodes           Lists the members.

                """)
        #expect(console.answer("clmd")?.1 == console.answer("clmd help")?.1)
        #expect(console.answer("cliserver owners")?.1.hasPrefix("clmd  pid 10  2 commands\n") == true)
        #expect(console.answer("cliserver status")?.1.hasPrefix("2 owners of commands\n") == true)
        #expect(console.answer("cliserver nodes")?.0 == .usage)
        #expect(
            console.answer("help clmd names")?.1 == """
                usage: clmd names [<type>]
                Lists bindings.
                  <type> (number)

                """)
    }

    @Test("status is asked of amfd, with a deadline")
    func status() {
        var console = Console()
        #expect(console.run("status") == [.startDeadline(1, after: .seconds(5)), .askStatus(1, .text)])
        #expect(
            console.handle(.statusArrived(1, .done, "fine")) == [
                .stopDeadline(1), .page(1, CommandPage(status: .done, text: "fine")),
            ])
    }

    @Test("A defective registration is refused with its reason")
    func defectiveRegistration() {
        var console = Console()
        func refusal(_ commands: [CommandSpec], name: String = "x") -> String? {
            let owner = OwnerDescription(name: name, kind: .daemon, pid: 1, commands: commands)
            guard case .refuse(_, _, let text)? = console.handle(.register(1, owner, from: 5)).first else { return nil }
            return text
        }
        #expect(refusal([CommandSpec(name: "a b", help: "")])?.contains("command name 'a b'") == true)
        #expect(
            refusal([CommandSpec(name: "a", help: ""), CommandSpec(name: "a", help: "")])
                == "x: command a is registered twice")
        #expect(refusal([], name: "help") != nil)
        let order = [ArgumentSpec("a", optional: true), ArgumentSpec("b")]
        #expect(refusal([CommandSpec(name: "c", help: "", arguments: order)]) != nil)
        let repeated = [ArgumentSpec("a", repeated: true), ArgumentSpec("b")]
        #expect(refusal([CommandSpec(name: "c", help: "", arguments: repeated)]) != nil)
    }

    @Test("Just after a start an unknown owner may still be coming: try again")
    func settling() {
        var engine = CliEngine(version: "1.0")
        let asked = ExecuteRequest(words: ["clmd", "nodes"])
        guard case .refuse(1, .tryAgain, _)? = engine.handle(.execute(1, asked, from: 9), at: .start).first
        else { return #expect(Bool(false)) }
        _ = engine.handle(.settlingTimeOver, at: .start)
        guard case .page(2, let page)? = engine.handle(.execute(2, asked, from: 9), at: .start).first
        else { return #expect(Bool(false)) }
        #expect(page.text == "'clmd' is not known on this node\nnobody has registered commands yet")
    }

    @Test("Long output comes in pages, whole and in order; an unread rest is dropped after a time")
    func pages() {
        var console = Console()
        let text = (0..<9_000).map { "line \($0) é\n" }.joined()
        _ = console.run("clmd nodes")
        let effects = console.handle(.result(7, CommandResult(invocation: 1, status: .done, text: text), from: 1))
        guard case .page(1, var page)? = effects.last else { return #expect(Bool(false)) }
        var read = page.text
        var count = 1
        while page.continuation != 0 {
            #expect(page.text.utf8.count <= CommandPage.textBytesMax)
            #expect(page.text.hasSuffix("\n"))
            let stranger = console.handle(.page(8, PageRequest(continuation: page.continuation), from: 5))
            guard case .refuse(8, .notExist, _)? = stranger.first else { return #expect(Bool(false)) }
            guard
                case .page(_, let next)? = console.handle(
                    .page(8, PageRequest(continuation: page.continuation), from: 9)
                ).last
            else { return #expect(Bool(false)) }
            page = next
            read += page.text
            count += 1
        }
        #expect(read == text)
        #expect(count > 3)
        _ = console.run("clmd nodes")
        let again = console.handle(.result(7, CommandResult(invocation: 20, status: .done, text: text), from: 1))
        #expect(again.count == 1)
    }

    @Test("Output without line ends is cut between characters")
    func pagesWithoutLines() {
        var console = Console()
        let text = String(repeating: "é", count: 20_000)
        _ = console.run("clmd nodes")
        guard
            case .page(_, let first)? = console.handle(
                .result(7, CommandResult(invocation: 1, status: .done, text: text), from: 1)
            ).last,
            case .page(_, let second)? = console.handle(
                .page(8, PageRequest(continuation: first.continuation), from: 9)
            ).last
        else { return #expect(Bool(false)) }
        #expect(first.text + second.text == text)
        #expect(second.continuation == 0)
    }

    @Test("What is unread is dropped when its time is over or its reader leaves")
    func unreadPages() {
        var console = Console()
        let text = String(repeating: "x\n", count: 30_000)
        for client in [9, 8] as [UInt64] {
            guard case .startDeadline(let id, _)? = console.run("clmd nodes", from: client).first,
                case .page(_, let page)? = console.handle(
                    .result(7, CommandResult(invocation: id, status: .done, text: text), from: 1)
                ).last
            else { return #expect(Bool(false)) }
            if client == 9 {
                #expect(console.handle(.pageExpired(page.continuation)) == [])
            } else {
                #expect(console.handle(.peerLeft(client)) == [.stopPageTimer(page.continuation)])
            }
            guard
                case .refuse(_, .notExist, _)? = console.handle(
                    .page(8, PageRequest(continuation: page.continuation), from: client)
                ).first
            else { return #expect(Bool(false)) }
        }
    }

    @Test("One owner's queue is bounded, and a full one blocks no other")
    func bounded() {
        var limits = CliEngine.Limits()
        limits.executionsPerOwnerMax = 2
        limits.executionsMax = 3
        var console = Console(limits: limits)
        _ = console.run("clmd nodes")
        _ = console.run("clmd nodes")
        #expect(console.answer("clmd nodes")?.0 == .unavailable)
        #expect(console.run("counter top 1").count == 2)
        guard case .refuse(_, .tryAgain, _)? = console.run("counter top 1").first else { return #expect(Bool(false)) }
    }

    @Test("Every execution is answered exactly once, in any order of events", arguments: 0..<100 as Range<UInt64>)
    func answeredOnce(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var limits = CliEngine.Limits()
        limits.executionsPerOwnerMax = 3
        var console = Console(limits: limits)
        var answered: [UInt64: Int] = [:]
        var abandoned: Set<UInt64> = []
        var clientOf: [UInt64: UInt64] = [:]
        func note(_ effects: [CliEngine.Effect]) {
            for effect in effects {
                switch effect {
                case .page(let id, _) where clientOf[id] != nil, .refuse(let id, _, _) where clientOf[id] != nil:
                    answered[id, default: 0] += 1
                default: break
                }
            }
        }
        for request in 1...150 as ClosedRange<UInt64> {
            let client = UInt64.random(in: 8...9, using: &random)
            let line = ["clmd nodes", "counter top 1", "status", "help", "nobody x"].randomElement(using: &random)!
            clientOf[request] = client
            let words = line.split(separator: " ").map(String.init)
            note(console.handle(.execute(request, ExecuteRequest(words: words), from: client)))
            let id = UInt64.random(in: 1...request, using: &random)
            switch Int.random(in: 0..<8, using: &random) {
            case 0...2:
                let result = CommandResult(invocation: id, status: .done, text: "ok")
                note(console.handle(.result(10_000, result, from: .random(in: 1...2, using: &random))))
            case 3: note(console.handle(.deadlinePassed(id)))
            case 4: note(console.handle(.statusArrived(id, .done, "ok")))
            case 5: note(console.handle(.undeliverable(id)))
            case 6 where random.chance(percent: 20):
                let owner = UInt64.random(in: 1...2, using: &random)
                note(console.handle(.peerLeft(owner)))
                note(console.handle(.register(10_000, owner == 1 ? clmd : counter, from: owner)))
            case 7 where random.chance(percent: 20):
                note(console.handle(.peerLeft(client)))
                for (asked, by) in clientOf where by == client && answered[asked] == nil { abandoned.insert(asked) }
            default: break
            }
        }
        for id in 1...400 as ClosedRange<UInt64> { note(console.handle(.deadlinePassed(id))) }
        for request in clientOf.keys.sorted() {
            #expect(
                answered[request, default: 0] == (abandoned.contains(request) ? 0 : 1),
                "seed \(seed), request \(request)")
        }
    }
}
