import CliProtocol

/// Compares the words of a command line with what the command takes.
enum ArgumentCheck {
    /// The sentence for the person who typed it, or nil when the words fit.
    static func defect(of words: [String], for command: CommandSpec, owner: String) -> String? {
        let usage = "usage: \(owner) \(command.usage)"
        for (index, argument) in command.arguments.enumerated() {
            if index >= words.count {
                if argument.isOptional { break }
                return "\(command.name): argument <\(argument.name)> is missing\n\(usage)"
            }
            for word in argument.isRepeated ? Array(words[index...]) : [words[index]] {
                guard let expected = mismatch(of: word, with: argument.type) else { continue }
                return "\(command.name): <\(argument.name)> is '\(word)'; \(expected) expected\n\(usage)"
            }
        }
        let takesAll = command.arguments.last?.isRepeated == true
        if words.count > command.arguments.count, !takesAll {
            return "\(command.name): '\(words[command.arguments.count])' is one argument too many\n\(usage)"
        }
        return nil
    }

    /// What was expected instead, or nil when `word` is of the type.
    private static func mismatch(of word: String, with type: ArgumentType) -> String? {
        switch type {
        case .text: return nil
        case .integer(let range):
            if let value = Int64(word), range.contains(value) { return nil }
            if range == .min ... .max { return "a whole number" }
            return "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .boolean:
            return ["true", "false", "on", "off", "yes", "no"].contains(word.lowercased()) ? nil : "on or off"
        case .duration: return isDuration(word) ? nil : "a duration such as 250ms, 10s or 5m"
        case .name: return (1...256).contains(word.utf8.count) ? nil : "a name of 1 to 256 octets"
        case .choice(let words): return words.contains(word) ? nil : "one of \(words.joined(separator: ", "))"
        }
    }

    private static func isDuration(_ word: String) -> Bool {
        let digits = word.prefix { $0.isASCII && $0.isNumber }
        guard !digits.isEmpty, digits.count <= 18 else { return false }
        return ["ns", "us", "ms", "s", "m", "h", "d"].contains(String(word.dropFirst(digits.count)))
    }
}
