import EngineKit
import IOCGroups
import SAFTypes

public struct ReplicatedConfiguration: Hashable, Sendable {
    /// The own member, as the group knows it.
    public var member: GroupMember
    /// How long a proposal may wait for its answer before it is answered with a timeout (outcome unknown).
    public var proposalTimeout: Duration = .seconds(10)
    /// Proposals not yet answered; more are refused with TRY_AGAIN.
    public var outstandingMax = 1024
    /// A digest of the state is exchanged every so many commands; 0: never.
    public var digestInterval: UInt64 = 256
    /// A joiner that gets nothing for so long asks the next oldest member for a snapshot.
    public var synchronisationTimeout: Duration = .seconds(2)
    /// A quorate view in which too few members remember anything (a cold start with a node missing, or most of the
    /// cluster restarted at once) waits so long for more before it goes on with the best there is. Nil: for ever.
    public var formationGrace: Duration? = .seconds(5)
    /// Whether the shell carries snapshots over peer links (``Replicated/Effect/sendSnapshot(to:point:bytes:)``) and
    /// takes them from there. Where sender or joiner does not, or twice nothing came, they go through the group.
    public var carriesSnapshots = false
    public var chunkBytes = 64 << 10
    public var chunksInFlight = 4
    /// Commands a joiner keeps while it waits for its snapshot; beyond, it starts over. The same on every member: what
    /// comes beyond it while a view is formed is dropped by all.
    public var bufferedMax = 65_536
    /// Whether an event is announced before it is applied (``ReplicatedNode/Output/willApply(_:)``), and acknowledged
    /// only when what followed from it was performed: for a shell that has something ready, to be done first.
    public var announcesEvents = false
    /// Whether to emit ``Replicated/Effect/journal(_:)``.
    public var isJournaling = false
    /// A journal is begun anew after so many bytes, or twice the snapshot it began with, whichever is more.
    public var journalBytesMin = 1 << 20
    /// The newest version that is offered to the other members, of those that the build speaks; never less than its
    /// oldest.
    public var versionMax = UInt16.max

    public init(member: GroupMember) { self.member = member }
}

public enum ReplicatedStatus: UInt8, Hashable, Sendable, CaseIterable {
    /// In no view yet, or the group is lost.
    case outside
    /// In a view without quorum: nothing is applied, nothing answered.
    case withoutQuorum
    /// In a quorate view; the members tell each other what they hold.
    case forming
    /// The view is in charge, but this member does not hold its state yet.
    case synchronising
    /// Applies, performs and answers.
    case synchronised
}

public enum ProposalOutcome: Hashable, Sendable {
    /// Applied, and a majority has it.
    case done
    /// `.tryAgain`: nothing happened. `.version`: nothing happened; there is a member whose version has no words
    /// for it. `.timeout`: unknown, it may have happened or happen yet.
    case refused(AisError)
}

/// For the log.
public enum ReplicatedNote: Hashable, Sendable {
    /// Info: a view was formed with so many members holding the state.
    case formed(epoch: UInt64, index: UInt64, synchronised: Int, members: Int)
    /// Warning: formed without a majority that remembers; commands answered before may be missing.
    case formedWithoutMajority(epoch: UInt64, index: UInt64)
    /// Info: snapshot sent or loaded.
    case snapshotOffered(index: UInt64, bytes: Int)
    case snapshotLoaded(index: UInt64, from: GroupMember)
    /// Warning: no progress; asking the next.
    case synchronisationRestarted(attempt: UInt32)
    /// Error: this member's state differs from that of most; it drops it.
    case diverged(index: UInt64)
    /// Error: another member differs from most.
    case memberDiverged(GroupMember, index: UInt64)
    /// Warning: bytes that no member should send.
    case undecodable(from: GroupMember, DecodeError)
    /// Error: a command's event made no sense to this build.
    case eventNotUnderstood(index: UInt64)
    /// Error: the members speak `spoken`, this build only others; it stays out.
    case versionNotSpoken(spoken: UInt16)
    /// Error: the engine under the group is gone.
    case groupLost(String)
}

/// The log's hash after each of the last commands, to tell acknowledgements of this log from those of another.
struct RecentChains: Sendable {
    static let kept = 2048
    private var first: UInt64 = 0
    private var chains: [UInt64] = [0]

    mutating func restart(at index: UInt64, _ chain: UInt64) {
        first = index
        chains = [chain]
    }

    mutating func append(_ chain: UInt64) {
        chains.append(chain)
        guard chains.count >= 2 * Self.kept else { return }
        first += UInt64(chains.count - Self.kept)
        chains.removeFirst(chains.count - Self.kept)
    }

