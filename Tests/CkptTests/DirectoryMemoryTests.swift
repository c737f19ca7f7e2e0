import CkptProtocol
import CkptStore
import Containers
import DBAL
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import CkptEngine

/// A cluster that begins anew, told by databases of controllers what there was.
@Suite("Directory from a database")
struct DirectoryMemoryTests {
    private static let id = CheckpointID(rawValue: 1 << 40 + 7)
    private static let attributes = CreationAttributes(
        checkpointSize: 4_096, retentionDuration: 60_000_000_000, sectionsMax: 4, sectionSizeMax: 1_024)
    private static let now = Instant(nanoseconds: 1_000_000_000)

    private func name(_ text: String = "safCkpt=a") -> SaName {
        guard let name = SaName(text) else { preconditionFailure(text) }
        return name
    }

    private func known(holders: [UInt32], epoch: UInt64 = 5, active: UInt32? = nil) -> RememberedCheckpoint {
        RememberedCheckpoint(
            id: Self.id, name: name(), attributes: Self.attributes, retention: 60_000_000_000, epoch: epoch,
            holders: holders.map { NodeID($0) }, active: (active ?? holders.first).map { NodeID($0) })
    }

    private func join(_ node: UInt32, _ held: [ReplicaVersion] = [], incarnation: UInt64 = 1) -> DirectoryEvent {
        .joined(
            NodeJoin(
                node: NodeID(node), incarnation: incarnation, nodesExpected: 3, time: 1_000, lineage: 0, newLineage: 9,
                held: held.map {
                    HeldReplica(
                        id: Self.id, name: name(), attributes: Self.attributes, version: $0, retention: 60_000_000_000)
                }, isLast: true))
    }

    private func remember(
        _ directory: inout Directory, _ known: [RememberedCheckpoint], by node: UInt32 = 1, index: UInt64 = 10
    ) {
        for part in DirectoryMemory.parts(of: NodeID(node), DirectoryStamp(began: 500, index: index), known) {
            #expect(directory.handle(.remembered(part), at: Self.now).isEmpty)
        }
    }

    private func after(_ events: [DirectoryEvent], _ directory: inout Directory) -> DirectoryEntry? {
        for event in events { _ = directory.handle(event, at: Self.now) }
        return directory.entry(Self.id)
    }

    private let old = ReplicaVersion(epoch: 5, change: 3)
    private let new = ReplicaVersion(epoch: 5, change: 9)

    @Test("An older replica is not elected while a missing node has everything; with that node it goes on")
    func waits() throws {
        var directory = Directory()
        remember(&directory, [known(holders: [2])])
        let waiting = try #require(after([join(1, [old]), join(3), .recoveryOver], &directory))
        #expect(waiting.active == nil && !waiting.isElecting)
        #expect(waiting.replicas[NodeID(1)] == .synchronising && waiting.replicas[NodeID(2)] == .absent)
        var other = directory
        let back = try #require(after([join(2, [new])], &directory))
        #expect(back.active == NodeID(2) && back.replicas[NodeID(1)] == .synchronising)
        // Without its data there is nothing to wait for: what is left is taken.
        let lost = try #require(after([join(2)], &other))
        #expect(lost.active == nil && lost.isElecting && lost.replicas[NodeID(1)] == .current)
    }

