import EOReplicated
import LogEngine
import OSAL
import SAFTypes

/// A controller's ledger on its disk: segments of entries, each beginning with the state before its first. Used by one
/// thread at a time.
///
/// A segment is `ledger.NUMBER`, NUMBER being that of its first entry. What a kill or a power failure has cut off its
/// end is recognised and dropped.
final class LedgerFiles {
    static let segmentBytes = 4 << 20
    static let loadBytesMax = 256 * 1024
    private static let prefix = "ledger."

    /// Of this ledger for as long as it exists.
    let store: UInt64
    private(set) var state = LedgerState()
    /// What was found at the start, for the operator.
    private(set) var damage: [String] = []
    private let directory: String
    private let retainedBytes: Int
    private var segments: [Segment] = []
    private var framer = JournalFramer(checksum: LedgerFiles.checksum)
    private var file: SharedDescriptor?
    /// The entries of the segment that was read last.
    private var read: (first: UInt64, bytes: Int, entries: [LedgerEntry])?

    private struct Segment {
        var first: UInt64
        var bytes: Int
    }

    private static let checksum: JournalFramer.Checksum = { crc32c($0, seed: 0) }

    /// - Parameter retainedBytes: more than this is kept only while it is not in the streams' files.
    init(directory: String, retainedBytes: Int, newStore: UInt64) throws(OSError) {
        (self.directory, self.retainedBytes) = (directory, retainedBytes)
        try File.makeDirectories(directory, mode: 0o750)
        store = try Self.store(directory + "/store", newStore)
        segments = try File.list(directory).compactMap { name in
            guard name.hasPrefix(Self.prefix), let first = UInt64(name.dropFirst(Self.prefix.count)), first > 0 else {
                return nil
            }
            return Segment(first: first, bytes: 0)
        }.sorted { $0.first < $1.first }
        for index in segments.indices { segments[index].bytes = try File.stat(path(segments[index].first)).size }
        try openNewest()
    }

    private static func store(_ path: String, _ new: UInt64) throws(OSError) -> UInt64 {
        do throws(OSError) {
            if let known = UInt64(try File.readText(path, limit: 64).prefix { $0 != "\n" }) { return known }
        } catch {
            if !error.isNotFound { throw error }
        }
        try File.writeAtomically(path, text: "\(new)\n", durable: true, mode: 0o640)
        return new
    }

    /// The number of the oldest entry that is here, or of the next to come.
    var firstKept: UInt64 { segments.first?.first ?? state.number + 1 }

    private func path(_ first: UInt64) -> String {
        let digits = String(first)
        return directory + "/" + Self.prefix + String(repeating: "0", count: max(0, 20 - digits.count)) + digits
    }

    // MARK: Reading

    /// The ledger's end is in the newest segment that can be read.
    private func openNewest() throws(OSError) {
        while let newest = segments.last {
            let contents = JournalFramer.read(
                try File.readAll(path(newest.first), limit: 1 << 30), checksum: Self.checksum)
            if let fault = take(contents, newest.first) {
                damage.append("\(path(newest.first)) cannot be read and is put aside: \(fault)")
                try File.rename(path(newest.first), to: path(newest.first) + ".damaged")
                segments.removeLast()
                continue
            }
            framer = JournalFramer(after: contents.lastSequence, checksum: Self.checksum)
            guard contents.validBytes < newest.bytes else { return }
            damage.append(
                "\(path(newest.first)): \(newest.bytes - contents.validBytes) bytes at its end are no whole entry")
            return try cut(contents.validBytes)
        }
    }

    /// What is wrong with a segment; nil: the state is that of its end.
    private func take(_ contents: JournalContents, _ first: UInt64) -> DecodeError? {
        do throws(DecodeError) {
            let (base, entries) = try Self.decode(contents, first)
            var end = base
            for entry in entries where !end.apply(entry) {
                throw DecodeError.badValue("entry \(entry.number) after \(end.number)")
            }
            state = end
            return nil
        } catch {
            return error
        }
    }

    private static func decode(
        _ contents: JournalContents, _ first: UInt64
    ) throws(DecodeError) -> (base: LedgerState, entries: [LedgerEntry]) {
        guard let header = contents.records.first else { throw .badValue("no state at its beginning") }
        let base = try LedgerState(decoding: header)
        guard base.number + 1 == first else { throw .badValue("a state of entry \(base.number)") }
        var entries: [LedgerEntry] = []
        for record in contents.records.dropFirst() { entries.append(try LedgerEntry(decoding: record)) }
        return (base, entries)
    }

