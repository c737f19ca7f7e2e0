import CkptEngine
import CkptStore
import LogClient
import LogProtocol

/// What ckptd says to people.
struct Journal {
    func write(_ severity: LogSeverity, _ text: String) {
        Log.record(severity, text, area: "CKP", context: "SRV")
    }

    func write(_ note: CkptNote) {
        switch note {
        case .created(let name, let id): write(.info, "checkpoint \(name) (\(id)) created")
        case .deleted(let name, let id, .unlinked):
            write(.info, "checkpoint \(name) (\(id)) deleted: unlinked and closed")
        case .deleted(let name, let id, .retentionOver):
            write(.notice, "checkpoint \(name) (\(id)) deleted: its retention duration is over")
        case .unlinked(let name, let id, let isOpen):
            write(.notice, "checkpoint \(name) (\(id)) unlinked\(isOpen ? "; processes still have it open" : "")")
        case .restored(let name, let id, let sections, let openers):
            write(.notice, "checkpoint \(name) (\(id)) taken over: \(sections) sections, open \(openers) times")
        case .closed(let name, let id, let process, let isDead):
            write(
                .notice,
                "checkpoint \(name) (\(id)) closed for process \(process), which "
                    + (isDead ? "died or has left" : "did not come back in time")
            )
        case .corrupted(let name, let id, let section):
            write(
                .error,
                "checkpoint \(name) (\(id)): section \(section) is corrupted, its bytes are not what was written; "
                    + "overwrite or delete it")
        case .notDurable(let reason):
            write(
                .error, "persistent checkpoints cannot be made durable, updates are refused until they can: \(reason)")
        case .late(let text): write(.warning, "an update was refused: \(text)")
        case .durableAgain: write(.notice, "persistent checkpoints are durable again")
        }
    }

    func write(_ damage: CheckpointFiles.Damage) {
        write(.error, "not a sound checkpoint: \(damage.reason); moved to \(damage.path)")
    }
}
