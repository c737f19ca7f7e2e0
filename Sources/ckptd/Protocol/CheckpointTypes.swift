import SAFTypes

/// How a checkpoint's replicas are updated, and where they are. Source: SaCkptCheckpointCreationFlagsT.
public struct CreationFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    /// SA_CKPT_WR_ALL_REPLICAS: an update returns when every replica has it.
    public static let writeAllReplicas = CreationFlags(rawValue: 1)
    /// SA_CKPT_WR_ACTIVE_REPLICA: an update returns when the active replica has it; atomic.
    public static let writeActiveReplica = CreationFlags(rawValue: 2)
    /// SA_CKPT_WR_ACTIVE_REPLICA_WEAK: as above, without the promise of atomicity (kept here all the same).
    public static let writeActiveReplicaWeak = CreationFlags(rawValue: 4)
    /// SA_CKPT_CHECKPOINT_COLLOCATED: replicas only where a process has the checkpoint open.
    public static let collocated = CreationFlags(rawValue: 8)
    /// SAF_CKPT_CHECKPOINT_PERSISTENT, not of AIS: kept on the disk of every node with a replica, and there again after
    /// all of them were without power. An update returns when it is durable.
    public static let persistent = CreationFlags(rawValue: 16)

    /// Exactly one of the three update modes, optionally collocated or persistent, and no unknown bit.
    public var isValid: Bool {
        guard rawValue & ~31 == 0 else { return false }
        return (rawValue & 7).nonzeroBitCount == 1
    }

    /// True where there is an active replica only after somebody asked for one (saCkptActiveReplicaSet).
    public var needsActiveReplicaSet: Bool { contains(.collocated) && !contains(.writeAllReplicas) }
}

/// What an opener may do. Source: SaCkptCheckpointOpenFlagsT.
public struct OpenFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt32
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    public static let read = OpenFlags(rawValue: 1)
    public static let write = OpenFlags(rawValue: 2)
    /// Create the checkpoint if it does not exist; alone it gives no access to data.
    public static let create = OpenFlags(rawValue: 4)

    /// At least one flag and no unknown bit.
    public var isValid: Bool { rawValue != 0 && rawValue & ~7 == 0 }
}

/// The attributes a checkpoint is created with. Source: SaCkptCheckpointCreationAttributesT.
///
/// flags u32 · sectionsMax u32 · checkpointSize u64 · retentionDuration i64 · sectionSizeMax u64 · sectionIDSizeMax
/// u64.
public struct CreationAttributes: Hashable, Sendable {
    public var flags: CreationFlags
    /// Bytes in all sections together; at most `sectionsMax` × `sectionSizeMax`. Enforced.
    public var checkpointSize: UInt64
    /// Nanoseconds a checkpoint outlives its last close: 0 = not at all, `SaTime.saTimeEnd` = for ever.
    public var retentionDuration: SaTime
    /// 1 means: the default section exists from the start and is the only one.
    public var sectionsMax: UInt32
    public var sectionSizeMax: UInt64
    public var sectionIDSizeMax: UInt64

    public init(
        flags: CreationFlags = .writeAllReplicas, checkpointSize: UInt64, retentionDuration: SaTime = 0,
        sectionsMax: UInt32 = 1, sectionSizeMax: UInt64, sectionIDSizeMax: UInt64 = 64
    ) {
        self.flags = flags
        self.checkpointSize = checkpointSize
        self.retentionDuration = retentionDuration
        self.sectionsMax = sectionsMax
        self.sectionSizeMax = sectionSizeMax
        self.sectionIDSizeMax = sectionIDSizeMax
    }

    /// One piece of state of at most `size` bytes in the default section, updated in every replica before a write
    /// returns. `retained`: nanoseconds it outlives its last close.
    public static func singleSection(of size: UInt64, retained: SaTime = 0) -> CreationAttributes {
        CreationAttributes(checkpointSize: size, retentionDuration: retained, sectionSizeMax: size)
    }

    /// The single section is the default section, which exists from the start.
    public var hasDefaultSection: Bool { sectionsMax == 1 }

    /// Equal but for the retention duration, which may have been changed since and is not compared by an open.
    public func isCompatible(with other: CreationAttributes) -> Bool {
        var copy = other
        copy.retentionDuration = retentionDuration
        return self == copy
    }
}

extension CreationAttributes: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(flags.rawValue)
        writer.integer(sectionsMax)
        writer.integer(checkpointSize)
        writer.integer(retentionDuration)
        writer.integer(sectionSizeMax)
        writer.integer(sectionIDSizeMax)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        flags = CreationFlags(rawValue: try reader.integer())
        sectionsMax = try reader.integer()
        checkpointSize = try reader.integer()
        retentionDuration = try reader.integer()
        sectionSizeMax = try reader.integer()
        sectionIDSizeMax = try reader.integer()
    }
}

/// One checkpoint of this node for as long as its data lives; a name that is unlinked and created anew gets another.
public struct CheckpointID: Hashable, Comparable, Sendable, RawRepresentable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: CheckpointID, right: CheckpointID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { String(rawValue, radix: 16) }
}

/// One successful open; never used again after its close.
public struct HandleID: Hashable, Comparable, Sendable, RawRepresentable, CustomStringConvertible {
    public let rawValue: UInt64
    public init(rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: HandleID, right: HandleID) -> Bool { left.rawValue < right.rawValue }
    public var description: String { String(rawValue, radix: 16) }
}

