import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptEngine

@Suite("Promises that reads rest on")
struct ReadGrantsTests {
    private static let (two, three) = (NodeID(2), NodeID(3))
    private let now = Instant(nanoseconds: 10_000_000_000)

    private func grants(committed: UInt64 = 7) -> ReadGrants {
        var grants = ReadGrants(token: .seconds(1))
        grants.update(others: [Self.two, Self.three], mayAct: true, committed: committed, now: now)
        return grants
    }

    @Test("A promise counts from when it was asked for, and ends before anybody is left out")
    func counts() {
        var grants = grants()
        #expect(grants.until(Self.two) == .start && grants.end(now: now) == .start)
        grants.answered(Self.two, sent: now + .milliseconds(10), index: 7)
        #expect(grants.until(Self.two) == now + .milliseconds(760))
        #expect(grants.end(now: now) == .start, "three has promised nothing")
        grants.answered(Self.three, sent: now, index: 6)
        #expect(grants.end(now: now) == now + .milliseconds(750))
        grants.answered(Self.two, sent: now + .milliseconds(5), index: 7)
        #expect(grants.until(Self.two) == now + .milliseconds(760), "an answer that came late takes nothing back")
        #expect(!grants.isDue(Self.two, now: now + .milliseconds(500)))
        #expect(grants.isDue(Self.two, now: now + .milliseconds(600)))
    }

    @Test("Who knows more of the directory may know of another active replica: it counts when as much is known here")
    func ahead() {
        var grants = grants()
        grants.answered(Self.two, sent: now, index: 9)
        #expect(grants.until(Self.two) == .start)
        grants.update(others: [Self.two, Self.three], mayAct: true, committed: 8, now: now)
        #expect(grants.until(Self.two) == .start)
        grants.update(others: [Self.two, Self.three], mayAct: true, committed: 9, now: now + .milliseconds(20))
        #expect(grants.until(Self.two) == now + .milliseconds(750), "from the question on, not from now")
    }

    @Test("Who does not act, or did not when it asked, has no promise; who has left has taken it along")
    func away() {
        var grants = grants()
        grants.answered(Self.two, sent: now, index: 7)
        grants.update(others: [Self.two, Self.three], mayAct: false, committed: 0, now: now + .milliseconds(1))
        #expect(grants.until(Self.two) == .start)
        grants.answered(Self.two, sent: now, index: 0)
        grants.update(others: [Self.two, Self.three], mayAct: true, committed: 9, now: now + .milliseconds(2))
        grants.answered(Self.two, sent: now + .milliseconds(1), index: 9)
        #expect(grants.until(Self.two) == .start, "asked when it did not act")
        grants.answered(Self.two, sent: now + .milliseconds(2), index: 9)
        grants.answered(Self.three, sent: now + .milliseconds(2), index: 9)
        #expect(grants.end(now: now) == now + .milliseconds(750))
        grants.update(others: [Self.three], mayAct: true, committed: 9, now: now + .milliseconds(3))
        #expect(grants.until(Self.two) == .start && grants.until(Self.three) > now)
        grants.update(others: [Self.two, Self.three], mayAct: true, committed: 9, now: now + .milliseconds(4))
        #expect(grants.until(Self.two) == .start)
    }
}

@Suite("Promises that the active replica keeps")
struct KeptPromiseTests {
    private static let id = CheckpointID(rawValue: 1 << 40)
    private static let (one, two, three) = (NodeID(1), NodeID(2), NodeID(3))
    private let now = Instant(nanoseconds: 10_000_000_000)

    /// Three nodes with current replicas in epoch `1`, the first active.
    private func directory(_ flags: CreationFlags) throws -> Directory {
        var directory = Directory()
        for node: UInt32 in 1...3 {
            _ = directory.handle(
                .joined(
                    NodeJoin(
                        node: NodeID(node), incarnation: 1, nodesExpected: 3, time: 1, lineage: 0, newLineage: 1,
                        held: [], isLast: true)), at: now)
        }
        let name = try #require(SaName("safCkpt=r"))
        let attributes = CreationAttributes(flags: flags, checkpointSize: 10, sectionsMax: 2, sectionSizeMax: 5)
        for node: UInt32 in 1...3 {
            let handle = HandleID(rawValue: UInt64(node))
            _ = directory.handle(
                .open(name, handle: handle, on: NodeID(node), id: Self.id, attributes: attributes), at: now)
        }
        for node in [Self.two, Self.three] { _ = directory.handle(.current(Self.id, node, epoch: 1), at: now) }
        return directory
    }

    /// What one node makes of it, with everything up to change 5.
    private func replica(_ node: NodeID, _ directory: Directory) throws -> Replication {
        let entry = try #require(directory.entry(Self.id))
        #expect(entry.active == Self.one && entry.count(.current) == 3)
        var replication = Replication(node: node, silenceMax: .seconds(1))
        _ = replication.handle(.mayAct(true), at: now)
        let version = ReplicaVersion(epoch: entry.epoch, change: 5)
        _ = replication.handle(.held(Self.id, ReplicaData(version: version)), at: now)
        _ = replication.handle(.entry(Self.id, entry), at: now)
        return replication
    }

    private func left(_ node: NodeID, _ directory: inout Directory) throws -> DirectoryEntry {
        _ = directory.handle(.left([NodeLife(node: node, incarnation: 1)]), at: now)
        return try #require(directory.entry(Self.id))
    }

