/// Figures as lines of at most 80 columns, or as JSON.
enum Table {
    static let header = row("bench", "ns", "beside", "ns", "ratio")

    static func line(_ figure: Figure) -> String {
        row(
            figure.comparison.name, short(figure.subject), figure.comparison.peer.name, short(figure.peer),
            short(figure.ratio))
    }

    /// One object: name, subject, ns, peer, peerNs, ratio.
    static func json(_ figure: Figure) -> String {
        let comparison = figure.comparison
        return "{\"name\":\"\(comparison.name)\",\"subject\":\"\(comparison.subject.name)\","
            + "\"ns\":\(short(figure.subject)),\"peer\":\"\(comparison.peer.name)\","
            + "\"peerNs\":\(short(figure.peer)),\"ratio\":\(short(figure.ratio))}\n"
    }

    private static func row(_ name: String, _ own: String, _ peer: String, _ other: String, _ ratio: String) -> String {
        func left(_ text: String, _ width: Int) -> String {
            text + String(repeating: " ", count: max(0, width - text.count))
        }
        func right(_ text: String, _ width: Int) -> String {
            String(repeating: " ", count: max(0, width - text.count)) + text
        }
        return left(name, 26) + right(own, 9) + "  " + left(peer, 26) + right(other, 9) + right(ratio, 8) + "\n"
    }

    /// Three significant digits below 100, whole numbers above.
    private static func short(_ value: Double) -> String {
        guard value.isFinite, value < 1e15 else { return "0" }
        if value >= 100 { return "\(Int(value.rounded()))" }
        let hundredths = Int((value * 100).rounded())
        let fraction = hundredths % 100
        return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)"
    }
}
