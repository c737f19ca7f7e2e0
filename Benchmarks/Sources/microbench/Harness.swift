import EngineKit
import OSAL
import Synchronization

/// Something to measure: performs so many operations and says how long those took that count.
struct Work {
    let name: String
    let run: (_ count: Int) throws -> Duration

    /// Everything the body does counts; it performs `count` operations itself, so that no call is between them.
    init(_ name: String, _ body: @escaping (_ count: Int) throws -> Void) {
        self.name = name
        run = { count in
            let start = MonotonicClock.now()
            try body(count)
            return MonotonicClock.now() - start
        }
    }

    /// Only what the body adds up counts: for operations that need preparation. Each is to take a microsecond or more.
    init(timing name: String, _ body: @escaping (_ count: Int) throws -> Duration) {
        self.name = name
        run = body
    }
}

/// A type of ours beside what does the same with less, measured in turns in the same run.
struct Comparison {
    /// `FOLDER.what`; what is given on the command line selects by its beginning.
    let name: String
    let subject: Work
    let peer: Work
}

/// The medians of both sides, in ns for one operation.
struct Figure {
    let comparison: Comparison
    let subject: Double
    let peer: Double
    var ratio: Double { peer > 0 ? subject / peer : 0 }
}

enum Harness {
    /// Batches of each side; the median of so many forgives what else the machine does.
    static let batches = 31
    /// A batch is as long as this, so that reading the clock does not count.
    static let batchTime = Duration.milliseconds(2)

    static func measure(_ comparison: Comparison) throws -> Figure {
        let counts = (try calibrate(comparison.subject), try calibrate(comparison.peer))
        var (subject, peer): ([Double], [Double]) = ([], [])
        for _ in 0..<batches {
            subject.append(try perOperation(comparison.subject, counts.0))
            peer.append(try perOperation(comparison.peer, counts.1))
        }
        return Figure(comparison: comparison, subject: median(subject), peer: median(peer))
    }

    /// How many operations last ``batchTime``; also the warming up.
    private static func calibrate(_ work: Work) throws -> Int {
        var count = 1
        while count < 1 << 30 {
            let taken = try work.run(count)
            if taken >= batchTime { return count }
            count *= taken < .microseconds(100) ? 8 : 2
        }
        return count
    }

    private static func perOperation(_ work: Work, _ count: Int) throws -> Double {
        Double(try work.run(count).nanoseconds) / Double(count)
    }

    private static func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }
}

private let sink = Atomic<UInt64>(0)

/// Uses a value in a way the optimizer cannot see through, so that its computation is not removed.
@inline(__always)
func keep(_ value: some FixedWidthInteger) { sink.store(UInt64(truncatingIfNeeded: value), ordering: .relaxed) }

/// A value that a bench changes from batch to batch. Behind a pointer, because a captured variable would cost a check
/// of exclusive access each time; lives as long as the program.
func kept<Value>(_ value: Value) -> UnsafeMutablePointer<Value> {
    let place = UnsafeMutablePointer<Value>.allocate(capacity: 1)
    place.initialize(to: value)
    return place
}

/// Why a bench could not be run.
struct BenchError: Error, CustomStringConvertible {
    let description: String
    init(_ description: String) { self.description = description }
}
