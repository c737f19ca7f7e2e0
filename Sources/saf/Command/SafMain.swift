import ArgumentParser
import CliProtocol
import EOLoop
import OSAL

/// The command line of SwiftSAF.
@main
struct Saf: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "saf",
        abstract: "Shows and operates a SwiftSAF node.",
        discussion: """
            Start a node with `amfd --guard`, look at it with `saf status`, operate it with `saf admin`.

            It is looked for in SAF_RUN_DIR, its configuration in SAF_CONFIG_DIR; here:
            \(Places.fromEnvironment().runDirectory)
            \(Places.fromEnvironment().configDirectory)
            Colours are used on a terminal, unless NO_COLOR is set.

            Exit status: 0 done; 1 it failed, and stderr says why; 2 the model, or the
            console line, is wrong; 3 the node, or who was asked, is not there; 64 wrong
            arguments.
            """,
        version: "saf (SwiftSAF) \(DaemonProgram.version)",
        subcommands: [
            StatusCommand.self, AdminCommand.self, CkptCommand.self, LogCommand.self, EventsCommand.self,
            ConsoleCommand.self,
            ConfigCommand.self, ClusterCommand.self, DoctorCommand.self, BenchCommand.self, BenchPeerCommand.self,
        ])

    /// The parser calls an unknown command an unexpected argument and offers nothing.
    static func main() async {
        if let text = Self.unknownCommand(in: CommandLine.arguments.dropFirst()) {
            StandardError.write(text)
            Environment.exit(64)
        }
        await main(nil)
    }

    private static func unknownCommand(in words: ArraySlice<String>) -> String? {
        var commands = Saf.configuration.subcommands
        var path = "saf"
        for word in words {
            if commands.isEmpty || word.hasPrefix("-") || word == "help" { return nil }
            if let next = commands.first(where: { $0.configuration.commandName == word }) {
                commands = next.configuration.subcommands
                path += " \(word)"
                continue
            }
            var names: [String] = []
            for command in commands where command.configuration.shouldDisplay {
                names.append(command.configuration.commandName ?? "")
            }
            let nearest = NameMatching.nearest(to: word, among: names)
            let hint = nearest.isEmpty ? "" : "; did you mean \(nearest.joined(separator: " or "))?"
            return "\(path): there is no command '\(word)'\(hint)\n"
                + "The commands there are: \(names.joined(separator: ", "))\n"
        }
        return nil
    }
}
