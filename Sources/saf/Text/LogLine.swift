/// What `saf log` must know of a log line: `… (node.pid : program.AREA.CTX.00042 : NOTICE) message`.
public enum LogLine {
    /// Most severe first.
    public static let severities = [
        "emergency", "alert", "critical", "error", "warning", "notice", "info", "debug", "trace",
    ]

    /// The severity a person means: letter case does not matter, and `warn`, as the lines have it, is `warning`.
    public static func severity(named word: String) -> String? {
        let word = word.lowercased()
        if word == "warn" { return "warning" }
        return severities.contains(word) ? word : nil
    }

    /// Nil for a line that has no such part.
    public static func severity(of line: String) -> String? {
        var rest = line[...]
        while let close = rest.firstIndex(of: ")") {
            let head = line[..<close]
            if let space = head.lastIndex(of: " ") {
                if let found = severity(named: String(head[head.index(after: space)...])) { return found }
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

    /// Two streams' lines as one, each in its own order. A line without a time stays behind the one before it.
    public static func merged(_ left: [String], _ right: [String]) -> [String] {
        if left.isEmpty || right.isEmpty { return left + right }
        let keyed = timed(left) + timed(right)
        return keyed.enumerated().sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }
            .map(\.element.line)
    }

    private static func timed(_ lines: [String]) -> [(time: Substring, line: String)] {
        var last: Substring = ""
        return lines.map { line in
            if let word = line.split(separator: " ", maxSplits: 1).first, word.last == "Z",
                word.first?.isNumber == true
            {
                last = word
            }
            return (last, line)
        }
    }

    /// The names of a stream's files, oldest first: `STREAM_TIME.log`, `STREAM_TIME-2.log`. Others, such as the link
    /// `STREAM.log` to the newest, are not among them.
    public static func files(of stream: String, in names: [String]) -> [String] {
        names.filter { order($0) != nil && $0.hasPrefix(stream + "_") }.sorted { isOlder($0, than: $1) }
    }

    /// Of two files of one stream, with or without their folder.
    public static func isOlder(_ left: String, than right: String) -> Bool {
        guard let left = order(left), let right = order(right) else { return false }
        return left < right
    }

    /// Time and number in a file's name; nil when it is not one of logd's.
    private static func order(_ path: String) -> (Substring, Int)? {
        let name = path.split(separator: "/").last ?? ""
        guard name.hasSuffix(".log"), let mark = name.lastIndex(of: "_") else { return nil }
        let parts = name[name.index(after: mark)...].dropLast(4).split(separator: "-")
        guard let time = parts.first, time.count == 15, parts.count <= 2 else { return nil }
        guard parts.count == 2 else { return (time, 1) }
        return Int(parts[1]).map { (time, $0) }
    }
}
