import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import SafStage

/// Persistent writes of 64 bytes, acknowledged when they are durable: by one writer, and by many at once.
enum PersistentBench {
    private static let writers = 16
    private static let rounds = 8
    /// Of one writer in a round; each of the many does as many.
    private static let writes = 60

    static func run(_ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        let node = try PrivateNode(name: "bench")
        defer { node.destroy() }
        // A disk: what is durable in memory costs nothing.
        let disk = try File.makeTemporaryDirectory("/var/tmp/saf-bench-")
        defer { _ = try? File.removeTree(disk) }
        var places = node.places
        places.stateDirectory = disk
        let child = try node.spawn("ckptd", [], environment: ["SAF_STATE_DIR=\(disk)"])
        defer { end(child.pid, pidfd: child.rawPidfd) }
        guard let name = SaName("safCkpt=bench") else { return }
        let service = CheckpointService(places: places)
        defer { service.close() }
        let attributes = CreationAttributes(
            flags: [.writeAllReplicas, .persistent], checkpointSize: 1 << 20, sectionsMax: UInt32(writers),
            sectionSizeMax: 1 << 16)
        let checkpoints = try (0..<writers).map { _ in
            try Checkpoint.openBlocking(name, creating: attributes, timeout: .seconds(20), in: service)
        }
        for writer in 0..<writers { try checkpoints[0].createSectionBlocking(section(writer), data) }
        var (one, many, gains, floors) = (Samples(), Samples(), Samples(), Samples())
        var (oneRate, manyRate) = (Samples(), Samples())
        for _ in 0..<rounds {
            floors.append(try synchronizations(disk))
            let (alone, rate) = try time(rounds: writes) { try checkpoints[0].overwriteBlocking(section(0), data) }
            one.append(alone)
            let (together, rateTogether) = try all(checkpoints)
            many.append(together)
            oneRate.append(rate)
            manyRate.append(rateTogether)
            gains.append(rateTogether / rate)
        }
        let sync = floors.percentile(0.5)
        publish(
            BenchResult(
                name: "ckpt.persistent", unit: "µs", samples: one, rate: oneRate.percentile(0.5), floor: sync,
                note: "64 bytes, durable, one writer; floor: 4 KiB written over in a file, and fsync"))
        publish(
            BenchResult(
                name: "ckpt.persistent.16", unit: "µs", samples: many, rate: manyRate.percentile(0.5), floor: sync,
                note: "the same by each of \(writers) writers at once"))
        publish(
            BenchResult(
                name: "ckpt.persistent.gain", unit: "x", samples: gains, atLeast: 3,
                note: "writes a second of \(writers) writers, over those of one"))
        for checkpoint in checkpoints { try checkpoint.closeBlocking() }
    }

    private static let data = [UInt8](repeating: 7, count: 64)
    private static func section(_ writer: Int) -> SectionID { SectionID("w\(writer)") }

    /// What the disk itself needs, µs.
    private static func synchronizations(_ folder: String) throws -> Samples {
        let path = "\(folder)/floor"
        let block = [UInt8](repeating: 7, count: 4_096)
        try File.writeAtomically(path, [UInt8](repeating: 0, count: 1 << 20), durable: true)
        let file = SharedDescriptor(try File.open(path, writable: true))
        var place = 0
        return try time(rounds: 30) {
            _ = try block.withUnsafeBytes { bytes throws(OSError) in try IO.write(file.raw, bytes, at: place) }
            try IO.synchronize(file.raw)
            place += block.count
        }.0
    }

    private final class Shared: Sendable {
        let samples = Lock(Samples())
        let failure = Lock<String?>(nil)
    }

    private static func all(_ checkpoints: [Checkpoint]) throws -> (Samples, rate: Double) {
        let shared = Shared()
        let begin = MonotonicClock.now()
        let threads = try checkpoints.enumerated().map { writer, checkpoint in
            try OSThread.spawn(name: "writer\(writer)") {
                do {
                    let (own, _) = try time(rounds: writes) { try checkpoint.overwriteBlocking(section(writer), data) }
                    shared.samples.withLock { $0.append(own) }
                } catch {
                    let text = "\(error)"
                    shared.failure.withLock { $0 = text }
                }
            }
        }
        for thread in threads { thread.join() }
        let seconds = microseconds(since: begin) / 1e6
        if let failure = shared.failure.withLock({ $0 }) { throw StageError("a writer ended: \(failure)") }
        return (shared.samples.withLock { $0 }, Double(writes * checkpoints.count) / seconds)
    }
}
