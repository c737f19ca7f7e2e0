import ArgumentParser
import CkptClient
import CkptProtocol
import CliProtocol
import OSAL
import SAFTypes
import SafText

struct CkptCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ckpt", abstract: "Looks into checkpoints.",
        discussion: """
            Example: saf ckpt list
            Example: saf ckpt show wordcount
            Example: saf ckpt dump wordcount --section position
            Example, its bytes: saf ckpt dump wordcount --section position --raw > file
            """,
        subcommands: [List.self, Show.self, Dump.self])

    struct List: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "list",
            abstract: "Lists the checkpoints of the cluster and where their replicas are; on a node alone, its own.")
        @Flag(help: "One JSON object a line.") var json = false

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let own = try checkpoints.all()
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
            abstract: "Shows one checkpoint: on several nodes every replica; attributes, openers and sections here.")
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
            let sections = try checkpoints.sections(of: checkpoint.name, dataMax: 48)
            if json {
                var members: [JSONValue.Member] = []
                let known = shared.map { ReplicaText.json($0, checkpoint) } ?? Checkpoints.json(checkpoint)
                if case .object(let own) = known { members = own }
                members.append(.init("sections", .array(sections.map { Checkpoints.json($0) })))
                return StandardOutput.write(JSONValue.object(members).text() + "\n")
            }
            StandardOutput.write(shared.map(ReplicaText.text) ?? "")
            StandardOutput.write(Checkpoints.text(checkpoint))
            for section in sections {
                StandardOutput.write(
                    "  \(Checkpoints.title(section.id))  \(PrintableBytes.size(section.descriptor.size))  "
                        + "\(PrintableBytes.text(section.data))\n"
                )
            }
        }
    }

    struct Dump: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "dump", abstract: "Writes the data of a checkpoint's sections, as hexadecimal or as it is.")
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Option(help: "Only this section (its id as text).") var section: String?
        @Flag(help: "The bytes as they are; needs --section.") var raw = false
        @Flag(help: "One JSON object a line for each section: id, size, data in hexadecimal.") var json = false

        func validate() throws {
            if raw, json { throw ValidationError("--raw or --json expected, both found") }
            if raw, section == nil {
                throw ValidationError("--raw needs --section: bytes of several sections cannot be told apart")
            }
        }

        func run() throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let checkpoint = try checkpoints.find(name)
            let all = try checkpoints.sections(of: checkpoint.name, dataMax: Int(UInt32.max))
            let wanted = section.map { SectionID($0) }
            let sections = all.filter { wanted == nil || $0.id == wanted }
            if let section, sections.isEmpty {
                let known = all.prefix(20).map { Checkpoints.title($0.id) }.joined(separator: ", ")
                throw Tool.fail("saf: \(checkpoint.name) has no section '\(section)'; it has: \(known)")
            }
            for content in sections {
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
                            + PrintableBytes.dump(content.data))
                }
            }
        }
    }
}

/// Asks ckptd what the commands show.
struct Checkpoints {
    private let service = CheckpointService(places: Tool.places)
    /// Of each question.
    private let timeout: Duration

    init(timeout: Duration = .seconds(5)) { self.timeout = timeout }

    func all() throws -> [CheckpointSummary] {
        var found: [CheckpointSummary] = []
        var after = CheckpointID(rawValue: 0)
        while true {
            let page: AdminListReply
            do throws(AisError) {
                page = try service.list(after: after, timeout: timeout)
            } catch {
                throw failure(error, "ckpt list")
            }
            found += page.checkpoints
            guard page.hasMore, let last = page.checkpoints.last else { return found }
            after = last.checkpoint
        }
    }

    /// Every checkpoint of the cluster; nil on a node alone.
    func cluster() throws -> [ClusterCheckpoint]? {
        var found: [ClusterCheckpoint] = []
        var after = CheckpointID(rawValue: 0)
        while true {
            let page: ClusterListReply
            do throws(AisError) {
                page = try service.clusterList(after: after, timeout: timeout)
            } catch {
                if error == .notSupported { return nil }
                throw failure(error, "ckpt list")
            }
            found += page.checkpoints
            guard page.hasMore, let last = page.checkpoints.last else { return found }
            after = last.checkpoint
        }
    }

