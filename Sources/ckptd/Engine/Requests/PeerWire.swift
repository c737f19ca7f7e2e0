public import CkptProtocol
public import SAFTypes

/// What one ckptd says to another over a peer link; the frame's code.
public enum CkptPeerCode: UInt16, Hashable, Sendable, CaseIterable {
    /// One-way: a ``ReplicaMessage``, with data behind it where it has some.
    case replica = 1
    /// Request: a ``ForwardedHead``, and the body of a client's request behind it.
    case request = 2
    /// Request: checkpoint u64, 0 = all. Answer: ``ReplicaStanding``s.
    case standing = 3
    /// Request without a body. Answer: u64, the last command of the directory that was applied, and a promise: see
    /// ``ReadGrants``. Builds that promise nothing answer without a body.
    case touch = 4
    /// Version 2. Request: as ``request``, for a process that is active for something: what for stands before the
    /// client's body.
    case requestOfActive = 5
}

/// A client's request for the node of the active replica; the client's body follows.
///
/// checkpoint u64 · session 2 × u64 · number u64 · process u32 · start u64 · retransmission u8 · code u16; of a process
/// that is active for something also count u32 · what for (``AssignmentEpoch``), each 16.
public struct ForwardedHead: Hashable, Sendable {
    public var checkpoint: CheckpointID
    /// The client's own, as on its node.
    public var origin: RequestOrigin
    public var code: CkptCode

    public init(checkpoint: CheckpointID, origin: RequestOrigin, code: CkptCode) {
        self.checkpoint = checkpoint
        self.origin = origin
        self.code = code
    }

    /// The versions of what one ckptd says to another: 2 knows what processes are active for.
    public static let versions: ClosedRange<UInt8> = 1...2

    /// To a node of an earlier version nothing is said of what the process is active for.
    public func encode(version: UInt8, to writer: inout ByteWriter) -> CkptPeerCode {
        writer.integer(checkpoint.rawValue)
        writer.integer(origin.identity.session.high)
        writer.integer(origin.identity.session.low)
        writer.integer(origin.identity.number)
        writer.integer(origin.process.id)
        writer.integer(origin.process.start)
        writer.bool(origin.isRetransmission)
        writer.integer(code.rawValue)
        guard version >= 2, !origin.epochs.isEmpty else { return .request }
        writer.list(origin.epochs)
        return .requestOfActive
    }

    /// Leaves the client's body unread. Only what the active replica does is forwarded.
    ///
    /// - Parameter isOfActive: what the process is active for is in it.
    public init(decoding reader: inout ByteReader, isOfActive: Bool) throws(DecodeError) {
        checkpoint = CheckpointID(rawValue: try reader.integer())
        let session = ClientSession(high: try reader.integer(), low: try reader.integer())
        let identity = RequestIdentity(session: session, number: try reader.integer())
        let process = ProcessIdentity(id: try reader.integer(), start: try reader.integer())
        origin = RequestOrigin(identity: identity, process: process, isRetransmission: try reader.bool())
        code = try CkptCode.decode(from: &reader)
        guard code.isForActiveReplica else { throw .badValue("request \(code) is not for the active replica") }
        if isOfActive { origin.epochs = try reader.list() }
    }
}

extension CkptCode {
    /// It only looks, and tells what the data is like.
    public var isReading: Bool {
        switch self {
        case .status, .read, .list, .snapshot, .section, .adminSections: true
        case .open, .close, .unlink, .setRetention, .setActiveReplica, .subscribe, .unsubscribe, .resume, .exists,
            .watchReplicas, .map, .adminList, .synchronize, .update, .updateIf:
            false
        }
    }

    /// Done where the active replica is, whoever asks.
    public var isForActiveReplica: Bool {
        switch self {
        case .synchronize, .status, .update, .updateIf, .read, .list, .snapshot, .section, .adminSections: true
        case .open, .close, .unlink, .setRetention, .setActiveReplica, .subscribe, .unsubscribe, .resume, .exists,
            .watchReplicas, .map, .adminList:
            false
        }
    }
}

/// The answer to a forwarded request. kind u8: 1 · the client's answer; 2 · code u32 · text; 3.
public enum ForwardedAnswer {
    public enum Kind: UInt8, Sendable, CaseIterable {
        case reply = 1, refusal, elsewhere
    }

    /// The bytes are lent.
    case reply(UnsafeRawBufferPointer)
    case refused(AisError, String)
    /// The active replica is not here, or is no longer: ask the one that is.
    case elsewhere

    public static func refusal(_ code: AisError, _ text: String) -> [UInt8] {
        var writer = ByteWriter()
        writer.integer(Kind.refusal.rawValue)
        writer.integer(code.rawValue)
        writer.raw(Array(text.utf8))
        return writer.bytes
    }

    public init(lending bytes: UnsafeRawBufferPointer) throws(DecodeError) {
        var reader = ByteReader(bytes)
        switch try Kind.decode(from: &reader) {
        case .reply: self = .reply(UnsafeRawBufferPointer(rebasing: bytes[reader.offset...]))
        case .refusal:
            let code = AisError(rawValue: try reader.integer()) ?? .library
            self = .refused(code, String(decoding: try reader.view(reader.remaining), as: UTF8.self))
        case .elsewhere: self = .elsewhere
        }
    }
}

/// How far the replica of a checkpoint on one node is. checkpoint u64 · node u32 · version · flags u8.
public struct ReplicaStanding: Hashable, Sendable, WireCodable {
    public var checkpoint: CheckpointID
    public var node: NodeID
    public var version: ReplicaVersion
    /// A copy is under way: nothing of it counts yet.
    public var isPartial: Bool

    public init(checkpoint: CheckpointID, node: NodeID, version: ReplicaVersion, isPartial: Bool) {
        self.checkpoint = checkpoint
        self.node = node
        self.version = version
        self.isPartial = isPartial
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(checkpoint.rawValue)
        writer.value(node)
        writer.value(version)
        writer.bool(isPartial)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        checkpoint = CheckpointID(rawValue: try reader.integer())
        node = try reader.value()
        version = try reader.value()
        isPartial = try reader.bool()
    }
}
