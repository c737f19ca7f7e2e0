/// The rules of a filter file, one per line: `(Node:Program.Area.Context)[File]=SEVERITY`.
///
/// `*` stands for a whole field; a line that begins with `#` is a comment. The rule with the most fields that are not
/// `*` decides; of equally exact ones the most verbose (rules are "OR"). A record no rule matches keeps the threshold
/// of its process. Source: the seeds' "Advanced Filtering Techniques of ASCII Log Files".
public struct FilterRules: Hashable, Sendable {
    public struct Rule: Hashable, Sendable {
        /// Nil stands for `*`.
        public var node, program, area, context, file: [UInt8]?
        public var threshold: LogSeverity

        var exactness: Int { [node, program, area, context, file].count { $0 != nil } }
    }

    /// A line that is no rule.
    public struct Mistake: Hashable, Sendable, CustomStringConvertible {
        public let line: Int
        public let text: String
        /// What is wrong, without the line.
        public var problem: String {
            "'\(text)' is no filter rule; expected (Node:Program.Area.Context)[File]=SEVERITY"
        }
        public var description: String { "line \(line): \(problem)" }
    }

    public static let rulesMax = 256

    /// In the order in which they are tried: the most exact first, then the most verbose.
    public private(set) var rules: [Rule] = []

    public init() {}

    public var isEmpty: Bool { rules.isEmpty }

    /// Reads the lines; wrong ones, and those beyond ``rulesMax``, are reported and left out.
    public static func parse(_ text: String) -> (rules: FilterRules, mistakes: [Mistake]) {
        var (result, mistakes) = (FilterRules(), [Mistake]())
        for (index, line) in text.split(separator: "\n", omittingEmptySubsequences: false).enumerated() {
            let trimmed = line.trimmingSpaces()
            if trimmed.isEmpty || trimmed.hasPrefix("#") { continue }
            if let rule = parse(rule: trimmed), result.rules.count < rulesMax {
                result.rules.append(rule)
            } else {
                mistakes.append(Mistake(line: index + 1, text: String(trimmed.prefix(80))))
            }
        }
        result.rules = result.rules.enumerated().sorted { left, right in
            let (a, b) = (left.element, right.element)
            if a.exactness != b.exactness { return a.exactness > b.exactness }
            if a.threshold != b.threshold { return a.threshold > b.threshold }
            return left.offset < right.offset
        }.map(\.element)
        return (result, mistakes)
    }

    private static func parse(rule text: Substring) -> Rule? {
        guard text.first == "(", let close = text.firstIndex(of: ")") else { return nil }
        let inside = text[text.index(after: text.startIndex)..<close]
        let after = text[text.index(after: close)...]
        guard after.first == "[", let end = after.firstIndex(of: "]") else { return nil }
        let file = after[after.index(after: after.startIndex)..<end]
        let tail = after[after.index(after: end)...]
        guard tail.first == "=", let threshold = LogSeverity(name: tail.dropFirst().trimmingSpaces()),
            let colon = inside.firstIndex(of: ":")
        else { return nil }
        let names = inside[inside.index(after: colon)...].split(separator: ".", omittingEmptySubsequences: false)
        guard names.count == 3 else { return nil }
        let fields = [inside[..<colon], names[0], names[1], names[2], file].map { $0.trimmingSpaces() }
        guard fields.allSatisfy({ !$0.isEmpty }) else { return nil }
        let values = fields.map { $0 == "*" ? nil : Array($0.utf8) }
        return Rule(
            node: values[0], program: values[1], area: values[2], context: values[3], file: values[4],
            threshold: threshold)
    }

    /// Only the rules that can ever match in a process of this node and program.
    public func restricted(node: [UInt8], program: [UInt8]) -> FilterRules {
        var result = self
        result.rules.removeAll { rule in
            (rule.node.map { $0 != node } ?? false) || (rule.program.map { $0 != program } ?? false)
        }
        return result
    }

    /// The threshold for a record, nil when no rule speaks of it. Node and program are not looked at.
    ///
    /// A file matches by its last path element.
    public func threshold(
        area: UnsafeRawBufferPointer, context: UnsafeRawBufferPointer, file: UnsafeRawBufferPointer
    ) -> LogSeverity? {
        for rule in rules
        where Self.matches(rule.area, area) && Self.matches(rule.context, context) && Self.matchesFile(rule.file, file)
        {
            return rule.threshold
        }
        return nil
    }

    private static func matches(_ field: [UInt8]?, _ value: UnsafeRawBufferPointer) -> Bool {
        guard let field else { return true }
        return field.count == value.count && value.elementsEqual(field)
    }

    private static func matchesFile(_ field: [UInt8]?, _ value: UnsafeRawBufferPointer) -> Bool {
        guard let field else { return true }
        guard value.count >= field.count, value.suffix(field.count).elementsEqual(field) else { return false }
        return value.count == field.count || value[value.count - field.count - 1] == UInt8(ascii: "/")
    }
}

extension StringProtocol {
    fileprivate func trimmingSpaces() -> SubSequence {
        let isBlank: (Character) -> Bool = { $0 == " " || $0 == "\t" || $0 == "\r" }
        var rest = self[...]
        while let first = rest.first, isBlank(first) { rest = rest.dropFirst() }
        while let last = rest.last, isBlank(last) { rest = rest.dropLast() }
        return rest
    }
}
