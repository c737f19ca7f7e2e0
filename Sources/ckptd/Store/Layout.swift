import CkptProtocol
import OSAL
import SAFTypes

/// Where things are in a checkpoint's RAM file. The README beside this file has the pictures; all integers are
/// little-endian, all checksums CRC-32C.
enum Layout {
    static let magic: UInt64 = 0x3154_504B_4346_4153  // "SAFCKPT1"
    static let version: UInt32 = 2
    static let superblockBytes = 512
    static let rootBytes = 192
    /// Number of the last committed step; its lowest bit says which root holds.
    static let commitOffset = 896
    /// Number of the last step whose record has been carried out.
    static let appliedOffset = 960
    static let headerBytes = 1024
    static let sectionEntryBytes = 64
    static let openerHeadBytes = 64
    static let openerEntryBytes = openerHeadBytes + OpenerRecord.executedMax * 16
    /// Section data has one checksum per so many bytes.
    static let blockBytes = 512
    /// Tables of more entries than this are refused: a checked bound for everything computed from them.
    static let entriesMax = 1 << 24
    static let fileBytesMax = 1 << 44

    static func rootOffset(_ sequence: UInt64) -> Int { superblockBytes + Int(sequence & 1) * rootBytes }
}

/// The part of a checkpoint that never changes.
struct Superblock: Hashable {
    var checkpoint: CheckpointID
    var name: SaName
    var attributes: CreationAttributes
    var createdAt: SaTime

    /// magic u64 · version u32 · header bytes u32 · checkpoint u64 · created i64 · attributes · name · zeroes · crc
    /// u32.
    func encoded() -> [UInt8] {
        var writer = ByteWriter(reserving: Layout.superblockBytes)
        writer.integer(Layout.magic)
        writer.integer(Layout.version)
        writer.integer(UInt32(Layout.headerBytes))
        writer.integer(checkpoint.rawValue)
        writer.integer(createdAt)
        writer.value(attributes)
        writer.value(name)
        writer.raw([UInt8](repeating: 0, count: Layout.superblockBytes - 4 - writer.count))
        writer.integer(writer.bytes.withUnsafeBytes { crc32c($0) })
        return writer.bytes
    }

    init(checkpoint: CheckpointID, name: SaName, attributes: CreationAttributes, createdAt: SaTime) {
        self.checkpoint = checkpoint
        self.name = name
        self.attributes = attributes
        self.createdAt = createdAt
    }

    init(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
        guard bytes.count >= Layout.headerBytes else {
            throw .damaged("\(bytes.count) bytes; a header of \(Layout.headerBytes) expected")
        }
        let stored = UInt32(
            littleEndian: bytes.loadUnaligned(fromByteOffset: Layout.superblockBytes - 4, as: UInt32.self))
        var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[0..<(Layout.superblockBytes - 4)]))
        do throws(DecodeError) {
            let magic = try reader.integer(UInt64.self)
            let version = try reader.integer(UInt32.self)
            let header = try reader.integer(UInt32.self)
            guard magic == Layout.magic else { throw .badValue("no checkpoint file: magic number") }
            guard version == Layout.version, header == Layout.headerBytes else {
                throw .badValue("layout version \(version); \(Layout.version) expected")
            }
            guard crc32c(UnsafeRawBufferPointer(rebasing: bytes[0..<(Layout.superblockBytes - 4)])) == stored else {
                throw .badValue("superblock checksum")
            }
            checkpoint = CheckpointID(rawValue: try reader.integer())
            createdAt = try reader.integer()
            attributes = try reader.value()
            name = try reader.value()
        } catch {
            throw .damaged("superblock: \(error)")
        }
    }
}

/// The part that each step writes anew, alternately in one of two places, before the step is published.
struct Root: Hashable {
    /// A table or the log: where it is and how much of it there is (entries, for the log bytes).
    struct Area: Hashable {
        var extent: ExtentAllocator.Extent
        var capacity: Int
        static let none = Area(extent: .init(offset: 0, size: 0), capacity: 0)
    }

