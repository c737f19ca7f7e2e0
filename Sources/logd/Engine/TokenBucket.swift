public import EngineKit

/// A rate with a burst: tokens come in steadily up to `burst`, and each byte takes one. More may be taken than there
/// is; the debt is paid first.
public struct TokenBucket: Sendable {
    public let rate: Int64
    public let burst: Int64
    private var tokens: Int64
    private var filledAt: Instant

    /// Full at first.
    /// - Parameters:
    ///   - rate: tokens a second, at least 1.
    ///   - burst: the most that can be saved up, at least 1.
    public init(rate: Int64, burst: Int64, at now: Instant) {
        self.rate = max(1, rate)
        self.burst = max(1, burst)
        tokens = self.burst
        filledAt = now
    }

    /// How many may be taken now; never negative.
    public mutating func available(at now: Instant) -> Int64 {
        fill(at: now)
        return max(0, tokens)
    }

    private mutating func fill(at now: Instant) {
        guard now > filledAt else { return }
        let elapsed = Int64(clamping: now.nanoseconds - filledAt.nanoseconds)
        let (product, overflow) = elapsed.multipliedReportingOverflow(by: rate)
        let earned = overflow ? Int64.max / 2 : product / 1_000_000_000
        guard earned > 0 else { return }  // the time stays on the account until it is worth a token
        filledAt = now
        tokens = earned >= burst - tokens ? burst : tokens + earned
    }

    /// Takes what was used.
    public mutating func take(_ count: Int64, at now: Instant) {
        fill(at: now)
        tokens = max(Int64.min / 4, tokens - max(0, count))
    }

    public mutating func isFull(at now: Instant) -> Bool { available(at: now) == burst }

    /// How long until `count` tokens (at most the burst) are there.
    public mutating func time(of count: Int64, at now: Instant) -> Duration {
        fill(at: now)
        let missing = min(count, burst) - tokens
        if missing <= 0 { return .zero }
        return .seconds(missing / rate) + .nanoseconds(missing % rate * 1_000_000_000 / rate + 1)
    }
}
