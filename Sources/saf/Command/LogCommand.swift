import ArgumentParser
import OSAL
import SafText

struct LogCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "log", abstract: "Shows log streams.", subcommands: [Tail.self])

    struct Tail: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "tail", abstract: "Shows the last lines of a log stream.",
            discussion: """
                The files are those logd writes in SAF_LOG_DIR; they are shown also when no node is running. With \
                --follow, rotation is followed, too.

                Example: saf log tail -f --severity warning
                Example: saf log tail --stream system -n 100
                """)
        @Flag(name: .shortAndLong, help: "Goes on until interrupted.") var follow = false
        @Option(help: "The stream.", completion: .list(["application", "system"])) var stream = "application"
        @Option(help: "Nothing less severe than this.", completion: .list(LogLine.severities)) var severity: String?
        @Option(name: .shortAndLong, help: "How many lines.") var number = 20

        func validate() throws {
            guard (0...1_000_000).contains(number) else {
                throw ValidationError("--number is \(number); 0 to 1000000 expected")
            }
            if let severity, !LogLine.severities.contains(severity.lowercased()) {
                throw ValidationError(
                    "'\(severity)' is no severity; one of \(LogLine.severities.joined(separator: ", ")) expected")
            }
        }

        func run() throws {
            let folder = Tool.places.logDirectory
            var reader = LogFileReader(folder: folder, stream: stream)
            guard let start = reader.lastLines(number, admitting: { admits($0) }) else {
                if follow { return try goOn(&reader) }
                throw Tool.fail(
                    """
                    saf: there is no log file of the stream '\(stream)' yet.
                    Looked in \(folder) (SAF_LOG_DIR). A node writes one when there is something to log: amfd --guard
                    """, .unavailable)
            }
            for line in start { StandardOutput.write(line + "\n") }
            if follow { try goOn(&reader) }
        }

        private func goOn(_ reader: inout LogFileReader) throws {
            while true {
                for line in reader.newLines() where admits(line) { StandardOutput.write(line + "\n") }
                Tool.rest(.milliseconds(200))
            }
        }

        private func admits(_ line: String) -> Bool { LogLine.admits(line, severity: severity?.lowercased()) }
    }
}

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

    /// The stream's files, oldest first.
    private func files() -> [(path: String, modified: Int64, size: Int)] {
        let names = ((try? File.list(folder)) ?? []).filter { $0.hasPrefix(stream) && $0.hasSuffix(".log") }
        let found = names.compactMap { name -> (path: String, modified: Int64, size: Int)? in
            guard let status = try? File.stat("\(folder)/\(name)"), status.kind == .file else { return nil }
            return ("\(folder)/\(name)", status.modified, status.size)
        }
        return found.sorted { ($0.modified, $0.path) < ($1.modified, $1.path) }
    }

    /// The last lines of all files together; nil when there is no file.
    mutating func lastLines(_ count: Int, admitting admits: (String) -> Bool) -> [String]? {
        let files = files()
        guard let newest = files.last else { return nil }
        var lines: [String] = []
        for file in files.reversed() {
            guard lines.count < count || file.path == newest.path else { break }
            let start = max(0, file.size - Self.tailBytesMax)
            let bytes = Self.read(file.path, from: start)
            if file.path == newest.path { (path, offset) = (file.path, start + bytes.count) }
            var found = Self.lines(bytes)
            if start > 0, !found.isEmpty { found.removeFirst() }
            lines = found.filter(admits) + lines
        }
        return Array(lines.suffix(count))
    }

    /// What was written since the last call.
    mutating func newLines() -> [String] {
        var lines: [String] = []
        for file in files() {
            if let path, file.path != path, !isNewer(file.path, than: path) { continue }
            if file.path != path {
                // Rotated: the former file was read to its end in the round before, or just now.
                (path, offset) = (file.path, 0)
            }
            if file.size < offset { offset = 0 }
            let bytes = Self.read(file.path, from: offset)
            offset += bytes.count
            rest += bytes
            guard let end = rest.lastIndex(of: UInt8(ascii: "\n")) else { continue }
            lines += Self.lines(Array(rest[...end]))
            rest.removeFirst(end + 1)
        }
        return lines
    }

    private func isNewer(_ candidate: String, than path: String) -> Bool {
        guard let new = try? File.stat(candidate), let old = try? File.stat(path) else { return true }
        return (new.modified, candidate) > (old.modified, path)
    }

    private static func lines(_ bytes: [UInt8]) -> [String] {
        bytes.split(separator: UInt8(ascii: "\n"), omittingEmptySubsequences: true).map {
            String(decoding: $0, as: UTF8.self)
        }
    }

    private static func read(_ path: String, from start: Int) -> [UInt8] {
        guard let file = try? File.open(path), let size = try? File.stat(path).size, size > start else { return [] }
        var bytes = [UInt8](repeating: 0, count: min(size - start, tailBytesMax))
        let count = bytes.withUnsafeMutableBytes { (try? IO.read(file.raw, into: $0, at: start)) ?? 0 }
        return Array(bytes.prefix(count))
    }
}
