import CkptProtocol
import Containers
import EngineKit
import SAFTypes
import Testing

@testable import CkptEngine

@Suite("Checkpoint replication")
struct ReplicationTests {
    private static let id = CheckpointID(rawValue: 1 << 40)
    private static let follower = NodeID(2)

    /// Node 1 is active in the first epoch, node 2 is to become current.
    private func leader(_ flags: CreationFlags, change: UInt64) throws -> (Replication, epoch: UInt64) {
        let directory = try directory(flags)
        let entry = try #require(directory.entry(Self.id))
        #expect(entry.active == NodeID(1) && entry.replicas[Self.follower] == .synchronising)
        var replication = Replication(node: NodeID(1))
        _ = replication.handle(.mayAct(true), at: .start)
        let version = ReplicaVersion(epoch: entry.epoch, change: change)
        _ = replication.handle(.held(Self.id, ReplicaData(version: version)), at: .start)
        _ = replication.handle(.entry(Self.id, entry), at: .start)
        return (replication, entry.epoch)
    }

    private func directory(_ flags: CreationFlags = .writeAllReplicas) throws -> Directory {
        var directory = Directory()
        for node: UInt32 in 1...2 {
            _ = directory.handle(
                .joined(
                    NodeJoin(
                        node: NodeID(node), incarnation: 1, nodesExpected: 2, time: 9, lineage: 0, newLineage: 1,
                        held: [], isLast: true)), at: .start)
        }
        let name = try #require(SaName("safCkpt=r"))
        let attributes = CreationAttributes(flags: flags, checkpointSize: 10, sectionsMax: 2, sectionSizeMax: 5)
        _ = directory.handle(
            .open(name, handle: HandleID(rawValue: 1), on: NodeID(1), id: Self.id, attributes: attributes), at: .start)
        return directory
    }

    private func isCurrentProposed(_ effects: [ReplicationEffect]) -> Bool {
        effects.contains { if case .propose(.current, _) = $0 { true } else { false } }
    }

    @Test("What a follower acknowledged before its copy does not make it current")
    func staleAcknowledgement() throws {
        var (replication, epoch) = try leader(.writeActiveReplica, change: 9)
        func hear(_ body: ReplicaMessage.Body) -> [ReplicationEffect] {
            replication.handle(
                .message(ReplicaMessage(Self.id, epoch: epoch, body), from: Self.follower), at: .start)
        }
        _ = hear(.follow(round: 1, .empty, isPartial: false))
        // The log has not what it lacks; the copy is small and goes out at once.
        _ = replication.handle(.streamed(Self.id, Self.follower, upTo: 0, .gone), at: .start)
        let copied = replication.handle(.pieceSent(Self.id, Self.follower, next: nil), at: .start)
        #expect(copied.contains { if case .sendCopied = $0 { true } else { false } })
        #expect(!isCurrentProposed(copied))
        // Said when it began to follow.
        #expect(!isCurrentProposed(hear(.acknowledge(change: 0))))
        #expect(isCurrentProposed(hear(.acknowledge(change: 9))))
    }

