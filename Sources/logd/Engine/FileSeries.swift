public import LogProtocol

/// When a stream's file is full, and how many are kept.
public struct RotationLimits: Hashable, Sendable {
    /// Bytes; a file is closed before the line that would exceed it.
    public var fileBytesMax: UInt64
    /// Files of the stream, the current one included.
    public var filesMax: Int

    public init(fileBytesMax: UInt64 = 5_000_000, filesMax: Int = 4) {
        self.fileBytesMax = max(1, fileBytesMax)
        self.filesMax = max(1, filesMax)
    }
}

/// The files of one stream: decides which bytes go where, performs nothing.
///
/// A file is `STREAM_YYYYMMDDThhmmss.log` by the time (UTC) it was begun, with `-2`, `-3` … before the dot for others
/// of the same second. Names only ever grow, also when the clock is set back, so their order is that of the lines.
public struct FileSeries: Sendable {
    public struct File: Hashable, Sendable, Comparable {
        public var time: String
        public var number: Int
        public var bytes: UInt64

        public static func < (left: File, right: File) -> Bool {
            (left.time, left.number) < (right.time, right.number)
        }
    }

    /// One piece of a batch and the file it goes to.
    public struct Segment: Hashable, Sendable {
        public var file: String
        /// The file's size before it; 0 makes the file.
        public var offset: UInt64
        /// Which of the batch's bytes.
        public var range: Range<Int>
        /// Files to be removed before it.
        public var removals: [String]

        public init(file: String, offset: UInt64, range: Range<Int>, removals: [String] = []) {
            (self.file, self.offset, self.range, self.removals) = (file, offset, range, removals)
        }
    }

    /// What the files' names begin with.
    public let stream: String
    public var limits: RotationLimits
    /// Oldest first; the last one is written.
    public private(set) var files: [File] = []

    /// - Parameter found: names and sizes in the directory; those of other series are ignored.
    public init(stream: LogStream, limits: RotationLimits, found: [(name: String, bytes: UInt64)]) {
        self.init(named: stream.description, limits: limits, found: found)
    }

    public init(named stream: String, limits: RotationLimits, found: [(name: String, bytes: UInt64)]) {
        self.stream = stream
        self.limits = limits
        files = found.compactMap { name, bytes in Self.parse(name, stream: stream, bytes: bytes) }.sorted()
    }

    public var current: String? { files.last.map(name(of:)) }
    public var currentBytes: UInt64 { files.last?.bytes ?? 0 }
    /// The names, newest first.
    public var newestFirst: [String] { files.reversed().map(name(of:)) }

    /// The names of those that were begun after this one; all, when this is none of the series.
    public func newer(than name: String) -> [String] {
        guard let limit = Self.parse(name, stream: stream, bytes: 0) else { return files.map(self.name(of:)) }
        return files.filter { ($0.time, $0.number) > (limit.time, limit.number) }.map(self.name(of:))
    }

    public func name(of file: File) -> String {
        "\(stream)_\(file.time)\(file.number > 1 ? "-\(file.number)" : "").log"
    }

    static func parse(_ name: String, stream: String, bytes: UInt64) -> File? {
        guard name.hasPrefix("\(stream)_"), name.hasSuffix(".log") else { return nil }
        let parts = name.dropFirst("\(stream)_".utf8.count).dropLast(4)
            .split(separator: "-", omittingEmptySubsequences: false)
        guard let time = parts.first, time.utf8.count == 15, parts.count <= 2,
            time.utf8.enumerated().allSatisfy({ index, byte in
                index == 8 ? byte == UInt8(ascii: "T") : (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
            })
        else { return nil }
        guard parts.count == 2 else { return File(time: String(time), number: 1, bytes: bytes) }
        guard let number = Int(parts[1]), number > 1, String(number) == parts[1] else { return nil }
        return File(time: String(time), number: number, bytes: bytes)
    }

    /// Places whole lines: as many as fit in the current file, the rest in new ones. The sizes are counted as written.
    ///
    /// - Parameters:
    ///   - lines: each ends in a newline.
    ///   - seconds: since 1970, for the names of new files.
    public mutating func place(_ lines: [UInt8], at seconds: Int64) -> [Segment] {
        place(lines, mayRotate: true) { _ in UTCTime(secondsSince1970: seconds).basic }
    }

    /// - Parameters:
    ///   - mayRotate: when not, what does not fit in the file is not placed.
    ///   - time: for the name of a new file, as `YYYYMMDDThhmmss`: of the line that begins at this offset.
    mutating func place(_ lines: [UInt8], mayRotate: Bool, time: (Int) -> String) -> [Segment] {
        var segments: [Segment] = []
        var start = 0
        while start < lines.count {
            var removals: [String] = []
            var end = fit(lines, from: start)
            if files.isEmpty || end == start {
                guard files.isEmpty || mayRotate else { break }
                removals = begin(time(start))
                end = fit(lines, from: start)
                // A line longer than a whole file gets one of its own.
                if end == start { end = lineEnd(lines, from: start) }
            }
            let last = files.count - 1
            segments.append(
                Segment(
                    file: name(of: files[last]), offset: files[last].bytes, range: start..<end, removals: removals))
            files[last].bytes += UInt64(end - start)
            start = end
        }
        return segments
    }

    /// Where the last line ends that fits in the current file; `start` when not even the first does.
    private func fit(_ lines: [UInt8], from start: Int) -> Int {
        guard let file = files.last, file.bytes < limits.fileBytesMax else { return start }
        let room = Int(clamping: limits.fileBytesMax - file.bytes)
        if lines.count - start <= room { return lines.count }
        let newline = lines[start..<(start + room)].lastIndex(of: UInt8(ascii: "\n"))
        return newline.map { $0 + 1 } ?? start
    }

    private func lineEnd(_ lines: [UInt8], from start: Int) -> Int {
        lines[start...].firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? lines.count
    }

    private mutating func begin(_ time: String) -> [String] {
        var file = File(time: time, number: 1, bytes: 0)
        if let newest = files.last, file <= newest {
            file.time = newest.time
            file.number = newest.number + 1
        }
        files.append(file)
        return removeSurplus()
    }

    /// The names of the oldest files beyond the limit, which are forgotten.
    public mutating func removeSurplus() -> [String] {
        let surplus = files.prefix(max(0, files.count - limits.filesMax)).map(name(of:))
        files.removeFirst(surplus.count)
        return surplus
    }
}
