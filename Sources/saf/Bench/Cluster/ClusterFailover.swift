import EngineKit
import OSAL
import SafLab
import SafStage

/// From a death on one node to the moment a component on another holds its active assignment.
enum ClusterFailover {
    static let residentMebibytes = 500
    private static let processKills = 30
    private static let nodeKills = 8
    /// Everybody is asleep again.
    private static let rest = Duration.milliseconds(200)

    static func run(_ publish: (BenchResult) -> Void) throws {
        let stand = try FailoverStand()
        defer { stand.end() }
        try stand.awaitReady()
        try processes(stand, publish)
        try nodes(stand, publish)
    }

    private static func processes(_ stand: FailoverStand, _ publish: (BenchResult) -> Void) throws {
        let floor = try stand.multicasts()
        publish(
            BenchResult(
                name: "cluster.cpg", unit: "ms", samples: floor, floor: try stand.pingPongs().percentile(0.5) / 1_000,
                note: "one ordered message to another node when corosync rests; floor: TCP ping-pong between two nodes")
        )
        var samples = Samples()
        for _ in 0..<processKills {
            let active = try stand.awaitReady()
            PrivateNode.pause(rest)
            let component = try stand.component(of: active)
            samples.append(try stand.failover(from: active) { try Process.kill(component, .kill) } / 1_000)
        }
        publish(
            BenchResult(
                name: "cluster.failover.process", unit: "ms", samples: samples,
                floor: floor.percentile(0.5), bound: 3,
                note:
                    "SIGKILL of the active on one node, \(residentMebibytes) MiB resident, to the active assignment on "
                    + "another; floor: cluster.cpg"))
    }

    private static func nodes(_ stand: FailoverStand, _ publish: (BenchResult) -> Void) throws {
        var (detections, samples) = (Samples(), Samples())
        for _ in 0..<nodeKills {
            let active = try stand.awaitReady()
            PrivateNode.pause(rest)
            try stand.awaitWitnesses(of: active)
            let start = MonotonicClock.now()
            samples.append(try stand.failover(from: active) { try stand.lab.kill(active) } / 1_000)
            detections.append(try stand.detection(of: active, since: start) / 1_000)
            try stand.start(active)
        }
        let detected = detections.percentile(0.5)
        publish(
            BenchResult(
                name: "cluster.detection", unit: "ms", samples: detections,
                note: "a node's death to corosync's view without it, token \(stand.lab.options.token) ms"))
        publish(
            BenchResult(
                name: "cluster.failover.node", unit: "ms", samples: samples, floor: detected, bound: 1.2 * detected,
                note: "the same deaths to the active assignment elsewhere; floor: corosync's own detection"))
    }
}

/// Three nodes with the whole middleware, a component in 2N over them, and a witness of corosync's views on each.
private final class FailoverStand {
    let lab: ClusterLab
    private let assignments: Record
    private let views: Record
    /// When the component of a node was killed last.
    private var killedAt: [Int: Instant] = [:]

    init() throws {
        lab = try ClusterBench.lab(nodes: 3, name: "bench-fail")
        assignments = Record(path: lab.folder + "/assignments")
        views = Record(path: lab.folder + "/views")
        for node in 1...lab.options.nodes {
            try lab.write(model: model, on: node)
            try lab.write(cluster: cluster(of: node), on: node)
        }
        for node in 1...lab.options.nodes { try startDaemons(node) }
    }

    func end() {
        try? lab.down()  // what is left is swept by the next lab
    }

    /// Gives a node power again.
    func start(_ node: Int) throws {
        try lab.boot([node])
        try startDaemons(node)
    }

    private func startDaemons(_ node: Int) throws {
        try lab.startNode(node)
        _ = try lab.startRole("views", [views.path], on: node)
    }

    /// That the component dies again and again is no reason to give its node up.
    private func cluster(of node: Int) throws -> String {
        try File.readText(lab.places(of: node).configDirectory + "/cluster.yaml")
            .replacing(": { id: ", with: ": { suFailoverMax: 1000000, id: ")
    }

    private var model: String {
        let units = (1...lab.options.nodes).map { "SU\($0): { node: \(LabOptions.nodeName($0)) }" }
        return """
            application: bench
            serviceGroups:
              bench:
                redundancyModel: 2n
                serviceUnits: { \(units.joined(separator: ", ")) }
                preferredInServiceSUs: \(lab.options.nodes)
                components:
                  bench:
                    command: \(Environment.executablePath ?? "saf")
                    arguments: [\(Peer.command), cluster-component, "\(assignments.path)"]
                    environment: { BENCH_MEBIBYTES: "\(ClusterFailover.residentMebibytes)" }
                    recoveryOnError: component-failover
                serviceInstances: [bench]

            """
    }

    // MARK: What is seen