    var sequence: UInt64 = 0
    var sections = Area.none
    var openers = Area.none
    var log = Area.none
    /// Position of the newest record in the endless stream of which the log shows the last part.
    var recordPosition: UInt64 = 0
    /// Position after it.
    var logEnd: UInt64 = 0
    /// Positions before this one belong to an earlier log and are lost.
    var logStart: UInt64 = 0
    var state: Transaction.State

    private enum Flag {
        static let unlinked: UInt32 = 1
        static let active: UInt32 = 2
        static let unlinker: UInt32 = 4
        static let partial: UInt32 = 8
    }

    func encoded(to writer: inout ByteWriter) {
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

    init(state: Transaction.State) { self.state = state }

    init(_ bytes: UnsafeRawBufferPointer, sequence expected: UInt64) throws(StoreError) {
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
    static func check(_ area: Area, entryBytes: Int, fileSize: Int, _ what: String) throws(StoreError) {
        let extent = area.extent
        if area == .none, entryBytes > 1 { return }
        guard extent.offset >= Layout.headerBytes, extent.offset % 16 == 0, extent.size >= 0, extent.size <= fileSize,
            extent.offset <= fileSize - extent.size, area.capacity <= Layout.fileBytesMax / entryBytes,
            area.capacity * entryBytes <= extent.size
        else { throw .damaged("\(what) at \(extent.offset), \(extent.size) bytes, outside the file") }
    }
}

/// One section in the section table. The checksum covers the id, too.
///
/// state u32 (0 free, 1 used, 2 used and corrupted when it was copied) · id length u16 · 0 u16 · extent offset u64 ·
/// extent size u64 · size u64 · expiration i64 · last update i64 · serial u64 · 0 u32 · crc u32. The extent: id, padded
/// to 8 · data · checksums of the data's blocks.
struct SectionEntry: Hashable {
    var idLength: Int
    var extent: ExtentAllocator.Extent
    var size: Int
    var expiration: SaTime
    var lastUpdate: SaTime
    var serial: UInt64
    /// It was corrupted where it was copied from; until it is overwritten.
    var isCorrupted = false

    var idBytes: Int { (idLength + 7) & ~7 }
    var dataOffset: Int { extent.offset + idBytes }
    var capacity: Int { Self.capacity(extentSize: extent.size, idLength: idLength) }
    var checksumsOffset: Int { dataOffset + capacity }
    static func blocks(_ size: Int) -> Int { (size + Layout.blockBytes - 1) / Layout.blockBytes }

    /// Data bytes that fit an extent beside id and checksums.
    static func capacity(extentSize: Int, idLength: Int) -> Int {
        let room = extentSize - ((idLength + 7) & ~7)
        let unit = Layout.blockBytes + 4
        return room / unit * Layout.blockBytes + max(0, room % unit - 4) & ~7
    }

    /// Extent bytes for an id and so much data.
    static func extentBytes(idLength: Int, size: Int) -> Int {
        let padded = (size + 7) & ~7
        return ((idLength + 7) & ~7) + padded + 4 * blocks(padded) + 8
    }

    func encode(to writer: inout ByteWriter, id: UnsafeRawBufferPointer) {
        let start = writer.count
        writer.integer(UInt32(isCorrupted ? 2 : 1))
        writer.integer(UInt16(truncatingIfNeeded: idLength))
        writer.integer(UInt16(0))
        writer.integer(UInt64(extent.offset))
        writer.integer(UInt64(extent.size))
        writer.integer(UInt64(size))
        writer.integer(expiration)
        writer.integer(lastUpdate)
        writer.integer(serial)
        writer.integer(UInt32(0))
        let head = writer.bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[start...])) }
        writer.integer(crc32c(id, seed: head))
    }

    /// Nil for a free entry. Nothing outside the file is touched, whatever the bytes say.
    init?(_ bytes: UnsafeRawBufferPointer, file: UnsafeRawBufferPointer, _ what: @autoclosure () -> String)
        throws(StoreError)
    {
        var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[0..<Layout.sectionEntryBytes]))
        do throws(DecodeError) {
            let state = try reader.integer(UInt32.self)
            if state == 0 { return nil }
            idLength = Int(try reader.integer(UInt16.self))
            let zero = try reader.integer(UInt16.self)
            let offset = Int(exactly: try reader.integer(UInt64.self)) ?? -1
            let extentSize = Int(exactly: try reader.integer(UInt64.self)) ?? -1
            size = Int(exactly: try reader.integer(UInt64.self)) ?? -1
            expiration = try reader.integer()
            lastUpdate = try reader.integer()
            serial = try reader.integer()
            let reserved = try reader.integer(UInt32.self)
            let stored = try reader.integer(UInt32.self)
            extent = .init(offset: offset, size: extentSize)
            isCorrupted = state == 2
            guard state <= 2, zero == 0, reserved == 0, offset >= Layout.headerBytes, offset % 16 == 0,
                extentSize >= ExtentAllocator.sizeMin, extentSize <= file.count, offset <= file.count - extentSize,
                idBytes <= extentSize, size >= 0, size <= capacity
            else { throw .badValue("bounds") }
            let head = crc32c(UnsafeRawBufferPointer(rebasing: bytes[0..<(Layout.sectionEntryBytes - 4)]))
            guard crc32c(UnsafeRawBufferPointer(rebasing: file[offset..<(offset + idLength)]), seed: head) == stored
            else {
                throw .badValue("checksum")
            }
        } catch {
            throw .damaged("\(what()): \(error)")
        }
    }

    init(
        idLength: Int, extent: ExtentAllocator.Extent, size: Int, expiration: SaTime, lastUpdate: SaTime, serial: UInt64
    ) {
        self.idLength = idLength
        self.extent = extent
        self.size = size
        self.expiration = expiration
        self.lastUpdate = lastUpdate
        self.serial = serial
    }
}

