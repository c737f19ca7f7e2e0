import ArgumentParser
import SafBench

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures this machine: messages, checkpoints, log, failover, several nodes.",
        discussion: """
            \(Benches.all.map { "\($0.name): \($0.help)" }.joined(separator: "\n"))

            cluster stands for both of its kind. Without a name all but those are run, on private nodes in temporary
            folders; about two minutes. Figures of a debug build mean nothing. Exit status 1 when a
            figure is beyond its bound.

            Example: saf bench ipc ckpt
            Example, several nodes: sudo saf bench cluster
            Example, one object a line: saf bench --json
            """)

    @Argument(help: "Which benches; all but cluster when none is named.", completion: .list(Benches.names))
    var names: [String] = []
    @Flag(help: "One JSON object a line.") var json = false

    func validate() throws {
        for name in names where !Benches.names.contains(name) {
            throw ValidationError(
                "there is no bench '\(name)'; \(Benches.names.joined(separator: ", ")) expected")
        }
    }

    func run() throws {
        if !Benches.run(names, json: json) { throw ExitCode(1) }
    }
}

/// The other process of a bench; see `Peer`.
struct BenchPeerCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "bench-peer", shouldDisplay: false)
    @Argument var arguments: [String] = []
    func run() throws { runBenchPeer(arguments) }
}
