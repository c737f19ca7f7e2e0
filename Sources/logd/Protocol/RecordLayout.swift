import SAFTypes

/// One record in a ring, little-endian, at a multiple of 8:
///
///     stamp    u64   its own position | state (1 writing, 2 committed)
///     length   u32   bytes of the whole record without the padding to 8
///     crc      u32   CRC-32C of everything after this field
///     lost     u32   records dropped just before this one
///     number   u32   counts this process's records
///     time     i64   nanoseconds since 1970 UTC
///     line     u32   0: none
///     message  u16   bytes
///     severity u8 · stream u8 · area u8 · context u8 · file u8 (bytes each) · flags u8 (bit 0: message was cut)
///     area · context · file · message
///
/// The stamp is stored first as "writing" and last as "committed", so a record without an end is seen as such.
public enum RecordLayout {
    public static let writing: UInt64 = 1
    public static let committed: UInt64 = 2
    public static let stateMask: UInt64 = 7

    public static let stampOffset = 0
    public static let lengthOffset = 8
    public static let crcOffset = 12
    public static let lostOffset = 16
    public static let numberOffset = 20
    public static let timeOffset = 24
    public static let lineOffset = 32
    public static let messageLengthOffset = 36
    public static let severityOffset = 38
    public static let streamOffset = 39
    public static let areaLengthOffset = 40
    public static let contextLengthOffset = 41
    public static let fileLengthOffset = 42
    public static let flagsOffset = 43
    public static let textOffset = 44

    /// Bytes of a message; the rest is cut off and the record says so.
    public static let messageBytesMax = 8192
    /// Bytes each of area, context and file.
    public static let fieldBytesMax = 255
    public static let bytesMax = textOffset + 3 * fieldBytesMax + messageBytesMax
    public static let flagCut: UInt8 = 1

    /// What a record of `length` bytes takes in the ring.
    @inlinable
    public static func padded(_ length: Int) -> Int { (length + 7) & ~7 }
}

/// A record taken out of a ring, checked. Valid as long as the bytes it was read from.
public struct LogRecordView {
    public let lost: UInt32
    public let number: UInt32
    public let time: Int64
    public let severity: LogSeverity
    public let stream: LogStream
    public let line: UInt32
    public let isCut: Bool
    public let area: UnsafeRawBufferPointer
    public let context: UnsafeRawBufferPointer
    public let file: UnsafeRawBufferPointer
    public let message: UnsafeRawBufferPointer
    /// The whole record.
    public let bytes: UnsafeRawBufferPointer

    /// Reads the copy of a whole record, whose length and CRC were checked already.
    public init(decoding record: UnsafeRawBufferPointer) throws(DecodeError) {
        bytes = record
        var reader = ByteReader(record)
        _ = try reader.view(RecordLayout.lostOffset)
        lost = try reader.integer()
        number = try reader.integer()
        time = try reader.integer()
        line = try reader.integer()
        let messageLength = Int(try reader.integer(UInt16.self))
        severity = try reader.value()
        stream = try reader.value()
        let areaLength = Int(try reader.integer(UInt8.self))
        let contextLength = Int(try reader.integer(UInt8.self))
        let fileLength = Int(try reader.integer(UInt8.self))
        let flags = try reader.integer(UInt8.self)
        guard flags & ~RecordLayout.flagCut == 0 else { throw .badValue("record flags \(flags); 0 or 1 expected") }
        isCut = flags & RecordLayout.flagCut != 0
        area = try reader.view(areaLength)
        context = try reader.view(contextLength)
        file = try reader.view(fileLength)
        message = try reader.view(messageLength)
        try reader.finish()
    }
}
