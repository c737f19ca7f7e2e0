import CkptProtocol
import Containers
import EngineKit
import SAFTypes

// Where replicas are, and which is active.
extension Directory {
    /// Brings everything in order that follows from what an entry is now.
    func settle(_ entry: inout DirectoryEntry, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        settleRetention(&entry, now, &effects)
        if !isRecovering { place(&entry) }
        if let active = entry.active, entry.replicas[active] != .current {
            entry.former = active
            entry.active = nil
        }
        if let successor = entry.successor, entry.replicas[successor] ?? .absent == .absent { entry.successor = nil }
        let wasSalvaged = entry.isSalvaged
        elect(&entry, now, &effects)
        if waitsForWhoLeft, wasSalvaged, !entry.isSalvaged, !isRecovering { place(&entry) }
        // What was written before is with the active one; what is written now those who are away do not have.
        if entry.active != nil {
            for (node, state) in entry.replicas where state == .absent { entry.depart(node) }
            entry.salvageDeadline = nil
        }
    }

    private func settleRetention(_ entry: inout DirectoryEntry, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        let isRetained = entry.openers.isEmpty && !entry.isUnlinked && entry.retention != .saTimeEnd
        if isRetained, entry.retentionDeadline == nil, !isRecovering, entry.retention > 0 {
            let deadline = now + .nanoseconds(entry.retention)
            entry.retentionDeadline = deadline
            effects.append(.startTimer(.retention(entry.id), at: deadline))
        } else if !isRetained, entry.retentionDeadline != nil {
            entry.retentionDeadline = nil
            effects.append(.cancelTimer(.retention(entry.id)))
        }
    }

    /// Replicas where it is open; one that is not collocated has at least ``replicasMin``, on the least loaded nodes.
    private func place(_ entry: inout DirectoryEntry) {
        // Of what is salvaged nothing is made anew: who has nothing says so, and would be asked again.
        guard entry.epoch == 0 || entry.count(.current) > 0, !(waitsForWhoLeft && entry.isSalvaged) else { return }
        // As long as nothing can have been written, an empty replica lacks nothing.
        let new: ReplicaState = entry.epoch == 0 ? .current : .synchronising
        for (_, node) in entry.openers where members.contains(node) && !entry.replicas.contains(node) {
            entry.replicas[node] = new
        }
        let isCollocated = entry.attributes.flags.contains(.collocated)
        let least = isCollocated ? 1 : min(Self.replicasMin, members.count)
        if !isCollocated {
            while entry.replicas.count < least, let node = leastLoaded(for: entry) { entry.replicas[node] = new }
        }
        guard !entry.openers.isEmpty || !isCollocated else { return }
        // The active replica goes where it is open, unless somebody chose its place.
        if isCollocated, !entry.attributes.flags.needsActiveReplicaSet, entry.successor == nil,
            let active = entry.active, !entry.isOpen(on: active)
        {
            entry.successor = entry.replicas.first { $0.value == .current && entry.isOpen(on: $0.key) }?.key
        }
        for (node, state) in entry.replicas where state != .absent && !entry.isOpen(on: node) {
            guard node != entry.active, node != entry.successor, !entry.isElecting else { continue }
            if entry.count(.current) - (state == .current ? 1 : 0) >= least { entry.replicas[node] = nil }
        }
    }

    private func leastLoaded(for entry: DirectoryEntry) -> NodeID? {
        var best: (node: NodeID, load: Int)?
        for (node, member) in members where member.isComplete && !entry.replicas.contains(node) {
            let load = load[node] ?? 0
            if best.map({ load < $0.load }) ?? true { best = (node, load) }
        }
        return best?.node
    }

    /// Of the current replicas the newest becomes active. They all promise to hear no older epoch before they report,
    /// so that what a former active replica still sends is acknowledged by nobody.
    private func elect(_ entry: inout DirectoryEntry, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        // Who was left had nothing either.
        if waitsForWhoLeft, entry.isSalvaged, entry.count(.current) == 0 { entry.endSalvage() }
        salvage(&entry, now, &effects)
        let candidates = entry.replicas.filter { $0.value == .current }.keys
        guard entry.active == nil, entry.electsItself || entry.isElecting, !candidates.isEmpty else {
            entry.reports = nil
            return
        }
        var reports = entry.reports ?? [:]
        if entry.reports == nil {
            let floor = entry.epoch == 0 ? firstEpoch(of: entry.attributes) : epochFloor
            entry.raiseEpoch(to: max(floor, highestEpoch))
        }
        let (mayWait, replicas) = (waitsForWhoLeft && entry.isFound, entry.replicas)
        reports.removeAll { !candidates.contains($0.key) && !(mayWait && replicas[$0.key] == .absent) }
        entry.reports = reports
        guard candidates.count == 1 && !entry.isFound || candidates.allSatisfy({ reports.contains($0) }),
            !(entry.isFound && isRecovering), !(mayWait && entry.awaitsMost)
        else { return }
        var winner = candidates[0]
        for node in candidates where Self.isBetter(node, winner, reports, entry) { winner = node }
        if entry.isFound {
            for node in candidates where reports[node] != reports[winner] { entry.replicas[node] = .synchronising }
        }
        (entry.active, entry.reports, entry.former) = (winner, nil, nil)
        (entry.isFound, entry.isSalvaged) = (false, false)
        if entry.successor == winner { entry.successor = nil }
    }

