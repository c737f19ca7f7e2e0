import ArgumentParser
import SafBench

struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench", abstract: "Measures this machine: messages, checkpoints, log, failover.",
        shouldDisplay: false)

    func run() throws {}
}
