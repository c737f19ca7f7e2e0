import CkptProtocol
import OSAL
public import SAFTypes

/// What an entry in the section table says of a section: the entry's image. The checksum covers the id, too.
///
/// state u32 (0 free, 1 used, 2 used and corrupted when it was copied) · id length u16 · 0 u16 · extent offset u64 ·
/// extent size u64 · size u64 · expiration i64 · last update i64 · serial u64 · 0 u32 · crc u32. The extent: id, padded
/// to 8 · data · checksums of the data's blocks.
public struct SectionEntry: Hashable, Sendable {
    public var idLength: Int
    public var extent: Extent
    public var size: Int
    public var expiration: SaTime
    public var lastUpdate: SaTime
    public var serial: UInt64
    /// It was corrupted where it was copied from; until it is overwritten.
    public var isCorrupted = false

    public var idBytes: Int { (idLength + 7) & ~7 }
    public var dataOffset: Int { extent.offset + idBytes }
    public var capacity: Int { Self.capacity(extentSize: extent.size, idLength: idLength) }
    public var checksumsOffset: Int { dataOffset + capacity }
    public static func blocks(_ size: Int) -> Int { (size + Layout.blockBytes - 1) / Layout.blockBytes }

    /// Data bytes that fit an extent beside id and checksums.
    public static func capacity(extentSize: Int, idLength: Int) -> Int {
        let room = extentSize - ((idLength + 7) & ~7)
        let unit = Layout.blockBytes + 4
        return room / unit * Layout.blockBytes + max(0, room % unit - 4) & ~7
    }

    /// Extent bytes for an id and so much data.
    public static func extentBytes(idLength: Int, size: Int) -> Int {
        let padded = (size + 7) & ~7
        return ((idLength + 7) & ~7) + padded + 4 * blocks(padded) + 8
    }

    public func encode(to writer: inout ByteWriter, id: UnsafeRawBufferPointer) {
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
    public init?(_ bytes: UnsafeRawBufferPointer, file: UnsafeRawBufferPointer, _ what: @autoclosure () -> String)
        throws(StoreError)
    {
        var reader = ByteReader(UnsafeRawBufferPointer(rebasing: bytes[0..<Layout.sectionImageBytes]))
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
                extentSize >= Extent.sizeMin, extentSize <= file.count, offset <= file.count - extentSize,
                idBytes <= extentSize, size >= 0, size <= capacity
            else { throw .badValue("bounds") }
            let head = crc32c(UnsafeRawBufferPointer(rebasing: bytes[0..<(Layout.sectionImageBytes - 4)]))
            guard crc32c(UnsafeRawBufferPointer(rebasing: file[offset..<(offset + idLength)]), seed: head) == stored
            else {
                throw .badValue("checksum")
            }
        } catch {
            throw .damaged("\(what()): \(error)")
        }
    }

    public init(
        idLength: Int, extent: Extent, size: Int, expiration: SaTime, lastUpdate: SaTime, serial: UInt64
    ) {
        self.idLength = idLength
        self.extent = extent
        self.size = size
        self.expiration = expiration
        self.lastUpdate = lastUpdate
        self.serial = serial
    }
}
