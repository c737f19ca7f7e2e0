import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes
import Testing

/// The versions that a build speaks.
protocol Spoken: Sendable { static var range: ClosedRange<UInt16> { get } }
enum One: Spoken { static let range: ClosedRange<UInt16> = 1...1 }
enum OneTwo: Spoken { static let range: ClosedRange<UInt16> = 1...2 }
enum TwoThree: Spoken { static let range: ClosedRange<UInt16> = 2...3 }
enum Three: Spoken { static let range: ClosedRange<UInt16> = 3...3 }

protocol LedgerBuild: ReplicatedEngine where Event == Ledger.Event {
    var ledger: Ledger { get }
    init()
}

/// A build of ``Ledger`` that marks every event and snapshot with its version, and reads no other than it speaks.
struct Build<Versions: Spoken>: LedgerBuild {
    static var versions: ClosedRange<UInt16> { Versions.range }
    var ledger = Ledger()

    mutating func handle(_ event: Ledger.Event, at now: Instant) -> [Ledger.Effect] { ledger.handle(event, at: now) }
    static func route(_ effect: Ledger.Effect) -> EffectRoute<Ledger.Alarm> { Ledger.route(effect) }
    static func timerEvent(key: UInt64) -> Ledger.Event? { Ledger.timerEvent(key: key) }

    static func encode(_ event: Ledger.Event, version: UInt16, to writer: inout ByteWriter) {
        writer.integer(version)
        writer.value(event)
    }
    static func decodeEvent(version: UInt16, from reader: inout ByteReader) throws(DecodeError) -> Ledger.Event {
        try expectMark(version, &reader)
        return try reader.value()
    }
    func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) {
        writer.integer(version)
        ledger.encodeSnapshot(version: 1, to: &writer)
    }
    init() {}
    init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        try Self.expectMark(version, &reader)
        ledger = try Ledger(snapshot: &reader, version: 1)
    }
    private static func expectMark(_ version: UInt16, _ reader: inout ByteReader) throws(DecodeError) {
        let found = try reader.integer(UInt16.self)
        guard found == version, versions.contains(version) else { throw .badValue("version \(found)") }
    }
}

/// A member of any build.
protocol LedgerMember {
    var status: ReplicatedStatus { get }
    var ledger: Ledger { get }
    mutating func begin(at now: Instant) -> MemberSaid
    mutating func ask(_ event: Ledger.Event, ticket: UInt64, at now: Instant) -> MemberSaid
    mutating func turn(at now: Instant) -> MemberSaid
}

struct MemberSaid {
    var notes: [ReplicatedNote] = []
    var answers: [(ticket: UInt64, outcome: ProposalOutcome)] = []
}

extension ReplicatedNode: LedgerMember where Group == SimulatedGroup, Core: LedgerBuild {
    var ledger: Ledger { core.ledger }
    mutating func begin(at now: Instant) -> MemberSaid { said((try? start("g", at: now)) ?? []) }
    mutating func ask(_ event: Ledger.Event, ticket: UInt64, at now: Instant) -> MemberSaid {
        said(propose(event, ticket: ticket, at: now))
    }
    mutating func turn(at now: Instant) -> MemberSaid { said(pump(at: now)) }

    private func said(_ outputs: [Output]) -> MemberSaid {
        var said = MemberSaid()
        for output in outputs {
            if case .note(let note) = output { said.notes.append(note) }
            if case .answer(let ticket, let outcome) = output { said.answers.append((ticket, outcome)) }
        }
        return said
    }
}

/// Three nodes with a member each, of any build.
private struct MixedCluster {
    let network: SimulatedNetwork
    var random: SeededRandom
    var now = Instant.start
    var members: [any LedgerMember] = []
    var notes: [[ReplicatedNote]] = [[], [], []]
    var done: [UInt64] = []
    var refused = 0
    private var nextIncarnation: UInt64 = 1

    init(seed: UInt64, _ builds: [any LedgerBuild.Type]) {
        network = SimulatedNetwork(nodes: 3, seed: seed)
        random = SeededRandom(seed: seed)
        for index in builds.indices { members.append(make(builds[index], index)) }
        for index in members.indices { note(members[index].begin(at: now), of: index) }
    }

