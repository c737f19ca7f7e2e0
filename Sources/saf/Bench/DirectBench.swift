import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes

/// Collocated asynchronous writes, straight to shared memory; ckptd has nothing to do with them once it has left the
/// sections to their writers.
enum DirectBench {
    private static let large = 1 << 20

    static func run(_ service: CheckpointService, _ publish: (BenchResult) -> Void) throws {
        guard let name = SaName("safCkpt=direct") else { return }
        let attributes = CreationAttributes(
            flags: [.writeActiveReplica, .collocated], checkpointSize: 8 << 20, sectionsMax: 8,
            sectionSizeMax: UInt64(large))
        let checkpoint = try Checkpoint.openBlocking(name, creating: attributes, timeout: .seconds(20), in: service)
        try checkpoint.setActiveReplicaBlocking()
        try small(checkpoint, publish)
        try big(checkpoint, publish)
        try threads(checkpoint, publish)
        try checkpoint.closeBlocking()
    }

    /// A section that has been left to its writers.
    private static func section(_ name: String, _ data: [UInt8], of checkpoint: Checkpoint) throws -> SectionID {
        let id = SectionID(name)
        try checkpoint.createSectionBlocking(id, data)
        for _ in 0..<5 { try checkpoint.overwriteBlocking(id, data) }
        return id
    }

    private static func small(_ checkpoint: Checkpoint, _ publish: (BenchResult) -> Void) throws {
        let data = [UInt8](repeating: 7, count: 64)
        let id = try section("small", data, of: checkpoint)
        try data.withUnsafeBytes { bytes in
            let (writes, rate) = try timeBatches(2_000, of: 500) { _ in
                try checkpoint.writeBlocking(id, at: 0, bytes)
            }
            publish(
                BenchResult(
                    name: "ckpt.direct.write", unit: "ns", samples: writes, rate: rate, bound: 500,
                    note: "64 bytes, collocated and asynchronous"))
        }
        let (reads, rate) = try timeBatches(1_000, of: 200) { _ in _ = try checkpoint.readBlocking(id, at: 0, count: 64)
        }
        publish(
            BenchResult(
                name: "ckpt.direct.read", unit: "ns", samples: reads, rate: rate, note: "64 bytes, into a new array"))
    }

    private static func big(_ checkpoint: Checkpoint, _ publish: (BenchResult) -> Void) throws {
        let memory = MemoryFloor(bytes: large)
        let data = [UInt8](repeating: 7, count: large)
        let id = try section("large", data, of: checkpoint)
        let shares = try data.withUnsafeBytes { bytes in
            try memory.share(rounds: 2_000) { _ = try checkpoint.overwriteBlocking(id, bytes) }
        }
        publish(
            BenchResult(
                name: "ckpt.direct.write.1MiB", unit: "%", samples: shares, atLeast: 35,
                note: "the speed of a memory copy in the same moments is 100"))
    }

    private static func threads(_ checkpoint: Checkpoint, _ publish: (BenchResult) -> Void) throws {
        let data = [UInt8](repeating: 7, count: 64)
        let ids = try (0..<4).map { try section("thread\($0)", data, of: checkpoint) }
        var shares = Samples()
        for _ in 0..<9 {
            let one = try rate(of: Array(ids[..<1]), checkpoint, data)
            shares.append(100 * (try rate(of: ids, checkpoint, data)) / one)
        }
        publish(
            BenchResult(
                name: "ckpt.direct.threads", unit: "%", samples: shares, atLeast: 100,
                note: "writes of four threads together, each to its section; one thread's are 100"))
    }

    /// Writes a second, by as many threads as there are sections.
    private static func rate(of ids: [SectionID], _ checkpoint: Checkpoint, _ data: [UInt8]) throws -> Double {
        let rounds = 100_000
        let start = MonotonicClock.now()
        let threads = try ids.map { id in
            try OSThread.spawn(name: "writer") {
                data.withUnsafeBytes { bytes in
                    for _ in 0..<rounds { _ = try? checkpoint.writeBlocking(id, at: 0, bytes) }  // fewer, then
                }
            }
        }
        for thread in threads { thread.join() }
        return Double(rounds * ids.count) / microseconds(since: start)
    }
}
