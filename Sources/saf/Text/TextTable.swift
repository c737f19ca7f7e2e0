/// Text in columns for a terminal: aligned, within a width, coloured where wanted.
struct TextTable {
    enum Style: Hashable, Sendable { case plain, faint, strong, good, attention, bad }

    struct Cell: Hashable, Sendable {
        var text: String
        var style: Style = .plain
        var isRight = false

        init(_ text: String, _ style: Style = .plain, right: Bool = false) {
            (self.text, self.style, isRight) = (text, style, right)
        }
    }

    enum Row: Hashable, Sendable {
        case cells([Cell])
        /// A line of its own, not in columns.
        case line(String, Style)
    }

    var rows: [Row] = []
    /// Blanks before the first column.
    var indent = 0
    /// Narrower than this no column gets, the first one not until the others have to.
    private static let columnMin = 6
    private static let firstColumnMin = 10
    private static let gap = 2

    mutating func add(_ cells: Cell...) { rows.append(.cells(cells)) }
    mutating func line(_ text: String, _ style: Style = .plain) { rows.append(.line(text, style)) }

    func text(width: Int, isColoured: Bool) -> String {
        let widths = fitted(width)
        var text = ""
        for row in rows {
            switch row {
            case .line(let content, let style):
                text += Self.paint(Self.cut(content, to: width), style, isColoured) + "\n"
            case .cells(let cells):
                var line = String(repeating: " ", count: indent)
                for (index, cell) in cells.enumerated() {
                    let content = Self.cut(cell.text, to: widths[index])
                    let isLast = index == cells.count - 1
                    let padding = String(repeating: " ", count: widths[index] - content.count)
                    line += cell.isRight ? padding : ""
                    line += Self.paint(content, cell.style, isColoured)
                    if !isLast { line += (cell.isRight ? "" : padding) + String(repeating: " ", count: Self.gap) }
                }
                while line.last == " " { line.removeLast() }
                text += line + "\n"
            }
        }
        return text
    }

    private func fitted(_ width: Int) -> [Int] {
        var widths: [Int] = []
        for case .cells(let cells) in rows {
            for (index, cell) in cells.enumerated() {
                if index == widths.count { widths.append(0) }
                widths[index] = max(widths[index], cell.text.count)
            }
        }
        var excess = indent + widths.reduce(0, +) + Self.gap * max(0, widths.count - 1) - width
        // Names first: states are what the table is for.
        if excess > 0, let first = widths.first, first > Self.firstColumnMin {
            let cut = min(excess, first - Self.firstColumnMin)
            widths[0] -= cut
            excess -= cut
        }
        while excess > 0, let widest = widths.indices.max(by: { widths[$0] < widths[$1] }),
            widths[widest] > Self.columnMin
        {
            widths[widest] -= 1
            excess -= 1
        }
        return widths
    }

    private static func cut(_ text: String, to width: Int) -> String {
        text.count <= width ? text : String(text.prefix(max(0, width - 1))) + "…"
    }

    private static func paint(_ text: String, _ style: Style, _ isColoured: Bool) -> String {
        guard isColoured, !text.isEmpty else { return text }
        let code: String
        switch style {
        case .plain: return text
        case .faint: code = "2"
        case .strong: code = "1"
        case .good: code = "32"
        case .attention: code = "33"
        case .bad: code = "31"
        }
        return "\u{1B}[\(code)m\(text)\u{1B}[0m"
    }
}
