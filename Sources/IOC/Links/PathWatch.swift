import EngineKit

/// Tells a path over which nothing gets through any more from a peer that is only slow. A pure value.
///
/// The kernel of a peer acknowledges what arrives, whatever its processes do. So bytes that stay unacknowledged mean
/// that the way there is broken (or the machine is gone), long before the kernel gives up; and whoever waits for an
/// answer over a way that has broken since finds out by sending something.
struct PathWatch: Equatable {
    enum Verdict: Equatable {
        /// Nothing is under way and nobody waits: there is nothing to watch.
        case idle
        case fine
        /// Nothing came for a while: send something that will be acknowledged.
        case probe
        /// Nothing was acknowledged for ``patience``.
        case broken
    }

    /// What is known of a connection at one moment; bytes since it began.
    struct Sight: Equatable {
        var isAllAcknowledged: Bool
        var acknowledgedBytes: UInt64
        var receivedBytes: UInt64
        /// Answers are wanted.
        var isWaiting: Bool
    }

    private let patience: Duration
    private var last: Sight?
    private var acknowledgedAt = Instant.start
    private var receivedAt = Instant.start

    init(patience: Duration) { self.patience = patience }

    mutating func look(_ sight: Sight, now: Instant) -> Verdict {
        guard !sight.isAllAcknowledged || sight.isWaiting else {
            last = nil
            return .idle
        }
        if last == nil || sight.isAllAcknowledged || sight.acknowledgedBytes != last?.acknowledgedBytes {
            acknowledgedAt = now
        }
        if last == nil || sight.receivedBytes != last?.receivedBytes { receivedAt = now }
        last = sight
        if now - acknowledgedAt >= patience { return .broken }
        guard sight.isAllAcknowledged, now - receivedAt >= patience else { return .fine }
        receivedAt = now
        return .probe
    }
}
