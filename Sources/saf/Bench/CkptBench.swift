import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import SafStage

/// Checkpoints of one node, with a ckptd of its own: reads of the mapped replica, writes through ckptd.
enum CkptBench {
    static let large = 1 << 20

    static func run(_ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        try withService { service, _ in
            let checkpoint = try open("safCkpt=bench", [.writeAllReplicas], size: large, in: service)
            try reads(checkpoint, publish)
            try hot(checkpoint, floor, publish)
            try throughput(checkpoint, publish)
            try checkpoint.closeBlocking()
        }
        try withService { service, _ in try DirectBench.run(service, publish) }
        // Both sides where the floor's are: whether a sleeper is on another processor decides what waking him costs.
        floor.home = 0
        defer { floor.home = nil }
        try withService(on: 1) { service, _ in
            OSThread.run(on: 0)
            let checkpoint = try open("safCkpt=cold", [.writeAllReplicas], size: 4_096, in: service)
            try cold(checkpoint, floor, publish)
        }
    }

    /// - Parameters:
    ///   - processor: where ckptd runs; nil: where the kernel likes.
    ///   - body: gets the pid of ckptd, too.
    static func withService(on processor: Int? = nil, _ body: (CheckpointService, Int32) throws -> Void) throws {
        let node = try PrivateNode(name: "bench")
        defer { node.destroy() }
        // What is started runs where its parent does.
        OSThread.run(on: processor)
        let child = try node.spawn("ckptd", [])
        defer { end(child.pid, pidfd: child.rawPidfd) }
        let service = CheckpointService(places: node.places)
        defer { service.close() }
        try body(service, child.pid)
    }

    static func open(
        _ name: String, _ flags: CreationFlags, size: Int, in service: CheckpointService
    ) throws -> Checkpoint {
        guard let name = SaName(name) else { throw AisError.invalidParam }
        let attributes = CreationAttributes(
            flags: flags, checkpointSize: UInt64(size), sectionsMax: 1, sectionSizeMax: UInt64(size))
        return try Checkpoint.openBlocking(name, creating: attributes, timeout: .seconds(20), in: service)
    }

    private static func reads(_ checkpoint: Checkpoint, _ publish: (BenchResult) -> Void) throws {
        let memory = MemoryFloor(bytes: large)
        try checkpoint.overwriteBlocking(.defaultSection, [UInt8](repeating: 7, count: large))
        let target = memory.target
        let id = UnsafeRawBufferPointer(start: nil, count: 0)
        func read(_ count: Int) throws {
            _ = try checkpoint.readBlocking(id, at: 0, count: UInt64(count)) { _ in target }
        }
        try read(large)
        let (small, rate) = try timeBatches(2_000, of: 500) { _ in try read(64) }
        publish(
            BenchResult(
                name: "ckpt.read", unit: "ns", samples: small, rate: rate, bound: 300,
                note: "64 bytes of the replica of this node"))
        let (array, arrayRate) = try timeBatches(1_000, of: 200) { _ in
            _ = try checkpoint.readBlocking(at: 0, count: 64)
        }
        publish(
            BenchResult(
                name: "ckpt.read.array", unit: "ns", samples: array, rate: arrayRate, note: "the same, into a new array"
            ))
        let share = try memory.share(rounds: 2_000) { try read(large) }
        publish(
            BenchResult(
                name: "ckpt.read.1MiB", unit: "%", samples: share, atLeast: 60,
                note: "the speed of a memory copy in the same moments is 100"))
    }

    private static func hot(_ checkpoint: Checkpoint, _ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        let data = [UInt8](repeating: 7, count: 64)
        for _ in 0..<2_000 { try checkpoint.writeBlocking(at: 0, data) }
        let (writes, rate, writeFloor) = try time(rounds: 100_000, beside: floor) {
            try checkpoint.writeBlocking(at: 0, data)
        }
        publish(
            BenchResult(
                name: "ckpt.write", unit: "µs", samples: writes, rate: rate, floor: writeFloor, bound: 4,
                note: "64 bytes through ckptd, hot; floor: socket ping-pong"))
    }

    private static func cold(_ checkpoint: Checkpoint, _ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        let data = [UInt8](repeating: 7, count: 64)
        try ColdPairs(rounds: 400, beside: floor) { try checkpoint.writeBlocking(at: 0, data) }
            .publish("ckpt.write.cold", note: "the same, both sides asleep", publish)
    }

    private static func throughput(_ checkpoint: Checkpoint, _ publish: (BenchResult) -> Void) throws {
        let data = [UInt8](repeating: 7, count: large)
        for _ in 0..<20 { try checkpoint.writeBlocking(at: 0, data) }
        let (times, _) = try time(rounds: 1_000) { try checkpoint.writeBlocking(at: 0, data) }
        publish(
            BenchResult(
                name: "ckpt.write.1MiB", unit: "MB/s", samples: times.map { Double(large) / $0 }, atLeast: 2_000,
                note: "1 MiB through ckptd"))
    }
}

/// What a copy in memory costs, measured between the rounds of what is compared with it.
final class MemoryFloor {
    let target: UnsafeMutableRawBufferPointer
    private let source: UnsafeMutableRawBufferPointer

    init(bytes: Int) {
        source = .allocate(byteCount: bytes, alignment: 4_096)
        target = .allocate(byteCount: bytes, alignment: 4_096)
        source.initializeMemory(as: UInt8.self, repeating: 3)
        target.initializeMemory(as: UInt8.self, repeating: 4)
    }

    deinit {
        source.deallocate()
        target.deallocate()
    }

    /// The speed of `body`, which moves as many bytes, in percent of that of a copy.
    func share(rounds: Int, _ body: () throws -> Void) rethrows -> Samples {
        var shares = Samples()
        for _ in 0..<(rounds / 10) {
            let start = MonotonicClock.now()
            for _ in 0..<10 { target.copyMemory(from: UnsafeRawBufferPointer(source)) }
            let copied = microseconds(since: start)
            let begin = MonotonicClock.now()
            for _ in 0..<10 { try body() }
            shares.append(100 * copied / microseconds(since: begin))
        }
        return shares
    }
}
