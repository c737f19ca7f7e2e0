import CkptProtocol
import Containers
import EngineKit
import SAFTypes

// The active replica.
extension Replication {
    mutating func lead(
        _ id: CheckpointID, _ replica: inout Replica, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        let entry = replica.entry
        guard var data = replica.data else { return }
        var leading = replica.leading ?? Leading(epoch: 0)
        let isNew = leading.epoch != entry.epoch
        if isNew {
            // Whoever still waits goes on waiting, in the new epoch; what followers had is asked anew.
            leading.epoch = entry.epoch
            leading.followers = [:]
            leading.safe = 0
            replica.promised = max(replica.promised, entry.epoch)
            if data.version.epoch != entry.epoch {
                data.history = EpochHistory(start: data.version.change, previous: data.version.epoch)
                data.version.epoch = entry.epoch
                replica.data = data
                effects.append(.keepEpoch(id, epoch: entry.epoch, data.history))
            }
        }
        leading.followers.removeAll { entry.replicas[$0.key] ?? .absent == .absent }
        for (peer, state) in entry.replicas where peer != node && state != .absent {
            if leading.followers[peer] == nil {
                leading.followers[peer] = Follower()
                effects.append(.send(ReplicaMessage(id, epoch: entry.epoch, .lead), to: peer))
            }
            if state == .current {
                leading.followers[peer]?.isCounted = true
                leading.followers[peer]?.isProposed = false
            }
        }
        let successor = entry.replicas[entry.successor ?? node] == .current ? entry.successor : nil
        leading.isHandingOver = successor != nil
        // What was proposed in another epoch, or of another one, comes to nothing.
        if isNew || leading.proposedSuccessor != successor { leading.proposedSuccessor = nil }
        replica.leading = leading
        replicas[id] = replica
        progress(id, now, &effects)
        letGo(id, now, &effects)
        replica = replicas[id] ?? replica
    }

    func stopLeading(_ replica: inout Replica, _ effects: inout [ReplicationEffect]) {
        guard let leading = replica.leading else { return }
        for waiting in leading.waiting + leading.held { effects.append(.redirect(waiting.ticket)) }
        replica.leading = nil
    }

    mutating func wrote(
        _ id: CheckpointID, _ change: UInt64, _ ticket: UInt64, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let leading = replicas[id]?.leading else { return effects.append(.redirect(ticket)) }
        replicas[id]?.data?.version.change = change
        var nodes: [NodeID] = []
        for (peer, follower) in leading.followers where follower.stage != .unknown {
            guard !follower.isStalled, follower.sent + 1 == change else { continue }
            nodes.append(peer)
            replicas[id]?.leading?.followers[peer]?.sent = change
        }
        if !nodes.isEmpty { effects.append(.live(id, epoch: leading.epoch, change: change, to: nodes)) }
        guard leading.isHeldUp else { return settle(id, change, ticket, now, &effects) }
        if leading.held.isEmpty { replicas[id]?.leading?.heldSince = now }
        replicas[id]?.leading?.held.append(Waiting(change: change, ticket: ticket))
        wake(now, &effects)
    }

    private mutating func settle(
        _ id: CheckpointID, _ change: UInt64, _ ticket: UInt64, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        if replicas[id]?.entry.attributes.flags.contains(.writeAllReplicas) ?? false {
            wait(id, change, ticket, now, &effects)
        } else {
            paced(id, change, ticket, now, &effects)
        }
    }

    /// Writers that waited for room go on, if there is.
    mutating func letGo(_ id: CheckpointID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        guard let leading = replicas[id]?.leading, !leading.held.isEmpty, !leading.isHeldUp else { return }
        replicas[id]?.leading?.held = []
        for held in leading.held { settle(id, held.change, held.ticket, now, &effects) }
    }

