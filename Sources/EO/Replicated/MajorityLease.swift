import EngineKit
import SAFTypes

public struct LeaseConfiguration: Hashable, Sendable {
    public var node: NodeID
    /// How many nodes the cluster is configured for: what a majority is counted of.
    public var nodesExpected: Int
    /// How long the lease lasts, from the sending of the probe that was answered, by the holder's clock.
    public var lease: Duration
    /// How often the others are probed. Several probes may be lost within a lease.
    public var probeInterval: Duration

    /// - Parameters:
    ///   - token: Corosync's; a silent node is excluded no earlier than 2.1 × token after it was last heard.
    ///   - leasePercent: of the token. Beyond 200 a lost node's work waits for its lease instead of its exclusion; the
    ///     shorter, the sooner a busy node stops for nothing.
    public init(node: NodeID, nodesExpected: Int, token: Duration, leasePercent: UInt32 = 120) {
        (self.node, self.nodesExpected) = (node, nodesExpected)
        lease = token * Int(leasePercent) / 100
        leaseAsGranted = lease * 41 / 40
        probeInterval = lease / 6
    }

    public var majority: Int { nodesExpected / 2 + 1 }
    /// How long one who answered a probe must take the lease to last, by its own clock: clocks run within 1 % of true
    /// time, so a holder's slow clock and one or two others' fast ones are covered.
    public var leaseAsGranted: Duration
}

/// "Do you still hold me for a member of this view?" view u64 · sentAt u64.
public struct LeaseProbe: Hashable, Sendable, WireCodable {
    public var view: UInt64
    /// By the prober's clock, and echoed: the answer proves that it was heard no earlier, however late it comes.
    public var sentAt: Instant

    public init(view: UInt64, sentAt: Instant) { (self.view, self.sentAt) = (view, sentAt) }
    public func encode(to writer: inout ByteWriter) {
        writer.integer(view)
        writer.integer(sentAt.nanoseconds)
    }
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        view = try reader.integer()
        sentAt = Instant(nanoseconds: try reader.integer())
    }
}

/// "I do", and what the sender vouches for: for how long its answers in earlier views may still keep a lease up.
/// probe · grants (count u32 · node u32 · remaining nanoseconds u64).
public struct LeaseAnswer: Hashable, Sendable, WireCodable {
    public struct Grant: Hashable, Sendable, WireCodable {
        public var node: NodeID
        public var remaining: Duration

        public init(node: NodeID, remaining: Duration) { (self.node, self.remaining) = (node, remaining) }
        public func encode(to writer: inout ByteWriter) {
            writer.value(node)
            writer.integer(UInt64(max(remaining.nanoseconds, 0)))
        }
        public init(decoding reader: inout ByteReader) throws(DecodeError) {
            node = try reader.value()
            let nanoseconds: UInt64 = try reader.integer()
            guard nanoseconds <= Int64.max else { throw .badValue("a lease of \(nanoseconds) ns") }
            remaining = .nanoseconds(Int64(nanoseconds))
        }
    }

    public var probe: LeaseProbe
    public var grants: [Grant]

    public init(probe: LeaseProbe, grants: [Grant]) { (self.probe, self.grants) = (probe, grants) }
    public func encode(to writer: inout ByteWriter) {
        writer.value(probe)
        writer.list(grants)
    }
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        probe = try reader.value()
        grants = try reader.list()
    }
}

/// Which nodes are connected from now on. Nodes, not a group's processes: libquorum's list.
public struct LeaseView: Hashable, Sendable {
    /// The same on every node that sees this view, and never that of another.
    public var id: UInt64
    /// Contains the own node.
    public var nodes: [NodeID]
    /// Those of them that did not come along from the own view before.
    public var joined: [NodeID]
    public var isQuorate: Bool

    public init(id: UInt64, nodes: [NodeID], joined: [NodeID], isQuorate: Bool) {
        (self.id, self.nodes, self.joined, self.isQuorate) = (id, nodes, joined, isQuorate)
    }
}

