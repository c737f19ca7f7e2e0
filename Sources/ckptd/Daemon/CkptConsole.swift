import CkptEngine
import CkptProtocol
import CliClient
import CliProtocol
import SAFTypes

/// What ckptd answers on the console. Everything here only looks.
enum CkptConsole {
    /// Sections and bytes that one answer looks at, so that nobody waits for a curious operator.
    static let sectionsMax = 1_000
    static let bytesMax: Int64 = 65_536
    private static let preview = 48

    static func register(_ commands: LoopCommands, of shell: CkptShell) {
        registerStatus(commands, shell)
        if let keeper = shell.keeper { registerCluster(commands, keeper) }
        let list = CommandSpec(
            name: "list", help: "Lists the checkpoints of this node: sections, memory, last change, how often open.")
        commands.register(list) { [unowned shell] _, reply in
            let all = shell.summaries
            reply.either(
                text: all.isEmpty
                    ? "no checkpoints; a process makes one with Checkpoint.open(…, creating:)" : lines(all),
                json: .array(all.map(json)))
        }
        let name = ArgumentSpec("checkpoint", .text, help: "its name, or a short form that is unambiguous")
        let show = CommandSpec(
            name: "show",
            help: "Shows one checkpoint: its limits, how long it is kept when nobody has it open, openers.",
            arguments: [name])
        commands.register(show) { [unowned shell] arguments, reply in
            guard let found = find(arguments, shell, reply) else { return }
            reply.either(text: text(found), json: json(found))
        }
        registerSections(commands, shell, name)
        registerOpeners(commands, shell)
    }

    private static func registerStatus(_ commands: LoopCommands, _ shell: CkptShell) {
        let status = CommandSpec(
            name: "status", help: "Sums up: checkpoints, memory they use, client processes, where the RAM files are.")
        commands.register(status) { [unowned shell] _, reply in
            let all = shell.summaries
            let used = all.reduce(UInt64(0)) { $0 + $1.descriptor.memoryUsed }
            let (sessions, absent) = shell.sessionCounts
            let openings = all.reduce(0) { $0 + $1.openers.count }
            let unlinked = all.count { $0.isUnlinked }
            let durability = shell.durability
            reply.either(
                text: """
                    \(all.count) checkpoints\(unlinked > 0 ? " (\(unlinked) unlinked, still open)" : ""), \
                    \(PrintableBytes.size(used)) of data
                    open \(openings) times by \(sessions) processes\
                    \(absent > 0 ? ", \(absent) of them not back since their connection was lost" : "")
                    RAM files in \(shell.directory)\
                    \(shell.lateRefusals > 0 ? "\n\(shell.lateRefusals) updates refused: they came too late" : "")
                    \(durabilityText(durability, shell.databasePath))
                    """,
                json: [
                    "checkpoints": .integer(Int64(all.count)), "unlinked": .integer(Int64(unlinked)),
                    "memoryUsed": .integer(Int64(clamping: used)), "openings": .integer(Int64(openings)),
                    "lateRefusals": .integer(Int64(clamping: shell.lateRefusals)),
                    "processes": .integer(Int64(sessions)), "absentProcesses": .integer(Int64(absent)),
                    "directory": .string(shell.directory), "database": .string(shell.databasePath),
                    "persistent": .integer(Int64(durability.checkpoints)),
                    "notDurable": .integer(Int64(durability.behind)),
                    "answersWaitingForDisk": .integer(Int64(durability.waitingAnswers)),
                    "durabilityTrouble": durability.trouble.map { .string($0.reason) } ?? .null,
                ])
        }
    }

    private static func durabilityText(_ durability: CkptEngine.DurabilitySummary, _ path: String) -> String {
        guard let trouble = durability.trouble else {
            if durability.checkpoints == 0 { return "none of them is persistent" }
            let behind = durability.behind == 0 ? "all durable" : "\(durability.behind) being written"
            return "\(durability.checkpoints) of them persistent, \(behind), in \(path)"
        }
        return "DEGRADED: what is persistent cannot be made durable: \(trouble.reason); "
            + "\(durability.behind) of \(durability.checkpoints) are behind, \(durability.waitingAnswers) answers wait"
    }