/// The head of an entry in the opener table; behind it the requests executed for this opener, number u64 · change u64.
///
/// state u32 · pid u32 · session 2 × u64 · handle u64 · open number u64 · process start u64 · flags u32 · node u32 ·
/// 0 u32 · crc u32.
enum OpenerEntry {
    static func encode(_ opener: OpenerRecord?, to writer: inout ByteWriter) {
        let start = writer.count
        if let opener {
            writer.integer(UInt32(1))
            writer.integer(opener.processID)
            writer.integer(opener.session.high)
            writer.integer(opener.session.low)
            writer.integer(opener.handle.rawValue)
            writer.integer(opener.openNumber)
            writer.integer(opener.processStart)
            writer.integer(opener.flags.rawValue)
            writer.value(opener.node)
        }
        while writer.count - start < Layout.openerHeadBytes - 4 { writer.integer(UInt32(0)) }
        writer.integer(
            writer.bytes.withUnsafeBytes { crc32c(UnsafeRawBufferPointer(rebasing: $0[start...])) })
    }

    static func decode(_ bytes: UnsafeRawBufferPointer, _ what: @autoclosure () -> String) throws(StoreError)
        -> OpenerRecord?
    {
        var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[0..<Layout.openerHeadBytes]))
        let stored = UInt32(
            littleEndian: bytes.loadUnaligned(fromByteOffset: Layout.openerHeadBytes - 4, as: UInt32.self))
        do throws(DecodeError) {
            let state = try reader.integer(UInt32.self)
            let processID = try reader.integer(UInt32.self)
            let session = ClientSession(high: try reader.integer(), low: try reader.integer())
            let handle = HandleID(rawValue: try reader.integer())
            let number = try reader.integer(UInt64.self)
            let start = try reader.integer(UInt64.self)
            let flags = OpenFlags(rawValue: try reader.integer())
            let node = try reader.value(NodeID.self)
            if state == 0 { return nil }
            guard state == 1,
                crc32c(UnsafeRawBufferPointer(rebasing: bytes[0..<(Layout.openerHeadBytes - 4)])) == stored
            else { throw .badValue("checksum") }
            return OpenerRecord(
                session: session, handle: handle, openNumber: number, processID: processID, processStart: start,
                flags: flags, node: node)
        } catch {
            throw .damaged("\(what()): \(error)")
        }
    }
}
