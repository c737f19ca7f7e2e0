/// Text in columns for a terminal: aligned, within a width, coloured where wanted.
///
/// Only names are ever cut. Where the other columns do not fit, the rows run on instead: `SU1: unlocked · enabled`.
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
        /// Parts after a title, broken between them where the line is full; never cut.
        case flow(Flow)
    }

    struct Flow: Hashable, Sendable {
        var title = Cell("")
        var parts: [Cell]
        var separator = " · "
        /// Blanks before the first line; the others have two more.
        var indent = 0

        /// Running text.
        static func text(_ text: String, _ style: Style = .plain, indent: Int) -> Flow {
            let words = text.split(whereSeparator: \.isWhitespace).map { Cell(String($0), style) }
            return Flow(parts: words, separator: " ", indent: indent)
        }
    }

    var rows: [Row] = []
    /// Blanks before the first column.
    var indent = 0
    /// The columns that may be cut, because they hold names or running text.
    var flexible = [0]
    /// Narrower than this no column gets.
    private static let columnMin = 10
    private static let gap = 2

    mutating func add(_ cells: Cell...) { add(cells) }
    mutating func add(_ cells: [Cell]) { rows.append(.cells(cells)) }
    mutating func line(_ text: String, _ style: Style = .plain) { rows.append(.line(text, style)) }

    func text(width: Int, isColoured: Bool) -> String {
        let widths = fitted(width)
        var text = ""
        for row in rows {
            switch row {
            case .line(let content, let style):
                text += Self.paint(Self.cut(content, to: width), style, isColoured) + "\n"
            case .flow(let flow): text += Self.text(flow, width, isColoured)
            case .cells(let cells):
                guard let widths else {
                    text += Self.text(Self.flow(cells, indent: indent), width, isColoured)
                    continue
                }
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

    /// Nil: they do not fit.
    private func fitted(_ width: Int) -> [Int]? {
        var widths: [Int] = []
        for case .cells(let cells) in rows {
            for (index, cell) in cells.enumerated() {
                if index == widths.count { widths.append(0) }
                widths[index] = max(widths[index], cell.text.count)
            }
        }
        var excess = indent + widths.reduce(0, +) + Self.gap * max(0, widths.count - 1) - width
        while excess > 0, let widest = flexible.filter(widths.indices.contains).max(by: { widths[$0] < widths[$1] }),
            widths[widest] > Self.columnMin
        {
            widths[widest] -= 1
            excess -= 1
        }
        return excess > 0 ? nil : widths
    }

    private static func flow(_ cells: [Cell], indent: Int) -> Flow {
        let parts = cells.dropFirst().filter { !$0.text.isEmpty }
        var title = cells.first ?? Cell("")
        if !parts.isEmpty { title.text += ":" }
        return Flow(title: title, parts: Array(parts), indent: indent)
    }

    private static func text(_ flow: Flow, _ width: Int, _ isColoured: Bool) -> String {
        var text = String(repeating: " ", count: flow.indent) + paint(flow.title.text, flow.title.style, isColoured)
        var column = flow.indent + flow.title.text.count
        for (index, part) in flow.parts.enumerated() {
            let separator = index > 0 ? flow.separator : flow.title.text.isEmpty ? "" : " "
            let isFull = column + separator.count + part.text.count > width
            if isFull, !separator.isEmpty {
                text += "\n" + String(repeating: " ", count: flow.indent + 2)
                column = flow.indent + 2
            } else {
                text += separator
                column += separator.count
            }
            text += paint(part.text, part.style, isColoured)
            column += part.text.count
        }
        return text + "\n"
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