    /// Nil when it is not known, or not applied yet.
    func chain(at index: UInt64) -> UInt64? {
        guard index >= first, index - first < UInt64(chains.count) else { return nil }
        return chains[Int(index - first)]
    }
}

/// Runs an engine as one member of a group, so that every synchronised member has the same state (architecture,
/// section 5; the life of a member is the table in Sources/EO/README.md).
///
/// A value that performs nothing: ``ReplicatedNode`` joins it to a group. Effects are performed in the order returned.
public struct Replicated<Core: ReplicatedEngine>: Engine, Sendable {
    public enum Event: Sendable {
        case group(GroupEvent)
        /// The group has nothing more to deliver at this moment. Owed acknowledgements go out now, one for many.
        case drained
        /// Answered exactly once, with the caller's ticket.
        case propose(Core.Event, ticket: UInt64)
        /// A once-only effect was performed; the event, if any, is applied with its removal. Kept until it is ordered.
        case effectDone(EffectID, Core.Event?)
        /// A snapshot came over a peer link, whole. The shell knows by the link that it is of that member.
        case snapshotReceived(from: GroupMember, point: SnapshotPoint, bytes: [UInt8])
        /// Some of one did; at least once in each half ``ReplicatedConfiguration/synchronisationTimeout``, or it counts
        /// as lost.
        case snapshotArriving
        /// Time passed; due at ``Replicated/nextDeadline``.
        case tick
    }

    public enum Effect: Sendable {
        case multicast([UInt8])
        /// Keep this before performing anything that follows.
        case journal(JournalWrite)
        /// The ticket is that of the own proposal the effect comes from; nil for another member's.
        case perform(Core.Effect, ticket: UInt64?)
        case performOnce(EffectID, Core.OnceEffect)
        case answer(ticket: UInt64, ProposalOutcome)
        /// Bring it there over a peer link, if it can be; nothing is to be said of success or failure.
        case sendSnapshot(to: GroupMember, point: SnapshotPoint, bytes: [UInt8])
        /// The state was replaced as a whole: what was derived from it must be derived anew.
        case stateReplaced
        case status(ReplicatedStatus)
        case note(ReplicatedNote)
    }

    public internal(set) var configuration: ReplicatedConfiguration
    var state: ReplicaState<Core>
    public internal(set) var status = ReplicatedStatus.outside

    // What this member holds, as it would report it.
    var hasMemory = false
    /// The memory is a journal's, or of an earlier life of the group. It tells all this member applied, but not what it
    /// had acknowledged last, so in a cluster of several nodes it does not count towards a majority that remembers.
    var isRestored = false
    var isContinuing = false
    var claim = Epoch.none
    var stable: UInt64 = 0
    var promised: UInt64 = 0
    var seniority: Seniority?

    // The view, and how far it is formed.
    var view: GroupView?
    var position: UInt64 = 0
    var formation = Formation()

    // Own proposals.
    var proposals = Proposals<Core>()
    /// The group's time minus the own clock, as far as known; only grows.
    var clockOffset = Duration.zero
    var proposedTimers: [UInt64: Instant] = [:]
    var issued: Set<EffectID> = []
    var isAcknowledgementOwed = false
    var recent = RecentChains()

    var buffer: [Buffered] = []
    var bufferStart: UInt64 = 0
    var incoming: Incoming?
    var outgoing: [Outgoing] = []
    /// Came over a peer link, maybe before the place in the order that it belongs to.
    var arrived: Arrived?
    var lastProgress = Instant.start
    var attempt: UInt32 = 0

    var digests: [UInt64: [GroupMember: UInt64]] = [:]
    var journalBytes = 0
    var journalBase = 0
    /// The largest event that the group takes as a command; more is refused with TOO_BIG.
    var eventBytesMax = Int.max
    /// Wrong on purpose, for the tests that prove that the checkers see it.
    let sabotage: Sabotage?

    package enum Sabotage: Sendable { case answerAtSelfDelivery, skipEveryTenth, applyWithoutQuorum, forgetMarks }

    public init(core: Core, configuration: ReplicatedConfiguration) {
        self.init(core: core, configuration: configuration, sabotage: nil)
    }

    package init(core: Core, configuration: ReplicatedConfiguration, sabotage: Sabotage?) {
        self.configuration = configuration
        self.sabotage = sabotage
        state = ReplicaState(core: core)
        formation.spoken = offered
    }

