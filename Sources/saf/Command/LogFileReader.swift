import OSAL
import SafText

/// Reads a stream's files, the newest last, over their rotation.
struct LogFileReader {
    let folder: String
    let stream: String
    private var path: String?
    private var offset = 0
    private var rest: [UInt8] = []
    /// Of a file that is looked at the first time.
    private static let tailBytesMax = 64 << 20

    init(folder: String, stream: String) {
        (self.folder, self.stream) = (folder, stream)
    }

    var hasFile: Bool { path != nil }

    /// The stream's files, oldest first. No folder is no file.
    private func files() throws(OSError) -> [String] {
        guard File.exists(folder) else { return [] }
        return LogLine.files(of: stream, in: try File.list(folder)).map { "\(folder)/\($0)" }
    }

    /// The last lines of all files together.
    mutating func lastLines(_ count: Int, admitting admits: (String) -> Bool) throws(OSError) -> [String] {
        let files = try files()
        guard let newest = files.last else { return [] }
        var lines: [String] = []
        for file in files.reversed() {
            guard lines.count < count || file == newest else { break }
            guard let size = try size(of: file) else { continue }
            let start = max(0, size - Self.tailBytesMax)
            let bytes = try Self.read(file, from: start, size: size)
            if file == newest { (path, offset) = (file, start + bytes.count) }
            var found = Self.lines(bytes)
            if start > 0, !found.isEmpty { found.removeFirst() }
            lines = found.filter(admits) + lines
        }
        return Array(lines.suffix(count))
    }

    /// What was written since the last call.
    mutating func newLines() throws(OSError) -> [String] {
        var lines: [String] = []
        for file in try files() {
            // Names only ever grow; what comes before the present one was read to its end.
            if let path, LogLine.isOlder(file, than: path) { continue }
            if file != path { (path, offset) = (file, 0) }
            guard let size = try size(of: file), size > offset else { continue }
            let bytes = try Self.read(file, from: offset, size: size)
            offset += bytes.count
            rest += bytes
            guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else { continue }
            lines += Self.lines(Array(rest[...end]))
            rest.removeFirst(end + 1)
        }
        return lines
    }

    /// Nil when the file was rotated away meanwhile.
    private func size(of file: String) throws(OSError) -> Int? {
        File.exists(file) ? try File.stat(file).size : nil
    }

    private static func lines(_ bytes: [UInt8]) -> [String] {
        bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: true).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    private static func read(_ path: String, from start: Int, size: Int) throws(OSError) -> [UInt8] {
        let file = try File.open(path)
        var bytes = [UInt8](repeating: 0, count: min(size - start, tailBytesMax))
        var read: Result<Int, OSError> = .success(0)
        bytes.withUnsafeMutableBytes { buffer in
            do throws(OSError) {
                read = .success(try IO.read(file.raw, into: buffer, at: start))
            } catch {
                read = .failure(error)
            }
        }
        return Array(bytes.prefix(try read.get()))
    }
}
