import CkptProtocol
import EngineKit
import SAFTypes

// A replica that follows the active one.
extension Replication {
    mutating func receive(
        _ message: ReplicaMessage, from peer: NodeID, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        let id = message.checkpoint
        guard let replica = replicas[id] else { return }
        if let leading = replica.leading, leading.epoch == message.epoch {
            switch message.body {
            case .follow(let round, let version, let isPartial):
                follow(id, peer, round: round, version, isPartial: isPartial, now, &effects)
            case .acknowledge(let change): acknowledged(id, peer, change, now, &effects)
            case .pieceTaken(let round): pieceTaken(id, peer, round, &effects)
            case .lead, .start, .copy, .update, .piece, .copied: break
            }
            return
        }
        guard let following = replica.following, following.active == peer, following.epoch == message.epoch,
            replica.promised <= message.epoch, let data = replica.data
        else { return }
        take(message, replica, following, data, now, &effects)
    }

    private mutating func take(
        _ message: ReplicaMessage, _ replica: Replica, _ following: Following, _ data: ReplicaData, _ now: Instant,
        _ effects: inout [ReplicationEffect]
    ) {
        let id = message.checkpoint
        switch message.body {
        case .lead: askAgain(id, now, &effects)
        case .start(let round, let from, let history):
            guard round == replica.round, following.stage == .asked else { return }
            guard from == data.version.change, !data.isPartial else { return askAgain(id, now, &effects) }
            replicas[id]?.following?.stage = .streaming(history)
            enterEpoch(id, &effects)
            acknowledge(id, &effects)
        case .copy(let round, let base):
            // Also when updates were to follow and the log had them no more, or a copy begins anew.
            guard round == replica.round, replica.restsUntil <= now else { return }
            replicas[id]?.following?.stage = .copying
            durable.removeValue(forKey: id)
            replicas[id]?.data = ReplicaData(version: .init(epoch: 0, change: base), isPartial: true)
            effects.append(.wipe(id, base: base))
        case .update(let change):
            if case .asked = following.stage { return }
            if change <= data.version.change { return acknowledge(id, &effects) }
            guard change == data.version.change + 1 else { return missed(id, following, now, &effects) }
            replicas[id]?.following?.missesSince = nil
            effects.append(.apply(id, change: change, tolerant: data.isPartial))
        case .piece(let round):
            guard round == replica.round, following.stage == .copying else { return }
            effects.append(.takePiece(id))
            send(.pieceTaken(round: round), id, following, &effects)
        case .copied(let round, let change, let history):
            guard round == replica.round, following.stage == .copying else { return }
            guard change == data.version.change else { return askAgain(id, now, &effects) }
            // Nothing of it is acknowledged before the store has it.
            replicas[id]?.following?.stage = .finishing(history)
            effects.append(.finishCopy(id))
        case .follow, .acknowledge, .pieceTaken: break
        }
    }

    /// Updates do not overtake each other: this one was sent before the active replica knew what is lacking here, and
    /// what continues is behind it. To ask at once would have everything sent again for each that is still on its way.
    private mutating func missed(
        _ id: CheckpointID, _ following: Following, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        if following.missesSince == nil { replicas[id]?.following?.missesSince = now }
        wake(now, &effects)
    }

    /// The store has said what became of an update or a piece.
    mutating func applied(
        _ id: CheckpointID, _ isDone: Bool, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let replica = replicas[id], let data = replica.data, let following = replica.following else { return }
        guard isDone else {
            // Its data is not what it must be: everything anew, after a rest, for it may be for want of room.
            replicas[id]?.data = ReplicaData(version: .empty, isPartial: true)
            durable.removeValue(forKey: id)
            replicas[id]?.following = nil
            effects += [.wipe(id, base: 0), .propose(.failed(id, node), about: id)]
            return rest(id, now, &effects)
        }
        if case .finishing(let history) = following.stage {
            let version = ReplicaVersion(epoch: following.epoch, change: data.version.change)
            replicas[id]?.data = ReplicaData(version: version, history: history)
            replicas[id]?.following?.stage = .streaming(history)
            effects += [.keepEpoch(id, epoch: following.epoch, history), .routeChanged(id)]
            return acknowledge(id, &effects)
        }
        replicas[id]?.data?.version.change = data.version.change + 1
        guard case .streaming = following.stage else { return }
        enterEpoch(id, &effects)
        acknowledge(id, &effects)
    }

    /// Data counts for an epoch only when it holds all that was before it.
    private mutating func enterEpoch(_ id: CheckpointID, _ effects: inout [ReplicationEffect]) {
        guard let following = replicas[id]?.following, let data = replicas[id]?.data,
            case .streaming(let history) = following.stage, data.version.epoch != following.epoch,
            data.version.change >= history.start
        else { return }
        replicas[id]?.data?.version.epoch = following.epoch
        replicas[id]?.data?.history = history
        effects.append(.keepEpoch(id, epoch: following.epoch, history))
    }

    /// Says what counts here: of a persistent checkpoint only what the disk has.
    func acknowledge(_ id: CheckpointID, _ effects: inout [ReplicationEffect]) {
        guard let replica = replicas[id], let following = replica.following, let data = replica.data, !data.isPartial
        else { return }
        var change = data.version.change
        if replica.isPersistent {
            guard let durable = durable[id] else { return }
            change = min(change, durable)
        }
        if case .asked = following.stage { return }
        send(.acknowledge(change: change), id, following, &effects)
    }

    private func send(
        _ body: ReplicaMessage.Body, _ id: CheckpointID, _ following: Following, _ effects: inout [ReplicationEffect]
    ) {
        effects.append(.send(ReplicaMessage(id, epoch: following.epoch, body), to: following.active))
    }

    mutating func askAgain(_ id: CheckpointID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        guard var replica = replicas[id], let following = replica.following else { return }
        ask(id, &replica, following.active, now, &effects)
        replicas[id] = replica
    }

    /// Tells the active replica what this one has.
    mutating func ask(
        _ id: CheckpointID, _ replica: inout Replica, _ active: NodeID, _ now: Instant,
        _ effects: inout [ReplicationEffect]
    ) {
        guard let data = replica.data, replica.restsUntil <= now else { return }
        let epoch = replica.entry.epoch
        replica.round += 1
        replica.following = Following(active: active, epoch: epoch, since: now)
        let body = ReplicaMessage.Body.follow(
            round: replica.round, data.isPartial ? .empty : data.version, isPartial: data.isPartial)
        effects.append(.send(ReplicaMessage(id, epoch: epoch, body), to: active))
        wake(now, &effects)
    }

    private mutating func acknowledged(
        _ id: CheckpointID, _ peer: NodeID, _ change: UInt64, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let data = replicas[id]?.data, let follower = replicas[id]?.leading?.followers[peer],
            change > follower.acknowledged || follower.isCounted == false, change <= data.version.change,
            change >= follower.copyBase
        else { return }
        replicas[id]?.leading?.followers[peer]?.acknowledged = max(change, follower.acknowledged)
        progress(id, now, &effects)
        letGo(id, now, &effects)
    }
}
