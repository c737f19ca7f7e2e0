import SAFTypes

/// ckptd → client: an open succeeded. checkpoint u64 · handle u64 · created u8.
public struct OpenReply: Hashable, Sendable, WireCodable {
    public var checkpoint: CheckpointID
    public var handle: HandleID
    /// The checkpoint did not exist before.
    public var isCreated: Bool

    public init(checkpoint: CheckpointID, handle: HandleID, isCreated: Bool) {
        self.checkpoint = checkpoint
        self.handle = handle
        self.isCreated = isCreated
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(checkpoint.rawValue)
        writer.integer(handle.rawValue)
        writer.bool(isCreated)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        checkpoint = CheckpointID(rawValue: try reader.integer())
        handle = HandleID(rawValue: try reader.integer())
        isCreated = try reader.bool()
    }
}

/// ckptd → client: what may be mapped of this node's replica. flags u32 · owner u32 · direct generation u64; with
/// descriptors, in this order: the replica's file and the lease page (both cannot be written), the direct file.
public struct MapReply: Hashable, Sendable, WireCodable {
    /// There is a replica here: its file and the lease page came along.
    public var hasReplica: Bool
    /// The direct file came along.
    public var hasDirect: Bool
    /// Who the opener is in the locks of the direct file.
    public var owner: UInt32
    public var directGeneration: UInt64

    public init(hasReplica: Bool, hasDirect: Bool = false, owner: UInt32 = 0, directGeneration: UInt64 = 0) {
        self.hasReplica = hasReplica
        self.hasDirect = hasDirect
        self.owner = owner
        self.directGeneration = directGeneration
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(UInt32((hasReplica ? 1 : 0) | (hasDirect ? 2 : 0)))
        writer.integer(owner)
        writer.integer(directGeneration)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let flags = try reader.integer(UInt32.self)
        guard flags & ~3 == 0 else { throw .badValue("flags \(flags)") }
        (hasReplica, hasDirect) = (flags & 1 != 0, flags & 2 != 0)
        owner = try reader.integer()
        directGeneration = try reader.integer()
    }
}

/// ckptd → client: an update was committed. change u64 · count u32 · generated ids.
public struct UpdateReply: Hashable, Sendable, WireCodable {
    /// The update's number; subscribers see the same.
    public var change: UInt64
    /// The ids given to the sections that were created without one, in order.
    public var generated: [SectionID]

    public init(change: UInt64, generated: [SectionID] = []) {
        self.change = change
        self.generated = generated
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(change)
        writer.list(generated)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        change = try reader.integer()
        generated = try reader.list(max: CkptProtocolLimits.operationsMax)
    }
}

/// ckptd → client: the data of a read. change u64 · count u32 · (length u32 · bytes)…, in the order asked.
public struct ReadReply: Hashable, Sendable, WireCodable {
    /// All parts are as they were after this update.
    public var change: UInt64
    public var parts: [[UInt8]]

    public init(change: UInt64, parts: [[UInt8]]) {
        self.change = change
        self.parts = parts
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(change)
        writer.integer(UInt32(parts.count))
        for part in parts { writer.byteString(part) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        var parts: [[UInt8]] = []
        change = try Self.visit(&reader) { _, part in parts.append(Array(part)) }
        self.parts = parts
    }

    /// Goes through the parts of an answer where they lie, in order; returns the change.
    public static func visit(
        _ reader: inout ByteReader, _ body: (Int, UnsafeRawBufferPointer) -> Void
    ) throws(DecodeError) -> UInt64 {
        let change = try reader.integer(UInt64.self)
        let count = Int(try reader.integer(UInt32.self))
        guard count <= CkptProtocolLimits.operationsMax else { throw .badValue("\(count) parts; fewer expected") }
        for index in 0..<count { body(index, try reader.byteStringView()) }
        return change
    }
}

/// ckptd → client: a page of sections. more u8 · count u32 · descriptors.
public struct ListReply: Hashable, Sendable, WireCodable {
    /// Ask again with the last serial.
    public var hasMore: Bool
    public var sections: [SectionDescriptor]

    public init(hasMore: Bool, sections: [SectionDescriptor]) {
        self.hasMore = hasMore
        self.sections = sections
    }

