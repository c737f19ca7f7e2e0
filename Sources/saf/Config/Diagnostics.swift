import CliProtocol

/// Collects every error of a configuration, so that all are told together.
final class Diagnostics {
    private(set) var errors: Set<ConfigError> = []

    func report(_ file: String, _ position: SourcePosition, _ message: String, isWarning: Bool = false) {
        errors.insert(ConfigError(file: file, position: position, message: message, isWarning: isWarning))
    }

    func add(_ found: [ConfigError]) { errors.formUnion(found) }

    /// True when something was reported for this line already: what follows from it is not worth another error.
    func hasError(in file: String, line: Int) -> Bool {
        errors.contains { $0.file == file && $0.position.line == line && !$0.isWarning }
    }
}

/// `; did you mean x?`, or nothing.
func hint(_ word: String, among known: [String]) -> String {
    let nearest = NameMatching.nearest(to: word, among: known)
    return nearest.isEmpty ? "" : "; did you mean \(nearest.joined(separator: " or "))?"
}

/// Reads the keys of one map: each at most once, each with its type, and reports those nobody asked for.
///
/// Values may come from a second map, the component type: keys of the first win.
final class MapReader {
    /// What the map describes, for messages: `component 'counter'`.
    let what: String
    let file: String
    /// Where the thing is, for what is missing in it.
    let position: SourcePosition
    let diagnostics: Diagnostics
    private let own: [ConfigNode.Entry]
    private let inherited: [ConfigNode.Entry]
    private var asked: [String] = []

    init(
        _ node: ConfigNode?, what: String, file: String, at position: SourcePosition,
        inheriting type: ConfigNode? = nil,
        _ diagnostics: Diagnostics
    ) {
        (self.what, self.file, self.position, self.diagnostics) = (what, file, position, diagnostics)
        own = Self.entries(of: node)
        inherited = Self.entries(of: type)
        switch node?.value {
        case .scalar, .list:
            diagnostics.report(
                file, node?.position ?? position, "\(what): a map of keys expected, \(node?.kind ?? "") found")
        case nil, .null, .map: break
        }
    }

    private static func entries(of node: ConfigNode?) -> [ConfigNode.Entry] {
        if case .map(let entries)? = node?.value { entries } else { [] }
    }

    func report(_ position: SourcePosition, _ message: String, isWarning: Bool = false) {
        diagnostics.report(file, position, "\(what): \(message)", isWarning: isWarning)
    }

    /// The value of a key; an empty value counts as absent.
    func node(_ key: String) -> ConfigNode? {
        asked.append(key)
        for entries in [own, inherited] {
            guard let found = entries.last(where: { $0.key == key })?.value else { continue }
            if case .null = found.value { continue }
            return found
        }
        return nil
    }

    /// The values of a key in the type and in the map itself, in this order, for what is merged.
    func nodes(_ key: String) -> [ConfigNode] {
        asked.append(key)
        return [inherited, own].compactMap { entries in entries.last { $0.key == key }?.value }
            .filter { if case .null = $0.value { false } else { true } }
    }

    func position(of key: String) -> SourcePosition {
        (own + inherited).first { $0.key == key }?.value.position ?? position
    }

    /// Reports the keys that nobody asked for. Call it last.
    func finish() {
        let keys = Set(asked).sorted()
        for entry in own where !asked.contains(entry.key) {
            let known = keys.joined(separator: ", ")
            report(
                entry.keyPosition,
                "key '\(entry.key)' is unknown\(hint(entry.key, among: keys)) (known keys: \(known))")
        }
    }
}

// Typed values: each returns nil when the key is absent or wrong, and reports what is wrong.
extension MapReader {
    func text(_ key: String) -> String? {
        guard let node = node(key) else { return nil }
        return text(node, called: key)
    }

    func text(_ node: ConfigNode, called key: String) -> String? {
        guard case .scalar(let text, _) = node.value else {
            report(node.position, "\(key): a text expected, \(node.kind) found")
            return nil
        }
        return text
    }

    func number<Value: FixedWidthInteger>(_ key: String, _ range: ClosedRange<Value>) -> Value? {
        guard let node = node(key) else { return nil }
        if case .scalar(let text, true) = node.value, let value = Value(text), range.contains(value) { return value }
        report(
            node.position,
            "\(key): a whole number from \(range.lowerBound) to \(range.upperBound) expected, \(node.kind) found")
        return nil
    }

    /// A number with or without decimals.
    func factor(_ key: String, _ range: ClosedRange<Double>) -> Double? {
        guard let node = node(key) else { return nil }
        if case .scalar(let text, true) = node.value, let value = Double(text), range.contains(value) { return value }
        report(
            node.position,
            "\(key): a number from \(range.lowerBound) to \(range.upperBound) expected, \(node.kind) found")
        return nil
    }