    private mutating func make<Core: LedgerBuild>(
        _ build: Core.Type, _ index: Int, offering versionMax: UInt16 = .max
    ) -> any LedgerMember {
        let group = network.attach(network.nodes[index], incarnation: nextIncarnation)
        nextIncarnation += 1
        var configuration = ReplicatedConfiguration(member: group.member)
        configuration.digestInterval = 2
        configuration.versionMax = versionMax
        return ReplicatedNode(Replicated(core: build.init(), configuration: configuration), over: group)
    }

    /// Another build takes the place of this node's.
    mutating func replace(_ index: Int, by build: any LedgerBuild.Type, offering versionMax: UInt16 = .max) {
        network.crash(network.nodes[index])
        members[index] = make(build, index, offering: versionMax)
        note(members[index].begin(at: now), of: index)
    }

    mutating func add(_ request: UInt64, at index: Int) {
        let event = Ledger.Event.add(name: UInt32(request % 3), amount: request, request: request)
        note(members[index].ask(event, ticket: request, at: now), of: index)
    }

    private mutating func note(_ said: MemberSaid, of index: Int) {
        notes[index] += said.notes
        for (ticket, outcome) in said.answers { if outcome == .done { done.append(ticket) } else { refused += 1 } }
    }

    mutating func turn(_ index: Int) { note(members[index].turn(at: now), of: index) }

    mutating func settle(for time: Duration = .milliseconds(50)) {
        for _ in 0..<50 {
            while network.step() {}
            for index in members.indices { turn(index) }
            now = now + time / 50
        }
    }

    var areAllSynchronised: Bool { members.allSatisfy { $0.status == .synchronised } }

    /// Nobody failed to read anything.
    func expectUnderstood(_ comment: Comment) {
        for note in notes.joined() {
            switch note {
            case .diverged, .memberDiverged, .undecodable, .eventNotUnderstood, .versionNotSpoken, .groupLost,
                .formedWithoutMajority:
                Issue.record("\(comment): \(note)")
            case .formed, .snapshotOffered, .snapshotLoaded, .synchronisationRestarted: break
            }
        }
    }
}

@Suite("Replicated: builds of several versions")
struct ReplicatedVersionTests {
    @Test(
        "From version 1 to 3, one node after the other, while commands flow", arguments: 1...60 as ClosedRange<UInt64>)
    func rollingUpgrade(seed: UInt64) {
        var cluster = MixedCluster(seed: seed, [Build<One>.self, Build<One>.self, Build<One>.self])
        cluster.settle()
        var request: UInt64 = 0
        let builds: [any LedgerBuild.Type] = [Build<OneTwo>.self, Build<TwoThree>.self, Build<Three>.self]
        for build in builds {
            for index in [0, 1, 2].shuffled(using: &cluster.random) {
                for _ in 0..<20 {
                    request += 1
                    cluster.add(request, at: Int.random(in: 0..<3, using: &cluster.random))
                    for _ in 0..<Int.random(in: 0...9, using: &cluster.random) { _ = cluster.network.step() }
                    cluster.turn(Int.random(in: 0..<3, using: &cluster.random))
                }
                for _ in 0..<20 where !cluster.areAllSynchronised { cluster.settle() }
                cluster.replace(index, by: build)
            }
        }
        for _ in 0..<20 where !cluster.areAllSynchronised { cluster.settle() }
        cluster.settle()
        #expect(cluster.areAllSynchronised, "seed \(seed)")
        let ledger = cluster.members[0].ledger
        #expect(cluster.members.allSatisfy { $0.ledger == ledger }, "seed \(seed)")
        #expect(Set(ledger.requests).count == ledger.requests.count, "seed \(seed)")
        #expect(Set(cluster.done).isSubset(of: ledger.requests) && cluster.done.count > 30, "seed \(seed)")
        cluster.expectUnderstood("seed \(seed)")
    }

    @Test("A member that speaks only the old version brings the others back to it")
    func oldMember() {
        var cluster = MixedCluster(seed: 3, [Build<OneTwo>.self, Build<OneTwo>.self, Build<OneTwo>.self])
        cluster.settle()
        cluster.add(1, at: 0)
        cluster.settle()
        cluster.add(2, at: 1)  // in version 2, and ordered after the old member came
        cluster.replace(2, by: Build<One>.self)
        cluster.settle()
        cluster.add(3, at: 2)
        cluster.settle()
        #expect(cluster.areAllSynchronised && cluster.done == [1, 2, 3])
        #expect(cluster.members[2].ledger.requests == [1, 2, 3])
        cluster.expectUnderstood("old member")
    }

