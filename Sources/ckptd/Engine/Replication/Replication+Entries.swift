import CkptProtocol
import Containers
import EngineKit
import SAFTypes

// What the directory says, and what follows for this node's replica.
extension Replication {
    mutating func changed(
        _ id: CheckpointID, _ entry: DirectoryEntry?, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard let entry else {
            durable.removeValue(forKey: id)
            if var replica = replicas.removeValue(forKey: id) {
                stopLeading(&replica, &effects)
                if replica.data != nil || replica.isBeingMade { effects.append(.drop(id)) }
            } else if found.removeValue(forKey: id) != nil {
                effects.append(.drop(id))
            }
            return effects.append(.routeChanged(id))
        }
        if replicas[id] == nil {
            replicas[id] = Replica(entry: entry, data: found.removeValue(forKey: id))
        } else {
            keepPromises(id, entry, now)
            let wasPersistent = replicas[id]?.isPersistent ?? false
            replicas[id]?.entry = entry
            // Nothing waits for the disk any more.
            if wasPersistent, entry.isUnlinked { acknowledge(id, &effects) }
        }
        review(id, now, &effects)
        effects.append(.routeChanged(id))
    }

    /// Who may read its replica, and is not to be waited for from now on, need not know that yet.
    private mutating func keepPromises(_ id: CheckpointID, _ new: DirectoryEntry, _ now: Instant) {
        guard let old = replicas[id]?.entry else { return }
        let isSynchronous = old.attributes.flags.contains(.writeAllReplicas)
        for (peer, state) in old.replicas where state == .current && peer != node && new.replicas[peer] != .current {
            guard isSynchronous || old.active == peer, let until = granted[peer], until > now else { continue }
            replicas[id]?.readers[peer] = until
        }
    }

    mutating func ended(_ peer: NodeID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        granted[peer] = nil
        for (id, replica) in replicas where replica.readers.contains(peer) {
            replicas[id]?.readers[peer] = nil
            progress(id, now, &effects)
        }
    }

    mutating func held(
        _ id: CheckpointID, _ data: ReplicaData, _ now: Instant, _ effects: inout [ReplicationEffect]
    ) {
        guard replicas.contains(id) else {
            found[id] = data
            return
        }
        replicas[id]?.data = data
        replicas[id]?.isBeingMade = false
        review(id, now, &effects)
        effects.append(.routeChanged(id))
    }

    /// Brings what this node does into line with the entry; does nothing where it is already.
    mutating func review(_ id: CheckpointID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        guard var replica = replicas[id] else { return }
        let entry = replica.entry
        defer { replicas[id] = replica }
        guard let state = entry.replicas[node], state != .absent else {
            stopLeading(&replica, &effects)
            replica.following = nil
            if replica.data != nil || replica.isBeingMade { effects.append(.drop(id)) }
            durable.removeValue(forKey: id)
            (replica.data, replica.isBeingMade) = (nil, false)
            return
        }
        guard let data = replica.data else {
            stopLeading(&replica, &effects)
            if !replica.isBeingMade, replica.restsUntil <= now {
                replica.isBeingMade = true
                effects.append(.make(id))
            }
            return
        }
        if state == .current, data.isPartial {
            // Said of this node what is not so (any more).
            stopLeading(&replica, &effects)
            return effects.append(.propose(.failed(id, node), about: id))
        }
        if entry.active == node {
            replica.following = nil
            lead(id, &replica, now, &effects)
        } else if entry.isElecting {
            stopLeading(&replica, &effects)
            replica.following = nil
            if state == .current { report(id, &replica, data.version, now, &effects) }
        } else if let active = entry.active {
            stopLeading(&replica, &effects)
            replica.promised = max(replica.promised, entry.epoch)
            guard replica.following?.active != active || replica.following?.epoch != entry.epoch else { return }
            ask(id, &replica, active, now, &effects)
        } else {
            stopLeading(&replica, &effects)
            replica.following = nil
        }
    }

    private func report(
        _ id: CheckpointID, _ replica: inout Replica, _ version: ReplicaVersion, _ now: Instant,
        _ effects: inout [ReplicationEffect]
    ) {
        let epoch = replica.entry.epoch
        replica.promised = max(replica.promised, epoch)
        guard replica.reportedEpoch < epoch else { return }
        replica.reportedEpoch = epoch
        replica.electingSince = now
        let report = ReplicaReport(id: id, epoch: epoch, version: version)
        effects.append(.propose(.report(node, [report]), about: id))
    }

    mutating func rest(_ id: CheckpointID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        replicas[id]?.restsUntil = now + silenceMax
        wake(now, &effects)
    }

    mutating func linked(_ peer: NodeID, _ now: Instant, _ effects: inout [ReplicationEffect]) {
        for (id, replica) in replicas {
            if let leading = replica.leading, leading.followers.contains(peer) {
                replicas[id]?.leading?.followers[peer]?.unlink()
                letGo(id, now, &effects)
                effects.append(.send(ReplicaMessage(id, epoch: leading.epoch, .lead), to: peer))
            }
            if replica.following?.active == peer {
                var asking = replica
                ask(id, &asking, peer, now, &effects)
                replicas[id] = asking
            }
        }
    }

    mutating func tick(_ now: Instant, _ effects: inout [ReplicationEffect]) {
        wakesAt = nil
        var mustWake = false
        for (id, replica) in replicas {
            if !replica.readers.isEmpty { progress(id, now, &effects) }
            if replica.restsUntil > now { mustWake = true }
            if replica.restsUntil != .start, replica.restsUntil <= now {
                replicas[id]?.restsUntil = .start
                review(id, now, &effects)
            }
            if let leading = replica.leading, !leading.held.isEmpty {
                mustWake = true
                if now - leading.heldSince >= silenceMax { giveUp(id, now, &effects) }
            }
            if let leading = replica.leading, let first = leading.waiting.first {
                mustWake = true
                if now - leading.waitsSince >= silenceMax {
                    for (peer, follower) in leading.followers
                    where follower.isCounted && follower.acknowledged < first.change {
                        effects.append(.propose(.silent(id, peer, epoch: leading.epoch), about: id))
                    }
                }
            }
            if replica.entry.isElecting, replica.reportedEpoch == replica.entry.epoch {
                mustWake = true
                if now - replica.electingSince >= silenceMax { proposeMissing(id, replica.entry, &effects) }
            }
            if let following = replica.following, following.stage == .asked || following.missesSince != nil {
                mustWake = true
                let isSilent = following.stage == .asked && now - following.since >= silenceMax
                let isLost = following.missesSince.map { now - $0 >= silenceMax * Self.missesMax } ?? false
                if isSilent || isLost {
                    var asking = replica
                    ask(id, &asking, following.active, now, &effects)
                    replicas[id] = asking
                }
            }
        }
        if mustWake { wake(now, &effects) }
    }

    /// Who does not say what it has holds up the election.
    private func proposeMissing(_ id: CheckpointID, _ entry: DirectoryEntry, _ effects: inout [ReplicationEffect]) {
        for (peer, state) in entry.replicas
        where state == .current && peer != node && entry.reports?.contains(peer) == false {
            effects.append(.propose(.silent(id, peer, epoch: entry.epoch), about: id))
        }
    }
}
