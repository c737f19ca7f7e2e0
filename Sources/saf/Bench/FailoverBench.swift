import AmfClient
import EngineKit
import OSAL
import SAFTypes
import SafStage

/// From SIGKILL of the active component to the moment the standby holds its active assignment.
enum FailoverBench {
    static func run(_ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        for (mebibytes, kills) in [(1, 100), (500, 30)] {
            let (samples, hot, rested) = try measure(residentMebibytes: mebibytes, kills: kills, beside: floor)
            let hotFloor = hot.percentile(0.5)
            publish(
                BenchResult(
                    name: "failover.\(mebibytes)MiB", unit: "µs", samples: samples, floor: hotFloor,
                    bound: min(1_000, 8 * hotFloor),
                    note: "SIGKILL of the active, \(mebibytes) MiB resident, to the standby's active assignment"))
            publish(
                BenchResult(
                    name: "failover.\(mebibytes)MiB.rested", unit: "µs", samples: rested,
                    note: "for comparison: one socket ping-pong after the same rest as before each kill"))
        }
    }

    /// Everybody is asleep again: the worst case for the wake-ups, of the floor's as of ours.
    private static let rest = Duration.milliseconds(60)

    /// - Returns: also the floor before each kill, back to back and after a rest of everybody.
    static func measure(
        residentMebibytes: Int, kills: Int, beside floor: Floor
    ) throws -> (samples: Samples, hot: Samples, rested: Samples) {
        let node = try PrivateNode(name: "bench", model: nil)
        defer { node.destroy() }
        try node.write(model: model(folder: node.folder, residentMebibytes: residentMebibytes))
        try node.write(cluster: "nodes: { \(node.places.nodeName): { suFailoverMax: 1000000 } }\n")
        try node.start()
        let log = node.folder + "/assignments"
        var (samples, hot, rested) = (Samples(), Samples(), Samples())
        for _ in 0..<kills {
            let before = try node.wait(for: "an active and a standby component", timeout: .seconds(60)) {
                AssignmentLog(path: log).pair
            }
            hot.append(try floor.hot(rounds: 50))
            PrivateNode.pause(rest)
            rested.append(try floor.cold(rounds: 1))
            PrivateNode.pause(rest)
            let start = MonotonicClock.now()
            _ = try Process.kill(before.active, .kill)
            PrivateNode.pause(.milliseconds(5))  // reading the log meanwhile would cost the measured a CPU
            let taken = try node.wait(for: "the standby to become active", timeout: .seconds(20)) {
                AssignmentLog(path: log).entries.last {
                    $0.haState == "active" && $0.at > start && $0.pid != before.active
                }
            }
            samples.append(Double((taken.at - start).nanoseconds) / 1_000)
            node.reap()
        }
        node.stop()
        return (samples, hot, rested)
    }

    private static func model(folder: String, residentMebibytes: Int) -> String {
        """
        application: bench
        serviceGroups:
          bench:
            redundancyModel: 2n
            serviceUnits: 2
            components:
              bench:
                command: \(Environment.executablePath ?? "saf")
                arguments: [\(Peer.command), component]
                environment: { BENCH_FOLDER: "\(folder)", BENCH_MEBIBYTES: "\(residentMebibytes)" }
                recoveryOnError: component-failover
            serviceInstances: [bench]

        """
    }
}

/// What the bench's components wrote down: one line per assignment, `HASTATE MONOTONIC-NS PID`.
struct AssignmentLog {
    struct Entry {
        var haState: String
        var at: Instant
        var pid: Int32
    }

    let entries: [Entry]

    init(path: String) {
        let text = (try? File.readText(path)) ?? ""
        entries = text.split(separator: "\n").compactMap { line in
            let words = line.split(separator: " ")
            guard words.count == 3, let time = UInt64(words[1]), let pid = Int32(words[2]) else { return nil }
            return Entry(haState: String(words[0]), at: Instant(nanoseconds: time), pid: pid)
        }
    }

    /// The living active and the living standby, when there are both.
    var pair: (active: Int32, standby: Int32)? {
        guard let active = entries.last(where: { $0.haState == "active" })?.pid,
            let standby = entries.last(where: { $0.haState == "standby" && $0.pid != active })?.pid,
            Process.information(of: active)?.isExiting == false, Process.information(of: standby)?.isExiting == false,
            let last = entries.last(where: { $0.pid == standby }), last.haState == "standby"
        else { return nil }
        return (active, standby)
    }
}

/// The component of the bench: holds memory, answers assignments and writes down when they came.
func runBenchComponent() -> Never {
    let folder = Environment.get("BENCH_FOLDER") ?? "."
    runComponent(log: folder + "/assignments") { haState, now, file throws(OSError) in
        let line = Array("\(haState) \(now.nanoseconds) \(Environment.processID)\n".utf8)
        var failure: OSError?
        line.withUnsafeBytes { bytes in
            do throws(OSError) { try IO.writeAll(file, bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }
}

/// Holds BENCH_MEBIBYTES of memory, registers and calls `note` for each HA state it is given; "spare" at first.
func runComponent(
    log path: String, note: @escaping @Sendable (String, Instant, Int32) throws(OSError) -> Void
) -> Never {
    let size = (Environment.get("BENCH_MEBIBYTES").flatMap { Int($0) } ?? 1) << 20
    let ballast = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 4_096)
    for offset in stride(from: 0, to: size, by: 4_096) {
        ballast.storeBytes(of: 1, toByteOffset: offset, as: UInt8.self)
    }
    // On the library's thread alone: a kill wakes every thread of a process, one after the other.
    Task(executorPreference: Component.executor) {
        do {
            let log = try File.openForAppending(path)
            let component = try await Component.register()
            try note("spare", MonotonicClock.now(), log.raw)
            for await assignment in component.assignments {
                let now = MonotonicClock.now()  // before the note is put into words, which costs more than the rest
                if case .set(let haState, _) = assignment.action { try note("\(haState)", now, log.raw) }
                assignment.complete()
                if case .terminate = assignment.action { Environment.exit(0) }
            }
            Environment.exit(0)
        } catch {
            StandardError.write("saf bench: \(error)\n")
            Environment.exit(1)
        }
    }
    while true { PrivateNode.pause(.seconds(3_600)) }
}