    /// Node 2 is elected instead of node 1; node 3 follows it and has everything.
    @discardableResult
    private func takeOver(_ replication: inout Replication, _ flags: CreationFlags) throws -> [ReplicationEffect] {
        var directory = try directory(flags)
        _ = replication.handle(.entry(Self.id, try left(Self.one, &directory)), at: now)
        for node in [Self.two, Self.three] {
            let epoch = try #require(directory.entry(Self.id)).epoch
            let report = ReplicaReport(id: Self.id, epoch: epoch, version: ReplicaVersion(epoch: 1, change: 5))
            _ = directory.handle(.report(node, [report]), at: now)
        }
        let entry = try #require(directory.entry(Self.id))
        #expect(entry.active == Self.two)
        let effects = replication.handle(.entry(Self.id, entry), at: now)
        let follow = ReplicaMessage.Body.follow(round: 1, ReplicaVersion(epoch: 1, change: 5), isPartial: false)
        return effects
            + replication.handle(
                .message(ReplicaMessage(Self.id, epoch: entry.epoch, follow), from: Self.three), at: now)
    }

    private func write(_ replication: inout Replication, at time: Instant) -> [ReplicationEffect] {
        let epoch = replication.entry(Self.id)?.epoch ?? 0
        var effects = replication.handle(.wrote(Self.id, change: 6, ticket: 1), at: time)
        effects += replication.handle(
            .message(ReplicaMessage(Self.id, epoch: epoch, .acknowledge(change: 6)), from: Self.three), at: time)
        return effects
    }

    @Test(
        "Who takes over acknowledges nothing before its promise to the one before is over, and then at once",
        arguments: [CreationFlags.writeAllReplicas, .writeActiveReplica])
    func takesOver(flags: CreationFlags) throws {
        var replication = try replica(Self.two, try directory(flags))
        let until = now + .milliseconds(200)
        _ = replication.handle(.granted(Self.one, until: until), at: now)
        let taken = try takeOver(&replication, flags)
        #expect(taken.contains(.wake(at: until)), "not a tick later")
        #expect(!write(&replication, at: now + .milliseconds(1)).contains(.complete(1)))
        #expect(!replication.handle(.tick, at: until + .nanoseconds(-1)).contains(.complete(1)))
        #expect(replication.handle(.tick, at: until).contains(.complete(1)))
    }

    @Test("A ckptd that has ended is promised nothing; nor is one that has not asked for so long")
    func nothingPromised() throws {
        var ended = try replica(Self.two, try directory(.writeAllReplicas))
        _ = ended.handle(.granted(Self.one, until: now + .milliseconds(200)), at: now)
        _ = ended.handle(.ended(Self.one), at: now)
        try takeOver(&ended, .writeAllReplicas)
        #expect(write(&ended, at: now).contains(.complete(1)))

        var late = try replica(Self.two, try directory(.writeAllReplicas))
        _ = late.handle(.granted(Self.one, until: now + .milliseconds(200)), at: now)
        try takeOver(&late, .writeAllReplicas)
        #expect(!write(&late, at: now).contains(.complete(1)))
        #expect(late.handle(.ended(Self.one), at: now + .milliseconds(5)).contains(.complete(1)), "known later")

        var old = try replica(Self.two, try directory(.writeAllReplicas))
        _ = old.handle(.granted(Self.one, until: now), at: now + .milliseconds(-200))
        try takeOver(&old, .writeAllReplicas)
        #expect(write(&old, at: now).contains(.complete(1)))
    }

    @Test("A follower that may be read, and is left out, is waited for as long as it was promised")
    func follower() throws {
        var directory = try directory(.writeAllReplicas)
        var replication = try replica(Self.one, directory)
        let until = now + .milliseconds(200)
        _ = replication.handle(.granted(Self.two, until: until), at: now)
        _ = replication.handle(.entry(Self.id, try left(Self.two, &directory)), at: now)
        let follow = ReplicaMessage.Body.follow(round: 1, ReplicaVersion(epoch: 1, change: 5), isPartial: false)
        _ = replication.handle(.message(ReplicaMessage(Self.id, epoch: 1, follow), from: Self.three), at: now)
        #expect(!write(&replication, at: now).contains(.complete(1)))
        #expect(replication.handle(.tick, at: until).contains(.complete(1)))
    }

    @Test("Asked reads need the promise of everybody who could take over, and of nobody else")
    func trusted() throws {
        let replication = try replica(Self.one, try directory(.writeAllReplicas))
        #expect(replication.isTrusted(Self.id) { _ in true })
        #expect(!replication.isTrusted(Self.id) { $0 == Self.two })
        var directory = try directory(.writeAllReplicas)
        var active = replication
        let entry = try left(Self.three, &directory)
        _ = active.handle(.entry(Self.id, entry), at: now)
        #expect(active.isTrusted(Self.id) { $0 == Self.two }, "three is no more")
        let silent = active.handle(.noPromise(Self.id, Self.two), at: now)
        #expect(silent == [.propose(.silent(Self.id, Self.two, epoch: entry.epoch), about: Self.id)])
        let follower = try replica(Self.two, try self.directory(.writeAllReplicas))
        #expect(!follower.isTrusted(Self.id) { _ in true }, "it is not the active one")
    }
}
