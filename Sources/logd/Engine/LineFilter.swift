public import LogProtocol

/// What a reader of formatted lines wants to see.
public struct LineFilter: Hashable, Sendable {
    /// Nil: both streams of the node.
    public var stream: LogStream?
    /// Lines of this severity and worse.
    public var threshold: LogSeverity

    public init(stream: LogStream?, threshold: LogSeverity) {
        self.stream = stream
        self.threshold = threshold
    }

    public func admits(_ stream: LogStream) -> Bool { self.stream.map { $0 == stream } ?? !stream.isGlobal }

    /// Lines whose severity cannot be read are shown.
    public func admits(_ line: ArraySlice<UInt8>) -> Bool {
        threshold == .trace || (Self.severity(of: line).map { $0 <= threshold } ?? true)
    }

    /// The lines that are wanted.
    public func lines(of bytes: [UInt8]) -> [ArraySlice<UInt8>] {
        var (found, start) = ([ArraySlice<UInt8>](), bytes.startIndex)
        while start < bytes.endIndex {
            let end = bytes[start...].firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? bytes.endIndex
            let line = bytes[start..<end]
            if admits(line) { found.append(line) }
            start = end
        }
        return found
    }

    /// The severity a formatted line names: the word between the second ` : ` and the next `)`.
    public static func severity(of line: ArraySlice<UInt8>) -> LogSeverity? {
        guard let open = line.firstIndex(of: UInt8(ascii: "(")),
            let first = separator(line[open...]), let second = separator(line[first...]),
            let close = line[second...].firstIndex(of: UInt8(ascii: ")")), close - second <= 9
        else { return nil }
        return LogSeverity(name: String(decoding: line[second..<close], as: UTF8.self))
    }

    /// What follows the next ` : `.
    private static func separator(_ line: ArraySlice<UInt8>) -> Int? {
        var rest = line
        while let colon = rest.firstIndex(of: UInt8(ascii: ":")) {
            let isSeparator =
                colon > line.startIndex && line[colon - 1] == UInt8(ascii: " ") && colon + 1 < line.endIndex
                && line[colon + 1] == UInt8(ascii: " ")
            if isSeparator { return colon + 2 }
            rest = rest[(colon + 1)...]
        }
        return nil
    }

    /// Merges lines of several streams by their time stamps; each stream keeps its own order.
    public static func merge(_ left: [ArraySlice<UInt8>], _ right: [ArraySlice<UInt8>]) -> [ArraySlice<UInt8>] {
        if left.isEmpty { return right }
        if right.isEmpty { return left }
        var merged: [ArraySlice<UInt8>] = []
        merged.reserveCapacity(left.count + right.count)
        var (a, b) = (0, 0)
        while a < left.count, b < right.count {
            let rightIsFirst = time(of: right[b]).lexicographicallyPrecedes(time(of: left[a]))
            merged.append(rightIsFirst ? right[b] : left[a])
            if rightIsFirst { b += 1 } else { a += 1 }
        }
        return merged + left[a...] + right[b...]
    }

    /// 2026-03-01T12:34:56.123456Z; empty, and so before all others, without one.
    private static func time(of line: ArraySlice<UInt8>) -> ArraySlice<UInt8> {
        let stamp = line.prefix(27)
        return stamp.last == UInt8(ascii: "Z") ? stamp : []
    }
}
