import CliProtocol
import OSAL
import SafText

/// Where the console's lines come from: a terminal, with editing, or any other input, line by line.
final class ConsoleInput {
    let isTerminal: Bool
    private var editor: LineEditor
    private var decoder = KeyDecoder()
    private var keys: [LineEditor.Key] = []
    private var buffered: [UInt8] = []
    private var isAtEnd = false
    private static let prompt = "saf> "

    init(owners: @escaping @Sendable () -> [OwnerDescription]) {
        isTerminal = OSAL.isTerminal(0) && OSAL.isTerminal(StandardOutput.raw)
        editor = LineEditor { words in Self.candidates(for: words, owners()) }
    }

    /// The next line; nil at the end.
    func next() -> String? { isTerminal ? edited() : plain() }

    private static func candidates(for words: [String], _ owners: [OwnerDescription]) -> [String] {
        let names = owners.map(\.name)
        let first = names.map { NameMatching.shortForm(of: $0, among: names) }
        if words.count == 1 { return ["help", "status", "version", "exit"] + first }
        if words[0] == "help", words.count == 2 { return first }
        let owner = words[0] == "help" && words.count > 2 ? words[1] : words[0]
        guard words.count == (words[0] == "help" ? 3 : 2),
            case .found(let name) = NameMatching.find(owner, among: names)
        else {
            return []
        }
        return owners.first { $0.name == name }?.commands.map(\.name) ?? []
    }

    private func plain() -> String? {
        while true {
            if let end = buffered.firstIndex(of: UInt8(ascii: "\n")) {
                let line = String(decoding: buffered[..<end], as: UTF8.self)
                buffered.removeFirst(end + 1)
                return line
            }
            if isAtEnd {
                defer { buffered = [] }
                return buffered.isEmpty ? nil : String(decoding: buffered, as: UTF8.self)
            }
            read()
        }
    }

    private func read() {
        var chunk = [UInt8](repeating: 0, count: 4_096)
        let count = chunk.withUnsafeMutableBytes { (try? IO.read(0, into: $0)) ?? 0 }
        if count == 0 { isAtEnd = true }
        buffered += chunk[..<count]
    }

    private func edited() -> String? {
        guard let mode = TerminalMode(0) else { return plainWithPrompt() }
        defer { mode.restore() }
        show()
        while true {
            if keys.isEmpty {
                read()
                if isAtEnd { return nil }
                keys = decoder.keys(from: buffered)
                buffered = []
                continue
            }
            switch editor.handle(keys.removeFirst()) {
            case .editing: show()
            case .candidates(let words):
                StandardOutput.write("\r\n" + words.joined(separator: "  ") + "\r\n")
                show()
            case .line(let line):
                StandardOutput.write("\r\n")
                return line
            case .end:
                StandardOutput.write("\r\n")
                return nil
            }
        }
    }

    private func plainWithPrompt() -> String? {
        StandardOutput.write(Self.prompt)
        return plain()
    }

    /// Draws the line again; a line longer than the terminal is shown around the cursor.
    private func show() {
        let room = max(10, Tool.width - Self.prompt.count - 1)
        let start = max(0, editor.cursor - room)
        let visible = String(editor.text[start..<min(editor.text.count, start + room)])
        let back = visible.count - (editor.cursor - start)
        StandardOutput.write("\r\u{1B}[K" + Self.prompt + visible + (back > 0 ? "\u{1B}[\(back)D" : ""))
    }
}