    func flag(_ key: String) -> Bool? {
        guard let node = node(key) else { return nil }
        if case .scalar(let text, true) = node.value {
            if ["true", "yes", "on"].contains(text.lowercased()) { return true }
            if ["false", "no", "off"].contains(text.lowercased()) { return false }
        }
        report(node.position, "\(key): true or false expected, \(node.kind) found")
        return nil
    }

    func duration(_ key: String, _ range: ClosedRange<Duration>) -> Duration? {
        guard let node = node(key) else { return nil }
        if case .scalar(let text, _) = node.value, let value = DurationText.parse(text), range.contains(value) {
            return value
        }
        let bounds = "\(DurationText.text(range.lowerBound)) to \(DurationText.text(range.upperBound))"
        report(
            node.position,
            "\(key): a duration with its unit (such as 500ms, 10s, 2m) from \(bounds) expected, \(node.kind) found")
        return nil
    }

    func word<Value>(_ key: String, _ words: [(String, Value)]) -> Value? {
        guard let node = node(key) else { return nil }
        return word(node, called: key, words)
    }

    func word<Value>(_ node: ConfigNode, called key: String, _ words: [(String, Value)]) -> Value? {
        let known = words.map(\.0)
        guard case .scalar(let text, _) = node.value else {
            report(node.position, "\(key): one of \(known.joined(separator: ", ")) expected, \(node.kind) found")
            return nil
        }
        if let value = words.first(where: { $0.0 == text.lowercased() })?.1 { return value }
        let guess = hint(text, among: known)
        report(node.position, "\(key): one of \(known.joined(separator: ", ")) expected, \(node.kind) found\(guess)")
        return nil
    }

    /// A list of texts; a single text is a list of one.
    func texts(_ key: String) -> [(text: String, position: SourcePosition)]? {
        guard let node = node(key) else { return nil }
        switch node.value {
        case .scalar(let text, _): return [(text, node.position)]
        case .list(let nodes):
            return nodes.enumerated().compactMap { index, element in
                text(element, called: "\(key)[\(index)]").map { ($0, element.position) }
            }
        case .map, .null:
            report(node.position, "\(key): a list of texts expected, \(node.kind) found")
            return nil
        }
    }
}

/// A thing with a name inside a collection.
struct NamedNode {
    var name: String
    var position: SourcePosition
    var body: ConfigNode?
}

extension MapReader {
    /// A collection of named things, in any of the forms
    /// `{ A: {…}, B: }`, `[A, B]` and `[{ name: A, … }]`, or, where `counted` gives a prefix, a number of alike ones.
    func named(_ key: String, counted prefix: String? = nil) -> [NamedNode]? {
        guard let node = node(key) else { return nil }
        return named(node, called: key, counted: prefix)
    }

    func named(_ node: ConfigNode, called key: String, counted prefix: String? = nil) -> [NamedNode] {
        switch node.value {
        case .null: return []
        case .map(let entries):
            return entries.map { NamedNode(name: $0.key, position: $0.keyPosition, body: $0.value) }
        case .list(let nodes): return list(nodes, called: key)
        case .scalar(let text, let isPlain):
            if let prefix {
                if isPlain, let count = Int(text), (1...256).contains(count) {
                    return (1...count).map { NamedNode(name: "\(prefix)\($0)", position: node.position, body: nil) }
                }
                report(
                    node.position, "\(key): a number from 1 to 256, or a list of names, expected, \(node.kind) found")
                // One stands in, so that nothing else is said to be missing.
                return [NamedNode(name: "\(prefix)1", position: node.position, body: nil)]
            }
            return [NamedNode(name: text, position: node.position, body: nil)]
        }
    }

    private func list(_ nodes: [ConfigNode], called key: String) -> [NamedNode] {
        var found: [NamedNode] = []
        for (index, element) in nodes.enumerated() {
            switch element.value {
            case .scalar(let text, _): found.append(NamedNode(name: text, position: element.position, body: nil))
            case .map(let entries):
                guard let entry = entries.first(where: { $0.key == "name" }),
                    case .scalar(let text, _) = entry.value.value
                else {
                    report(element.position, "\(key)[\(index)]: the key 'name' with a text is missing")
                    continue
                }
                let rest = ConfigNode(value: .map(entries.filter { $0.key != "name" }), position: element.position)
                found.append(NamedNode(name: text, position: entry.value.position, body: rest))
            case .null, .list:
                report(element.position, "\(key)[\(index)]: a name or a map expected, \(element.kind) found")
            }
        }
        var first: [String: SourcePosition] = [:]
        for element in found {
            if let earlier = first[element.name] {
                report(
                    element.position,
                    "\(key): the name '\(element.name)' is given twice (first in line \(earlier.line))")
            } else {
                first[element.name] = element.position
            }
        }
        return found
    }
}
