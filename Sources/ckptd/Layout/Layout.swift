import CkptProtocol

/// Where things are in a checkpoint's RAM file. The README beside this file has the pictures; all integers are
/// little-endian, all checksums CRC-32C.
public enum Layout {
    public static let magic: UInt64 = 0x3154_504B_4346_4153  // "SAFCKPT1"
    public static let version: UInt32 = 3
    public static let superblockBytes = 448

    // What local readers look at before anything else: a cache line of its own.

    /// Changes whenever the section table is another or elsewhere; odd while that happens, and during a recovery.
    public static let serialOffset = 448
    /// Number of the last step that created a section and has been carried out.
    public static let createdOffset = 456
    /// A ``ServiceWord``.
    public static let serviceOffset = 464
    /// Which life of the direct file this file goes with; 0 while there is none.
    public static let directOffset = 472

    /// Bytes that a section may have, by the attributes.
    static let sectionSizeMaxOffset = 56
    static let rootsOffset = 512
    public static let rootBytes = 192
    /// Where a root has the place of the section table, its number of entries, and the change number.
    static let rootTableOffset = 8
    static let rootTableCapacity = 24
    static let rootChange = 96
    /// Number of the last committed step; its lowest bit says which root holds.
    public static let commitOffset = 896
    /// Number of the last step whose record has been carried out.
    public static let appliedOffset = 960
    public static let headerBytes = 1024

    /// An entry of the section table: sequence u64 · direct section 24 · image 64. The sequence is odd while a step
    /// changes the entry or its data, see ``sequence(after:)``, and even when it has.
    public static let sectionEntryBytes = 96
    public static let entryDirectOffset = 8
    /// Not 0: the section is written directly, its image here is not what it is.
    public static let entryGrantOffset = 24
    public static let entryImageOffset = 32
    public static let sectionImageBytes = 64

    public static let openerHeadBytes = 64
    public static let openerEntryBytes = openerHeadBytes + CkptProtocolLimits.executedMax * 16
    /// Section data has one checksum per so many bytes.
    public static let blockBytes = 512
    /// Tables of more entries than this are refused: a checked bound for everything computed from them.
    public static let entriesMax = 1 << 24
    public static let fileBytesMax = 1 << 44

    /// The sequence word of an entry that a step has changed; one less while it does. Between two steps there is room
    /// for what changes the entry and is none: no word is ever there a second time, for another state of the section.
    public static func sequence(after step: UInt64) -> UInt64 { step &<< 8 }

    public static func rootOffset(_ sequence: UInt64) -> Int { rootsOffset + Int(sequence & 1) * rootBytes }
}
