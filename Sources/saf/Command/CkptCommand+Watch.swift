import ArgumentParser
import CkptClient
import CkptProtocol
import CliProtocol
import OSAL
import SAFTypes
import SafText

extension CkptCommand {
    struct Watch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "watch", abstract: "Shows a checkpoint's updates live, and where its replicas are.",
            usage: """
                saf ckpt watch <name> [--section <section>] [--replicas]
                                [--count <count>] [--json]
                """,
            discussion: """
                First what it has, then each update as it is made, until interrupted; times
                are UTC. It opens the checkpoint for reading: a node without a replica has
                one meanwhile.

                Example: saf ckpt watch wordcount
                Example: saf ckpt watch wordcount --section position --json
                """)
        @Argument(help: "The checkpoint's name, or a short form of it.", completion: Completions.checkpoints)
        var name: String
        @Option(help: "Only this section.", completion: Completions.sections) var section: String?
        @Flag(help: "Only where the replicas are.") var replicas = false
        @Option(help: "Ends after so many lines.") var count: Int?
        @Flag(help: "One JSON object a line.") var json = false

        func validate() throws {
            if let count, count < 1 { throw ValidationError("--count is \(count); 1 or more expected") }
        }

        func run() async throws {
            try Tool.requireNode()
            let checkpoints = Checkpoints()
            let name = try checkpoints.name(name)
            let checkpoint: Checkpoint
            do throws(AisError) {
                checkpoint = try await Checkpoint.open(name, [.read], in: checkpoints.service)
            } catch {
                throw checkpoints.failure(error, "ckpt watch \(name)")
            }
            let printer = WatchPrinter(checkpoint: "\(name)", section: section, count: count, json: json)
            // Two sources, one output: whichever ends first, by --count or because the checkpoint is gone, ends all.
            await withTaskGroup(of: Void.self) { group in
                group.addTask {
                    for await set in checkpoint.replicaChanges { if !printer.show(set) { return } }
                }
                if !replicas {
                    group.addTask { for await event in checkpoint.updates { if !printer.show(event) { return } } }
                }
                await group.next()
                group.cancelAll()
            }
            if !printer.isDone { throw Tool.fail("saf: ckpt watch: \(name) is no more", .unavailable) }
        }
    }
}

/// Writes lines until there are enough; several tasks at a time.
private final class WatchPrinter: Sendable {
    private let checkpoint: String
    private let section: String?
    private let json: Bool
    private let left: Lock<Int?>

    init(checkpoint: String, section: String?, count: Int?, json: Bool) {
        self.checkpoint = checkpoint
        self.section = section
        self.json = json
        left = Lock(count)
    }

    /// As many lines as were wanted.
    var isDone: Bool { left.withLock { $0 == 0 } }

    /// False when there are enough lines.
    private func line(_ text: String) -> Bool {
        left.withLock { left in
            guard left != 0 else { return false }
            StandardOutput.write(text + "\n")
            if let count = left { left = count - 1 }
            return left != 0
        }
    }

    func show(_ set: ReplicaSet) -> Bool {
        let value: JSONValue = ["replicas": ReplicaText.json(set)]
        return line(json ? value.text() : "\(Tool.time(MonotonicClock.wallNanoseconds()))  \(ReplicaText.line(set))")
    }

    func show(_ event: CheckpointEvent) -> Bool {
        switch event {
        case .snapshot(let change, let sections):
            let shown = sections.filter { isWanted($0.id) }
            if json {
                let value: JSONValue = [
                    "change": .integer(Int64(clamping: change)),
                    "snapshot": .array(shown.map { Checkpoints.json($0, withData: true) }),
                ]
                return line(value.text())
            }
            let now = Tool.time(MonotonicClock.wallNanoseconds())
            guard line("\(now)  change \(change)  \(checkpoint) has \(sections.count) sections") else { return false }
            for content in shown where !line("  \(Self.preview(content))") { return false }
            return true
        case .update(let change, let time, let changes):
            for entry in changes where isWanted(entry.section) {
                let text = json ? Self.json(change, time, entry).text() : Self.text(change, time, entry)
                if !line(text) { return false }
            }
            return true
        }
    }

    private func isWanted(_ id: SectionID) -> Bool {
        section == nil || SectionID(section ?? "") == id || PrintableBytes.text(id.bytes) == section
    }

    private static func preview(_ content: SectionContent) -> String {
        var short = content
        short.data = Array(content.data.prefix(Checkpoints.preview))
        return Checkpoints.line(short)
    }

    private static func text(_ change: UInt64, _ time: SaTime, _ entry: SectionChange) -> String {
        let data = entry.data.map { data in
            "  " + PrintableBytes.text(Array(data.prefix(Checkpoints.preview)))
                + (data.count > Checkpoints.preview ? " …" : "")
        }
        return "\(Tool.time(time))  change \(change)  \(Checkpoints.title(entry.section))  \(entry.words)\(data ?? "")"
    }

    private static func json(_ change: UInt64, _ time: SaTime, _ entry: SectionChange) -> JSONValue {
        var members: [JSONValue.Member] = [
            .init("change", .integer(Int64(clamping: change))), .init("time", .integer(time)),
            .init("section", .string(PrintableBytes.text(entry.section.bytes))), .init("what", .string(entry.verb)),
        ]
        if case .written(_, let offset, _) = entry { members.append(.init("offset", .integer(Int64(offset)))) }
        if case .expirationSet(_, let expires) = entry {
            members.append(.init("expires", expires == .saTimeEnd ? .null : .integer(expires)))
        }
        if let data = entry.data { members.append(.init("data", .string(PrintableBytes.hexadecimal(data)))) }
        return .object(members)
    }
}

extension SectionChange {
    fileprivate var section: SectionID {
        switch self {
        case .created(let id, _, _), .written(let id, _, _), .overwritten(let id, _), .deleted(let id),
            .expirationSet(let id, _), .expired(let id):
            id
        }
    }

    fileprivate var data: [UInt8]? {
        switch self {
        case .created(_, let data, _), .written(_, _, let data), .overwritten(_, let data): data
        case .deleted, .expirationSet, .expired: nil
        }
    }

    fileprivate var verb: String {
        switch self {
        case .created: "created"
        case .written: "written"
        case .overwritten: "overwritten"
        case .deleted: "deleted"
        case .expirationSet: "expirationSet"
        case .expired: "expired"
        }
    }

    fileprivate var words: String {
        switch self {
        case .created(_, let data, let expires):
            "created, \(PrintableBytes.size(UInt64(data.count)))"
                + (expires == .saTimeEnd ? "" : ", expires \(Tool.time(expires))")
        case .written(_, let offset, let data): "\(PrintableBytes.size(UInt64(data.count))) written at \(offset)"
        case .overwritten(_, let data): "overwritten, \(PrintableBytes.size(UInt64(data.count)))"
        case .deleted: "deleted"
        case .expirationSet(_, let time): time == .saTimeEnd ? "expires never" : "expires \(Tool.time(time))"
        case .expired: "expired"
        }
    }
}
