import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@Suite("Checkpoint directory")
struct DirectoryTests {
    private static let id = CheckpointID(rawValue: 1 << 40)
    private static let attributes = CreationAttributes(
        checkpointSize: 100, retentionDuration: .saTimeEnd, sectionsMax: 2, sectionSizeMax: 50)

    private func join(
        _ node: UInt32, life: UInt64, _ held: [HeldReplica] = [], lineage: UInt64 = 0, time: UInt64 = 1_000
    ) -> DirectoryEvent {
        .joined(
            NodeJoin(
                node: NodeID(node), incarnation: life, nodesExpected: 3, time: time, lineage: lineage, newLineage: 5,
                held: held, isLast: true))
    }

    private func held(_ name: SaName, _ version: ReplicaVersion) -> HeldReplica {
        HeldReplica(
            id: Self.id, name: name, attributes: Self.attributes, version: version, retention: .saTimeEnd)
    }

    private static func of(_ count: UInt32, _ join: (UInt32) -> DirectoryEvent) throws -> (Directory, DirectoryEntry) {
        let name = try #require(SaName("safCkpt=x"))
        var directory = Directory()
        for node in 1...count { _ = directory.handle(join(node), at: .start) }
        for node: UInt32 in 1...2 {
            let open = DirectoryEvent.open(
                name, handle: HandleID(rawValue: UInt64(node)), on: NodeID(node), id: id, attributes: attributes)
            _ = directory.handle(open, at: .start)
        }
        let entry = try #require(directory.entry(id))
        return (directory, entry)
    }

    @Test("A1.4 RetentionDurationSet: BAD_OPERATION once it is unlinked, also by who does not know of that yet")
    func retentionOfUnlinked() throws {
        var (directory, entry) = try Self.of(3) { join($0, life: 1) }
        func isRefused(_ effects: [DirectoryEffect]) -> Bool {
            effects.contains { if case .refused(.badOperation, _) = $0 { true } else { false } }
        }
        #expect(!isRefused(directory.handle(.setRetention(Self.id, 5), at: .start)))
        let identity = RequestIdentity(session: ClientSession(high: 1, low: 1), number: 3)
        _ = directory.handle(.unlink(entry.name, by: identity), at: .start)
        #expect(isRefused(directory.handle(.setRetention(Self.id, 6), at: .start)))
        #expect(directory.entry(Self.id)?.retention == 5)
    }

    private static func bytes(_ directory: Directory) -> [UInt8] {
        var writer = ByteWriter()
        directory.encode(to: &writer)
        return writer.bytes
    }

    @Test("A late unlink, retention or choice of the active replica changes nothing of what is newer than it")
    func lateCommands() throws {
        var (directory, entry) = try Self.of(3) { join($0, life: 1) }
        func isOutdated(_ effects: [DirectoryEffect]) -> Bool {
            effects.contains { if case .outdated = $0 { true } else { false } }
        }
        func identity(_ number: UInt64) -> RequestIdentity {
            RequestIdentity(session: ClientSession(high: 1, low: 1), number: number)
        }
        // Node 2 was cut off when its clients asked for these; meanwhile the others went on.
        let seen = SeenActivity(epoch: entry.epoch, successor: nil)
        let late: [DirectoryEvent] = [
            .unlink(entry.name, seen: Self.id, by: identity(1)),
            .setRetention(Self.id, 7, seen: entry.retentionChanges),
            .setActive(Self.id, NodeID(2), seen: seen),
        ]
        #expect(!isOutdated(directory.handle(.setRetention(Self.id, 5, seen: entry.retentionChanges), at: .start)))
        let open = DirectoryEvent.open(
            entry.name, handle: HandleID(rawValue: 9), on: NodeID(3), id: Self.id, attributes: nil)
        _ = directory.handle(open, at: .start)
        _ = directory.handle(.current(Self.id, NodeID(3), epoch: entry.epoch), at: .start)
        #expect(!isOutdated(directory.handle(.setActive(Self.id, NodeID(3), seen: seen), at: .start)))
        #expect(isOutdated(directory.handle(late[1], at: .start)))
        // Changed back it is another decision all the same, also for who was told of the state as a whole.
        let back = DirectoryEvent.setRetention(Self.id, entry.retention)
        for version: UInt16 in 2...3 {
            var copy = try Self.bytes(directory).withUnsafeBytes { raw throws(DecodeError) in
                var reader = ByteReader(raw)
                return try Directory(decoding: &reader)
            }
            _ = copy.handle(back, version: version, at: .start)
            let isLate = isOutdated(copy.handle(late[1], version: version, at: .start))
            #expect(isLate == (version == 3) && copy.entry(Self.id)?.retention == (isLate ? entry.retention : 7))
        }
        #expect(isOutdated(directory.handle(late[2], at: .start)), "another one is to be active")
        #expect(directory.entry(Self.id)?.successor == NodeID(3))
        let again = DirectoryEvent.setActive(Self.id, NodeID(3), seen: seen)
        #expect(!isOutdated(directory.handle(again, at: .start)), "said again")
        _ = directory.handle(.handOver(Self.id, epoch: entry.epoch, to: NodeID(3)), at: .start)
        #expect(directory.entry(Self.id)?.active == NodeID(3))
        #expect(isOutdated(directory.handle(late[2], at: .start)), "another one is active")
        #expect(!isOutdated(directory.handle(again, at: .start)), "said again, when it is done")
        #expect(directory.entry(Self.id)?.active == NodeID(3) && directory.entry(Self.id)?.successor == nil)
        #expect(directory.entry(Self.id)?.retention == 5)

        #expect(!isOutdated(directory.handle(.unlink(entry.name, seen: Self.id, by: identity(2)), at: .start)))
        let second = CheckpointID(rawValue: 2 << 40)
        _ = directory.handle(
            .open(
                entry.name, handle: HandleID(rawValue: 10), on: NodeID(1), id: second, attributes: Self.attributes),
            at: .start)
        #expect(isOutdated(directory.handle(late[0], at: .start)))
        let none = DirectoryEvent.unlink(entry.name, seen: DirectoryEvent.unknown, by: identity(3))
        #expect(isOutdated(directory.handle(none, at: .start)))
        #expect(directory.handle(.unlink(entry.name, seen: Self.id, by: identity(2)), at: .start) == [], "said again")
        #expect(directory.entry(named: entry.name)?.id == second)
        let before = Self.bytes(directory)
        #expect(directory.handle(.find(entry.name), at: .start) == [.found(directory.entry(second))])
        #expect(Self.bytes(directory) == before)
    }

