import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes
import Testing

/// The next build of ``Ledger``: its version 2 writes a mark before every event and snapshot.
private struct NextLedger: ReplicatedEngine {
    static let mark: UInt8 = 0x2A
    static let versions: ClosedRange<UInt16> = 1...2
    var ledger = Ledger()

    mutating func handle(_ event: Ledger.Event, at now: Instant) -> [Ledger.Effect] { ledger.handle(event, at: now) }
    static func route(_ effect: Ledger.Effect) -> EffectRoute<Ledger.Alarm> { Ledger.route(effect) }

    static func encode(_ event: Ledger.Event, version: UInt16, to writer: inout ByteWriter) {
        if version == 2 { writer.integer(mark) }
        writer.value(event)
    }
    static func decodeEvent(version: UInt16, from reader: inout ByteReader) throws(DecodeError) -> Ledger.Event {
        try expectMark(version, &reader)
        return try reader.value()
    }
    func encodeSnapshot(version: UInt16, to writer: inout ByteWriter) {
        if version == 2 { writer.integer(Self.mark) }
        ledger.encodeSnapshot(version: 1, to: &writer)
    }
    init() {}
    init(snapshot reader: inout ByteReader, version: UInt16) throws(DecodeError) {
        try Self.expectMark(version, &reader)
        ledger = try Ledger(snapshot: &reader, version: 1)
    }
    private static func expectMark(_ version: UInt16, _ reader: inout ByteReader) throws(DecodeError) {
        guard version == 2 else { return }
        let found = try reader.integer(UInt8.self)
        guard found == mark else { throw .badValue("mark \(found)") }
    }
}

extension ReplicatedNode where Group == SimulatedGroup {
    fileprivate static func on(_ network: SimulatedNetwork, _ node: UInt32, _ incarnation: UInt64, _ core: Core) -> Self
    {
        let group = network.attach(NodeID(node), incarnation: incarnation)
        var configuration = ReplicatedConfiguration(member: group.member)
        configuration.digestInterval = 2
        return ReplicatedNode(Replicated(core: core, configuration: configuration), over: group)
    }
}

@Test("Builds of two versions work together, and speak the newer one when the last old build is gone")
func rollingUpgrade() throws {
    let network = SimulatedNetwork(nodes: 3, seed: 9)
    var old = ReplicatedNode<Ledger, SimulatedGroup>.on(network, 1, 1, Ledger())
    var next = [2, 3].map { ReplicatedNode<NextLedger, SimulatedGroup>.on(network, $0, 1, NextLedger()) }
    var now = Instant.start
    var notes: [ReplicatedNote] = []
    func settle(withOld: Bool) {
        for _ in 0..<50 {
            while network.step() {}
            if withOld { for case .note(let note) in old.pump(at: now) { notes.append(note) } }
            for index in next.indices { for case .note(let note) in next[index].pump(at: now) { notes.append(note) } }
            now = now + .milliseconds(1)
        }
    }
    _ = try old.start("g", at: now)
    for index in next.indices { _ = try next[index].start("g", at: now) }
    settle(withOld: true)
    for request in 1...5 as ClosedRange<UInt64> {
        _ = next[Int(request % 2)].propose(.add(name: 1, amount: 1, request: request), ticket: request, at: now)
        _ = old.propose(.add(name: 2, amount: 1, request: 10 + request), ticket: 10 + request, at: now)
        settle(withOld: true)
    }
    #expect(old.status == .synchronised && old.core == next[0].core.ledger && old.core == next[1].core.ledger)
    #expect(old.core.requests.count == 10)

    // Proposed in version 1 and not yet ordered when the old build goes and another joins: everybody still agrees.
    _ = next[0].propose(.add(name: 1, amount: 1, request: 30), ticket: 30, at: now)
    network.crash(NodeID(1))
    settle(withOld: false)
    var third = ReplicatedNode<NextLedger, SimulatedGroup>.on(network, 1, 2, NextLedger())
    _ = try third.start("g", at: now)
    for _ in 0..<50 {
        while network.step() {}
        _ = third.pump(at: now)
        settle(withOld: false)
    }
    _ = third.propose(.add(name: 3, amount: 1, request: 40), ticket: 40, at: now)
    for _ in 0..<20 {
        while network.step() {}
        _ = third.pump(at: now)
        settle(withOld: false)
    }
    #expect(third.status == .synchronised && third.core.ledger.requests.suffix(2) == [30, 40])
    #expect(third.core.ledger == next[0].core.ledger && third.core.ledger == next[1].core.ledger)
    for note in notes {
        switch note {
        case .formed, .snapshotOffered, .snapshotLoaded: break
        default: Issue.record("unexpected: \(note)")
        }
    }
}
