import CkptClient
import CkptProtocol
import CliProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes
import SafConfig
import SafText

/// Asks ckptd what the commands show.
struct Checkpoints {
    let service = CheckpointService(places: Tool.places)
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

    /// Every checkpoint of the cluster; nil on a node alone. Warns when what this node knows is of the past.
    func cluster() throws -> [ClusterCheckpoint]? {
        do throws(AisError) {
            guard let (found, isOld) = try clusterQuietly() else { return nil }
            if isOld {
                StandardError.write("saf: this node takes no part in the cluster now: what follows was known last\n")
            }
            return found
        } catch { throw failure(error, "ckpt list") }
    }

    /// The same for who has something else to show: nobody is told of a failure.
    func clusterQuietly() throws(AisError) -> (found: [ClusterCheckpoint], isOld: Bool)? {
        var found: [ClusterCheckpoint] = []
        var after = CheckpointID(rawValue: 0)
        while true {
            let page: ClusterListReply
            do throws(AisError) {
                page = try service.clusterList(after: after, timeout: timeout)
            } catch {
                if error == .notSupported { return nil }
                throw error
            }
            found += page.checkpoints
            guard page.hasMore, let last = page.checkpoints.last else { return (found, !page.isActing) }
            after = last.checkpoint
        }
    }

    /// Beside what is asked for: JSON stays what it is.
    func warnOfTrouble() {
        // An older ckptd does not say.
        guard let durability = try? service.durability(timeout: timeout), !durability.trouble.isEmpty else { return }
        StandardError.write(
            "saf: DEGRADED: what is persistent on this node cannot be made durable (\(durability.behind) of "
                + "\(durability.checkpoints) checkpoints, \(durability.waiting) answers wait): \(durability.trouble)\n")
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

    func failure(_ error: AisError, _ what: String, mayHaveChanged: Bool = false) -> any Error {
        let words = service.lastRefusal
        if error == .notExist, words.contains("no active replica") {
            return Tool.fail("saf: \(what): \(words)\nThe replica of this node becomes it with: saf ckpt active NAME")
        }
        switch error {
        case .tryAgain, .timeout, .access, .accessDenied, .unavailable:
            return Tool.explain(
                CallErrorText.of(error, words, isAnswer: service.isLastRefusalAnswer), doing: what, by: .ckptd,
                mayHaveChanged: mayHaveChanged)
        default: return Tool.fail("saf: \(what): \(words.isEmpty ? "\(error)" : words)")
        }
    }

    /// The whole name, wherever its replicas are.
    func name(_ text: String) throws -> SaName {
        if let cluster = try cluster() { return try find(text, among: cluster).name }
        return try find(text).name
    }

    /// Opens a checkpoint for what a command does with it, and closes it again.
    func with<Value>(
        _ text: String, _ flags: OpenFlags, doing what: String, _ body: (Checkpoint) throws(AisError) -> Value
    ) throws -> (SaName, Value) {
        let name = try name(text)
        do throws(AisError) {
            let checkpoint = try Checkpoint.openBlocking(name, flags, timeout: timeout, in: service)
            let value = try body(checkpoint)
            try checkpoint.closeBlocking(timeout: timeout)
            return (name, value)
        } catch {
            throw failure(error, "\(what) \(name)", mayHaveChanged: true)
        }
    }

    /// A section larger than an answer is read on in parts; writes made meanwhile may be seen in some of them.
    func complete(_ section: SectionContent, of name: SaName) throws -> SectionContent {
        guard section.descriptor.state == .valid, UInt64(section.data.count) < section.descriptor.size else {
            return section
        }
        var whole = section
        let (_, rest) = try with("\(name)", .read, doing: "ckpt dump") { opened throws(AisError) in
            var rest: [UInt8] = []
            while true {
                let part = try opened.readBlocking(
                    section.id, at: section.data.count + rest.count, count: Self.partSize)
                rest += part
                if part.count < Self.partSize { return rest }
            }
        }
        whole.data += rest
        return whole
    }

    private static let partSize = 32 << 20

    /// Bytes of each section that are shown of it.
    static let preview = 48

    /// The section that a word means: an id as text, or 0x… for one that is no text.
    static func section(_ word: String, among known: [SectionID], of name: SaName) throws -> SectionID {
        let plain = SectionID(word)
        if known.contains(plain) { return plain }
        if let binary = known.first(where: { !$0.isDefault && PrintableBytes.text($0.bytes) == word }) { return binary }
        let titles = known.map { title($0) }
        let nearest = NameMatching.nearest(to: word, among: titles)
        let hint = nearest.isEmpty ? "" : "; did you mean \(nearest.joined(separator: " or "))?"
        let shown = titles.prefix(20).joined(separator: ", ") + (titles.count > 20 ? ", …" : "")
        throw Tool.fail(
            "saf: \(name) has no section '\(word)'\(hint)\n"
                + (titles.isEmpty ? "It has none." : "Its sections are: \(shown)"))
    }

    static func title(_ id: SectionID) -> String { id.isDefault ? "(default section)" : PrintableBytes.text(id.bytes) }

    /// A section in a few words.
    static func line(_ section: SectionContent) -> String {
        "\(title(section.id))  \(PrintableBytes.size(section.descriptor.size))  \(data(section))"
    }

    private static func data(_ section: SectionContent) -> String {
        if section.descriptor.state == .corrupted { return "(corrupted: overwrite or delete it)" }
        return PrintableBytes.text(section.data) + (UInt64(section.data.count) < section.descriptor.size ? " …" : "")
    }

    /// All that is known of a section.
    static func detail(_ section: SectionContent) -> String {
        let expiration = section.descriptor.expiration
        let expires = expiration == .saTimeEnd ? "" : "  expires \(Tool.time(expiration))"
        return "\(title(section.id))  \(PrintableBytes.size(section.descriptor.size))  changed "
            + "\(Tool.time(section.descriptor.lastUpdate))\(expires)  \(data(section))"
    }

    /// How it is kept, in words.
    static func mode(_ attributes: CreationAttributes) -> String {
        let flags = attributes.flags
        var words = [
            flags.contains(.writeAllReplicas)
                ? "synchronous" : flags.contains(.writeActiveReplicaWeak) ? "asynchronous, weak" : "asynchronous"
        ]
        if flags.contains(.collocated) { words.append("collocated") }
        if flags.contains(.persistent) { words.append("persistent") }
        return words.joined(separator: ", ")
    }

    static func retention(_ nanoseconds: SaTime) -> String {
        nanoseconds == .saTimeEnd ? "for ever" : DurationText.text(.nanoseconds(nanoseconds))
    }

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
        let left = checkpoint.retentionLeft == .saTimeEnd ? "" : "; \(retention(checkpoint.retentionLeft)) are left"
        text +=
            "  \(mode(attributes)); kept \(retention(attributes.retentionDuration)) when nobody has it open\(left)\n"
        if !checkpoint.hasActiveReplica, attributes.flags.needsActiveReplicaSet {
            text += "  no active replica here; it becomes it with: saf ckpt active \(checkpoint.name)\n"
        }
        if checkpoint.isUnlinked { text += "  unlinked: it ends with its last close\n" }
        if checkpoint.subscriberCount > 0 {
            text += "  \(checkpoint.subscriberCount) of the openers follow its updates\n"
        }
        for opener in checkpoint.openers where opener.processID != 0 {
            let uses = uses(opener.flags).joined(separator: ", ")
            text +=
                "  open in pid \(opener.processID)\(uses.isEmpty ? "" : ", \(uses)")"
                + "\(opener.isConnected ? "" : " (not back since ckptd was restarted)")\n"
        }
        return text
    }

