import Containers
import EngineKit
import LogProtocol
import SAFTypes

// The owner of the files: it numbers what comes, and waits until all controllers in sync have it.

/// The state of an owner, for one epoch.
struct Leading: Sendable {
    struct Follower: Sendable {
        enum Phase: Hashable, Sendable {
            /// It was told where to begin, or what it lacks is looked for.
            case beginning
            case streaming
        }
        var round: UInt64
        var phase = Phase.beginning
        /// The next entry to be sent, and what it has on its disk.
        var next: UInt64 = 0
        var acked: UInt64 = 0
        var toldCommitted: UInt64 = 0
        var isLoading = false
        var inFlight: [(number: UInt64, bytes: Int)] = []
        var inFlightBytes = 0
        var progress: Instant

        var isStreaming: Bool { phase == .streaming }
    }

    /// Who acknowledges with us: the set that a majority of the cluster has.
    var confirmed: [NodeID]?
    var confirming: (ticket: UInt64, set: [NodeID])?
    var followers: OrderedMap<NodeID, Follower> = [:]
    /// They have everything, and are waited for from now on; the registry is being told. Ticket 0: it is not known
    /// whether it was told; the next tick tells it again.
    var adding: OrderedMap<NodeID, UInt64> = [:]
    /// The registry did not hear it; not again before the next tick.
    var unheard: [NodeID] = []
    /// When those that are not served were last asked to call.
    var invited: OrderedMap<NodeID, Instant> = [:]
    /// What those in sync had stored, and since when.
    var watched: OrderedMap<NodeID, (acked: UInt64, since: Instant)> = [:]
    /// What those that were dropped had stored: they must have more before they are waited for again.
    var stalled: OrderedMap<NodeID, UInt64> = [:]
    /// What each sender may forget.
    var acknowledged: OrderedMap<NodeID, LedgerState.Origin> = [:]
    var sessions: OrderedMap<NodeID, UInt64> = [:]
    /// Senders whose records found no room, and those that were told where to go on: what they sent already is passed
    /// over.
    var refused: [NodeID] = []
    var recalled: [NodeID] = []
    /// What to acknowledge when an entry is in the files.
    var marks: [(number: UInt64, node: NodeID, origin: LedgerState.Origin)] = []
    let since: Instant
}

extension GlobalLogEngine {
    mutating func lead() {
        guard isOwner, !isTruncating, leading == nil else { return }
        var leading = Leading(since: now)
        for (node, origin) in state.origins { leading.marks.append((state.number, node, origin)) }
        self.leading = leading
        storeProgress = now
        confirm()
        acknowledge()
        for other in up { send(.invite, to: other) }
        inbox.append(.received(.invite, epoch: ownership.epoch, from: node))
    }

    /// An in-sync set that only a cut-off part of the cluster knows must not count.
    mutating func confirm() {
        guard leading != nil else { return }
        let ticket = propose(.confirm)
        leading?.confirming = (ticket, ownership.inSync)
    }

    mutating func answered(_ ticket: UInt64, isDone: Bool?) {
        guard let leading else { return }
        if let confirming = leading.confirming, confirming.ticket == ticket {
            self.leading?.confirming = nil
            // Else the next tick asks again.
            if isDone == true { self.leading?.confirmed = confirming.set }
            return advance()
        }
        guard let node = leading.adding.first(where: { $0.value == ticket })?.key else { return }
        switch isDone {
        case true?: self.leading?.adding[node] = nil
        case false?:
            self.leading?.adding[node] = nil
            self.leading?.unheard.append(node)
        // Perhaps it is in sync, or will be.
        case nil: self.leading?.adding[node] = 0
        }
        advance()
    }

    private mutating func add(_ other: NodeID) {
        guard let peer = ownership.keepers.first(where: { $0.node == other }) else {
            leading?.adding[other] = nil
            return
        }
        let ticket = propose(.caughtUp(other, incarnation: peer.incarnation, epoch: ownership.epoch))
        leading?.adding[other] = ticket
    }

    /// Controllers that have gone are served no longer.
    mutating func keepersChanged() {
        guard let leading else { return }
        for node in leading.followers.keys where !ownership.keepers.contains(where: { $0.node == node }) {
            self.leading?.followers[node] = nil
        }
    }

    // MARK: Senders

    mutating func asked(by other: NodeID, session: UInt64, incarnation: UInt64, oldest: UInt64) {
        guard leading != nil, oldest > 0 else { return }
        leading?.sessions[other] = session
        leading?.refused.removeAll { $0 == other }
        leading?.recalled.removeAll { $0 == other }
        var last = have(of: other, incarnation)
        if oldest > last + 1 {
            let missing = UInt32(clamping: oldest - last - 1)
            effects.append(
                .note(
                    isError: true,
                    "\(missing) records of node \(other.rawValue) were acknowledged by an owner that is gone; only its "
                        + "files have them"))
            append(RecordBatch(node: other, incarnation: incarnation, first: last + 1, count: missing, records: []))
            last = have(of: other, incarnation)
        }
        send(.have(session: session, last: last), to: other)
        // In case that was missed.
        if let origin = leading?.acknowledged[other], origin.incarnation == incarnation {
            send(.accepted(incarnation: incarnation, through: origin.last), to: other)
        }
    }