    @Test("Of two persistent checkpoints by one name the later one counts, in whatever order their nodes come")
    func sameName() throws {
        var attributes = Self.attributes
        attributes.flags.insert(.persistent)
        // What is made when its predecessor is gone begins in a later epoch.
        var living = Directory()
        for node: UInt32 in 1...3 { _ = living.handle(join(node), at: Self.now) }
        var epochs: [UInt64] = []
        for number: UInt64 in 1...2 {
            let (id, handle) = (CheckpointID(rawValue: 1 << 41 + number), HandleID(rawValue: number))
            let open = DirectoryEvent.open(name(), handle: handle, on: NodeID(1), id: id, attributes: attributes)
            _ = living.handle(open, at: Self.now)
            epochs.append(try #require(living.entry(id)).epoch)
            let identity = RequestIdentity(session: ClientSession(high: 1, low: 1), number: number)
            _ = living.handle(.unlink(name(), by: identity), at: Self.now)
            _ = living.handle(.close([OpenedHandle(id, handle)]), at: Self.now)
            #expect(living.entry(id) == nil)
        }
        #expect(epochs[0] < epochs[1])

        func held(_ number: UInt64) -> DirectoryEvent {
            let replica = HeldReplica(
                id: CheckpointID(rawValue: 1 << 41 + number), name: name(), attributes: attributes,
                version: ReplicaVersion(epoch: epochs[Int(number) - 1], change: 4), retention: 60_000_000_000)
            return .joined(
                NodeJoin(
                    node: NodeID(UInt32(number)), incarnation: 1, nodesExpected: 3, time: 2_000, lineage: 7,
                    newLineage: 9, held: [replica], isLast: true))
        }
        for order: [UInt64] in [[1, 2], [2, 1]] {
            var directory = Directory()
            for number in order { _ = directory.handle(held(number), at: Self.now) }
            _ = directory.handle(join(3), at: Self.now)
            let entry = try #require(directory.entry(named: name()))
            #expect(entry.id.rawValue == 1 << 41 + 2 && entry.active == NodeID(2), "\(order)")
            #expect(directory.entry(CheckpointID(rawValue: 1 << 41 + 1)) == nil)
            // All that decides is in a snapshot.
            var writer = ByteWriter()
            directory.encode(to: &writer)
            let copy = try writer.bytes.withUnsafeBytes { bytes in
                var reader = ByteReader(bytes)
                return try Directory(decoding: &reader)
            }
            #expect(copy.highestEpoch == directory.highestEpoch && copy.entries.keys == directory.entries.keys)
        }
    }

    @Test("A holder that was not active may have left since: it is no reason to wait, and no election for it alone")
    func formerHolder() throws {
        var directory = Directory()
        // Node 4 led in epoch 5, with a follower on node 2 that left when the others went on.
        remember(&directory, [known(holders: [2, 4], active: 4)])
        let waiting = try #require(after([join(1, [new]), join(3), .recoveryOver], &directory))
        #expect(waiting.replicas[NodeID(4)] == .absent && waiting.replicas[NodeID(2)] == nil)
        let back = try #require(after([join(2, [old])], &directory))
        #expect(back.active == nil && back.replicas[NodeID(2)] == .synchronising)
        let lost = try #require(after([join(4)], &directory))
        #expect(lost.isElecting && lost.replicas[NodeID(1)] == .current && lost.replicas[NodeID(2)] == .current)
        var reports: [DirectoryEvent] = []
        for (node, version) in [(1, new), (2, old)] as [(UInt32, ReplicaVersion)] {
            let report = ReplicaReport(id: Self.id, epoch: lost.epoch, version: version)
            reports.append(.report(NodeID(node), [report]))
        }
        #expect(after(reports, &directory)?.active == NodeID(1), "the newest of what is left")
    }

    @Test(
        "Who is here and had everything is elected as without a database", arguments: [[1], [1, 2], [3]] as [[UInt32]])
    func holderIsHere(holders: [UInt32]) throws {
        var directory = Directory()
        remember(&directory, [known(holders: holders, epoch: holders == [3] ? 4 : 5)])
        // Node 3 was the only holder in epoch 4; what node 1 has was written later: the database is behind.
        let entry = try #require(after([join(1, [new]), .recoveryOver], &directory))
        #expect(entry.active == NodeID(1))
    }

    @Test("What nobody here has is known by its name until its nodes come, and its retention duration runs")
    func restored() throws {
        var directory = Directory()
        remember(&directory, [known(holders: [2])])
        _ = after([join(1), join(3)], &directory)
        let effects = directory.handle(.recoveryOver, at: Self.now)
        let entry = try #require(directory.entry(named: name()))
        #expect(entry.attributes == Self.attributes && entry.replicas[NodeID(2)] == .absent && !entry.isLost)
        #expect(effects.contains(.startTimer(.retention(Self.id), at: Self.now + .seconds(60))))
        #expect(effects.contains { if case .changed(let told) = $0 { told.id == Self.id } else { false } })
        let back = try #require(after([join(2, [new])], &directory))
        #expect(back.active == NodeID(2) && back.replicas[NodeID(2)] == .current)
    }

    @Test("What all nodes have lost is no more for who opens it, and CREATE makes it anew")
    func lost() throws {
        var directory = Directory()
        remember(&directory, [known(holders: [1, 2, 3])])
        let entry = try #require(after([join(1), join(2), join(3)], &directory))
        #expect(!directory.isRecovering && entry.isLost)
        func open(_ attributes: CreationAttributes?, _ id: UInt64) -> [DirectoryEffect] {
            directory.handle(
                .open(
                    name(), handle: HandleID(rawValue: 1 << 40 + id), on: NodeID(1),
                    id: CheckpointID(rawValue: 1 << 41),
                    attributes: attributes), at: Self.now)
        }
        let plain = open(nil, 1)
        #expect(plain.contains { if case .refused(.notExist, _) = $0 { true } else { false } })
        let created = open(Self.attributes, 2)
        #expect(created.contains(.opened(CheckpointID(rawValue: 1 << 41), isCreated: true)))
        #expect(directory.entry(Self.id) == nil)
    }

    @Test("Of two databases the newer one is believed, and none that was not told to its end")
    func newest() throws {
        var directory = Directory()
        remember(&directory, [known(holders: [2])], by: 1, index: 10)
        remember(&directory, [], by: 3, index: 11)
        #expect(after([join(1), join(3), .recoveryOver], &directory) == nil)
        var other = Directory()
        remember(&other, [known(holders: [2])], by: 1, index: 10)
        let half = DirectoryMemory(
            node: NodeID(3), stamp: DirectoryStamp(began: 501, index: 1), isFirst: true, isLast: false, checkpoints: [])
        #expect(after([.remembered(half), join(1), join(3), .recoveryOver], &other) != nil)
    }

    @Test("What is told too late is not heard, and a joiner's copy knows what was told")
    func copies() throws {
        var directory = Directory()
        remember(&directory, [known(holders: [2])])
        var writer = ByteWriter()
        directory.encode(to: &writer)
        var copy = try writer.bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            return try Directory(decoding: &reader)
        }
        let events = [join(1, [old]), .recoveryOver]
        #expect(after(events, &directory) == after(events, &copy))
        #expect(directory.entry(Self.id)?.replicas[NodeID(2)] == .absent)
        let before = directory.entry(Self.id)
        remember(&directory, [known(holders: [3])], by: 3, index: 99)
        #expect(after([join(3)], &directory) == before)
    }

