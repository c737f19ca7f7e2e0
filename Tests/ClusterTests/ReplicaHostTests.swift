import EOHost
import EOLoop
import EOReplicated
import EngineKit
import IOCCluster
import IOCGroups
import OSAL
import SAFTypes
import Testing

@testable import groupmember

@Suite("Replica host on a node alone")
struct ReplicaHostTests {
    let alone = ClusterDescription.alone(name: SaName([0x61])!)

    @Test("Is synchronised when started, and answers in the order of the commands, with the tickets")
    func order() throws {
        let loop = try Loop(name: "host")
        let host = ReplicaHost(loop: loop, description: alone, incarnation: 1, core: SumEngine())
        var seen: [String] = []
        host.onView = { seen.append("view \($0.members.count) \($0.isQuorate)") }
        host.onStatus = { seen.append("\($0)") }
        host.onEffect = { effect, ticket in
            seen.append("\(effect) \(ticket.map(String.init) ?? "-")")
            if effect == .sum(2) { host.propose(40) }  // from within: comes after what is decided
        }
        host.onAnswer = { ticket, outcome in seen.append("\(outcome) \(ticket)") }
        host.start("sum")
        #expect(host.status == .synchronised)
        #expect(host.view?.members == [host.member])
        #expect(host.propose(2) == 1, "not the ticket of what its callback proposes")
        #expect(host.core.sum == 42)
        #expect(
            seen == [
                "view 1 true", "forming", "synchronised", "sum(2) 1", "added(2) 1", "done 1", "sum(42) 2",
                "added(40) 2", "done 2",
            ])
        host.close()
    }

    @Test("Tells what a majority has, after what that decided and also when a callback proposes")
    func committed() throws {
        let loop = try Loop(name: "host")
        let host = ReplicaHost(loop: loop, description: alone, incarnation: 1, core: SumEngine())
        var seen: [String] = []
        host.onEffect = { effect, _ in seen.append("\(effect)") }
        host.onCommitted = { index in
            seen.append("committed \(index)")
            if index == 1 { host.propose(3) }
        }
        host.start("sum")
        host.propose(2)
        #expect(seen == ["sum(2)", "added(2)", "committed 1", "sum(5)", "added(3)", "committed 2"])
        host.close()
    }

    @Test("A once-only effect stays until it is reported done; the journal carries the state on")
    func journal() throws {
        let loop = try Loop(name: "host")
        var records: [[UInt8]] = []
        func keep(_ write: JournalWrite) {
            switch write {
            case .append(let record): records.append(record)
            case .replace(let record): records = [record]
            }
        }
        var celebrated: [UInt64] = []
        let first = ReplicaHost(loop: loop, description: alone, incarnation: 1, core: SumEngine()) {
            $0.isJournaling = true
        }
        first.onJournal = keep
        first.onOnce = { _, celebration in celebrated.append(celebration.sum) }  // and dies before it says so
        first.start("sum")
        for number in UInt64(1)...10 { first.propose(number) }
        #expect(celebrated == [55])
        #expect(first.replicated.pendingEffects.count == 1)
        first.close()

        let second = ReplicaHost(
            loop: loop, description: alone, incarnation: 2, core: SumEngine(), restoring: records
        ) { $0.isJournaling = true }
        second.onJournal = keep
        second.onOnce = { id, celebration in
            celebrated.append(celebration.sum)
            second.effectDone(id)
        }
        second.start("sum")
        #expect(second.restoreFailure == nil)
        #expect(second.core.sum == 55)
        #expect(celebrated == [55, 55])
        #expect(second.replicated.pendingEffects.isEmpty)
        second.close()

        let third = ReplicaHost(loop: loop, description: alone, incarnation: 3, core: SumEngine(), restoring: [[1, 2]])
        #expect(third.restoreFailure != nil)
        #expect(third.core == SumEngine())
    }
}