    private static func registerSections(_ commands: LoopCommands, _ shell: CkptShell, _ name: ArgumentSpec) {
        let sections = CommandSpec(
            name: "sections", help: "Lists a checkpoint's sections with their size and the beginning of their data.",
            arguments: [name])
        commands.register(sections) { [unowned shell] arguments, reply in
            guard let found = find(arguments, shell, reply) else { return }
            let stored = shell.sections(of: found.checkpoint, limit: sectionsMax)
            let rows = stored.map { ($0.descriptor, shell.data(of: found.checkpoint, $0, bytesMax: preview)) }
            reply.either(
                text: rows.isEmpty ? "no sections" : rows.map(line).joined(separator: "\n") + more(found, stored.count),
                json: .array(rows.map(json)))
        }
        let dump = CommandSpec(
            name: "dump",
            help: "Shows data as hexadecimal and text. `saf ckpt dump --raw` gives it as it is, however long.",
            arguments: [
                name,
                ArgumentSpec("section", .text, optional: true, help: "its id as `sections` shows it; all without it"),
                ArgumentSpec("bytes", .integer(1...bytesMax), optional: true, help: "of each section; 1024 without it"),
            ])
        commands.register(dump) { [unowned shell] arguments, reply in
            guard let found = find(arguments, shell, reply) else { return }
            let all = shell.sections(of: found.checkpoint, limit: sectionsMax)
            let wanted = arguments["section"]
            let stored = all.filter { wanted == nil || title($0.descriptor.id) == wanted }
            if let wanted, stored.isEmpty {
                let known = all.prefix(20).map { title($0.descriptor.id) }.joined(separator: ", ")
                return reply.fail("\(found.name) has no section '\(wanted)'; it has: \(known)")
            }
            let limit = Int(arguments.integer("bytes") ?? 1_024)
            let rows = stored.map { ($0.descriptor, shell.data(of: found.checkpoint, $0, bytesMax: limit)) }
            reply.either(text: rows.map(dumped).joined(), json: .array(rows.map(json)))
        }
    }

    private static func registerOpeners(_ commands: LoopCommands, _ shell: CkptShell) {
        let openers = CommandSpec(
            name: "openers", help: "Lists who has a checkpoint open, and for what; of all checkpoints without a name.",
            arguments: [ArgumentSpec("checkpoint", .text, optional: true, help: "its name, or a short form")])
        commands.register(openers) { [unowned shell] arguments, reply in
            var chosen = shell.summaries
            if arguments["checkpoint"] != nil {
                guard let found = find(arguments, shell, reply) else { return }
                chosen = [found]
            }
            let rows = chosen.flatMap { summary in summary.openers.map { (summary, $0) } }
            let text = rows.map { "\($0.0.name)  \(opener($0.1))" }.joined(separator: "\n")
            reply.either(
                text: rows.isEmpty ? "nobody has one open" : text,
                json: .array(
                    rows.map { summary, opener in
                        [
                            "checkpoint": .string(summary.name.description), "pid": .integer(Int64(opener.processID)),
                            "reads": .bool(opener.flags.contains(.read)),
                            "writes": .bool(opener.flags.contains(.write)),
                            "connected": .bool(opener.isConnected),
                        ]
                    }))
        }
    }

    private static func find(
        _ arguments: CommandArguments, _ shell: CkptShell, _ reply: CommandReply
    ) -> CheckpointSummary? {
        let word = arguments["checkpoint"] ?? ""
        let all = shell.summaries
        switch NameMatching.find(word, among: all.map(\.name.description)) {
        case .found(let name): return all.last { $0.name.description == name }  // an unlinked one gives way to a newer
        case .ambiguous(let fitting):
            reply.fail("'\(word)' may be \(fitting.joined(separator: " or ")); say more of the name")
        case .unknown(let nearest):
            let hint = nearest.isEmpty ? "" : "; did you mean \(nearest.joined(separator: " or "))?"
            reply.fail("there is no checkpoint '\(word)' on this node\(hint); `ckptd list` shows what there is")
        }
        return nil
    }

    // MARK: Words

    private static func lines(_ all: [CheckpointSummary]) -> String {
        all.map { summary in
            let descriptor = summary.descriptor
            return
                "\(summary.name)  \(descriptor.sectionCount) sections, \(PrintableBytes.size(descriptor.memoryUsed)), "
                + "change \(descriptor.change), open \(summary.openers.count) times"
                + (summary.isUnlinked ? ", unlinked" : "")
        }.joined(separator: "\n")
    }