    /// A member that carries on from its journal.
    ///
    /// - Parameter journal: ``JournalContents/records``; empty for a first start.
    /// - Throws: the journal is not one of this engine, or of a version this build does not read.
    public init(core: Core, configuration: ReplicatedConfiguration, restoring journal: [[UInt8]]) throws(DecodeError) {
        self.init(core: core, configuration: configuration)
        guard !journal.isEmpty else { return }
        (state, claim) = try ReplicaState.replaying(journal)
        hasMemory = true
        isRestored = true
        stable = state.index
        promised = claim.number
        recent.restart(at: state.index, state.chain)
    }

    /// The versions that this member offers to the others.
    var offered: ClosedRange<UInt16> {
        let spoken = Core.versions
        return spoken.lowerBound...max(spoken.lowerBound, min(spoken.upperBound, configuration.versionMax))
    }

    /// The engine's present state, to be read only.
    public var core: Core { state.core }
    /// Commands applied.
    public var index: UInt64 { state.index }
    /// Commands that are known to be with a majority.
    public var committedIndex: UInt64 { status == .synchronised ? committed : 0 }
    /// The members that hold the state, oldest first; empty unless the view is formed.
    public var synchronisedMembers: [GroupMember] { formation.synchronised.map(\.member) }
    public var isOldest: Bool {
        status == .synchronised && formation.synchronised.first?.member == configuration.member
    }
    /// Equal at equal ``index`` on every member.
    public var digest: UInt64 { state.digest(version: isMute ? Core.versions.upperBound : formation.version) }
    /// The group's time at which the last command was applied; it never goes back.
    public var time: Instant { state.time }
    /// A hash over every command applied.
    public var logHash: UInt64 { state.chain }
    /// Once-only effects not yet reported done.
    public var pendingEffects: [EffectID] { state.pending.map(\.id) }

    /// Timers not yet expired.
    public var timerCount: Int { state.timers.count }
    /// The view this member is in; nil before the first.
    public var viewID: UInt64? { view?.id }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        var effects: [Effect] = []
        switch event {
        case .group(.view(let view)): enter(view, at: now, &effects)
        case .group(.message(let sender, let bytes)): receive(bytes, from: sender, at: now, &effects)
        case .group(.lost(let reason)): lose(reason, &effects)
        case .drained: acknowledgeIfOwed(&effects)
        case .propose(let event, let ticket): propose(event, ticket: ticket, at: now, &effects)
        case .effectDone(let id, let event): reportDone(id, event, at: now, &effects)
        case .snapshotReceived(let sender, let point, let bytes):
            receive(Arrived(sender: sender, point: point, bytes: bytes), at: now, &effects)
        case .snapshotArriving: if isWaitingForState { lastProgress = now }
        case .tick: tick(at: now, &effects)
        }
        checkInvariants()
        return effects
    }

    func checkInvariants() {
        invariant(stable <= state.index, "stable index \(stable) beyond \(state.index)")
        invariant(promised >= claim.number, "holds epoch \(claim.number) but promised only \(promised)")
        invariant(status != .synchronised || formation.isActive, "synchronised in a view that is not formed")
        invariant(status != .synchronised || buffer.isEmpty, "synchronised with commands left in the buffer")
        invariant(proposals.waiting.count <= configuration.outstandingMax + proposals.unlimited, "too many proposals")
    }

    mutating func change(to status: ReplicatedStatus, _ effects: inout [Effect]) {
        guard status != self.status else { return }
        self.status = status
        effects.append(.status(status))
    }

    func message(_ body: ReplicatedMessage.Body) -> Effect {
        let message = ReplicatedMessage(
            isSynchronised: formation.isOwnMatched,
            hasMemory: hasMemory && (!isRestored || view?.majority == 1), epoch: formation.epoch ?? .none,
            applied: formation.isOwnMatched ? state.index : 0, chain: state.chain, body: body)
        return .multicast(message.encoded)
    }

    /// After ``GroupEvent/lost(reason:)``: takes part in the group's next life as another member, and remembers what it
    /// holds. What it had proposed is answered with a timeout; it may have been applied.
    public mutating func rejoining(as member: GroupMember) -> [Effect] {
        invariant(status == .outside, "in a view as \(configuration.member), cannot become \(member)")
        configuration.member = member
        seniority = nil
        proposedTimers.removeAll()
        return proposals.restart().map { .answer(ticket: $0, .refused(.timeout)) }
    }

    mutating func lose(_ reason: String, _ effects: inout [Effect]) {
        leaveView()
        view = nil
        isContinuing = false
        // From now on like a journal's memory: fewer than a majority may go on without this member.
        isRestored = hasMemory
        stable = state.index
        change(to: .outside, &effects)
        effects.append(.note(.groupLost(reason)))
    }
}
