public import CkptProtocol
import OSAL
public import SAFTypes

/// The part of a checkpoint that never changes.
public struct Superblock: Hashable, Sendable {
    public var checkpoint: CheckpointID
    public var name: SaName
    public var attributes: CreationAttributes
    public var createdAt: SaTime

    /// magic u64 · version u32 · header bytes u32 · checkpoint u64 · created i64 · attributes · name · zeroes · crc
    /// u32.
    public func encoded() -> [UInt8] {
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

    public init(checkpoint: CheckpointID, name: SaName, attributes: CreationAttributes, createdAt: SaTime) {
        self.checkpoint = checkpoint
        self.name = name
        self.attributes = attributes
        self.createdAt = createdAt
    }

    public init(_ bytes: UnsafeRawBufferPointer) throws(StoreError) {
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
