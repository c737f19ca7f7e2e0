import EngineKit
import IOCGroups
import SAFTypes

/// How far the present view is formed. A view is formed in two rounds of messages:
///
/// 1. Everybody *reports* what it holds. When enough have, all know at the same point of the order which state the view
///    goes on from (the *base*), and the new epoch's number.
/// 2. Everybody *promises* that epoch by an acknowledgement that names it. When enough have, the view is *active*:
/// commands
///    apply. Without this round two sides could both believe in an epoch, and the later choose the one that was never
/// in
///    charge.
///
/// Commands delivered meanwhile wait in the buffer. All of this is decided by the order of deliveries, so every member
/// decides the same.
struct Formation: Sendable {
    var reports: [GroupMember: Report] = [:]
    var rememberers: Set<GroupMember> = []
    var isForced = false
    var graceEnds: Instant?
    /// Known from the end of the first round.
    var epoch: Epoch?
    var base: Report?
    var promisers: Set<GroupMember> = []
    /// The end of the second round.
    var isActive = false
    /// The own state is the group's: it was the base, or a snapshot of it was loaded.
    var isOwnMatched = false
    /// Oldest first.
    var synchronised: [Synchronised] = []
    var unsynchronised: [GroupMember] = []
    /// The highest index that each member is known to have applied in this epoch.
    var acknowledged: [GroupMember: UInt64] = [:]
    /// What each said last of how far it has applied.
    var standings: [GroupMember: Standing] = [:]
    /// The versions that all speak but the mute; ``version`` is the highest.
    var spoken: ClosedRange<UInt16> = 0...0
    /// Members that do not speak ``version``: they stay out of this view, and only promise.
    var mute: Set<GroupMember> = []
    var version: UInt16 { spoken.upperBound }

    struct Synchronised: Hashable, Sendable {
        var member: GroupMember
        var seniority: Seniority
    }

    mutating func insert(_ member: GroupMember, _ seniority: Seniority) {
        unsynchronised.removeAll { $0 == member }
        guard !synchronised.contains(where: { $0.member == member }) else { return }
        let place = synchronised.firstIndex { (seniority, member) < ($0.seniority, $0.member) } ?? synchronised.count
        synchronised.insert(Synchronised(member: member, seniority: seniority), at: place)
    }

    mutating func remove(_ member: GroupMember) {
        synchronised.removeAll { $0.member == member }
        acknowledged[member] = nil
        standings[member] = nil
        if !unsynchronised.contains(member) { unsynchronised.append(member) }
    }

    func isSynchronised(_ member: GroupMember) -> Bool { synchronised.contains { $0.member == member } }

    /// At the end of the first round: the version that most holders of the state speak, then most members, then the
    /// highest. Where there is one that all speak, that is it.
    mutating func chooseVersion() {
        let all = reports.sorted { $0.key < $1.key }
        func merit(_ version: UInt16) -> (Int, Int, UInt16) {
            let speakers = all.filter { $0.value.versions.contains(version) }
            return (speakers.count { isSynchronised($0.key) }, speakers.count, version)
        }
        guard let version = all.map(\.value.versionMax).max(by: { merit($0) < merit($1) }) else { return }
        spoken = version...version
        for (member, report) in all { narrow(for: member, report) }
        let low = all.filter { !mute.contains($0.key) }.map(\.value.versionMin).max() ?? version
        spoken = min(low, version)...version
    }

    /// Takes another member's versions into account; one that speaks none of those in use is mute.
    mutating func narrow(for member: GroupMember, _ report: Report) {
        guard report.versions.overlaps(spoken) else {
            mute.insert(member)
            synchronised.removeAll { $0.member == member }
            unsynchronised.removeAll { $0 == member }
            return
        }
        spoken = spoken.clamped(to: report.versions)
    }
}

/// How far a member has applied, and the hash of its log there.
struct Standing: Hashable, Sendable {
    var applied: UInt64
    var chain: UInt64
}

extension Report {
    /// The same log, hence the same state, by whatever way it came about. Not where one was found to be wrong.
    func matches(_ base: Report) -> Bool { index == base.index && chain == base.chain && !isUseless }
    var versions: ClosedRange<UInt16> { versionMin...versionMax }