    @Test("A part of a memory comes back from its bytes; every truncation and a strange flag are refused")
    func wire() throws {
        let many = (0..<450).map { number in
            RememberedCheckpoint(
                id: CheckpointID(rawValue: 1 << 40 + UInt64(number)), name: name("safCkpt=\(number)"),
                attributes: Self.attributes, retention: 1, epoch: 2, holders: [NodeID(1), NodeID(4)])
        }
        let parts = DirectoryMemory.parts(of: NodeID(3), DirectoryStamp(began: 1, index: 2), many)
        #expect(parts.map(\.checkpoints.count) == [200, 200, 50])
        #expect(parts.map(\.isFirst) == [true, false, false] && parts.map(\.isLast) == [false, false, true])
        let event = DirectoryEvent.remembered(
            DirectoryMemory(
                node: NodeID(3), stamp: DirectoryStamp(began: 1, index: 2), isFirst: true, isLast: true,
                checkpoints: Array(many.prefix(2))))
        for version: UInt16 in 2...3 {
            var writer = ByteWriter()
            Directory.encode(event, version: version, to: &writer)
            #expect(try DirectoryEvent(decoding: writer.bytes) == event, "version \(version)")
        }
        var full = many[0]
        full.departed = [NodeID(2), NodeID(7)]
        let ids = (1...4_001).map { CheckpointID(rawValue: $0) }
        let burials = DirectoryMemory.parts(of: NodeID(3), DirectoryStamp(began: 1, index: 2), [full], buried: ids)
        #expect(burials.map(\.buried.count) == [2_000, 2_000, 1] && burials.map(\.isLast) == [false, false, true])
        for part in burials {
            #expect(try DirectoryEvent(decoding: DirectoryEvent.remembered(part).encoded) == .remembered(part))
        }
        let bytes = event.encoded
        for length in 0..<bytes.count {
            #expect(throws: DecodeError.self) { try DirectoryEvent(decoding: Array(bytes.prefix(length))) }
        }
        var strange = bytes
        strange[1 + 4 + 16] = 7
        #expect(throws: DecodeError.self) { try DirectoryEvent(decoding: strange) }
    }

