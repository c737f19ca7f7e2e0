import LogEngine
import LogProtocol
import OSAL
import SAFTypes

/// The files of the global streams on a controller. Used by one thread at a time.
///
/// After each batch a note says how far the ledger is in the files and where they end. Whatever was written after the
/// note when logd was killed is cut off at the next start, and written again from the ledger.
final class GlobalFiles {
    let directory: String
    private let notePath: String
    private var files: StreamFiles
    private var noted: StreamFiles.Note
    private(set) var damage: [String] = []

    init(directory: String, stateDirectory: String) throws(OSError) {
        self.directory = directory
        notePath = stateDirectory + "/written"
        var note = StreamFiles.Note()
        if let bytes = try Self.contents(notePath) {
            do throws(DecodeError) {
                note = try StreamFiles.Note(decoding: bytes)
            } catch {
                damage.append("\(notePath) cannot be read; what the ledger holds is written once more: \(error)")
            }
        }
        noted = note
        files = StreamFiles(note: note, found: [])
        rollBack()
    }

    private static func contents(_ path: String) throws(OSError) -> [UInt8]? {
        do throws(OSError) {
            return try File.readAll(path, limit: 64 << 20)
        } catch {
            if error.isNotFound { return nil }
            throw error
        }
    }

    private static func found(in directory: String) -> [(name: String, bytes: UInt64)] {
        ((try? File.list(directory)) ?? []).compactMap { name in
            guard name.hasSuffix(".log"), let status = try? File.stat(directory + "/" + name, followLinks: false),
                status.kind == .file
            else { return nil }
            return (name, UInt64(status.size))
        }
    }

    /// How far the ledger is in the files.
    var written: UInt64 { noted.state.number }

    /// Cuts the files back to what the note says.
    private func rollBack() {
        let found = Self.found(in: directory)
        for current in noted.files {
            let series = FileSeries(named: current.name, limits: RotationLimits(), found: found)
            // What cannot be removed or cut is repeated in the files, and stays.
            for name in series.newer(than: current.file) { _ = try? File.remove(directory + "/" + name) }
            let path = directory + "/" + current.file
            if let size = try? File.stat(path).size, size > Int(clamping: current.bytes), !current.file.isEmpty {
                _ = try? File.truncate(path, to: Int(clamping: current.bytes))
            }
        }
        files = StreamFiles(note: noted, found: Self.found(in: directory))
    }

    /// The ledger is another from here on; what was written of the former stays.
    func goOn(from state: LedgerState) throws(OSError) {
        files.goOn(from: state)
        try keep()
    }

    private func keep() throws(OSError) {
        let note = files.note
        try File.writeAtomically(notePath, note.encoded, durable: false, mode: 0o640)
        noted = note
    }

    /// Writes the next entries of the ledger. After an error nothing of them is there.
    ///
    /// - Returns: the lines, by stream.
    func write(
        _ entries: [LedgerEntry], names: [NodeID: [UInt8]], definitions: [StreamID: StreamFiles.Definition]
    ) throws(OSError) -> [(stream: StreamID, lines: [UInt8])] {
        let directory = directory
        let pieces = files.place(
            entries, nodeName: { names[$0] ?? Array("node\($0.rawValue)".utf8) }, definition: { definitions[$0] },
            found: { Self.found(in: directory) })
        do throws(OSError) {
            try File.makeDirectories(directory)
            try noteBeginnings(pieces)
            for piece in pieces {
                for segment in piece.segments { try append(segment, piece.lines) }
                link(piece)
            }
            try keep()
        } catch {
            rollBack()
            throw error
        }
        // Not before: what the former note names is needed to go back to it. What stays goes with the next rotation.
        for old in pieces.flatMap({ $0.segments.flatMap(\.removals) }) { _ = try? File.remove(directory + "/" + old) }
        return pieces.map { ($0.stream, $0.lines) }
    }

    /// Where files end that were not written before, or what is written now could not be told from what was there.
    private func noteBeginnings(_ pieces: [StreamFiles.Piece]) throws(OSError) {
        var note = noted
        for piece in pieces where !note.files.contains(where: { $0.name == piece.before.name }) {
            note.files.append(piece.before)
        }
        guard note != noted else { return }
        try File.writeAtomically(notePath, note.encoded, durable: false, mode: 0o640)
        noted = note
    }

    // MARK: Beside the files

    /// Keeps `NAME.cfg` beside the files of every stream there is; what says something else, or is of a stream that has
    /// ended, is put by as `NAME_TIME.cfg`. Done twice is as good as once.
    func configure(_ wanted: [String: String], at seconds: Int64) throws(OSError) {
        try File.makeDirectories(directory)
        let names = try File.list(directory).filter { $0.hasSuffix(".cfg") && !$0.contains("_") }
        let present = Set(names.map { String($0.dropLast(4)) })
        for name in present.sorted() {
            let path = "\(directory)/\(name).cfg"
            if let text = wanted[name], try Self.contents(path) == Array(text.utf8) { continue }
            try putBy(path, "\(directory)/\(name)_\(UTCTime(secondsSince1970: seconds).basic)")
        }
        for (name, text) in wanted.sorted(by: { $0.key < $1.key }) where !File.exists("\(directory)/\(name).cfg") {
            try File.writeAtomically("\(directory)/\(name).cfg", Array(text.utf8), durable: false, mode: 0o640)
        }
    }

    private func putBy(_ path: String, _ former: String) throws(OSError) {
        var number = 1
        func name() -> String { "\(former)\(number > 1 ? "-\(number)" : "").cfg" }
        while File.exists(name()) { number += 1 }
        try File.rename(path, to: name())
    }

    private func append(_ segment: FileSeries.Segment, _ lines: [UInt8]) throws(OSError) {
        let file = try File.openForAppending(directory + "/" + segment.file, mode: 0o640)
        let number = file.raw
        try lines.withUnsafeBufferPointer { (buffer) throws(OSError) in
            let raw = UnsafeRawBufferPointer(buffer)
            try IO.writeAll(number, UnsafeRawBufferPointer(rebasing: raw[segment.range]))
        }
        try IO.synchronize(number)
        withExtendedLifetime(file) {}
    }

    /// `NAME.log` leads to the file that is written. A convenience: where links are impossible there are none.
    private func link(_ piece: StreamFiles.Piece) {
        guard let file = piece.segments.last?.file, let end = file.lastIndex(of: "_") else { return }
        let name = directory + "/" + file[..<end] + ".log"
        if (try? File.readLink(name)) != file { _ = try? File.replaceLink(name, to: file) }
    }
}
