public import CkptProtocol
import OSAL
public import SAFTypes

/// The part that each step writes anew, alternately in one of two places, before the step is published.
public struct Root: Hashable, Sendable {
    /// A table or the log: where it is and how much of it there is (entries, for the log bytes).
    public struct Area: Hashable, Sendable {
        public var extent: Extent
        public var capacity: Int

        public init(extent: Extent, capacity: Int) {
            self.extent = extent
            self.capacity = capacity
        }

        public static let none = Area(extent: .init(offset: 0, size: 0), capacity: 0)
    }

    public var sequence: UInt64 = 0
    public var sections = Area.none
    public var openers = Area.none
    public var log = Area.none
    /// Position of the newest record in the endless stream of which the log shows the last part.
    public var recordPosition: UInt64 = 0
    /// Position after it.
    public var logEnd: UInt64 = 0
    /// Positions before this one belong to an earlier log and are lost.
    public var logStart: UInt64 = 0
    public var state: Transaction.State

    private enum Flag {
        static let unlinked: UInt32 = 1
        static let active: UInt32 = 2
        static let unlinker: UInt32 = 4
        static let partial: UInt32 = 8
    }

    public func encoded(to writer: inout ByteWriter) {
        let start = writer.count
        writer.integer(sequence)
        for area in [sections, openers, log] {
            writer.integer(UInt64(area.extent.offset))
            writer.integer(UInt64(area.extent.size))
            writer.integer(UInt32(area.capacity))
        }
        writer.integer(recordPosition)
        writer.integer(logEnd)
        writer.integer(logStart)
        var flags: UInt32 = 0
        if state.isUnlinked { flags |= Flag.unlinked }
        if state.hasActiveReplica { flags |= Flag.active }
        if state.unlinker != nil { flags |= Flag.unlinker }
        if state.isPartial { flags |= Flag.partial }
        writer.integer(flags)
        writer.integer(state.change)
        writer.integer(state.retentionDuration)
        writer.integer(state.retentionDeadline)
        writer.integer(state.nextSerial)
        writer.integer(state.unlinker?.session.high ?? 0)
        writer.integer(state.unlinker?.session.low ?? 0)
        writer.integer(state.unlinker?.number ?? 0)
        writer.integer(state.epoch)
        writer.value(state.history)
        while writer.count - start < Layout.rootBytes - 4 { writer.integer(UInt32(0)) }
        writer.integer(
            writer.bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[start...])) })
    }

    public init(state: Transaction.State) { self.state = state }

    public init(_ bytes: UnsafeRawBufferPointer, sequence expected: UInt64) throws(StoreError) {
        let body = UnsafeRawBufferPointer(rebasing: bytes[0..<(Layout.rootBytes - 4)])
        let stored = UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: Layout.rootBytes - 4, as: UInt32.self))
        guard crc32c(body) == stored else { throw .damaged("root checksum") }
        var reader = ByteReader(body)
        do throws(DecodeError) {
            sequence = try reader.integer()
            guard sequence == expected else { throw .badValue("number \(sequence); \(expected) expected") }
            sections = try Self.area(&reader)
            openers = try Self.area(&reader)
            log = try Self.area(&reader)
            recordPosition = try reader.integer()
            logEnd = try reader.integer()
            logStart = try reader.integer()
            let flags = try reader.integer(UInt32.self)
            guard flags & ~15 == 0 else { throw .badValue("flags \(flags)") }
            state = Transaction.State(
                change: try reader.integer(), retentionDuration: try reader.integer(),
                retentionDeadline: try reader.integer(), nextSerial: try reader.integer(),
                isUnlinked: flags & Flag.unlinked != 0, hasActiveReplica: flags & Flag.active != 0)
            let unlinker = RequestIdentity(
                session: ClientSession(high: try reader.integer(), low: try reader.integer()),
                number: try reader.integer())
            state.unlinker = flags & Flag.unlinker != 0 ? unlinker : nil
            state.epoch = try reader.integer()
            state.history = try reader.value()
            state.isPartial = flags & Flag.partial != 0
        } catch {
            throw .damaged("root: \(error)")
        }
    }

    private static func area(_ reader: inout ByteReader) throws(DecodeError) -> Area {
        let offset = try reader.integer(UInt64.self)
        let size = try reader.integer(UInt64.self)
        let capacity = try reader.integer(UInt32.self)
        guard let offset = Int(exactly: offset), let size = Int(exactly: size) else { throw .badValue("area") }
        return Area(extent: .init(offset: offset, size: size), capacity: Int(capacity))
    }

    /// Checks that an area lies within the file and holds what it says.
    public static func check(_ area: Area, entryBytes: Int, fileSize: Int, _ what: String) throws(StoreError) {
        let extent = area.extent
        if area == .none, entryBytes > 1 { return }
        guard extent.offset >= Layout.headerBytes, extent.offset % 16 == 0, extent.size >= 0, extent.size <= fileSize,
            extent.offset <= fileSize - extent.size, area.capacity <= Layout.fileBytesMax / entryBytes,
            area.capacity * entryBytes <= extent.size
        else { throw .damaged("\(what) at \(extent.offset), \(extent.size) bytes, outside the file") }
    }
}