    // MARK: Writing

    private func entry(_ number: UInt64, _ name: String, on nodes: [UInt32]) -> DirectoryEntry {
        var entry = DirectoryEntry(
            id: CheckpointID(rawValue: 1 << 40 + number), name: self.name(name), attributes: Self.attributes)
        for node in nodes { entry.replicas[NodeID(node)] = .current }
        entry.epoch = 3
        return entry
    }

    private func stamp(_ index: UInt64) -> DirectoryStamp { DirectoryStamp(began: 1, index: index) }

    @Test("One batch at a time; of each checkpoint the last state; nothing is written that is there already")
    func batches() {
        var records = DirectoryRecords()
        #expect(records.next() == nil)
        var first = entry(1, "a", on: [1])
        records.put(first.id, first, at: stamp(1))
        let batch = records.next() ?? []
        #expect(batch.count == 2 && batch[0].value != nil && batch[1].key == [0])
        first.replicas[NodeID(2)] = .current
        records.put(first.id, first, at: stamp(2))
        records.put(first.id, entry(1, "a", on: [1]), at: stamp(3))
        records.put(entry(2, "b", on: [1]).id, entry(2, "b", on: [1]), at: stamp(3))
        records.put(entry(2, "b", on: [1]).id, nil, at: stamp(4))
        #expect(records.next() == nil, "one is under way")
        records.written()
        let second = records.next() ?? []
        #expect(second.count == 1 && second[0].key == [0], "both are as they were: only the stamp is new")
        records.written()
        #expect(records.next() == nil)
    }

    @Test("Readers who do not have everything, and what is unlinked, are not kept")
    func kept() {
        var partial = entry(1, "a", on: [1])
        partial.replicas[NodeID(2)] = .synchronising
        partial.replicas[NodeID(3)] = .absent
        #expect(RememberedCheckpoint(partial)?.holders == [NodeID(1), NodeID(3)])
        partial.isUnlinked = true
        #expect(RememberedCheckpoint(partial) == nil)
    }