    @Test("A follower of a persistent checkpoint acknowledges what is on its disk, and is current only then")
    func durableFollower() throws {
        let flags: CreationFlags = [.writeAllReplicas, .persistent]
        var (active, epoch) = try leader(flags, change: 9)
        var entry = try #require(try directory(flags).entry(Self.id))
        let version = ReplicaVersion(epoch: epoch, change: 9)
        var follower = Replication(node: Self.follower)
        _ = follower.handle(.mayAct(true), at: .start)
        _ = follower.handle(.held(Self.id, ReplicaData(version: version)), at: .start)
        let asked = follower.handle(.entry(Self.id, entry), at: .start)
        func messages(_ effects: [ReplicationEffect]) -> [ReplicaMessage] {
            effects.compactMap { if case .send(let message, _) = $0 { message } else { nil } }
        }
        func tell(_ messages: [ReplicaMessage]) -> [ReplicationEffect] {
            messages.flatMap { active.handle(.message($0, from: Self.follower), at: .start) }
        }
        func hear(_ messages: [ReplicaMessage]) -> [ReplicationEffect] {
            messages.flatMap { follower.handle(.message($0, from: NodeID(1)), at: .start) }
        }
        let begun = tell(messages(asked))
        // It has everything in memory, and its disk has said nothing yet.
        #expect(!isCurrentProposed(begun))
        #expect(messages(hear(messages(begun))).isEmpty)
        #expect(!isCurrentProposed(tell(messages(follower.handle(.durable(Self.id, change: 8), at: .start)))))
        #expect(isCurrentProposed(tell(messages(follower.handle(.durable(Self.id, change: 9), at: .start)))))

        entry.replicas[Self.follower] = .current
        _ = active.handle(.entry(Self.id, entry), at: .start)
        #expect(!active.handle(.wrote(Self.id, change: 10, ticket: 1), at: .start).contains(.complete(1)))
        _ = hear([ReplicaMessage(Self.id, epoch: epoch, .update(change: 10))])
        // Applied in memory: said is what the disk has.
        #expect(!tell(messages(follower.handle(.applied(Self.id, true), at: .start))).contains(.complete(1)))
        let durable = follower.handle(.durable(Self.id, change: 10), at: .start)
        #expect(tell(messages(durable)).contains(.complete(1)))
    }

    @Test(
        "A follower of a persistent checkpoint that is unlinked waits for no disk: it is kept by who has it open only")
    func unlinkedFollower() throws {
        let flags: CreationFlags = [.writeAllReplicas, .persistent]
        var entry = try #require(try directory(flags).entry(Self.id))
        entry.replicas[Self.follower] = .current
        var follower = Replication(node: Self.follower)
        _ = follower.handle(.mayAct(true), at: .start)
        let version = ReplicaVersion(epoch: entry.epoch, change: 9)
        _ = follower.handle(.held(Self.id, ReplicaData(version: version)), at: .start)
        _ = follower.handle(.entry(Self.id, entry), at: .start)
        func hear(_ body: ReplicaMessage.Body) -> [ReplicationEffect] {
            follower.handle(.message(ReplicaMessage(Self.id, epoch: entry.epoch, body), from: NodeID(1)), at: .start)
        }
        func acknowledged(_ effects: [ReplicationEffect]) -> [UInt64] {
            effects.compactMap { effect in
                guard case .send(let message, _) = effect, case .acknowledge(let change) = message.body else {
                    return nil
                }
                return change
            }
        }
        _ = hear(.start(round: 1, from: 9, EpochHistory()))
        #expect(acknowledged(follower.handle(.durable(Self.id, change: 9), at: .start)) == [9])
        _ = hear(.update(change: 10))
        #expect(!acknowledged(follower.handle(.applied(Self.id, true), at: .start)).contains(10))
        // What the disk has not yet it will not have any more.
        entry.isUnlinked = true
        #expect(acknowledged(follower.handle(.entry(Self.id, entry), at: .start)) == [10])
        _ = hear(.update(change: 11))
        #expect(acknowledged(follower.handle(.applied(Self.id, true), at: .start)) == [11])
    }

