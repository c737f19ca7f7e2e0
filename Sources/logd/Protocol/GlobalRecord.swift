import SAFTypes

/// A record on its way from its node to the file of a global stream. length u32 (of what follows) · stream u32 ·
/// process i32 · flags u8 (bit 0: no time) · program · the record as it was in the ring.
public struct GlobalRecord {
    public let stream: StreamID
    public let process: Int32
    public let hasTime: Bool
    public let program: UnsafeRawBufferPointer
    public let record: LogRecordView

    static let fixedBytes = 4 + 4 + 1 + 1 + 2
    /// Of one frame, its length included.
    public static let frameBytesMax = 4 + fixedBytes + RecordLayout.fieldBytesMax + RecordLayout.bytesMax

    /// Appends one frame. `record` is a whole one, as ``LogRecordView/init(decoding:)`` takes it.
    public static func append(
        _ record: UnsafeRawBufferPointer, to stream: StreamID, process: Int32, program: [UInt8], hasTime: Bool,
        into writer: inout ByteWriter
    ) {
        let program = program.prefix(RecordLayout.fieldBytesMax)
        writer.integer(UInt32(fixedBytes + program.count + record.count))
        writer.value(stream)
        writer.integer(process)
        writer.integer(UInt8(hasTime ? 0 : 1))
        writer.integer(UInt8(program.count))
        writer.integer(UInt16(record.count))
        writer.raw(Array(program))
        writer.raw(record)
    }

    /// Reads the next frame; what it points to is valid as long as the bytes it was read from.
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let length = Int(try reader.integer(UInt32.self))
        guard length <= Self.frameBytesMax else { throw .badValue("a record of \(length) bytes") }
        var frame = ByteReader(try reader.view(length))
        stream = try frame.value()
        process = try frame.integer()
        let flags = try frame.integer(UInt8.self)
        guard flags <= 1 else { throw .badValue("record flags \(flags); 0 or 1 expected") }
        hasTime = flags == 0
        let programBytes = Int(try frame.integer(UInt8.self))
        let recordBytes = Int(try frame.integer(UInt16.self))
        program = try frame.view(programBytes)
        record = try LogRecordView(decoding: try frame.view(recordBytes))
        try frame.finish()
    }

    /// Passes over the next frame, unchecked; nil at the end.
    public static func skip(_ reader: inout ByteReader) throws(DecodeError) -> StreamID? {
        guard reader.remaining > 0 else { return nil }
        let length = Int(try reader.integer(UInt32.self))
        var frame = ByteReader(try reader.view(length))
        return try frame.value()
    }

    /// How many frames `bytes` hold, each checked.
    public static func count(_ bytes: [UInt8]) throws(DecodeError) -> UInt32 {
        var (count, failure): (UInt32, DecodeError?) = (0, nil)
        bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            do throws(DecodeError) {
                while reader.remaining > 0 {
                    _ = try GlobalRecord(decoding: &reader)
                    count += 1
                }
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        return count
    }
}

extension RecordLayout {
    /// A record that logd itself writes: as in a ring, without the stamp's and the checksum's content.
    public static func encode(
        _ message: String, severity: LogSeverity, stream: LogStream, area: String, context: String, time: Int64
    ) -> [UInt8] {
        let (area, context) = (Array(area.utf8.prefix(fieldBytesMax)), Array(context.utf8.prefix(fieldBytesMax)))
        let message = Array(message.utf8.prefix(messageBytesMax))
        var writer = ByteWriter(reserving: textOffset + area.count + context.count + message.count)
        writer.integer(UInt64(0))
        writer.integer(UInt32(textOffset + area.count + context.count + message.count))
        writer.integer(UInt32(0))
        writer.integer(UInt32(0))
        writer.integer(UInt32(0))
        writer.integer(time)
        writer.integer(UInt32(0))
        writer.integer(UInt16(message.count))
        writer.value(severity)
        writer.value(stream)
        writer.integer(UInt8(area.count))
        writer.integer(UInt8(context.count))
        writer.integer(UInt8(0))
        writer.integer(UInt8(0))
        writer.raw(area)
        writer.raw(context)
        writer.raw(message)
        return writer.bytes
    }
}