    /// Which of two states the view goes on from: in the later epoch is what an earlier one answered, and below
    /// `stable` there is nothing that others lack.
    func precedes(_ other: Report) -> Bool {
        (claim, stable, index, chain) < (other.claim, other.stable, other.index, other.chain)
    }
}

extension Replicated {
    /// What is said of a state that most members found to be wrong: it matches nothing.
    private static var taintedChain: UInt64 { .max }

    mutating func leaveView() {
        let spoken = formation.spoken
        formation = Formation()
        formation.spoken = spoken
        position = 0
        buffer.removeAll()
        bufferStart = 0
        incoming = nil
        outgoing.removeAll()
        digests.removeAll()
        isAcknowledgementOwed = false
        lastProgress = .start
        attempt = 0
    }

    mutating func enter(_ view: GroupView, at now: Instant, _ effects: inout [Effect]) {
        leaveView()
        self.view = view
        if arrived?.point.view != view.id { arrived = nil }
        guard view.isQuorate || sabotage == .applyWithoutQuorum else {
            isContinuing = false
            change(to: .withoutQuorum, &effects)
            return
        }
        change(to: .forming, &effects)
        effects.append(message(.report(ownReport(in: view))))
    }

    private func ownReport(in view: GroupView) -> Report {
        Report(
            view: view.id, isContinuing: isContinuing, claim: isTainted ? .none : claim, stable: isTainted ? 0 : stable,
            index: isTainted ? 0 : state.index, chain: isTainted ? Self.taintedChain : state.chain, promised: promised,
            seniority: isContinuing ? seniority : nil, versionMin: offered.lowerBound,
            versionMax: offered.upperBound, takesTransfers: configuration.carriesSnapshots)
    }

    /// Holds a state, but not one to go on from.
    var isTainted: Bool { !hasMemory && state.index > 0 }

    mutating func receive(
        _ report: Report, hasMemory: Bool, from sender: GroupMember, at now: Instant, _ effects: inout [Effect]
    ) {
        guard let view, report.view == view.id, formation.reports[sender] == nil else { return }  // of an earlier view
        formation.reports[sender] = report
        if hasMemory { formation.rememberers.insert(sender) }
        if formation.epoch == nil {
            settleBase(in: view, at: now, &effects)
        } else {
            admitLate(report, from: sender, at: now, &effects)
        }
    }

    /// Ends the first round if enough have reported.
    mutating func settleBase(in view: GroupView, at now: Instant, _ effects: inout [Effect]) {
        let reports = formation.reports.sorted { $0.key < $1.key }
        guard isEnough(reports, in: view) else {
            if reports.count == view.members.count, formation.graceEnds == nil, let grace = configuration.formationGrace
            {
                formation.graceEnds = now + grace
            }
            return
        }
        // With a majority that remembers, the best is among them; a journal's tail is not as certain.
        let isMajority = formation.rememberers.count >= view.majority
        let candidates = isMajority ? reports.filter { formation.rememberers.contains($0.key) } : reports
        guard var (owner, base) = candidates.first.map({ ($0.key, $0.value) }) else { return }
        for (member, report) in candidates where base.isUseless || (base.precedes(report) && !report.isUseless) {
            (owner, base) = (member, report)
        }
        let number = (reports.map(\.value.promised).max() ?? 0) + 1
        let epoch = Epoch(number: number, id: view.id)
        formation.epoch = epoch
        formation.base = base
        formation.graceEnds = nil
        promised = max(promised, number)
        for (member, report) in reports {
            if report.matches(base) || member == owner {
                formation.insert(member, report.seniority ?? Seniority(epoch: number, position: 0))
            } else {
                formation.unsynchronised.append(member)
            }
        }
        formation.chooseVersion()
        if isMute { fallSilent(&effects) }
        formation.isOwnMatched = formation.isSynchronised(configuration.member)
        if reports.contains(where: { $0.key == configuration.member }), !formation.isOwnMatched { isContinuing = false }
        effects.append(message(.acknowledge))
        if formation.isForced, !isMajority {
            issued.removeAll()  // an index may come to mean another command
            effects.append(.note(.formedWithoutMajority(epoch: number, index: base.index)))
        }
    }

