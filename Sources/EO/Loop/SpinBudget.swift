import EngineKit

/// How long it is worth polling before sleeping, learnt from how polling and sleeping went. A pure value.
///
/// Waking a sleeper costs tens of microseconds, so polling that finds work sooner saves that; polling that finds
/// nothing burns a CPU that somebody else may need. So: spinning that failed halves the budget down to nothing, and a
/// sleep that turned out short, or work found by spinning, restores it.
public struct SpinBudget: Hashable, Sendable {
    /// The most a poller may spin at a time.
    public let limit: Duration
    /// Sleeping less than this would have been better spent spinning: two wake-ups of a halted CPU and some work.
    public static let shortSleep: Duration = .microseconds(250)
    /// So many short sleeps in a row count as traffic; one alone does not.
    static let shortSleepsToSpin = 3

    private var allowed: Int64
    private var shortSleeps = 0

    public init(limit: Duration) {
        self.limit = limit
        allowed = 0
    }

    /// The most to spin now; zero says: sleep at once.
    public var current: Duration { .nanoseconds(allowed) }
    public var isZero: Bool { allowed == 0 }

    /// Polling found work before the budget was spent.
    public mutating func found() { allowed = limit.nanoseconds }

    /// The whole budget was spent for nothing.
    public mutating func spent() {
        allowed /= 2
        if allowed < limit.nanoseconds / 8 { allowed = 0 }
        shortSleeps = 0
    }

    /// A sleep that was ended by work took so long.
    public mutating func slept(_ duration: Duration) {
        guard duration < Self.shortSleep else {
            shortSleeps = 0
            return
        }
        shortSleeps += 1
        if shortSleeps >= Self.shortSleepsToSpin { allowed = limit.nanoseconds }
    }
}
