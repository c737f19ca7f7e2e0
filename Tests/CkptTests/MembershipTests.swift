import CkptClient
import CkptProtocol
import ClmClient
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import CkptEngine

@Suite("Membership of the node")
struct MembershipTests {
    private static let early = ClientSession(high: 1, low: 1)
    private static let late = ClientSession(high: 2, low: 2)

    private func tell(_ membership: inout Membership, view: UInt64, joined: UInt64?) {
        let isNews = membership.told(view: view, joined: joined)
        #expect(isNews)
    }

    @Test("Who came before the node left is refused meanwhile, and for good when it is back; who comes then is served")
    func leaves() {
        var membership = Membership()
        membership.came(Self.early)
        #expect(membership.refusal(of: Self.early) == nil, "nobody has said anything")
        #expect(membership.word == 1)
        tell(&membership, view: 4, joined: 3)
        let others = membership.told(view: 5, joined: 3)
        #expect(!others, "others come and go")
        #expect(membership.refusal(of: Self.early) == nil)
        tell(&membership, view: 6, joined: nil)
        #expect(membership.refusal(of: Self.early)?.code == .unavailable)
        #expect(membership.word == 0)
        tell(&membership, view: 7, joined: 7)
        #expect(membership.refusal(of: Self.early)?.code == .unavailable, "stale")
        membership.came(Self.early)
        #expect(membership.refusal(of: Self.early)?.code == .unavailable, "connecting anew is no way out")
        membership.came(Self.late)
        #expect(membership.refusal(of: Self.late) == nil)
        membership.gone(Self.early)
        membership.came(Self.early)
        #expect(membership.refusal(of: Self.early) == nil)
    }

    @Test("Of clmd nothing was heard before it said that the node is locked: who was there then is stale afterwards")
    func firstHeardLocked() {
        var membership = Membership()
        membership.came(Self.early)
        tell(&membership, view: 3, joined: nil)
        membership.came(Self.late)
        #expect(membership.refusal(of: Self.late)?.code == .unavailable)
        tell(&membership, view: 4, joined: 4)
        #expect(membership.refusal(of: Self.early)?.code == .unavailable)
        #expect(membership.refusal(of: Self.late) == nil)
    }

    @Test("What is known outlives ckptd: who was stale is; who came in this membership is not")
    func restarts() throws {
        var membership = Membership()
        tell(&membership, view: 2, joined: 2)
        membership.came(Self.early)
        tell(&membership, view: 9, joined: 9)
        membership.came(Self.late)
        var next = try Membership(decoding: membership.encoded)
        for client in [Self.early, Self.late] { next.restored(client) }
        let fresh = ClientSession(high: 3, low: 3)
        next.came(fresh)
        let isNews = next.told(view: 9, joined: 9)
        #expect(!isNews)
        #expect(next.refusal(of: Self.early)?.code == .unavailable)
        #expect(next.refusal(of: Self.late) == nil)
        var later = try Membership(decoding: membership.encoded)
        later.restored(Self.late)
        later.came(fresh)
        tell(&later, view: 12, joined: 12)
        #expect(later.refusal(of: Self.late)?.code == .unavailable, "it left and came back meanwhile")
        #expect(later.refusal(of: fresh) == nil)
    }

    @Test("A clmd that has not found the others says nothing; every truncation of what is kept is refused")
    func bytes() throws {
        var membership = Membership()
        let isNews = membership.told(view: 0, joined: nil)
        #expect(!isNews)
        #expect(membership.isMember)
        _ = membership.told(view: 2, joined: 2)
        membership.came(Self.early)
        _ = membership.told(view: 3, joined: 3)
        let bytes = membership.encoded
        for count in 0..<bytes.count {
            #expect(throws: DecodeError.self) { try Membership(decoding: Array(bytes.prefix(count))) }
        }
    }

    @Test("A node that is locked: UNAVAILABLE also for reads that ask nobody; unlocked, only who begins anew is served")
    func locked() async throws {
        let harness = try DaemonHarness()
        let clmd = try harness.spawn("clmd")
        defer { harness.end(clmd) }
        let cluster = ClusterClient(places: harness.places)
        defer { cluster.close() }
        let name = SaName("safCkpt=member")!
        let attributes = CreationAttributes(
            flags: [.writeActiveReplica, .collocated], checkpointSize: 1 << 20, retentionDuration: .saTimeEnd,
            sectionsMax: 16, sectionSizeMax: 1 << 16)
        func strict() -> CheckpointService {
            let service = harness.service()
            service.requiresMembership = true
            return service
        }
        let indifferent = try await Checkpoint.open(name, creating: attributes, in: harness.service())
        try await indifferent.setActiveReplica()
        try await indifferent.put("a", [1])
        let service = strict()
        let reader = try await Checkpoint.open(name, in: service)
        for _ in 0..<5 { try reader.writeBlocking("a", at: 0, [2]) }  // the last ones ask nobody
        #expect(try reader.readBlocking("a") == [2])

        // The first lock may find clmd before its own node has joined.
        try await eventually { try cluster.administer(.lock, NodeID(1)) }
        try await eventually { if (try? reader.readBlocking("a")) != nil { throw AisError.tryAgain } }
        #expect(throws: AisError.unavailable) { try reader.readBlocking("a") }
        #expect(throws: AisError.unavailable) { try reader.writeBlocking("a", at: 0, [3]) }
        #expect(throws: AisError.unavailable) { try reader.statusBlocking() }
        #expect(throws: AisError.unavailable) { try Checkpoint.openBlocking(name, in: strict()) }
        #expect(try indifferent.readBlocking("a") == [2], "who does not ask for it is served")
        try indifferent.writeBlocking("a", at: 0, [4])

        try cluster.administer(.unlock, NodeID(1))
        try await eventually { _ = try Checkpoint.openBlocking(name, in: strict()) }
        #expect(throws: AisError.unavailable) { try reader.readBlocking("a") }
        harness.kill()
        try harness.start()
        let served = harness.service()
        served.requiresMembership = true
        let fresh = try Checkpoint.openBlocking(name, timeout: .seconds(30), in: served)
        #expect(try fresh.readBlocking("a", timeout: .seconds(30)) == [4])
        #expect(throws: AisError.unavailable) { try reader.statusBlocking(timeout: .seconds(30)) }
        #expect(throws: AisError.unavailable) { try reader.readBlocking("a") }
        try reader.closeBlocking()
    }

    private func eventually(_ body: () throws -> Void) async throws {
        let deadline = MonotonicClock.now() + .seconds(60)
        while true {
            do { return try body() } catch  where MonotonicClock.now() < deadline { await Task.yield() }
        }
    }
}
