public import EngineKit

/// A rate with a burst: tokens come in steadily up to `burst`, and each byte takes one.
public struct TokenBucket: Sendable {
    public let rate: UInt64
    public let burst: UInt64
    private var tokens: UInt64
    private var filledAt: Instant

    /// Full at first.
    /// - Parameter rate: tokens a second, at least 1.
    public init(rate: UInt64, burst: UInt64, at now: Instant) {
        self.rate = max(1, rate)
        self.burst = max(1, burst)
        tokens = self.burst
        filledAt = now
    }

    /// How many may be taken now.
    public mutating func available(at now: Instant) -> UInt64 {
        guard now > filledAt else { return tokens }
        let elapsed = now.nanoseconds - filledAt.nanoseconds
        let (product, overflow) = elapsed.multipliedReportingOverflow(by: rate)
        let earned = overflow ? burst : product / 1_000_000_000
        guard earned > 0 else { return tokens }  // the time stays on the account until it is worth a token
        filledAt = now
        tokens = min(burst, tokens + min(burst, earned))
        return tokens
    }

    /// Takes what was used; never more than there is.
    public mutating func take(_ count: UInt64, at now: Instant) { tokens = available(at: now) - min(tokens, count) }

    /// When `count` tokens (at most the burst) will be there.
    public mutating func time(of count: UInt64, at now: Instant) -> Duration {
        let missing = min(count, burst) - min(min(count, burst), available(at: now))
        return .nanoseconds(Int64(clamping: missing.multipliedFullWidth(by: 1_000_000_000).low / rate) + 1)
    }
}
