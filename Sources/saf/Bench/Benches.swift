import OSAL
import SafStage

/// The benches of `saf bench`, by name.
public enum Benches {
    public struct Bench: Sendable {
        public let name: String
        public let help: String
        /// Run when none is named: what needs nothing but this machine.
        var isUsual = true
        let run: @Sendable (Floor, (BenchResult) -> Void) throws -> Void
    }

    public static let all: [Bench] = [
        Bench(name: "ipc", help: "IOC round trips, hot and cold", run: IPCBench.run),
        Bench(name: "ckpt", help: "reads of a node's own replicas, writes through ckptd", run: CkptBench.run),
        Bench(
            name: "ckpt-many", help: "100,000 checkpoints", isUsual: false,
            run: { _, publish in try ManyCheckpoints.run(publish) }),
        Bench(
            name: "ckpt-persistent", help: "persistent checkpoints: durable writes of one and of many writers",
            run: PersistentBench.run),
        Bench(name: "log", help: "writing log records", run: LogBench.run),
        Bench(
            name: "failover", help: "SIGKILL of the active to the standby's active assignment", run: FailoverBench.run),
        Bench(
            name: "status", help: "saf status from start to exit",
            run: { _, publish in try NodeBench.status(publish) }),
        Bench(
            name: "idle", help: "wake-ups and memory of idle daemons",
            run: { _, publish in try NodeBench.idle(publish) }),
        Bench(
            name: "cluster-failover", help: "deaths of a component and of a node, in a lab of three nodes (root)",
            isUsual: false, run: { _, publish in try ClusterFailover.run(publish) }),
        Bench(
            name: "cluster-ckpt", help: "replicated checkpoints, in a lab of two nodes (root)",
            isUsual: false, run: { _, publish in try ClusterCheckpoints.run(publish) }),
    ]

    /// What may be named: each bench, and `cluster` for those whose names begin with it.
    public static var names: [String] { all.map(\.name) + ["cluster"] }

    private static func isMeant(_ bench: Bench, by names: [String]) -> Bool {
        names.isEmpty ? bench.isUsual : names.contains { bench.name == $0 || bench.name.hasPrefix($0 + "-") }
    }

    /// Measures the floor and then each named bench (the usual ones when none is named); prints a table or JSON lines.
    /// - Returns: false when a figure is beyond its bound or a bench failed.
    public static func run(_ names: [String], json: Bool) -> Bool {
        Interruption.cleanUpNodes()
        var isGood = true
        let publish = { (result: BenchResult) in
            if result.holds == false { isGood = false }
            StandardOutput.write((json ? result.json : BenchTable.line(result)) + "\n")
        }
        do {
            let floor = try Floor()
            if !json { StandardOutput.write(BenchTable.header + "\n") }
            publish(
                BenchResult(
                    name: "floor.hot", unit: "µs", samples: try floor.hot(rounds: 4_000),
                    note: "socket ping-pong, back to back"))
            publish(
                BenchResult(
                    name: "floor.cold", unit: "µs", samples: try floor.cold(rounds: 400), note: "the same, every 3 ms"))
            for bench in all where isMeant(bench, by: names) {
                do {
                    try bench.run(floor, publish)
                } catch {
                    isGood = false
                    StandardError.write("saf bench \(bench.name): \(error)\n")
                }
            }
        } catch {
            StandardError.write("saf bench: the floor could not be measured: \(error)\n")
            return false
        }
        return isGood
    }
}
