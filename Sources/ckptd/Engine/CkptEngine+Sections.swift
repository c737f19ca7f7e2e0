import CkptProtocol
import EngineKit
import SAFTypes

// Sections and their data.
extension CkptEngine {
    /// All operations or none. Source: saCkptSectionCreate(), -Delete(), -ExpirationTimeSet(), -Overwrite(),
    /// saCkptCheckpointWrite().
    mutating func update(
        _ caller: Caller, _ operations: [SectionOperation], ifChangeIs expected: UInt64? = nil,
        _ origin: RequestOrigin, _ time: SaTime
    ) throws(Refusal) -> [CkptEffect] {
        let checkpoint = caller.checkpoint
        // From another node an earlier sending may even come later.
        if origin.isRetransmission || node != nil, let slot = caller.slot,
            let change = checkpoint.executed(origin.identity.number, opener: slot)
        {
            let reply = CkptEffect.reply(origin.identity, .updated(Self.reply(to: operations, change: change)))
            return node == nil ? [reply] : [.executed(checkpoint.id, change: change), reply]
        }
        try require(.write, caller.flags, checkpoint.name)
        try requireActiveReplica(checkpoint)
        if let expected, checkpoint.state.change != expected {
            throw Refusal(
                .badOperation,
                "the checkpoint is at change \(checkpoint.state.change), not \(expected): somebody else wrote")
        }
        var plan = UpdatePlan(checkpoint, operations: operations.count, limits: limits, time: time)
        try plan.add(operations)
        var transaction = plan.transaction
        note(origin.identity.number, of: caller.writer, slot: caller.slot, checkpoint, in: &transaction)
        let reply = UpdateReply(change: transaction.state.change, generated: plan.generated)
        pending = .update(transaction, reply, origin)
        return [.commit(transaction, isUpdate: true)]
    }

    /// What the first sending was answered: generated ids follow from the change number.
    private static func reply(to operations: [SectionOperation], change: UInt64) -> UpdateReply {
        let generated = operations.enumerated().filter { $0.element.kind == .create && $0.element.id.isDefault }
        return UpdateReply(change: change, generated: generated.map { .generated(change: change, item: $0.offset) })
    }

    mutating func updated(_ transaction: Transaction, _ now: Instant) -> [CkptEffect] {
        let id = transaction.checkpoint
        let before = checkpoints[id]?.sections.earliestExpiration
        checkpoints[id]?.absorb(transaction)
        let after = checkpoints[id]?.sections.earliestExpiration
        var effects: [CkptEffect] = [.publish(id)]
        guard node == nil || isActiveHere(id) else { return effects }
        if let after, after != before { effects.append(expirationTimer(id, at: after, transaction.time, now)) }
        return effects
    }

    func expirationTimer(_ id: CheckpointID, at expiration: SaTime, _ time: SaTime, _ now: Instant) -> CkptEffect {
        if expiration == .saTimeEnd { return .cancelTimer(.expiration(id)) }
        let (left, overflow) = expiration.subtractingReportingOverflow(time)
        let wait = overflow ? limits.clockCheck : min(limits.clockCheck, .nanoseconds(max(0, left)))
        return .startTimer(.expiration(id), at: now + wait)
    }