    private func have(of other: NodeID, _ incarnation: UInt64) -> UInt64 {
        guard let origin = state.origins[other], origin.incarnation == incarnation else { return 0 }
        return origin.last
    }

    mutating func submitted(_ batch: RecordBatch, by other: NodeID) {
        guard leading != nil, batch.node == other, !batch.records.isEmpty else { return }
        let last = have(of: other, batch.incarnation)
        guard batch.first == last + 1 else {
            // A repetition, or something was missed.
            if batch.last > last, leading?.refused.contains(other) == false { recall(other, after: last) }
            return
        }
        leading?.refused.removeAll { $0 == other }
        guard unpublishedBytes < limits.unpublishedBytes else {
            leading?.refused.append(other)
            return
        }
        leading?.recalled.removeAll { $0 == other }
        append(batch)
    }

    /// Tells a sender, once, where to go on.
    private mutating func recall(_ other: NodeID, after last: UInt64) {
        guard let session = leading?.sessions[other], leading?.recalled.contains(other) == false else { return }
        leading?.recalled.append(other)
        send(.have(session: session, last: last), to: other)
    }

    /// There is room again.
    mutating func inviteRefused() {
        guard let refused = leading?.refused, !refused.isEmpty, unpublishedBytes < limits.unpublishedBytes / 2 else {
            return
        }
        leading?.refused = []
        for other in refused {
            leading?.recalled.removeAll { $0 == other }
            recall(other, after: state.origins[other]?.last ?? 0)
        }
    }

    private mutating func append(_ batch: RecordBatch) {
        let position = LedgerPosition(epoch: ownership.epoch, number: state.number + 1)
        let entry = LedgerEntry(position: position, batch: batch)
        guard take(entry) else { return }
        leading?.marks.append(
            (entry.number, batch.node, LedgerState.Origin(incarnation: batch.incarnation, last: batch.last)))
        effects.append(.store([entry]))
        for other in leading?.followers.keys ?? [] { pump(other) }
    }

    // MARK: Committing

    /// Who must have an entry before it counts.
    private var required: [NodeID]? {
        guard let leading, let confirmed = leading.confirmed else { return nil }
        return confirmed + ownership.inSync + leading.adding.keys
    }

    mutating func advance() {
        if let required {
            var through = stored
            for other in required where other != node {
                let follower = leading?.followers[other]
                through = min(through, follower?.isStreaming == true ? follower?.acked ?? 0 : 0)
            }
            if through > committed { committed = through }
            for other in leading?.followers.keys ?? [] {
                considerAdding(other)
                pump(other)
            }
        }
        publish()
    }

    /// What is in the own files, too, need not be kept by its sender any more.
    mutating func acknowledge() {
        guard let leading else { return }
        let count = leading.marks.prefix { $0.number <= published }.count
        guard count > 0 else { return }
        var latest: OrderedMap<NodeID, LedgerState.Origin> = [:]
        for mark in leading.marks[..<count] { latest[mark.node] = mark.origin }
        self.leading?.marks.removeFirst(count)
        for (other, origin) in latest {
            self.leading?.acknowledged[other] = origin
            send(.accepted(incarnation: origin.incarnation, through: origin.last), to: other)
        }
    }

    private mutating func considerAdding(_ other: NodeID) {
        guard let leading, let follower = leading.followers[other], follower.isStreaming,
            follower.acked >= committed, !ownership.inSync.contains(other), !leading.adding.contains(other),
            ownership.keepers.contains(where: { $0.node == other })
        else { return }
        if leading.unheard.contains(other) { return }
        if let at = leading.stalled[other], follower.acked <= at { return }
        self.leading?.stalled[other] = nil
        add(other)
    }

    // MARK: Followers

    mutating func greeted(by other: NodeID, round: UInt64, epochs: [LedgerPosition]) {
        guard leading != nil else { return }
        leading?.followers[other] = Leading.Follower(round: round, progress: now)
        let at = LedgerState.common(state.epochs, epochs)
        guard at + 1 >= firstKept else {
            leading?.followers[other]?.isLoading = true
            return effects.append(.load(for: other, from: at + 1))
        }
        send(.begin(round: round, at: at, nil), to: other)
    }

    mutating func isReady(_ other: NodeID, round: UInt64, number: UInt64) {
        guard var follower = leading?.followers[other], follower.round == round, follower.phase == .beginning,
            number <= state.number
        else { return }
        follower.phase = .streaming
        follower.next = number + 1
        follower.progress = now
        leading?.followers[other] = follower
        pump(other)
        advance()
    }

