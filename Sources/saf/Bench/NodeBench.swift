import EngineKit
import OSAL
import SafStage

/// What a whole node costs when nothing happens, and how fast the operator is answered.
enum NodeBench {
    static let daemons = ["amfd", "clmd", "logd", "ckptd", "eventd", "cliserver"]
    /// Idle time in which wake-ups are counted.
    static let idle = Duration.seconds(5)

    /// `saf status` as the operator types it: start of the program to its end.
    static func status(_ publish: (BenchResult) -> Void) throws {
        let node = try PrivateNode(name: "bench")
        defer { node.destroy() }
        try startIdle(node)
        var samples = Samples()
        for round in 0..<23 {
            let start = MonotonicClock.now()
            let child = try node.spawn("saf", ["status"])
            _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: start + .seconds(10))
            guard Process.reap(child.pid) == .exited(code: 0) else { throw StageError("saf status failed") }
            if round >= 3 { samples.append(microseconds(since: start) / 1_000) }
        }
        node.stop()
        publish(
            BenchResult(name: "status", unit: "ms", samples: samples, bound: 50, note: "saf status, from start to exit")
        )
    }

    /// Wake-ups and memory of each daemon while nothing happens; then what one health check of a daemon costs.
    static func idle(_ publish: (BenchResult) -> Void) throws {
        try observe(healthcheckPeriod: "0s") { daemon, woken, resident in
            publish(
                BenchResult(
                    name: "idle.\(daemon).wakeups", unit: "/5s", samples: Samples([woken]), bound: 0,
                    note: "voluntary context switches of all its threads while nothing happens, without health checks"))
            publish(
                BenchResult(
                    name: "idle.\(daemon).rss", unit: "MiB", samples: Samples([resident]), bound: 15,
                    note: "resident memory"))
        }
        let checks = idle.nanoseconds / 1_000_000_000
        try observe(healthcheckPeriod: "1s") { daemon, woken, _ in
            publish(
                BenchResult(
                    name: "healthcheck.\(daemon)", unit: "/1", samples: Samples([woken / Double(checks)]),
                    note: "the same for one round of health checks: one question to each of five daemons"))
        }
    }

    private static func observe(healthcheckPeriod: String, _ report: (String, Double, Double) -> Void) throws {
        let node = try PrivateNode(name: "bench")
        defer { node.destroy() }
        try node.write(cluster: "daemonHealthcheckPeriod: \(healthcheckPeriod)\n")
        try startIdle(node)
        PrivateNode.pause(.seconds(2))
        let before = try daemons.map { daemon in
            guard let pid = node.process(of: daemon)?.pid else { throw StageError("\(daemon) is not running") }
            return (daemon, pid, switches(of: pid))
        }
        PrivateNode.pause(idle)
        for (daemon, pid, count) in before {
            let woken = Double(max(0, switches(of: pid) - count))
            report(daemon, woken, Double(Process.residentBytes(of: pid) ?? 0) / Double(1 << 20))
        }
        node.stop()
    }

    private static func startIdle(_ node: PrivateNode) throws {
        try node.start()
        _ = try node.wait(for: "all daemons", timeout: .seconds(60)) {
            let running = Set(node.processes().map(\.program))
            return running.isSuperset(of: daemons) ? true : nil
        }
        PrivateNode.pause(.seconds(1))
    }

    /// How often any thread of the process was put to sleep and woken.
    private static func switches(of pid: Int32) -> Int {
        let threads = (try? File.list("/proc/\(pid)/task")) ?? []
        return threads.reduce(0) { sum, thread in
            let text = (try? File.readText("/proc/\(pid)/task/\(thread)/status", limit: 65_536)) ?? ""
            let line = text.split(separator: "\n").first { $0.hasPrefix("voluntary_ctxt_switches:") }
            return sum + (line?.split(whereSeparator: { $0 == ":" || $0 == "\t" }).last.flatMap { Int($0) } ?? 0)
        }
    }
}
