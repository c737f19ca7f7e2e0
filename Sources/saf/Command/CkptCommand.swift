import ArgumentParser
import CkptClient
import CkptProtocol
import CliProtocol
import OSAL
import SAFTypes
import SafText

struct CkptCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ckpt", abstract: "Looks into checkpoints, watches and changes them.",
        discussion: """
            Names may be short, as long as they say which. A section is named by its
            id as `saf ckpt sections` shows it, also 0x… for one that is no text; '' is
            the default section.

            Example: saf ckpt list
            Example: saf ckpt show wordcount
            Example: saf ckpt dump wordcount --section position
            Example, its bytes: saf ckpt dump wordcount --section position --raw > file
            Example: saf ckpt watch wordcount
            Example: saf ckpt write wordcount position --hex 00000007
            Example, from a file: saf ckpt write wordcount position --create < file
            Example: saf ckpt retention wordcount 10m
            """,
        subcommands: [
            List.self, Show.self, Sections.self, Dump.self, Watch.self, Write.self, Delete.self, Unlink.self,
            Retention.self, Active.self,
        ])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "Lists the checkpoints of the cluster and where their replicas are; on a node alone, its own.",
            discussion: """
                Each line: name, what is in it, the number of its last change, and who has it
                open; on several nodes each replica with its node and how far it is.

                Example: saf ckpt list
                Example, for a script: saf ckpt list --json
                """)
        @Flag(help: "One JSON object a line.") var json = false

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let own = try checkpoints.all()
            checkpoints.warnOfTrouble()
            guard let cluster = try checkpoints.cluster() else {
                for checkpoint in own {
                    StandardOutput.write(
                        json ? Checkpoints.json(checkpoint).text() + "\n" : Self.line(checkpoint))
                }
                return
            }
            for checkpoint in cluster {
                let summary = own.first { $0.checkpoint == checkpoint.checkpoint }
                StandardOutput.write(
                    json ? ReplicaText.json(checkpoint, summary).text() + "\n" : ReplicaText.line(checkpoint, summary))
            }
        }

        private static func line(_ checkpoint: CheckpointSummary) -> String {
            let descriptor = checkpoint.descriptor
            let openers = checkpoint.openers.map { "pid \($0.processID)" }.joined(separator: ", ")
            return "\(checkpoint.name)  \(descriptor.sectionCount) sections, "
                + "\(PrintableBytes.size(descriptor.memoryUsed)), change \(descriptor.change), "
                + (openers.isEmpty ? "not open\n" : "open in \(openers)\n")
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show",
            abstract: "Shows one checkpoint: on several nodes every replica; attributes, openers and sections here.",
            discussion: """
                Of a replica: node, state, epoch (greater with each change of the active
                replica), the number of its last change, and how many it lacks. Openers and
                sections are those of this node; where it has no replica ask another node.

                Example: saf ckpt show wordcount
                Example, for a script: saf ckpt show wordcount --json
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Flag(help: "One JSON object.") var json = false

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let cluster = try checkpoints.cluster()
            let shared = try cluster.map { try checkpoints.find(name, among: $0) }
            // A node without a replica knows only where there are some.
            let own = try shared.map { shared in try checkpoints.all().first { $0.checkpoint == shared.checkpoint } }
            if let shared, own == .some(nil) {
                let text = json ? ReplicaText.json(shared, nil).text() + "\n" : ReplicaText.text(shared)
                return StandardOutput.write(text)
            }
            let checkpoint = try own.flatMap { $0 } ?? checkpoints.find(name)
            let sections = try checkpoints.sections(of: checkpoint.name, dataMax: Checkpoints.preview)
            if json {
                var members: [JSONValue.Member] = []
                let known = shared.map { ReplicaText.json($0, checkpoint) } ?? Checkpoints.json(checkpoint)
                if case .object(let own) = known { members = own }
                members.append(.init("sections", .array(sections.map { Checkpoints.json($0) })))
                return StandardOutput.write(JSONValue.object(members).text() + "\n")
            }
            StandardOutput.write(shared.map(ReplicaText.text) ?? "")
            StandardOutput.write(Checkpoints.text(checkpoint))
            for section in sections { StandardOutput.write("  \(Checkpoints.line(section))\n") }
        }
    }

    struct Sections: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "sections",
            abstract: "Lists a checkpoint's sections: id, size, when changed, when it expires, how its data begins.",
            discussion: """
                An id that is no text is shown as 0x…, and may be given so to other commands.

                Example: saf ckpt sections wordcount
                Example, for a script: saf ckpt sections wordcount --json
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Flag(help: "One JSON object a line.") var json = false

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let checkpoint = try checkpoints.name(name)
            let sections = try checkpoints.sections(of: checkpoint, dataMax: Checkpoints.preview)
            for section in sections {
                StandardOutput.write((json ? Checkpoints.json(section).text() : Checkpoints.detail(section)) + "\n")
            }
            if sections.isEmpty, !json { StandardError.write("saf: \(checkpoint) has no sections\n") }
        }
    }

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "dump", abstract: "Writes the data of a checkpoint's sections, as hexadecimal or as it is.",
            discussion: """
                A corrupted section is named and left out; `saf ckpt write` or `delete` repairs it.

                Example: saf ckpt dump wordcount
                Example, one section as text: saf ckpt dump wordcount --section title --text
                Example, its bytes: saf ckpt dump wordcount --section position --raw > file
                Example, for a script: saf ckpt dump wordcount --json
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Option(help: "Only this section.", completion: Completions.sections) var section: String?
        @Flag(help: "The bytes as they are; needs --section.") var raw = false
        @Flag(help: "As text, where it is text, instead of hexadecimal.") var text = false
        @Flag(help: "One JSON object a line for each section: id, size, data in hexadecimal.") var json = false

        func validate() throws {
            if [raw, json, text].count(where: { $0 }) > 1 {
                throw ValidationError("one of --raw, --text and --json expected, several found")
            }
            if raw, section == nil {
                throw ValidationError("--raw needs --section: bytes of several sections cannot be told apart")
            }
        }

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let checkpoint = try checkpoints.name(name)
            let all = try checkpoints.sections(of: checkpoint, dataMax: Int(UInt32.max))
            let wanted = try section.map { try Checkpoints.section($0, among: all.map(\.id), of: checkpoint) }
            let sections = all.filter { wanted == nil || $0.id == wanted }
            for found in sections {
                let content = try checkpoints.complete(found, of: checkpoint)
                if content.descriptor.state == .corrupted, !json {
                    StandardError.write(
                        "saf: section \(Checkpoints.title(content.id)) is corrupted: it cannot be read until it is "
                            + "overwritten or deleted\n")
                    continue
                }
                if json {
                    StandardOutput.write(Checkpoints.json(content, withData: true).text() + "\n")
                } else if raw {
                    let bytes = ContiguousArray(content.data)
                    bytes.withUnsafeBytes { raw in
                        try? IO.writeAll(StandardOutput.raw, raw)  // a reader that has gone wants no more
                    }
                } else {
                    StandardOutput.write(
                        "\(Checkpoints.title(content.id))  \(content.data.count) bytes\n"
                            + (text ? PrintableBytes.text(content.data) + "\n" : PrintableBytes.dump(content.data)))
                }
            }
        }
    }
}
