import EngineKit
import IOCGroups
import SAFTypes

/// The own proposals until they are answered, in the order of their sequence numbers.
struct Proposals<Core: ReplicatedEngine>: Sendable {
    enum Action: Sendable { case event(Core.Event), timer(key: UInt64, deadline: Instant), done(EffectID, Core.Event?) }

    struct Waiting: Sendable {
        var sequence: UInt64
        /// Nil for timers and reports, which nobody waits for.
        var ticket: UInt64?
        var action: Action
        /// Of the own clock.
        var deadline: Instant?
        /// In which it was sent last.
        var view: UInt64?
        var appliedIndex: UInt64?
        var isUnderstood = true
        /// Answers, until a majority has the command.
        var held: [Core.Effect] = []
    }

    private(set) var waiting: [Waiting] = []
    var nextSequence: UInt64 = 1
    /// Which round of sending; a command that turns out to be out of place causes one more round, not one each.
    var generation: UInt32 = 0

    /// Those that do not count against the limit.
    private(set) var unlimited = 0
    var hasApplied: Bool { waiting.first?.appliedIndex != nil }
    var firstWanted: UInt64 { waiting.first { $0.appliedIndex == nil }?.sequence ?? nextSequence }

    /// Returns the sequence number.
    mutating func add(_ action: Action, ticket: UInt64?, deadline: Instant?, view: UInt64?) -> Waiting {
        let proposal = Waiting(sequence: nextSequence, ticket: ticket, action: action, deadline: deadline, view: view)
        waiting.append(proposal)
        if ticket == nil { unlimited += 1 }
        nextSequence += 1
        return proposal
    }

    /// Returns the ticket.
    mutating func applied(_ sequence: UInt64, at index: UInt64, _ isUnderstood: Bool) -> UInt64? {
        guard let place = waiting.firstIndex(where: { $0.sequence == sequence }) else { return nil }  // given up
        waiting[place].appliedIndex = index
        waiting[place].isUnderstood = isUnderstood
        return waiting[place].ticket
    }

    mutating func hold(_ effect: Core.Effect, of sequence: UInt64) {
        guard let place = waiting.firstIndex(where: { $0.sequence == sequence }) else { return }
        waiting[place].held.append(effect)
    }

    mutating func release(through committed: UInt64) -> [Waiting] {
        let count = waiting.prefix { $0.appliedIndex.map { $0 <= committed } ?? false }.count
        guard count > 0 else { return [] }
        let released = Array(waiting.prefix(count))
        waiting.removeFirst(count)
        unlimited -= released.count { $0.ticket == nil }
        return released
    }

    /// Removes what is in the state already, and events that were sent before this view only: the others have gone on
    /// without them. Returns their tickets; the rest counts as not applied.
    mutating func forget(through sequence: UInt64, before view: UInt64?) -> [UInt64] {
        func isOver(_ proposal: Waiting) -> Bool {
            if proposal.sequence <= sequence { return true }
            if case .event = proposal.action { return proposal.view != view } else { return false }
        }
        let known = waiting.filter(isOver)
        waiting.removeAll(where: isOver)
        unlimited -= known.count { $0.ticket == nil }
        for place in waiting.indices {
            waiting[place].appliedIndex = nil
            waiting[place].held.removeAll()
        }
        return known.compactMap { $0.ticket }
    }

    mutating func sent(in view: UInt64?) { for place in waiting.indices { waiting[place].view = view } }

    /// For a new member: nothing was sent yet. Keeps what is harmless to repeat, the reports; returns the tickets.
    mutating func restart() -> [UInt64] {
        let old = waiting
        self = Proposals()
        for proposal in old {
            if case .done = proposal.action { _ = add(proposal.action, ticket: nil, deadline: nil, view: nil) }
        }
        return old.compactMap(\.ticket)
    }

    /// Removes what waited too long and returns the tickets.
    mutating func expire(at now: Instant) -> [UInt64] {
        let late = waiting.filter { $0.deadline.map { $0 <= now } ?? false }
        guard !late.isEmpty else { return [] }
        waiting.removeAll { $0.deadline.map { $0 <= now } ?? false }
        return late.compactMap { $0.ticket }
    }
}

extension Replicated {
    /// The group's time goes on from what was applied.
    mutating func keepTimeAhead(at now: Instant) {
        if state.time > now + clockOffset { clockOffset = state.time - now }
    }

