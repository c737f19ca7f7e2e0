import Yams

/// Reads YAML text into ``ConfigNode``s; total for any text, however broken.
enum YamlReader {
    static let bytesMax = 1 << 20
    static let nodesMax = 100_000
    static let depthMax = 32
    static let duplicatesMax = 100

    struct Outcome {
        var root: ConfigNode?
        var errors: [ConfigError]
    }

    static func read(_ text: String, file: String) -> Outcome {
        var reader = Reading(file: file)
        guard text.utf8.count <= bytesMax else {
            reader.report(
                .init(line: 1, column: 1), "the file has \(text.utf8.count) bytes; at most \(bytesMax) expected")
            return Outcome(root: nil, errors: reader.errors)
        }
        let root = reader.read(text)
        return Outcome(root: root, errors: reader.errors)
    }
}

private struct Reading {
    let file: String
    var errors: [ConfigError] = []
    /// The first of two equal keys: where it is, and the key by the mark put in its place.
    private var firstOfTwo: [String: (key: String, position: SourcePosition)] = [:]
    private var nodes = 0

    init(file: String) { self.file = file }

    mutating func report(_ position: SourcePosition, _ message: String) {
        errors.append(ConfigError(file: file, position: position, message: message))
    }

    /// Yams stops at the first map with equal keys. The first of them is therefore disguised by one private-use
    /// character and the text read again, until all are found: every error is to be told, not only the first.
    mutating func read(_ original: String) -> ConfigNode? {
        var lines = original.split(separator: "\n", omittingEmptySubsequences: false).map { Array($0.unicodeScalars) }
        while true {
            var text = String.UnicodeScalarView()
            for (index, line) in lines.enumerated() {
                if index > 0 { text.append("\n") }
                text.append(contentsOf: line)
            }
            do {
                guard let root = try Yams.compose(yaml: String(text)) else { return nil }
                return convert(root, depth: 0)
            } catch let YamlError.duplicatedKeysInMapping(duplicates, context) {
                let position = SourcePosition(line: context.mark.line, column: context.mark.column)
                guard disguise(duplicates, at: position, in: &lines) else {
                    report(position, "key '\(duplicates.first ?? "")' is given twice in one map; keep one of them")
                    return nil
                }
            } catch {
                explain(error, in: String(text))
                return nil
            }
        }
    }

    private mutating func disguise(
        _ duplicates: [String], at position: SourcePosition, in lines: inout [[Unicode.Scalar]]
    ) -> Bool {
        guard firstOfTwo.count < YamlReader.duplicatesMax, let key = duplicates.first,
            lines.indices.contains(position.line - 1),
            let mark = Unicode.Scalar(0xE000 + UInt32(firstOfTwo.count))
        else { return false }
        let scalars = Array(key.unicodeScalars)
        var start = position.column - 1
        var line = lines[position.line - 1]
        if line.indices.contains(start), line[start] == "\"" || line[start] == "'" { start += 1 }
        guard !scalars.isEmpty, start >= 0, start + scalars.count <= line.count,
            Array(line[start..<(start + scalars.count)]) == scalars
        else { return false }
        line[start] = mark
        lines[position.line - 1] = line
        var disguised = String.UnicodeScalarView([mark])
        disguised.append(contentsOf: scalars.dropFirst())
        firstOfTwo[String(disguised)] = (key, position)
        return true
    }

    private mutating func convert(_ node: Yams.Node, depth: Int) -> ConfigNode? {
        let mark =
            node.mark.map { SourcePosition(line: $0.line, column: $0.column) } ?? SourcePosition(line: 1, column: 1)
        nodes += 1
        guard nodes <= YamlReader.nodesMax else {
            if nodes == YamlReader.nodesMax + 1 {
                report(mark, "more than \(YamlReader.nodesMax) values, aliases counted each time; split the file")
            }
            return nil
        }
        guard depth <= YamlReader.depthMax else {
            report(mark, "nested more than \(YamlReader.depthMax) levels deep; check the indentation")
            return nil
        }
        switch node {
        case .scalar(let scalar):
            let isPlain = scalar.style == .plain || scalar.style == .any
            let isNull = isPlain && ["", "~", "null", "Null", "NULL"].contains(scalar.string)
            return ConfigNode(value: isNull ? .null : .scalar(scalar.string, isPlain: isPlain), position: mark)
        case .sequence(let sequence):
            return ConfigNode(value: .list(sequence.compactMap { convert($0, depth: depth + 1) }), position: mark)
        case .mapping(let mapping): return convert(mapping, at: mark, depth: depth)
        case .alias: return ConfigNode(value: .null, position: mark)  // only made by programs, never by the parser
        }
    }

    private mutating func convert(_ mapping: Yams.Node.Mapping, at mark: SourcePosition, depth: Int) -> ConfigNode {
        var entries: [ConfigNode.Entry] = []
        var replaced: [String: SourcePosition] = [:]
        for (key, value) in mapping {
            let position = key.mark.map { SourcePosition(line: $0.line, column: $0.column) } ?? mark
            guard case .scalar(let scalar) = key else {
                report(position, "a key must be a word, not a list or a map")
                continue
            }
            let disguised = firstOfTwo[scalar.string]
            let key = disguised?.key ?? scalar.string
            if let first = replaced[key] {
                report(
                    position, "key '\(key)' is given twice in one map (first in line \(first.line)); keep one of them")
            }
            if let disguised {
                replaced[key] = replaced[key] ?? disguised.position
                continue
            }
            if let value = convert(value, depth: depth + 1) {
                entries.append(.init(key: scalar.string, keyPosition: position, value: value))
            }
        }
        return ConfigNode(value: .map(entries), position: mark)
    }

    private mutating func explain(_ error: any Error, in text: String) {
        switch error {
        case YamlError.scanner(let context, let problem, let mark, _),
            YamlError.parser(let context, let problem, let mark, _),
            YamlError.composer(let context, let problem, let mark, _):
            let position = SourcePosition(line: mark.line, column: mark.column)
            let place = context.map { " (\($0.text) in line \($0.mark.line))" } ?? ""
            report(position, "this is not YAML: \(problem)\(place)")
        case YamlError.reader(let problem, let offset, _, _):
            report(place(ofByte: offset ?? 0, in: text), "this is not YAML: \(problem)")
        default: report(.init(line: 1, column: 1), "this is not YAML: \(error)")
        }
    }

    private func place(ofByte offset: Int, in text: String) -> SourcePosition {
        let before = text.utf8.prefix(offset)
        let line = before.reduce(1) { $1 == UInt8(ascii: "\n") ? $0 + 1 : $0 }
        let column = before.reversed().prefix { $0 != UInt8(ascii: "\n") }.filter { $0 & 0xC0 != 0x80 }.count
        return SourcePosition(line: line, column: column + 1)
    }
}
