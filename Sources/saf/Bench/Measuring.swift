import EngineKit
import OSAL
import SafStage

func microseconds(since start: Instant) -> Double { Double((MonotonicClock.now() - start).nanoseconds) / 1_000 }

/// Times each round in µs; the rate is of all rounds together.
func time(rounds: Int, _ body: () throws -> Void) rethrows -> (Samples, rate: Double) {
    var samples = Samples()
    samples.reserve(rounds)
    let begin = MonotonicClock.now()
    for _ in 0..<rounds {
        let start = MonotonicClock.now()
        try body()
        samples.append(microseconds(since: start))
    }
    return (samples, Double(rounds) / (microseconds(since: begin) / 1e6))
}

/// For things shorter than reading the clock: times batches and gives ns for one.
func timeBatches(_ batches: Int, of count: Int, _ body: (Int) throws -> Void) rethrows -> (Samples, rate: Double) {
    var samples = Samples()
    samples.reserve(batches)
    let begin = MonotonicClock.now()
    for batch in 0..<batches {
        let start = MonotonicClock.now()
        for index in 0..<count { try body(batch * count + index) }
        samples.append(microseconds(since: start) * 1_000 / Double(count))
    }
    return (samples, Double(batches * count) / (microseconds(since: begin) / 1e6))
}

/// Places inside a folder, for a bench that starts no node.
func privatePlaces(in folder: String) -> Places {
    Places(
        runDirectory: folder, shmDirectory: folder + "/shm", stateDirectory: folder, logDirectory: folder,
        configDirectory: folder, nodeName: "bench")
}

/// Ends a process that this bench started.
func end(_ pid: Int32, pidfd: Int32) {
    _ = try? Process.kill(pid, .kill)
    _ = try? IO.waitUntil(pidfd, readable: true, deadline: MonotonicClock.now() + .seconds(5))
    _ = Process.reap(pid)
}