    func find(_ text: String) throws -> CheckpointSummary {
        let all = try all()
        let name = try Self.find(text, among: all.map(\.name.description), "on this node")
        guard let found = all.first(where: { $0.name.description == name }) else {
            throw Tool.fail("saf: there is no checkpoint '\(name)' on this node")
        }
        return found
    }

    /// An unlinked one gives way to a newer one of the same name.
    func find(_ text: String, among all: [ClusterCheckpoint]) throws -> ClusterCheckpoint {
        let name = try Self.find(text, among: all.map(\.name.description), "in the cluster")
        guard let found = all.last(where: { $0.name.description == name }) else {
            throw Tool.fail("saf: there is no checkpoint '\(name)' in the cluster")
        }
        return found
    }

    private static func find(_ text: String, among names: [String], _ place: String) throws -> String {
        switch NameMatching.find(text, among: names) {
        case .found(let name): return name
        case .ambiguous(let fitting):
            throw Tool.fail("saf: '\(text)' may be \(fitting.joined(separator: " or ")); say more of the name")
        case .unknown(let nearest):
            let hint = nearest.isEmpty ? "" : "; did you mean \(nearest.joined(separator: " or "))?"
            throw Tool.fail(
                "saf: there is no checkpoint '\(text)' \(place)\(hint)\nThe checkpoints there are: saf ckpt list")
        }
    }

    func sections(of name: SaName, dataMax: Int) throws -> [SectionContent] {
        var found: [SectionContent] = []
        var after: UInt64 = 0
        while true {
            do throws(AisError) {
                let page = try service.sections(of: name, after: after, dataMax: dataMax)
                found += page.snapshot.sections
                guard page.hasMore, let last = page.snapshot.sections.last else { return found }
                after = last.descriptor.serial
            } catch {
                throw failure(error, "ckpt \(name)")
            }
        }
    }

    private func failure(_ error: AisError, _ what: String) -> any Error {
        Tool.explain(CallErrorText.of(error, service.lastRefusal), doing: what, by: .ckptd)
    }

    static func title(_ id: SectionID) -> String { id.isDefault ? "(default section)" : PrintableBytes.text(id.bytes) }

    static func text(_ checkpoint: CheckpointSummary) -> String {
        let attributes = checkpoint.descriptor.attributes
        let used = PrintableBytes.size(checkpoint.descriptor.memoryUsed)
        let sizeMax = PrintableBytes.size(attributes.checkpointSize)
        var text = """
            \(checkpoint.name)
              change \(checkpoint.descriptor.change)
              \(checkpoint.descriptor.sectionCount) of at most \(attributes.sectionsMax) sections
              \(used) of at most \(sizeMax), a section at most \(PrintableBytes.size(attributes.sectionSizeMax))

            """
        for opener in checkpoint.openers {
            text +=
                "  open in pid "
                + "\(opener.processID)\(opener.isConnected ? "" : " (not back since ckptd was restarted)")\n"
        }
        return text
    }

    static func json(_ checkpoint: CheckpointSummary) -> JSONValue {
        let descriptor = checkpoint.descriptor
        return [
            "name": .string(checkpoint.name.description), "change": .integer(Int64(clamping: descriptor.change)),
            "sectionCount": .integer(Int64(descriptor.sectionCount)),
            "memoryUsed": .integer(Int64(clamping: descriptor.memoryUsed)),
            "sectionsMax": .integer(Int64(descriptor.attributes.sectionsMax)),
            "checkpointSize": .integer(Int64(clamping: descriptor.attributes.checkpointSize)),
            "retentionNanoseconds": .integer(descriptor.attributes.retentionDuration),
            "openers": .array(
                checkpoint.openers.map { ["pid": .integer(Int64($0.processID)), "connected": .bool($0.isConnected)] }),
        ]
    }

    static func json(_ section: SectionContent, withData: Bool = false) -> JSONValue {
        var members: [JSONValue.Member] = [
            .init("id", .string(PrintableBytes.text(section.id.bytes))),
            .init("size", .integer(Int64(clamping: section.descriptor.size))),
        ]
        if withData { members.append(.init("data", .string(PrintableBytes.hexadecimal(section.data)))) }
        return .object(members)
    }
}