    /// Whoever takes nothing at all is not waited for by writers; what it lacks comes from the log, or as a copy.
    mutating func giveUp(_ id: CheckpointID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        for (peer, follower) in replicas[id]?.leading?.followers ?? [:] where follower.isStalled {
            replicas[id]?.leading?.followers[peer]?.isSlow = true
        }
        letGo(id, now, &effects)
    }

    /// Asynchronous updates wait for nobody, but no faster than the followers can take them: what the log has no more
    /// would cost a copy of everything, again and again.
    private mutating func paced(
        _ id: CheckpointID, _ change: UInt64, _ ticket: UInt64, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        var awaited: UInt64 = 0
        for (_, follower) in replicas[id]?.leading?.followers ?? [:] where follower.isCounted {
            if follower.isStalled { awaited = change }
            if follower.acknowledged + Self.lagMax < change { awaited = max(awaited, change - Self.lagMax) }
        }
        let isPromised = replicas[id]?.readers.isEmpty == false
        if awaited > 0 || isPromised {
            wait(id, awaited, ticket, now, &effects)
        } else {
            effects.append(.complete(ticket))
        }
    }

    mutating func awaitAll(
        _ id: CheckpointID, _ change: UInt64?, _ ticket: UInt64, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let replica = replicas[id], replica.leading != nil, let data = replica.data else {
            return effects.append(.redirect(ticket))
        }
        wait(id, change ?? data.version.change, ticket, now, &effects)
    }

    private mutating func wait(
        _ id: CheckpointID, _ change: UInt64, _ ticket: UInt64, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let leading = replicas[id]?.leading else { return }
        if leading.waiting.isEmpty { replicas[id]?.leading?.waitsSince = now }
        replicas[id]?.leading?.waiting.append(Waiting(change: change, ticket: ticket))
        progress(id, now, &effects)
        if replicas[id]?.leading?.waiting.isEmpty == false { wake(now, &effects) }
    }

    /// What is safe now, who is current now, and whether the successor may take over.
    mutating func progress(_ id: CheckpointID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        guard let replica = replicas[id], var leading = replica.leading, let data = replica.data else { return }
        var safe = data.version.change
        for (_, follower) in leading.followers where follower.isCounted { safe = min(safe, follower.acknowledged) }
        leading.safe = max(leading.safe, safe)
        if isFree(id, now, &effects) {
            let before = leading.waiting.count
            for waiting in leading.waiting where waiting.change <= leading.safe {
                effects.append(.complete(waiting.ticket))
            }
            leading.waiting.removeAll { $0.change <= leading.safe }
            if leading.waiting.count != before { leading.waitsSince = now }
        }
        let isSynchronous = replica.entry.attributes.flags.contains(.writeAllReplicas)
        for (peer, follower) in leading.followers
        where follower.stage == .streaming && follower.acknowledged >= follower.copyBase {
            let isNear =
                isSynchronous
                ? follower.acknowledged >= leading.safe
                : follower.acknowledged + Self.lagMax >= data.version.change
            guard replica.entry.replicas[peer] == .synchronising, !follower.isProposed, isNear || follower.isCounted
            else { continue }
            leading.followers[peer]?.isCounted = true
            leading.followers[peer]?.isProposed = true
            effects.append(.propose(.current(id, peer, epoch: leading.epoch), about: id))
        }
        if leading.isHandingOver, leading.proposedSuccessor == nil, let successor = replica.entry.successor,
            let follower = leading.followers[successor], follower.acknowledged == data.version.change
        {
            leading.proposedSuccessor = successor
            effects.append(.propose(.handOver(id, epoch: leading.epoch, to: successor), about: id))
        }
        replicas[id]?.leading = leading
    }

    /// Whether nobody has been promised to be told before anything is acknowledged; else it is looked at again then.
    private mutating func isFree(_ id: CheckpointID, _ now: Instant, _ effects: inout [ReplicationEffect]) -> Bool {
        guard let readers = replicas[id]?.readers, !readers.isEmpty else { return true }
        replicas[id]?.readers.removeAll { $0.value <= now }
        guard let until = replicas[id]?.readers.values.max() else { return true }
        wake(at: until, &effects)
        return false
    }

