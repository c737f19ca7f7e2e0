import SAFTypes

/// The frame codes of the checkpoint service. Requests carry the body of ``CkptRequest``, pushes that of ``CkptPush``.
public enum CkptCode: UInt16, Hashable, Sendable, CaseIterable {
    case open = 1, close, unlink, setRetention, setActiveReplica, synchronize
    case status, update, read, list, snapshot, subscribe, unsubscribe, resume, updateIf
    case watchReplicas = 17, section, exists
    case map = 20
    case adminList = 32, adminSections

    /// Set in a frame's code besides one of these: on a node that is not a member of the cluster the request is
    /// refused with UNAVAILABLE, and at once; without it, it waits for as long as the caller does.
    public static let strictBit: UInt16 = 0x8000

    /// Changes something, so it must not be executed twice.
    public var isMutating: Bool {
        switch self {
        case .open, .close, .unlink, .setRetention, .setActiveReplica, .update, .updateIf: true
        case .synchronize, .status, .read, .list, .snapshot, .subscribe, .unsubscribe, .resume, .exists, .section,
            .watchReplicas, .map, .adminList, .adminSections:
            false
        }
    }

    /// Whether a node that is no member answers it all the same.
    public var isForAnyNode: Bool {
        switch self {
        case .close, .unsubscribe, .resume, .adminList, .adminSections: true
        case .open, .unlink, .setRetention, .setActiveReplica, .synchronize, .status, .update, .updateIf, .read, .list,
            .snapshot, .subscribe, .exists, .section, .watchReplicas, .map:
            false
        }
    }
}

/// Limits of the protocol itself; those of the service are in CkptLimits.
public enum CkptProtocolLimits {
    /// Operations of one update, sections of one read.
    public static let operationsMax = 65_536
    /// What a request carries, all of it.
    public static let requestBytesMax = 64 << 20
    /// Executed requests that ckptd remembers of an open.
    public static let executedMax = 28
    /// Descriptors in one page of a listing.
    public static let pageMax: UInt32 = 4_096
    /// Bytes of data in one answer; more has to be read in parts.
    public static let answerBytesMax: UInt64 = 56 << 20
}

/// One part of a read. id · offset u64 · count u64.
public struct ReadRange: Hashable, Sendable, WireCodable {
    /// Counts from here on mean: to the end of the section. Others are at most what the checkpoint allows a section.
    public static let toTheEnd = UInt64(Int64.max)

    public var id: SectionID
    public var offset: UInt64
    public var count: UInt64

    public init(id: SectionID, offset: UInt64 = 0, count: UInt64 = .max) {
        self.id = id
        self.offset = offset
        self.count = count
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(id)
        writer.integer(offset)
        writer.integer(count)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = try reader.value()
        offset = try reader.integer()
        count = try reader.integer()
    }
}

/// Client → ckptd. Layouts beside each case; integers are little-endian; unknown values are refused.
public enum CkptRequest: Hashable, Sendable {
    /// flags u32 · name · present u8 · attributes.
    case open(SaName, flags: OpenFlags, attributes: CreationAttributes?)
    /// handle u64.
    case close(HandleID)
    /// name.
    case unlink(SaName)
    /// handle u64 · duration i64.
    case setRetention(HandleID, SaTime)
    /// handle u64.
    case setActiveReplica(HandleID)
    /// handle u64.
    case synchronize(HandleID)
    /// handle u64.
    case status(HandleID)
    /// handle u64 · count u32 · operations. All or nothing.
    case update(HandleID, [SectionOperation])
    /// change u64 · as update. Nothing, when the checkpoint's change number is another: somebody else has written.
    case updateIf(change: UInt64, HandleID, [SectionOperation])
    /// handle u64 · count u32 · ranges. One consistent view of all of them.
    case read(HandleID, [ReadRange])
    /// handle u64 · after u64 (serial) · limit u32 · chosen u8 · time i64.
    case list(HandleID, after: UInt64, limit: UInt32, chosen: SectionsChosen, time: SaTime)
    /// handle u64. All sections with their data at one change number.
    case snapshot(HandleID)
    /// handle u64 · present u8 · last change seen u64.
    case subscribe(HandleID, after: UInt64?)
    /// handle u64.
    case unsubscribe(HandleID)
    /// handle u64. After a reconnect: is this handle still open?
    case resume(HandleID)
    /// name. Is there such a checkpoint, and with which attributes? Opens nothing.
    case exists(SaName)
    /// handle u64 · id. One section without its data; NOT_EXIST tells that there is none.
    case section(HandleID, SectionID)
    /// handle u64. Where the replicas are; each change follows as a push, until the handle is closed.
    case watchReplicas(HandleID)
    /// handle u64. The replica of this node, to be read without asking: ``MapReply``.
    case map(HandleID)
    /// after u64 (checkpoint) · limit u32.
    case adminList(after: CheckpointID, limit: UInt32)
    /// name · after u64 (serial) · limit u32 · bytes of data per section u32.
    case adminSections(SaName, after: UInt64, limit: UInt32, dataMax: UInt32)

