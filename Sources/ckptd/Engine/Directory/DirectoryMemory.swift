public import CkptProtocol
import EngineKit
public import SAFTypes

/// When a database of the directory was written last: the later directory, then the later command, is newer.
public struct DirectoryStamp: Hashable, Comparable, Sendable {
    /// Seconds since 1970 when that directory began.
    public var began: UInt64
    /// The last command that is in it.
    public var index: UInt64

    public init(began: UInt64, index: UInt64) {
        self.began = began
        self.index = index
    }

    public static func < (left: DirectoryStamp, right: DirectoryStamp) -> Bool {
        (left.began, left.index) < (right.began, right.index)
    }
}

/// What the database of a controller keeps of a checkpoint: what it is, and who has everything that was written.
public struct RememberedCheckpoint: Hashable, Sendable {
    public var id: CheckpointID
    public var name: SaName
    public var attributes: CreationAttributes
    public var retention: SaTime
    public var epoch: UInt64
    /// The nodes whose replicas had everything, ascending.
    public var holders: [NodeID]
    /// The active replica of that epoch: whatever was acknowledged in it, this one has. Another holder may have left
    /// since, and what is written here of it may be old.
    public var active: NodeID?
    /// Nodes that left with a replica and were not back, ascending: see ``DirectoryEntry/departed``.
    public var departed: [NodeID]

    public init(
        id: CheckpointID, name: SaName, attributes: CreationAttributes, retention: SaTime, epoch: UInt64,
        holders: [NodeID], active: NodeID? = nil, departed: [NodeID] = []
    ) {
        self.id = id
        self.name = name
        self.attributes = attributes
        self.retention = retention
        self.epoch = epoch
        self.holders = holders
        self.active = active
        self.departed = departed
    }

    /// Nil for what ends with the processes that have it open.
    public init?(_ entry: DirectoryEntry) {
        if entry.isUnlinked { return nil }
        let holders = entry.replicas.filter { $0.value != .synchronising }.keys
        self.init(
            id: entry.id, name: entry.name, attributes: entry.attributes, retention: entry.retention,
            epoch: entry.epoch, holders: holders, active: entry.active, departed: entry.departed)
    }
}

/// What the database of one controller knew when the cluster began anew; in several parts.
public struct DirectoryMemory: Hashable, Sendable {
    public static let checkpointsMax = 200
    public static let buriedMax = 2_000

    public var node: NodeID
    public var stamp: DirectoryStamp
    /// Begins anew with this one: whatever the node has said before is of an earlier life.
    public var isFirst: Bool
    public var isLast: Bool
    public var checkpoints: [RememberedCheckpoint]
    /// Persistent checkpoints that are no more, as they went.
    public var buried: [CheckpointID] = []

    /// - Parameter checkpoints: ascending by id.
    public static func parts(
        of node: NodeID, _ stamp: DirectoryStamp, _ checkpoints: [RememberedCheckpoint], buried: [CheckpointID] = []
    ) -> [DirectoryMemory] {
        var parts: [DirectoryMemory] = []
        var (rest, restOfBuried) = (checkpoints[...], buried[...])
        repeat {
            let (part, partOfBuried) = (rest.prefix(checkpointsMax), restOfBuried.prefix(buriedMax))
            rest = rest.dropFirst(part.count)
            restOfBuried = restOfBuried.dropFirst(partOfBuried.count)
            parts.append(
                DirectoryMemory(
                    node: node, stamp: stamp, isFirst: parts.isEmpty, isLast: rest.isEmpty && restOfBuried.isEmpty,
                    checkpoints: Array(part), buried: Array(partOfBuried)))
        } while !rest.isEmpty || !restOfBuried.isEmpty
        return parts
    }
}

// A directory that begins anew is told by the databases of controllers what there was.
extension Directory {
    struct Memory: Hashable, Sendable {
        var stamp: DirectoryStamp
        var isComplete: Bool
        var checkpoints: [RememberedCheckpoint]
    }

    mutating func remember(_ part: DirectoryMemory, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        guard isRecovering else { return }
        // Whatever else is newer: what has gone does not come again.
        if waitsForWhoLeft { bury(part.buried, now, &effects) }
        var memory = memories[part.node] ?? Memory(stamp: part.stamp, isComplete: false, checkpoints: [])
        if part.isFirst { memory = Memory(stamp: part.stamp, isComplete: false, checkpoints: []) }
        guard memory.stamp == part.stamp, memory.checkpoints.count < Self.checkpointsMax else { return }
        memory.checkpoints += part.checkpoints
        memory.isComplete = part.isLast
        memories[part.node] = memory
    }

    /// Who is to come has come: the newest database says of each checkpoint who has everything, if there is somebody
    /// newer than those that are here.
    mutating func recall(_ now: Instant, _ effects: inout [DirectoryEffect]) {
        var newest: Memory?
        for (_, memory) in memories where memory.isComplete && newest.map({ $0.stamp < memory.stamp }) ?? true {
            newest = memory
        }
        memories.removeAll()
        for known in newest?.checkpoints ?? [] where !buried.contains(known.id) {
            let missing = known.holders.filter { !isComplete($0) }
            if let entry = entries[known.id] {
                if let active = known.active {
                    if missing.contains(active) { wait(for: [active], of: known, entry, now, &effects) }
                } else if waitsForWhoLeft {
                    // Nobody was active, so nobody has less than it says here.
                    wait(for: missing, of: known, entry, now, &effects)
                }
            } else {
                if known.attributes.flags.contains(.persistent) {
                    makeWay(known.name, above: known.epoch, now, &effects)
                }
                if named[known.name] == nil { restore(known, missing, now, &effects) }
            }
        }
    }

