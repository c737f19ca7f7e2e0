import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes
import Testing

typealias LoopbackLedger = ReplicatedNode<Ledger, LoopbackGroup>

/// What a member did, as text that can be compared.
func told(_ outputs: [LoopbackLedger.Output]) -> [String] {
    outputs.compactMap {
        switch $0 {
        case .perform(let effect, let ticket): "\(effect) ticket \(ticket.map { "\($0)" } ?? "-")"
        case .performOnce(let id, let effect): "once \(id.index).\(id.ordinal) \(effect.request)"
        case .answer(let ticket, let outcome): "answer \(ticket) \(outcome)"
        case .status(let status): "status \(status)"
        case .stateReplaced: "replaced"
        case .sendSnapshot(let member, let point, _): "send to \(member) \(point.position)"
        case .willApply(let event): "will apply \(event)"
        case .didApply: "did apply"
        case .journal, .view, .note: nil
        }
    }
}

func loopback(
    incarnation: UInt64 = 1, journaling: Bool = false, announcing: Bool = false, restoring: [[UInt8]] = []
) throws -> LoopbackLedger {
    let member = GroupMember(node: NodeID(1), incarnation: incarnation)
    var configuration = ReplicatedConfiguration(member: member)
    configuration.isJournaling = journaling
    configuration.announcesEvents = announcing
    let replicated = try Replicated(core: Ledger(), configuration: configuration, restoring: restoring)
    return ReplicatedNode(replicated, over: LoopbackGroup(member: member))
}

@Test("LoopbackGroup delivers the view, then every message once, in order, and only when asked")
func loopbackOrder() throws {
    var group = LoopbackGroup(member: GroupMember(node: NodeID(1), incarnation: 7), messageBytesMax: 8)
    #expect(group.multicast([1]) == .notJoined)
    try group.join("g")
    #expect(throws: GroupError.self) { try group.join("g") }
    #expect(group.multicast([1]) == .sent)
    #expect(group.multicast([2]) == .sent)
    #expect(group.multicast(Array(repeating: 0, count: 9)) == .tooBig)
    guard case .view(let view)? = group.next() else { return #expect(Bool(false), "a view first") }
    #expect(view.members == [group.member] && view.isQuorate && view.majority == 1)
    #expect(group.next() == .message(from: group.member, bytes: [1]))
    #expect(group.next() == .message(from: group.member, bytes: [2]))
    #expect(group.next() == nil)
    for _ in 0..<LoopbackGroup.queuedMax { #expect(group.multicast([3]) == .sent) }
    #expect(group.multicast([3]) == .busy)
    #expect(group.next() != nil)
    #expect(group.multicast([3]) == .sent)
}

@Test("A member alone is synchronised at once and answers what it applies, in order")
func aloneAnswers() throws {
    var node = try loopback()
    #expect(
        told(node.propose(.add(name: 1, amount: 1, request: 1), ticket: 9, at: .start)) == [
            "answer 9 refused(\(AisError.tryAgain))"
        ])
    #expect(told(try node.start("ledger", at: .start)) == ["status forming", "status synchronised"])
    #expect(
        told(node.propose(.add(name: 5, amount: 2, request: 10), ticket: 70, at: .start)) == [
            "added(request: 10, total: 2) ticket 70", "answer 70 done",
        ])
    #expect(node.core.totals == [5: 2])
}

@Test("An event is announced before it is applied, and nothing overtakes it")
func announced() throws {
    var node = try loopback(announcing: true)
    _ = try node.start("ledger", at: .start)
    while node.hasMore { _ = node.pump(at: .start) }
    let first = Ledger.Event.add(name: 5, amount: 2, request: 10)
    let second = Ledger.Event.add(name: 5, amount: 3, request: 11)
    #expect(told(node.propose(first, ticket: 1, at: .start)) == ["will apply \(first)"])
    #expect(told(node.propose(second, ticket: 2, at: .start)) == [], "the first is still to be applied")
    #expect(node.core.totals == [:] && node.hasMore)
    #expect(
        told(node.pump(at: .start)) == [
            "added(request: 10, total: 2) ticket 1", "answer 1 done", "did apply", "will apply \(second)",
        ])
    #expect(node.core.totals == [5: 2] && node.hasMore)
    #expect(
        told(node.pump(at: .start)) == ["added(request: 11, total: 5) ticket 2", "answer 2 done", "did apply"])
    while node.hasMore { #expect(told(node.pump(at: .start)) == []) }
    #expect(node.core.totals == [5: 5])
}

@Test("A once-only effect stays pending until it is reported done, over a restart from the journal")
func pendingOverRestart() throws {
    var node = try loopback(journaling: true)
    var journal: [[UInt8]] = []
    func keep(_ outputs: [LoopbackLedger.Output]) -> [String] {
        for output in outputs {
            switch output {
            case .journal(.append(let record)): journal.append(record)
            case .journal(.replace(let record)): journal = [record]
            default: break
            }
        }
        return told(outputs)
    }
    _ = keep(try node.start("ledger", at: .start))
    #expect(
        keep(node.propose(.alarm(request: 4), ticket: 1, at: .start)) == [
            "added(request: 4, total: 0) ticket 1", "answer 1 done", "once 1.0 4",
        ])
    // kill -9 before the report; the answer is not repeated, the effect is.
    node = try loopback(incarnation: 2, journaling: true, restoring: journal)
    #expect(keep(try node.start("ledger", at: .start)) == ["status forming", "status synchronised", "once 1.0 4"])
    #expect(keep(node.effectDone(EffectID(index: 1, ordinal: 0), then: .alarmed(request: 4), at: .start)) == [])
    #expect(node.core.alarmed == [4])
    node = try loopback(incarnation: 3, restoring: journal)
    #expect(told(try node.start("ledger", at: .start)) == ["status forming", "status synchronised"])
    #expect(node.core.alarmed == [4] && node.core.requests == [4])
}

@Test("A timer is a command: proposed when the group's time reaches it, once, and survives a restart")
func timers() throws {
    var node = try loopback(journaling: true)
    let start = Instant(nanoseconds: 1_000)
    var outputs = try node.start("ledger", at: start)
    outputs += node.propose(.remind(key: 3, after: .seconds(2)), ticket: 1, at: start)
    #expect(node.nextDeadline(after: start) == start + .seconds(2))
    #expect(told(node.pump(at: start + .seconds(1))) == [])
    var journal: [[UInt8]] = []
    for output in outputs {
        if case .journal(.append(let record)) = output { journal.append(record) }
        if case .journal(.replace(let record)) = output { journal = [record] }
    }
    var next = try loopback(incarnation: 2, restoring: journal)
    _ = try next.start("ledger", at: start + .seconds(1))
    for member in 0..<2 {
        var node = member == 0 ? node : next
        #expect(told(node.pump(at: start + .seconds(2))) == ["rang(3) ticket -"])
        #expect(node.core.reminded == 1)
        #expect(node.nextDeadline(after: start) == nil)
    }
}