    /// Whether nothing that was answered can be missing from the best of these reports.
    private func isEnough(_ reports: [(key: GroupMember, value: Report)], in view: GroupView) -> Bool {
        let rememberers = reports.filter { formation.rememberers.contains($0.key) }
        // Every answer was acknowledged by a majority, and two majorities have a member in common.
        if rememberers.count >= view.majority { return true }
        guard reports.count == view.members.count else { return false }
        // Fewer nodes than a majority run this group; but one of them was in charge all along.
        if rememberers.contains(where: { $0.value.isContinuing }) { return true }
        return view.members.count >= view.nodesExpected || formation.isForced  // nobody else can know more
    }

    /// Ends the second round if enough have promised.
    mutating func activateIfPromised(at now: Instant, _ effects: inout [Effect]) {
        guard let view, let epoch = formation.epoch, !formation.isActive else { return }
        let weight = formation.promisers.intersection(formation.rememberers).count
        guard weight >= view.majority || formation.promisers.count == view.members.count else { return }
        formation.isActive = true
        for index in buffer.indices where buffer[index].spoken == nil { buffer[index].spoken = formation.version }
        effects.append(
            .note(
                .formed(
                    epoch: epoch.number, index: formation.base?.index ?? 0, synchronised: formation.synchronised.count,
                    members: view.members.count)))
        offerIfOldest(position: 0, to: formation.unsynchronised, &effects)
        if formation.isOwnMatched {
            carryOn(at: now, &effects)
        } else if formation.reports[configuration.member] != nil {
            beginSynchronising(at: now, &effects)
        }
    }

    /// The own state is the group's at this point: take part.
    private mutating func carryOn(at now: Instant, _ effects: inout [Effect]) {
        guard let epoch = formation.epoch else { return }
        claim = epoch
        stable = state.index
        recent.restart(at: state.index, state.chain)
        hasMemory = true
        isRestored = false
        keepTimeAhead(at: now)
        startJournal(&effects)
        takePart(at: now, &effects)
    }

    /// From here on this member counts.
    mutating func takePart(at now: Instant, _ effects: inout [Effect]) {
        isContinuing = true
        seniority = formation.synchronised.first { $0.member == configuration.member }?.seniority
        let waiting = buffer
        buffer.removeAll()
        change(to: .synchronised, &effects)
        for entry in waiting { apply(entry, at: now, &effects) }
        for member in formation.synchronised.map(\.member) { countStanding(of: member) }
        sendAgain(at: now, &effects)
        settleCommitted(&effects)
    }

    /// A report after the first round: of a member that was slow, not of one that joined (that would be another view).
    private mutating func admitLate(
        _ report: Report, from sender: GroupMember, at now: Instant, _ effects: inout [Effect]
    ) {
        guard let base = formation.base, let epoch = formation.epoch else { return }
        let isOwn = sender == configuration.member
        formation.narrow(for: sender, report)
        guard !formation.mute.contains(sender) else {
            if isOwn {
                fallSilent(&effects)
                if formation.isActive { beginSynchronising(at: now, &effects) }
            }
            return
        }
        if report.matches(base) {
            formation.insert(sender, report.seniority ?? Seniority(epoch: epoch.number, position: position))
            guard isOwn else { return settleCommitted(&effects) }
            // What was ordered meanwhile may have been too much to keep: then only a snapshot helps, and is asked for.
            guard bufferStart == 0 else { return beginSynchronising(at: now, &effects) }
            formation.isOwnMatched = true
            effects.append(message(.acknowledge))
            if formation.isActive { carryOn(at: now, &effects) }
        } else {
            if !formation.unsynchronised.contains(sender) { formation.unsynchronised.append(sender) }
            guard formation.isActive else { return }
            if isOwn { return beginSynchronising(at: now, &effects) }
            offerIfOldest(position: position, to: [sender], &effects)
        }
    }

    /// This build does not speak what the others do; it stays out until the members change.
    var isMute: Bool { formation.mute.contains(configuration.member) }

    private mutating func fallSilent(_ effects: inout [Effect]) {
        buffer.removeAll()
        isContinuing = false
        effects.append(.note(.versionNotSpoken(spoken: formation.version)))
    }
}

extension Report {
    fileprivate var isUseless: Bool { chain == .max && index == 0 }
}
