import Containers
public import LogProtocol
public import SAFTypes

/// What goes into the files of the global streams on one controller: a function of the ledger's entries, so that the
/// files of all controllers are alike. Performs nothing.
public struct StreamFiles: Sendable {
    /// The file that is written, as a note remembers it. name · file · bytes u64 · dropped u64.
    public struct Current: Hashable, Sendable, WireCodable {
        /// What the files' names begin with.
        public var name: String
        /// Empty: none yet.
        public var file: String
        public var bytes: UInt64
        /// Records that found the file full.
        public var dropped: UInt64

        public func encode(to writer: inout ByteWriter) {
            writer.string(name)
            writer.string(file)
            writer.integer(bytes)
            writer.integer(dropped)
        }

        public init(name: String, file: String, bytes: UInt64, dropped: UInt64 = 0) {
            (self.name, self.file, self.bytes, self.dropped) = (name, file, bytes, dropped)
        }

        public init(decoding reader: inout ByteReader) throws(DecodeError) {
            name = try reader.string(max: StreamAttributes.fileNameBytesMax)
            file = try reader.string(max: 255)
            guard !name.contains("/"), !file.contains("/") else { throw .badValue("file '\(file)' of '\(name)'") }
            bytes = try reader.integer()
            dropped = try reader.integer()
        }
    }

    /// How far the ledger is in the files, and where they end. version u8 (1) · ledger state · files.
    public struct Note: Hashable, Sendable, WireCodable {
        public var state: LedgerState
        public var files: [Current]

        public init(state: LedgerState = LedgerState(), files: [Current] = []) {
            (self.state, self.files) = (state, files)
        }

        public func encode(to writer: inout ByteWriter) {
            writer.integer(UInt8(1))
            writer.value(state)
            writer.list(files)
        }

        public init(decoding reader: inout ByteReader) throws(DecodeError) {
            let version = try reader.integer(UInt8.self)
            guard version == 1 else { throw .badValue("note version \(version); 1 expected") }
            state = try reader.value()
            files = try reader.list(max: 65_536)
        }
    }

    /// Lines of one stream, and the files they go to.
    public struct Piece: Hashable, Sendable {
        public var stream: StreamID
        public var lines: [UInt8]
        public var segments: [FileSeries.Segment]
        /// Where the files ended before.
        public var before: Current
    }

    /// How to write a stream's records.
    public struct Definition: Hashable, Sendable {
        public var attributes: StreamAttributes
        public init(attributes: StreamAttributes) { self.attributes = attributes }
        public var limits: RotationLimits {
            RotationLimits(
                fileBytesMax: attributes.fileBytesMax,
                filesMax: attributes.fullAction == .rotate ? Int(attributes.filesMax) : 1)
        }
    }

    private struct Series: Sendable {
        var series: FileSeries
        var mayRotate: Bool
        var dropped: UInt64
    }

    public private(set) var state: LedgerState
    /// By the beginning of their names: a later stream may go on with the files of a former one.
    private var series: OrderedMap<String, Series> = [:]
    private var format = LineFormat()

    /// - Parameter found: the files there are, after they were cut back to what the note says.
    public init(note: Note, found: [(name: String, bytes: UInt64)]) {
        state = note.state
        for file in note.files {
            let files = FileSeries(named: file.name, limits: RotationLimits(), found: found)
            series[file.name] = Series(series: files, mayRotate: true, dropped: file.dropped)
        }
    }

    public var note: Note {
        Note(
            state: state,
            files: series.map { Self.current($0.value) })
    }

    private static func current(_ series: Series) -> Current {
        Current(
            name: series.series.stream, file: series.series.current ?? "", bytes: series.series.currentBytes,
            dropped: series.dropped)
    }

    /// The ledger is this now: what was written of another one stays in the files.
    public mutating func goOn(from state: LedgerState) { self.state = state }

    /// Turns entries into lines and places them.
    ///
    /// - Parameters:
    ///   - entries: the next of the ledger; those that were written already are passed over.
    ///   - found: the files that there are, asked for a stream that is new here.
    ///   - definition: nil for a stream that nobody knows any more.
    public mutating func place(
        _ entries: [LedgerEntry], nodeName: (NodeID) -> [UInt8],
        definition: (StreamID) -> Definition?, found: () -> [(name: String, bytes: UInt64)]
    ) -> [Piece] {
        var lines: OrderedMap<StreamID, Lines> = [:]
        for entry in entries where entry.number == state.number + 1 {
            render(entry.batch, nodeName(entry.batch.node), definition, &lines)
            guard state.apply(entry) else { break }
        }
        var pieces: [Piece] = []
        for (stream, all) in lines {
            let text = all.text
            var target = prepared(stream, definition(stream), found)
            let before = Self.current(target)
            let segments = target.series.place(text, mayRotate: target.mayRotate) { all.time(at: $0) }
            let end = segments.last?.range.upperBound ?? 0
            target.dropped += UInt64(text[end...].count { $0 == UInt8(ascii: "\n") })
            series[target.series.stream] = target
            guard !segments.isEmpty else { continue }
            pieces.append(Piece(stream: stream, lines: text, segments: segments, before: before))
        }
        return pieces
    }

