import EngineKit
import LogEngine
import LogProtocol
import Testing

@Suite("What logd decides")
struct LogEngineTests {
    private static let second: Int64 = 1_772_368_496  // 2026-03-01T12:34:56

    private func series(_ bytes: UInt64, _ files: Int, _ found: [(name: String, bytes: UInt64)] = []) -> FileSeries {
        FileSeries(stream: .system, limits: RotationLimits(fileBytesMax: bytes, filesMax: files), found: found)
    }

    @Test("Files are named by the time they begin, cut at line ends, and the oldest go")
    func rotation() {
        var series = series(10, 2)
        let segments = series.place(Array("12345\n123\n1234567\n".utf8), at: Self.second)
        #expect(
            segments == [
                .init(file: "system_20260301T123456.log", offset: 0, range: 0..<10),
                .init(file: "system_20260301T123456-2.log", offset: 0, range: 10..<18),
            ])
        let more = series.place(Array("1\n2\n".utf8), at: Self.second + 1)
        #expect(
            more == [
                .init(file: "system_20260301T123456-2.log", offset: 8, range: 0..<2),
                .init(
                    file: "system_20260301T123457.log", offset: 0, range: 2..<4,
                    removals: ["system_20260301T123456.log"]),
            ])
        #expect(series.newestFirst == ["system_20260301T123457.log", "system_20260301T123456-2.log"])
    }

    @Test("A line longer than a file gets one of its own, whole")
    func longLine() {
        var series = series(4, 9)
        let segments = series.place(Array("a\n12345678\nb\n".utf8), at: Self.second)
        #expect(segments.map(\.range) == [0..<2, 2..<11, 11..<13])
        #expect(Set(segments.map(\.file)).count == 3)
    }

    @Test("A restart goes on with the newest file that has room, and ignores what is not of the series")
    func restart() {
        let found: [(name: String, bytes: UInt64)] = [
            ("system_20260301T123456-10.log", 3), ("system_20260301T123456-9.log", 10), ("system.log", 3),
            ("application_20270301T123456.log", 0), ("system_20260301T123456-1.log", 1), ("system_2026.log", 1),
        ]
        var series = series(10, 4, found)
        #expect(series.current == "system_20260301T123456-10.log")
        #expect(series.place(Array("abc\n".utf8), at: Self.second + 60).map(\.offset) == [3])
        // The clock was set back: the order of the names is still that of the lines.
        #expect(
            series.place(Array("abcdef\n".utf8), at: Self.second - 60).map(\.file) == ["system_20260301T123456-11.log"])
    }

    @Test(
        "Whatever comes, all lines are placed once, in order, and no file exceeds its limit",
        arguments: 0..<50 as Range<UInt64>)
    func anyLines(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let limits = (UInt64.random(in: 8...40, using: &random), Int.random(in: 1...3, using: &random))
        var series = series(limits.0, limits.1)
        var sizes: [String: UInt64] = [:]
        for step in 0..<40 {
            var lines: [UInt8] = []
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                lines += [UInt8](repeating: 65, count: Int.random(in: 0...7, using: &random)) + [10]
            }
            var next = 0
            for segment in series.place(lines, at: Int64(step / 7)) {
                #expect(segment.range.lowerBound == next, "seed \(seed)")
                next = segment.range.upperBound
                for removal in segment.removals { sizes[removal] = nil }
                #expect(sizes[segment.file, default: 0] == segment.offset, "seed \(seed)")
                sizes[segment.file, default: 0] += UInt64(segment.range.count)
                #expect(sizes[segment.file, default: 0] <= limits.0, "seed \(seed)")
                #expect(lines[next - 1] == 10, "seed \(seed)")
            }
            #expect(next == lines.count, "seed \(seed)")
            #expect(sizes.count <= limits.1, "seed \(seed)")
        }
    }

    @Test("A bucket lets its burst through, then its rate; a debt is paid first")
    func bucket() {
        let start = Instant(nanoseconds: 1_000_000_000)
        var bucket = TokenBucket(rate: 100, burst: 1000, at: start)
        let free = [start].map { bucket.available(at: $0) }
        bucket.take(1500, at: start)
        let later = [0, 5, 6].map { bucket.available(at: start + .seconds($0)) }
        let wait = bucket.time(of: 400, at: start + .seconds(6))
        let last = bucket.available(at: start + .seconds(1_000_000_000))
        #expect(free == [1000] && later == [0, 0, 100] && last == 1000)
        #expect(wait >= .seconds(3) && wait < .seconds(3) + .milliseconds(1))
    }

    private func lines(_ pieces: [String], bytesMax: Int = 8, flush: Bool = false) -> [LineAssembler.Line] {
        var (assembler, found) = (LineAssembler(bytesMax: bytesMax), [LineAssembler.Line]())
        for piece in pieces { Array(piece.utf8).withUnsafeBytes { assembler.append($0) { found.append($0) } } }
        if flush { assembler.flush { found.append($0) } }
        return found
    }

    private func line(_ text: String, cut: Bool = false) -> LineAssembler.Line {
        .init(bytes: Array(text.utf8), isCut: cut)
    }

    @Test("Lines are found across pieces, cut when too long, and given at the end without their end")
    func assembler() {
        #expect(lines(["ab", "c\nd\r\n", "\nx"]) == [line("abc"), line("d"), line("")])
        #expect(lines(["abc"], flush: true) == [line("abc")])
        #expect(lines(["12345678\r\n"]) == [line("12345678")])
        #expect(lines(["123456789", "0\nok\n"]) == [line("12345678", cut: true), line("ok")])
        #expect(lines(["1234567ü9\nok\n"]) == [line("1234567", cut: true), line("ok")])
    }

    @Test("After bytes that were missed, the rest of their line is left out, but not a line of its own")
    func missed() {
        for (isWithin, expected) in [(true, [line("new")]), (false, [line("rest"), line("new")])] {
            for before in ["ab", "0123456789"] {  // an unfinished line, and one that was cut
                var (assembler, found) = (LineAssembler(bytesMax: 8), [LineAssembler.Line]())
                Array(before.utf8).withUnsafeBytes { assembler.append($0) { _ in } }
                assembler.missed(endingWithinLine: isWithin)
                Array("rest\nnew\n".utf8).withUnsafeBytes { assembler.append($0) { found.append($0) } }
                #expect(found == expected)
            }
        }
    }

    @Test("Any cutting into pieces gives the same lines", arguments: 0..<40 as Range<UInt64>)
    func pieces(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let text = String((0..<200).map { _ in ["a", "b", "\n", "c", "\r"].randomElement(using: &random)! })
        let whole = lines([text], bytesMax: 6)
        var (pieces, rest) = ([String](), Substring(text))
        while !rest.isEmpty {
            let count = Int.random(in: 1...9, using: &random)
            pieces.append(String(rest.unicodeScalars.prefix(count)))
            rest = Substring(rest.unicodeScalars.dropFirst(count))
        }
        #expect(lines(pieces, bytesMax: 6) == whole, "seed \(seed)")
    }

    @Test("The severity of a formatted line is read, and lines are merged by time")
    func filter() {
        let notice = Array("2026-03-01T12:34:56.000001Z (n.1 : p.A.B.00001 : NOTICE) x : ERROR) y\n".utf8)
        let debug = Array("2026-03-01T12:34:56.000000Z [f.swift:1] (n.1 : p.A.B.00001 : DEBUG) x\n".utf8)
        #expect(LineFilter.severity(of: notice[...]) == .notice)
        #expect(LineFilter.severity(of: debug[...]) == .debug)
        #expect(LineFilter.severity(of: Array("nonsense (".utf8)[...]) == nil)
        #expect(LineFilter(stream: nil, threshold: .info).lines(of: notice + debug).map { Array($0) } == [notice])
        #expect(LineFilter.merge([notice[...]], [debug[...]]).map { Array($0) } == [debug, notice])
    }
}
