import CkptProtocol
import Containers
import EngineKit
public import SAFTypes

/// checkpoint u64 · epoch u64 · version.
extension ReplicaReport: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(id.rawValue)
        writer.integer(epoch)
        writer.value(version)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = CheckpointID(rawValue: try reader.integer())
        epoch = try reader.integer()
        version = try reader.value()
    }
}

/// checkpoint u64 · handle u64.
extension OpenedHandle: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(checkpoint.rawValue)
        writer.integer(handle.rawValue)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        checkpoint = CheckpointID(rawValue: try reader.integer())
        handle = HandleID(rawValue: try reader.integer())
    }
}

/// node u32 · incarnation u64.
extension NodeLife: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(incarnation)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        incarnation = try reader.integer()
    }
}

/// checkpoint u64 · name · attributes · version · retention i64 · (left i64) · unlinked u8 · active u8 · handles.
extension HeldReplica: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(id.rawValue)
        writer.value(name)
        writer.value(attributes)
        writer.value(version)
        writer.integer(retention)
        writer.integer(retentionLeft ?? -1)
        writer.bool(isUnlinked)
        writer.bool(isActive)
        writer.integer(UInt32(openers.count))
        for handle in openers { writer.integer(handle.rawValue) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = CheckpointID(rawValue: try reader.integer())
        name = try reader.value()
        attributes = try reader.value()
        version = try reader.value()
        retention = try reader.integer()
        let left = try reader.integer(SaTime.self)
        retentionLeft = left < 0 ? nil : left
        isUnlinked = try reader.bool()
        isActive = try reader.bool()
        let count = Int(try reader.integer(UInt32.self))
        guard count <= Directory.openersMax else { throw .badValue("\(count) openers of one checkpoint") }
        openers = []
        for _ in 0..<count { openers.append(HandleID(rawValue: try reader.integer())) }
    }
}

/// node u32 · incarnation u64 · expected u32 · time u64 · lineage u64 · new lineage u64 · replicas · last u8.
extension NodeJoin: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(incarnation)
        writer.integer(nodesExpected)
        writer.integer(time)
        writer.integer(lineage)
        writer.integer(newLineage)
        writer.list(held)
        writer.bool(isLast)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        incarnation = try reader.integer()
        nodesExpected = try reader.integer()
        time = try reader.integer()
        lineage = try reader.integer()
        newLineage = try reader.integer()
        held = try reader.list()
        isLast = try reader.bool()
    }
}

/// session 2 × u64 · number u64.
enum IdentityWire {
    static func encode(_ identity: RequestIdentity, to writer: inout ByteWriter) {
        writer.integer(identity.session.high)
        writer.integer(identity.session.low)
        writer.integer(identity.number)
    }

    static func decode(_ reader: inout ByteReader) throws(DecodeError) -> RequestIdentity {
        let session = ClientSession(high: try reader.integer(), low: try reader.integer())
        return RequestIdentity(session: session, number: try reader.integer())
    }
}

/// kind u8, then the fields in the order of the case; what was seen from version 3 on.
extension DirectoryEvent: WireCodable {
    private enum Kind: UInt8 {
        case joined = 1, left, open, close, unlink, setRetention, setActive, current, silent, failed, report, handOver
        case retentionOver, forgotten, recoveryOver, rememberedOfVersion2, salvageOver, remembered, find
    }

