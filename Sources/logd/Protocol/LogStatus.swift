import SAFTypes

/// What logd says of itself. streams · rings · outputs · rules text.
public struct LogStatus: Hashable, Sendable, WireCodable {
    public var streams: [StreamStatus]
    public var rings: [RingStatus]
    public var outputs: [OutputStatus]
    /// The filter rules in force.
    public var rules: String

    public init(streams: [StreamStatus], rings: [RingStatus], outputs: [OutputStatus], rules: String) {
        (self.streams, self.rings, self.outputs, self.rules) = (streams, rings, outputs, rules)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.list(streams)
        writer.list(rings)
        writer.list(outputs)
        writer.string(rules)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        streams = try reader.list()
        rings = try reader.list()
        outputs = try reader.list()
        rules = try reader.string(max: LogLimits.ruleBytesMax)
    }
}

/// One stream and its files. Counts are since logd's start.
///
/// stream u8 · severity u8 (0: none set) · file · fileBytes u64 · fileBytesMax u64 · filesMax u32 · records u64 ·
/// bytes u64 · dropped u64 · writeErrors u64 · lastError.
public struct StreamStatus: Hashable, Sendable, WireCodable {
    public var stream: LogStream
    /// The threshold in force in every process; nil: each has its own.
    public var severity: LogSeverity?
    /// The path of the file that is written now; empty before the first line.
    public var file: String
    public var fileBytes: UInt64
    public var fileBytesMax: UInt64
    public var filesMax: UInt32
    /// Lines handed to the stream.
    public var records: UInt64
    /// Bytes that are in files.
    public var bytes: UInt64
    /// Lines lost because the files could not be written for too long.
    public var dropped: UInt64
    public var writeErrors: UInt64
    /// Why writing failed last; empty while it works.
    public var lastError: String

    public init(
        stream: LogStream, severity: LogSeverity?, file: String, fileBytes: UInt64, fileBytesMax: UInt64,
        filesMax: UInt32,
        records: UInt64, bytes: UInt64, dropped: UInt64, writeErrors: UInt64, lastError: String
    ) {
        (self.stream, self.severity, self.file, self.fileBytes) = (stream, severity, file, fileBytes)
        (self.fileBytesMax, self.filesMax, self.records, self.bytes) = (fileBytesMax, filesMax, records, bytes)
        (self.dropped, self.writeErrors, self.lastError) = (dropped, writeErrors, lastError)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(stream)
        writer.integer(severity?.rawValue ?? 0)
        writer.string(file)
        writer.integer(fileBytes)
        writer.integer(fileBytesMax)
        writer.integer(filesMax)
        writer.integer(records)
        writer.integer(bytes)
        writer.integer(dropped)
        writer.integer(writeErrors)
        writer.string(lastError)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        stream = try reader.value()
        let raw = try reader.integer(UInt8.self)
        severity = LogSeverity(rawValue: raw)
        guard raw == 0 || severity != nil else { throw .badValue("severity \(raw) is unknown") }
        file = try reader.string(max: 4096)
        fileBytes = try reader.integer()
        fileBytesMax = try reader.integer()
        filesMax = try reader.integer()
        records = try reader.integer()
        bytes = try reader.integer()
        dropped = try reader.integer()
        writeErrors = try reader.integer()
        lastError = try reader.string(max: 4096)
    }
}

/// One process's ring. process i32 · program · records u64 · lost u64 · corrupt u64.
public struct RingStatus: Hashable, Sendable, WireCodable {
    public var process: Int32
    public var program: String
    /// Records taken out by this logd.
    public var records: UInt64
    /// Records the process dropped because its ring was full.
    public var lost: UInt64
    /// Places where the ring did not hold what it must.
    public var corrupt: UInt64

    public init(process: Int32, program: String, records: UInt64, lost: UInt64, corrupt: UInt64) {
        (self.process, self.program, self.records, self.lost, self.corrupt) = (process, program, records, lost, corrupt)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(process)
        writer.string(program)
        writer.integer(records)
        writer.integer(lost)
        writer.integer(corrupt)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        process = try reader.integer()
        program = try reader.string(max: 4096)
        records = try reader.integer()
        lost = try reader.integer()
        corrupt = try reader.integer()
    }
}

/// One captured pipe. component · process i32 · output u8 · bytes u64 · suppressions u64 · suppressedBytes u64 ·
/// isSuppressed u8.
public struct OutputStatus: Hashable, Sendable, WireCodable {
    public var component: SaName
    public var process: Int32
    public var output: OutputStream
    /// Bytes taken from the pipe.
    public var bytes: UInt64
    /// How often the component said more than its rate allows, so that what it said was dropped for a time.
    public var suppressions: UInt64
    /// Bytes that were read and dropped. What the pipe could not hold meanwhile never came and is not counted.
    public var suppressedBytes: UInt64
    /// It is dropped now.
    public var isSuppressed: Bool

    public init(
        component: SaName, process: Int32, output: OutputStream, bytes: UInt64, suppressions: UInt64,
        suppressedBytes: UInt64, isSuppressed: Bool
    ) {
        (self.component, self.process, self.output) = (component, process, output)
        (self.bytes, self.suppressions) = (bytes, suppressions)
        (self.suppressedBytes, self.isSuppressed) = (suppressedBytes, isSuppressed)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(component)
        writer.integer(process)
        writer.value(output)
        writer.integer(bytes)
        writer.integer(suppressions)
        writer.integer(suppressedBytes)
        writer.bool(isSuppressed)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        component = try reader.value()
        process = try reader.integer()
        output = try reader.value()
        bytes = try reader.integer()
        suppressions = try reader.integer()
        suppressedBytes = try reader.integer()
        isSuppressed = try reader.bool()
    }
}
