import SAFTypes

/// Names a global stream for ever: another stream of the same name or number has another id. u32.
///
/// The well-known streams have their number as id.
public struct StreamID: Hashable, Comparable, Sendable, WireCodable, CustomStringConvertible {
    public var rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }
    public init(_ stream: LogStream) { rawValue = UInt32(stream.rawValue) }
    public static func < (left: StreamID, right: StreamID) -> Bool { left.rawValue < right.rawValue }
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { rawValue = try reader.integer() }
    public var description: String { "\(rawValue)" }
}

/// What becomes of a stream whose file is full. Raw values are SAF's and the wire's.
public enum LogFullAction: UInt8, CaseIterable, Hashable, Sendable, WireCodable {
    /// The one file begins anew.
    case wrap = 1
    /// Nothing more is written; what comes is counted.
    case halt = 2
    /// The next file begins, the oldest goes.
    case rotate = 3

    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { self = try Self.decode(from: &reader) }
}

/// The severities a stream lets through: bit 0 is EMERGENCY. u16.
public struct SeveritySet: Hashable, Sendable, WireCodable {
    public var rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }

    public static let all = SeveritySet(rawValue: 0x1FF)

    /// This severity and all that are worse.
    public init(upTo severity: LogSeverity) { rawValue = (1 << UInt16(severity.rawValue)) &- 1 }

    @inlinable
    public func contains(_ severity: LogSeverity) -> Bool { rawValue >> UInt16(severity.rawValue &- 1) & 1 != 0 }

    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { rawValue = try reader.integer() }
}

/// What a global stream is created with. fileName · fileBytesMax u64 · filesMax u32 · fullAction u8 · severities u16.
/// What came later is written apart, for those who know it: ``StreamForm``.
public struct StreamAttributes: Hashable, Sendable, WireCodable {
    /// The beginning of its files' names.
    public var fileName: String
    public var fileBytesMax: UInt64
    /// How many files are kept, the present one included; of use for ``LogFullAction/rotate`` only.
    public var filesMax: UInt32
    public var fullAction: LogFullAction
    public var severities: SeveritySet
    /// How a record looks (``RecordFormat``); empty: as in all other files.
    public var format: String
    /// Of every record in the file, the newline included; 0: as long as it is. Only with a format.
    public var recordBytes: UInt32

    public init(
        fileName: String, fileBytesMax: UInt64 = 5_000_000, filesMax: UInt32 = 4, fullAction: LogFullAction = .rotate,
        severities: SeveritySet = .all, format: String = "", recordBytes: UInt32 = 0
    ) {
        (self.fileName, self.fileBytesMax, self.filesMax) = (fileName, fileBytesMax, filesMax)
        (self.fullAction, self.severities) = (fullAction, severities)
        (self.format, self.recordBytes) = (format, recordBytes)
    }

    public static let fileNameBytesMax = 128
    public static let filesMaxMax: UInt32 = 127
    /// Source: OpenSAF's bounds of a fixed record.
    public static let recordBytesRange: ClosedRange<UInt32> = 150...65_535

    /// What makes no sense, in one sentence; nil when all does.
    public var fault: String? {
        let isPlain = fileName.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."):
                true
            default: false
            }
        }
        // An underscore ends the name: what follows is the time.
        guard isPlain, !fileName.hasPrefix("."), (1...Self.fileNameBytesMax).contains(fileName.utf8.count) else {
            return "file name '\(fileName)'; 1 to \(Self.fileNameBytesMax) letters, digits, dashes and dots expected"
        }
        guard (LogLimits.fileBytesMin...LogLimits.fileBytesMax).contains(fileBytesMax) else {
            return "\(fileBytesMax) bytes a file; \(LogLimits.fileBytesMin) to \(LogLimits.fileBytesMax) expected"
        }
        guard (1...Self.filesMaxMax).contains(filesMax) else {
            return "\(filesMax) files; 1 to \(Self.filesMaxMax) expected"
        }
        return formFault
    }

    private var formFault: String? {
        guard hasForm else { return nil }
        do throws(RecordFormat.Fault) {
            _ = try RecordFormat(format)
        } catch {
            return error.text
        }
        guard recordBytes == 0 || Self.recordBytesRange.contains(recordBytes), recordBytes <= fileBytesMax else {
            let range = Self.recordBytesRange
            return
                "records of \(recordBytes) bytes; 0 or \(range.lowerBound) to \(range.upperBound), and not more than "
                + "a file has, expected"
        }
        return nil
    }

    /// It has what only later builds know.
    public var hasForm: Bool { form != StreamForm() }

    public var form: StreamForm {
        get { StreamForm(format: format, recordBytes: recordBytes) }
        set { (format, recordBytes) = (newValue.format, newValue.recordBytes) }
    }

    public func encode(to writer: inout ByteWriter) {
        writer.string(fileName)
        writer.integer(fileBytesMax)
        writer.integer(filesMax)
        writer.value(fullAction)
        writer.value(severities)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        fileName = try reader.string(max: Self.fileNameBytesMax)
        fileBytesMax = try reader.integer()
        filesMax = try reader.integer()
        fullAction = try reader.value()
        severities = try reader.value()
        (format, recordBytes) = ("", 0)
        if let fault { throw .badValue(fault) }
    }
}

/// How a stream's records look. format · recordBytes u32.
public struct StreamForm: Hashable, Sendable, WireCodable {
    public var format: String
    public var recordBytes: UInt32

    public init(format: String = "", recordBytes: UInt32 = 0) {
        (self.format, self.recordBytes) = (format, recordBytes)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.string(format)
        writer.integer(recordBytes)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        format = try reader.string(max: RecordFormat.bytesMax)
        recordBytes = try reader.integer()
    }

    /// Reads what belongs to these attributes.
    public static func decode(
        _ reader: inout ByteReader, into attributes: inout StreamAttributes
    ) throws(DecodeError) {
        attributes.form = try reader.value()
        if let fault = attributes.fault { throw .badValue(fault) }
    }
}
