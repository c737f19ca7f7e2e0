/// The line a person is typing: a value that takes keys and says what to show. No terminal in here.
public struct LineEditor: Sendable {
    public enum Key: Hashable, Sendable {
        case character(Character), enter, backspace, delete, left, right, home, end, up, down, tab, clearLine,
            endOfInput, interrupt
    }

    public enum Outcome: Hashable, Sendable {
        /// Show the line again.
        case editing
        case line(String)
        /// Several words fit; show them, then the line again.
        case candidates([String])
        case end
    }

    public private(set) var text: [Character] = []
    public private(set) var cursor = 0
    /// Lines entered before, oldest first; at most ``historyMax``.
    public private(set) var history: [String] = []
    private var recalled: Int?
    private var draft: [Character] = []
    /// The words that may stand at the end of these words, the last of which is being typed.
    private let complete: @Sendable ([String]) -> [String]

    public static let historyMax = 1_000
    public static let lineMax = 4_096

    public init(history: [String] = [], complete: @escaping @Sendable ([String]) -> [String]) {
        self.history = Array(history.suffix(Self.historyMax))
        self.complete = complete
    }

    public var line: String { String(text) }

    public mutating func handle(_ key: Key) -> Outcome {
        switch key {
        case .character(let character):
            if text.count < Self.lineMax {
                text.insert(character, at: cursor)
                cursor += 1
            }
        case .backspace:
            if cursor > 0 {
                cursor -= 1
                text.remove(at: cursor)
            }
        case .delete: if cursor < text.count { text.remove(at: cursor) }
        case .left: cursor = max(0, cursor - 1)
        case .right: cursor = min(text.count, cursor + 1)
        case .home: cursor = 0
        case .end: cursor = text.count
        case .up: recall(-1)
        case .down: recall(1)
        case .clearLine: set([])
        case .interrupt: set([])
        case .endOfInput:
            if text.isEmpty { return .end }
            if cursor < text.count { text.remove(at: cursor) }
        case .tab: return completeWord()
        case .enter: return enter()
        }
        return .editing
    }

    private mutating func enter() -> Outcome {
        let line = self.line
        if !line.isEmpty, history.last != line {
            history.append(line)
            if history.count > Self.historyMax { history.removeFirst() }
        }
        recalled = nil
        set([])
        return .line(line)
    }

    private mutating func recall(_ step: Int) {
        let present = recalled ?? history.count
        let next = present + step
        guard next >= 0, next <= history.count else { return }
        if recalled == nil { draft = text }
        recalled = next == history.count ? nil : next
        set(next == history.count ? draft : Array(history[next]))
    }

    private mutating func set(_ characters: [Character]) {
        text = characters
        cursor = characters.count
    }

    private mutating func completeWord() -> Outcome {
        let before = String(text[..<cursor])
        var words = before.split(separator: " ", omittingEmptySubsequences: true).map(String.init)
        if before.isEmpty || before.hasSuffix(" ") { words.append("") }
        let typed = words.last ?? ""
        let fitting = Set(complete(words).filter { $0.hasPrefix(typed) }).sorted()
        guard let first = fitting.first else { return .editing }
        let common = fitting.dropFirst().reduce(first) { $0.commonPrefix(with: $1) }
        let addition = Array(common.dropFirst(typed.count)) + (fitting.count == 1 ? [" "] : [])
        text.insert(contentsOf: addition, at: cursor)
        cursor += addition.count
        return fitting.count > 1 && addition.isEmpty ? .candidates(fitting) : .editing
    }
}

extension String {
    fileprivate func commonPrefix(with other: String) -> String {
        String(zip(self, other).prefix { $0 == $1 }.map(\.0))
    }
}

/// Turns the bytes of a terminal into keys; keeps what is not a whole key yet.
public struct KeyDecoder: Sendable {
    private var pending: [UInt8] = []

    public init() {}

    public mutating func keys(from bytes: [UInt8]) -> [LineEditor.Key] {
        pending += bytes
        var keys: [LineEditor.Key] = []
        while let (key, count) = first() {
            if let key { keys.append(key) }
            pending.removeFirst(count)
        }
        return keys
    }

    /// The first key and its length; nil when more bytes are needed.
    private func first() -> (LineEditor.Key?, Int)? {
        guard let byte = pending.first else { return nil }
        switch byte {
        case 0x0D, 0x0A: return (.enter, 1)
        case 0x7F, 0x08: return (.backspace, 1)
        case 0x09: return (.tab, 1)
        case 0x01: return (.home, 1)
        case 0x05: return (.end, 1)
        case 0x15: return (.clearLine, 1)
        case 0x04: return (.endOfInput, 1)
        case 0x03: return (.interrupt, 1)
        case 0x1B: return escape()
        case 0x00..<0x20: return (nil, 1)
        case 0x20..<0x7F: return (.character(Character(Unicode.Scalar(byte))), 1)
        default: return multibyte(byte)
        }
    }

    private func escape() -> (LineEditor.Key?, Int)? {
        guard pending.count >= 3 else {
            return pending.count == 2 && pending[1] != 0x5B && pending[1] != 0x4F ? (nil, 2) : nil
        }
        guard let end = pending[2...].firstIndex(where: { (0x40...0x7E).contains($0) }) else {
            return pending.count > 16 ? (nil, pending.count) : nil
        }
        let key: LineEditor.Key? =
            switch (pending[end], pending[2]) {
            case (UInt8(ascii: "A"), _): .up
            case (UInt8(ascii: "B"), _): .down
            case (UInt8(ascii: "C"), _): .right
            case (UInt8(ascii: "D"), _): .left
            case (UInt8(ascii: "H"), _), (UInt8(ascii: "~"), UInt8(ascii: "1")): .home
            case (UInt8(ascii: "F"), _), (UInt8(ascii: "~"), UInt8(ascii: "4")): .end
            case (UInt8(ascii: "~"), UInt8(ascii: "3")): .delete
            default: nil
            }
        return (key, end + 1)
    }

    private func multibyte(_ byte: UInt8) -> (LineEditor.Key?, Int)? {
        let length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1
        guard pending.count >= length else { return nil }
        guard let text = String(validating: pending[..<length], as: UTF8.self), let character = text.first else {
            return (nil, 1)
        }
        return (.character(character), length)
    }
}
