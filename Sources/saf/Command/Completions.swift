import AmfClient
import AmfProtocol
import ArgumentParser
import CkptClient
import CkptProtocol
import CliClient
import CliProtocol
import EventClient
import IOC
import OSAL
import SAFTypes

/// Names that the shell's Tab offers. Nothing when there is no node, or when it does not answer at once: who typed Tab
/// must not wait, and sees no error.
enum Completions {
    private static let timeLimit: Duration = .milliseconds(300)

    /// What the operation before it on the line applies to.
    static let entities = CompletionKind.custom { words, _, _ in
        guard hasNode, let operation = AdminOperation.allCases.first(where: { words.contains($0.description) }),
            let report = try? AdminClient(places: Tool.places).status(timeout: timeLimit)
        else { return [] }
        let types = EntityNames.types(for: operation)
        let groups = EntityNames.inOrder(report).map { names in
            names.filter { types.contains(DN.type($0)) }.map(\.description)
        }
        // The middleware's own parts are for who knows their names.
        return groups.prefix(2).flatMap { group in group.map { NameMatching.shortForm(of: $0, among: group) } }
    }

    static let checkpoints = CompletionKind.custom { _, _, _ in
        guard hasNode,
            let page = try? CheckpointService(places: Tool.places).list(timeout: timeLimit)
        else { return [] }
        let names = page.checkpoints.map(\.name.description)
        return names.map { NameMatching.shortForm(of: $0, among: names) }
    }

    /// Of the checkpoint that stands before on the line.
    static let sections = CompletionKind.custom { words, _, _ in
        let service = CheckpointService(places: Tool.places)
        guard hasNode, let page = try? service.list(timeout: timeLimit) else { return [] }
        let names = page.checkpoints.map(\.name.description)
        for word in words.dropFirst(3) {
            guard case .found(let found) = NameMatching.find(word, among: names), let name = SaName(found),
                let sections = try? service.sections(of: name, dataMax: 0, timeout: timeLimit)
            else { continue }
            return sections.snapshot.sections.map { PrintableBytes.text($0.id.bytes) }
        }
        return []
    }

    /// The owner, then one of its commands.
    static let console = CompletionKind.custom { words, index, _ in
        guard hasNode, let owners = try? Console(places: Tool.places).owners(timeLimit: timeLimit) else { return [] }
        let start = (words.firstIndex(of: "console") ?? 0) + 1
        let line = words.dropFirst(start).filter { !$0.hasPrefix("-") }
        let names = owners.map(\.name)
        let isFirst = line.count <= 1 && index <= start + line.count
        if let first = line.first, !isFirst || line.count > 1,
            case .found(let name) = NameMatching.find(first, among: names)
        {
            return owners.first { $0.name == name }?.commands.map(\.name) ?? []
        }
        return ["help", "status", "version"] + names.map { NameMatching.shortForm(of: $0, among: names) }
    }

    static let channels = CompletionKind.custom { (_: [String], _: Int, _: String) async -> [String] in
        guard hasNode else { return [] }
        let channels = (try? await EventChannel.list(places: Tool.places, timeout: timeLimit)) ?? []
        return channels.map(\.name.description)
    }

    private static var hasNode: Bool {
        File.isLocked(Tool.places.runDirectory + "/amfd/amfd.lock") != false
    }
}