/// A client process's session with this node's daemons; survives reconnects, never two processes.
public struct ClientSession: Hashable, Comparable, Sendable {
    public let high: UInt64
    public let low: UInt64
    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }
    public static func < (left: ClientSession, right: ClientSession) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }
}

/// A section's name within its checkpoint: bytes, compared with their length. Empty means the default section, or, when
/// a section is created, "choose one for me".
public struct SectionID: Hashable, Comparable, Sendable {
    public static let sizeMax = Int(UInt16.max)
    public static let defaultSection = SectionID([])

    public let bytes: [UInt8]

    /// Longer ids than ``sizeMax`` do not exist in AIS (idLen is 16 bits wide); they are cut by no one: see `isValid`.
    public init(_ bytes: [UInt8]) { self.bytes = bytes }
    public init(_ text: String) { bytes = Array(text.utf8) }

    public var isDefault: Bool { bytes.isEmpty }
    public var isValid: Bool { bytes.count <= Self.sizeMax }

    public static func < (left: SectionID, right: SectionID) -> Bool {
        left.bytes.lexicographicallyPrecedes(right.bytes)
    }

    /// The id the service gives a section that is created without one: unique, as the change number is. Text where the
    /// checkpoint allows ids of that size, else the numbers in as few bytes as they take; nil when it allows too few.
    public static func generated(change: UInt64, item: Int, sizeMax: UInt64) -> SectionID? {
        let text = SectionID("generated-\(change)" + (item == 0 ? "" : ".\(item)"))
        if UInt64(text.bytes.count) <= sizeMax { return text }
        var bytes: [UInt8] = []
        for number in item == 0 ? [change] : [change, UInt64(item)] {
            var rest = number
            while rest > 127 {
                bytes.append(UInt8(rest & 127) | 128)
                rest >>= 7
            }
            bytes.append(UInt8(rest))
        }
        return UInt64(bytes.count) <= sizeMax ? SectionID(bytes) : nil
    }
}

extension SectionID: ExpressibleByStringLiteral, CustomStringConvertible {
    public init(stringLiteral value: String) { self.init(value) }
    /// For people: text where the id is text, otherwise hexadecimal.
    public var description: String {
        guard let text = String(validating: bytes, as: UTF8.self),
            !text.unicodeScalars.contains(where: { $0.value < 32 })
        else { return "0x" + bytes.map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined() }
        return text
    }
}

/// length u16 · bytes.
extension SectionID: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(UInt16(truncatingIfNeeded: bytes.count))
        writer.raw(bytes)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        bytes = try reader.raw(Int(try reader.integer(UInt16.self)))
    }
}

/// SaCkptSectionStateT.
public enum SectionState: UInt8, Hashable, Sendable, CaseIterable {
    case valid = 1, corrupted
}

/// Which sections an iteration returns. Source: SaCkptSectionsChosenT.
public enum SectionsChosen: UInt8, Hashable, Sendable, CaseIterable {
    case forever = 1, expiringAtOrBefore, expiringAtOrAfter, corrupted, any

    /// `time` counts only for the two middle cases.
    public func includes(expiration: SaTime, state: SectionState, time: SaTime) -> Bool {
        switch self {
        case .forever: expiration == .saTimeEnd
        case .expiringAtOrBefore: expiration <= time
        case .expiringAtOrAfter: expiration >= time
        case .corrupted: state == .corrupted
        case .any: true
        }
    }
}

/// Source: SaCkptSectionDescriptorT. id · expiration i64 · size u64 · state u8 · lastUpdate i64 · serial u64.
public struct SectionDescriptor: Hashable, Sendable {
    public var id: SectionID
    /// Absolute, nanoseconds since 1970 UTC; `SaTime.saTimeEnd` = never.
    public var expiration: SaTime
    public var size: UInt64
    public var state: SectionState
    public var lastUpdate: SaTime
    /// Grows with each section created in this checkpoint; the order and the cursor of an iteration.
    public var serial: UInt64

    public init(
        id: SectionID, expiration: SaTime, size: UInt64, state: SectionState, lastUpdate: SaTime, serial: UInt64
    ) {
        self.id = id
        self.expiration = expiration
        self.size = size
        self.state = state
        self.lastUpdate = lastUpdate
        self.serial = serial
    }
}

extension SectionDescriptor: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(id)
        writer.integer(expiration)
        writer.integer(size)
        writer.integer(state.rawValue)
        writer.integer(lastUpdate)
        writer.integer(serial)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = try reader.value()
        expiration = try reader.integer()
        size = try reader.integer()
        state = try SectionState.decode(from: &reader)
        lastUpdate = try reader.integer()
        serial = try reader.integer()
    }
}

/// Source: SaCkptCheckpointDescriptorT, with the change number. attributes · sections u32 · memoryUsed u64 · change
/// u64.
public struct CheckpointDescriptor: Hashable, Sendable {
    /// With the retention duration in force now.
    public var attributes: CreationAttributes
    public var sectionCount: UInt32
    /// Bytes of data in all sections.
    public var memoryUsed: UInt64
    /// Number of the last update.
    public var change: UInt64

    public init(attributes: CreationAttributes, sectionCount: UInt32, memoryUsed: UInt64, change: UInt64) {
        self.attributes = attributes
        self.sectionCount = sectionCount
        self.memoryUsed = memoryUsed
        self.change = change
    }
}

extension CheckpointDescriptor: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(attributes)
        writer.integer(sectionCount)
        writer.integer(memoryUsed)
        writer.integer(change)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        attributes = try reader.value()
        sectionCount = try reader.integer()
        memoryUsed = try reader.integer()
        change = try reader.integer()
    }
}
