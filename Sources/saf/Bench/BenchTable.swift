/// Results as a table of at most 96 columns.
struct BenchTable {
    private static let widths = [26, 5, 9, 9, 9, 11, 9, 7, 9]

    static var header: String {
        row(["bench", "unit", "p50", "p99", "max", "rate/s", "floor", "ratio", "bound"]) + "  holds"
    }

    static func line(_ result: BenchResult) -> String {
        let cells = [
            result.name, result.unit, short(result.p50), short(result.p99), short(result.max), short(result.rate),
            short(result.floor), short(result.ratio), short(result.bound),
        ]
        let holds = result.holds.map { $0 ? "yes" : "NO" } ?? ""
        return row(cells) + "  " + holds
    }

    private static func row(_ cells: [String]) -> String {
        zip(cells, widths).enumerated().map { index, cell in
            let padding = String(repeating: " ", count: max(0, cell.1 - cell.0.count))
            return index < 2 ? cell.0 + padding : padding + cell.0
        }.joined(separator: " ")
    }

    /// Three significant digits; `-` for an absent value.
    static func short(_ value: Double?) -> String {
        guard let value, value.isFinite else { return "-" }
        let scale: Double = abs(value) >= 100 ? 1 : abs(value) >= 10 ? 10 : 100
        return BenchResult.plain((value * scale).rounded() / scale)
    }
}
