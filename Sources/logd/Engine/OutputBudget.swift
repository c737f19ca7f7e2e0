public import EngineKit

/// What one component may have written of what it prints: its rate, with a burst; but a sixteenth of it as long as it
/// asks for more than its rate, on average, over whole windows: one that runs away must not rotate everybody else's
/// lines out of the files. What is not written is counted, and told now and then.
public struct OutputBudget: Sendable {
    /// Over which an average counts, and between two tellings.
    public static let window: Duration = .seconds(10)
    /// A runaway's part of its rate: one of so many.
    public static let trickle: Int64 = 16

    public let rate: Int64
    /// It asked for too much in the last whole window.
    public private(set) var isRunaway = false
    private var bucket: TokenBucket
    private var trickleBucket: TokenBucket
    private var windowStart: Instant
    /// What all that came in this window costs, or would have cost, in the files.
    private var demand: Int64 = 0
    /// By what was written last: a short line costs many times its bytes.
    private var costPerByte: Int64 = 1
    private var suppressed: UInt64 = 0
    private var toldAt: Instant?

    /// - Parameters:
    ///   - rate: bytes a second in the files.
    ///   - burst: the most that can be saved up.
    public init(rate: Int64, burst: Int64, at now: Instant) {
        self.rate = max(1, rate)
        bucket = TokenBucket(rate: rate, burst: burst, at: now)
        trickleBucket = Self.trickleBucket(rate: self.rate, at: now)
        windowStart = now
    }

    private static func trickleBucket(rate: Int64, at now: Instant) -> TokenBucket {
        TokenBucket(rate: rate / trickle, burst: rate / trickle, at: now)
    }

    /// How much may be written now; 0: what comes is to be dropped.
    public mutating func allowed(at now: Instant) -> Int64 {
        let lasted = now - windowStart
        if lasted >= Self.window {
            let wasRunaway = isRunaway
            isRunaway = demand / max(1, lasted.nanoseconds / 1_000_000_000) > rate
            (windowStart, demand) = (now, 0)
            // What was written before it ran away does not count against the trickle.
            if isRunaway, !wasRunaway { trickleBucket = Self.trickleBucket(rate: rate, at: now) }
        }
        return isRunaway ? trickleBucket.available(at: now) : bucket.available(at: now)
    }

    /// This many bytes were written at this cost in the files.
    public mutating func wrote(_ count: Int, cost: Int64, at now: Instant) {
        bucket.take(cost, at: now)
        trickleBucket.take(cost, at: now)
        if count > 0 { costPerByte = max(1, cost / Int64(count)) }
        demand = demand.addingClamped(cost)
    }

    public mutating func dropped(_ count: Int) {
        suppressed += UInt64(max(0, count))
        demand = demand.addingClamped(Int64(max(0, count)).multipliedClamped(by: costPerByte))
    }

    /// Bytes suppressed since it was told last; nil when there is nothing to tell, or it is too early.
    public mutating func news(at now: Instant) -> UInt64? {
        guard toldAt.map({ now - $0 >= Self.window }) ?? true, let bytes = lastNews() else { return nil }
        toldAt = now
        return bytes
    }

    /// What was suppressed and is not told yet, for the end; nil: nothing.
    public mutating func lastNews() -> UInt64? {
        defer { suppressed = 0 }
        return suppressed > 0 ? suppressed : nil
    }
}

extension Int64 {
    fileprivate func addingClamped(_ other: Int64) -> Int64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }

    fileprivate func multipliedClamped(by other: Int64) -> Int64 {
        let (product, overflow) = multipliedReportingOverflow(by: other)
        return overflow ? .max : product
    }
}