    private static func uses(_ flags: OpenFlags) -> [String] {
        (flags.contains(.read) ? ["reads"] : []) + (flags.contains(.write) ? ["writes"] : [])
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
            "retentionLeftNanoseconds": checkpoint.retentionLeft == .saTimeEnd
                ? .null : .integer(checkpoint.retentionLeft),
            "sectionSizeMax": .integer(Int64(clamping: descriptor.attributes.sectionSizeMax)),
            "sectionIdSizeMax": .integer(Int64(clamping: descriptor.attributes.sectionIDSizeMax)),
            "creationFlags": .integer(Int64(descriptor.attributes.flags.rawValue)),
            "mode": .string(mode(descriptor.attributes)), "unlinked": .bool(checkpoint.isUnlinked),
            "activeHere": .bool(checkpoint.hasActiveReplica),
            "followers": .integer(Int64(checkpoint.subscriberCount)),
            "openers": .array(
                checkpoint.openers.map { opener in
                    [
                        "pid": .integer(Int64(opener.processID)), "connected": .bool(opener.isConnected),
                        "reads": .bool(opener.flags.contains(.read)), "writes": .bool(opener.flags.contains(.write)),
                    ]
                }),
        ]
    }

    static func json(_ section: SectionContent, withData: Bool = false) -> JSONValue {
        var members: [JSONValue.Member] = [
            .init("id", .string(PrintableBytes.text(section.id.bytes))),
            .init("size", .integer(Int64(clamping: section.descriptor.size))),
            .init("corrupted", .bool(section.descriptor.state == .corrupted)),
            .init("changed", .integer(section.descriptor.lastUpdate)),
            .init(
                "expires",
                section.descriptor.expiration == .saTimeEnd ? .null : .integer(section.descriptor.expiration)),
        ]
        if withData { members.append(.init("data", .string(PrintableBytes.hexadecimal(section.data)))) }
        return .object(members)
    }
}
