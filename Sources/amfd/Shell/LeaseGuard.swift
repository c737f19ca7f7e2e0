import EngineKit
import OSAL

/// The guard's eye on the lease of this node: should amfd not do it, active components are stopped when it ends, and an
/// amfd that does not come to itself is killed.
struct LeaseGuard {
    enum Finding: Hashable, Sendable {
        case stopped(Int)
        case hung
    }

    /// How long an amfd may be behind its lease before it counts as hanging.
    static let hangMax: Duration = .seconds(2)
    /// How often a lease that is over is looked at.
    static let interval: Duration = .milliseconds(200)
    /// amfd's own stop comes first.
    static let slack: Duration = .milliseconds(5)

    private let page: LeasePage
    private var stoppedFor: Instant?
    private var stoppedAt = Instant.start
    private var hasKilled = false

    init(_ page: LeasePage) { self.page = page }

    /// Until the next ``check()``.
    var timeout: Duration {
        let (end, now) = (page.end + Self.slack, MonotonicClock.bootTime())
        return end > now ? end - now : Self.interval
    }

    mutating func check() -> Finding? {
        let (end, now) = (page.end, MonotonicClock.bootTime())
        guard end != .start, end + Self.slack <= now, page.settled != end else {
            stoppedFor = nil
            hasKilled = false
            return nil
        }
        if stoppedFor != end {
            (stoppedFor, stoppedAt) = (end, now)
            let count = page.signal(.stop)
            page.isStoppedByGuard = true
            return .stopped(count)
        }
        guard !hasKilled, now - stoppedAt >= Self.hangMax else { return nil }
        hasKilled = true
        return .hung
    }
}
