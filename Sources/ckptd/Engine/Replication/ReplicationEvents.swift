public import CkptProtocol
public import EngineKit
public import SAFTypes

/// Where the data operations of a checkpoint are done.
public enum ReplicaRoute: Hashable, Sendable {
    case here
    case there(NodeID)
    /// It will be known soon: an election, a hand-over, or no quorum.
    case later
    /// There is no active replica.
    case nowhere
}

public enum ReplicationEvent: Hashable, Sendable {
    /// What the directory says of a checkpoint now; nil: it is no more.
    case entry(CheckpointID, DirectoryEntry?)
    /// The node has a replica: found at the start, or made as it was asked for.
    case held(CheckpointID, ReplicaData)
    /// The replica could not be made.
    case notMade(CheckpointID)
    /// The active replica has made this update; `ticket` waits until it is safe.
    case wrote(CheckpointID, change: UInt64, ticket: UInt64)
    /// `ticket` waits until every current replica has what the active one has now, or had at that change.
    case awaitAll(CheckpointID, change: UInt64?, ticket: UInt64)
    case message(ReplicaMessage, from: NodeID)
    /// Answers `apply` and `finishCopy`; of `wipe` and `takePiece` only a failure is told.
    case applied(CheckpointID, Bool)
    /// Answers `stream`: the updates up to this one are on their way; the lane is full, or the log has no more of them.
    case streamed(CheckpointID, NodeID, upTo: UInt64, StreamEnd)
    /// The lane did not take a live update.
    case blocked(CheckpointID, NodeID, change: UInt64)
    /// Answers `sendPiece`; nil: that was the last.
    case pieceSent(CheckpointID, NodeID, next: CopyCursor?)
    /// The lane did not take the piece.
    case pieceBlocked(CheckpointID, NodeID)
    /// The lane did not take the end of the copy.
    case copiedBlocked(CheckpointID, NodeID)
    case linkUp(NodeID)
    case linkDown(NodeID)
    case writable(NodeID)
    /// This node's database has everything of a persistent checkpoint up to this change.
    case durable(CheckpointID, change: UInt64)
    /// This node is one of those that act; without quorum it takes no updates.
    case mayAct(Bool)
    /// A proposal about this checkpoint was refused; look again. A while later, and once for all that were meanwhile.
    case refused(CheckpointID)
    /// A forwarded request has had no answer for too long.
    case noAnswer(CheckpointID, NodeID)
    /// A node that could be made active has not said for too long that it is not; reads wait for it.
    case noPromise(CheckpointID, NodeID)
    /// This node has promised another to acknowledge nothing behind its back until then.
    case granted(NodeID, until: Instant)
    /// The ckptd of a node that is there has ended: nobody reads its replicas.
    case ended(NodeID)
    case tick
}

extension ReplicationEvent {
    /// Whose replica here may be readable no more, or again, after it.
    public enum Concern: Hashable, Sendable {
        case one(CheckpointID), all, none
    }

    public var concern: Concern {
        switch self {
        case .entry(let id, _), .held(let id, _), .notMade(let id), .applied(let id, _), .refused(let id),
            .noAnswer(let id, _), .noPromise(let id, _):
            .one(id)
        case .message(let message, _): .one(message.checkpoint)
        case .linkUp, .mayAct, .tick: .all
        case .wrote, .awaitAll, .streamed, .blocked, .pieceSent, .pieceBlocked, .copiedBlocked, .linkDown, .writable,
            .durable, .granted, .ended:
            .none
        }
    }
}

public enum StreamEnd: Hashable, Sendable {
    case complete, full, gone
}

/// Performed in this order; those that are answered are answered before anything else happens.
public enum ReplicationEffect: Hashable, Sendable {
    /// Make an empty replica; `.held` or `.notMade` answers.
    case make(CheckpointID)
    /// Remove the replica.
    case drop(CheckpointID)
    /// Small, to be sent before data; what a broken or full link does not take is made up for by `.linkUp`.
    case send(ReplicaMessage, to: NodeID)
    /// Send the update that was just made, if they take it.
    case live(CheckpointID, epoch: UInt64, change: UInt64, to: [NodeID])
    /// Send the updates after this one from the log.
    case stream(CheckpointID, epoch: UInt64, after: UInt64, to: NodeID)
    case sendPiece(CheckpointID, epoch: UInt64, round: UInt32, CopyCursor, to: NodeID)
    /// The end of a copy, with who wrote last, behind the data.
    case sendCopied(ReplicaMessage, to: NodeID)
    /// Do the update of the message at hand. `tolerant`: of a copy whose sections are not all there yet.
    case apply(CheckpointID, change: UInt64, tolerant: Bool)
    /// All data goes; the replica is partial, at this change.
    case wipe(CheckpointID, base: UInt64)
    case takePiece(CheckpointID)
    case finishCopy(CheckpointID)
    /// Keep with the data: its epoch, and where that began.
    case keepEpoch(CheckpointID, epoch: UInt64, EpochHistory)
    /// What the ticket waited for has happened.
    case complete(UInt64)
    /// This replica is no longer active: whether it has happened must be asked of the one that is.
    case redirect(UInt64)
    /// Requests about this checkpoint that wait should be looked at again.
    case routeChanged(CheckpointID)
    case propose(DirectoryEvent, about: CheckpointID)
    /// Send `.tick` then; in place of what was said before.
    case wake(at: Instant)
}
