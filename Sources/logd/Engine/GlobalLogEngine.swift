import Containers
public import EngineKit
import LogProtocol
public import SAFTypes

/// What one node does for the global streams: it sends what its writers log to the owner of the files, and, on a
/// controller, keeps a copy of the *ledger*: all records of all nodes in one order, numbered by the owner.
///
/// An entry is *committed* when every controller in sync has it on its disk. Only then is it written to the streams'
/// files; when it is in the owner's, it is acknowledged to its sender, which keeps it until then. So whichever of them
/// becomes the next owner has all that was acknowledged, and the files of all controllers get the same records in the
/// same order.
public struct GlobalLogEngine: Engine, Sendable {
    public enum Event: Sendable {
        case ownership(Ownership)
        /// Messages to this node go out, or do not.
        case link(NodeID, isUp: Bool)
        case received(LogPeerMessage, epoch: UInt64, from: NodeID)
        /// So many records this node has accepted.
        case spooled(through: UInt64)
        /// What ``Effect/readSpool(session:from:)`` asked for; nil: there is nothing.
        case spoolRead(session: UInt64, RecordBatch?)
        /// Entries up to here are on the disk; those before `firstKept` are not any more.
        case stored(through: UInt64, firstKept: UInt64)
        /// The ledger was cut back, or replaced, and is this now.
        case truncated(LedgerState, firstKept: UInt64)
        /// Answers ``Effect/load(for:from:)``. `base`: what was asked for is not there any more; the state before the
        /// first that is.
        case loaded(for: NodeID, from: UInt64, [LedgerEntry], base: LedgerState?)
        /// These are in the streams' files.
        case published(through: UInt64)
        /// Of a proposal: done, or not, or perhaps.
        case answered(ticket: UInt64, isDone: Bool?)
        case timer
    }

    /// Stores, truncations, loads and publications are performed in their order.
    public enum Effect: Hashable, Sendable {
        case send(LogPeerMessage, epoch: UInt64, to: NodeID)
        case readSpool(session: UInt64, from: UInt64)
        /// These are where they cannot be lost.
        case releaseSpool(through: UInt64)
        case store([LedgerEntry])
        case truncate(to: UInt64)
        case reset(LedgerState)
        case load(for: NodeID, from: UInt64)
        case publish([LedgerEntry])
        case propose(StreamRegistry.Command, ticket: UInt64)
        case setTimer(Instant?)
        case note(isError: Bool, String)
    }

    public struct Limits: Sendable {
        /// Bytes sent and not acknowledged, of records to the owner and of entries to a follower.
        public var sendingBytes = 1 << 20
        public var followingBytes = 2 << 20
        /// Entries that are not in the files yet; beyond it nothing more is accepted.
        public var unpublishedBytes = 8 << 20
        /// Entries kept in memory.
        public var recentBytes = 16 << 20
        public var publishBytes = 1 << 20
        public var tick: Duration = .milliseconds(250)
        /// Without progress everything is asked anew.
        public var patience: Duration = .seconds(1)
        /// A follower that does not store what it was sent is not waited for any longer.
        public var lagMax: Duration = .seconds(2)
        /// An owner whose disk does not store gives way to another.
        public var storeMax: Duration = .seconds(5)
        public init() {}
    }

    public let node: NodeID
    /// It keeps a ledger and files.
    public let keepsFiles: Bool
    let limits: Limits
    let life: UInt64
    var now = Instant.start
    var inbox: [Event] = []
    var effects: [Effect] = []
    var timer: Instant?
    var lastTicket: UInt64 = 0
    public internal(set) var ownership = Ownership()
    /// Nodes that messages go out to, ascending.
    var up: [NodeID] = []

    var sending: Sending
    /// The own ledger, with what is on its way to the disk.
    public internal(set) var state: LedgerState
    var recent: EntryCache
    public internal(set) var stored: UInt64
    public internal(set) var committed: UInt64
    public internal(set) var published: UInt64
    var firstKept: UInt64
    var isPublishing = false
    var isTruncating = false
    var unpublished: [(number: UInt64, bytes: Int)] = []
    var unpublishedBytes = 0
    var storeProgress = Instant.start
    var following: Following
    var leading: Leading?

