import ArgumentParser
import CliClient
import CliProtocol
import IOC
import OSAL
import SAFTypes

struct ConsoleCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "console", abstract: "Runs the commands of any daemon or component.",
        discussion: """
            A line is OWNER COMMAND ARGUMENTS; `help` lists what is there. Given as
            arguments it is run at once; without arguments lines are read from the
            terminal (Tab completes, arrows recall) or from standard input. Whatever
            follows OWNER is the command's, also when it begins with a dash.

            Example: saf console clmd nodes
            Example: saf console --json wordcount/SU1/counter info

            Exit status of the last line: 0 done, 1 the command failed, 2 the line is
            wrong, 3 its owner is not there.
            """)

    @Flag(help: "JSON where a command has it.") var json = false
    @Option(help: "How long a command may take, in seconds.") var timeout = 10
    @Argument(parsing: .captureForPassthrough, help: "The command line.", completion: Completions.console)
    var line: [String] = []

    func validate() throws {
        // Everything from here on is passed through, so the parser leaves these to us.
        if let first = line.first, ["--help", "-h"].contains(first) { throw CleanExit.helpRequest(self) }
        guard (1...600).contains(timeout) else {
            throw ValidationError("--timeout is \(timeout); 1 to 600 seconds expected")
        }
    }

    func run() throws {
        try Tool.requireNode()
        let console = Console(places: Tool.places)
        let line = Array(self.line.first == "--" ? self.line.dropFirst() : self.line[...])
        if !line.isEmpty {
            let status = try run(line, on: console)
            if status != .done { throw ExitCode(Int32(status.rawValue)) }
            return
        }
        console.stayConnected()
        let input = ConsoleInput(owners: { (try? console.owners(timeLimit: .seconds(1))) ?? [] })
        var last = CommandStatus.done
        while let text = input.next() {
            do {
                let words = try ConsoleLine.words(of: text)
                if words.isEmpty { continue }
                if words == ["exit"] || words == ["quit"] { break }
                last = try run(words, on: console)
            } catch let error as ConsoleLine.Defect {
                StandardError.write("saf: \(error)\n")
                last = .usage
            } catch let code as ExitCode {
                last = CommandStatus(rawValue: UInt8(clamping: code.rawValue)) ?? .failed
                if !input.isTerminal { throw code }
            }
        }
        if last != .done { throw ExitCode(Int32(last.rawValue)) }
    }

    private func run(_ words: [String], on console: Console) throws -> CommandStatus {
        do throws(CallError) {
            let output = try console.run(words, format: json ? .json : .text, timeLimit: .seconds(timeout))
            let text = output.text.hasSuffix("\n") || output.text.isEmpty ? output.text : output.text + "\n"
            if output.status == .done { StandardOutput.write(text) } else { StandardError.write(text) }
            if output.status == .unavailable, words == ["status"], let silence = Tool.silence(of: .amfd) {
                StandardError.write(silence + "\n")
            }
            return output.status
        } catch {
            throw Tool.explain(
                error, doing: words.joined(separator: " "), by: .cliserver, mayHaveChanged: words.count > 1)
        }
    }
}
