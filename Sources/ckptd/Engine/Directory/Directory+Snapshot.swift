import CkptProtocol
import Containers
import EngineKit
public import SAFTypes

/// checkpoint u64 · name · attributes · retention i64 · flags u8 · (unlinker) · openers · replicas · epoch u64 ·
/// (active) · (reports) · (successor) · (former) · (deadline u64).
extension DirectoryEntry: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(id.rawValue)
        writer.value(name)
        writer.value(attributes)
        writer.integer(retention)
        writer.integer(UInt8((isUnlinked ? 1 : 0) | (isFound ? 2 : 0) | (isSalvaged ? 4 : 0)))
        writer.bool(unlinker != nil)
        if let unlinker { IdentityWire.encode(unlinker, to: &writer) }
        writer.integer(UInt32(openers.count))
        for (handle, node) in openers {
            writer.integer(handle.rawValue)
            writer.value(node)
        }
        writer.integer(UInt32(replicas.count))
        for (node, state) in replicas {
            writer.value(node)
            writer.integer(state.rawValue)
        }
        writer.integer(epoch)
        writer.optional(active)
        writer.bool(reports != nil)
        if let reports {
            writer.integer(UInt32(reports.count))
            for (node, version) in reports {
                writer.value(node)
                writer.value(version)
            }
        }
        writer.optional(successor)
        writer.optional(former)
        writer.bool(retentionDeadline != nil)
        if let retentionDeadline { writer.integer(retentionDeadline.nanoseconds) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = CheckpointID(rawValue: try reader.integer())
        name = try reader.value()
        attributes = try reader.value()
        retention = try reader.integer()
        let flags = try reader.integer(UInt8.self)
        (isUnlinked, isFound, isSalvaged) = (flags & 1 != 0, flags & 2 != 0, flags & 4 != 0)
        unlinker = try reader.bool() ? try IdentityWire.decode(&reader) : nil
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let handle = HandleID(rawValue: try reader.integer())
            openers[handle] = try reader.value(NodeID.self)
        }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let node = try reader.value(NodeID.self)
            replicas[node] = try ReplicaState.decode(from: &reader)
        }
        epoch = try reader.integer()
        active = try reader.optional()
        if try reader.bool() {
            var found: OrderedMap<NodeID, ReplicaVersion> = [:]
            for _ in 0..<(try reader.integer(UInt32.self)) {
                let node = try reader.value(NodeID.self)
                found[node] = try reader.value(ReplicaVersion.self)
            }
            reports = found
        }
        successor = try reader.optional()
        former = try reader.optional()
        retentionDeadline = try reader.bool() ? Instant(nanoseconds: try reader.integer()) : nil
    }
}

extension Directory {
    /// lineage u64 · floor u64 · recovering u8 · members (node · incarnation · complete · held) · away · entries ·
    /// memories (node · stamp · complete · checkpoints) · from version 2 on: highest epoch u64 · from version 3 on: of
    /// each entry where there are some, nodes that left with a replica (id u64 · nodes · (deadline u64)); buried;
    /// how often the retention duration was changed, where it was (id u64 · count i64).
    public func encode(to writer: inout ByteWriter, version: UInt16 = versions.upperBound) {
        writer.integer(lineage)
        writer.integer(epochFloor)
        writer.bool(isRecovering)
        writer.integer(UInt32(members.count))
        for (node, member) in members {
            writer.value(NodeLife(node: node, incarnation: member.incarnation))
            writer.bool(member.isComplete)
            writer.list(member.held)
        }
        writer.integer(UInt32(away.count))
        for (node, deadline) in away {
            writer.value(node)
            writer.integer(deadline.nanoseconds)
        }
        writer.list(entries.values)
        writer.integer(UInt32(memories.count))
        for (node, memory) in memories {
            writer.value(node)
            memory.encode(to: &writer, version: version)
        }
        if version >= 2 { writer.integer(highestEpoch) }
        guard version >= 3 else { return }
        let awaited = entries.filter { !$0.value.departed.isEmpty || $0.value.salvageDeadline != nil }
        writer.integer(UInt32(awaited.count))
        for (id, entry) in awaited {
            writer.integer(id.rawValue)
            writer.list(entry.departed)
            writer.bool(entry.salvageDeadline != nil)
            if let deadline = entry.salvageDeadline { writer.integer(deadline.nanoseconds) }
        }
        writer.value(buried)
        let changed = entries.filter { $0.value.retentionChanges != 0 }
        writer.integer(UInt32(changed.count))
        for (id, entry) in changed {
            writer.integer(id.rawValue)
            writer.integer(entry.retentionChanges)
        }
    }

    public init(decoding reader: inout ByteReader, version: UInt16 = versions.upperBound) throws(DecodeError) {
        lineage = try reader.integer()
        epochFloor = try reader.integer()
        isRecovering = try reader.bool()
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let life = try reader.value(NodeLife.self)
            let isComplete = try reader.bool()
            members[life.node] = Member(
                incarnation: life.incarnation, isComplete: isComplete, held: try reader.list())
        }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let node = try reader.value(NodeID.self)
            away[node] = Instant(nanoseconds: try reader.integer())
        }
        for entry in try reader.list(of: DirectoryEntry.self) {
            entries[entry.id] = entry
            if !entry.isUnlinked { named[entry.name] = entry.id }
            for (node, state) in entry.replicas where state != .absent { load[node, default: 0] += 1 }
        }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let node = try reader.value(NodeID.self)
            memories[node] = try Memory(decoding: &reader, version: max(2, version))
        }
        // An older build does not know of those that are no more.
        highestEpoch = version >= 2 ? try reader.integer() : entries.values.map(\.epoch).max() ?? 0
        guard version >= 3 else { return }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let id = CheckpointID(rawValue: try reader.integer())
            entries[id]?.departed = try reader.list()
            let deadline = try reader.bool() ? Instant(nanoseconds: try reader.integer()) : nil
            entries[id]?.salvageDeadline = deadline
        }
        buried = try reader.value()
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let id = CheckpointID(rawValue: try reader.integer())
            entries[id]?.retentionChanges = try reader.integer()
        }
    }
}
