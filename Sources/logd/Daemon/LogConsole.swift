import CliClient
import CliProtocol
import LogProtocol
import LogShell

/// What logd answers on the console.
enum LogConsole {
    static func register(_ commands: LoopCommands, of daemon: LogDaemon) {
        registerStatus(commands, daemon)
        LogConsole.registerGlobal(commands, daemon)
        let stream = ArgumentSpec("stream", .choice(LogStream.local.map(\.description)), help: "which one")
        let severity = CommandSpec(
            name: "severity", help: "Shows or sets the threshold of a stream in all processes.",
            arguments: [
                stream,
                ArgumentSpec(
                    "severity", .choice(LogSeverity.allCases.map(\.description) + ["none"]), optional: true,
                    help: "EMERGENCY to TRACE; none: each process has its own"),
            ])
        commands.register(severity) { [unowned daemon] arguments, reply in
            guard let stream = named(arguments, reply) else { return }
            // Nil for the word "none"; others were refused before they came here.
            if let word = arguments["severity"] { daemon.setSeverity(LogSeverity(name: word), of: stream) }
            let now = daemon.severity(of: stream).map(\.description)
            reply.either(
                text: "\(stream): \(now ?? "none set; each process has its own CL_LOG_SEVERITY")",
                json: ["stream": .string(stream.description), "severity": now.map { .string($0) } ?? .null])
        }
        let rules = CommandSpec(
            name: "rules", help: "Shows the filter rules, or replaces them.",
            arguments: [
                ArgumentSpec(
                    "rule", .text, optional: true, repeated: true,
                    help: "(Node:Program.Area.Context)[File]=SEVERITY, or none")
            ])
        commands.register(rules) { [unowned daemon] arguments, reply in
            let words = arguments.all("rule")
            if !words.isEmpty {
                let mistakes = daemon.setRules(words == ["none"] ? "" : words.joined(separator: "\n"))
                guard mistakes.isEmpty else { return reply.fail(mistakes.joined(separator: "\n")) }
            }
            let now = daemon.status.rules
            reply.either(text: now.isEmpty ? "no rules" : now, json: ["rules": .string(now)])
        }
        let rotation = CommandSpec(
            name: "rotation",
            help: "Shows or sets when a stream's file is full and how many are kept, until logd ends.",
            arguments: [
                stream,
                ArgumentSpec(
                    "bytes", .integer(Int64(LogLimits.fileBytesMin)...Int64(LogLimits.fileBytesMax)), optional: true,
                    help: "bytes of a file"),
                ArgumentSpec("files", .integer(1...Int64(LogLimits.filesMax)), optional: true, help: "files kept"),
            ])
        commands.register(rotation) { [unowned daemon] arguments, reply in
            guard let stream = named(arguments, reply),
                let old = daemon.status.streams.first(where: { $0.stream == stream })
            else { return }
            let bytes = arguments.integer("bytes").map { UInt64($0) } ?? old.fileBytesMax
            let count = arguments.integer("files").map { Int($0) } ?? Int(old.filesMax)
            daemon.setRotation(stream, fileBytesMax: bytes, filesMax: count)
            reply.either(
                text: "\(stream): \(count) files of at most \(bytes) bytes",
                json: [
                    "stream": .string(stream.description), "fileBytes": .integer(Int64(clamping: bytes)),
                    "files": .integer(Int64(count)),
                ])
        }
    }

    private static func named(_ arguments: CommandArguments, _ reply: CommandReply) -> LogStream? {
        let word = arguments["stream"] ?? ""
        if let stream = LogStream(name: word) { return stream }
        reply.fail("'\(word)' is no stream; expected system or application")
        return nil
    }

    private static func registerStatus(_ commands: LoopCommands, _ daemon: LogDaemon) {
        let status = CommandSpec(name: "status", help: "Shows streams, files, rings and captured outputs.")
        commands.register(status) { [unowned daemon] _, reply in
            let status = daemon.status
            reply.either(text: text(status), json: json(status))
        }
    }

    private static func text(_ status: LogStatus) -> String {
        var lines: [String] = []
        for stream in status.streams {
            lines.append("\(stream.stream)  \(stream.file.isEmpty ? "no file yet" : stream.file)")
            lines.append(
                "  \(stream.fileBytes) of \(stream.fileBytesMax) bytes, \(stream.filesMax) files kept, severity "
                    + (stream.severity?.description ?? "as each process has it"))
            lines.append(
                "  \(stream.records) lines, \(stream.bytes) bytes written, \(stream.dropped) lost, "
                    + "\(stream.writeErrors) errors"
                    + (stream.lastError.isEmpty ? "" : ": \(stream.lastError)"))
        }
        for ring in status.rings {
            lines.append(
                "ring    \(ring.program).\(ring.process)  \(ring.records) records, \(ring.lost) lost, "
                    + "\(ring.corrupt) corrupt"
            )
        }
        for output in status.outputs {
            lines.append(
                "output  \(output.component) \(output.process) \(output.output)  \(output.bytes) bytes, "
                    + "\(output.suppressedBytes) more suppressed in \(output.suppressions) times"
                    + (output.isSuppressed ? ", now too" : ""))
        }
        return lines.joined(separator: "\n")
    }

    private static func json(_ status: LogStatus) -> JSONValue {
        func number(_ value: UInt64) -> JSONValue { .integer(Int64(clamping: value)) }
        let streams = status.streams.map { stream -> JSONValue in
            [
                "stream": .string(stream.stream.description), "file": .string(stream.file),
                "fileBytes": number(stream.fileBytes), "fileBytesMax": number(stream.fileBytesMax),
                "filesMax": .integer(Int64(stream.filesMax)),
                "severity": stream.severity.map { .string($0.description) } ?? .null, "records": number(stream.records),
                "bytes": number(stream.bytes),
                "dropped": number(stream.dropped), "writeErrors": number(stream.writeErrors),
                "lastError": .string(stream.lastError),
            ]
        }
        let rings = status.rings.map { ring -> JSONValue in
            [
                "pid": .integer(Int64(ring.process)), "program": .string(ring.program), "records": number(ring.records),
                "lost": number(ring.lost), "corrupt": number(ring.corrupt),
            ]
        }
        let outputs = status.outputs.map { output -> JSONValue in
            [
                "component": .string(output.component.description), "pid": .integer(Int64(output.process)),
                "output": .string(output.output.description), "bytes": number(output.bytes),
                "suppressions": number(output.suppressions), "suppressedBytes": number(output.suppressedBytes),
                "suppressed": .bool(output.isSuppressed),
            ]
        }
        return [
            "streams": .array(streams), "rings": .array(rings), "outputs": .array(outputs),
            "rules": .string(status.rules),
        ]
    }
}
