import LogProtocol
import OSAL
import SAFTypes
import Synchronization

/// The writing half of a log ring: any thread of this process, never blocking, no allocation.
///
/// A record is reserved by one compare and swap, filled, and committed by one store. A full ring drops the record and
/// counts it; the next one that fits carries the count.
public final class RingWriter: Sendable {
    /// What a record consists of; the bytes are only read during the call.
    public struct Record {
        public var time: Int64
        public var severity: LogSeverity
        public var stream: LogStream
        public var line: UInt32
        public var area: UnsafeRawBufferPointer
        public var context: UnsafeRawBufferPointer
        public var file: UnsafeRawBufferPointer
        public var message: UnsafeRawBufferPointer

        public init(
            time: Int64, severity: LogSeverity, stream: LogStream, line: UInt32, area: UnsafeRawBufferPointer,
            context: UnsafeRawBufferPointer, file: UnsafeRawBufferPointer, message: UnsafeRawBufferPointer
        ) {
            (self.time, self.severity, self.stream, self.line) = (time, severity, stream, line)
            (self.area, self.context, self.file, self.message) = (area, context, file, message)
        }
    }

    public enum Outcome: Equatable, Sendable {
        case written
        /// Written, and the ring is now more than half full.
        case writtenAboveHalf
        /// No room; counted.
        case dropped
    }

    public let path: String
    public let capacity: Int
    private let file: SharedFile
    private let mapping: Mapping

    private init(file: SharedFile, mapping: Mapping, capacity: Int) {
        (path, self.file, self.mapping, self.capacity) = (file.path, file, mapping, capacity)
    }

    /// Makes the ring of this process in `directory`, with all its memory, so that writing can never fault.
    ///
    /// - Parameter capacity: bytes of records; rounded up to a power of two within the layout's limits.
    public static func create(
        directory: String, process: Int32, startTime: UInt64, program: String, node: String,
        capacity wanted: Int = RingLayout.capacityDefault, hasTime: Bool = true, mode: UInt32 = 0o600
    ) throws(OSError) -> RingWriter {
        var capacity = RingLayout.capacityMin
        while capacity < min(wanted, RingLayout.capacityMax) { capacity *= 2 }
        let path = directory + "/" + RingLayout.fileName(process: process, startTime: startTime)
        let file = try SharedFile.create(path, size: RingLayout.headerBytes + capacity, mode: mode) { mapping in
            let base = mapping.base
            base.storeBytes(of: RingLayout.magic.littleEndian, toByteOffset: RingLayout.magicOffset, as: UInt64.self)
            base.storeBytes(of: UInt32(capacity), toByteOffset: RingLayout.capacityOffset, as: UInt32.self)
            let flags = hasTime ? 0 : RingLayout.flagNoTime
            base.storeBytes(of: flags, toByteOffset: RingLayout.flagsOffset, as: UInt32.self)
            base.storeBytes(of: process, toByteOffset: RingLayout.processOffset, as: Int32.self)
            base.storeBytes(of: startTime, toByteOffset: RingLayout.startTimeOffset, as: UInt64.self)
            store(name: program, at: base + RingLayout.programOffset)
            store(name: node, at: base + RingLayout.nodeOffset)
            let first = RingLayout.firstPosition(capacity: capacity)
            base.atomic(UInt64.self, at: RingLayout.reservedOffset).pointee.store(first, ordering: .relaxed)
            base.atomic(UInt64.self, at: RingLayout.consumedOffset).pointee.store(first, ordering: .relaxed)
        }
        let mapping = try Mapping.mirrored(
            file.raw, headerBytes: RingLayout.headerBytes, dataBytes: capacity, writable: true)
        return RingWriter(file: file, mapping: mapping, capacity: capacity)
    }

    private static func store(name: String, at place: UnsafeMutableRawPointer) {
        let bytes = Array(name.utf8.prefix(RingLayout.nameBytesMax))
        place.storeBytes(of: UInt8(bytes.count), as: UInt8.self)
        (place + 1).copyMemory(from: bytes, byteCount: bytes.count)
    }

    private var reserved: UnsafeMutablePointer<Atomic<UInt64>> { mapping.base.atomic(at: RingLayout.reservedOffset) }
    private var consumed: UnsafeMutablePointer<Atomic<UInt64>> { mapping.base.atomic(at: RingLayout.consumedOffset) }
    private var sequence: UnsafeMutablePointer<Atomic<UInt32>> { mapping.base.atomic(at: RingLayout.sequenceOffset) }
    private var lost: UnsafeMutablePointer<Atomic<UInt32>> { mapping.base.atomic(at: RingLayout.lostOffset) }
    private var lostTotal: UnsafeMutablePointer<Atomic<UInt64>> { mapping.base.atomic(at: RingLayout.lostTotalOffset) }

    /// Records dropped so far.
    public var droppedCount: UInt64 { lostTotal.pointee.load(ordering: .relaxed) }

    /// Counts records that could not even be tried, so that the next one reports them.
    public func countDropped(_ count: UInt32) {
        if count == 0 { return }
        lost.pointee.wrappingAdd(count, ordering: .relaxed)
        lostTotal.pointee.wrappingAdd(UInt64(count), ordering: .relaxed)
    }

