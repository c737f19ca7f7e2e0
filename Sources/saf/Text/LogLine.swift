/// What `saf log` must know of a log line: `… (node.pid : program.AREA.CTX.00042 : NOTICE) message`.
public enum LogLine {
    /// Most severe first.
    public static let severities = [
        "emergency", "alert", "critical", "error", "warning", "notice", "info", "debug", "trace",
    ]

    /// Nil for a line that has no such part.
    public static func severity(of line: String) -> String? {
        var rest = line[...]
        while let close = rest.firstIndex(of: ")") {
            let head = line[..<close]
            if let space = head.lastIndex(of: " ") {
                let word = head[head.index(after: space)...].lowercased()
                if word == "warn" { return "warning" }
                if severities.contains(word) { return word }
            }
            rest = rest[line.index(after: close)...]
        }
        return nil
    }

    /// Whether a line is at least as severe as `severity`; lines without one always are.
    public static func admits(_ line: String, severity wanted: String?) -> Bool {
        guard let wanted, let limit = severities.firstIndex(of: wanted), let own = severity(of: line),
            let position = severities.firstIndex(of: own)
        else { return true }
        return position <= limit
    }
}
