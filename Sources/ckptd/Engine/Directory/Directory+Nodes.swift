import CkptProtocol
import Containers
import EngineKit
import SAFTypes

// Nodes come and go.
extension Directory {
    mutating func left(_ lives: [NodeLife], _ now: Instant, _ effects: inout [DirectoryEffect]) {
        let gone = lives.filter { members[$0.node]?.incarnation == $0.incarnation }.map(\.node)
        guard !gone.isEmpty else { return }
        for node in gone { members[node] = nil }
        effects.append(.members(completeLives))
        for node in gone {
            away[node] = now + Self.awayMax
            effects.append(.startTimer(.away(node), at: now + Self.awayMax))
        }
        let waitsForWhoLeft = waitsForWhoLeft
        for id in entries.keys {
            change(id, now, &effects) { entry in
                if waitsForWhoLeft, gone.contains(where: { entry.replicas.contains($0) }) { entry.endSalvage() }
                let isLast = !entry.replicas.contains { $0.value == .current && !gone.contains($0.key) }
                for node in gone {
                    guard let state = entry.replicas[node] else { continue }
                    let isNeeded =
                        state == .absent
                        || state == .current && (isLast || waitsForWhoLeft && entry.mayHaveMost(node, without: gone))
                    if isNeeded { entry.replicas[node] = .absent } else { entry.depart(node) }
                }
            }
        }
        for node in gone { load[node] = nil }
    }

    mutating func forget(_ node: NodeID, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        guard let deadline = away[node] else { return }
        guard deadline <= now else { return effects.append(.startTimer(.away(node), at: deadline)) }
        away[node] = nil
        for id in entries.keys {
            change(id, now, &effects) { entry in entry.openers.removeAll { $0.value == node } }
        }
    }

    mutating func joined(_ join: NodeJoin, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        let node = join.node
        if let member = members[node], member.incarnation != join.incarnation || member.isComplete {
            if member.incarnation == join.incarnation { return }  // heard before
            left([NodeLife(node: node, incarnation: member.incarnation)], now, &effects)
        }
        var member = members[node] ?? Member(incarnation: join.incarnation)
        member.held += join.held
        members[node] = member
        guard join.isLast else { return }
        let held = member.held
        members[node] = Member(incarnation: join.incarnation, isComplete: true)
        if lineage == 0 {
            lineage = join.newLineage
            epochFloor = join.nodesExpected > 1 ? join.time : 0
            effects.append(.startTimer(.recovery, at: now + Self.recoveryMax))
        }
        // Where few ckptd are there and one of them loses its memory, elections are forgotten, too.
        if join.nodesExpected > 1 { highestEpoch = max(highestEpoch, join.time) }
        effects.append(.members(completeLives))
        if away.removeValue(forKey: node) != nil { effects.append(.cancelTimer(.away(node))) }
        let isOfOurs = join.lineage == lineage
        for replica in held { take(replica, from: node, isOfOurs: isOfOurs, now, &effects) }
        let told = OrderedMap<CheckpointID, [HandleID]>(held.map { ($0.id, $0.openers) })
        let completesRecovery = isRecovering && members.count >= Int(join.nodesExpected)
        if completesRecovery {
            isRecovering = false
            recall(now, &effects)
            effects.append(.cancelTimer(.recovery))
        }
        for id in entries.keys {
            change(id, now, &effects) { entry in
                let handles = told[id] ?? []
                entry.openers.removeAll { $0.value == node && !handles.contains($0.key) }
                if entry.replicas[node] == .absent, told[id] == nil { entry.replicas[node] = nil }
                entry.isBack(node)
            }
        }
    }