    /// Appends a record, or drops and counts it. Over-long fields are cut.
    public func append(_ record: borrowing Record) -> Outcome {
        let area = Self.cut(record.area, RecordLayout.fieldBytesMax)
        let context = Self.cut(record.context, RecordLayout.fieldBytesMax)
        let file = Self.cut(record.file, RecordLayout.fieldBytesMax)
        let message = Self.cut(record.message, min(RecordLayout.messageBytesMax, capacity / 4))
        let length = RecordLayout.textOffset + area.count + context.count + file.count + message.count
        let number = sequence.pointee.wrappingAdd(1, ordering: .relaxed).newValue
        guard let (position, used) = reserve(RecordLayout.padded(length)) else {
            countDropped(1)
            return .dropped
        }
        let start = mapping.base + RingLayout.headerBytes + Int(position & UInt64(capacity - 1))
        start.storeBytes(of: UInt32(length), toByteOffset: RecordLayout.lengthOffset, as: UInt32.self)
        let stamp = start.atomic(UInt64.self, at: RecordLayout.stampOffset)
        stamp.pointee.store(position | RecordLayout.writing, ordering: .releasing)
        fill(start, record, number, area, context, file, message)
        let checked = UnsafeRawBufferPointer(
            start: start + RecordLayout.lostOffset, count: length - RecordLayout.lostOffset)
        start.storeBytes(of: crc32c(checked), toByteOffset: RecordLayout.crcOffset, as: UInt32.self)
        stamp.pointee.store(position | RecordLayout.committed, ordering: .releasing)
        return used > capacity / 2 ? .writtenAboveHalf : .written
    }

    /// Sequentially consistent, so that it also orders this record before the look at the doorbell that follows.
    private func reserve(_ size: Int) -> (position: UInt64, used: Int)? {
        var position = reserved.pointee.load(ordering: .relaxed)
        while true {
            let used = position &- consumed.pointee.load(ordering: .acquiring)
            guard used <= UInt64(capacity), Int(used) + size <= capacity else { return nil }
            let (exchanged, current) = reserved.pointee.compareExchange(
                expected: position, desired: position &+ UInt64(size), ordering: .sequentiallyConsistent)
            if exchanged { return (position, Int(used) + size) }
            position = current
        }
    }

    private func fill(
        _ start: UnsafeMutableRawPointer, _ record: borrowing Record, _ number: UInt32, _ area: UnsafeRawBufferPointer,
        _ context: UnsafeRawBufferPointer, _ file: UnsafeRawBufferPointer, _ message: UnsafeRawBufferPointer
    ) {
        // Looked at before it is taken: taking costs a locked instruction and is rarely needed.
        let isAfterLoss = lost.pointee.load(ordering: .relaxed) != 0
        let lostBefore = isAfterLoss ? lost.pointee.exchange(0, ordering: .relaxed) : 0
        start.storeBytes(of: lostBefore, toByteOffset: RecordLayout.lostOffset, as: UInt32.self)
        start.storeBytes(of: number, toByteOffset: RecordLayout.numberOffset, as: UInt32.self)
        start.storeBytes(of: record.time, toByteOffset: RecordLayout.timeOffset, as: Int64.self)
        start.storeBytes(of: record.line, toByteOffset: RecordLayout.lineOffset, as: UInt32.self)
        start.storeBytes(of: UInt16(message.count), toByteOffset: RecordLayout.messageLengthOffset, as: UInt16.self)
        start.storeBytes(of: record.severity.rawValue, toByteOffset: RecordLayout.severityOffset, as: UInt8.self)
        start.storeBytes(of: record.stream.rawValue, toByteOffset: RecordLayout.streamOffset, as: UInt8.self)
        start.storeBytes(of: UInt8(area.count), toByteOffset: RecordLayout.areaLengthOffset, as: UInt8.self)
        start.storeBytes(of: UInt8(context.count), toByteOffset: RecordLayout.contextLengthOffset, as: UInt8.self)
        start.storeBytes(of: UInt8(file.count), toByteOffset: RecordLayout.fileLengthOffset, as: UInt8.self)
        let flags = message.count < record.message.count ? RecordLayout.flagCut : 0
        start.storeBytes(of: flags, toByteOffset: RecordLayout.flagsOffset, as: UInt8.self)
        var place = start + RecordLayout.textOffset
        Self.copy(area, to: &place)
        Self.copy(context, to: &place)
        Self.copy(file, to: &place)
        Self.copy(message, to: &place)
    }

    private static func copy(_ part: UnsafeRawBufferPointer, to place: inout UnsafeMutableRawPointer) {
        if let base = part.baseAddress { place.copyMemory(from: base, byteCount: part.count) }
        place += part.count
    }

    /// The first `limit` bytes, ending where a UTF-8 character does.
    private static func cut(_ text: UnsafeRawBufferPointer, _ limit: Int) -> UnsafeRawBufferPointer {
        if text.count <= limit { return text }
        var end = limit
        while end > 0 && text[end] & 0xC0 == 0x80 { end -= 1 }
        return UnsafeRawBufferPointer(rebasing: text[..<end])
    }
}