    private static func text(_ summary: CheckpointSummary) -> String {
        let attributes = summary.descriptor.attributes
        let kept =
            attributes.retentionDuration == .saTimeEnd
            ? "for ever" : "\(attributes.retentionDuration / 1_000_000_000) s"
        var lines = [
            "\(summary.name)\(summary.isUnlinked ? "  (unlinked: ends with its last close)" : "")",
            "change \(summary.descriptor.change)",
            "\(summary.descriptor.sectionCount) of at most \(attributes.sectionsMax) sections",
            "\(PrintableBytes.size(summary.descriptor.memoryUsed)) of at most "
                + "\(PrintableBytes.size(attributes.checkpointSize)), a section at most "
                + PrintableBytes.size(attributes.sectionSizeMax),
            "kept \(kept) when nobody has it open"
                + (summary.retentionLeft == .saTimeEnd ? "" : "; \(summary.retentionLeft / 1_000_000_000) s are left"),
        ]
        if attributes.flags.contains(.persistent) { lines.append("persistent: on the disk of each of its nodes, too") }
        lines.append(mode(attributes.flags))
        if attributes.flags.needsActiveReplicaSet {
            lines.append(summary.hasActiveReplica ? "the active replica is here" : "no active replica here")
        }
        if summary.subscriberCount > 0 { lines.append("\(summary.subscriberCount) of the openers follow its updates") }
        return (lines + summary.openers.map { "open in \(opener($0))" }).joined(separator: "\n")
    }

    private static func mode(_ flags: CreationFlags) -> String {
        let update =
            flags.contains(.writeAllReplicas)
            ? "synchronous" : flags.contains(.writeActiveReplicaWeak) ? "asynchronous, weak" : "asynchronous"
        return update + (flags.contains(.collocated) ? ", collocated" : "")
            + (flags.contains(.persistent) ? ", persistent" : "")
    }

    private static func opener(_ opener: CheckpointSummary.Opener) -> String {
        let uses = [opener.flags.contains(.read) ? "reads" : nil, opener.flags.contains(.write) ? "writes" : nil]
        return "pid \(opener.processID)  \(uses.compactMap { $0 }.joined(separator: ", "))"
            + (opener.isConnected ? "" : "  (not back since its connection was lost)")
    }

    private static func title(_ id: SectionID) -> String {
        id.isDefault ? "(default)" : PrintableBytes.text(id.bytes)
    }

    private static func line(_ section: SectionDescriptor, _ data: [UInt8]?) -> String {
        "\(title(section.id))  \(PrintableBytes.size(section.size))  "
            + (data.map(PrintableBytes.text) ?? "(corrupted: overwrite or delete it)")
    }

    private static func more(_ summary: CheckpointSummary, _ shown: Int) -> String {
        let left = Int(summary.descriptor.sectionCount) - shown
        return left > 0 ? "\n… and \(left) more; saf ckpt show \(summary.name) lists all" : ""
    }

    private static func dumped(_ section: SectionDescriptor, _ data: [UInt8]?) -> String {
        guard let data else { return "\(title(section.id))  corrupted: overwrite or delete it\n" }
        let shown = UInt64(data.count) < section.size ? ", the first \(data.count)" : ""
        return "\(title(section.id))  \(section.size) bytes\(shown)\n" + PrintableBytes.dump(data)
    }

    private static func json(_ summary: CheckpointSummary) -> JSONValue {
        let descriptor = summary.descriptor
        return [
            "name": .string(summary.name.description), "change": .integer(Int64(clamping: descriptor.change)),
            "sectionCount": .integer(Int64(descriptor.sectionCount)),
            "sectionsMax": .integer(Int64(descriptor.attributes.sectionsMax)),
            "memoryUsed": .integer(Int64(clamping: descriptor.memoryUsed)),
            "checkpointSize": .integer(Int64(clamping: descriptor.attributes.checkpointSize)),
            "retentionNanoseconds": .integer(descriptor.attributes.retentionDuration),
            "persistent": .bool(descriptor.attributes.flags.contains(.persistent)),
            "mode": .string(mode(descriptor.attributes.flags)), "activeHere": .bool(summary.hasActiveReplica),
            "unlinked": .bool(summary.isUnlinked), "subscribers": .integer(Int64(summary.subscriberCount)),
            "openers": .array(summary.openers.map { .integer(Int64($0.processID)) }),
        ]
    }

    private static func json(_ section: SectionDescriptor, _ data: [UInt8]?) -> JSONValue {
        [
            "id": .string(title(section.id)), "size": .integer(Int64(clamping: section.size)),
            "corrupted": .bool(data == nil), "data": data.map { .string(PrintableBytes.text($0)) } ?? .null,
        ]
    }
}
