import EngineKit
import IOCGroups
import SAFTypes
import Testing

@testable import EOReplicated

@Suite("Replicated: bytes on the wire")
struct ReplicatedMessageTests {
    static let bodies: [ReplicatedMessage.Body] = [
        .command(
            Command(
                sequence: 1, firstWanted: 1, generation: 2, stamp: Instant(nanoseconds: 3), version: 1,
                action: .event([0xEE]))),
        .command(
            Command(
                sequence: 2, firstWanted: 1, generation: 2, stamp: Instant(nanoseconds: 3), version: 1,
                action: .timer(key: 7, deadline: Instant(nanoseconds: 8)))),
        .command(
            Command(
                sequence: 3, firstWanted: 1, generation: 2, stamp: Instant(nanoseconds: 3), version: 1,
                action: .done(EffectID(index: 5, ordinal: 1), [1, 2]))),
        .report(
            Report(
                view: 9, isContinuing: true, claim: Epoch(number: 2, id: 8), stable: 3, index: 4, chain: 5, promised: 6,
                seniority: Seniority(epoch: 1, position: 2), versionMin: 1, versionMax: 3, takesTransfers: true)),
        .acknowledge, .offer(Offer(view: 1, position: 2, index: 3, version: 1, byteCount: 9, chunkCount: 2)),
        .chunk(Chunk(view: 1, position: 2, number: 0, bytes: [4, 5])), .request(view: 1, attempt: 2),
        .synchronised(view: 3), .digest(index: 4, digest: 5), .form(view: 6),
    ]

    func message(_ body: ReplicatedMessage.Body) -> ReplicatedMessage {
        ReplicatedMessage(
            isSynchronised: true, hasMemory: false, epoch: Epoch(number: 1, id: 2), applied: 3, chain: 4, body: body)
    }

    @Test("A command, byte by byte")
    func golden() {
        #expect(
            message(Self.bodies[0]).encoded == [
                1, 1, 1,  // format, kind, flags
                1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,  // epoch
                3, 0, 0, 0, 0, 0, 0, 0,  // applied
                4, 0, 0, 0, 0, 0, 0, 0,  // chain
                1, 0, 0, 0, 0, 0, 0, 0,  // sequence
                1, 0, 0, 0, 0, 0, 0, 0,  // first wanted
                2, 0, 0, 0,  // generation
                3, 0, 0, 0, 0, 0, 0, 0,  // stamp
                1, 0,  // version
                1, 1, 0, 0, 0, 0xEE,  // an event of one byte
            ])
    }

    @Test("Every message comes back as it went; every truncation and every longer one is refused")
    func roundTrip() throws {
        for body in Self.bodies {
            let bytes = message(body).encoded
            #expect(try ReplicatedMessage(decoding: bytes) == message(body))
            for count in bytes.indices {
                #expect(throws: DecodeError.self) { try ReplicatedMessage(decoding: Array(bytes[..<count])) }
            }
            #expect(throws: DecodeError.self) { try ReplicatedMessage(decoding: bytes + [0]) }
        }
    }

    @Test("Random bytes, and random changes of good ones, are decoded or refused")
    func random() {
        var random = SeededRandom(seed: 3)
        for _ in 0..<5_000 {
            var bytes = message(Self.bodies.randomElement(using: &random) ?? .acknowledge).encoded
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if let decoded = try? ReplicatedMessage(decoding: bytes) { #expect(decoded.encoded == bytes) }
        }
    }

    @Test("A member takes any bytes from its group without stopping")
    func hostile() {
        let member = GroupMember(node: NodeID(1), incarnation: 1)
        var random = SeededRandom(seed: 4)
        for _ in 0..<50 {
            var replicated = Replicated(core: Ledger(), configuration: ReplicatedConfiguration(member: member))
            let other = GroupMember(node: NodeID(2), incarnation: 1)
            let view = GroupView(
                id: 1, members: [member, other], joined: [member, other], left: [], isQuorate: true, nodesExpected: 3)
            _ = replicated.handle(.group(.view(view)), at: .start)
            for _ in 0..<100 {
                var bytes = message(Self.bodies.randomElement(using: &random) ?? .acknowledge).encoded
                bytes[Int.random(in: 3..<bytes.count, using: &random)] = UInt8.random(in: 0...2, using: &random)
                let sender = random.chance(percent: 50) ? member : other
                _ = replicated.handle(.group(.message(from: sender, bytes: bytes)), at: .start)
            }
        }
    }
}