    // MARK: Followers

    /// A follower says what it has.
    mutating func follow(
        _ id: CheckpointID, _ peer: NodeID, round: UInt32, _ version: ReplicaVersion, isPartial: Bool, _ now: Instant,
        _ effects: inout [ReplicationEffect]
    ) {
        guard let replica = replicas[id], let leading = replica.leading, let data = replica.data,
            leading.followers.contains(peer)
        else { return }
        replicas[id]?.leading?.followers[peer]?.unlink()
        replicas[id]?.leading?.followers[peer]?.round = round
        letGo(id, now, &effects)
        guard !isPartial, Self.continues(data, version) else {
            return copy(id, peer, now, &effects)
        }
        replicas[id]?.leading?.followers[peer]?.stage = .streaming
        replicas[id]?.leading?.followers[peer]?.sent = version.change
        // What it has of a persistent checkpoint need not be on its disk; it says so itself.
        replicas[id]?.leading?.followers[peer]?.acknowledged = replica.isPersistent ? 0 : version.change
        replicas[id]?.leading?.followers[peer]?.copyBase = 0
        let start = ReplicaMessage.Body.start(round: round, from: version.change, data.history)
        effects.append(.send(ReplicaMessage(id, epoch: leading.epoch, start), to: peer))
        if version.change < data.version.change {
            // It counts for something as soon as it has acknowledged what the log has: there may be nothing.
            effects.append(.stream(id, epoch: leading.epoch, after: version.change, to: peer))
        } else {
            progress(id, now, &effects)
        }
    }

    /// Whether data of that version is what this data was once.
    private static func continues(_ data: ReplicaData, _ version: ReplicaVersion) -> Bool {
        if version == .empty { return true }
        if version.epoch == data.version.epoch { return version.change <= data.version.change }
        return version.epoch == data.history.previous && version.change <= data.history.start
    }

    /// Everything anew. What it has is thrown away there, so it must not be one that is counted on.
    private mutating func copy(
        _ id: CheckpointID, _ peer: NodeID, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let replica = replicas[id], let leading = replica.leading, let follower = leading.followers[peer],
            let data = replica.data
        else { return }
        guard replica.entry.replicas[peer] == .synchronising, !follower.isCounted else {
            replicas[id]?.leading?.followers[peer]?.stage = .unknown
            return effects.append(.propose(.silent(id, peer, epoch: leading.epoch), about: id))
        }
        replicas[id]?.leading?.followers[peer]?.stage = .copying(CopyCursor(), inFlight: 1)
        replicas[id]?.leading?.followers[peer]?.sent = data.version.change
        replicas[id]?.leading?.followers[peer]?.acknowledged = 0
        replicas[id]?.leading?.followers[peer]?.copyBase = data.version.change
        let message = ReplicaMessage.Body.copy(round: follower.round, base: data.version.change)
        effects.append(.send(ReplicaMessage(id, epoch: leading.epoch, message), to: peer))
        effects.append(
            .sendPiece(id, epoch: leading.epoch, round: follower.round, CopyCursor(), to: peer))
    }

    mutating func pieceSent(
        _ id: CheckpointID, _ peer: NodeID, _ next: CopyCursor?, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let leading = replicas[id]?.leading, let follower = leading.followers[peer],
            case .copying(_, let inFlight) = follower.stage
        else { return }
        guard let next else {
            replicas[id]?.leading?.followers[peer]?.stage = .ending
            return end(id, peer, now, &effects)
        }
        replicas[id]?.leading?.followers[peer]?.stage = .copying(next, inFlight: inFlight + 1)
        guard inFlight < Self.piecesInFlightMax else { return }
        effects.append(.sendPiece(id, epoch: leading.epoch, round: follower.round, next, to: peer))
    }

