import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes

/// A hundred thousand checkpoints of one section, all open: what an open costs then, and what each takes of memory.
enum ManyCheckpoints {
    static let count = 100_000

    static func run(_ publish: (BenchResult) -> Void) throws {
        try CkptBench.withService { service, daemon in
            var checkpoints: [Checkpoint] = []
            checkpoints.reserveCapacity(count)
            checkpoints.append(try open(0, in: service))
            let before = anonymousBytes(of: daemon)
            var opens = Samples()
            opens.reserve(count)
            for number in 1..<count {
                let start = MonotonicClock.now()
                checkpoints.append(try open(number, in: service))
                opens.append(microseconds(since: start))
            }
            publish(
                BenchResult(
                    name: "ckpt.many.open.p99", unit: "µs", samples: Samples([opens.percentile(0.99)]), bound: 1_000,
                    note: "99 of 100 opens, each of which creates a checkpoint, up to 100,000"))
            let each = Double(anonymousBytes(of: daemon) - before) / Double(count)
            publish(
                BenchResult(
                    name: "ckpt.many.memory", unit: "B", samples: Samples([each]), bound: 4_096,
                    note: "memory of ckptd for each, beside its file, which is one page"))
        }
    }

    private static func open(_ number: Int, in service: CheckpointService) throws -> Checkpoint {
        try CkptBench.open("safCkpt=\(number)", [.writeAllReplicas], size: 64, in: service)
    }

    /// Memory that is the process's own.
    private static func anonymousBytes(of pid: Int32) -> Int {
        let text = (try? File.readText("/proc/\(pid)/status", limit: 65_536)) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("RssAnon:") }
        let number = line?.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) }
        return (number ?? 0) * 1_024
    }
}
