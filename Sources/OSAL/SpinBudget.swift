import EngineKit

/// How long it is worth polling before sleeping, learnt from how polling and sleeping went. A pure value.
///
/// Waking a sleeper costs tens of microseconds, so polling that finds work sooner saves that; polling that finds
/// nothing burns a CPU that somebody else may need, perhaps the very one who should send the work. So: polling in vain
/// halves the budget down to nothing; several short sleeps in a row (a sign of traffic) restore it, and the more of
/// them are needed the more often that was in vain; work found in time shows that polling pays.
///
/// A poller gives way to who waits for its processor (``giveWay(since:now:)``), and so learns whether it has the
/// processor for itself. Pollers that share one then hand it on to each other for a microsecond, which is less than a
/// wake-up; before they did, three of them on two processors kept each other from running for as long as they polled.
/// One long call is no sign of that: the first after a rest finds the kernel in no cache, and takes as long as that.
/// Who computes does not hand on: what is found after such a wait is found by luck, and polling ends.
///
/// Who has woken the other side polls for longer (``woke()``): it answers after a wake-up, and finds its code and data
/// in no cache. To stop just before such an answer costs the polling and a wake-up of one's own.
///
/// Plain integers inside: arithmetic of `Duration` is 128 bits wide.
public struct SpinBudget: Hashable, Sendable {
    /// Sleeping less than this would have been better spent spinning: two wake-ups of a halted CPU and some work.
    static let shortSleepNanoseconds: Int64 = 250_000
    /// From here on a sleep is a rest, and traffic is at an end. Between the two somebody was late.
    static let restNanoseconds: Int64 = 1_000_000
    /// So many short sleeps in a row count as traffic; one alone does not.
    static let patienceMin = 3
    static let patienceMax = 96
    /// Before this much polling nobody is given way to: a local answer is there by then, and the call would delay it.
    static let graceNanoseconds: UInt64 = 4_000
    /// Giving way takes less when nobody waits for the processor, and two switches when somebody does.
    static let switchNanoseconds: UInt64 = 1_500

    /// What a daemon that slept for milliseconds needs beyond the limit: it answers after 30 to 130 µs.
    static let wakeNanoseconds: Int64 = 100_000

    private let limitNanoseconds: Int64
    private var allowed: Int64 = 0
    /// Beyond `allowed`, once.
    private var extra: Int64 = 0
    /// Polling in vain for the answer of who was woken, which the sleep that follows goes on with.
    private var polled: Int64 = 0
    private var shortSleeps = 0
    private var patience = SpinBudget.patienceMin
    /// Somebody else has run on this processor when it was given way to, the last two times.
    public private(set) var isShared = false
    /// The last time.
    private var wasLong = false

    /// - Parameter limit: the most a poller may spin at a time; zero never spins.
    public init(limit: Duration) { limitNanoseconds = max(0, limit.nanoseconds) }

    public var limit: Duration { .nanoseconds(limitNanoseconds) }

    /// The most to spin now; zero says: sleep at once.
    public var current: Duration { .nanoseconds(allowed) }
    public var isZero: Bool { allowed == 0 }

    /// When polling that starts now must end.
    public func end(from now: Instant) -> Instant {
        Instant(nanoseconds: now.nanoseconds &+ UInt64(bitPattern: isZero ? 0 : allowed + extra))
    }

    /// The other side slept, and has been woken: polling for its answer may take longer, if it pays at all. Not on a
    /// processor that is shared, which the other side may need.
    public mutating func woke() { extra = isShared ? 0 : Self.wakeNanoseconds }

    /// Polling since `start` found work now.
    public mutating func found(since start: Instant, now: Instant) {
        let most = limitNanoseconds + extra
        (extra, polled) = (0, 0)
        guard Int64(clamping: now.nanoseconds &- start.nanoseconds) <= most else { return giveUp() }
        allowed = limitNanoseconds
        patience = Self.patienceMin
    }

    /// To be called between looks of a poller that began at `start`: lets others run. Returns what time it is then.
    public mutating func giveWay(since start: Instant, now: Instant) -> Instant {
        guard isShared || now.nanoseconds &- start.nanoseconds >= Self.graceNanoseconds else { return now }
        OSAL.giveWay()
        let later = MonotonicClock.now()
        gaveWay(from: now, until: later)
        return later
    }

    mutating func gaveWay(from start: Instant, until end: Instant) {
        let isLong = end.nanoseconds &- start.nanoseconds >= Self.switchNanoseconds
        isShared = isLong && wasLong
        wasLong = isLong
        if isShared { extra = 0 }
    }

    /// The whole budget was spent for nothing.
    public mutating func spent() {
        shortSleeps = 0
        polled = extra > 0 ? allowed + extra : 0
        extra = 0
        allowed /= 2
        if allowed < limitNanoseconds / 8 { giveUp() }
    }

    private mutating func giveUp() {
        shortSleeps = 0
        allowed = 0
        polled = 0
        patience = min(patience * 2, Self.patienceMax)
    }

    /// A sleep that was ended by work took so long.
    public mutating func slept(since start: Instant, until end: Instant) {
        let slept = Int64(clamping: end.nanoseconds &- start.nanoseconds)
        let before = polled
        (extra, polled) = (0, 0)
        guard slept < Self.shortSleepNanoseconds else {
            if slept >= Self.restNanoseconds { shortSleeps = 0 }
            return
        }
        if before > 0, before + slept <= limitNanoseconds + Self.wakeNanoseconds {
            // A budget that one late answer had halved missed this one, which the whole would have found.
            allowed = limitNanoseconds
            return
        }
        shortSleeps += 1
        guard shortSleeps >= patience else { return }
        shortSleeps = 0
        allowed = limitNanoseconds
    }
}
