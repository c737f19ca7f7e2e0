import OSAL
public import SAFTypes

/// Where a section is that its writers write themselves: what the main file, which they cannot write, says of it.
public struct DirectPlace: Hashable, Sendable {
    /// In the direct file, a multiple of 64.
    public var offset: Int
    /// Bytes the section may have; more than that is for ckptd to do.
    public var limit: Int
    /// Never the same again for this memory; 0: none.
    public var grant: UInt64
    /// Others are to be told what is written here: ckptd looks, see ``DirectBell``.
    public var isTold: Bool

    public init(offset: Int, limit: Int, grant: UInt64, isTold: Bool = false) {
        (self.offset, self.limit, self.grant, self.isTold) = (offset, limit, grant, isTold)
    }

    private static let told: UInt64 = 1

    /// As it stands in a section's entry: offset u64, its lowest bit: told · limit u32 · crc u32 (over the serial,
    /// too) · grant u64.
    public static let encodedBytes = 24

    public static func checksum(offset: UInt64, limit: UInt32, grant: UInt64, serial: UInt64) -> UInt32 {
        DirectLayout.checksum(offset, UInt64(limit), grant, serial)
    }

    /// All but the grant, which turns it on and off by one store of its own.
    public func encodedHead(serial: UInt64) -> (UInt64, UInt64) {
        let start = UInt64(offset) | (isTold ? Self.told : 0)
        let check = Self.checksum(offset: start, limit: UInt32(limit), grant: grant, serial: serial)
        return (start.littleEndian, (UInt64(limit) | UInt64(check) << 32).littleEndian)
    }

    /// Nil: these bytes are no place, whatever they say.
    public init?(_ words: (UInt64, UInt64, UInt64), serial: UInt64) {
        let (first, tail, grant) = (words.0.littleEndian, words.1.littleEndian, words.2.littleEndian)
        let (start, limit) = (first & ~Self.told, UInt32(truncatingIfNeeded: tail))
        guard grant != 0, start % 64 == 0, start >= UInt64(DirectLayout.headerBytes),
            start <= UInt64(DirectLayout.fileBytesMax), limit > 0, limit <= UInt32(DirectLayout.limitMax),
            Self.checksum(offset: first, limit: limit, grant: grant, serial: serial)
                == UInt32(truncatingIfNeeded: tail >> 32)
        else { return nil }
        (offset, self.limit, self.grant, isTold) = (Int(start), Int(limit), grant, first & Self.told != 0)
    }

    /// Memory it takes.
    public var bytes: Int { DirectLayout.regionBytes(limit: limit) }
}

/// The direct file: a page of its own, then regions. The README of ckptd has the picture.
public enum DirectLayout {
    static let magic: UInt64 = 0x3154_4352_4944_4153  // "SADIRCT1"
    public static let headerBytes = 4096
    /// u64, the checkpoint's change number as far as writers of direct sections have counted.
    public static let changesOffset = 64
    /// u64, a ``DirectBell``; in the same cache line.
    static let bellOffset = 72
    public static let blockBytes = 512
    /// Larger sections are ckptd's to write.
    public static let limitMax = 64 << 20
    public static let fileBytesMax = 1 << 40

    // A region: head 192 · checksums of buffer 0 · of buffer 1 · buffer 0 · buffer 1.
    static let lockOffset = 0
    static let stateOffset = 8
    static let grantOffset = 16
    static let buffersOffset = 64
    static let bufferHeadBytes = 64
    static let checksumsOffset = 192

    /// State word: version from bit 2 on, bit 1 closed, bit 0 the buffer that holds.
    static let stateClosed: UInt64 = 2

    static func blocks(_ size: Int) -> Int { (size + blockBytes - 1) / blockBytes }
    static func tableBytes(_ blocks: Int) -> Int { (blocks * 4 + 63) & ~63 }

    public static func regionBytes(limit: Int) -> Int {
        let blocks = blocks(limit)
        return checksumsOffset + 2 * (tableBytes(blocks) + blocks * blockBytes)
    }

    /// Says what a new file is, for people: nobody believes it.
    public static func format(_ base: UnsafeMutableRawPointer) {
        base.storeBytes(of: magic.littleEndian, as: UInt64.self)
        base.storeBytes(of: UInt64(1).littleEndian, toByteOffset: 8, as: UInt64.self)
    }

    /// CRC-32C of four words.
    static func checksum(_ first: UInt64, _ second: UInt64, _ third: UInt64, _ fourth: UInt64) -> UInt32 {
        var words = (first.littleEndian, second.littleEndian, third.littleEndian, fourth.littleEndian)
        return withUnsafeBytes(of: &words) { crc32c($0) }
    }
}

/// Why a direct section was not written or read. For the writer all mean: ask ckptd.
public enum DirectRefusal: Error, Hashable, Sendable {
    /// The section is no longer here.
    case closed
    /// Somebody holds the lock for too long, or writes faster than one can read.
    case busy
    /// The bytes are not what was written.
    case corrupted
    /// Beyond what the place holds.
    case tooLarge
    /// A read that begins behind the section's end.
    case beyondEnd
}

/// What a section was when it was read.
public struct DirectView: Hashable, Sendable {
    public var size: Int
    /// Nanoseconds since 1970 UTC.
    public var lastUpdate: SaTime
    /// Number of its last update.
    public var change: UInt64
    /// Bytes that were copied.
    public var copied: Int
}