    @Test("A member that holds its newest version back is as one of the build before: no other is left out")
    func heldBack() {
        var cluster = MixedCluster(seed: 6, [Build<One>.self, Build<One>.self, Build<One>.self])
        cluster.settle()
        cluster.add(1, at: 0)
        cluster.settle()
        for index in 0..<3 {
            cluster.replace(index, by: Build<OneTwo>.self, offering: index == 1 ? 1 : .max)
            cluster.settle()
        }
        cluster.add(2, at: 1)
        cluster.settle()
        cluster.replace(0, by: Build<One>.self)  // reads nothing of version 2
        cluster.settle()
        cluster.add(3, at: 2)
        cluster.settle()
        #expect(cluster.areAllSynchronised && cluster.done == [1, 2, 3])
        #expect(cluster.members.allSatisfy { $0.ledger.requests == [1, 2, 3] })
        cluster.expectUnderstood("held back")

        // Whose oldest version is newer offers that one.
        cluster.replace(2, by: Build<TwoThree>.self, offering: 1)
        cluster.replace(0, by: Build<TwoThree>.self, offering: 2)
        cluster.replace(1, by: Build<OneTwo>.self)
        cluster.settle()
        cluster.add(4, at: 0)
        cluster.settle()
        #expect(cluster.areAllSynchronised && cluster.done == [1, 2, 3, 4])
    }

    @Test("A command in a version that a new member no longer reads is sent again in one that it does")
    func inFlight() {
        var cluster = MixedCluster(seed: 4, [Build<One>.self, Build<OneTwo>.self, Build<OneTwo>.self])
        cluster.settle()
        cluster.add(1, at: 1)
        cluster.settle()
        cluster.add(2, at: 1)  // in version 1, not yet ordered
        cluster.replace(0, by: Build<TwoThree>.self)
        cluster.settle()
        cluster.add(3, at: 2)
        cluster.settle()
        #expect(cluster.areAllSynchronised && cluster.done == [1, 2, 3])
        #expect(cluster.members.allSatisfy { $0.ledger.requests == [1, 2, 3] })
        cluster.expectUnderstood("in flight")
    }

    @Test("A member whose version is not spoken stays out, says so once, costs nothing, and is replaced")
    func notSpoken() {
        var cluster = MixedCluster(seed: 5, [Build<TwoThree>.self, Build<Three>.self, Build<TwoThree>.self])
        cluster.settle()
        cluster.add(1, at: 0)
        cluster.settle()
        cluster.notes = [[], [], []]
        cluster.replace(2, by: Build<One>.self)
        cluster.settle(for: .seconds(60))
        cluster.add(2, at: 1)
        cluster.add(3, at: 2)
        cluster.settle(for: .seconds(60))
        #expect(cluster.members[2].status == .synchronising)
        #expect(cluster.done == [1, 2] && cluster.refused == 1)
        #expect(cluster.notes[2].filter { $0 == .versionNotSpoken(spoken: 3) }.count == 1)
        for case .snapshotOffered in cluster.notes.joined() { Issue.record("a snapshot for one that cannot read it") }
        for case .synchronisationRestarted in cluster.notes.joined() { Issue.record("asked for what it cannot read") }
        cluster.replace(2, by: Build<Three>.self)
        cluster.settle()
        #expect(cluster.areAllSynchronised && cluster.members[2].ledger.requests == [1, 2])
    }

    @Test("In a new cluster without a common version all decide the same: what most speak")
    func noCommonVersion() {
        var cluster = MixedCluster(seed: 6, [Build<One>.self, Build<TwoThree>.self, Build<Three>.self])
        cluster.settle()
        #expect(cluster.members.map(\.status) == [.synchronising, .synchronised, .synchronised])
        cluster.add(1, at: 1)
        cluster.settle()
        #expect(cluster.done == [1] && cluster.members[2].ledger.requests == [1])
    }
}