    /// Whoever had everything is lost for good: what the others have is better than nothing. Who has nothing says so.
    /// Those who left with a replica are waited for: one of them may have more, and all that was acknowledged.
    private func salvage(_ entry: inout DirectoryEntry, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        // Who was to be active may be gone by now: then there are replicas to choose from when somebody sets another.
        guard entry.hasNobody, entry.electsItself || entry.salvageDeadline != nil, !isRecovering else { return }
        if waitsForWhoLeft, entry.salvageDeadline == nil, !entry.departed.isEmpty || !entry.replicas.isEmpty {
            entry.salvageDeadline = now + Self.salvageMax
            effects.append(.startTimer(.salvage, at: now + Self.salvageMax))
        }
        if let deadline = entry.salvageDeadline, now < deadline, !entry.departed.isEmpty { return }
        entry.departed = []
        guard !entry.replicas.isEmpty else { return entry.salvageDeadline = nil }
        entry.replicas.updateAll { _, state in state = .current }
        (entry.isFound, entry.isSalvaged) = (true, true)
    }

    /// Among equals where it is to be, then where it is open, then the lowest number.
    private static func isBetter(
        _ left: NodeID, _ right: NodeID, _ reports: OrderedMap<NodeID, ReplicaVersion>, _ entry: DirectoryEntry
    ) -> Bool {
        let (first, second) = (reports[left] ?? .empty, reports[right] ?? .empty)
        if first != second { return first > second }
        if let successor = entry.successor, left == successor || right == successor { return left == successor }
        let (isFirstOpen, isSecondOpen) = (entry.isOpen(on: left), entry.isOpen(on: right))
        return isFirstOpen != isSecondOpen ? isFirstOpen : left < right
    }

    mutating func take(
        _ report: ReplicaReport, from node: NodeID, _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        change(report.id, now, &effects) { entry in
            guard entry.isElecting, entry.epoch == report.epoch, entry.replicas[node] == .current else { return }
            entry.reports?[node] = report.version
            if entry.isSalvaged, report.version.change == 0 { entry.replicas[node] = nil }
        }
    }

    mutating func setActive(
        _ id: CheckpointID, _ node: NodeID, _ seen: SeenActivity?, _ now: Instant,
        _ effects: inout [DirectoryEffect]
    ) {
        guard let entry = entries[id] else {
            return effects.append(.refused(.badHandle, "the checkpoint is no more"))
        }
        guard entry.replicas[node] ?? .absent != .absent, entry.count(.current) > 0 else {
            return effects.append(
                .refused(.notExist, "no replica of checkpoint \(entry.name) has what was written last"))
        }
        let next = entry.successor ?? entry.active
        if let seen, seen != SeenActivity(epoch: entry.epoch, successor: entry.successor), next != node {
            return effects.append(
                .outdated("the active replica of checkpoint \(entry.name) is another than when one was chosen"))
        }
        if entry.active == node { return change(id, now, &effects) { $0.successor = nil } }
        change(id, now, &effects) { $0.successor = node }
    }

    mutating func handOver(
        _ id: CheckpointID, _ epoch: UInt64, _ successor: NodeID, _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        let highest = highestEpoch
        change(id, now, &effects) { entry in
            // Another one that was chosen meanwhile need not have everything yet.
            guard entry.epoch == epoch, entry.active != nil, entry.successor == successor,
                entry.replicas[successor] == .current
            else { return }
            entry.raiseEpoch(to: highest)
            (entry.active, entry.successor) = (successor, nil)
        }
    }

    /// Who is silent is not waited for; if it is the active replica, another takes its place.
    mutating func silent(
        _ id: CheckpointID, _ node: NodeID, _ epoch: UInt64, _ now: Instant, _ effects: inout [DirectoryEffect]
    ) {
        let highest = highestEpoch
        change(id, now, &effects) { entry in
            guard entry.epoch == epoch, let state = entry.replicas[node], state != .absent else { return }
            if let active = entry.active, active != node {
                entry.replicas[node] = .synchronising
                // What the active replica has said of it before counts no more, not even if it is ordered later.
                entry.raiseEpoch(to: highest)
                return
            }
            guard state == .current, entry.count(.current) > 1, entry.reports?.contains(node) != true else { return }
            // It may be the one that has most.
            if entry.isSalvaged, let deadline = entry.salvageDeadline, now < deadline { return }
            if entry.active == node, !entry.electsItself { return }
            entry.replicas[node] = .synchronising
        }
    }

    /// Who has not come until now is not waited for.
    mutating func endSalvage(_ now: Instant, _ effects: inout [DirectoryEffect]) {
        var next: Instant?
        for (id, entry) in entries {
            guard let deadline = entry.salvageDeadline else { continue }
            if deadline <= now {
                change(id, now, &effects) { _ in }
            } else {
                next = min(next ?? deadline, deadline)
            }
        }
        if let next { effects.append(.startTimer(.salvage, at: next)) }
    }

    /// An operator does not want to wait any longer, not even for who is known to have everything.
    mutating func giveUpWaiting(_ id: CheckpointID, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        guard let entry = entries[id], waitsForWhoLeft, !entry.awaited.isEmpty else {
            return effects.append(.refused(.badOperation, "the checkpoint waits for no node"))
        }
        change(id, now, &effects) { entry in
            entry.replicas.removeAll { $0.value == .absent }
            entry.departed = []
            if entry.salvageDeadline != nil { entry.salvageDeadline = now }
        }
    }

    /// Its data is no good; it stays where it is wanted, and is made anew.
    mutating func failed(_ id: CheckpointID, _ node: NodeID, _ now: Instant, _ effects: inout [DirectoryEffect]) {
        let highest = highestEpoch
        change(id, now, &effects) { entry in
            guard entry.replicas.contains(node) else { return }
            entry.replicas[node] = entry.isSalvaged ? nil : .synchronising
            // That it is current may be on its way already: said of data that are no more.
            if entry.active != nil, entry.active != node { entry.raiseEpoch(to: highest) }
        }
    }
}
