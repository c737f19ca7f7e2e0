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

/// As ``time(rounds:_:)``, in slices with a piece of the hot floor before each, so that both see the same load.
/// - Returns: also the floor's median.
func time(
    rounds: Int, beside floor: Floor, _ body: () throws -> Void
) throws -> (samples: Samples, rate: Double, floor: Double) {
    let slices = 40
    var (samples, floors) = (Samples(), Samples())
    samples.reserve(rounds)
    var microseconds = 0.0
    for _ in 0..<slices {
        floors.append(try floor.hot(rounds: 100))
        let (slice, rate) = try time(rounds: rounds / slices, body)
        samples.append(slice)
        microseconds += Double(slice.count) / rate * 1e6
    }
    return (samples, Double(samples.count) / (microseconds / 1e6), floors.percentile(0.5))
}

/// Something that happens once in a while, beside the cold floor.
struct ColdPairs {
    private static let slice = 20

    /// µs.
    private(set) var samples = Samples()
    private(set) var floors = Samples()
    /// Of the medians of slices: how far to trust the one ratio of all.
    private(set) var ratios = Samples()

    /// Sample by sample, the same pause before each; every other time the floor comes first, so that neither always
    /// finds what the other has left.
    init(rounds: Int, beside floor: Floor, _ body: () throws -> Void) throws {
        for _ in 0..<(rounds / Self.slice) {
            var (own, floors) = (Samples(), Samples())
            for round in 0..<Self.slice {
                if round % 2 == 0 { floors.append(try floor.cold(rounds: 1)) }
                PrivateNode.pause(Floor.coldPause)
                let start = MonotonicClock.now()
                try body()
                own.append(microseconds(since: start))
                if round % 2 != 0 { floors.append(try floor.cold(rounds: 1)) }
            }
            ratios.append(own.percentile(0.5) / max(floors.percentile(0.5), 0.001))
            samples.append(own)
            self.floors.append(floors)
        }
    }

    /// - Parameter note: what was done, before the words about the floor.
    func publish(_ name: String, note: String, _ publish: (BenchResult) -> Void) {
        let floor = floors.percentile(0.5)
        publish(
            BenchResult(
                name: name, unit: "µs", samples: samples, floor: floor, bound: 1.3 * floor,
                note: note + "; floor: socket ping-pong, in turns with it, after the same pauses"))
        publish(
            BenchResult(
                name: name + ".ratio", unit: "x", samples: ratios,
                note: "the spread of that ratio over slices of \(Self.slice)"))
    }
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
