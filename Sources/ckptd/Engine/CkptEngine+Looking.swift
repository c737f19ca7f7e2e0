import CkptProtocol
import EngineKit
import SAFTypes

// For people: nothing changes here.

extension CkptEngine {
    /// Every checkpoint in the order of the ids, also those that are unlinked and still open.
    public func summaries(at now: Instant) -> [CheckpointSummary] {
        checkpoints.sorted { $0.key < $1.key }.map { summary($0.value, now) }
    }

    /// The sections of a checkpoint in the order of their creation; empty when there is no such checkpoint.
    ///
    /// - Parameter limit: no more than so many.
    public func sections(of id: CheckpointID, limit: Int) -> [StoredSection] {
        checkpoints[id]?.sections.page(after: 0, limit: limit) { _ in true }.sections ?? []
    }

    /// On a node alone: whether somebody has said that the replica here is the active one, where that must be said.
    public func hasActiveReplica(_ id: CheckpointID) -> Bool { checkpoints[id]?.state.hasActiveReplica ?? false }

    /// Client processes that are known, and those among them that have not come back since they were lost.
    public var sessionCounts: (all: Int, absent: Int) { (sessions.count, absentSessions.count) }
}