    private func isComplete(_ node: NodeID) -> Bool { members[node]?.isComplete ?? false }

    /// What is here may be older than what the missing active replica has: it is not taken for all there was.
    ///
    /// - Parameter holders: each of them has everything. None: nobody had, and who had left is waited for.
    private mutating func wait(
        for holders: [NodeID], of known: RememberedCheckpoint, _ entry: DirectoryEntry, _ now: Instant,
        _ effects: inout [DirectoryEffect]
    ) {
        let departed = known.departed.filter { !isComplete($0) }
        if holders.isEmpty, !known.holders.isEmpty || departed.isEmpty { return }
        guard entry.isFound, let reports = entry.reports, !reports.isEmpty else { return }
        // Written to since in a later epoch: the database is behind, and what it says of holders no longer so.
        if reports.contains(where: { $0.value.epoch > known.epoch }) { return }
        if entry.replicas.contains(where: { $0.value == .current && known.holders.contains($0.key) }) { return }
        change(known.id, now, &effects) { entry in
            entry.replicas.updateAll { _, state in state = .synchronising }
            for node in holders { entry.replicas[node] = .absent }
            entry.departed = departed
            (entry.reports, entry.isFound) = (nil, false)
        }
    }

    /// Nobody here has it. Whoever is missing may; else its data is lost, and what is left is that it was.
    private mutating func restore(
        _ known: RememberedCheckpoint, _ missing: [NodeID], _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        guard entries.count < Self.checkpointsMax else { return }
        var entry = DirectoryEntry(id: known.id, name: known.name, attributes: known.attributes)
        entry.retention = known.retention
        entry.epoch = max(known.epoch, 1, epochFloor)
        for node in missing { entry.replicas[node] = .absent }
        if waitsForWhoLeft { entry.departed = known.departed.filter { !isComplete($0) } }
        insert(entry, now, &effects)
    }
}

/// began u64 · index u64.
extension DirectoryStamp: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(began)
        writer.integer(index)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        began = try reader.integer()
        index = try reader.integer()
    }
}

// Of databases, version 1 did not say who was active, version 2 not who had left. What a controller tells has been as
// version 2 in versions 1 and 2 of the directory.

/// checkpoint u64 · name · attributes · retention i64 · epoch u64 · holders · (active) · from version 3 on: departed.
extension RememberedCheckpoint: WireCodable {
    public func encode(to writer: inout ByteWriter) { encode(to: &writer, version: Directory.versions.upperBound) }

    func encode(to writer: inout ByteWriter, version: UInt16) {
        writer.integer(id.rawValue)
        writer.value(name)
        writer.value(attributes)
        writer.integer(retention)
        writer.integer(epoch)
        writer.list(holders)
        writer.optional(active)
        if version >= 3 { writer.list(departed) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        try self.init(decoding: &reader, version: Directory.versions.upperBound)
    }

    init(decoding reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        id = CheckpointID(rawValue: try reader.integer())
        name = try reader.value()
        attributes = try reader.value()
        retention = try reader.integer()
        epoch = try reader.integer()
        holders = try reader.list(max: 1_024)
        active = version >= 2 ? try reader.optional() : nil
        departed = version >= 3 ? try reader.list(max: 1_024) : []
    }

    static func encode(_ list: [Self], to writer: inout ByteWriter, version: UInt16) {
        writer.integer(UInt32(list.count))
        for known in list { known.encode(to: &writer, version: version) }
    }

    static func decodeList(_ reader: inout ByteReader, version: UInt16, max: Int) throws(DecodeError) -> [Self] {
        let count = Int(try reader.integer(UInt32.self))
        guard count <= max else { throw .badValue("\(count) remembered checkpoints; at most \(max) expected") }
        var list: [Self] = []
        for _ in 0..<count { list.append(try Self(decoding: &reader, version: version)) }
        return list
    }
}

/// node u32 · stamp · flags u8 (1 first, 2 last) · checkpoints · from version 3 on: buried.
extension DirectoryMemory {
    func encode(to writer: inout ByteWriter, version: UInt16) {
        writer.value(node)
        writer.value(stamp)
        writer.integer(UInt8((isFirst ? 1 : 0) | (isLast ? 2 : 0)))
        RememberedCheckpoint.encode(checkpoints, to: &writer, version: version)
        guard version >= 3 else { return }
        writer.integer(UInt32(buried.count))
        for id in buried { writer.integer(id.rawValue) }
    }

    init(decoding reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        node = try reader.value()
        stamp = try reader.value()
        let flags = try reader.integer(UInt8.self)
        guard flags < 4 else { throw .badValue("flags \(flags) of a part of a memory; 0 to 3 expected") }
        (isFirst, isLast) = (flags & 1 != 0, flags & 2 != 0)
        checkpoints = try RememberedCheckpoint.decodeList(&reader, version: version, max: Self.checkpointsMax)
        guard version >= 3 else { return }
        let count = Int(try reader.integer(UInt32.self))
        guard count <= Self.buriedMax else { throw .badValue("\(count) checkpoints that are no more in one part") }
        for _ in 0..<count { buried.append(CheckpointID(rawValue: try reader.integer())) }
    }
}

/// stamp · complete u8 · checkpoints.
extension Directory.Memory {
    func encode(to writer: inout ByteWriter, version: UInt16) {
        writer.value(stamp)
        writer.bool(isComplete)
        RememberedCheckpoint.encode(checkpoints, to: &writer, version: version)
    }

    init(decoding reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        stamp = try reader.value()
        isComplete = try reader.bool()
        checkpoints = try RememberedCheckpoint.decodeList(&reader, version: version, max: Directory.checkpointsMax)
    }
}
