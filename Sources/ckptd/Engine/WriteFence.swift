public import SAFTypes

/// Refuses updates for an assignment that has been given to somebody else since: what a process wrote that was cut off,
/// stopped or killed, and what was on its way for it, must not come over what its successor has written.
///
/// An update carries what its process was active for when ckptd took it. The latest epochs (floors) are those that amfd
/// says, and those that updates carried: whoever has seen the successor's first update takes none of its predecessor's.
/// Processes that amfd knows nothing of carry nothing and are never refused.
struct WriteFence: Hashable, Sendable {
    /// Processes that were told of, until the next of them is told of again.
    static let tellingsMax = 1_024
    static let learnedMax = 65_536

    private struct Process: Hashable, Sendable {
        var startTime: UInt64
        var held: [AssignmentEpoch]
    }

    private struct Floor: Hashable, Sendable {
        var instance: SaName
        var epoch: UInt64
    }

    struct Late: Hashable, Sendable {
        var held: AssignmentEpoch
        /// What is known of who was active since; no name when only its updates told it.
        var instance: SaName?
        var latest: UInt64
        /// The first refusal of this process.
        var isFirst: Bool
    }

    private var incarnation: UInt64 = 0
    private var processes: [UInt32: Process] = [:]
    private var floors: [UInt64: Floor] = [:]
    /// From updates; forgotten with the life of amfd, for what it says after a new start holds.
    private var learned: [UInt64: UInt64] = [:]
    private var told: Set<ProcessIdentity> = []
    private(set) var refusals: UInt64 = 0

    mutating func take(_ table: AssignmentTable) {
        if table.incarnation != incarnation { learned.removeAll() }
        incarnation = table.incarnation
        floors.removeAll(keepingCapacity: true)
        for floor in table.floors {
            floors[AssignmentEpoch.key(of: floor.instance)] = Floor(instance: floor.instance, epoch: floor.epoch)
        }
        processes.removeAll(keepingCapacity: true)
        for holder in table.holders {
            let id = UInt32(bitPattern: holder.pid)
            if processes[id]?.startTime != holder.startTime {
                // A pid may stand there twice, once for one that has died: the later start is the one that lives.
                if let known = processes[id], known.startTime > holder.startTime { continue }
                processes[id] = Process(startTime: holder.startTime, held: [])
            }
            processes[id]?.held.append(holder.held)
        }
    }

    /// What the process is active for, or was when it died.
    func epochs(of process: ProcessIdentity) -> [AssignmentEpoch] {
        guard let known = processes[process.id], known.startTime == process.start else { return [] }
        return known.held
    }

    /// Whether what the process writes from now on is refused.
    func isLate(_ process: ProcessIdentity) -> Bool {
        epochs(of: process).contains { $0.epoch < latest($0.assignment) }
    }

    private func latest(_ assignment: UInt64) -> UInt64 {
        max(floors[assignment]?.epoch ?? 0, learned[assignment] ?? 0)
    }

    /// Nil: an update that carries these may be done, and no earlier one after it.
    mutating func admit(_ origin: RequestOrigin) -> Late? {
        guard !origin.epochs.isEmpty else { return nil }
        for held in origin.epochs {
            let floor = floors[held.assignment]
            let latest = self.latest(held.assignment)
            guard held.epoch < latest else { continue }
            refusals += 1
            if told.count >= Self.tellingsMax { told.removeAll() }
            let isFirst = told.insert(origin.process).inserted
            return Late(held: held, instance: floor?.instance, latest: latest, isFirst: isFirst)
        }
        for held in origin.epochs where held.epoch > floors[held.assignment]?.epoch ?? 0 {
            if learned.count < Self.learnedMax || learned[held.assignment] != nil {
                learned[held.assignment] = held.epoch
            }
        }
        return nil
    }
}

extension CkptEngine {
    /// What is written for a process is written for these.
    public func epochs(of process: ProcessIdentity) -> [AssignmentEpoch] { fence.epochs(of: process) }

    /// Updates that were refused because they came too late.
    public var lateRefusals: UInt64 { fence.refusals }

    /// Nil: what is asked may be done. Else the refusal, and what is worth a line.
    public mutating func refuseLate(_ origin: RequestOrigin) -> (refusal: Refusal, note: CkptNote?)? {
        guard let late = fence.admit(origin) else { return nil }
        let instance = late.instance.map { "\($0)" } ?? "an instance"
        let text =
            "process \(origin.process.id) was made active for \(instance) by callback \(late.held.epoch), which has "
            + "been given away since (callback \(late.latest)): it is too late"
        return (Refusal(.access, text), late.isFirst ? .late(text) : nil)
    }

    mutating func lateEffects(_ origin: RequestOrigin) -> [CkptEffect]? {
        guard let late = refuseLate(origin) else { return nil }
        let refusal = CkptEffect.refuse(origin.identity, late.refusal.code, late.refusal.text)
        return (late.note.map { [.note($0)] } ?? []) + [refusal]
    }
}