    /// A node has this replica from before.
    private mutating func take(
        _ held: HeldReplica, from node: NodeID, isOfOurs: Bool, _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        guard entries[held.id] != nil else {
            // Who has it open knows that it is unlinked.
            if buried.contains(held.id), !held.isUnlinked || held.openers.isEmpty {
                return effects.append(.unknown(held.id, node))
            }
            if isRecovering, !held.isUnlinked, held.attributes.flags.contains(.persistent) {
                makeWay(held.name, above: held.version.epoch, now, &effects)
            }
            let isTaken = named[held.name] != nil && !held.isUnlinked
            if !isOfOurs || isRecovering, !isTaken { return adopt(held, from: node, now, &effects) }
            return effects.append(.unknown(held.id, node))
        }
        let (isRecovering, floor, waitsForWhoLeft) = (isRecovering, epochFloor, waitsForWhoLeft)
        let highest = highestEpoch
        change(held.id, now, &effects) { entry in
            if waitsForWhoLeft, entry.replicas[node] == nil { entry.endSalvage() }
            entry.isBack(node)
            for handle in held.openers { entry.openers[handle] = node }
            if waitsForWhoLeft, isOfOurs, !isRecovering, held.version.epoch > entry.epoch {
                return Self.reopen(&entry, for: held, from: node, highest)
            }
            switch entry.replicas[node] {
            case .absent: entry.replicas[node] = .current
            case .current, .synchronising: break
            case nil: entry.replicas[node] = entry.isFound && isRecovering ? .current : .synchronising
            }
            if entry.isFound {
                entry.epoch = max(entry.epoch, Self.foundEpoch(held, floor: floor))
                if entry.replicas[node] == .current { entry.reports?[node] = held.version }
            }
            if entry.attributes.flags.needsActiveReplicaSet, entry.active == nil, entry.successor == nil,
                entry.former == node || entry.isFound && held.isActive
            {
                entry.successor = node
            }
        }
    }

    /// It was written to in an epoch that this directory has forgotten, with the memory of those who knew. What it says
    /// of who has everything is of an earlier time: the newest of those it calls current, and of this one, is elected.
    private static func reopen(
        _ entry: inout DirectoryEntry, for held: HeldReplica, from node: NodeID, _ highest: UInt64
    ) {
        entry.replicas[node] = .current
        entry.raiseEpoch(to: max(highest, held.version.epoch + 1))
        (entry.active, entry.reports) = (nil, [:])
        (entry.isFound, entry.isSalvaged) = (true, false)
    }

    /// Who has the name was found on the disk of a node that did not hear that it was unlinked: another was made since.
    mutating func makeWay(
        _ name: SaName, above epoch: UInt64, _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        guard let id = named[name], let entry = entries[id], entry.isFound,
            entry.attributes.flags.contains(.persistent), let reports = entry.reports,
            reports.allSatisfy({ $0.value.epoch < epoch })
        else { return }
        named[name] = nil
        change(id, now, &effects) { $0.isUnlinked = true }
    }

    /// The directory began anew, and learns of its checkpoints from the nodes that have them.
    private mutating func adopt(
        _ held: HeldReplica, from node: NodeID, _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        var entry = DirectoryEntry(id: held.id, name: held.name, attributes: held.attributes)
        entry.retention = held.retention
        entry.isUnlinked = held.isUnlinked
        for handle in held.openers { entry.openers[handle] = node }
        entry.replicas[node] = .current
        entry.isFound = true
        if held.isActive, entry.attributes.flags.needsActiveReplicaSet { entry.successor = node }
        entry.epoch = Self.foundEpoch(held, floor: epochFloor)
        if let left = held.retentionLeft, entry.openers.isEmpty, !entry.isUnlinked {
            let deadline = now + .nanoseconds(max(0, min(left, held.retention)))
            entry.retentionDeadline = deadline
            effects.append(.startTimer(.retention(held.id), at: deadline))
        }
        if entry.electsItself { entry.reports = [node: held.version] }
        insert(entry, now, &effects)
    }

    /// Above every epoch that was; alone it may go on with the one it had.
    private static func foundEpoch(_ held: HeldReplica, floor: UInt64) -> UInt64 {
        if held.version.epoch == 0, held.attributes.flags.needsActiveReplicaSet { return 0 }
        return floor > 0 ? max(floor, held.version.epoch + 1) : max(1, held.version.epoch)
    }

    mutating func endRecovery(_ now: Instant, _ effects: inout [DirectoryEffect]) {
        guard isRecovering, lineage != 0 else { return }
        isRecovering = false
        recall(now, &effects)
        for id in entries.keys { change(id, now, &effects) { _ in } }
    }

    /// A database has told of checkpoints that are no more: nobody brings them back, nor keeps a name with them.
    mutating func bury(_ ids: [CheckpointID], _ now: Instant, _ effects: inout [DirectoryEffect]) {
        for id in ids {
            buried.insert(id)
            guard let entry = entries[id], !entry.isUnlinked else { continue }
            if named[entry.name] == id { named[entry.name] = nil }
            change(id, now, &effects) { $0.isUnlinked = true }
        }
    }
}
