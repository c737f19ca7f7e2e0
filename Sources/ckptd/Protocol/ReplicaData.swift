public import SAFTypes

/// How far a replica's data goes. Replicas of equal version are equal; the later epoch, then the later change, is
/// newer.
public struct ReplicaVersion: Hashable, Comparable, Sendable {
    /// In which the last change was made.
    public var epoch: UInt64
    public var change: UInt64

    public init(epoch: UInt64, change: UInt64) {
        self.epoch = epoch
        self.change = change
    }

    public static let empty = ReplicaVersion(epoch: 0, change: 0)

    public static func < (left: ReplicaVersion, right: ReplicaVersion) -> Bool {
        (left.epoch, left.change) < (right.epoch, right.change)
    }
}

/// epoch u64 · change u64.
extension ReplicaVersion: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(epoch)
        writer.integer(change)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        epoch = try reader.integer()
        change = try reader.integer()
    }
}

/// Where the present epoch of a replica's data began, so that it can be told which other data it continues.
public struct EpochHistory: Hashable, Sendable {
    /// The last change before the epoch.
    public var start: UInt64
    /// The epoch of that change.
    public var previous: UInt64

    public init(start: UInt64 = 0, previous: UInt64 = 0) {
        self.start = start
        self.previous = previous
    }
}

/// start u64 · previous u64.
extension EpochHistory: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(start)
        writer.integer(previous)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        start = try reader.integer()
        previous = try reader.integer()
    }
}

/// What a node's replica holds.
public struct ReplicaData: Hashable, Sendable {
    public var version: ReplicaVersion
    public var history: EpochHistory
    /// A copy that was begun and is not complete: no data at all.
    public var isPartial: Bool

    public init(
        version: ReplicaVersion = .empty, history: EpochHistory = EpochHistory(), isPartial: Bool = false
    ) {
        self.version = version
        self.history = history
        self.isPartial = isPartial
    }
}

/// How far a copy has come: sections up to this serial are sent; of that one only so many bytes, if not 0.
public struct CopyCursor: Hashable, Sendable {
    public var serial: UInt64
    public var offset: Int

    public init(serial: UInt64 = 0, offset: Int = 0) {
        self.serial = serial
        self.offset = offset
    }
}
