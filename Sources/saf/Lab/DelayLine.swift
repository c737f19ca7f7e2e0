import EngineKit

/// Frames on their way through a long cable, in one direction: each comes out when its time is over, in the order in
/// which they went in.
public struct DelayLine {
    /// What is under way at most; what does not fit is lost, as in a network that is full.
    public static let bytesMax = 64 << 20

    private let delay: Duration
    private let jitter: Duration
    private var random: SeededRandom
    private var frames: [(due: Instant, bytes: [UInt8])] = []
    private var head = 0
    private var bytes = 0
    public private(set) var lost = 0

    public init(delay: Duration, jitter: Duration, seed: UInt64) {
        (self.delay, self.jitter, random) = (delay, jitter, SeededRandom(seed: seed))
    }

    /// When the next frame comes out; nil: none is under way.
    public var due: Instant? { head < frames.count ? frames[head].due : nil }

    public mutating func push(_ frame: some Collection<UInt8>, at now: Instant) {
        guard bytes + frame.count <= Self.bytesMax else {
            lost += 1
            return
        }
        let extra = Int64.random(in: 0...jitter.nanoseconds, using: &random)
        let due = max(now + delay + .nanoseconds(extra), frames.last?.due ?? .start)
        frames.append((due, Array(frame)))
        bytes += frame.count
    }

    /// The next frame whose time is over.
    public mutating func pop(at now: Instant) -> [UInt8]? {
        guard head < frames.count, frames[head].due <= now else { return nil }
        let frame = frames[head].bytes
        frames[head].bytes = []
        bytes -= frame.count
        head += 1
        if head == frames.count || head >= 1_024 {
            frames.removeFirst(head)
            head = 0
        }
        return frame
    }
}