    mutating func hasStored(_ other: NodeID, round: UInt64, number: UInt64) {
        guard var follower = leading?.followers[other], follower.round == round, follower.isStreaming,
            number < follower.next
        else { return }
        follower.acked = max(follower.acked, number)
        follower.progress = now
        let count = follower.inFlight.prefix { $0.number <= number }.count
        for entry in follower.inFlight[..<count] { follower.inFlightBytes -= entry.bytes }
        follower.inFlight.removeFirst(count)
        leading?.followers[other] = follower
        pump(other)
        advance()
    }

    mutating func pump(_ other: NodeID) {
        guard var follower = leading?.followers[other], follower.isStreaming else { return }
        defer { leading?.followers[other] = follower }
        while !follower.isLoading, follower.inFlightBytes < limits.followingBytes, follower.next <= state.number {
            guard recent.first <= follower.next else {
                follower.isLoading = true
                effects.append(.load(for: other, from: follower.next))
                return
            }
            let entries = recent.entries(
                from: follower.next, through: state.number, bytesMax: LogPeerMessage.appendBytesMax)
            transmit(entries, to: other, &follower)
        }
        if follower.toldCommitted < committed { transmit([], to: other, &follower) }
    }

    private mutating func transmit(_ entries: [LedgerEntry], to other: NodeID, _ follower: inout Leading.Follower) {
        for entry in entries {
            follower.inFlight.append((entry.number, entry.bytes))
            follower.inFlightBytes += entry.bytes
        }
        if let last = entries.last { follower.next = last.number + 1 }
        follower.toldCommitted = committed
        send(.append(round: follower.round, committed: committed, entries), to: other)
    }

    mutating func loadedForFollower(_ other: NodeID, from: UInt64, _ entries: [LedgerEntry], base: LedgerState?) {
        guard var follower = leading?.followers[other], follower.isLoading else { return }
        follower.isLoading = false
        switch follower.phase {
        case .beginning:
            leading?.followers[other] = follower
            if let base {
                send(.begin(round: follower.round, at: base.number, base), to: other)
            } else {
                send(.begin(round: follower.round, at: from - 1, nil), to: other)
            }
        case .streaming:
            guard follower.next == from, entries.first?.number == from else {
                // Gone meanwhile, or not to be read: it asks anew.
                leading?.followers[other] = nil
                return send(.invite, to: other)
            }
            transmit(entries, to: other, &follower)
            leading?.followers[other] = follower
            pump(other)
        }
    }

    // MARK: Time

    var leadingNeedsTick: Bool {
        guard let leading else { return false }
        if leading.confirmed != ownership.inSync || leading.confirming != nil || stored < state.number { return true }
        if !leading.unheard.isEmpty || !leading.adding.isEmpty { return true }
        return ownership.keepers.contains { peer in
            guard peer.node != node else { return false }
            guard let follower = leading.followers[peer.node] else { return true }
            return !follower.isStreaming || follower.acked < state.number
        }
            || ownership.inSync.contains { other in
                other != node && leading.followers[other] == nil
            }
    }

    mutating func tickLeading() {
        guard let leading else { return }
        if leading.confirming == nil, leading.confirmed != ownership.inSync { confirm() }
        self.leading?.unheard = []
        for (other, ticket) in leading.adding where ticket == 0 { add(other) }
        advance()
        for peer in ownership.keepers where peer.node != node {
            guard let follower = leading.followers[peer.node] else {
                // It may believe that it is served still.
                if now - leading.invited[peer.node, default: leading.since] >= limits.patience {
                    self.leading?.invited[peer.node] = now
                    send(.invite, to: peer.node)
                }
                continue
            }
            if follower.isStreaming, follower.acked >= state.number {
                self.leading?.followers[peer.node]?.progress = now
            } else if now - follower.progress >= limits.patience {
                // Without it nothing is waited for from it; it calls again when it can.
                self.leading?.followers[peer.node]?.progress = now
                send(.invite, to: peer.node)
            }
        }
        dropLagging(leading)
        if stored < state.number, now - storeProgress >= limits.storeMax {
            storeProgress = now
            _ = propose(.lagging(node, epoch: ownership.epoch))
        }
    }

    /// Those in sync that have not stored anything for too long, while something waits for it.
    private mutating func dropLagging(_ leading: Leading) {
        guard committed < stored else {
            self.leading?.watched = [:]
            return
        }
        for other in ownership.inSync where other != node {
            let follower = leading.followers[other]
            let acked = follower?.isStreaming == true ? follower?.acked ?? 0 : 0
            guard let watch = leading.watched[other], watch.acked == acked || acked == 0 else {
                self.leading?.watched[other] = (acked, now)
                continue
            }
            guard acked < stored, now - watch.since >= limits.lagMax else { continue }
            self.leading?.watched[other] = (acked, now)
            self.leading?.stalled[other] = max(acked, committed)
            effects.append(.note(isError: false, "node \(other.rawValue) does not keep up; it is not waited for"))
            _ = propose(.lagging(other, epoch: ownership.epoch))
        }
    }
}
