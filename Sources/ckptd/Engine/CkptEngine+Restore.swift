import CkptProtocol
import EngineKit
import SAFTypes

// The start of a new life with the RAM files of the last one.
extension CkptEngine {
    /// Takes over a checkpoint; its openers get time to come back, its retention goes on where it was.
    mutating func restore(_ restored: RestoredCheckpoint, _ now: Instant) -> [CkptEffect] {
        let id = restored.checkpoint
        if restored.state.isUnlinked, restored.openers.isEmpty {
            guard let unlinker = restored.state.unlinker else { return [.remove(id)] }
            return [.retire(id)] + bury(id, unlinker, now)
        }
        if let reason = objection(to: restored) { return [.setAside(id, reason)] }
        if node != nil { return restoreAsMember(restored, now) }
        var checkpoint = OpenCheckpoint(restored)
        var effects: [CkptEffect] = [
            .note(
                .restored(
                    restored.name, id, sections: restored.sections.count, openers: restored.openers.count))
        ]
        for opener in restored.openers {
            let record = opener.record
            guard isLocal(record) else {
                // This node was part of a cluster; who is elsewhere is nobody any more.
                let transaction = Transaction(
                    checkpoint: id, time: 0, state: checkpoint.state, openers: [.init(slot: opener.slot, opener: nil)])
                checkpoint.absorb(transaction)
                effects.append(.record(transaction, isUpdate: false))
                continue
            }
            handles[record.handle] = Handle(
                checkpoint: id, slot: opener.slot, session: record.session, flags: record.flags)
            if sessions[record.session] == nil {
                let process = ProcessIdentity(id: record.processID, start: record.processStart)
                sessions[record.session] = Session(process: process, isConnected: false, isUnseen: true)
                effects.append(.startTimer(.absence(record.session), at: now + limits.absenceMax))
            }
            sessions[record.session]?.handles.insert(record.handle)
        }
        if checkpoint.openerCount == 0, restored.state.retentionDuration != .saTimeEnd {
            // A deadline that cannot be (another boot's clock) or was never set starts anew.
            let latest = now + .nanoseconds(restored.state.retentionDuration)
            let stored = Instant(nanoseconds: restored.state.retentionDeadline)
            let deadline = stored > latest || stored == .start ? latest : stored
            checkpoint.state.retentionDeadline = max(1, deadline.nanoseconds)
            effects.append(.startTimer(.retention(id), at: deadline))
        } else {
            checkpoint.state.retentionDeadline = 0
        }
        if checkpoint.sections.earliestExpiration != .saTimeEnd {
            effects.append(.startTimer(.expiration(id), at: now))
        }
        checkpoints[id] = checkpoint
        if !checkpoint.state.isUnlinked { named[checkpoint.name] = id }
        return effects
    }

    /// What is sound by itself but contradicts another checkpoint, or our own rules.
    private func objection(to restored: RestoredCheckpoint) -> String? {
        if checkpoints[restored.checkpoint] != nil { return "id \(restored.checkpoint) is in use" }
        if node == nil, !restored.state.isUnlinked, named[restored.name] != nil {
            return "another checkpoint is called \(restored.name)"
        }
        if !restored.attributes.flags.isValid { return "creation flags \(restored.attributes.flags.rawValue)" }
        if restored.state.retentionDuration < 0 { return "retention duration \(restored.state.retentionDuration)" }
        let ids = restored.openers.map(\.record.handle)
        if ([restored.checkpoint.rawValue] + ids.map(\.rawValue)).contains(where: { isOurs($0) && $0 >= nextID }) {
            return "ids of a later life of the daemon"
        }
        if restored.state.isPartial { return node == nil ? "a copy that was not completed" : nil }
        if Set(ids).count != ids.count || ids.contains(where: { handles[$0] != nil }) {
            return "a handle is used twice"
        }
        let serials = restored.sections.map(\.descriptor.serial)
        if Set(serials).count != serials.count || serials.contains(where: { $0 >= restored.state.nextSerial }) {
            return "section serials"
        }
        if restored.sections.contains(where: { $0.descriptor.id.isDefault != restored.attributes.hasDefaultSection }) {
            return "the default section"
        }
        if restored.attributes.hasDefaultSection, restored.sections.count != 1 {
            return "the default section is missing"
        }
        return nil
    }
}