    /// - Parameters:
    ///   - life: larger than in every earlier life of this node's logd.
    ///   - spool: of the records: their incarnation, and which the owner had acknowledged and the node accepted before.
    ///   - ledger: as it is on the disk; empty on a payload node.
    ///   - published: what of it is in the files.
    public init(
        node: NodeID, keepsFiles: Bool, life: UInt64, spool: (incarnation: UInt64, released: UInt64, through: UInt64),
        ledger: LedgerState = LedgerState(), firstKept: UInt64 = 1, published: UInt64 = 0, limits: Limits = Limits()
    ) {
        (self.node, self.keepsFiles, self.life, self.limits) = (node, keepsFiles, life, limits)
        sending = Sending(
            incarnation: spool.incarnation, through: spool.through, released: spool.released, session: life)
        state = ledger
        recent = EntryCache(first: ledger.number + 1)
        stored = ledger.number
        (committed, self.published, self.firstKept) = (published, published, firstKept)
        following = Following(round: life)
    }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        self.now = max(self.now, now)
        inbox.append(event)
        var head = 0
        while head < inbox.count {
            let event = inbox[head]
            head += 1
            step(event)
        }
        inbox.removeAll(keepingCapacity: true)
        setTimer()
        defer { effects = [] }
        return effects
    }

    private mutating func step(_ event: Event) {
        switch event {
        case .ownership(let ownership): change(to: ownership)
        case .link(let other, let isUp): link(other, isUp: isUp)
        case .received(let message, let epoch, let other):
            // Of an owner that is none any more, or is not known here yet: that is asked again.
            if epoch == ownership.epoch { receive(message, from: other) }
        case .spooled(let through):
            if sending.released == sending.through { sending.progress = now }
            sending.through = max(sending.through, through)
            pumpSending()
        case .spoolRead(let session, let batch): spoolRead(session, batch)
        case .stored(let through, let firstKept):
            self.firstKept = firstKept
            storeProgress = now
            guard !isTruncating else { return }
            stored = max(stored, min(through, state.number))
            if leading == nil { tellStored() }
            advance()
        case .truncated(let state, let firstKept): truncated(state, firstKept: firstKept)
        case .loaded(let target, let from, let entries, let base): loaded(for: target, from: from, entries, base: base)
        case .published(let through):
            isPublishing = false
            published = max(published, min(through, committed))
            acknowledge()
            publish()
            inviteRefused()
        case .answered(let ticket, let isDone): answered(ticket, isDone: isDone)
        case .timer:
            timer = nil
            tick()
        }
    }

    private mutating func receive(_ message: LogPeerMessage, from other: NodeID) {
        let isOwner = other == ownership.owner?.node
        switch message {
        case .have(let session, let last): if isOwner { have(session, last: last) }
        case .accepted(let incarnation, let through): if isOwner { accepted(incarnation, through: through) }
        case .begin(let round, let at, let base): if isOwner { begin(round, at: at, base: base) }
        case .append(let round, let committed, let entries):
            if isOwner { append(round, committed: committed, entries) }
        case .invite: if isOwner { invited() }
        case .ask(let session, let incarnation, let oldest):
            asked(by: other, session: session, incarnation: incarnation, oldest: oldest)
        case .submit(let batch): submitted(batch, by: other)
        case .hello(let round, let epochs): greeted(by: other, round: round, epochs: epochs)
        case .ready(let round, let number): isReady(other, round: round, number: number)
        case .stored(let round, let number): hasStored(other, round: round, number: number)
        }
    }

    // MARK: Who and where

    var isOwner: Bool { ownership.owner?.node == node && ownership.owner?.incarnation == life }

    func isReachable(_ other: NodeID) -> Bool { other == node || up.contains(other) }

    mutating func send(_ message: LogPeerMessage, to other: NodeID) {
        if other == node {
            inbox.append(.received(message, epoch: ownership.epoch, from: node))
        } else if up.contains(other) {
            effects.append(.send(message, epoch: ownership.epoch, to: other))
        }
    }

    mutating func propose(_ command: StreamRegistry.Command) -> UInt64 {
        lastTicket += 1
        effects.append(.propose(command, ticket: lastTicket))
        return lastTicket
    }

    private mutating func change(to new: Ownership) {
        let old = ownership
        guard new != old else { return }
        ownership = new
        guard new.epoch != old.epoch || new.owner != old.owner else {
            if leading != nil, new.inSync != old.inSync { confirm() }
            keepersChanged()
            return advance()
        }
        leading = nil
        sending.stop()
        following.phase = .silent
        if isOwner { lead() } else { callOwner() }
        pumpSending()
    }

    private mutating func link(_ other: NodeID, isUp: Bool) {
        up.removeAll { $0 == other }
        if isUp { up = (up + [other]).sorted() }
        if other == ownership.owner?.node {
            // What was on its way, either way, may be lost.
            sending.stop()
            following.phase = .silent
            pumpSending()
            callOwner()
        }
        guard leading != nil else { return }
        leading?.followers[other] = nil
        if isUp { send(.invite, to: other) }
    }

    private mutating func truncated(_ state: LedgerState, firstKept: UInt64) {
        self.state = state
        self.firstKept = firstKept
        recent = EntryCache(first: state.number + 1)
        stored = state.number
        committed = min(committed, state.number)
        // After a reset the files go on with what there is.
        published = max(min(published, state.number), firstKept - 1)
        unpublished = []
        unpublishedBytes = 0
        (isTruncating, isPublishing) = (false, false)
        if isOwner { lead() } else { continueFollowing() }
        pumpSending()
    }

    private mutating func invited() {
        // What it sent may be lost, and it knows nothing of the present session and round any more.
        if sending.isWaiting { sending.stop() }
        if !isTruncating { following.phase = .silent }
        pumpSending()
        callOwner()
    }

    // MARK: The ledger

    /// The entry is the next of the ledger.
    mutating func take(_ entry: LedgerEntry) -> Bool {
        guard state.apply(entry) else { return false }
        if stored == entry.number - 1 { storeProgress = now }
        recent.append(entry)
        unpublished.append((entry.number, entry.bytes))
        unpublishedBytes += entry.bytes
        return true
    }

    /// What is committed and on the own disk goes to the files.
    mutating func publish() {
        forgetPublished()
        let through = min(committed, stored)
        guard keepsFiles, !isPublishing, !isTruncating, published < through else { return trim() }
        isPublishing = true
        guard recent.first <= published + 1 else {
            return effects.append(.load(for: node, from: published + 1))
        }
        publish(recent.entries(from: published + 1, through: through, bytesMax: limits.publishBytes))
    }

    mutating func publish(_ entries: [LedgerEntry]) { effects.append(.publish(entries)) }

    private mutating func forgetPublished() {
        let count = unpublished.prefix { $0.number <= published }.count
        for entry in unpublished[..<count] { unpublishedBytes -= entry.bytes }
        unpublished.removeFirst(count)
    }

    /// Keeps in memory what somebody will want soon.
    private mutating func trim() {
        var wanted = min(stored, published)
        for follower in leading?.followers.values ?? [] where follower.isStreaming {
            wanted = min(wanted, follower.acked)
        }
        recent.trim(through: wanted, above: limits.publishBytes)
        recent.trim(through: min(stored, published), above: limits.recentBytes)
    }

    private mutating func loaded(for target: NodeID, from: UInt64, _ entries: [LedgerEntry], base: LedgerState?) {
        guard target == node else { return loadedForFollower(target, from: from, entries, base: base) }
        guard isPublishing, !isTruncating else { return }
        let through = min(committed, stored)
        let wanted = entries.filter { $0.number > published && $0.number <= through }
        if wanted.isEmpty {
            // Not there any more: the files go on with what is.
            isPublishing = false
            if let base, base.number > published, base.number <= through {
                effects.append(
                    .note(
                        isError: true,
                        "entries \(published + 1) to \(base.number) of the ledger were gone before they were written"
                    ))
                published = base.number
                publish()
            }
            return
        }
        publish(wanted)
    }

    // MARK: Time

    private mutating func setTimer() {
        let wanted = needsTick ? timer ?? now + limits.tick : nil
        guard wanted != timer else { return }
        timer = wanted
        effects.append(.setTimer(wanted))
    }

    private var needsTick: Bool {
        sending.isWaiting || (keepsFiles && following.phase != .streaming && mayCallOwner) || leadingNeedsTick
    }

    private mutating func tick() {
        if sending.isWaiting, now - sending.progress >= limits.patience {
            sending.stop()
            pumpSending()
        }
        if following.phase == .calling, now - following.since >= limits.patience { following.phase = .silent }
        callOwner()
        tickLeading()
    }
}