    @Test("An asynchronous update waits for a follower that is counted on and cannot take it")
    func pacing() throws {
        var (replication, epoch) = try leader(.writeActiveReplica, change: 0)
        let hello = ReplicaMessage(Self.id, epoch: epoch, .follow(round: 1, .empty, isPartial: false))
        let joined = replication.handle(.message(hello, from: Self.follower), at: .start)
        #expect(isCurrentProposed(joined))
        var change: UInt64 = 0
        func write() -> Bool {
            change += 1
            return replication.handle(.wrote(Self.id, change: change, ticket: change), at: .start)
                .contains(.complete(change))
        }
        for _ in 0..<64 { #expect(write()) }
        #expect(!write(), "65 behind")
        let acknowledged = ReplicaMessage(Self.id, epoch: epoch, .acknowledge(change: 65))
        #expect(replication.handle(.message(acknowledged, from: Self.follower), at: .start).contains(.complete(65)))
        #expect(write())
        _ = replication.handle(.blocked(Self.id, Self.follower, change: change), at: .start)
        #expect(!write(), "the lane is full")
        let everything = ReplicaMessage(Self.id, epoch: epoch, .acknowledge(change: change))
        #expect(replication.handle(.message(everything, from: Self.follower), at: .start).contains(.complete(change)))
    }

    @Test("A copy that cannot be sent holds writers up, but not for longer than silence is borne")
    func heldUp() throws {
        var (replication, epoch) = try leader(.writeAllReplicas, change: 9)
        let hello = ReplicaMessage(Self.id, epoch: epoch, .follow(round: 1, .empty, isPartial: true))
        let copied = replication.handle(.message(hello, from: Self.follower), at: .start)
        #expect(copied.contains { if case .sendPiece = $0 { true } else { false } })
        #expect(replication.handle(.wrote(Self.id, change: 10, ticket: 1), at: .start).contains(.complete(1)))
        _ = replication.handle(.blocked(Self.id, Self.follower, change: 10), at: .start)
        #expect(!replication.handle(.wrote(Self.id, change: 11, ticket: 2), at: .start).contains(.complete(2)))
        let early = Instant.start + replication.silenceMax / 2
        #expect(!replication.handle(.tick, at: early).contains(.complete(2)))
        #expect(replication.handle(.tick, at: .start + replication.silenceMax).contains(.complete(2)))
        #expect(replication.handle(.wrote(Self.id, change: 12, ticket: 3), at: early).contains(.complete(3)))
        // It takes something: writers are considerate again.
        _ = replication.handle(.writable(Self.follower), at: early)
        _ = replication.handle(.streamed(Self.id, Self.follower, upTo: 11, .full), at: early)
        #expect(!replication.handle(.wrote(Self.id, change: 13, ticket: 4), at: early).contains(.complete(4)))
        #expect(replication.handle(.linkDown(Self.follower), at: early).contains(.complete(4)))
    }

    @Test("What was sent to a follower before it asked anew does not make it ask again; what never comes does, later")
    func updatesBeforeTheStart() throws {
        var replication = Replication(node: Self.follower, silenceMax: .seconds(1))
        _ = replication.handle(.mayAct(true), at: .start)
        _ = replication.handle(.held(Self.id, ReplicaData(version: .empty)), at: .start)
        let entry = try #require(try directory().entry(Self.id))
        let epoch = entry.epoch
        _ = replication.handle(.entry(Self.id, entry), at: .start)
        func hear(_ body: ReplicaMessage.Body, at now: Instant = .start) -> [ReplicationEffect] {
            replication.handle(.message(ReplicaMessage(Self.id, epoch: epoch, body), from: NodeID(1)), at: now)
        }
        func asked(_ effects: [ReplicationEffect]) -> UInt32? {
            for case .send(let message, _) in effects {
                if case .follow(let round, _, _) = message.body { return round }
            }
            return nil
        }
        let round = try #require(asked(hear(.lead)))
        _ = hear(.start(round: round, from: 0, EpochHistory(start: 9, previous: 0)))
        // Of the answer to an earlier question, of which the first was not listened to.
        for change: UInt64 in 5...9 { #expect(asked(hear(.update(change: change))) == nil) }
        #expect(hear(.update(change: 1)).contains(.apply(Self.id, change: 1, tolerant: false)))
        _ = replication.handle(.applied(Self.id, true), at: .start)
        #expect(asked(hear(.update(change: 3))) == nil)
        #expect(asked(replication.handle(.tick, at: .start + .seconds(3))) == nil)
        #expect(asked(replication.handle(.tick, at: .start + .seconds(4))) == round + 1)
    }

    @Test("A replica is read without asking only while it lacks nothing that was acknowledged")
    func readable() throws {
        var directory = try directory()
        let first = try #require(directory.entry(Self.id))
        var follower = Replication(node: Self.follower)
        _ = follower.handle(.mayAct(true), at: .start)
        _ = follower.handle(.held(Self.id, ReplicaData(version: .init(epoch: 0, change: 0))), at: .start)
        let asked = follower.handle(.entry(Self.id, first), at: .start)
        #expect(!follower.isReadable(Self.id), "not current yet")
        var rounds: [UInt32] = []
        for case .send(let message, _) in asked {
            if case .follow(let round, _, _) = message.body { rounds.append(round) }
        }
        let round = try #require(rounds.last)
        func hear(_ body: ReplicaMessage.Body) {
            let message = ReplicaMessage(Self.id, epoch: first.epoch, body)
            #expect(ReplicationEvent.message(message, from: NodeID(1)).concern == .one(Self.id))
            _ = follower.handle(.message(message, from: NodeID(1)), at: .start)
        }
        hear(.start(round: round, from: 0, EpochHistory()))
        #expect(!follower.isReadable(Self.id))
        _ = directory.handle(.current(Self.id, Self.follower, epoch: first.epoch), at: .start)
        let entry = try #require(directory.entry(Self.id))
        #expect(entry.replicas[Self.follower] == .current)
        _ = follower.handle(.entry(Self.id, entry), at: .start)
        #expect(follower.isReadable(Self.id))
        hear(.update(change: 1))
        _ = follower.handle(.applied(Self.id, true), at: .start)
        #expect(follower.isReadable(Self.id))
        var (missing, refusing, copying) = (follower, follower, follower)
        let late = ReplicaMessage(Self.id, epoch: first.epoch, .update(change: 3))
        _ = missing.handle(.message(late, from: NodeID(1)), at: .start)
        #expect(!missing.isReadable(Self.id), "an update was missed")
        _ = refusing.handle(.applied(Self.id, false), at: .start)
        #expect(!refusing.isReadable(Self.id), "the store refused")
        let copy = ReplicaMessage(Self.id, epoch: first.epoch, .copy(round: round, base: 5))
        _ = copying.handle(.message(copy, from: NodeID(1)), at: .start)
        #expect(!copying.isReadable(Self.id), "a copy takes its place")
        _ = follower.handle(.linkUp(NodeID(1)), at: .start)
        #expect(!follower.isReadable(Self.id), "what was on its way may be lost")
    }

    @Test("The active replica is read without asking, also an asynchronous one; its followers then are not")
    func readableActive() throws {
        let (synchronous, _) = try leader(.writeAllReplicas, change: 3)
        #expect(synchronous.isReadable(Self.id))
        let (asynchronous, _) = try leader(.writeActiveReplica, change: 3)
        #expect(asynchronous.isReadable(Self.id))
        var unheard = asynchronous
        _ = unheard.handle(.entry(Self.id, nil), at: .start)
        #expect(!unheard.isReadable(Self.id))
    }

    @Test("A lease is over before anybody goes on without this node")
    func lease() {
        let rule = LeaseRule(token: .seconds(1))
        let (now, two, three) = (Instant(nanoseconds: 9_000_000_000), NodeID(2), NodeID(3))
        #expect(rule.length < .seconds(1) && LeaseRule(token: .milliseconds(200)).length < .milliseconds(200))
        #expect(LeaseRule(token: .seconds(60)).length < .seconds(1), "silence of a second is borne, whatever the token")
        #expect(rule.end([], [:], mayAct: true, now: now) == now + rule.length)
        #expect(rule.end([], [:], mayAct: false, now: now) == .start)
        #expect(rule.end([two, three], [two: now], mayAct: true, now: now) == .start, "one was never heard")
        let heard: OrderedMap = [two: now, three: Instant(nanoseconds: 8_500_000_000)]
        #expect(rule.end([two, three], heard, mayAct: true, now: now) == Instant(nanoseconds: 9_250_000_000))
        #expect(rule.end([two], heard, mayAct: true, now: now) == now + rule.length, "who has left is not waited for")
    }
}
