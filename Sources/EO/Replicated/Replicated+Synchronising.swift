import EngineKit
import IOCGroups
import SAFTypes

/// A snapshot on its way here.
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
/// stops) and multicasts it in chunks, a few at a time; the joiner keeps what was ordered after that point, loads,
/// applies, and says so. If the sender dies, the next view begins anew with the next oldest; if it only falls silent,
/// the joiner asks, and the next oldest answers.
extension Replicated {
    private static var snapshotBytesMax: UInt64 { 1 << 31 }

    mutating func beginSynchronising(at now: Instant, _ effects: inout [Effect]) {
        isContinuing = false
        incoming = nil
        lastProgress = now
        proposedTimers.removeAll()
        change(to: .synchronising, &effects)
    }

    /// - Parameter position: what is delivered up to here is in the present state.
    mutating func offerIfOldest(position: UInt64, _ effects: inout [Effect]) {
        guard formation.synchronised.first?.member == configuration.member else { return }
        offer(position: position, &effects)
    }

    private mutating func offer(position: UInt64, _ effects: inout [Effect]) {
        guard let view, formation.isOwnMatched, formation.isActive else { return }
        guard !outgoing.contains(where: { $0.position == position }) else { return }  // one does for all who wait
        var writer = ByteWriter()
        state.encode(version: formation.version, to: &writer)
        let size = max(configuration.chunkBytes, 1)
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
        let start = Int(transfer.next) * max(configuration.chunkBytes, 1)
        let end = min(start + max(configuration.chunkBytes, 1), transfer.bytes.count)
        let chunk = Chunk(
            view: view.id, position: transfer.position, number: transfer.next, bytes: Array(transfer.bytes[start..<end])
        )
        outgoing[place].next += 1
        effects.append(message(.chunk(chunk)))
    }

    mutating func receive(_ offer: Offer, from sender: GroupMember, at now: Instant, _ effects: inout [Effect]) {
        guard offer.view == view?.id, isWaitingForState, incoming == nil, offer.position >= bufferStart else { return }
        guard Core.versions.contains(offer.version), offer.byteCount <= Self.snapshotBytesMax else { return }
        incoming = Incoming(sender: sender, offer: offer)
        lastProgress = now
    }

    private var isWaitingForState: Bool { status == .synchronising && !formation.isOwnMatched }

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
        if transfer.next == transfer.offer.chunkCount { load(transfer, at: now, &effects) }
    }

    private mutating func load(_ transfer: Incoming, at now: Instant, _ effects: inout [Effect]) {
        incoming = nil
        guard let view, let epoch = formation.epoch else { return }
        do throws(DecodeError) {
            let loaded = try ReplicaState<Core>(decoding: transfer.bytes)
            guard loaded.index == transfer.offer.index else { throw .badValue("index \(loaded.index) in the snapshot") }
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
        if state.time > now + clockOffset { clockOffset = state.time - now }
        issued = issued.filter { id in state.pending.contains { $0.id == id } }
        effects.append(.note(.snapshotLoaded(index: state.index, from: transfer.sender)))
        effects.append(.stateReplaced)
        startJournal(&effects)
        forgetProposals(&effects)
        let waiting = buffer.filter { $0.position > transfer.offer.position }
        buffer.removeAll()
        for entry in waiting { apply(entry, at: now, &effects) }
        effects.append(message(.synchronised(view: view.id)))
    }

    /// The own log was replaced: what it said of own proposals is void. What the new one has was applied, with a result
    /// that nobody kept; the rest is sent again.
    private mutating func forgetProposals(_ effects: inout [Effect]) {
        let last = state.lastSequence(of: configuration.member)
        for ticket in proposals.forget(through: last) {
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
        formation.insert(sender, Seniority(epoch: epoch.number, position: position))
        formation.acknowledged[sender] = max(message.applied, formation.acknowledged[sender] ?? 0)
        if sender == configuration.member, formation.isOwnMatched { takePart(at: now, &effects) }
        settleCommitted(&effects)
    }

    /// A joiner asks for a snapshot of this point.
    mutating func serve(_ joiner: GroupMember, attempt: UInt32, at now: Instant, _ effects: inout [Effect]) {
        guard formation.isActive else { return }
        formation.remove(joiner)
        guard !formation.synchronised.isEmpty else { return }
        let sender = formation.synchronised[Int(attempt) % formation.synchronised.count].member
        if sender == configuration.member { offer(position: position, &effects) }
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