    @Test(
        "A history written through a database, cut anywhere, reads as it was up to there",
        arguments: DatabaseEngine.allCases)
    func throughDatabase(engine: DatabaseEngine) throws {
        let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-directory")
        defer { try? File.removeTree(folder) }
        let path = folder + "/state/checkpoints"
        let seed = UInt64.random(in: 1...999_999)
        var random = SeededRandom(seed: seed)
        var file = DirectoryFile(path, engine)
        var records = DirectoryRecords(try read(file)?.checkpoints ?? [])
        var model = OrderedMap<CheckpointID, DirectoryEntry>()
        var buried = Graveyard()
        for index in 1...200 as ClosedRange<UInt64> {
            let number = UInt64.random(in: 1...30, using: &random)
            let id = CheckpointID(rawValue: 1 << 40 + number)
            let isThere = random.chance(percent: 70)
            model[id] = isThere ? entry(number, "n\(number)", on: [UInt32.random(in: 1...5, using: &random)]) : nil
            if !isThere, random.chance(percent: 50) { buried.insert(id) }
            records.put(id, model[id], isBuried: buried.contains(id), at: stamp(index))
            guard random.chance(percent: 40), let batch = records.next() else { continue }
            try file.write(batch.map(change))
            records.written()
            guard random.chance(percent: 10) else { continue }
            file.close()
            file = DirectoryFile(path, engine)
            let found = try #require(try read(file), "seed \(seed)")
            #expect(
                found.stamp == stamp(index) && found.checkpoints == model.values.compactMap(RememberedCheckpoint.init))
            #expect(found.buried.ids == buried.ids, "seed \(seed)")
            records = DirectoryRecords(found.checkpoints, buried: found.buried)
        }
        try file.erase()
        #expect(try File.list(folder + "/state").isEmpty)
        records.lost(model, buried: buried, at: stamp(500))
        while let batch = records.next() {
            try file.write(batch.map(change))
            records.written()
        }
        #expect(try read(file)?.checkpoints == model.values.compactMap(RememberedCheckpoint.init), "seed \(seed)")
        #expect(try read(file)?.buried.ids == buried.ids, "seed \(seed)")
        // What another directory does not know to be gone is not gone; and the oldest make way.
        var other = Graveyard()
        for number in 1...UInt64(Graveyard.countMax) { other.insert(CheckpointID(rawValue: 1 << 42 + number)) }
        records.replace(by: model, buried: other, at: stamp(501))
        let last = CheckpointID(rawValue: 1 << 43)
        records.put(last, nil, isBuried: true, at: stamp(502))
        while let batch = records.next() {
            try file.write(batch.map(change))
            records.written()
        }
        #expect(other.insert(last) == CheckpointID(rawValue: 1 << 42 + 1))
        #expect(try read(file)?.buried.ids == other.ids)
        file.close()
    }

    @Test("What earlier versions have written is read", arguments: [1, 2] as [UInt8])
    func earlier(version: UInt8) throws {
        let entry = entry(1, "a", on: [1, 2])
        var records = DirectoryRecords()
        records.put(entry.id, entry, at: stamp(7))
        let written = records.next() ?? []
        let old = written.map { record in
            var value = record.value ?? []
            value[0] = version
            if record.key != [0] { value.removeLast(version == 1 ? 5 : 4) }  // nobody has left; no active replica
            return (key: record.key, value: value)
        }
        let found = try DirectoryRecords.decode(old.reversed())
        #expect(found?.stamp == stamp(7) && found?.checkpoints == [RememberedCheckpoint(entry)].compactMap(\.self))
    }

    @Test("What is no record of the directory is refused by name")
    func strange() {
        #expect(throws: DecodeError.self) { try DirectoryRecords.decode([(key: [7], value: [])]) }
        #expect(throws: DecodeError.self) { try DirectoryRecords.decode([(key: [0], value: [2])]) }
        #expect(throws: DecodeError.self) {
            try DirectoryRecords.decode([(key: [0], value: [9, 0] + [UInt8](repeating: 0, count: 16))])
        }
        #expect(throws: DecodeError.self) {
            try DirectoryRecords.decode([(key: [1] + [UInt8](repeating: 0, count: 8), value: [1])])
        }
    }

    private func change(_ record: DirectoryRecord) -> DatabaseChange {
        record.value.map { .put(key: record.key, value: $0) } ?? .delete(key: record.key)
    }

    private func read(_ file: DirectoryFile) throws -> DirectoryRecords.Content? {
        try DirectoryRecords.decode(file.load().map { ($0.key, $0.value) })
    }
}
