import ArgumentParser
import CliClient
import CliProtocol
import IOC
import LogClient
import LogProtocol
import OSAL
import SafText

struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Shows log streams, and sets what is let through.",
        subcommands: [Tail.self, Rules.self, Severity.self, Status.self, Streams.self])

    private static func asking<Value>(
        _ what: String, changes: Bool = false, _ body: (LogAdmin) throws(CallError) -> Value
    ) throws -> Value {
        try Tool.requireNode()
        do throws(CallError) {
            return try body(LogAdmin(places: Tool.places))
        } catch {
            throw Tool.explain(error, doing: what, by: .logd, mayHaveChanged: changes)
        }
    }

    struct Rules: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rules", abstract: "Shows the filter rules, or replaces them by those of a file.",
            discussion: """
                One rule a line; the most exact one decides, * stands for anything:
                (Node:Program.Area.Context)[File]=SEVERITY

                They hold in every process of the node at once, until they are replaced.
                Rules that should come back with logd belong into logfilter.txt in
                SAF_CONFIG_DIR, which logd reads whenever it changes.

                Example: saf log rules my-filter.txt
                Example, no rules any more: saf log rules /dev/null
                """)
        @Argument(help: "A file of rules.", completion: .file()) var file: String?

        func run() throws {
            guard let file else {
                let rules = try asking("log rules") { (admin) throws(CallError) in try admin.status().rules }
                return StandardOutput.write(rules.isEmpty ? "no rules\n" : rules.hasSuffix("\n") ? rules : rules + "\n")
            }
            let text: String
            do throws(OSError) {
                text = try File.readText(file, limit: LogLimits.ruleBytesMax + 1)
            } catch {
                throw Tool.fail("saf: the rules cannot be read: \(error)", .refused)
            }
            let wrong = FilterRules.parse(text).mistakes
            for mistake in wrong { StandardError.write("\(file):\(mistake.line): \(mistake.problem)\n") }
            guard wrong.isEmpty else { throw ExitCode(Tool.Status.refused.rawValue) }
            let refused = try asking("log rules \(file)", changes: true) { (admin) throws(CallError) in
                try admin.setRules(text)
            }
            guard refused.isEmpty else {
                throw Tool.fail("saf: \(file): \(refused.joined(separator: "\n"))", .refused)
            }
        }
    }

    struct Severity: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "severity", abstract: "Shows or sets the threshold of a stream in all processes.",
            discussion: """
                Example: saf log severity application debug
                Example, each process has its own again: saf log severity application none
                """)
        @Argument(
            help: "application or system of this node; saLogSystem of the cluster.",
            completion: .list(Tail.streams + ["saLogSystem"]))
        var stream: String
        @Argument(
            help: "Nothing less severe than this; none: as each process's CL_LOG_SEVERITY says.",
            completion: .list(LogLine.severities + ["none"]))
        var level: String?

        func validate() throws {
            guard LogStream(name: stream) != nil else {
                throw ValidationError("there is no stream '\(stream)'; application, system or saLogSystem expected")
            }
            if let level, level != "none", LogSeverity(name: level) == nil {
                let choices = (LogLine.severities + ["none"]).joined(separator: ", ")
                throw ValidationError("'\(level)' is no severity; one of \(choices) expected")
            }
        }

        func run() throws {
            guard let stream = LogStream(name: stream) else { return }
            if stream.isGlobal { return try runGlobal(stream) }
            let now = try asking("log severity", changes: level != nil) { (admin) throws(CallError) in
                if let level { try admin.setSeverity(LogSeverity(name: level), of: stream) }
                return try admin.status().streams.first { $0.stream == stream }?.severity
            }
            let text = now?.description ?? "none set; each process has its own CL_LOG_SEVERITY"
            StandardOutput.write("\(stream): \(text)\n")
        }

        /// What a global stream lets through is the same in the whole cluster.
        private func runGlobal(_ stream: LogStream) throws {
            let now = try asking("log severity", changes: level != nil) { (admin) throws(CallError) in
                if let level { try admin.setSeverity(LogSeverity(name: level), of: stream) }
                return try admin.globalStatus().streams.first { $0.stream == stream }?.attributes.severities
            }
            let names = LogSeverity.allCases.filter { now?.contains($0) ?? false }.map(\.description)
            StandardOutput.write("\(stream): \(names.joined(separator: " "))\n")
        }
    }

    struct Status: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "status", abstract: "Shows streams, files, rings and captured outputs.")
        @Flag(help: "One JSON object on one line, with everything there is.") var json = false

        func run() throws { try LogCommand.show("status", json: json) }
    }

    struct Streams: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "streams",
            abstract: "Shows the global streams, who writes their files, and what waits on each node.",
            discussion: """
                A global stream has one order of records in the cluster; every controller
                has its file in SAF_LOG_DIR. The owner gives the order. What a node has
                taken from its writers is on its way until it is in the files.

                Example: saf log streams
                """)
        @Flag(help: "One JSON object on one line, with everything there is.") var json = false

        func run() throws { try LogCommand.show("streams", json: json) }
    }

    /// The form is logd's own, as on the console.
    private static func show(_ command: String, json: Bool) throws {
        try Tool.requireNode()
        do throws(CallError) {
            let output = try Console(places: Tool.places).run(["logd", command], format: json ? .json : .text)
            guard output.status == .done else { throw CallError(.tryAgain, output.text) }
            StandardOutput.write(output.text)
        } catch {
            throw Tool.explain(error, doing: "log \(command)", by: .logd)
        }
    }

    struct Tail: ParsableCommand {
        static let streams = ["application", "system"]
        static let global = LogStream.wellKnown.map(\.description)
        static let configuration = CommandConfiguration(
            commandName: "tail", abstract: "Shows the last lines of the log.",
            discussion: """
                system is what the middleware says, application what components say and
                print. The files are those logd writes in SAF_LOG_DIR; they are shown also
                when no node is running. With --follow, rotation is followed, too.

                A global stream is named by the beginning of its files' names, on a
                controller: saLogSystem, saLogAlarm, saLogNotification, or what it was
                created with (saf log streams).

                Example: saf log tail -f --severity warning
                Example: saf log tail --stream system -n 100
                Example: saf log tail --stream saLogSystem -f
                """)
        @Flag(name: .shortAndLong, help: "Goes on until interrupted.") var follow = false
        @Option(
            help: "The stream: application, system, both in the order of time, or a global one.",
            completion: .list(streams + ["all"] + global))
        var stream = "all"
        @Option(help: "Nothing less severe than this.", completion: .list(LogLine.severities)) var severity: String?
        @Option(name: .shortAndLong, help: "How many lines.") var number = 20

        func validate() throws {
            guard (0...1_000_000).contains(number) else {
                throw ValidationError("--number is \(number); 0 to 1000000 expected")
            }
            guard StreamAttributes(fileName: stream).fault == nil else {
                throw ValidationError(
                    "'\(stream)' is no stream; application, system, all or the file name of a global one expected")
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
