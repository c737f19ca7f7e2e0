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
        // From another node an earlier sending may even come later.
        if origin.isRetransmission || node != nil, let slot = caller.slot,
            let change = caller.checkpoint.executed(origin.identity.number, opener: slot)
        {
            let earlier = Self.reply(to: operations, change: change, caller.checkpoint)
            let reply = CkptEffect.reply(origin.identity, .updated(earlier))
            return node == nil ? [reply] : [.executed(caller.checkpoint.id, change: change), reply]
        }
        if let effects = lateEffects(origin) { return effects }
        try require(.write, caller.flags, caller.checkpoint.name)
        try requireActiveReplica(caller.checkpoint)
        let current = caller.checkpoint.state.change
        if let expected, current != expected {
            throw Refusal(
                .badOperation, "the checkpoint is at change \(current), not \(expected): somebody else wrote")
        }
        var plan = UpdatePlan(
            caller.checkpoint, of: caller.writer.handle, operations: operations.count, limits: limits, time: time)
        try plan.add(operations)
        var transaction = plan.transaction
        note(origin.identity.number, of: caller.writer, slot: caller.slot, caller.checkpoint, in: &transaction)
        let reply = UpdateReply(change: transaction.state.change, generated: plan.generated)
        pending = .update(transaction, reply, origin)
        return [.commit(transaction, isUpdate: true)]
    }

    /// What the first sending was answered: generated ids follow from the change number. Where somebody else had given
    /// a section such an id, the next one that exists is ours.
    private static func reply(
        to operations: [SectionOperation], change: UInt64, _ checkpoint: OpenCheckpoint
    ) -> UpdateReply {
        var generated: [SectionID] = []
        for (index, operation) in operations.enumerated() where operation.kind == .create && operation.id.isDefault {
            var found: SectionID?
            for id in UpdatePlan.generatedIDs(change: change, index: index, checkpoint.attributes) {
                let exists = checkpoint.sections.slot(of: id) != nil
                if exists || found == nil { found = id }
                if !exists { break }
            }
            if let found { generated.append(found) }
        }
        return UpdateReply(change: change, generated: generated)
    }

    mutating func updated(_ transaction: Transaction, _ now: Instant) -> [CkptEffect] {
        let id = transaction.checkpoint
        let expiration = checkpoints[id]?.absorb(transaction) ?? nil
        guard let expiration, node == nil || isActiveHere(id) else { return [.publish(id)] }
        return [.publish(id), expirationTimer(id, at: expiration, transaction.time, now)]
    }

    func expirationTimer(_ id: CheckpointID, at expiration: SaTime, _ time: SaTime, _ now: Instant) -> CkptEffect {
        if expiration == .saTimeEnd { return .cancelTimer(.expiration(id)) }
        let (left, overflow) = expiration.subtractingReportingOverflow(time)
        let wait = overflow ? limits.clockCheck : min(limits.clockCheck, .nanoseconds(max(0, left)))
        return .startTimer(.expiration(id), at: now + wait)
    }

    func clockSet(_ time: SaTime, _ now: Instant) -> [CkptEffect] {
        let expiring = checkpoints.filter { id, checkpoint in
            checkpoint.sections.earliestExpiration != .saTimeEnd && (node == nil || isActiveHere(id))
        }
        return expiring.sorted { $0.key < $1.key }.map { id, checkpoint in
            expirationTimer(id, at: checkpoint.sections.earliestExpiration, time, now)
        }
    }

    mutating func purge(_ id: CheckpointID, _ time: SaTime, _ now: Instant) -> [CkptEffect] {
        recallBeforePurge(id, time) ?? purgeNow(id, time, now)
    }

    mutating func purgeNow(_ id: CheckpointID, _ time: SaTime, _ now: Instant) -> [CkptEffect] {
        guard let checkpoint = checkpoints[id] else { return [] }
        let expired = checkpoint.sections.expired(at: time)
        guard !expired.isEmpty else {
            return [expirationTimer(id, at: checkpoint.sections.earliestExpiration, time, now)]
        }
        let transaction = UpdatePlan(
            checkpoint, of: HandleID(rawValue: 0), operations: 0, limits: limits, time: time
        ).transaction
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
            let most = checkpoint.attributes.sectionSizeMax
            guard range.count <= most || range.count >= ReadRange.toTheEnd else {
                throw Refusal(
                    .invalidParam,
                    CkptRefusal.text(operation: index, "\(range.count) bytes; a section has at most \(most)"))
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
        try requireRoom(parts.reduce(0) { $0 + UInt64($1.count) }, "the parts")
        return [.reply(origin.identity, .data(checkpoint.id, change: checkpoint.state.change, parts))]
    }

    /// An answer has a size that it cannot exceed.
    private func requireRoom(_ bytes: UInt64, _ what: String) throws(Refusal) {
        guard bytes <= CkptProtocolLimits.answerBytesMax else {
            let most = CkptProtocolLimits.answerBytesMax
            throw Refusal(
                .noResources, "\(what) have \(bytes) bytes, one answer at most \(most): read them in several calls")
        }
    }

    /// What is known of one section; the refusal says that there is none.
    func section(_ caller: Caller, _ id: SectionID, _ origin: RequestOrigin, _ time: SaTime) throws(Refusal)
        -> [CkptEffect]
    {
        let checkpoint = caller.checkpoint
        try requireActiveReplica(checkpoint)
        guard let slot = checkpoint.sections.slot(of: id), let section = checkpoint.sections[slot],
            !isExpired(section, time)
        else { throw Refusal(.notExist, "section \(id) does not exist") }
        return [.reply(origin.identity, .section(section.descriptor))]
    }

    /// On a node alone; the directory answers for several.
    func exists(_ name: SaName, _ origin: RequestOrigin) -> [CkptEffect] {
        let found = named[name].flatMap { checkpoints[$0] }
        return [.reply(origin.identity, .exists(ExistsReply(attributes: found?.descriptor.attributes)))]
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

    private static func size(_ sections: [StoredSection]) -> UInt64 {
        sections.reduce(0) { $0 + $1.descriptor.size + UInt64($1.descriptor.id.bytes.count + descriptorSize) }
    }

    /// Of a descriptor in an answer, besides the id.
    private static let descriptorSize = 64

    func snapshot(_ caller: Caller, _ origin: RequestOrigin, _ time: SaTime) throws(Refusal) -> [CkptEffect] {
        let checkpoint = caller.checkpoint
        try require(.read, caller.flags, checkpoint.name)
        try requireActiveReplica(checkpoint)
        let sections = allSections(checkpoint, time)
        try requireRoom(Self.size(sections), "the sections")
        return [.reply(origin.identity, .snapshot(checkpoint.id, change: checkpoint.state.change, sections))]
    }

    /// Hot standby: from after `after` on every update, without a gap and without a repeat.
    mutating func subscribe(
        _ id: HandleID, after: UInt64?, _ caller: Caller, _ origin: RequestOrigin
    ) throws(Refusal) -> [CkptEffect] {
        let checkpoint = caller.checkpoint
        try require(.read, caller.flags, checkpoint.name)
        // Expired sections are included: their end is an update that is still to come.
        let sections = checkpoint.sections.page(after: 0, limit: .max) { _ in true }.sections
        // Else the client would be told of updates and never of what they change.
        try requireRoom(Self.size(sections), "the sections")
        var resume = after.flatMap { $0 <= checkpoint.state.change ? $0 : nil }
        if let slot = caller.slot { checkpoints[checkpoint.id]?.setSubscribed(true, opener: slot) }
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

    /// - Parameter source: a node that has looked whether the asker may.
    func adminSections(
        _ name: SaName, _ after: UInt64, _ limit: UInt32, _ dataMax: UInt32, _ origin: RequestOrigin,
        _ source: ForwardSource?, _ now: Instant
    ) throws(Refusal) -> [CkptEffect] {
        if source == nil { try requireAdministrator(origin) }
        guard let id = source?.checkpoint ?? named[name], let checkpoint = checkpoints[id] else {
            throw Refusal(.notExist, "checkpoint \(name) does not exist")
        }
        var page = checkpoint.sections.page(
            after: after, limit: Int(min(max(limit, 1), CkptProtocolLimits.pageMax))
        ) { _ in true }
        // As many as one answer holds; of the first as much as it holds.
        var bytes: UInt64 = 0
        let fitting = page.sections.prefix { section in
            bytes += min(section.descriptor.size, UInt64(dataMax)) + UInt64(section.descriptor.id.bytes.count + 64)
            return bytes <= CkptProtocolLimits.answerBytesMax
        }.count
        if fitting < page.sections.count {
            page.hasMore = max(1, fitting) < page.sections.count || page.hasMore
            page.sections.removeLast(page.sections.count - max(1, fitting))
        }
        let dataMax = UInt32(min(UInt64(dataMax), CkptProtocolLimits.answerBytesMax))
        let reply = AdminSectionsReply(
            hasMore: page.hasMore, summary: summary(checkpoint, now),
            snapshot: SnapshotReply(change: checkpoint.state.change, sections: []))
        return [.reply(origin.identity, .adminSections(reply, id, page.sections, dataMax: Int(dataMax)))]
    }
}