    @Test(
        "What commands are about is said from version 3 on; before, a question by name is a command that does nothing")
    func versions() throws {
        let name = try #require(SaName("safCkpt=x"))
        let identity = RequestIdentity(session: ClientSession(high: 1, low: 2), number: 3)
        let seen = SeenActivity(epoch: 4, successor: NodeID(2))
        let pairs: [(new: DirectoryEvent, old: DirectoryEvent)] = [
            (.unlink(name, seen: Self.id, by: identity), .unlink(name, by: identity)),
            (.setRetention(Self.id, 5, seen: 6), .setRetention(Self.id, 5)),
            (.setActive(Self.id, NodeID(1), seen: seen), .setActive(Self.id, NodeID(1))),
            (.find(name), .close([])),
        ]
        for (new, old) in pairs {
            for (version, expected) in [(2, old), (3, new)] as [(UInt16, DirectoryEvent)] {
                var writer = ByteWriter()
                Directory.encode(new, version: version, to: &writer)
                let decoded = try writer.bytes.withUnsafeBytes { raw throws(DecodeError) in
                    var reader = ByteReader(raw)
                    let event = try Directory.decodeEvent(version: version, from: &reader)
                    try reader.finish()
                    return event
                }
                #expect(decoded == expected, "version \(version)")
            }
        }
    }

    @Test("A replica that has failed is not current for what was said of it before")
    func failedBeforeCurrent() throws {
        var (directory, entry) = try Self.of(3) { join($0, life: 1) }
        #expect(entry.active == NodeID(1) && entry.replicas[NodeID(2)] == .synchronising)
        // The active one has seen it acknowledge everything; meanwhile its data go.
        _ = directory.handle(.failed(Self.id, NodeID(2)), at: .start)
        _ = directory.handle(.current(Self.id, NodeID(2), epoch: entry.epoch), at: .start)
        #expect(directory.entry(Self.id)?.replicas[NodeID(2)] == .synchronising)
    }

    @Test("A replica made anew is not current for what was said of the one before it on that node")
    func madeAnewBeforeCurrent() throws {
        var (directory, entry) = try Self.of(3) { join($0, life: 1) }
        #expect(entry.active == NodeID(1) && entry.replicas[NodeID(2)] == .synchronising)
        // The active one has seen it acknowledge everything; meanwhile its node leaves, and comes back with nothing.
        _ = directory.handle(.left([NodeLife(node: NodeID(2), incarnation: 1)]), at: .start)
        _ = directory.handle(join(2, life: 2), at: .start)
        let open = DirectoryEvent.open(
            entry.name, handle: HandleID(rawValue: 3), on: NodeID(2), id: Self.id, attributes: nil)
        _ = directory.handle(open, at: .start)
        #expect(directory.entry(Self.id)?.replicas[NodeID(2)] == .synchronising)
        _ = directory.handle(.current(Self.id, NodeID(2), epoch: entry.epoch), at: .start)
        #expect(directory.entry(Self.id)?.replicas[NodeID(2)] == .synchronising)
        #expect(directory.entry(Self.id)?.active == NodeID(1))
    }

