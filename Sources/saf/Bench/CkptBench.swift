import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import SafStage

/// Writes and reads of 64 bytes through a ckptd of its own.
enum CkptBench {
    static func run(_ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        let node = try PrivateNode(name: "bench")
        defer { node.destroy() }
        let child = try node.spawn("ckptd", [])
        defer { end(child.pid, pidfd: child.rawPidfd) }
        guard let name = SaName("safCkpt=bench") else { return }
        let service = CheckpointService(places: node.places)
        defer { service.close() }
        let attributes = CreationAttributes(checkpointSize: 1 << 20, sectionsMax: 1, sectionSizeMax: 1 << 20)
        let checkpoint = try Checkpoint.openBlocking(name, creating: attributes, timeout: .seconds(20), in: service)
        let data = [UInt8](repeating: 7, count: 64)
        for _ in 0..<2_000 { try checkpoint.writeBlocking(at: 0, data) }
        let (writes, rate, writeFloor) = try time(rounds: 100_000, beside: floor) {
            try checkpoint.writeBlocking(at: 0, data)
        }
        publish(
            BenchResult(
                name: "ckpt.write", unit: "µs", samples: writes, rate: rate, floor: writeFloor, bound: 5,
                note: "64 bytes through ckptd, hot; floor: socket ping-pong"))
        let (reads, readRate, readFloor) = try time(rounds: 50_000, beside: floor) {
            _ = try checkpoint.readBlocking(at: 0, count: 64)
        }
        publish(
            BenchResult(
                name: "ckpt.read", unit: "µs", samples: reads, rate: readRate, floor: readFloor,
                note: "64 bytes through ckptd, hot"))
        try checkpoint.closeBlocking()
    }
}
