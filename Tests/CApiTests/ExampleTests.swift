import EngineKit
import OSAL
import Testing

/// deploy/examples/c-hotstandby, built as its README says and nothing else, and killed again and again.
@Suite("C hot standby", .serialized, .enabled(if: CToolchain.canBuild, CToolchain.why))
struct ExampleTests {
    static let needsPkgConfig: Comment = "needs pkg-config on PATH"

    @Test(
        "Every ticket is sold once, in order, while the process that sells and ckptd are killed",
        .enabled(if: CToolchain.lacks(["pkg-config", "sh"]).isEmpty, needsPkgConfig))
    func tickets() throws {
        let prefix = try CToolchain.installed()
        let program = CToolchain.folder + "/hotstandby"
        let source = CToolchain.root + "/deploy/examples/c-hotstandby/hotstandby.c"
        let built = try CommandRun(
            ["sh", "-c", "cc -Wall -Wextra -o '\(program)' '\(source)' $(pkg-config --cflags --libs saf-ckpt)"],
            environment: CToolchain.environment + ["PKG_CONFIG_PATH=\(prefix)/lib/pkgconfig"],
            output: program + ".build", timeout: .seconds(60))
        try #require(built.succeeded, "\(built)")
        #expect(built.output.isEmpty)

        let stand = try CkptStand()
        let offices = Offices(stand: stand, program: program, library: prefix + "/lib")
        try offices.open()
        try offices.open()
        for round in 0..<6 {
            try offices.awaitTickets(5)
            if round % 2 == 1 {
                stand.kill()
                try stand.start()
                try offices.awaitTickets(5)
            }
            try offices.killActive()
            try offices.open()
        }
        try offices.awaitTickets(5)
        let tickets = offices.tickets
        #expect(tickets == tickets.sorted() && Set(tickets).count == tickets.count, "\(tickets)")
        // One at most per death was sold and not printed any more.
        #expect(tickets.last ?? 0 <= tickets.count + 6 && tickets.first == 1)
    }

    @Test("The least program of the headers' README builds, and counts")
    func least() throws {
        let text = try File.readText(CToolchain.root + "/Sources/SAF/Headers/README.md")
        let code = String(text.split(separator: "```c\n").last?.split(separator: "```").first ?? "")
        try #require(code.contains("saCkptInitialize"))
        let source = CToolchain.folder + "/least.c"
        _ = try CToolchain.installed()
        try File.writeAtomically(source, text: code, durable: false)
        let program = try CToolchain.compile(source)
        let stand = try CkptStand()
        for _ in 0..<3 { try stand.run(program) }
        try stand.run(CToolchain.compile("counted.c"), ["3"])
    }

    /// The processes of the example; the first that was started and lives is active.
    private final class Offices {
        let stand: CkptStand
        let program: String
        let environment: [String]
        private var running: [(process: StartedCommand, output: String)] = []
        private var outputs: [String] = []

        init(stand: CkptStand, program: String, library: String) {
            self.stand = stand
            self.program = program
            environment = ["LD_LIBRARY_PATH=" + library, "OFFICE=\(stand.pid)"]
        }

        func open() throws {
            let name = "office\(outputs.count)"
            let process = try stand.begin(program, environment: environment, as: name)
            let output = stand.root + "/\(name).out"
            running.append((process, output))
            outputs.append(output)
            let word = running.count == 1 ? "is active" : "stands by"
            try stand.wait(for: "\(name) \(word)") { [running] in
                try File.readText(output).contains(word) || !running.allSatisfy { $0.process.isRunning }
            }
            #expect(process.isRunning, "\((try? File.readText(output)) ?? "")")
        }

        /// SIGKILL, and waits until another one is active.
        func killActive() throws {
            let (process, _) = running.removeFirst()
            _ = try Process.kill(process.pid, .kill)
            _ = try process.wait()
            guard let next = running.first else { return }
            try stand.wait(for: "the take-over") {
                try File.readText(next.output).contains("is active") || !next.process.isRunning
            }
        }

        /// Numbers of the tickets that were sold, by whomever, in the order of the processes.
        var tickets: [Int] {
            outputs.flatMap { output in
                ((try? File.readText(output)) ?? "").split(separator: "\n").compactMap { line in
                    line.hasPrefix("ticket ") ? Int(line.dropFirst(7)) : nil
                }
            }
        }

        func awaitTickets(_ more: Int) throws {
            let count = tickets.count
            try stand.wait(for: "\(more) more tickets than \(count)") {
                tickets.count >= count + more || !running.allSatisfy { $0.process.isRunning }
            }
            for (process, output) in running {
                #expect(process.isRunning, "\((try? File.readText(output)) ?? "")")
            }
        }
    }
}
