/// Who uses how many bytes: a limit that is enforced, and watermarks that raise an alarm once when they are crossed.
///
/// A plain value: the owner charges what it takes, credits what it gives back, and passes on the alarms.
public struct HeapAccount: Equatable, Sendable {
    /// How full the account is.
    public enum Level: Int, Comparable, Sendable, CaseIterable {
        case normal, low, medium, high

        public static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
    }

    /// What an entry in the account led to.
    public enum Outcome: Equatable, Sendable {
        case accepted
        /// Accepted, and the level has changed: tell somebody.
        case crossed(from: Level, to: Level)
        /// It would exceed the limit; nothing was charged.
        case refused
    }

    public let limit: Int
    /// Bytes from which on the level is low, medium and high; ascending, none above the limit.
    public let watermarks: [Int]
    /// How far below a watermark the use must fall before the level falls: an alarm does not flap.
    public let hysteresis: Int
    public private(set) var used = 0
    /// The highest use so far.
    public private(set) var peak = 0
    public private(set) var level = Level.normal
    /// How often a charge was refused.
    public private(set) var refusals = 0

    /// - Parameters:
    ///   - limit: bytes, at least 1.
    ///   - percents: low, medium and high watermark in percent of the limit, ascending, 1 … 100.
    public init(limit: Int, percents: (low: Int, medium: Int, high: Int) = (60, 75, 90)) {
        precondition(limit > 0, "HeapAccount: limit must be at least 1")
        let marks = [percents.low, percents.medium, percents.high]
        precondition(
            marks == marks.sorted() && marks.allSatisfy { (1...100).contains($0) },
            "HeapAccount: watermarks must ascend within 1 to 100 percent")
        self.limit = limit
        watermarks = marks.map { percent in limit / 100 * percent + limit % 100 * percent / 100 }
        hysteresis = limit / 50
    }

    /// Charges bytes; refuses what would exceed the limit.
    public mutating func charge(_ bytes: Int) -> Outcome {
        precondition(bytes >= 0, "HeapAccount: a charge is not negative")
        guard bytes <= limit - used else {
            refusals += 1
            return .refused
        }
        used += bytes
        peak = max(peak, used)
        return settle()
    }

    /// Gives back what was charged; never below zero.
    public mutating func credit(_ bytes: Int) -> Outcome {
        precondition(bytes >= 0, "HeapAccount: a credit is not negative")
        used -= min(bytes, used)
        return settle()
    }

    private mutating func settle() -> Outcome {
        let before = level
        let risen = Level(rawValue: watermarks.count { used >= $0 }) ?? .high
        let fallen = Level(rawValue: watermarks.count { used + hysteresis >= $0 }) ?? .high
        level = risen > before ? risen : min(before, fallen)
        return level == before ? .accepted : .crossed(from: before, to: level)
    }
}