    mutating func purge(_ id: CheckpointID, _ time: SaTime, _ now: Instant) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id] else { return [] }
        let expired = checkpoint.sections.expired(at: time)
        guard !expired.isEmpty else {
            return [expirationTimer(id, at: checkpoint.sections.earliestExpiration, time, now)]
        }
        let transaction = UpdatePlan(checkpoint, operations: 0, limits: limits, time: time).transaction
        pending = .purge(transaction)
        return [.commit(transaction, isUpdate: true)]
    }

    /// Source: saCkptCheckpointRead().
    func read(_ caller: Caller, _ ranges: [ReadRange], _ origin: RequestOrigin, _ time: SaTime) throws(Refusal)
        -> [CkptEffect]
    {
        let checkpoint = caller.checkpoint
        try require(.read, caller.flags, checkpoint.name)
        try requireActiveReplica(checkpoint)
        guard !ranges.isEmpty else { throw Refusal(.invalidParam, "nothing to read; at least one section expected") }
        var parts: [StoredPart] = []
        parts.reserveCapacity(ranges.count)
        for (index, range) in ranges.enumerated() {
            guard let slot = checkpoint.sections.slot(of: range.id), let section = checkpoint.sections[slot],
                !isExpired(section, time)
            else {
                throw Refusal(.notExist, CkptRefusal.text(operation: index, "section \(range.id) does not exist"))
            }
            guard range.offset <= UInt64(section.size) else {
                throw Refusal(
                    .invalidParam,
                    CkptRefusal.text(
                        operation: index,
                        "offset \(range.offset) is beyond the \(section.size) bytes of section \(range.id)"))
            }
            guard !section.isCorrupted else {
                throw Refusal(.library, CkptRefusal.text(operation: index, "section \(range.id) is corrupted"))
            }
            let count = min(range.count, UInt64(section.size) - range.offset)
            parts.append(StoredPart(slot: slot, offset: Int(range.offset), count: Int(count)))
        }
        return [.reply(origin.identity, .data(checkpoint.id, change: checkpoint.state.change, parts))]
    }

    private func isExpired(_ section: SectionIndex.Section, _ time: SaTime) -> Bool {
        section.expiration != .saTimeEnd && section.expiration <= time
    }

    /// Source: saCkptSectionIterationInitialize() and -Next(): pages by serial return what existed at the start and
    /// still
    /// does exactly once.
    func list(
        _ caller: Caller, after: UInt64, limit: UInt32, _ chosen: SectionsChosen, _ at: SaTime,
        _ origin: RequestOrigin, _ time: SaTime
    ) throws(Refusal) -> [CkptEffect] {
        let checkpoint = caller.checkpoint
        try requireActiveReplica(checkpoint)
        guard limit > 0 else { throw Refusal(.invalidParam, "a page of 0 sections; at least 1 expected") }
        let page = checkpoint.sections.page(after: after, limit: Int(min(limit, CkptProtocolLimits.pageMax))) {
            section in
            !isExpired(section, time)
                && chosen.includes(
                    expiration: section.expiration, state: section.isCorrupted ? .corrupted : .valid, time: at)
        }
        return [
            .reply(origin.identity, .list(ListReply(hasMore: page.hasMore, sections: page.sections.map(\.descriptor))))
        ]
    }

    private func allSections(_ checkpoint: OpenCheckpoint, _ time: SaTime) -> [StoredSection] {
        checkpoint.sections.page(after: 0, limit: .max) { !isExpired($0, time) }.sections
    }

    func snapshot(_ caller: Caller, _ origin: RequestOrigin, _ time: SaTime) throws(Refusal) -> [CkptEffect] {
        let checkpoint = caller.checkpoint
        try require(.read, caller.flags, checkpoint.name)
        try requireActiveReplica(checkpoint)
        let sections = allSections(checkpoint, time)
        return [.reply(origin.identity, .snapshot(checkpoint.id, change: checkpoint.state.change, sections))]
    }

    /// Hot standby: from after `after` on every update, without a gap and without a repeat.
    mutating func subscribe(
        _ id: HandleID, after: UInt64?, _ caller: Caller, _ origin: RequestOrigin
    ) throws(Refusal) -> [CkptEffect] {
        let checkpoint = caller.checkpoint
        try require(.read, caller.flags, checkpoint.name)
        if let slot = caller.slot { checkpoints[checkpoint.id]?.setSubscribed(true, opener: slot) }
        // Expired sections are included: their end is an update that is still to come.
        let sections = checkpoint.sections.page(after: 0, limit: .max) { _ in true }.sections
        var resume = after.flatMap { $0 <= checkpoint.state.change ? $0 : nil }
        if locals[checkpoint.id]?[id]?.needsSnapshot == true {
            locals[checkpoint.id]?[id]?.needsSnapshot = false
            resume = nil
        }
        return [
            .reply(
                origin.identity,
                .subscription(checkpoint.id, id, after: resume, change: checkpoint.state.change, sections))
        ]
    }

    mutating func markCorrupted(_ id: CheckpointID, slot: Int) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id], let section = checkpoint.sections[slot], !section.isCorrupted else {
            return []
        }
        checkpoints[id]?.sections.markCorrupted(slot: slot)
        return [.note(.corrupted(checkpoint.name, id, section: section.id))]
    }

    // For people.

    func summary(_ checkpoint: OpenCheckpoint, _ now: Instant) -> CheckpointSummary {
        let openers = checkpoint.openers.compactMap { $0 }
        let deadline = checkpoint.state.retentionDeadline
        return CheckpointSummary(
            checkpoint: checkpoint.id, name: checkpoint.name, descriptor: checkpoint.descriptor,
            isUnlinked: checkpoint.state.isUnlinked, hasActiveReplica: checkpoint.state.hasActiveReplica,
            subscriberCount: UInt32(clamping: openers.count { $0.isSubscribed }),
            retentionLeft: deadline == 0
                ? .saTimeEnd : max(0, (Instant(nanoseconds: deadline) - now).nanoseconds),
            openers: openers.map { opener in
                .init(
                    handle: opener.record.handle, processID: opener.record.processID, flags: opener.record.flags,
                    isConnected: sessions[opener.record.session]?.isConnected ?? !isLocal(opener.record))
            })
    }

    private func requireAdministrator(_ origin: RequestOrigin) throws(Refusal) {
        guard origin.isAdministrator else {
            throw Refusal(.access, "only root and the middleware's own user may look at all checkpoints")
        }
    }

    func adminList(
        _ after: CheckpointID, _ limit: UInt32, _ origin: RequestOrigin, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        try requireAdministrator(origin)
        let ids = checkpoints.keys.filter { $0 > after }.sorted()
        let page = ids.prefix(Int(min(max(limit, 1), CkptProtocolLimits.pageMax)))
        let reply = AdminListReply(
            hasMore: page.count < ids.count,
            checkpoints: page.compactMap { id in checkpoints[id].map { summary($0, now) } })
        return [.reply(origin.identity, .adminList(reply))]
    }

    func adminSections(
        _ name: SaName, _ after: UInt64, _ limit: UInt32, _ dataMax: UInt32, _ origin: RequestOrigin, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        try requireAdministrator(origin)
        guard let id = named[name], let checkpoint = checkpoints[id] else {
            throw Refusal(.notExist, "checkpoint \(name) does not exist")
        }
        let page = checkpoint.sections.page(
            after: after, limit: Int(min(max(limit, 1), CkptProtocolLimits.pageMax))
        ) { _ in true }
        let reply = AdminSectionsReply(
            hasMore: page.hasMore, summary: summary(checkpoint, now),
            snapshot: SnapshotReply(change: checkpoint.state.change, sections: []))
        return [.reply(origin.identity, .adminSections(reply, id, page.sections, dataMax: Int(dataMax)))]
    }
}
