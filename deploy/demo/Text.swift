import EngineKit
import OSAL
import SafStage

/// The text that is counted, and what coreutils make of it.
enum Text {
    static let candidates = [
        "/usr/share/common-licenses/GPL-3", "/usr/share/common-licenses/GPL-2", "/usr/share/common-licenses/Apache-2.0",
        "LICENSE",
    ]

    /// Writes the text to `target`, repeated until it has `bytes` bytes; returns where it came from.
    static func prepare(_ input: String?, bytes: Int, at target: String) throws -> String {
        guard let source = input ?? candidates.first(where: { File.exists($0) }) else {
            throw StageError(
                "no text found; looked for \(candidates.joined(separator: ", ")); name one with --input FILE")
        }
        let text = try File.readAll(source, limit: 1 << 31)
        guard !text.isEmpty else { throw StageError("\(source) is empty; a text with words is needed") }
        let output = try File.openForAppending(target)
        // A newline between two copies, or the last word of one and the first of the next would become one.
        let copy = text.last == 0x0a ? text : text + [0x0a]
        var written = 0
        repeat {
            try copy.withUnsafeBytes { bytes throws in try IO.writeAll(output.raw, bytes) }
            written += copy.count
        } while written < bytes
        return source
    }

    /// Cuts the text behind the first line that ends after `position`; returns its size.
    static func cut(_ text: String, behind position: UInt64) throws -> UInt64 {
        let size = UInt64(try File.stat(text).size)
        guard position < size else { return size }
        let file = try File.open(text)
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        var offset = position
        while offset < size {
            let count = try chunk.withUnsafeMutableBytes { try IO.read(file.raw, into: $0, at: Int(offset)) }
            if let end = chunk[..<count].firstIndex(of: 0x0a) {
                let cut = offset + UInt64(end) + 1
                try File.truncate(text, to: Int(cut))
                return cut
            }
            offset += UInt64(count)
        }
        return size
    }

    /// Counts with coreutils, independently of everything here.
    static func reference(of text: String, to target: String) throws {
        let pipeline = "tr -cs A-Za-z '\\n' < '\(text)' | sed '/^$/d' | sort | uniq -c > '\(target)'"
        var options = SpawnOptions(
            path: "/bin/sh", arguments: ["sh", "-c", pipeline],
            environment: ["LC_ALL=C", "PATH=/usr/local/bin:/usr/bin:/bin"])
        options.descriptors = [DescriptorMapping(2, as: 2)]
        let child = try Process.spawn(options)
        _ = try IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(900))
        guard case .exited(code: 0)? = Process.reap(child.pid) else {
            throw StageError("coreutils failed: \(pipeline)")
        }
    }

    /// The checkpoint's counts as `uniq -c` prints them, words in byte order.
    static func render(_ counts: [([UInt8], UInt64)]) -> [UInt8] {
        var output: [UInt8] = []
        for (word, count) in counts.sorted(by: { $0.0.lexicographicallyPrecedes($1.0) }) {
            let digits = Array(String(count).utf8)
            output += Array(repeating: 0x20, count: max(0, 7 - digits.count)) + digits + [0x20] + word + [0x0a]
        }
        return output
    }
}
