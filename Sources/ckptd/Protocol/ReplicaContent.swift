public import SAFTypes

// What follows the head of a message between replicas. Data stays in the body it was decoded from.

/// One update, as the active replica made it. time i64 · next serial u64 · written u8 · (writer · number u64) ·
/// count u32 · operations.
public struct ReplicaUpdate: Hashable, Sendable {
    public var time: SaTime
    /// The next section's serial after the update; those it creates have the ones before.
    public var nextSerial: UInt64
    /// Whose request it was; nil for the service's own.
    public var writer: RequestWriter?
    public var number: UInt64
    public var operations: [SectionOperation]

    public init(
        time: SaTime, nextSerial: UInt64, writer: RequestWriter?, number: UInt64, operations: [SectionOperation]
    ) {
        self.time = time
        self.nextSerial = nextSerial
        self.writer = writer
        self.number = number
        self.operations = operations
    }

    /// What precedes the operations.
    public static func encodeHead(
        time: SaTime, nextSerial: UInt64, writer who: RequestWriter?, number: UInt64, count: Int,
        to writer: inout ByteWriter
    ) {
        writer.integer(time)
        writer.integer(nextSerial)
        writer.bool(who != nil)
        if let who {
            writer.value(who)
            writer.integer(number)
        }
        writer.integer(UInt32(count))
    }

    /// An update that is at hand, with the body its data lies in.
    public static func encode(
        _ transaction: Transaction, payload: UnsafeRawBufferPointer, to writer: inout ByteWriter
    ) {
        let execution = transaction.execution
        encodeHead(
            time: transaction.time, nextSerial: transaction.state.nextSerial, writer: execution?.writer,
            number: execution?.number ?? 0, count: transaction.steps.count, to: &writer)
        for step in transaction.steps {
            let operation = step.operation
            let data = operation.data
            operation.id.bytes.withUnsafeBytes { id in
                SectionOperation.encode(
                    operation.kind, id: id, offset: operation.offset, expiration: operation.expiration,
                    data: UnsafeRawBufferPointer(rebasing: payload[data.offset..<(data.offset + data.count)]),
                    to: &writer)
            }
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        time = try reader.integer()
        nextSerial = try reader.integer()
        let isWritten = try reader.bool()
        writer = isWritten ? try reader.value() : nil
        number = isWritten ? try reader.integer() : 0
        operations = try SectionOperation.decodeList(&reader, max: .max, stepsOnly: true)
        try reader.finish()
    }
}

/// A part of a section that is to be copied, where it lies in the store.
public struct CopiedPart: Hashable, Sendable {
    public var slot: Int
    public var descriptor: SectionDescriptor
    public var offset: Int
    public var count: Int

    public init(slot: Int, descriptor: SectionDescriptor, offset: Int, count: Int) {
        self.slot = slot
        self.descriptor = descriptor
        self.offset = offset
        self.count = count
    }
}

/// A section that is being copied, or a part of it. descriptor · offset u64 · data (u32 length · bytes).
public struct PieceSection: Hashable, Sendable {
    /// With the size of the whole section. If it is corrupted there are no data.
    public var descriptor: SectionDescriptor
    public var offset: UInt64
    public var data: PayloadSlice

    public init(descriptor: SectionDescriptor, offset: UInt64, data: PayloadSlice) {
        self.descriptor = descriptor
        self.offset = offset
        self.data = data
    }

    public static func encode(
        _ descriptor: SectionDescriptor, offset: Int, data: UnsafeRawBufferPointer, to writer: inout ByteWriter
    ) {
        writer.value(descriptor)
        writer.integer(UInt64(offset))
        writer.byteString(data)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        descriptor = try reader.value()
        offset = try reader.integer()
        let count = Int(try reader.integer(UInt32.self))
        data = PayloadSlice(offset: reader.offset, count: count)
        _ = try reader.view(count)
        guard offset <= descriptor.size, UInt64(count) <= descriptor.size - offset else {
            throw .badValue("\(count) bytes at \(offset) of a section of \(descriptor.size)")
        }
    }

    /// All of a piece: count u32 · parts.
    public static func decodeList(_ reader: inout ByteReader) throws(DecodeError) -> [PieceSection] {
        let count = Int(try reader.integer(UInt32.self))
        var parts: [PieceSection] = []
        parts.reserveCapacity(min(count, reader.remaining / 64 + 1))
        for _ in 0..<count { parts.append(try PieceSection(decoding: &reader)) }
        try reader.finish()
        return parts
    }
}

/// What ends a copy: next serial u64 · count u32 · (writer · count u8 · (number u64 · change u64)…)….
public struct CopyEnd: Hashable, Sendable {
    /// Somebody who has written, and the requests executed for it last, oldest first.
    public struct Writer: Hashable, Sendable {
        public var writer: RequestWriter
        public var executed: [RestoredCheckpoint.Executed]

        public init(writer: RequestWriter, executed: [RestoredCheckpoint.Executed]) {
            self.writer = writer
            self.executed = executed
        }
    }

    public var nextSerial: UInt64
    public var writers: [Writer]

    public init(nextSerial: UInt64, writers: [Writer]) {
        self.nextSerial = nextSerial
        self.writers = writers
    }

    public func encode(to out: inout ByteWriter) {
        out.integer(nextSerial)
        out.integer(UInt32(writers.count))
        for entry in writers {
            out.value(entry.writer)
            out.integer(UInt8(truncatingIfNeeded: entry.executed.count))
            for request in entry.executed {
                out.integer(request.number)
                out.integer(request.change)
            }
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        nextSerial = try reader.integer()
        let count = Int(try reader.integer(UInt32.self))
        writers = []
        for _ in 0..<count {
            let writer = try reader.value(RequestWriter.self)
            let requests = Int(try reader.integer(UInt8.self))
            guard requests <= OpenerRecord.executedMax else {
                throw .badValue("\(requests) requests of one writer; at most \(OpenerRecord.executedMax) expected")
            }
            var executed: [RestoredCheckpoint.Executed] = []
            for _ in 0..<requests {
                executed.append(.init(number: try reader.integer(), change: try reader.integer()))
            }
            writers.append(Writer(writer: writer, executed: executed))
        }
        try reader.finish()
    }
}

/// handle u64 · node u32 · session 2 × u64.
extension RequestWriter: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(handle.rawValue)
        writer.value(node)
        writer.integer(session.high)
        writer.integer(session.low)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        handle = HandleID(rawValue: try reader.integer())
        node = try reader.value()
        session = ClientSession(high: try reader.integer(), low: try reader.integer())
    }
}
