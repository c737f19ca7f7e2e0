import EngineKit

/// Which jobs run, since when, and how long they may.
struct JobMonitor: Sendable {
    struct Job: Hashable, Sendable {
        let name: String
        let thread: Int32
        let begunAt: Instant
        let limit: Duration

        func isStuck(at now: Instant) -> Bool { now - begunAt > limit }
    }

    private var jobs: [UInt64: Job] = [:]
    private var last: UInt64 = 0

    mutating func begin(_ name: String, thread: Int32, at now: Instant, limit: Duration) -> UInt64 {
        last += 1
        jobs[last] = Job(name: name, thread: thread, begunAt: now, limit: limit)
        return last
    }

    mutating func end(_ number: UInt64) { jobs[number] = nil }

    /// In the order in which they began.
    var running: [Job] { jobs.sorted { $0.key < $1.key }.map(\.value) }

    func stuck(at now: Instant) -> [Job] { running.filter { $0.isStuck(at: now) } }
}
