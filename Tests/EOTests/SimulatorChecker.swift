import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes

/// Judges a ``Simulator`` run from outside: only from what was proposed, answered and performed, and from the ledgers.
struct SimulatorChecker {
    private(set) var findings: [String] = []
    private(set) var answeredCount = 0

    private var open: [UInt64: NodeID] = [:]
    private var closed: Set<UInt64> = []
    private var events: [UInt64: Ledger.Event] = [:]
    /// The longest history of which a client was told that it is so.
    private var told: [UInt64] = []
    /// Answers given: request and total.
    private var totals: [(request: UInt64, total: UInt64)] = []
    private var performed: Set<UInt64> = []
    /// The last once-only effect of each member since its state was replaced: as the oldest, and as that node's member.
    private var lastOnce: [Bool: [GroupMember: EffectID]] = [:]
    /// One member's memory fails: what it says until that is found out may be wrong.
    var isFlawed = false

    var openCount: Int { open.count }

    mutating func find(_ text: String) { if findings.count < 5 { findings.append(text) } }

    mutating func proposed(_ request: UInt64, _ event: Ledger.Event, by node: NodeID) {
        open[request] = node
        events[request] = event
    }

    /// Nobody waits any more for what this node's process was asked.
    mutating func crashed(_ node: NodeID) {
        for (request, owner) in open where owner == node { open[request] = nil }
    }

    // MARK: One member

    mutating func observe(
        _ outputs: [Simulator.Node.Output], of node: NodeID, from index: UInt64, _ status: ReplicatedStatus,
        after: Replicated<Ledger>
    ) {
        var isStatusSteady = true
        for output in outputs {
            switch output {
            case .answer(let ticket, let outcome): answered(ticket, outcome, by: node, after)
            case .perform(.added(let request, let total), let ticket):
                if ticket != request { find("node \(node): the answer to \(request) came with ticket \(ticket ?? 0)") }
                if closed.contains(request) { find("request \(request) got a result after its answer") }
                totals.append((request, total))
            case .performOnce(let id, let alarm):
                let isAsOldest = !alarm.isForNode
                if let last = lastOnce[isAsOldest]?[after.configuration.member], last >= id {
                    find("node \(node) performed effect \(id) after \(last)")
                }
                lastOnce[isAsOldest, default: [:]][after.configuration.member] = id
                performed.insert(alarm.request)
                tell(after.core.requests, through: alarm.request, by: node, "alarm")
            case .stateReplaced: for key in [false, true] { lastOnce[key]?[after.configuration.member] = nil }
            case .note(.diverged(let index)) where !isFlawed: find("node \(node) found its state to differ at \(index)")
            case .status: isStatusSteady = false
            default: break
            }
        }
        if after.core.wentBack { find("node \(node): time went back") }
        if isStatusSteady, status == .withoutQuorum || status == .outside, after.index != index {
            find("node \(node) applied \(after.index - index) commands without quorum")
        }
    }

    private mutating func answered(
        _ ticket: UInt64, _ outcome: ProposalOutcome, by node: NodeID, _ member: Replicated<Ledger>
    ) {
        if !closed.insert(ticket).inserted { find("request \(ticket) was answered twice") }
        if open.removeValue(forKey: ticket) != node {
            find("request \(ticket) was answered by node \(node), not its own")
        }
        answeredCount += 1
        guard outcome == .done else { return }
        if case .remind = events[ticket] { return }
        tell(member.core.requests, through: ticket, by: node, "request")
    }

    /// Somebody outside was told something that rests on this history.
    private mutating func tell(_ history: [UInt64], through request: UInt64, by node: NodeID, _ what: String) {
        guard let place = history.lastIndex(of: request) else {
            return find("node \(node) told of \(what) \(request), which it has not applied")
        }
        // Requests are unique, so the end of the common part stands for its place; the whole is compared at the end.
        if place < told.count {
            if told[place] != request { contradicts(node, what, request) }
        } else {
            if let last = told.last, history[told.count - 1] != last { contradicts(node, what, request) }
            told += history[told.count...place]
        }
    }

    private mutating func contradicts(_ node: NodeID, _ what: String, _ request: UInt64) {
        find("node \(node) told of \(what) \(request) in a history that contradicts an earlier answer")
    }

    // MARK: Members against each other

    /// Members that count each other as synchronised members of the same view hold the same history and, at the same
    /// index, the same state; one may be behind the other.
    mutating func compare(_ members: [(NodeID, Replicated<Ledger>)], changed: NodeID) {
        guard let own = members.first(where: { $0.0 == changed })?.1, own.status == .synchronised else { return }
        for (node, other) in members where node != changed && other.status == .synchronised {
            guard own.viewID == other.viewID, own.index == other.index else { continue }
            if own.logHash != other.logHash {
                find("nodes \(changed) and \(node) applied different commands through \(own.index)")
            } else if !isFlawed, own.core != other.core {
                find("nodes \(changed) and \(node) have different states at \(own.index)")
            }
        }
    }

    /// After healing and quiet.
    mutating func conclude(_ members: [(NodeID, Replicated<Ledger>)]) {
        guard let (_, first) = members.first else { return }
        for (node, member) in members {
            if member.logHash != first.logHash { find("node \(node) ends with another log") }
            if member.digest != first.digest { find("node \(node) ends with another state") }
            if member.core != first.core { find("node \(node) ends with another ledger") }
        }
        let history = first.core.requests
        if Set(history).count != history.count { find("a request was applied twice") }
        if Array(history.prefix(told.count)) != told {
            let lost = told.filter { !history.contains($0) }
            find("answered requests were lost or reordered: \(lost.prefix(5)) of \(told.count)")
        }
        if !open.isEmpty { find("\(open.count) proposals were never answered") }
        checkTotals(history)
        checkAlarms(first.core)
    }

    /// Every answer is what the surviving history gives.
    private mutating func checkTotals(_ history: [UInt64]) {
        if isFlawed { return }
        var running: [UInt32: UInt64] = [:]
        var expected: [UInt64: UInt64] = [:]
        for request in history {
            guard case .add(let name, let amount, _) = events[request] else { continue }
            running[name, default: 0] += amount
            expected[request] = running[name]
        }
        for (request, total) in totals {
            if case .add = events[request], expected[request] != total {
                find("request \(request) was answered \(total), but the history says \(expected[request] ?? 0)")
            }
        }
    }

    private mutating func checkAlarms(_ ledger: Ledger) {
        let asked = Set(
            ledger.requests.filter { request in
                if case .alarm = events[request] { true } else { false }
            })
        if asked != performed {
            find("alarms asked for and performed differ: \(asked.symmetricDifference(performed).sorted().prefix(5))")
        }
        if Set(ledger.alarmed) != asked { find("alarms asked for and reported done differ") }
        if ledger.alarmed.count != asked.count { find("an alarm was reported done twice") }
    }
}
