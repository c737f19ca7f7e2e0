public import IOCCluster

/// Changes which nodes `cluster.yaml` has, and leaves everything else in it as it was written. Whoever uses it reads
/// the result back: what is written in another way than `saf cluster init` writes it is left to its author.
public enum ClusterEdit {
    /// The text with one more node, after the others; nil: there is no list of nodes with a line for each.
    public static func adding(_ node: ClusterDescribedNode, to text: String) -> String? {
        var lines = split(text)
        guard let block = block(lines), let last = block.last(where: { !isVoid(lines[$0]) }) else { return nil }
        let line = ClusterText.line(node)
        lines.insert(indent(lines[block.lowerBound]) + line.drop { $0 == " " }, at: last + 1)
        return lines.joined(separator: "\n")
    }

    /// The text without a node; nil: the node has no line of its own.
    public static func removing(_ name: String, from text: String) -> String? {
        var lines = split(text)
        guard let block = block(lines) else { return nil }
        let own = indent(lines[block.lowerBound])
        let beginnings = [name, "'\(name)'", "\"\(name)\""].map { own + $0 + ":" }
        guard let first = block.first(where: { index in beginnings.contains { lines[index].hasPrefix($0) } }) else {
            return nil
        }
        var end = first + 1
        while end < block.upperBound, isVoid(lines[end]) || indent(lines[end]).count > own.count { end += 1 }
        // What stands before the next node is about that one.
        while end > first + 1, isVoid(lines[end - 1]) { end -= 1 }
        lines.removeSubrange(first..<end)
        return lines.joined(separator: "\n")
    }

    private static func split(_ text: String) -> [String] {
        text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }

    /// The lines below `nodes:`, from the first node on.
    private static func block(_ lines: [String]) -> Range<Int>? {
        guard let head = lines.firstIndex(where: { $0.split(separator: " ").first == "nodes:" && !$0.hasPrefix(" ") }),
            lines[head].split(separator: "#", maxSplits: 1)[0].split(separator: " ").count == 1,
            let first = lines.indices.first(where: { $0 > head && !isVoid(lines[$0]) }),
            lines[first].hasPrefix(" ")
        else { return nil }
        let end = lines.indices.first { $0 > first && !isVoid(lines[$0]) && !lines[$0].hasPrefix(" ") }
        return first..<(end ?? lines.endIndex)
    }

    private static func indent(_ line: String) -> String { String(line.prefix { $0 == " " }) }

    private static func isVoid(_ line: String) -> Bool {
        line.allSatisfy { $0 == " " } || line.drop { $0 == " " }.hasPrefix("#")
    }
}
