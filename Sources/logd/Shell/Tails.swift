import EOLoop
import IOC
import LogEngine
import LogProtocol
import OSAL

/// Those who read along. Loop thread only.
///
/// The backlog is read by the worker between two batches, and a reader gets what is written after it: the worker does
/// one thing after the other, so nothing is missing and nothing comes twice.
final class Tails {
    private struct Tail {
        let peer: Peer
        let filter: LineFilter
        var dropped: UInt64 = 0
    }

    /// Bytes of lines in one push: it travels in the ring.
    static let pushBytesMax = 16 * 1024
    static let tailsMax = 256

    private let loop: Loop
    private let files: LogFiles
    private var tails: [PeerID: Tail] = [:]

    init(loop: Loop, files: LogFiles) { (self.loop, self.files) = (loop, files) }

    /// - Parameter fileName: what the files' names begin with, of a global stream.
    func begin(_ request: Request, _ filter: LineFilter, fileName: String? = nil, backlog: Int, follows: Bool) {
        guard tails.count < Self.tailsMax || !follows else {
            return request.fail(.noResources, "\(Self.tailsMax) readers follow the log already")
        }
        tails[request.peer.id] = nil
        let source = Backlog(
            directory: files.directory,
            system: filter.admits(.system) ? files.series[.system]?.newestFirst ?? [] : [],
            application: filter.admits(.application) ? files.series[.application]?.newestFirst ?? [] : [],
            global: fileName, filter: filter, linesMax: backlog)
        let isTaken = loop.runSlow(
            { source.read() },
            then: { [weak self] bytes in
                request.reply(LogLines(bytes: bytes).encoded)
                guard follows, request.peer.isConnected else { return }
                self?.tails[request.peer.id] = Tail(peer: request.peer, filter: filter)
            })
        if !isTaken { request.fail(.tryAgain, "logd has too many slow requests waiting") }
    }

    func left(_ peer: Peer) { tails[peer.id] = nil }

    /// Hands on what was written just now.
    func publish(system: [UInt8], application: [UInt8]) {
        for id in tails.keys.sorted() {
            guard let filter = tails[id]?.filter else { continue }
            let lines = LineFilter.merge(
                filter.admits(.system) ? filter.lines(of: system) : [],
                filter.admits(.application) ? filter.lines(of: application) : [])
            push(lines, to: id)
        }
    }

    /// Hands on what is in the files of a global stream now.
    func publish(_ stream: LogStream, _ bytes: [UInt8]) {
        for id in tails.keys.sorted() {
            guard let filter = tails[id]?.filter, filter.stream == stream else { continue }
            push(filter.lines(of: bytes), to: id)
        }
    }

    private func push(_ lines: [ArraySlice<UInt8>], to id: PeerID) {
        var (chunk, count) = ([UInt8](), UInt64(0))
        for (index, line) in lines.enumerated() {
            chunk += line
            count += 1
            let next = index + 1 < lines.count ? lines[index + 1].count : Self.pushBytesMax
            guard chunk.count + next > Self.pushBytesMax, var tail = tails[id] else { continue }
            let outcome = tail.peer.push(
                LogLines.code, lane: .low, LogLines(dropped: tail.dropped, bytes: chunk).encoded)
            tail.dropped = outcome == .queued ? 0 : tail.dropped + count
            tails[id] = tail
            (chunk, count) = ([], 0)
        }
    }
}

/// The last lines of the files, read from their ends.
struct Backlog: Sendable {
    var directory: String
    /// Names, newest first.
    var system: [String]
    var application: [String]
    /// What the names of a global stream's files begin with: they are looked for when it is read.
    var global: String?
    var filter: LineFilter
    var linesMax: Int

    /// What is looked at in one stream's files, at most: a rare severity is not searched for ever.
    private static let scanBytesMax = 32 << 20
    private static let pieceBytes = 64 * 1024

    func read() -> [UInt8] {
        guard linesMax > 0 else { return [] }
        var (first, second) = (last(of: system), last(of: application))
        if let global {
            let found = ((try? File.list(directory)) ?? []).map { (name: $0, bytes: UInt64(0)) }
            let series = FileSeries(named: global, limits: RotationLimits(), found: found)
            (first, second) = (last(of: series.newestFirst), [])
        }
        let lines = LineFilter.merge(first.map { $0[...] }, second.map { $0[...] }).suffix(linesMax)
        var (bytes, start) = (0, lines.endIndex)
        while start > lines.startIndex, bytes + lines[start - 1].count <= LogLimits.tailBytesMax {
            start -= 1
            bytes += lines[start].count
        }
        return Array(lines[start...].joined())
    }

    private func last(of names: [String]) -> [[UInt8]] {
        var (found, bytes, budget) = ([[UInt8]](), 0, Self.scanBytesMax)
        for name in names {
            guard let file = try? File.open(directory + "/" + name) else { continue }  // rotated away meanwhile
            var end = (try? File.stat(descriptor: file.raw).size) ?? 0
            var rest: [UInt8] = []
            while end > 0 || !rest.isEmpty {
                let start = max(0, end - Self.pieceBytes)
                guard let piece = Self.piece(file.raw, start..<end) else { break }
                end = start
                budget -= piece.count
                let text = piece + rest
                // The first line may begin before this piece.
                let cut = start == 0 ? 0 : text.firstIndex(of: UInt8(ascii: "\n")).map { $0 + 1 } ?? text.count
                rest = Array(text[..<cut])
                for line in filter.lines(of: Array(text[cut...])).reversed() {
                    found.append(Array(line))
                    bytes += line.count
                    if found.count >= linesMax || bytes > LogLimits.tailBytesMax { return found.reversed() }
                }
                if start == 0 { break }
                if budget <= 0 || rest.count > 1 << 20 { return found.reversed() }
            }
        }
        return found.reversed()
    }

    private static func piece(_ fd: Int32, _ range: Range<Int>) -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: range.count)
        var done = 0
        while done < bytes.count {
            let count = try? bytes.withUnsafeMutableBytes {
                try IO.read(fd, into: UnsafeMutableRawBufferPointer(rebasing: $0[done...]), at: range.lowerBound + done)
            }
            guard let count, count > 0 else { return nil }
            done += count
        }
        return bytes
    }
}