    public func encode(to writer: inout ByteWriter) { encode(version: Directory.versions.upperBound, to: &writer) }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        try self.init(decoding: &reader, version: Directory.versions.upperBound)
    }

    public func encode(version: UInt16, to writer: inout ByteWriter) {
        let saysSeen = version >= 3
        func begin(_ kind: Kind, _ id: CheckpointID? = nil) {
            writer.integer(kind.rawValue)
            if let id { writer.integer(id.rawValue) }
        }
        func number(_ seen: (some FixedWidthInteger)?) {
            writer.bool(seen != nil)
            if let seen { writer.integer(seen) }
        }
        switch self {
        case .joined(let join):
            begin(.joined)
            writer.value(join)
        case .left(let lives):
            begin(.left)
            writer.list(lives)
        case .open(let name, let handle, let node, let id, let attributes):
            begin(.open, id)
            writer.value(name)
            writer.integer(handle.rawValue)
            writer.value(node)
            writer.optional(attributes)
        case .close(let handles):
            begin(.close)
            writer.list(handles)
        case .unlink(let name, let seen, let identity):
            begin(.unlink)
            writer.value(name)
            IdentityWire.encode(identity, to: &writer)
            if saysSeen { number(seen?.rawValue) }
        case .setRetention(let id, let duration, let seen):
            begin(.setRetention, id)
            writer.integer(duration)
            if saysSeen { number(seen) }
        case .setActive(let id, let node, let seen):
            begin(.setActive, id)
            writer.value(node)
            if saysSeen { writer.optional(seen) }
        case .current(let id, let node, let epoch):
            begin(.current, id)
            writer.value(node)
            writer.integer(epoch)
        case .silent(let id, let node, let epoch):
            begin(.silent, id)
            writer.value(node)
            writer.integer(epoch)
        case .failed(let id, let node):
            begin(.failed, id)
            writer.value(node)
        case .report(let node, let reports):
            begin(.report)
            writer.value(node)
            writer.list(reports)
        case .handOver(let id, let epoch, let node):
            begin(.handOver, id)
            writer.integer(epoch)
            writer.value(node)
        case .retentionOver(let id): begin(.retentionOver, id)
        case .forgotten(let node):
            begin(.forgotten)
            writer.value(node)
        case .recoveryOver: begin(.recoveryOver)
        case .remembered(let part):
            begin(version < 3 ? .rememberedOfVersion2 : .remembered)
            part.encode(to: &writer, version: version)
        case .salvageOver(let id): begin(.salvageOver, id ?? CheckpointID(rawValue: 0))
        case .find(let name):
            guard saysSeen else { return DirectoryEvent.close([]).encode(version: version, to: &writer) }
            begin(.find)
            writer.value(name)
        }
    }

    public init(decoding reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        let saysSeen = version >= 3
        func id() throws(DecodeError) -> CheckpointID { CheckpointID(rawValue: try reader.integer()) }
        let kind = try Kind.decode(from: &reader)
        switch kind {
        case .joined: self = .joined(try reader.value())
        case .left: self = .left(try reader.list())
        case .open:
            let id = try id()
            let name = try reader.value(SaName.self)
            let handle = HandleID(rawValue: try reader.integer())
            self = .open(name, handle: handle, on: try reader.value(), id: id, attributes: try reader.optional())
        case .close: self = .close(try reader.list())
        case .unlink:
            let name = try reader.value(SaName.self)
            let identity = try IdentityWire.decode(&reader)
            let isSeen = saysSeen ? try reader.bool() : false
            self = .unlink(name, seen: isSeen ? try id() : nil, by: identity)
        case .setRetention:
            let (id, duration): (CheckpointID, SaTime) = (try id(), try reader.integer())
            let isSeen = saysSeen ? try reader.bool() : false
            self = .setRetention(id, duration, seen: isSeen ? try reader.integer() : nil)
        case .setActive:
            self = .setActive(try id(), try reader.value(), seen: saysSeen ? try reader.optional() : nil)
        case .current: self = .current(try id(), try reader.value(), epoch: try reader.integer())
        case .silent: self = .silent(try id(), try reader.value(), epoch: try reader.integer())
        case .failed: self = .failed(try id(), try reader.value())
        case .report: self = .report(try reader.value(), try reader.list())
        case .handOver: self = .handOver(try id(), epoch: try reader.integer(), to: try reader.value())
        case .retentionOver: self = .retentionOver(try id())
        case .forgotten: self = .forgotten(try reader.value())
        case .recoveryOver: self = .recoveryOver
        case .rememberedOfVersion2: self = .remembered(try DirectoryMemory(decoding: &reader, version: 2))
        case .remembered: self = .remembered(try DirectoryMemory(decoding: &reader, version: 3))
        case .salvageOver:
            let chosen = try id()
            self = .salvageOver(chosen.rawValue == 0 ? nil : chosen)
        case .find:
            guard saysSeen else { throw .badValue("kind 19 in version \(version); 3 expected") }
            self = .find(try reader.value())
        }
    }
}

/// epoch u64 · (successor).
extension SeenActivity: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(epoch)
        writer.optional(successor)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        self.init(epoch: try reader.integer(), successor: try reader.optional())
    }
}
