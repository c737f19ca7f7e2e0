import EngineKit
import IOCGroups
import SAFTypes

/// A command that waits until the view is active, or the own state loaded.
struct Buffered: Sendable {
    var position: UInt64
    var sender: GroupMember
    var command: Command
    /// The version spoken at its place in the order; nil: that of the view's activation.
    var spoken: UInt16?
}

extension Replicated {
    mutating func receive(_ bytes: [UInt8], from sender: GroupMember, at now: Instant, _ effects: inout [Effect]) {
        position += 1
        guard let view, view.members.contains(sender) else { return }
        guard view.isQuorate || sabotage == .applyWithoutQuorum else { return }  // proposers send again
        let message: ReplicatedMessage
        do throws(DecodeError) {
            message = try ReplicatedMessage(decoding: bytes)
        } catch {
            effects.append(.note(.undecodable(from: sender, error)))
            return
        }
        defer { if arrived != nil { loadArrived(at: now, &effects) } }
        noteStanding(message, of: sender, at: now, &effects)
        switch message.body {
        case .command(let command): take(command, from: sender, at: now, &effects)
        case .report(let report): receive(report, hasMemory: message.hasMemory, from: sender, at: now, &effects)
        case .acknowledge: break
        case .offer(let offer): receive(offer, from: sender, at: now, &effects)
        case .chunk(let chunk): receive(chunk, from: sender, at: now, &effects)
        case .request(let id, let attempt):
            if id == view.id { serve(sender, attempt: attempt, at: now, &effects) }
        case .synchronised(let id):
            if id == view.id { admit(sender, message, at: now, &effects) }
        case .digest(let index, let digest):
            if message.epoch == formation.epoch { compare(digest, of: sender, at: index, now, &effects) }
        case .form(let id):
            if id == view.id, formation.epoch == nil {
                formation.isForced = true
                settleBase(in: view, at: now, &effects)
            }
        }
    }

    /// The event that the engine will handle next, when this is handed to ``handle(_:at:)`` before anything else; nil
    /// when there is none, or it cannot be said yet.
    func event(comingWith delivery: GroupEvent) -> Core.Event? {
        guard case .message(let sender, let bytes) = delivery, status == .synchronised, let view, view.isQuorate,
            view.members.contains(sender),
            // What makes no sense is told of when it is handled.
            let message = try? ReplicatedMessage(decoding: bytes), case .command(let command) = message.body,
            case .event(let event) = command.action,
            state.isInPlace(command, from: sender, spoken: formation.version)
        else { return nil }
        return try? ReplicaState<Core>.decodeEvent(event, version: command.version)
    }

    /// Every message says which epoch its sender promised and how far it has applied.
    private mutating func noteStanding(
        _ message: ReplicatedMessage, of sender: GroupMember, at now: Instant, _ effects: inout [Effect]
    ) {
        guard let epoch = formation.epoch, message.epoch == epoch else { return }
        if formation.promisers.insert(sender).inserted { activateIfPromised(at: now, &effects) }
        guard message.isSynchronised, formation.isSynchronised(sender) else { return }
        formation.standings[sender] = Standing(applied: message.applied, chain: message.chain)
        guard countStanding(of: sender) else { return }
        if sender == configuration.member, status == .synchronised {
            stable = max(stable, min(message.applied, state.index))
        }
        settleCommitted(&effects)
    }

    /// False while it is of an index not yet applied here; ``takePart(at:_:)`` looks again. An equal index with another
    /// history is no acknowledgement of ours: this member may be the one being cut off.
    @discardableResult
    mutating func countStanding(of member: GroupMember) -> Bool {
        guard let standing = formation.standings[member], recent.chain(at: standing.applied) == standing.chain else {
            return false
        }
        formation.acknowledged[member] = max(standing.applied, formation.acknowledged[member] ?? 0)
        return true
    }

    private mutating func take(_ command: Command, from sender: GroupMember, at now: Instant, _ effects: inout [Effect])
    {
        guard !isMute else { return }
        let entry = Buffered(
            position: position, sender: sender, command: command,
            spoken: formation.isActive ? formation.version : nil)
        if formation.isActive, formation.isOwnMatched {
            apply(entry, at: now, &effects)
            settleCommitted(&effects)
        } else if buffer.count < configuration.bufferedMax {
            buffer.append(entry)
        } else if formation.isActive {
            startOver(at: now, &effects)
        }  // else: a flood while forming; every member drops the same, and the proposers send again
    }

    mutating func apply(_ entry: Buffered, at now: Instant, _ effects: inout [Effect]) {
        if sabotage == .skipEveryTenth, (state.index + 1) % 10 == 0, configuration.member.node.rawValue == 2 { return }
        if sabotage == .forgetMarks { state.marks[entry.sender.node] = nil }
        let isOwn = entry.sender == configuration.member
        let spoken = entry.spoken ?? formation.version
        switch state.apply(entry.command, from: entry.sender, spoken: spoken) {
        case .repeated: break
        case .outOfPlace:
            if isOwn, entry.command.generation == proposals.generation { sendAgain(at: now, &effects) }
        case .applied(let results, let isUnderstood):
            keepTimeAhead(at: now)
            isAcknowledgementOwed = true
            recent.append(state.chain)
            keep(entry.command, of: entry.sender, spoken: spoken, &effects)
            if !isUnderstood { effects.append(.note(.eventNotUnderstood(index: state.index))) }
            settleAction(entry.command.action)
            let ticket = isOwn ? proposals.applied(entry.command.sequence, at: state.index, isUnderstood) : nil
            for (effect, route) in results {
                switch route {
                case .everyMember: effects.append(.perform(effect, ticket: ticket))
                case .node(let node):
                    if node == configuration.member.node { effects.append(.perform(effect, ticket: ticket)) }
                case .answer: if isOwn { proposals.hold(effect, of: entry.command.sequence) }
                }
            }
            exchangeDigest(&effects)
        }
    }

