import LogEngine
import LogProtocol
import OSAL

/// One batch on its way to the files; done on the worker's thread. Whole, or not at all.
struct BatchWriter: Sendable {
    enum Outcome: Sendable {
        case written
        case failed(OSError)
        /// Somebody else changed or removed a file: what is there must be looked at anew.
        case filesChanged
    }

    var directory: String
    var plan: BatchPlan
    /// By stream, the lines that the plan's ranges count in.
    var system: [UInt8]
    var application: [UInt8]

    func run() -> Outcome {
        var done = 0
        do throws(OSError) {
            for piece in plan.pieces {
                guard try begin(piece) else {
                    undo(plan.pieces.prefix(done))
                    return .filesChanged
                }
                done += 1
                try append(piece)
            }
        } catch {
            undo(plan.pieces.prefix(done))
            return .failed(error)
        }
        link()
        return .written
    }

    private func path(_ file: String) -> String { directory + "/" + file }

    private func size(_ file: String) throws(OSError) -> UInt64 {
        do throws(OSError) {
            return UInt64(try File.stat(path(file)).size)
        } catch {
            if error.isNotFound { return 0 }
            throw error
        }
    }

    /// Makes room; false when the file is not as it was planned.
    private func begin(_ piece: BatchPlan.Piece) throws(OSError) -> Bool {
        try File.makeDirectories(directory)
        guard try size(piece.segment.file) == piece.segment.offset else { return false }
        for old in piece.segment.removals { try File.remove(path(old)) }
        return true
    }

    private func append(_ piece: BatchPlan.Piece) throws(OSError) {
        let lines = piece.stream == .system ? system : application
        let file = try File.openForAppending(path(piece.segment.file), mode: 0o640)
        let number = file.raw
        try lines.withUnsafeBufferPointer { (buffer) throws(OSError) in
            let raw = UnsafeRawBufferPointer(buffer)
            try IO.writeAll(number, UnsafeRawBufferPointer(rebasing: raw[piece.segment.range]))
        }
        withExtendedLifetime(file) {}
    }

    private func undo(_ pieces: ArraySlice<BatchPlan.Piece>) { Self.undo(pieces, directory: directory) }

    /// Takes away what was written of these pieces. What cannot be taken away now is found by the next attempt.
    static func undo(_ pieces: ArraySlice<BatchPlan.Piece>, directory: String) {
        for piece in pieces.reversed() {
            let path = directory + "/" + piece.segment.file
            if piece.segment.offset == 0 {
                _ = try? File.remove(path)
            } else if let size = try? File.stat(path).size, size > Int(piece.segment.offset) {
                _ = try? File.truncate(path, to: Int(piece.segment.offset))
            }
        }
    }

    /// `STREAM.log` leads to the file that is written. A convenience: where links are impossible there are none.
    private func link() {
        for stream in LogStream.local {
            guard let last = plan.pieces.last(where: { $0.stream == stream }) else { continue }
            let name = path("\(stream).log")
            if (try? File.readLink(name)) != last.segment.file {
                _ = try? File.replaceLink(name, to: last.segment.file)
            }
        }
    }

    /// Whether a batch that a former life began was written completely: pieces are written in order.
    static func isWritten(_ plan: BatchPlan, directory: String) -> Bool {
        guard let last = plan.pieces.last?.segment else { return true }
        guard let size = try? File.stat(directory + "/" + last.file).size else { return false }
        return UInt64(size) >= last.offset + UInt64(last.range.count)
    }
}
