import EngineKit
import OSAL
import SafLab
import SafStage

/// Checkpoints with two replicas, each on a node of its own.
enum ClusterCheckpoints {
    static func run(_ publish: (BenchResult) -> Void) throws {
        let plain = try measurePlain(publish)
        try measureTls(plain, publish)
    }

    /// What the same writes with TLS are compared with.
    private struct Plain {
        var write: Double
        var floor: Double
    }

    private static func measurePlain(_ publish: (BenchResult) -> Void) throws -> Plain {
        let stand = try CheckpointStand(name: "bench-ckpt", isEncrypted: false)
        defer { stand.end() }
        let obstacle = RedisPair.obstacle
        if let obstacle {
            StandardError.write("saf bench cluster: \(obstacle)\n")
        } else {
            try RedisPair.start(in: stand.lab)
        }
        let record = try stand.measure(obstacle == nil ? .synchronousAndRedis : .synchronous)
        try stand.look()
        let (floor, redis) = (record.microseconds("tcp"), record.microseconds("redis"))
        let (write, floorMedian) = (record.microseconds("write"), floor.percentile(0.5))
        publish(
            BenchResult(
                name: "cluster.tcp", unit: "µs", samples: floor,
                note: "1 KiB there and back between two nodes, blocking sockets"))
        if redis.count > 0 {
            publish(
                BenchResult(
                    name: "cluster.redis.write", unit: "µs", samples: redis, floor: floorMedian,
                    note: "SET of 1 KiB and WAIT 1, sent together, on a Redis pair in the same nodes"))
        }
        let bound = min(3 * floorMedian, redis.count > 0 ? redis.percentile(0.5) : .infinity)
        publish(
            BenchResult(
                name: "cluster.ckpt.write", unit: "µs", samples: write, floor: floorMedian, bound: bound,
                note: "1 KiB to both replicas, links without TLS; bound: three floors, and the Redis pair"))
        try asynchronous(stand, publish)
        try direct(stand, publish)
        try copies(stand, publish)
        return Plain(write: write.percentile(0.5), floor: floorMedian)
    }

    private static func asynchronous(_ stand: CheckpointStand, _ publish: (BenchResult) -> Void) throws {
        let stretches = try stand.measure(.asynchronous).lines.filter { $0.name == "stretch" && $0.values.count == 2 }
        let rates = stretches.map { Double($0.values[0]) / 1e6 / (Double(max(1, $0.values[1])) / 1e9) }
        publish(
            BenchResult(
                name: "cluster.ckpt.async", unit: "MB/s", samples: Samples(rates), atLeast: 300,
                note: "64 KiB writes to the active replica, until the other has them, too"))
    }

    private static func direct(_ stand: CheckpointStand, _ publish: (BenchResult) -> Void) throws {
        let slices = try stand.whileHeld { try $0.measure(.direct) }.lines
            .filter { $0.name == "slice" && $0.values.count == 4 }.map { $0.values.map { Double(max(1, $0)) } }
        publish(
            BenchResult(
                name: "cluster.ckpt.direct.write", unit: "ns", samples: Samples(slices.map { $0[1] / $0[0] }),
                note: "64 bytes to a section that is left to its writers, the other replica is told"))
        publish(
            BenchResult(
                name: "cluster.ckpt.direct.lag", unit: "µs", samples: Samples(slices.map { $0[2] / 1e3 }),
                note: "from the last of 20,000 such writes until the other replica has it"))
        publish(
            BenchResult(
                name: "cluster.ckpt.direct.updates", unit: "1/s",
                samples: Samples(slices.map { $0[3] / (($0[1] + $0[2]) / 1e9) }),
                note: "updates that arrive there meanwhile; each has all that was written since the one before"))
    }

