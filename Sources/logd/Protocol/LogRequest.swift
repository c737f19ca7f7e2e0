import SAFTypes

/// Bounds of what one request to logd may ask for.
public enum LogLimits {
    /// Lines of the past in one tail.
    public static let backlogMax: UInt32 = 10_000
    /// Bytes of lines in one reply or push; more is cut at a line end, the oldest first.
    public static let tailBytesMax = 1 << 20
    /// Bytes of filter rules: what the filter page holds.
    public static let ruleBytesMax = FilterLayout.ruleBytesMax
    public static let fileBytesMin: UInt64 = 4096
    public static let fileBytesMax: UInt64 = 1 << 40
    public static let filesMax: UInt32 = 1000
}

/// Which output of a component a pipe belongs to. Raw values are the wire values, and the descriptor numbers.
public enum OutputStream: UInt8, CaseIterable, Hashable, Sendable, CustomStringConvertible, WireCodable {
    case standardOutput = 1
    case standardError = 2

    public var description: String { self == .standardOutput ? "stdout" : "stderr" }
    /// The severity of the lines it makes.
    public var severity: LogSeverity { self == .standardOutput ? .info : .warning }

    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { self = try Self.decode(from: &reader) }
}

/// Client → logd. The code of the frame says which.
public enum LogRequest: Hashable, Sendable {
    /// Code 1, with exactly one descriptor: the reading end of the pipe. component · process i32 · output u8.
    ///
    /// Idempotent: for the same component, process and output the newer descriptor replaces the older.
    case captureOutput(component: SaName, process: Int32, output: OutputStream)
    /// Code 2. Answered with ``LogLines``; when following, ``LogLines`` are pushed from there on, without a gap.
    ///
    /// stream u8 (0: all) · threshold u8 · backlog u32 · follows u8.
    case tail(stream: LogStream?, threshold: LogSeverity, backlog: UInt32, follows: Bool)
    /// Code 3. stream u8 · severity u8 (0: each process's own `CL_LOG_SEVERITY`).
    case setSeverity(LogStream, LogSeverity?)
    /// Code 4. text. Answered with ``RuleMistakes``; with a mistake in it nothing is changed.
    case setRules(String)
    /// Code 5. stream u8 · fileBytesMax u64 · filesMax u32.
    case setRotation(LogStream, fileBytesMax: UInt64, filesMax: UInt32)
    /// Code 6, empty. Answered with ``LogStatus``.
    case status
    /// Code 7. name · attributes (optional: only open one that is there). Opens a global stream for the asking process,
    /// until that closes it or ends. Answered with ``OpenedStream``.
    case open(SaName, StreamAttributes?)
    /// Code 8. stream u8. The asking process has closed it.
    case close(LogStream)
    /// Code 9, empty. Answered with ``GlobalStatus``.
    case globalStatus

    /// Requests that any user may make.
    public static func isForWriters(_ code: UInt16) -> Bool { code == 7 || code == 8 }

    public var code: UInt16 {
        switch self {
        case .captureOutput: 1
        case .tail: 2
        case .setSeverity: 3
        case .setRules: 4
        case .setRotation: 5
        case .status: 6
        case .open: 7
        case .close: 8
        case .globalStatus: 9
        }
    }

