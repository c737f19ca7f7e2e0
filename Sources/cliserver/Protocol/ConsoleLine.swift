/// Splits a console line into words as a shell would, without expanding anything.
///
/// Blanks separate; `'…'` and `"…"` group; a backslash takes the next character as it is; `#` at the start of a word
/// begins a comment.
public enum ConsoleLine {
    public struct Defect: Error, Hashable, Sendable, CustomStringConvertible {
        public var description: String
    }

    public static func words(of line: String) throws(Defect) -> [String] {
        var words: [String] = []
        var word: String?
        var quote: Character?
        var isEscaped = false
        for character in line {
            if isEscaped {
                word = (word ?? "") + String(character)
                isEscaped = false
            } else if let open = quote {
                if character == open {
                    quote = nil
                } else if character == "\\", open == "\"" {
                    isEscaped = true
                } else {
                    word = (word ?? "") + String(character)
                }
            } else if character == "\\" {
                isEscaped = true
                word = word ?? ""
            } else if character == "'" || character == "\"" {
                quote = character
                word = word ?? ""
            } else if character.isWhitespace {
                if let finished = word { words.append(finished) }
                word = nil
            } else if character == "#", word == nil {
                break
            } else {
                word = (word ?? "") + String(character)
            }
        }
        if let quote { throw Defect(description: "a \(quote) is not closed") }
        if isEscaped { throw Defect(description: "nothing follows the \\ at the end of the line") }
        if let finished = word { words.append(finished) }
        return words
    }

    /// `word` in a form that ``words(of:)`` reads back as one word.
    public static func quoted(_ word: String) -> String {
        let isPlain =
            !word.isEmpty
            && word.allSatisfy { !$0.isWhitespace && $0 != "'" && $0 != "\"" && $0 != "\\" && $0 != "#" }
        return isPlain
            ? word : "'" + word.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "'\\''") + "'"
    }
}