    /// The last that the component of each node wrote down, since it was killed.
    private var states: [Int: String] {
        var states: [Int: String] = [:]
        for line in assignments.lines where line.values.count == 2 {
            let (node, at) = (Int(line.values[0]), Instant(nanoseconds: line.values[1]))
            if at > killedAt[node] ?? .start { states[node] = line.name }
        }
        return states
    }

    /// Waits until the component runs on every node, active on one and standby on another; the active's node.
    @discardableResult
    func awaitReady() throws -> Int {
        try lab.wait(for: "an active, a standby and a spare component; see \(lab.folder)", timeout: .seconds(90)) {
            let states = states
            guard states.count == lab.options.nodes, states.values.contains("standby") else { return nil }
            return states.first { $0.value == "active" }?.key
        }
    }

    /// Microseconds from the death that `kill` brings to the active assignment on another node.
    func failover(from node: Int, _ kill: () throws -> Void) throws -> Double {
        let start = MonotonicClock.now()
        killedAt[node] = start
        try kill()
        PrivateNode.pause(.milliseconds(5))  // reading meanwhile would cost the measured a processor
        let taken = try lab.wait(for: "another node to become active; see \(lab.folder)", timeout: .seconds(30)) {
            assignments.lines.first {
                $0.name == "active" && $0.values.count == 2 && $0.values[0] != UInt64(node)
                    && $0.values[1] > start.nanoseconds
            }
        }
        return Double(taken.values[1] - start.nanoseconds) / 1_000
    }

    /// The process of a node's component. To look for it takes a millisecond, which is no part of a failover.
    func component(of node: Int) throws -> Int32 {
        for process in lab.processes(of: node) where process.name == "saf" {
            // A process that ends meanwhile has no command line.
            let line = (try? File.readAll("/proc/\(process.pid)/cmdline")) ?? []
            if line.split(separator: 0).contains(where: { $0.elementsEqual("cluster-component".utf8) }) {
                return process.pid
            }
        }
        throw StageError("node \(node) has no component; see \(lab.folder)")
    }

    /// Waits until the witnesses of the other nodes know this one.
    func awaitWitnesses(of node: Int) throws {
        _ = try lab.wait(for: "witnesses of node \(node); see \(lab.folder)", timeout: .seconds(30)) {
            var last: [UInt64: Set<UInt64>] = [:]
            for line in views.lines where line.values.count > 2 { last[line.values[0]] = Set(line.values.dropFirst(2)) }
            let others = (1...lab.options.nodes).filter { $0 != node }
            return others.allSatisfy { last[UInt64($0)]?.contains(UInt64(node)) == true } ? true : nil
        }
    }

    /// Microseconds to the first view without the node on any other.
    func detection(of node: Int, since start: Instant) throws -> Double {
        let seen = try lab.wait(for: "a view without node \(node); see \(lab.folder)", timeout: .seconds(30)) {
            views.lines.first { line in
                line.name == "view" && line.values.count > 2 && line.values[1] > start.nanoseconds
                    && line.values[0] != UInt64(node) && !line.values.dropFirst(2).contains(UInt64(node))
            }
        }
        return Double(seen.values[1] - start.nanoseconds) / 1_000
    }

    /// Milliseconds that messages of one witness needed to the others.
    func multicasts() throws -> Samples {
        let record = Record(path: lab.folder + "/multicasts")
        let sender = try lab.startRole("multicasts", [record.path], on: 1)
        defer { SafBench.end(sender.pid, pidfd: sender.rawPidfd) }
        let receiver = try lab.startRole("multicasts", [record.path], on: 2)
        defer { SafBench.end(receiver.pid, pidfd: receiver.rawPidfd) }
        return try lab.wait(for: "\(MulticastWitness.count) messages; see \(lab.folder)", timeout: .seconds(30)) {
            let samples = record.lines.compactMap { $0.values.first.map { Double($0) / 1_000_000 } }
            return samples.count < MulticastWitness.count ? nil : Samples(samples)
        }
    }

    func pingPongs() throws -> Samples {
        let record = Record(path: lab.folder + "/pings")
        let echo = try lab.startRole("tcp-echo", [LabOptions.address(of: 2, plane: 0)], on: 2)
        defer { SafBench.end(echo.pid, pidfd: echo.rawPidfd) }
        try lab.runRole("tcp-ping", [LabOptions.address(of: 2, plane: 0), record.path], on: 1, timeout: .seconds(30))
        return record.microseconds("tcp")
    }
}

/// The component on a node: its states as `HASTATE NODE TIME`.
func runClusterComponent(_ path: String) -> Never {
    let node = Environment.get("SAF_NODE_ID").flatMap { UInt64($0) } ?? 0
    runComponent(log: path) { haState, now, file throws(OSError) in
        try Record.append(haState, [node, now.nanoseconds], to: file)
    }
}