    /// The group's time as this member would stamp it.
    func groupTime(at now: Instant) -> Instant { max(state.time, now + clockOffset) }

    mutating func propose(_ event: Core.Event, ticket: UInt64, at now: Instant, _ effects: inout [Effect]) {
        guard status == .synchronised, proposals.waiting.count - proposals.unlimited < configuration.outstandingMax
        else {
            effects.append(.answer(ticket: ticket, .refused(.tryAgain)))
            return
        }
        guard Core.canEncode(event, version: formation.version) else {
            effects.append(.answer(ticket: ticket, .refused(.version)))
            return
        }
        let bytes = encoded(event)
        guard bytes.count <= eventBytesMax else {  // it would never be ordered, and hold up all that come after
            effects.append(.answer(ticket: ticket, .refused(.tooBig)))
            return
        }
        let proposal = proposals.add(
            .event(event), ticket: ticket, deadline: now + configuration.proposalTimeout, view: view?.id)
        send(proposal, as: .event(bytes), at: now, &effects)
    }

    private func encoded(_ event: Core.Event) -> [UInt8] {
        var writer = ByteWriter(reserving: 64)
        Core.encode(event, version: formation.version, to: &writer)
        return writer.bytes
    }

    mutating func reportDone(_ id: EffectID, _ event: Core.Event?, at now: Instant, _ effects: inout [Effect]) {
        let proposal = proposals.add(.done(id, event), ticket: nil, deadline: nil, view: view?.id)
        if status == .synchronised { send(proposal, at: now, &effects) }
    }

    private func send(_ proposal: Proposals<Core>.Waiting, at now: Instant, _ effects: inout [Effect]) {
        let action: Command.Action =
            switch proposal.action {
            case .event(let event): .event(encoded(event))
            case .timer(let key, let deadline): .timer(key: key, deadline: deadline)
            case .done(let id, let event): .done(id, event.map(encoded))
            }
        send(proposal, as: action, at: now, &effects)
    }

    private func send(
        _ proposal: Proposals<Core>.Waiting, as action: Command.Action, at now: Instant, _ effects: inout [Effect]
    ) {
        let command = Command(
            sequence: proposal.sequence, firstWanted: proposals.firstWanted, generation: proposals.generation,
            stamp: groupTime(at: now), version: formation.version, action: action)
        effects.append(message(.command(command)))
    }

    /// Sends everything not applied once more: some of it may have been dropped with a view. Commands that arrive twice
    /// are recognised by their number.
    mutating func sendAgain(at now: Instant, _ effects: inout [Effect]) {
        guard status == .synchronised else { return }
        proposals.generation &+= 1
        proposals.sent(in: view?.id)
        for proposal in proposals.waiting where proposal.appliedIndex == nil { send(proposal, at: now, &effects) }
    }

    // MARK: Time

    /// When ``Event/tick`` is due, by the own clock; nil: only after another event.
    public var nextDeadline: Instant? {
        var earliest = proposals.waiting.lazy.compactMap { $0.deadline }.min()
        func consider(_ instant: Instant?) {
            if let instant { earliest = min(instant, earliest ?? instant) }
        }
        consider(formation.graceEnds)
        if isWaitingForState {
            consider(lastProgress + configuration.synchronisationTimeout)
        }
        if isOldest {
            let open = state.timers.lazy.filter { proposedTimers[$0.key] != $0.value }.map { $0.value }.min()
            consider(open.map { $0 + (Duration.zero - clockOffset) })
        }
        return earliest
    }

    mutating func tick(at now: Instant, _ effects: inout [Effect]) {
        for ticket in proposals.expire(at: now) { effects.append(.answer(ticket: ticket, .refused(.timeout))) }
        if let view, let grace = formation.graceEnds, grace <= now {
            formation.graceEnds = nil
            effects.append(message(.form(view: view.id)))
        }
        if isWaitingForState, lastProgress + configuration.synchronisationTimeout <= now { ask(at: now, &effects) }
        guard isOldest, !state.timers.isEmpty else { return }
        let time = groupTime(at: now)
        let due = state.timers.filter { $0.value <= time && proposedTimers[$0.key] != $0.value }
        for (key, deadline) in due.sorted(by: { ($0.value, $0.key) < ($1.value, $1.key) }) {
            proposedTimers[key] = deadline
            let expiry = proposals.add(
                .timer(key: key, deadline: deadline), ticket: nil, deadline: nil, view: view?.id)
            send(expiry, at: now, &effects)
        }
    }
}