/// The last entries of a ledger, contiguous.
struct EntryCache: Sendable {
    private var entries: [LedgerEntry] = []
    private var head = 0
    private(set) var bytes = 0
    /// The number of the first that is here, or of the next to come.
    private(set) var first: UInt64

    init(first: UInt64) { self.first = first }

    mutating func append(_ entry: LedgerEntry) {
        entries.append(entry)
        bytes += entry.bytes
    }

    /// At least one, when there is one; then as many as fit.
    func entries(from: UInt64, through: UInt64, bytesMax: Int) -> [LedgerEntry] {
        var (found, size) = ([LedgerEntry](), 0)
        var index = head + Int(from - first)
        while index < entries.count, entries[index].number <= through {
            if size > 0, size + entries[index].bytes > bytesMax { break }
            size += entries[index].bytes
            found.append(entries[index])
            index += 1
        }
        return found
    }

    /// Drops the oldest, up to `through`, while there are more than `above` bytes.
    mutating func trim(through: UInt64, above: Int) {
        while bytes > above, head < entries.count, entries[head].number <= through {
            bytes -= entries[head].bytes
            entries[head].batch.records = []
            head += 1
            first += 1
        }
        guard head > 64, head * 2 > entries.count else { return }
        entries.removeFirst(head)
        head = 0
    }
}
