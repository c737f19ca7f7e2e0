import EngineKit
import IOCGroups
import SAFTypes

/// A process as CPG names it.
struct RingProcess: Hashable, Comparable, Sendable {
    var node: UInt32
    var pid: UInt32

    static func < (left: RingProcess, right: RingProcess) -> Bool {
        (left.node, left.pid) < (right.node, right.pid)
    }
}

/// A ring of Totem as corosync names it.
struct RingID: Hashable, Sendable {
    var node: UInt32
    var sequence: UInt64
}

/// Makes the views of an ``OrderedGroup`` out of what CPG and libquorum tell; pure. The essay is in README.md.
///
/// A new ring, and a join, begin a *round*: every process announces its incarnation and what libquorum says of that
/// ring. The view opens where the last announcement of the round, or a *close*, is delivered: decided by the order of
/// deliveries alone, so it is the same view at the same place for all. Who announces later joins the open view then.
struct RingOrder: Engine, Sendable {
    enum Event: Hashable, Sendable {
        /// CPG: who is in the group from here on. With a new ring its identifier follows.
        case processes([RingProcess], isNewRing: Bool)
        /// `nodes`: those of the ring, whether or not they have a process in the group.
        case ring(RingID, nodes: [UInt32] = [])
        case message(RingProcess, [UInt8])
        /// libquorum, whenever it comes: no place in the order.
        case quorum(RingID, isQuorate: Bool)
        /// So many nodes are configured from now on.
        case expected(UInt16)
        case tick
    }

    enum Effect: Hashable, Sendable {
        case deliver(GroupEvent)
        case send(RingMessage)
    }

    /// How long a round waits for a process that does not announce (it is stopped).
    static let closeDelay: Duration = .milliseconds(200)
    /// How long libquorum may be silent about a new ring, or CPG not name it. Nothing is delivered meanwhile; after
    /// that what they say cannot be waited for, and everything is connected anew.
    static let silenceMax: Duration = .seconds(10)

    let me: RingProcess
    let member: GroupMember
    private(set) var nodesExpected: UInt16

    private var processes: [RingProcess] = []
    private var ring: RingID?
    private var ringNodes: [UInt32] = []
    private var isRingPending = false
    private var round: RingRound?
    private var announced: [RingProcess: RingAnnouncement] = [:]
    /// The view has opened, whether or not this process is in it.
    private var isOpen = false
    private var viewID: UInt64 = 0
    /// What the last announcement or marker of this ring said.
    private var isQuorate = false
    private var expected: UInt16 = 0
    private var lastView: GroupView?
    /// Of the last view, those that were away since, if only for a moment.
    private var separated: Set<GroupMember> = []
    private var quorum: (ring: RingID, isQuorate: Bool)?
    /// What was last said of the ring; nil: not announced in this round.
    private var said: Bool?
    private var announcements: UInt32 = 0
    private var closeAt: Instant?
    /// Since the ring is not known, or libquorum has not told of it.
    private var silentUntil: Instant?

    init(me: RingProcess, member: GroupMember, nodesExpected: Int) {
        (self.me, self.member) = (me, member)
        self.nodesExpected = UInt16(clamping: nodesExpected)
    }

    /// When ``Event/tick`` is due.
    var deadline: Instant? { [isOpen ? nil : closeAt, silentUntil].compactMap { $0 }.min() }
    /// This process is in the open view: what it sends has a view to be delivered in.
    var isInView: Bool { isOpen && announced[me] != nil }

    mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        var effects: [Effect] = []
        switch event {
        case .processes(let processes, let isNewRing):
            change(to: processes.sorted(), isNewRing: isNewRing, at: now, &effects)
        case .ring(let ring, let nodes):
            ringNodes = nodes
            guard ring != self.ring || isRingPending else { break }
            self.ring = ring
            isRingPending = false
            begin(at: now, &effects)
        case .message(let process, let bytes): receive(bytes, from: process, &effects)
        case .quorum(let ring, let isQuorate):
            quorum = (ring, isQuorate)
            announce(at: now, &effects)
        case .expected(let nodes): expect(nodes, &effects)
        case .tick:
            if let silentUntil, silentUntil <= now {
                self.silentUntil = nil
                let missing =
                    isRingPending ? "CPG does not name the new ring" : "libquorum is silent about the new ring"
                effects.append(.deliver(.lost(reason: missing)))
            }
            guard let closeAt, closeAt <= now, !isOpen, let round else { break }
            self.closeAt = now + Self.closeDelay
            effects.append(.send(.close(round)))
        }
        return effects
    }

    // MARK: Rounds

    private mutating func change(
        to new: [RingProcess], isNewRing: Bool, at now: Instant, _ effects: inout [Effect]
    ) {
        let gone = processes.filter { !new.contains($0) }
        let isJoin = new.contains { !processes.contains($0) }
        processes = new
        for process in gone {
            if let announcement = announced[process] { separated.insert(announcement.member(process)) }
        }
        guard new.contains(me) else {
            if gone.contains(me) { effects.append(.deliver(.lost(reason: "corosync put this process out"))) }
            return
        }
        if isNewRing { silentUntil = silentUntil ?? now + Self.silenceMax }
        isRingPending = isRingPending || isNewRing
        guard !isRingPending, ring != nil else { return }
        guard !isJoin else { return begin(at: now, &effects) }
        var isChanged = false
        for process in gone {
            guard announced.removeValue(forKey: process) != nil else { continue }
            isChanged = true
            viewID = RingHash.mix(viewID, RingHash.mix(UInt64(process.node), UInt64(process.pid)))
        }
        if isOpen { if isChanged { publish(&effects) } } else { openIfComplete(&effects) }
    }

    private mutating func begin(at now: Instant, _ effects: inout [Effect]) {
        guard let ring else { return }
        round = RingRound(ring: ring, processes: processes)
        if isOpen, announced[me] == nil { separateAll() }
        announced.removeAll()
        isOpen = false
        isQuorate = false
        expected = 0
        said = nil
        closeAt = nil
        silentUntil = silentUntil ?? now + Self.silenceMax
        announce(at: now, &effects)
    }

    /// Says what this process is, once libquorum has told of this ring; and again what it says, if it changes.
    private mutating func announce(at now: Instant, _ effects: inout [Effect]) {
        guard let round, let quorum, quorum.ring == round.ring, !isRingPending, said != quorum.isQuorate else { return }
        silentUntil = nil
        if said == nil {
            announcements += 1
            closeAt = now + Self.closeDelay
            let announcement = RingAnnouncement(
                incarnation: member.incarnation, number: announcements, isQuorate: quorum.isQuorate,
                nodesExpected: nodesExpected)
            effects.append(.send(.announcement(round, announcement)))
        } else {
            effects.append(.send(.quorum(round.ring, isQuorate: quorum.isQuorate)))
        }
        said = quorum.isQuorate
    }

    /// More nodes count from the next round on, which they begin themselves: until then a majority of the fewer meets
    /// every quorum of the more. Fewer are told at once, or the loss of one more would leave no majority.
    private mutating func expect(_ nodes: UInt16, _ effects: inout [Effect]) {
        let isLess = nodes < nodesExpected
        nodesExpected = nodes
        guard isLess, let round, let said, !isRingPending else { return }
        announcements += 1
        let announcement = RingAnnouncement(
            incarnation: member.incarnation, number: announcements, isQuorate: said, nodesExpected: nodes)
        effects.append(.send(.announcement(round, announcement)))
    }

    /// A process of the round has said before what it is: it says that another number of nodes is configured.
    private mutating func announceAgain(
        _ announcement: RingAnnouncement, _ process: RingProcess, _ effects: inout [Effect]
    ) {
        guard let known = announced[process], known.incarnation == announcement.incarnation,
            known.number < announcement.number
        else { return }
        announced[process] = announcement
        let before = expected
        expected = announced.values.reduce(0) { max($0, $1.nodesExpected) }
        guard isOpen else { return }  // the view opens with it
        viewID = RingHash.mix(viewID, announcement.hash(process))
        if expected != before { publish(&effects) }
    }

    private mutating func receive(_ bytes: [UInt8], from process: RingProcess, _ effects: inout [Effect]) {
        guard let message = try? RingMessage(decoding: bytes) else { return }  // of another program: nobody takes it
        switch message {
        case .data(let payload):
            // Between a round's beginning and its view nothing is delivered: FragmentingGroup sends it anew.
            guard isOpen, !isRingPending, announced[me] != nil, let sender = announced[process] else { return }
            effects.append(.deliver(.message(from: sender.member(process), bytes: payload)))
        case .announcement(let round, let announcement):
            guard round == self.round, processes.contains(process) else { return }
            guard announced[process] == nil else { return announceAgain(announcement, process, &effects) }
            announced[process] = announcement
            isQuorate = announcement.isQuorate
            expected = max(expected, announcement.nodesExpected)
            guard isOpen else { return openIfComplete(&effects) }
            viewID = RingHash.mix(viewID, announcement.hash(process))
            publish(&effects)
        case .close(let round):
            guard round == self.round, !isOpen, !announced.isEmpty else { return }
            open(&effects)
        case .quorum(let ring, let isQuorate):
            guard ring == self.ring, !isRingPending, processes.contains(process), isQuorate != self.isQuorate else {
                return
            }
            self.isQuorate = isQuorate
            viewID = RingHash.mix(viewID, isQuorate ? 1 : 2)
            if isOpen { publish(&effects) }
        }
    }

    private mutating func openIfComplete(_ effects: inout [Effect]) {
        if !processes.isEmpty, processes.allSatisfy({ announced[$0] != nil }) { open(&effects) }
    }

    private mutating func open(_ effects: inout [Effect]) {
        guard let round else { return }
        isOpen = true
        viewID = round.hash
        for process in announced.keys.sorted() {
            if let announcement = announced[process] { viewID = RingHash.mix(viewID, announcement.hash(process)) }
        }
        publish(&effects)
    }

    // MARK: Views

    /// The others went on without this process.
    private mutating func separateAll() {
        for other in lastView?.members ?? [] where other != member { separated.insert(other) }
    }

    private mutating func publish(_ effects: inout [Effect]) {
        guard announced[me] != nil else { return separateAll() }
        var newest: [UInt32: RingProcess] = [:]
        for process in announced.keys.sorted() {
            // A daemon that is being replaced may linger for a moment: a node's newest life is its member.
            let known = newest[process.node].flatMap { announced[$0]?.incarnation } ?? 0
            if (announced[process]?.incarnation ?? 0) >= known { newest[process.node] = process }
        }
        let members = newest.values.sorted().compactMap { process in announced[process]?.member(process) }.sorted()
        guard members.contains(member) else { return separateAll() }
        let before = lastView?.members ?? []
        let view = GroupView(
            id: viewID, members: members,
            joined: members.filter { !before.contains($0) || separated.contains($0) },
            left: before.filter { !members.contains($0) || separated.contains($0) }, isQuorate: isQuorate,
            nodesExpected: Int(expected),
            nodes: Set(ringNodes + members.map(\.node.rawValue)).sorted().map { NodeID($0) })
        separated.removeAll()
        lastView = view
        effects.append(.deliver(.view(view)))
    }
}