    public func encode(to writer: inout ByteWriter) {
        writer.bool(hasMore)
        writer.list(sections)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        hasMore = try reader.bool()
        sections = try reader.list()
    }
}

/// A section with its data, as in a snapshot. descriptor · data (u32 length · bytes).
public struct SectionContent: Hashable, Sendable, WireCodable {
    public var descriptor: SectionDescriptor
    /// Empty when the section is corrupted; cut short where the request said so.
    public var data: [UInt8]

    public init(descriptor: SectionDescriptor, data: [UInt8]) {
        self.descriptor = descriptor
        self.data = data
    }

    public var id: SectionID { descriptor.id }

    public func encode(to writer: inout ByteWriter) {
        writer.value(descriptor)
        writer.byteString(data)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        descriptor = try reader.value()
        data = try reader.byteString()
    }
}

/// ckptd → client: all sections at one change number. change u64 · count u32 · contents.
public struct SnapshotReply: Hashable, Sendable, WireCodable {
    /// What an answer says before its sections: their change, and how many follow.
    public static func head(_ reader: inout ByteReader) throws(DecodeError) -> (change: UInt64, count: Int) {
        (try reader.integer(), Int(try reader.integer(UInt32.self)))
    }

    /// One of them, its data where it lies.
    @inline(never)
    public static func section(
        _ reader: inout ByteReader
    ) throws(DecodeError) -> (SectionDescriptor, UnsafeRawBufferPointer) {
        (try reader.value(), try reader.byteStringView())
    }

    public var change: UInt64
    public var sections: [SectionContent]

    public init(change: UInt64, sections: [SectionContent]) {
        self.change = change
        self.sections = sections
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(change)
        writer.list(sections)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        change = try reader.integer()
        sections = try reader.list()
    }
}

/// ckptd → client: how a subscription starts. kind u8: 1 = resumed · change u64; 2 = snapshot · body of it.
public enum SubscribeReply: Hashable, Sendable, WireCodable {
    /// Every update after this one follows as a push.
    case resumed(after: UInt64)
    /// What was asked for is too old, or nothing was: start from here; updates after it follow as pushes.
    case snapshot(SnapshotReply)

    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .resumed(let change):
            writer.integer(UInt8(1))
            writer.integer(change)
        case .snapshot(let snapshot):
            writer.integer(UInt8(2))
            writer.value(snapshot)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        switch try reader.integer(UInt8.self) {
        case 1: self = .resumed(after: try reader.integer())
        case 2: self = .snapshot(try reader.value())
        case let kind: throw .badValue("kind \(kind) of a subscription's start; 1 or 2 expected")
        }
    }
}

/// A request, and its answer, without a body: this session will not be heard of again. Everything it has open is closed
/// when it is answered, and what is being opened when it hangs up.
public enum FarewellRequest {
    /// The frame's code.
    public static let code: UInt16 = 21
}

/// What a client tells without being answered.
public enum CkptWord {
    /// No body. As ``FarewellRequest``, when it hangs up.
    public static let farewell: UInt16 = 96
    /// handle u64. Direct sections of the checkpoint were written since ckptd has said that it sleeps.
    public static let written: UInt16 = 97
}

/// ckptd → subscriber. Codes are the frame's.
public enum CkptPush {
    /// handle u64 · change u64 · time i64 · count u32 · operations.
    public static let update: UInt16 = 64
    /// handle u64. The subscriber was too slow and the log no longer has what it missed: subscribe anew.
    public static let overrun: UInt16 = 65
    /// handle u64 · ``ReplicaSet``. Where the replicas are is another than was told last; what lay between may be left
    /// out.
    public static let replicas: UInt16 = 66
}

/// One committed update, as told to subscribers. The operations' data lies in the body it was decoded from.
public struct UpdatePush: Hashable, Sendable {
    public var handle: HandleID
    public var change: UInt64
    /// When it was committed, nanoseconds since 1970 UTC.
    public var time: SaTime
    public var operations: [SectionOperation]

    public init(decoding body: UnsafeRawBufferPointer) throws(DecodeError) {
        var reader = ByteReader(body)
        handle = HandleID(rawValue: try reader.integer())
        change = try reader.integer()
        time = try reader.integer()
        operations = try SectionOperation.decodeList(&reader, max: .max, stepsOnly: true)
        try reader.finish()
    }

    /// What precedes the operations.
    public static func encodeHead(
        handle: HandleID, change: UInt64, time: SaTime, count: Int, to writer: inout ByteWriter
    ) {
        writer.integer(handle.rawValue)
        writer.integer(change)
        writer.integer(time)
        writer.integer(UInt32(count))
    }
}

