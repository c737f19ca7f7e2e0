import EngineKit

/// How long it is worth polling before sleeping, learnt from how polling and sleeping went. A pure value.
///
/// Waking a sleeper costs tens of microseconds, so polling that finds work sooner saves that; polling that finds
/// nothing burns a CPU that somebody else may need, perhaps the very one who should send the work. So: polling in vain
/// halves the budget down to nothing; several short sleeps in a row (a sign of traffic) restore it, and the more of
/// them are needed the more often that was in vain; work found soon shows that polling pays.
///
/// Plain integers inside: arithmetic of `Duration` is 128 bits wide.
public struct SpinBudget: Hashable, Sendable {
    /// Sleeping less than this would have been better spent spinning: two wake-ups of a halted CPU and some work.
    static let shortSleepNanoseconds: Int64 = 250_000
    /// So many short sleeps in a row count as traffic; one alone does not.
    static let patienceMin = 3
    static let patienceMax = 96

    private let limitNanoseconds: Int64
    private var allowed: Int64 = 0
    private var shortSleeps = 0
    private var patience = SpinBudget.patienceMin

    /// - Parameter limit: the most a poller may spin at a time; zero never spins.
    public init(limit: Duration) { limitNanoseconds = max(0, limit.nanoseconds) }

    public var limit: Duration { .nanoseconds(limitNanoseconds) }

    /// The most to spin now; zero says: sleep at once.
    public var current: Duration { .nanoseconds(allowed) }
    public var isZero: Bool { allowed == 0 }

    /// When polling that starts now must end.
    public func end(from now: Instant) -> Instant {
        Instant(nanoseconds: now.nanoseconds &+ UInt64(bitPattern: allowed))
    }

    /// Polling since `start` found work now.
    ///
    /// Late finds do not count: with both sides on one CPU the sender runs only when the poller is interrupted.
    public mutating func found(since start: Instant, now: Instant) {
        guard Int64(clamping: now.nanoseconds &- start.nanoseconds) <= limitNanoseconds / 2 else { return spent() }
        allowed = limitNanoseconds
        patience = Self.patienceMin
    }

    /// The whole budget was spent for nothing.
    public mutating func spent() {
        shortSleeps = 0
        allowed /= 2
        guard allowed < limitNanoseconds / 8 else { return }
        allowed = 0
        patience = min(patience * 2, Self.patienceMax)
    }

    /// A sleep that was ended by work took so long.
    public mutating func slept(since start: Instant, until end: Instant) {
        guard Int64(clamping: end.nanoseconds &- start.nanoseconds) < Self.shortSleepNanoseconds else {
            shortSleeps = 0
            return
        }
        shortSleeps += 1
        guard shortSleeps >= patience else { return }
        shortSleeps = 0
        allowed = limitNanoseconds
    }
}
