public import CkptProtocol
public import SAFTypes

/// What the replicas of a checkpoint say to each other. What carries data (`update`, `piece`, `copied`) is the head of
/// a larger body, which the shell hands to store and engine as it is.
public struct ReplicaMessage: Hashable, Sendable {
    public enum Body: Hashable, Sendable {
        /// Active: I take the updates of this epoch; who follows says so.
        case lead
        /// Follower: I follow you, and have this much. Answered with `start` or `copy` of the same round.
        case follow(round: UInt32, ReplicaVersion, isPartial: Bool)
        /// Active: what you have up to this change is right; what comes after it follows.
        case start(round: UInt32, from: UInt64, EpochHistory)
        /// Active: forget what you have; pieces of it all follow, and between them the updates after this change.
        case copy(round: UInt32, base: UInt64)
        /// Active: the next update; its operations follow.
        case update(change: UInt64)
        /// Active: some of the data; sections follow.
        case piece(round: UInt32)
        /// Active: that was all. Who wrote last follows.
        case copied(round: UInt32, change: UInt64, EpochHistory)
        /// Follower: I have everything up to this change.
        case acknowledge(change: UInt64)
        /// Follower: one piece has come.
        case pieceTaken(round: UInt32)
    }

    public var checkpoint: CheckpointID
    /// Of the active replica that says it, or that is spoken to.
    public var epoch: UInt64
    public var body: Body

    public init(_ checkpoint: CheckpointID, epoch: UInt64, _ body: Body) {
        self.checkpoint = checkpoint
        self.epoch = epoch
        self.body = body
    }
}

/// kind u8 · checkpoint u64 · epoch u64 · the fields of the kind.
extension ReplicaMessage: WireCodable {
    private enum Kind: UInt8 {
        case lead = 1, follow, start, copy, update, piece, copied, acknowledge, pieceTaken
    }

    public func encode(to writer: inout ByteWriter) {
        func begin(_ kind: Kind) {
            writer.integer(kind.rawValue)
            writer.integer(checkpoint.rawValue)
            writer.integer(epoch)
        }
        switch body {
        case .lead: begin(.lead)
        case .follow(let round, let version, let isPartial):
            begin(.follow)
            writer.integer(round)
            writer.value(version)
            writer.bool(isPartial)
        case .start(let round, let from, let history):
            begin(.start)
            writer.integer(round)
            writer.integer(from)
            writer.value(history)
        case .copy(let round, let base):
            begin(.copy)
            writer.integer(round)
            writer.integer(base)
        case .update(let change):
            begin(.update)
            writer.integer(change)
        case .piece(let round):
            begin(.piece)
            writer.integer(round)
        case .copied(let round, let change, let history):
            begin(.copied)
            writer.integer(round)
            writer.integer(change)
            writer.value(history)
        case .acknowledge(let change):
            begin(.acknowledge)
            writer.integer(change)
        case .pieceTaken(let round):
            begin(.pieceTaken)
            writer.integer(round)
        }
    }

    /// Leaves what follows the head unread.
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try Kind.decode(from: &reader)
        checkpoint = CheckpointID(rawValue: try reader.integer())
        epoch = try reader.integer()
        switch kind {
        case .lead: body = .lead
        case .follow: body = .follow(round: try reader.integer(), try reader.value(), isPartial: try reader.bool())
        case .start: body = .start(round: try reader.integer(), from: try reader.integer(), try reader.value())
        case .copy: body = .copy(round: try reader.integer(), base: try reader.integer())
        case .update: body = .update(change: try reader.integer())
        case .piece: body = .piece(round: try reader.integer())
        case .copied: body = .copied(round: try reader.integer(), change: try reader.integer(), try reader.value())
        case .acknowledge: body = .acknowledge(change: try reader.integer())
        case .pieceTaken: body = .pieceTaken(round: try reader.integer())
        }
    }
}