    @Test("An epoch given in a time that was forgotten with a node's memory is not given again")
    func epochsOfForgottenTime() throws {
        var (directory, entry) = try Self.of(3) { join($0, life: 1) }
        var forgetful = directory
        _ = directory.handle(.failed(Self.id, NodeID(2)), at: .start)
        let given = try #require(directory.entry(Self.id)?.epoch)
        #expect(given > entry.epoch)
        // Whoever knew of that has lost its memory, and comes back a second later to those who did not.
        _ = forgetful.handle(join(3, life: 2, time: given + 1), at: .start)
        _ = forgetful.handle(.failed(Self.id, NodeID(2)), at: .start)
        let next = try #require(forgetful.entry(Self.id)?.epoch)
        #expect(next > given)
    }

    @Test("Two had everything and left together: when one has gone on alone, the other is not current any more")
    func absentWhileAnotherGoesOn() throws {
        let name = try #require(SaName("safCkpt=x"))
        var (directory, first) = try Self.of(3) { join($0, life: 1) }
        var now = Instant(nanoseconds: 1_000)
        func tell(_ event: DirectoryEvent) {
            now = now + .milliseconds(1)
            _ = directory.handle(event, at: now)
        }
        tell(.current(Self.id, NodeID(2), epoch: first.epoch))
        #expect(directory.entry(Self.id)?.replicas[NodeID(2)] == .current)
        tell(.left([NodeLife(node: NodeID(1), incarnation: 1), NodeLife(node: NodeID(2), incarnation: 1)]))
        #expect(directory.entry(Self.id)?.replicas[NodeID(2)] == .absent)

        let version = ReplicaVersion(epoch: first.epoch, change: 4)
        tell(join(1, life: 2, [held(name, version)], lineage: 5))
        let alone = try #require(directory.entry(Self.id))
        #expect(alone.active == NodeID(1))
        // Node 1 acknowledges updates that node 2 has not, and leaves.
        tell(.left([NodeLife(node: NodeID(1), incarnation: 2)]))
        tell(join(2, life: 2, [held(name, version)], lineage: 5))
        #expect(directory.entry(Self.id)?.active == nil)
        #expect(directory.entry(Self.id)?.replicas[NodeID(2)] == .synchronising)
        tell(join(1, life: 3, [held(name, ReplicaVersion(epoch: alone.epoch, change: 9))], lineage: 5))
        #expect(directory.entry(Self.id)?.active == NodeID(1))
    }

    @Test("A hand-over that comes to nothing, for the epoch was raised or another was chosen, is proposed again")
    func handOver() throws {
        let name = try #require(SaName("safCkpt=x"))
        var directory = Directory()
        let now = Instant(nanoseconds: 1_000)
        for node: UInt32 in 1...3 { _ = directory.handle(join(node, life: 1), at: now) }
        for node: UInt32 in 1...3 {
            let open = DirectoryEvent.open(
                name, handle: HandleID(rawValue: UInt64(node)), on: NodeID(node), id: Self.id,
                attributes: Self.attributes)
            _ = directory.handle(open, at: now)
        }
        let epoch = try #require(directory.entry(Self.id)?.epoch)
        for node: UInt32 in 2...3 { _ = directory.handle(.current(Self.id, NodeID(node), epoch: epoch), at: now) }
        _ = directory.handle(.setActive(Self.id, NodeID(2)), at: now)

        var active = Replication(node: NodeID(1))
        _ = active.handle(.mayAct(true), at: now)
        _ = active.handle(.held(Self.id, ReplicaData()), at: now)
        func told() -> [ReplicationEffect] { active.handle(.entry(Self.id, directory.entry(Self.id)), at: now) }
        func handsOver(_ epoch: UInt64, _ node: UInt32) -> ReplicationEffect {
            .propose(.handOver(Self.id, epoch: epoch, to: NodeID(node)), about: Self.id)
        }
        #expect(told().contains(handsOver(epoch, 2)))
        #expect(!told().contains(handsOver(epoch, 2)), "once is enough")
        // Before that is ordered, node 3 is silent.
        _ = directory.handle(.silent(Self.id, NodeID(3), epoch: epoch), at: now)
        _ = directory.handle(.handOver(Self.id, epoch: epoch, to: NodeID(2)), at: now)
        #expect(directory.entry(Self.id)?.active == NodeID(1))
        #expect(told().contains(handsOver(epoch + 1, 2)))
        // Or somebody chooses node 3, which is not current yet.
        _ = directory.handle(.setActive(Self.id, NodeID(3)), at: now)
        _ = directory.handle(.handOver(Self.id, epoch: epoch + 1, to: NodeID(2)), at: now)
        #expect(directory.entry(Self.id)?.active == NodeID(1))
        _ = told()
        #expect(active.route(Self.id) == .here)
        _ = directory.handle(.current(Self.id, NodeID(3), epoch: epoch + 1), at: now)
        #expect(told().contains(handsOver(epoch + 1, 3)))
    }
}