    /// Lines of one stream that are being made.
    private struct Lines {
        var text: [UInt8] = []
        /// Nil: they look as in all other files.
        var form: (format: RecordFormat, size: Int)?
        /// Of lines that have a form: where they begin, and their time.
        var times: [(start: Int, nanoseconds: Int64)] = []

        init(_ definition: Definition?) {
            guard let attributes = definition?.attributes, attributes.hasForm else { return }
            // What makes no sense was refused when the stream was created.
            form = (try? RecordFormat(attributes.format)).map { ($0, Int(attributes.recordBytes)) }
        }

        /// For a file's name: the time of the line that begins here, not that of this node's clock.
        func time(at start: Int) -> String {
            guard form != nil else { return StreamFiles.time(of: text, at: start) }
            var (low, high) = (0, times.count)
            while low < high {
                let middle = (low + high) / 2
                if times[middle].start < start { low = middle + 1 } else { high = middle }
            }
            let nanoseconds = low < times.count ? times[low].nanoseconds : 0
            return UTCTime(secondsSince1970: nanoseconds / 1_000_000_000).basic
        }
    }

    /// The time in the line that begins here.
    private static func time(of lines: [UInt8], at start: Int) -> String {
        let line = lines[start...].drop { $0 != UInt8(ascii: " ") }.dropFirst()
        let digits = line.prefix(19).filter { $0 != UInt8(ascii: "-") && $0 != UInt8(ascii: ":") }
        let isTime = digits.enumerated().allSatisfy { index, byte in
            index == 8 ? byte == UInt8(ascii: "T") : (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        }
        // Lines without a time: the name goes on from the former file's.
        return isTime && digits.count == 15 ? String(decoding: digits, as: UTF8.self) : "19700101T000000"
    }

    private func prepared(
        _ stream: StreamID, _ definition: Definition?, _ found: () -> [(name: String, bytes: UInt64)]
    ) -> Series {
        let definition = definition ?? Definition(attributes: StreamAttributes(fileName: "stream-\(stream)"))
        let name = definition.attributes.fileName
        var target =
            series[name]
            ?? Series(
                series: FileSeries(named: name, limits: definition.limits, found: found()), mayRotate: true, dropped: 0)
        target.series.limits = definition.limits
        target.mayRotate = definition.attributes.fullAction != .halt
        return target
    }

    private mutating func render(
        _ batch: RecordBatch, _ node: [UInt8], _ definition: (StreamID) -> Definition?,
        _ lines: inout OrderedMap<StreamID, Lines>
    ) {
        if batch.records.isEmpty { return renderMissing(batch, node, &lines) }
        var counts = state.counts
        batch.records.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            // Checked when the batch was decoded.
            while reader.remaining > 0, let record = try? GlobalRecord(decoding: &reader) {
                let number = counts[record.stream, default: 0] + 1
                counts[record.stream] = number
                let origin = LineFormat.Origin(
                    node: node, process: record.process, program: Array(record.program), hasTime: record.hasTime)
                // Taken out, for a copy for each line would cost more than the line.
                var made = lines[record.stream] ?? Lines(definition(record.stream))
                lines[record.stream] = nil
                if let form = made.form {
                    made.times.append((made.text.count, record.record.time))
                    form.format.append(
                        record.record, number: number, of: .init(node: origin.node, program: origin.program),
                        size: form.size, to: &made.text)
                } else {
                    LineFormat.appendNumber(number, to: &made.text)
                    format.append(record.record, of: origin, to: &made.text)
                }
                lines[record.stream] = made
            }
        }
    }

    /// These records stand only in the files of an owner that is gone.
    private mutating func renderMissing(
        _ batch: RecordBatch, _ node: [UInt8], _ lines: inout OrderedMap<StreamID, Lines>
    ) {
        let stream = StreamID(.clusterSystem)
        let origin = LineFormat.Origin(node: node, process: 0, program: Array("logd".utf8), hasTime: false)
        var made = lines[stream] ?? Lines(nil)
        LineFormat.appendNumber(0, to: &made.text)
        format.append(
            "\(batch.count) record\(batch.count == 1 ? "" : "s") lost here from this node: only the files of a former "
                + "owner have them", of: origin, time: 0, area: "LOG", context: "LOST", number: 0, severity: .error,
            to: &made.text)
        lines[stream] = made
    }
}