/// For people who look after the service: one checkpoint. See ``AdminListReply``.
public struct CheckpointSummary: Hashable, Sendable, WireCodable {
    public struct Opener: Hashable, Sendable, WireCodable {
        public var handle: HandleID
        public var processID: UInt32
        public var flags: OpenFlags
        /// False while a process that had the checkpoint open before ckptd's restart has not come back.
        public var isConnected: Bool

        public init(handle: HandleID, processID: UInt32, flags: OpenFlags, isConnected: Bool) {
            self.handle = handle
            self.processID = processID
            self.flags = flags
            self.isConnected = isConnected
        }

        /// handle u64 · pid u32 · flags u32 · connected u8.
        public func encode(to writer: inout ByteWriter) {
            writer.integer(handle.rawValue)
            writer.integer(processID)
            writer.integer(flags.rawValue)
            writer.bool(isConnected)
        }

        public init(decoding reader: inout ByteReader) throws(DecodeError) {
            handle = HandleID(rawValue: try reader.integer())
            processID = try reader.integer()
            flags = OpenFlags(rawValue: try reader.integer())
            isConnected = try reader.bool()
        }
    }

    public var checkpoint: CheckpointID
    public var name: SaName
    public var descriptor: CheckpointDescriptor
    public var isUnlinked: Bool
    public var hasActiveReplica: Bool
    public var subscriberCount: UInt32
    /// Nanoseconds until the checkpoint is deleted for want of an opener; `SaTime.saTimeEnd` when none runs.
    public var retentionLeft: SaTime
    public var openers: [Opener]

    public init(
        checkpoint: CheckpointID, name: SaName, descriptor: CheckpointDescriptor, isUnlinked: Bool,
        hasActiveReplica: Bool,
        subscriberCount: UInt32, retentionLeft: SaTime, openers: [Opener]
    ) {
        self.checkpoint = checkpoint
        self.name = name
        self.descriptor = descriptor
        self.isUnlinked = isUnlinked
        self.hasActiveReplica = hasActiveReplica
        self.subscriberCount = subscriberCount
        self.retentionLeft = retentionLeft
        self.openers = openers
    }

    /// checkpoint u64 · name · descriptor · unlinked u8 · active u8 · subscribers u32 · retentionLeft i64 · openers.
    public func encode(to writer: inout ByteWriter) {
        writer.integer(checkpoint.rawValue)
        writer.value(name)
        writer.value(descriptor)
        writer.bool(isUnlinked)
        writer.bool(hasActiveReplica)
        writer.integer(subscriberCount)
        writer.integer(retentionLeft)
        writer.list(openers)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        checkpoint = CheckpointID(rawValue: try reader.integer())
        name = try reader.value()
        descriptor = try reader.value()
        isUnlinked = try reader.bool()
        hasActiveReplica = try reader.bool()
        subscriberCount = try reader.integer()
        retentionLeft = try reader.integer()
        openers = try reader.list()
    }
}

/// A page of checkpoints in the order of their ids. more u8 · count u32 · summaries.
public struct AdminListReply: Hashable, Sendable, WireCodable {
    /// Ask again with the last checkpoint's id.
    public var hasMore: Bool
    public var checkpoints: [CheckpointSummary]

    public init(hasMore: Bool, checkpoints: [CheckpointSummary]) {
        self.hasMore = hasMore
        self.checkpoints = checkpoints
    }

    public func encode(to writer: inout ByteWriter) {
        writer.bool(hasMore)
        writer.list(checkpoints)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        hasMore = try reader.bool()
        checkpoints = try reader.list()
    }
}

/// A page of one checkpoint's sections with (the beginning of) their data. more u8 · summary · change u64 · sections.
public struct AdminSectionsReply: Hashable, Sendable, WireCodable {
    public var hasMore: Bool
    public var summary: CheckpointSummary
    public var snapshot: SnapshotReply

    public init(hasMore: Bool, summary: CheckpointSummary, snapshot: SnapshotReply) {
        self.hasMore = hasMore
        self.summary = summary
        self.snapshot = snapshot
    }

    public func encode(to writer: inout ByteWriter) {
        writer.bool(hasMore)
        writer.value(summary)
        writer.value(snapshot)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        hasMore = try reader.bool()
        summary = try reader.value()
        snapshot = try reader.value()
    }
}
