import EngineKit
import IOCGroups
import SAFTypes

/// Which state a snapshot holds: that after delivery number `position` of a view, when `index` commands were applied.
/// view u64 · position u64 · index u64.
public struct SnapshotPoint: Hashable, Sendable, WireCodable {
    public var view: UInt64
    public var position: UInt64
    public var index: UInt64

    public init(view: UInt64, position: UInt64, index: UInt64) {
        (self.view, self.position, self.index) = (view, position, index)
    }
    public func encode(to writer: inout ByteWriter) {
        writer.integer(view)
        writer.integer(position)
        writer.integer(index)
    }
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        view = try reader.integer()
        position = try reader.integer()
        index = try reader.integer()
    }
}

/// A snapshot that a peer link brought.
struct Arrived: Sendable {
    var sender: GroupMember
    var point: SnapshotPoint
    var bytes: [UInt8]
}

/// A snapshot on its way here through the group.
struct Incoming: Sendable {
    var sender: GroupMember
    var offer: Offer
    var next: UInt32 = 0
    var bytes: [UInt8] = []
}

/// A snapshot on its way to others.
struct Outgoing: Sendable {
    var position: UInt64
    var bytes: [UInt8]
    var chunkCount: UInt32
    var next: UInt32 = 0
}

/// A snapshot is of a point in the order. The oldest synchronised member takes it there (a copy on write, so nobody
/// stops); its shell carries it over a peer link, or it is multicast in chunks, a few at a time. The joiner keeps what
/// was ordered after that point, loads, applies, and says so. If the sender dies, the next view begins anew with the
/// next oldest; if nothing comes, the joiner asks, and the next oldest answers; the third time through the group.
extension Replicated {
    private static var snapshotBytesMax: UInt64 { 1 << 31 }
    /// So often peer links are tried before the group is.
    private static var linkAttemptsMax: UInt32 { 2 }

    private var chunkSize: Int { max(min(configuration.chunkBytes, eventBytesMax), 1) }

    mutating func beginSynchronising(at now: Instant, _ effects: inout [Effect]) {
        isContinuing = false
        incoming = nil
        outgoing.removeAll()
        lastProgress = now
        proposedTimers.removeAll()
        change(to: .synchronising, &effects)
    }

    /// - Parameter position: what is delivered up to here is in the present state.
    mutating func offerIfOldest(position: UInt64, to joiners: [GroupMember], _ effects: inout [Effect]) {
        guard !joiners.isEmpty, formation.synchronised.first?.member == configuration.member else { return }
        offer(position: position, to: joiners, attempt: 0, &effects)
    }

    private mutating func offer(
        position: UInt64, to joiners: [GroupMember], attempt: UInt32, _ effects: inout [Effect]
    ) {
        guard let view, formation.isOwnMatched, formation.isActive else { return }
        guard !outgoing.contains(where: { $0.position == position }) else { return }  // one does for all who wait
        var writer = ByteWriter()
        state.encode(version: formation.version, to: &writer)
        if configuration.carriesSnapshots, attempt < Self.linkAttemptsMax,
            joiners.allSatisfy({ formation.reports[$0]?.takesTransfers ?? false })
        {
            let point = SnapshotPoint(view: view.id, position: position, index: state.index)
            effects.append(.note(.snapshotOffered(index: state.index, bytes: writer.count)))
            for joiner in joiners { effects.append(.sendSnapshot(to: joiner, point: point, bytes: writer.bytes)) }
            return
        }
        let size = chunkSize
        let chunkCount = UInt32((writer.count + size - 1) / size)
        let offer = Offer(
            view: view.id, position: position, index: state.index, version: formation.version,
            byteCount: UInt64(writer.count), chunkCount: chunkCount)
        effects.append(message(.offer(offer)))
        effects.append(.note(.snapshotOffered(index: state.index, bytes: writer.count)))
        outgoing.append(Outgoing(position: position, bytes: writer.bytes, chunkCount: chunkCount))
        for _ in 0..<max(configuration.chunksInFlight, 1) { sendChunk(of: outgoing.count - 1, &effects) }
    }

    private mutating func sendChunk(of place: Int, _ effects: inout [Effect]) {
        guard let view, outgoing[place].next < outgoing[place].chunkCount else { return }
        let transfer = outgoing[place]
        let start = Int(transfer.next) * chunkSize
        let end = min(start + chunkSize, transfer.bytes.count)
        let chunk = Chunk(
            view: view.id, position: transfer.position, number: transfer.next, bytes: Array(transfer.bytes[start..<end])
        )
        outgoing[place].next += 1
        effects.append(message(.chunk(chunk)))
    }

    mutating func receive(_ offer: Offer, from sender: GroupMember, at now: Instant, _ effects: inout [Effect]) {
        guard offer.view == view?.id, isWaitingForState, incoming == nil, offer.position >= bufferStart else { return }
        guard formation.isSynchronised(sender) else { return }  // it lost its own state since
        guard Core.versions.contains(offer.version), offer.byteCount <= Self.snapshotBytesMax else { return }
        incoming = Incoming(sender: sender, offer: offer)
        lastProgress = now
    }

    var isWaitingForState: Bool { status == .synchronising && !formation.isOwnMatched && !isMute }

