import ArgumentParser
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

            It is looked for in SAF_RUN_DIR (here: \(Places.fromEnvironment().runDirectory)); its configuration \
            in SAF_CONFIG_DIR (here: \(Places.fromEnvironment().configDirectory)). Colours are used on a terminal, \
            unless NO_COLOR is set.

            Exit status: 0 done; 1 it failed, and stderr says why; 2 the model, or the console line, is wrong; \
            3 the node, or who was asked, is not there; 64 wrong arguments.
            """,
        version: "saf (SwiftSAF) \(DaemonProgram.version)",
        subcommands: [
            StatusCommand.self, AdminCommand.self, CkptCommand.self, LogCommand.self, EventsCommand.self,
            ConsoleCommand.self,
            ConfigCommand.self, BenchCommand.self, BenchPeerCommand.self,
        ])
}