    private mutating func settleAction(_ action: Command.Action) {
        switch action {
        case .event: break
        case .timer(let key, let deadline): if proposedTimers[key] == deadline { proposedTimers[key] = nil }
        case .done(let id, _): issued.remove(id)
        }
    }

    // MARK: What a majority has

    var committed: UInt64 {
        guard let view, formation.isActive else { return 0 }
        if view.members.count == 1 || sabotage == .answerAtSelfDelivery { return state.index }
        // Where fewer members than a majority of nodes run this group, all of them are asked.
        let needed = min(view.majority, view.members.count)
        let known = formation.synchronised.map { formation.acknowledged[$0.member] ?? 0 }.sorted(by: >)
        return known.count >= needed ? min(known[needed - 1], state.index) : 0
    }

    /// Releases answers and once-only effects that were waiting for a majority.
    mutating func settleCommitted(_ effects: inout [Effect]) {
        guard status == .synchronised else { return }
        guard proposals.hasApplied || !state.pending.isEmpty else { return }
        let committed = committed
        for released in proposals.release(through: committed) {
            if let ticket = released.ticket {
                for effect in released.held { effects.append(.perform(effect, ticket: ticket)) }
                effects.append(.answer(ticket: ticket, released.isUnderstood ? .done : .refused(.library)))
            }
        }
        for pending in state.pending {
            guard pending.id.index <= committed else { break }
            let isMine =
                switch pending.performer {
                case .oldest: isOldest
                case .node(let node): node == configuration.member.node
                }
            if isMine, issued.insert(pending.id).inserted { effects.append(.performOnce(pending.id, pending.effect)) }
        }
    }

    mutating func acknowledgeIfOwed(_ effects: inout [Effect]) {
        guard isAcknowledgementOwed, formation.isOwnMatched, formation.isActive else { return }
        isAcknowledgementOwed = false
        if let view, view.members.count > 1 { effects.append(message(.acknowledge)) }
    }

    // MARK: Journal

    private mutating func keep(
        _ command: Command, of proposer: GroupMember, spoken: UInt16, _ effects: inout [Effect]
    ) {
        guard configuration.isJournaling else { return }
        let record = JournalRecord.command(command, from: proposer, spoken: spoken).encoded
        journalBytes += record.count + JournalFramer.headerBytes
        if journalBytes > max(configuration.journalBytesMin, 2 * journalBase) {
            startJournal(&effects)
        } else {
            effects.append(.journal(.append(record)))
        }
    }

    mutating func startJournal(_ effects: inout [Effect]) {
        guard configuration.isJournaling else { return }
        var writer = ByteWriter()
        state.encode(version: formation.version, to: &writer)
        let record = JournalRecord.snapshot(claim, writer.bytes).encoded
        journalBytes = 0
        journalBase = record.count
        effects.append(.journal(.replace(record)))
    }

    // MARK: Divergence

    private mutating func exchangeDigest(_ effects: inout [Effect]) {
        let interval = configuration.digestInterval
        guard interval > 0, state.index % interval == 0, let view, view.members.count > 1, status == .synchronised
        else { return }
        effects.append(message(.digest(index: state.index, digest: digest)))
    }

    /// The digest that most members have is right; where no side is larger, that of the oldest member.
    private mutating func compare(
        _ digest: UInt64, of sender: GroupMember, at index: UInt64, _ now: Instant, _ effects: inout [Effect]
    ) {
        guard formation.isActive, formation.isSynchronised(sender) else { return }
        digests[index, default: [:]][sender] = digest
        if digests.count > 8, let oldest = digests.keys.min() { digests[oldest] = nil }
        let members = formation.synchronised.map(\.member)
        let told = members.compactMap { member in digests[index]?[member].map { (member, $0) } }
        var right = told.first { candidate in 2 * told.count { $0.1 == candidate.1 } > members.count }?.1
        if right == nil, told.count == members.count {
            right =
                told.max { left, right in  // the first of equals, which is the oldest's
                    told.count { $0.1 == left.1 } < told.count { $0.1 == right.1 }
                }?.1
        }
        guard let right else { return }
        let wrong = told.filter { $0.1 != right }.map(\.0)
        guard !wrong.isEmpty else { return }
        for member in wrong {
            formation.remove(member)
            for index in digests.keys { digests[index]?[member] = nil }
            if member != configuration.member { effects.append(.note(.memberDiverged(member, index: index))) }
        }
        if wrong.contains(configuration.member) {
            effects.append(.note(.diverged(index: index)))
            hasMemory = false
            formation.isOwnMatched = false
            claim = .none
            stable = 0
            bufferStart = position
            beginSynchronising(at: now, &effects)
        } else {
            offerIfOldest(position: position, to: wrong, &effects)
        }
        settleCommitted(&effects)
    }
}