    mutating func pieceTaken(
        _ id: CheckpointID, _ peer: NodeID, _ round: UInt32, _ effects: inout [ReplicationEffect]
    ) {
        guard let leading = replicas[id]?.leading, let follower = leading.followers[peer], follower.round == round,
            case .copying(let cursor, let inFlight) = follower.stage
        else { return }
        replicas[id]?.leading?.followers[peer]?.stage = .copying(cursor, inFlight: max(1, inFlight - 1))
        // More than the window were counted: the next piece waited for room in it.
        guard inFlight > Self.piecesInFlightMax, !follower.isStalled else { return }
        effects.append(.sendPiece(id, epoch: leading.epoch, round: round, cursor, to: peer))
    }

    /// The end of a copy, once every update before it is on its way.
    private mutating func end(
        _ id: CheckpointID, _ peer: NodeID, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let replica = replicas[id], let leading = replica.leading, let data = replica.data,
            let follower = leading.followers[peer], follower.stage == .ending, !follower.isStalled,
            follower.sent == data.version.change
        else { return }
        replicas[id]?.leading?.followers[peer]?.stage = .streaming
        let body = ReplicaMessage.Body.copied(round: follower.round, change: follower.sent, data.history)
        effects.append(.sendCopied(ReplicaMessage(id, epoch: leading.epoch, body), to: peer))
    }

    // MARK: Full lanes

    /// A proposal came to nothing: whatever it was for is found out anew.
    mutating func lookAgain(_ id: CheckpointID, _ effects: inout [ReplicationEffect]) {
        replicas[id]?.reportedEpoch = 0
        guard var leading = replicas[id]?.leading else { return }
        leading.proposedSuccessor = nil
        for (peer, follower) in leading.followers {
            leading.followers[peer]?.isProposed = false
            guard follower.stage == .unknown else { continue }
            effects.append(.send(ReplicaMessage(id, epoch: leading.epoch, .lead), to: peer))
        }
        replicas[id]?.leading = leading
    }

    mutating func stall(_ id: CheckpointID, _ peer: NodeID) {
        guard replicas[id]?.leading?.followers[peer] != nil else { return }
        replicas[id]?.leading?.followers[peer]?.isStalled = true
        if stalled[peer]?.contains(id) != true { stalled[peer, default: []].append(id) }
    }

    mutating func resume(_ peer: NodeID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        for id in stalled.removeValue(forKey: peer) ?? [] {
            guard let replica = replicas[id], let leading = replica.leading, let data = replica.data,
                let follower = leading.followers[peer], follower.isStalled
            else { continue }
            replicas[id]?.leading?.followers[peer]?.isStalled = false
            replicas[id]?.leading?.followers[peer]?.isSlow = false
            if follower.sent < data.version.change {
                effects.append(.stream(id, epoch: leading.epoch, after: follower.sent, to: peer))
            } else {
                goOn(id, peer, now, &effects)
            }
            letGo(id, now, &effects)
        }
    }

    /// The updates are on their way; pieces may follow.
    private mutating func goOn(
        _ id: CheckpointID, _ peer: NodeID, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let leading = replicas[id]?.leading, let follower = leading.followers[peer] else { return }
        switch follower.stage {
        case .unknown, .streaming: break
        case .copying(let cursor, let inFlight):
            guard inFlight <= Self.piecesInFlightMax else { break }
            effects.append(.sendPiece(id, epoch: leading.epoch, round: follower.round, cursor, to: peer))
        case .ending: end(id, peer, now, &effects)
        }
    }

    mutating func streamed(
        _ id: CheckpointID, _ peer: NodeID, _ upTo: UInt64, _ end: StreamEnd, _ now: Instant,
        _ effects: inout [ReplicationEffect]
    ) {
        guard replicas[id]?.leading?.followers[peer] != nil else { return }
        replicas[id]?.leading?.followers[peer]?.sent = upTo
        switch end {
        case .complete: goOn(id, peer, now, &effects)
        case .full: stall(id, peer)
        case .gone: copy(id, peer, now, &effects)
        }
    }
}
