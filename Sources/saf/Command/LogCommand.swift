import ArgumentParser
import OSAL
import SafText

struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Shows log streams.", subcommands: [Tail.self])

    struct Tail: ParsableCommand {
        static let streams = ["application", "system"]
        static let configuration = CommandConfiguration(
            commandName: "tail", abstract: "Shows the last lines of the log.",
            discussion: """
                system is what the middleware says, application what components say and print. The files are those \
                logd writes in SAF_LOG_DIR; they are shown also when no node is running. With --follow, rotation is \
                followed, too.

                Example: saf log tail -f --severity warning
                Example: saf log tail --stream system -n 100
                """)
        @Flag(name: .shortAndLong, help: "Goes on until interrupted.") var follow = false
        @Option(
            help: "The stream: application, system, or both in the order of time.",
            completion: .list(streams + ["all"]))
        var stream = "all"
        @Option(help: "Nothing less severe than this.", completion: .list(LogLine.severities)) var severity: String?
        @Option(name: .shortAndLong, help: "How many lines.") var number = 20

        func validate() throws {
            guard (0...1_000_000).contains(number) else {
                throw ValidationError("--number is \(number); 0 to 1000000 expected")
            }
            guard stream == "all" || Self.streams.contains(stream) else {
                throw ValidationError("there is no stream '\(stream)'; application, system or all expected")
            }
            if let severity, LogLine.severity(named: severity) == nil {
                throw ValidationError(
                    "'\(severity)' is no severity; one of \(LogLine.severities.joined(separator: ", ")) expected")
            }
        }

        func run() throws {
            let folder = Tool.places.logDirectory
            var readers = (stream == "all" ? Self.streams : [stream]).map { LogFileReader(folder: folder, stream: $0) }
            do {
                var lines: [String] = []
                for index in readers.indices {
                    lines = LogLine.merged(lines, try readers[index].lastLines(number, admitting: admits))
                }
                if !follow, readers.allSatisfy({ !$0.hasFile }) { return try tellNothing(folder) }
                for line in lines.suffix(number) { StandardOutput.write(line + "\n") }
                while follow {
                    var fresh: [String] = []
                    for index in readers.indices {
                        fresh = LogLine.merged(fresh, try readers[index].newLines().filter(admits))
                    }
                    for line in fresh { StandardOutput.write(line + "\n") }
                    Tool.rest(.milliseconds(200))
                }
            } catch let error as OSError {
                throw Tool.fail("saf: the log cannot be read: \(error)\nRun it as root or as the user logd runs as.")
            }
        }

        private func tellNothing(_ folder: String) throws {
            throw Tool.fail(
                """
                saf: there is no log file\(stream == "all" ? "" : " of the stream '\(stream)'") yet.
                Looked in \(folder) (SAF_LOG_DIR). A node writes one when there is something to log: amfd --guard
                """, .unavailable)
        }

        private func admits(_ line: String) -> Bool {
            LogLine.admits(line, severity: severity.flatMap { LogLine.severity(named: $0) })
        }
    }
}