    private static func copies(_ stand: CheckpointStand, _ publish: (BenchResult) -> Void) throws {
        var (rates, writes) = (Samples(), Samples())
        for _ in 0..<3 {
            let lines = try stand.copy()
            guard let copied = lines.first(where: { $0.name == "copied" })?.values, copied.count == 2,
                let written = lines.first(where: { $0.name == "written" })?.values.first
            else { throw StageError("a copy was not written down") }
            let seconds = Double(max(1, copied[1])) / 1e9
            rates.append(Double(copied[0]) / 1e6 / seconds)
            writes.append(Double(written) / seconds)
        }
        publish(
            BenchResult(
                name: "cluster.ckpt.copy", unit: "MB/s", samples: rates, atLeast: 300,
                note: "a replica of 1 GiB made on the other node, while writes go on"))
        publish(
            BenchResult(name: "cluster.ckpt.copy.writes", unit: "1/s", samples: writes, note: "those writes, of 1 KiB"))
    }

    private static func measureTls(_ plain: Plain, _ publish: (BenchResult) -> Void) throws {
        let stand = try CheckpointStand(name: "bench-tls", isEncrypted: true)
        defer { stand.end() }
        let record = try stand.measure(.synchronous)
        try stand.look()
        let floor = record.microseconds("tcp").percentile(0.5)
        publish(
            BenchResult(
                name: "cluster.ckpt.write.tls", unit: "µs", samples: record.microseconds("write"), floor: floor,
                bound: plain.floor > 0 ? 1.5 * plain.write / plain.floor * floor : nil,
                note: "the same with TLS; bound: 1.5 times as many floors as without"))
    }
}

/// Two nodes with ckptd, and who answers the TCP floor.
private final class CheckpointStand {
    let lab: ClusterLab
    private var measured = 0

    init(name: String, isEncrypted: Bool) throws {
        lab = try ClusterBench.lab(nodes: 2, name: name, isEncrypted: isEncrypted)
        for node in 1...2 {
            let output = try File.openForAppending(lab.folder(of: node) + "/log/ckptd.out")
            _ = try lab.spawn(
                ["ckptd"], on: node,
                descriptors: [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)],
                environment: ["SAF_LOG_STDERR=1"])
        }
        _ = try lab.startRole("tcp-echo", [LabOptions.address(of: 2, plane: 0)], on: 2)
    }

    func end() {
        try? lab.down()  // what is left is swept by the next lab
    }

    /// Throws when node 2 does not see what node 1 wrote.
    func look() throws {
        try lab.runRole(
            "cluster-checkpoints", [CheckpointMeasurement.looking.rawValue, "", ""], on: 2, timeout: .seconds(30))
    }

    /// A large checkpoint is filled on node 1, and copied by being opened on node 2.
    func copy() throws -> [Record.Line] {
        measured += 1
        let record = Record(path: "\(lab.folder)/samples-\(measured)")
        let arguments = { (kind: CheckpointMeasurement) in
            [kind.rawValue, LabOptions.address(of: 2, plane: 0), record.path]
        }
        let writer = try lab.startRole("cluster-checkpoints", arguments(.filling), on: 1)
        defer { SafBench.end(writer.pid, pidfd: writer.rawPidfd) }
        _ = try lab.wait(for: "the large checkpoint is filled", timeout: .seconds(120), every: .milliseconds(50)) {
            record.lines.contains { $0.name == "filled" } ? true : nil
        }
        try lab.runRole("cluster-checkpoints", arguments(.copying), on: 2, timeout: .seconds(150))
        return try lab.wait(for: "the writer has seen the copy", timeout: .seconds(30), every: .milliseconds(50)) {
            let lines = record.lines
            return lines.contains { $0.name == "written" } ? lines : nil
        }
    }

    /// While node 2 has open what is written directly on node 1.
    func whileHeld<Value>(_ body: (CheckpointStand) throws -> Value) throws -> Value {
        let holder = try lab.startRole(
            "cluster-checkpoints", [CheckpointMeasurement.holding.rawValue, "", ""], on: 2)
        defer { SafBench.end(holder.pid, pidfd: holder.rawPidfd) }
        return try body(self)
    }

    /// Measures on node 1.
    func measure(_ kind: CheckpointMeasurement) throws -> Record {
        measured += 1
        let record = Record(path: "\(lab.folder)/samples-\(measured)")
        try lab.runRole(
            "cluster-checkpoints", [kind.rawValue, LabOptions.address(of: 2, plane: 0), record.path], on: 1,
            timeout: .seconds(180))
        return record
    }
}