/// Decides whether this node may hold active assignments, and when those of a lost node may be given away, so that no
/// two sides are ever active at once (architecture, section 6; what the shell must do is in Sources/EO/README.md).
///
/// A node holds the lease while a majority (itself included) has answered probes sent within
/// ``LeaseConfiguration/lease``. A node is answered only by those that are in the very view it is in. When a node is
/// lost, each member of the next view vouches, in its answers there, for how long those it gave before may still count.
/// A majority of vouchers meets every majority of answers: when the longest has run out, so has the lost node's lease.
/// Where Corosync took 2.1 × token to exclude it, that is at once; after a clean stop of Corosync, or where probes go
/// another way, it is not.
public struct MajorityLease: Engine, Sendable {
    public enum Event: Hashable, Sendable {
        case view(LeaseView)
        /// The engine under the group is gone: in no view any more.
        case outside
        case probed(LeaseProbe, from: NodeID)
        case answered(LeaseAnswer, from: NodeID)
        /// Time passed. The first event after every wake-up, see Sources/EO/README.md.
        case tick
    }

    public enum Effect: Hashable, Sendable {
        case sendProbe(LeaseProbe, to: NodeID)
        case answer(LeaseAnswer, to: NodeID)
        /// The lease has run out: stop the active components (SIGSTOP) before anything else.
        case suspend
        /// The lease is held: active components may run (SIGCONT).
        case resume
        /// The majority went on without this node: kill what was active. Always while suspended.
        case excluded
        /// What that node was active for before it was lost may be given to others. Said by those that saw it go; not
        /// by one that was apart itself, of a node that is here.
        case released(NodeID)
        /// ``Event/tick`` is due; replaces the timer before.
        case startTimer(at: Instant)
    }

    public private(set) var configuration: LeaseConfiguration
    public private(set) var isHeld = false
    /// By the own clock; the lease is held before, not at, this instant.
    public private(set) var end = Instant.start

    private var view: LeaseView?
    /// Since the last quorate view with a majority that came along, this node was apart from it.
    private var isSeparated = false
    /// Something may have been active since the last exclusion.
    private var hasHeld = false
    private var nextProbe = Instant.start
    /// When the latest answered probe was sent, in the present view, by the own clock.
    private var heard: [NodeID: Instant] = [:]
    /// Until when the own answers may keep a node's lease up, by the own clock.
    private var granted: [NodeID: Instant] = [:]
    /// The same, as it was when the present view began.
    private var grantedBefore: [NodeID: Instant] = [:]
    /// Nodes that were lost and are not released: until when, as far as vouched for in the present view.
    private var lost: [NodeID: Instant] = [:]
    private var vouchers: Set<NodeID> = []

    /// - Parameter others: nodes that an earlier life of this one may have answered just before `now`; it has left no
    ///   word of that, so they are vouched for as if it had.
    public init(configuration: LeaseConfiguration, answeredBefore others: [NodeID] = [], at now: Instant = .start) {
        self.configuration = configuration
        for node in others { granted[node] = now + configuration.leaseAsGranted }
    }