    mutating func receive(_ chunk: Chunk, from sender: GroupMember, at now: Instant, _ effects: inout [Effect]) {
        guard chunk.view == view?.id else { return }
        if sender == configuration.member, let place = outgoing.firstIndex(where: { $0.position == chunk.position }) {
            sendChunk(of: place, &effects)
            if chunk.number + 1 == outgoing[place].chunkCount { outgoing.remove(at: place) }
        }
        guard isWaitingForState, var transfer = incoming, transfer.sender == sender,
            transfer.offer.position == chunk.position, transfer.next == chunk.number,
            UInt64(transfer.bytes.count + chunk.bytes.count) <= transfer.offer.byteCount
        else { return }
        transfer.next += 1
        transfer.bytes += chunk.bytes
        incoming = transfer
        lastProgress = now
        guard transfer.next == transfer.offer.chunkCount else { return }
        let point = SnapshotPoint(
            view: transfer.offer.view, position: transfer.offer.position, index: transfer.offer.index)
        load(Arrived(sender: sender, point: point, bytes: transfer.bytes), at: now, &effects)
    }

    mutating func receive(_ transfer: Arrived, at now: Instant, _ effects: inout [Effect]) {
        guard transfer.bytes.count <= Self.snapshotBytesMax else { return }
        // It may be of a view that is not delivered here yet, or late and of one that is over.
        if let view, arrived?.point.view == view.id, transfer.point.view != view.id { return }
        if status == .synchronised, transfer.point.view == view?.id, transfer.point.position <= position { return }
        arrived = transfer
        loadArrived(at: now, &effects)
    }

    /// Loads what a peer link brought, when its place in the order is reached.
    mutating func loadArrived(at now: Instant, _ effects: inout [Effect]) {
        guard let transfer = arrived, transfer.point.view == view?.id, isWaitingForState,
            position >= transfer.point.position
        else { return }
        arrived = nil
        guard transfer.point.position >= bufferStart, formation.isSynchronised(transfer.sender) else { return }
        load(transfer, at: now, &effects)
    }

    private mutating func load(_ transfer: Arrived, at now: Instant, _ effects: inout [Effect]) {
        incoming = nil
        arrived = nil
        guard let view, let epoch = formation.epoch else { return }
        do throws(DecodeError) {
            let loaded = try ReplicaState<Core>(decoding: transfer.bytes)
            guard loaded.index == transfer.point.index else { throw .badValue("index \(loaded.index) in the snapshot") }
            state = loaded
        } catch {
            effects.append(.note(.undecodable(from: transfer.sender, error)))  // the deadline asks the next oldest
            return
        }
        claim = epoch
        stable = state.index
        recent.restart(at: state.index, state.chain)
        hasMemory = true
        isRestored = false
        formation.isOwnMatched = true
        keepTimeAhead(at: now)
        issued.removeAll()  // rather performed twice than taken for another of the same number
        effects.append(.note(.snapshotLoaded(index: state.index, from: transfer.sender)))
        effects.append(.stateReplaced)
        startJournal(&effects)
        forgetProposals(&effects)
        let waiting = buffer.filter { $0.position > transfer.point.position }
        buffer.removeAll()
        for entry in waiting { apply(entry, at: now, &effects) }
        effects.append(message(.synchronised(view: view.id)))
    }

    /// The own log was replaced: what it said of own proposals is void. What the new one has was applied, with a result
    /// that nobody kept. What was proposed in an earlier view is not sent again: the others have gone on without this
    /// member, and it might undo what came later. What is on its way in this view waits for its place.
    private mutating func forgetProposals(_ effects: inout [Effect]) {
        let last = state.lastSequence(of: configuration.member)
        for ticket in proposals.forget(through: last, before: view?.id) {
            effects.append(.answer(ticket: ticket, .refused(.timeout)))
        }
    }

    /// A joiner says that it has loaded: from this point of the order on it counts.
    mutating func admit(
        _ sender: GroupMember, _ message: ReplicatedMessage, at now: Instant, _ effects: inout [Effect]
    ) {
        guard formation.isActive, let epoch = formation.epoch, message.epoch == epoch, message.isSynchronised else {
            return
        }
        guard !formation.mute.contains(sender) else { return }
        formation.insert(sender, Seniority(epoch: epoch.number, position: position))
        formation.acknowledged[sender] = max(message.applied, formation.acknowledged[sender] ?? 0)
        if sender == configuration.member, formation.isOwnMatched { takePart(at: now, &effects) }
        settleCommitted(&effects)
    }

    /// A joiner asks for a snapshot of this point.
    mutating func serve(_ joiner: GroupMember, attempt: UInt32, at now: Instant, _ effects: inout [Effect]) {
        guard formation.isActive, !formation.mute.contains(joiner) else { return }
        formation.remove(joiner)
        guard !formation.synchronised.isEmpty else { return }
        let sender = formation.synchronised[Int(attempt) % formation.synchronised.count].member
        if sender == configuration.member { offer(position: position, to: [joiner], attempt: attempt, &effects) }
    }

    /// Too much was ordered while waiting: drop it and ask for a later snapshot.
    mutating func startOver(at now: Instant, _ effects: inout [Effect]) {
        buffer.removeAll()
        bufferStart = position
        ask(at: now, &effects)
    }

    mutating func ask(at now: Instant, _ effects: inout [Effect]) {
        guard let view else { return }
        incoming = nil
        attempt += 1
        lastProgress = now
        effects.append(message(.request(view: view.id, attempt: attempt)))
        effects.append(.note(.synchronisationRestarted(attempt: attempt)))
    }
}