    public var body: [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .captureOutput(let component, let process, let output):
            writer.value(component)
            writer.integer(process)
            writer.value(output)
        case .tail(let stream, let threshold, let backlog, let follows):
            writer.integer(stream?.rawValue ?? 0)
            writer.value(threshold)
            writer.integer(backlog)
            writer.bool(follows)
        case .setSeverity(let stream, let severity):
            writer.value(stream)
            writer.integer(severity?.rawValue ?? 0)
        case .setRules(let text): writer.string(text)
        case .setRotation(let stream, let fileBytesMax, let filesMax):
            writer.value(stream)
            writer.integer(fileBytesMax)
            writer.integer(filesMax)
        case .open(let name, let attributes):
            writer.value(name)
            writer.optional(attributes)
            if let attributes, attributes.hasForm { writer.value(attributes.form) }
        case .close(let stream): writer.value(stream)
        case .status, .globalStatus: break
        }
        return writer.bytes
    }

    public init(code: UInt16, body: UnsafeRawBufferPointer) throws(DecodeError) {
        var reader = ByteReader(body)
        switch code {
        case 1:
            let component = try reader.value(SaName.self)
            let process = try reader.integer(Int32.self)
            guard process > 0 else { throw .badValue("process \(process); a positive number expected") }
            self = .captureOutput(component: component, process: process, output: try reader.value())
        case 2:
            let stream: LogStream? = try Self.orNone(&reader, "stream")
            let threshold: LogSeverity = try reader.value()
            let backlog = try reader.integer(UInt32.self)
            guard backlog <= LogLimits.backlogMax else {
                throw .badValue("backlog \(backlog); at most \(LogLimits.backlogMax) lines expected")
            }
            self = .tail(stream: stream, threshold: threshold, backlog: backlog, follows: try reader.bool())
        case 3:
            let stream: LogStream = try reader.value()
            self = .setSeverity(stream, try Self.orNone(&reader, "severity"))
        case 4: self = .setRules(try reader.string(max: LogLimits.ruleBytesMax))
        case 5: self = try Self.rotation(&reader)
        case 6: self = .status
        case 7:
            let name: SaName = try reader.value()
            guard var attributes = try reader.optional(StreamAttributes.self) else {
                self = .open(name, nil)
                break
            }
            if reader.remaining > 0 { try StreamForm.decode(&reader, into: &attributes) }
            self = .open(name, attributes)
        case 8: self = .close(try reader.value())
        case 9: self = .globalStatus
        default: throw .badValue("log request \(code) is unknown; 1 to 9 expected")
        }
        try reader.finish()
    }

    private static func orNone<Value: RawRepresentable<UInt8>>(
        _ reader: inout ByteReader, _ name: String
    ) throws(DecodeError) -> Value? {
        let raw = try reader.integer(UInt8.self)
        if raw == 0 { return nil }
        guard let value = Value(rawValue: raw) else { throw .badValue("\(name) \(raw) is unknown") }
        return value
    }

    private static func rotation(_ reader: inout ByteReader) throws(DecodeError) -> LogRequest {
        let stream: LogStream = try reader.value()
        guard !stream.isGlobal else { throw .badValue("\(stream) is global: its rotation is one of its attributes") }
        let fileBytesMax = try reader.integer(UInt64.self)
        let filesMax = try reader.integer(UInt32.self)
        guard (LogLimits.fileBytesMin...LogLimits.fileBytesMax).contains(fileBytesMax) else {
            throw .badValue(
                "\(fileBytesMax) bytes a file; \(LogLimits.fileBytesMin) to \(LogLimits.fileBytesMax) expected")
        }
        guard (1...LogLimits.filesMax).contains(filesMax) else {
            throw .badValue("\(filesMax) files; 1 to \(LogLimits.filesMax) expected")
        }
        return .setRotation(stream, fileBytesMax: fileBytesMax, filesMax: filesMax)
    }
}

/// Formatted lines, each ending in a newline: the reply to a tail, and its pushes (code 101). dropped u64 · lines.
public struct LogLines: Hashable, Sendable, WireCodable {
    public static let code: UInt16 = 101

    /// Lines that this reader did not get, just before these, because it was too slow.
    public var dropped: UInt64
    public var bytes: [UInt8]

    public init(dropped: UInt64 = 0, bytes: [UInt8] = []) {
        self.dropped = dropped
        self.bytes = bytes
    }

    /// The lines without their newlines; what is not UTF-8 is repaired.
    public var lines: [String] {
        bytes.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(dropped)
        writer.byteString(bytes)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        dropped = try reader.integer()
        bytes = try reader.byteString(max: LogLimits.tailBytesMax)
    }
}

/// The answer to new rules: what is wrong with them, one text for each wrong line. Empty: they are in force.
public struct RuleMistakes: Hashable, Sendable, WireCodable {
    public var texts: [String]

    public init(texts: [String]) { self.texts = texts }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(UInt32(texts.count))
        for text in texts { writer.string(text) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let count = try reader.integer(UInt32.self)
        texts = []
        for _ in 0..<count { texts.append(try reader.string(max: 4096)) }
    }
}
