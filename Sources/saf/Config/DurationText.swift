/// Durations as people write them: a whole number and its unit, `250ms`, `10s`, `5m`.
public enum DurationText {
    private static let units: [(String, Int64)] = [
        ("ns", 1), ("us", 1_000), ("µs", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000), ("m", 60_000_000_000),
        ("h", 3_600_000_000_000), ("d", 86_400_000_000_000),
    ]

    /// Nil when it is no such text or too long for nanoseconds in 64 bits (292 years).
    public static func parse(_ text: String) -> Duration? {
        let digits = text.prefix { ("0"..."9").contains($0) }
        let unit = text.dropFirst(digits.count).drop { $0 == " " }
        if unit.isEmpty { return Int64(digits) == 0 ? .zero : nil }
        guard let count = Int64(digits), let scale = units.first(where: { $0.0 == unit })?.1 else { return nil }
        let (nanoseconds, overflow) = count.multipliedReportingOverflow(by: scale)
        return overflow ? nil : .nanoseconds(nanoseconds)
    }

    /// The shortest exact text.
    public static func text(_ duration: Duration) -> String {
        let (seconds, attoseconds) = duration.components
        let nanoseconds = seconds &* 1_000_000_000 &+ attoseconds / 1_000_000_000
        if nanoseconds == 0 { return "0s" }
        let fitting = units.last { $0.0 != "µs" && nanoseconds % $0.1 == 0 } ?? units[0]
        return "\(nanoseconds / fitting.1)\(fitting.0)"
    }
}
