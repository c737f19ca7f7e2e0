import LogClient
import OSAL
import SafStage

/// Log records of 100 bytes, written while logd drains them.
enum LogBench {
    static func run(_ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        let node = try PrivateNode(name: "bench")
        defer { node.destroy() }
        let child = try node.spawn("logd", [])
        defer { end(child.pid, pidfd: child.rawPidfd) }
        _ = try node.wait(for: "logd", timeout: .seconds(20)) {
            File.exists(node.places.runDirectory + "/ioc/logd") ? true : nil
        }
        let log = Log(area: "BNC", context: "LOG", writer: LogWriter(LogWriter.Options(places: node.places)))
        let text = String(repeating: "x", count: 100)
        for _ in 0..<1_000 { log.notice(text) }
        // Bursts a ring can hold, with time to drain between them: dropping is quicker than writing and must not count.
        var all = Samples()
        for _ in 0..<50 {
            let (samples, _) = timeBatches(20, of: 50) { _ in log.notice(text) }
            all.append(samples)
            PrivateNode.pause(.milliseconds(30))
        }
        guard log.writer.droppedCount == 0 else { throw StageError("\(log.writer.droppedCount) records were dropped") }
        publish(
            BenchResult(
                name: "log.write", unit: "ns", samples: all, bound: 250,
                note: "a record of 100 bytes; p99 and max are of means of 50 records each"))
    }
}
