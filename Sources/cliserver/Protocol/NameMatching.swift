/// Finds what a person means by a short form of a DN, and what they may have meant by a wrong one.
///
/// Accepted, in this order: the whole DN; the values of the leading parts, outermost first and separated by `/`, with
/// outer parts left out at will (`SU1`, `WC/SU1`, `wordcount/SU1`); leading parts as they are (`safSu=SU1`).
public enum NameMatching {
    public enum Match: Hashable, Sendable {
        case found(String)
        /// More than one fits, sorted.
        case ambiguous([String])
        /// Nothing fits; the nearest names, best first, at most three.
        case unknown(nearest: [String])
    }

    public static func find(_ text: String, among names: [String]) -> Match {
        if names.contains(text) { return .found(text) }
        for isSameCase in [true, false] {
            let fitting = names.filter { fits(text, name: $0, sameCase: isSameCase) }.sorted()
            if fitting.count == 1 { return .found(fitting[0]) }
            if fitting.count > 1 { return .ambiguous(fitting) }
        }
        return .unknown(nearest: nearest(to: text, among: names))
    }

    /// As ``find(_:among:)``, among the first of several groups of names in which anything fits.
    public static func find(_ text: String, inOrder groups: [[String]]) -> Match {
        for names in groups {
            let match = find(text, among: names)
            if case .unknown = match { continue }
            return match
        }
        return .unknown(nearest: nearest(to: text, among: groups.flatMap { $0 }))
    }

    /// The shortest form by which `name` is found among `names`.
    public static func shortForm(of name: String, among names: [String]) -> String {
        let values = parts(of: name).map(\.value)
        for count in 1...max(1, values.count) {
            let form = values.prefix(count).reversed().joined(separator: "/")
            if case .found(name) = find(form, among: names) { return form }
        }
        return name
    }

    /// The value of the first part: `SU1` of `safSu=SU1,safSg=WC,safApp=wordcount`.
    public static func leaf(of name: String) -> String { parts(of: name).first?.value ?? name }

    /// Words of `candidates` that are few typing errors away from `word`, best first, at most three.
    public static func nearest(to word: String, among candidates: [String]) -> [String] {
        let wanted = Array(word.lowercased().unicodeScalars.prefix(64))
        let tolerance = wanted.count < 2 ? 0 : max(1, min(3, wanted.count / 3))
        var scored: [(distance: Int, name: String)] = []
        for candidate in candidates {
            let forms = [candidate, leaf(of: candidate)]
            let best = forms.map { distance(wanted, Array($0.lowercased().unicodeScalars.prefix(64))) }.min() ?? .max
            if best <= tolerance { scored.append((best, candidate)) }
        }
        scored.sort { ($0.distance, $0.name) < ($1.distance, $1.name) }
        return scored.prefix(3).map(\.name)
    }

    private static func parts(of name: String) -> [(whole: String, value: String)] {
        var parts: [(String, String)] = []
        var part = ""
        var isEscaped = false
        func finish() -> (String, String) {
            let equals = part.firstIndex(of: "=")
            return (part, equals.map { String(part[part.index(after: $0)...]) } ?? part)
        }
        for character in name {
            if character == ",", !isEscaped {
                parts.append(finish())
                part = ""
            } else {
                part.append(character)
            }
            isEscaped = character == "\\" && !isEscaped
        }
        parts.append(finish())
        return parts
    }

    private static func fits(_ text: String, name: String, sameCase: Bool) -> Bool {
        func fold(_ value: String) -> String { sameCase ? value : value.lowercased() }
        let parts = parts(of: name)
        if text.contains("=") {
            let leading = parts.map { fold($0.whole) }
            let wanted = Self.parts(of: text).map { fold($0.whole) }
            return wanted.count <= leading.count && Array(leading.prefix(wanted.count)) == wanted
        }
        var wanted = text.split(separator: "/", omittingEmptySubsequences: false).map { fold(String($0)) }
        let values = parts.map { fold($0.value) }
        guard let innermost = wanted.popLast(), innermost == values.first else { return false }
        var rest = values.dropFirst()
        while let next = wanted.popLast() {
            guard let position = rest.firstIndex(of: next) else { return false }
            rest = rest[(position + 1)...]
        }
        return true
    }

    /// Optimal string alignment: insertions, deletions, replacements and swaps of neighbours.
    private static func distance(_ left: [Unicode.Scalar], _ right: [Unicode.Scalar]) -> Int {
        if left.isEmpty || right.isEmpty { return max(left.count, right.count) }
        var beforeLast: [Int] = []
        var last = Array(0...right.count)
        for row in 1...left.count {
            var current = [row] + Array(repeating: 0, count: right.count)
            for column in 1...right.count {
                let cost = left[row - 1] == right[column - 1] ? 0 : 1
                current[column] = min(last[column] + 1, current[column - 1] + 1, last[column - 1] + cost)
                if row > 1, column > 1, left[row - 1] == right[column - 2], left[row - 2] == right[column - 1] {
                    current[column] = min(current[column], beforeLast[column - 2] + 1)
                }
            }
            beforeLast = last
            last = current
        }
        return last[right.count]
    }
}