    private func contents(_ segment: Segment) throws(OSError) -> (base: LedgerState, entries: [LedgerEntry]) {
        let path = path(segment.first)
        let contents = JournalFramer.read(try File.readAll(path, limit: 1 << 30), checksum: Self.checksum)
        do throws(DecodeError) {
            return try Self.decode(contents, segment.first)
        } catch {
            throw OSError(code: 5, call: "read", subject: "\(path): \(error)")  // EIO
        }
    }

    /// Entries from `from` on, as many as one message takes; or the state before the first that is kept.
    func load(from: UInt64) throws(OSError) -> (entries: [LedgerEntry], base: LedgerState?) {
        guard let segment = segments.last(where: { $0.first <= from }) else {
            guard let first = segments.first else { return ([], state) }
            return ([], try contents(first).base)
        }
        if read?.first != segment.first || read?.bytes != segment.bytes {
            read = (segment.first, segment.bytes, try contents(segment).entries)
        }
        var (found, bytes) = ([LedgerEntry](), 0)
        for entry in read?.entries ?? [] where entry.number >= from {
            if bytes > 0, bytes + entry.bytes > Self.loadBytesMax { break }
            bytes += entry.bytes
            found.append(entry)
        }
        return (found, nil)
    }

    // MARK: Writing

    /// Appends; on return the entries survive a power failure. After an error nothing of them is there.
    ///
    /// - Parameter published: what is in the streams' files; older entries may be dropped.
    func append(_ entries: [LedgerEntry], published: UInt64) throws(OSError) {
        if segments.isEmpty || (segments.last?.bytes ?? 0) >= Self.segmentBytes { try begin(state) }
        guard let index = segments.indices.last else { return }
        let (before, framerBefore) = (state, framer)
        var bytes: [UInt8] = []
        for entry in entries {
            guard state.apply(entry) else {
                (state, framer) = (before, framerBefore)
                throw OSError(
                    code: 22, call: "append", subject: "entry \(entry.number) of the ledger after \(state.number)")
            }
            bytes += framer.frame(entry.encoded)
        }
        do throws(OSError) {
            let file = try opened()
            try bytes.withUnsafeBufferPointer { (buffer) throws(OSError) in
                try IO.writeAll(file.raw, UnsafeRawBufferPointer(buffer))
            }
            try IO.synchronize(file.raw)
        } catch {
            (state, framer) = (before, framerBefore)
            // What was written of it is cut off now, or before the next attempt.
            file = nil
            throw error
        }
        segments[index].bytes += bytes.count
        retire(published)
    }

    private func opened() throws(OSError) -> SharedDescriptor {
        if let file { return file }
        guard let segment = segments.last else { throw OSError(code: 2, call: "open", subject: directory) }
        let path = path(segment.first)
        if try File.stat(path).size > segment.bytes { try File.truncate(path, to: segment.bytes) }
        let opened = SharedDescriptor(try File.openForAppending(path, mode: 0o640))
        file = opened
        return opened
    }

    private func begin(_ state: LedgerState) throws(OSError) {
        var fresh = JournalFramer(checksum: Self.checksum)
        let frame = fresh.frame(state.encoded)
        try File.writeAtomically(path(state.number + 1), frame, durable: true, mode: 0o640)
        (file, framer) = (nil, fresh)
        segments.append(Segment(first: state.number + 1, bytes: frame.count))
    }

    private func retire(_ published: UInt64) {
        var total = segments.reduce(0) { $0 + $1.bytes }
        while total > retainedBytes, segments.count > 1, segments[1].first <= published + 1 {
            // One that cannot be removed is found again at the next start.
            _ = try? File.remove(path(segments[0].first))
            total -= segments[0].bytes
            segments.removeFirst()
        }
    }

    private func cut(_ bytes: Int) throws(OSError) {
        guard let index = segments.indices.last else { return }
        file = nil
        try File.truncate(path(segments[index].first), to: bytes)
        segments[index].bytes = bytes
    }

    /// Drops everything after entry `number`.
    func truncate(to number: UInt64) throws(OSError) {
        read = nil
        while let last = segments.last, last.first > number + 1, segments.count > 1 {
            file = nil
            try File.remove(path(last.first))
            segments.removeLast()
        }
        guard let last = segments.last else { return }
        let (base, entries) = try contents(last)
        var (kept, fresh) = (base, JournalFramer(checksum: Self.checksum))
        var bytes = fresh.frame(base.encoded).count
        for entry in entries where entry.number <= number {
            guard kept.apply(entry) else { break }
            bytes += fresh.frame(entry.encoded).count
        }
        try cut(bytes)
        (state, framer) = (kept, fresh)
    }

    /// Begins anew after this state.
    func reset(_ state: LedgerState) throws(OSError) {
        read = nil
        file = nil
        while let last = segments.last {
            try File.remove(path(last.first))
            segments.removeLast()
        }
        self.state = state
        try begin(state)
    }
}
