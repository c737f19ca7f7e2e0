import CliProtocol

extension CliEngine {
    enum Resolution: Hashable, Sendable {
        case answer(CommandStatus, String)
        /// Nobody is registered under that name.
        case unknown(String)
        case status
        case command(PeerID, String, [String])
    }

    /// What a command line means.
    func resolve(_ words: [String]) -> Resolution {
        guard let first = words.first else { return .answer(.usage, "nothing to do; 'help' lists the commands") }
        let rest = Array(words.dropFirst())
        switch first {
        case "help": return help(rest)
        case "version": return .answer(.done, "SwiftSAF \(version)\n")
        case "status": return .status
        case OwnerDescription.cliserver.name: return own(rest)
        default: break
        }
        let peers: [PeerID]
        switch self.peers(called: first) {
        case .success(let found): peers = found
        case .failure(let refusal): return .unknown(refusal.text)
        }
        // A restarted owner can be here twice until the hang-up of its old connection is seen: the newest counts.
        guard let peer = peers.max(), let owner = owners[peer] else {
            return .answer(.unavailable, "\(first): is gone")
        }
        guard let name = rest.first else { return .answer(.done, describe(owner)) }
        if name == "help", !owner.commands.contains(where: { $0.name == "help" }) {
            return help([first] + rest.dropFirst())
        }
        guard let command = owner.commands.first(where: { $0.name == name }) else {
            return .answer(.usage, unknownCommand(name, of: owner))
        }
        let arguments = Array(rest.dropFirst())
        if let defect = ArgumentCheck.defect(of: arguments, for: command, owner: first) {
            return .answer(.usage, defect)
        }
        return .command(peer, command.name, arguments)
    }

    /// A command of cliserver itself.
    private func own(_ words: [String]) -> Resolution {
        let cliserver = OwnerDescription.cliserver
        guard let name = words.first else { return .answer(.done, describe(cliserver)) }
        if name == "help" { return .answer(.done, describe(cliserver)) }
        guard let command = cliserver.commands.first(where: { $0.name == name }) else {
            return .answer(.usage, unknownCommand(name, of: cliserver))
        }
        if let defect = ArgumentCheck.defect(of: Array(words.dropFirst()), for: command, owner: cliserver.name) {
            return .answer(.usage, defect)
        }
        if name == "owners" {
            return .answer(
                .done, sortedOwners.map { "\($0.name)  pid \($0.pid)  \($0.commands.count) commands\n" }.joined())
        }
        let heldBytes = held.values.reduce(0) { $0 + $1.rest.utf8.count }
        return .answer(
            .done,
            """
            \(owners.count) owners of commands
            \(executions.count) of at most \(limits.executionsMax) commands running
            \(held.count) outputs, \(heldBytes) bytes, wait to be read

            """)
    }

    struct Refusal: Error { let text: String }

    private func peers(called word: String) -> Result<[PeerID], Refusal> {
        let names = Set(owners.values.map(\.name)).sorted()
        switch NameMatching.find(word, among: names) {
        case .found(let name): return .success(owners.keys.filter { owners[$0]?.name == name }.sorted())
        case .ambiguous(let names):
            return .failure(Refusal(text: "'\(word)' may be \(names.joined(separator: " or ")); say more of the name"))
        case .unknown(let nearest):
            let hint = nearest.isEmpty ? "" : "; did you mean \(nearest.joined(separator: " or "))?"
            let who = names.map { NameMatching.shortForm(of: $0, among: names) }.joined(separator: ", ")
            let known = names.isEmpty ? "nobody has registered commands yet" : "registered: \(who)"
            return .failure(Refusal(text: "'\(word)' is not known on this node\(hint)\n\(known)"))
        }
    }

    private func unknownCommand(_ name: String, of owner: OwnerDescription) -> String {
        let names = owner.commands.map(\.name)
        let nearest = NameMatching.nearest(to: name, among: names)
        let hint = nearest.isEmpty ? "" : "; did you mean \(nearest.joined(separator: " or "))?"
        return "\(owner.name) has no command '\(name)'\(hint)\nit has: \(names.sorted().joined(separator: ", "))"
    }

    // Help.

    private func help(_ words: [String]) -> Resolution {
        guard let first = words.first else { return .answer(.done, overview()) }
        if first == OwnerDescription.cliserver.name { return own([]) }
        switch peers(called: first) {
        case .failure(let refusal): return .unknown(refusal.text)
        case .success(let peers):
            guard let peer = peers.max(), let owner = owners[peer] else {
                return .answer(.unavailable, "\(first): is gone")
            }
            guard words.count > 1 else { return .answer(.done, describe(owner)) }
            guard let command = owner.commands.first(where: { $0.name == words[1] }) else {
                return .answer(.usage, unknownCommand(words[1], of: owner))
            }
            return .answer(.done, describe(command, of: first))
        }
    }

    private func overview() -> String {
        let names = Set(owners.values.map(\.name)).sorted()
        var text = """
            A line is OWNER COMMAND ARGUMENTS, for example: clmd nodes
              help [OWNER [COMMAND]]  this list, or what OWNER offers
              status                  nodes, service units and assignments
              version                 the version of SwiftSAF

            """
        text += "cliserver: " + OwnerDescription.cliserver.commands.map(\.name).joined(separator: ", ") + "\n"
        for name in names {
            guard let owner = sortedOwners.last(where: { $0.name == name }) else { continue }
            let short = NameMatching.shortForm(of: name, among: names)
            text += "\(short): " + owner.commands.map(\.name).sorted().joined(separator: ", ") + "\n"
        }
        return text
    }

    private func describe(_ owner: OwnerDescription) -> String {
        let process = owner.pid == 0 ? "" : ", pid \(owner.pid)"
        var text = "\(owner.name), \(owner.kind == .daemon ? "daemon" : "component")\(process)\n"
        let width = min(34, owner.commands.map(\.usage.count).max() ?? 0)
        for command in owner.commands.sorted(by: { $0.name < $1.name }) {
            let padding = String(repeating: " ", count: max(0, width - command.usage.count))
            let summary = command.help.split(separator: "\n", omittingEmptySubsequences: false).first ?? ""
            text += "  \(command.usage)\(padding)  \(summary)\n"
        }
        return text
    }

    private func describe(_ command: CommandSpec, of owner: String) -> String {
        var text = "usage: \(owner) \(command.usage)\n\(command.help)\n"
        for argument in command.arguments {
            let help = argument.help.isEmpty ? "" : ": \(argument.help)"
            text += "  <\(argument.name)> (\(argument.type.placeholder))\(help)\n"
        }
        return text
    }
}

extension OwnerDescription {
    /// What cliserver itself offers; it needs no registration.
    static let cliserver = OwnerDescription(
        name: "cliserver", kind: .daemon, pid: 0,
        commands: [
            CommandSpec(name: "owners", help: "Lists who has registered commands."),
            CommandSpec(name: "status", help: "Shows how much the console is doing."),
        ])
}