    public var code: CkptCode {
        switch self {
        case .open: .open
        case .close: .close
        case .unlink: .unlink
        case .setRetention: .setRetention
        case .setActiveReplica: .setActiveReplica
        case .synchronize: .synchronize
        case .status: .status
        case .update: .update
        case .updateIf: .updateIf
        case .read: .read
        case .list: .list
        case .snapshot: .snapshot
        case .subscribe: .subscribe
        case .unsubscribe: .unsubscribe
        case .resume: .resume
        case .exists: .exists
        case .section: .section
        case .watchReplicas: .watchReplicas
        case .map: .map
        case .adminList: .adminList
        case .adminSections: .adminSections
        }
    }
}

extension CkptRequest {
    /// Body without the code. The operations of an update refer to data in `payload`.
    public func encode(to writer: inout ByteWriter, payload: [UInt8] = []) {
        switch self {
        case .open(let name, let flags, let attributes):
            writer.integer(flags.rawValue)
            writer.value(name)
            writer.optional(attributes)
        case .close(let handle), .setActiveReplica(let handle), .synchronize(let handle), .status(let handle),
            .snapshot(let handle), .unsubscribe(let handle), .resume(let handle), .watchReplicas(let handle),
            .map(let handle):
            writer.integer(handle.rawValue)
        case .unlink(let name), .exists(let name): writer.value(name)
        case .section(let handle, let id):
            writer.integer(handle.rawValue)
            writer.value(id)
        case .setRetention(let handle, let duration):
            writer.integer(handle.rawValue)
            writer.integer(duration)
        case .update(let handle, let operations):
            Self.encode(handle, operations, payload, to: &writer)
        case .updateIf(let change, let handle, let operations):
            writer.integer(change)
            Self.encode(handle, operations, payload, to: &writer)
        case .read(let handle, let ranges):
            writer.integer(handle.rawValue)
            writer.list(ranges)
        case .list(let handle, let after, let limit, let chosen, let time):
            writer.integer(handle.rawValue)
            writer.integer(after)
            writer.integer(limit)
            writer.integer(chosen.rawValue)
            writer.integer(time)
        case .subscribe(let handle, let after):
            writer.integer(handle.rawValue)
            writer.bool(after != nil)
            if let after { writer.integer(after) }
        case .adminList(let after, let limit):
            writer.integer(after.rawValue)
            writer.integer(limit)
        case .adminSections(let name, let after, let limit, let dataMax):
            writer.value(name)
            writer.integer(after)
            writer.integer(limit)
            writer.integer(dataMax)
        }
    }

    private static func encode(
        _ handle: HandleID, _ operations: [SectionOperation], _ payload: [UInt8], to writer: inout ByteWriter
    ) {
        writer.integer(handle.rawValue)
        writer.integer(UInt32(operations.count))
        for item in operations {
            SectionOperation.encode(
                item.kind, id: item.id, offset: item.offset, expiration: item.expiration,
                data: Array(payload[item.data.offset..<(item.data.offset + item.data.count)]), to: &writer)
        }
    }

    /// Decodes a body that must be filled exactly; the data of an update stays where it is.
    public init(code: CkptCode, decoding body: UnsafeRawBufferPointer) throws(DecodeError) {
        var reader = ByteReader(body)
        self = try Self.decode(code, &reader)
        try reader.finish()
    }

    private static func decode(_ code: CkptCode, _ reader: inout ByteReader) throws(DecodeError) -> CkptRequest {
        switch code {
        case .open:
            let flags = OpenFlags(rawValue: try reader.integer())
            return .open(try reader.value(), flags: flags, attributes: try reader.optional())
        case .close: return .close(try handle(&reader))
        case .unlink: return .unlink(try reader.value())
        case .setRetention: return .setRetention(try handle(&reader), try reader.integer())
        case .setActiveReplica: return .setActiveReplica(try handle(&reader))
        case .synchronize: return .synchronize(try handle(&reader))
        case .status: return .status(try handle(&reader))
        case .update:
            let handle = try handle(&reader)
            return .update(handle, try SectionOperation.decodeList(&reader, max: CkptProtocolLimits.operationsMax))
        case .updateIf:
            let change = try reader.integer(UInt64.self)
            let handle = try handle(&reader)
            let operations = try SectionOperation.decodeList(&reader, max: CkptProtocolLimits.operationsMax)
            return .updateIf(change: change, handle, operations)
        case .read: return .read(try handle(&reader), try reader.list(max: CkptProtocolLimits.operationsMax))
        case .list:
            return .list(
                try handle(&reader), after: try reader.integer(), limit: try reader.integer(),
                chosen: try SectionsChosen.decode(from: &reader), time: try reader.integer())
        case .snapshot: return .snapshot(try handle(&reader))
        case .subscribe:
            let handle = try handle(&reader)
            return .subscribe(handle, after: try reader.bool() ? try reader.integer() : nil)
        case .unsubscribe: return .unsubscribe(try handle(&reader))
        case .resume: return .resume(try handle(&reader))
        case .exists: return .exists(try reader.value())
        case .section: return .section(try handle(&reader), try reader.value())
        case .watchReplicas: return .watchReplicas(try handle(&reader))
        case .map: return .map(try handle(&reader))
        case .adminList:
            return .adminList(after: CheckpointID(rawValue: try reader.integer()), limit: try reader.integer())
        case .adminSections:
            return .adminSections(
                try reader.value(), after: try reader.integer(), limit: try reader.integer(),
                dataMax: try reader.integer())
        }
    }

    private static func handle(_ reader: inout ByteReader) throws(DecodeError) -> HandleID {
        HandleID(rawValue: try reader.integer())
    }
}