    /// A majority is counted of so many nodes from now on. By one more or one less at a time, so that the majorities
    /// before and after have a node in common; what was granted before is as long as it was.
    public mutating func expect(nodes: Int) { configuration.nodesExpected = nodes }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        var effects: [Effect] = []
        suspendIfOver(at: now, &effects)  // whatever else is to be done comes after
        switch event {
        case .view(let view): enter(view, at: now, &effects)
        case .outside:
            separate(&effects)
            for node in view?.nodes ?? [] where node != configuration.node { lost[node] = .start }
            view = nil
        case .probed(let probe, let node):
            guard isHere(node, probe.view) else { break }
            granted[node] = now + configuration.leaseAsGranted
            effects.append(.answer(LeaseAnswer(probe: probe, grants: ownGrants(at: now)), to: node))
        case .answered(let answer, let node):
            guard isHere(node, answer.probe.view), answer.probe.sentAt <= now else { break }
            heard[node] = max(answer.probe.sentAt, heard[node] ?? .start)
            renew(at: now, &effects)
            take(answer.grants, vouchedBy: node, at: now)
        case .tick: break
        }
        release(at: now, &effects)
        probeIfDue(at: now, &effects)
        if let next = nextDeadline { effects.append(.startTimer(at: next)) }
        invariant(!isHeld || (end > now && !isSeparated), "a lease that is over is held")
        return effects
    }

    // MARK: The own lease

    private mutating func suspendIfOver(at now: Instant, _ effects: inout [Effect]) {
        guard isHeld, end <= now else { return }
        isHeld = false
        effects.append(.suspend)
    }

    private mutating func separate(_ effects: inout [Effect]) {
        isSeparated = true
        end = .start
        heard.removeAll()
        guard isHeld else { return }
        isHeld = false
        effects.append(.suspend)
    }

    /// The lease counts from the oldest of the latest answers that make a majority with this node.
    private mutating func renew(at now: Instant, _ effects: inout [Effect]) {
        guard let view, view.isQuorate else { return }
        let needed = configuration.majority - 1
        let latest = heard.values.sorted(by: >)
        guard needed == 0 || latest.count >= needed else { return }
        let since = needed == 0 ? now : latest[needed - 1]
        end = max(end, since + configuration.lease)
        guard !isHeld, end > now else { return }
        isHeld = true
        hasHeld = true
        effects.append(.resume)
    }

    private mutating func probeIfDue(at now: Instant, _ effects: inout [Effect]) {
        guard let view, view.isQuorate, nextProbe <= now else { return }
        nextProbe = now + configuration.probeInterval
        renew(at: now, &effects)  // for a cluster of one, which nobody answers
        let probe = LeaseProbe(view: view.id, sentAt: now)
        for node in view.nodes where node != configuration.node { effects.append(.sendProbe(probe, to: node)) }
    }

    // MARK: Views

    private mutating func enter(_ new: LeaseView, at now: Instant, _ effects: inout [Effect]) {
        let along = new.nodes.filter { !new.joined.contains($0) || $0 == configuration.node }
        if let old = view {
            for node in old.nodes where !along.contains(node) { lost[node] = .start }
            if along.count < configuration.majority { separate(&effects) }
        }
        for node in lost.keys { lost[node] = .start }  // to be vouched for anew, by a majority of this view
        view = new
        heard.removeAll()
        vouchers.removeAll()
        nextProbe = now
        guard new.isQuorate else { return separate(&effects) }
        if isSeparated {
            isSeparated = false
            for node in new.nodes { lost[node] = nil }
            if hasHeld { effects.append(.excluded) }
            hasHeld = false
        }
        grantedBefore = granted
        take(ownGrants(at: now), vouchedBy: configuration.node, at: now)
    }

    /// Whether a node is in the present view, and speaks of that view.
    private func isHere(_ node: NodeID, _ id: UInt64) -> Bool {
        guard let view, view.isQuorate, node != configuration.node else { return false }
        return id == view.id && view.nodes.contains(node)
    }

    // MARK: Others' leases

    private func ownGrants(at now: Instant) -> [LeaseAnswer.Grant] {
        grantedBefore.sorted { $0.key < $1.key }.filter { $0.value > now }
            .map { LeaseAnswer.Grant(node: $0.key, remaining: $0.value - now) }
    }

    private mutating func take(_ grants: [LeaseAnswer.Grant], vouchedBy node: NodeID, at now: Instant) {
        guard vouchers.insert(node).inserted else { return }
        for grant in grants {
            if let end = lost[grant.node] { lost[grant.node] = max(end, now + grant.remaining) }
        }
    }

    private mutating func release(at now: Instant, _ effects: inout [Effect]) {
        guard !lost.isEmpty, let view, view.isQuorate, vouchers.count >= configuration.majority else { return }
        for (node, end) in lost.sorted(by: { $0.key < $1.key }) where end <= now {
            lost[node] = nil
            effects.append(.released(node))
        }
    }

    private var nextDeadline: Instant? {
        var instants = isHeld ? [end] : []
        if let view, view.isQuorate {
            instants.append(nextProbe)
            if vouchers.count >= configuration.majority { instants += lost.values }
        }
        return instants.min()
    }
}
