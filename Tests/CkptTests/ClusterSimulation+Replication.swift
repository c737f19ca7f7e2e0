import CkptEngine
import CkptProtocol
import Containers
import EngineKit
import SAFTypes

// The shell of a simulated node.
extension ClusterSimulation {
    func feed(_ node: NodeID, _ event: ReplicationEvent, _ frame: Frame? = nil) {
        guard let effects = processes[node]?.replication.handle(event, at: now) else { return }
        if !effects.isEmpty { trace("\(node) \(event) -> \(effects)") }
        for effect in effects { perform(node, effect, frame) }
    }

    private func perform(_ node: NodeID, _ effect: ReplicationEffect, _ frame: Frame?) {
        switch effect {
        case .make(let id):
            if let name = processes[node]?.group.core.entry(id)?.name { names[id] = name }
            var store = ModelStore()
            for client in clients[node] ?? [] where client.checkpoint == id {
                if let handle = client.handle { store.handles.insert(handle) }
            }
            stores[node, default: [:]][id] = store
            feed(node, .held(id, store.data))
        case .drop(let id): stores[node]?[id] = nil
        case .send(let message, let peer): send(.small(message), node, peer, isSmall: true)
        case .live(let id, let epoch, let change, let peers):
            for peer in peers where !sendUpdate(node, id, epoch, change, peer) {
                feed(node, .blocked(id, peer, change: change))
            }
        case .stream(let id, let epoch, let after, let peer): stream(node, id, epoch, after, peer)
        case .sendPiece(let id, let epoch, let round, let cursor, let peer):
            sendPiece(node, id, epoch, round, cursor, peer)
        case .sendCopied(let message, let peer):
            let updates = stores[node]?[message.checkpoint]?.updates ?? []
            if send(.copied(message, updates), node, peer, isSmall: false) {
                counts.copies += 1
            } else {
                feed(node, .copiedBlocked(message.checkpoint, peer))
            }
        case .apply(let id, _, let isTolerant):
            guard case .update(_, let update) = frame, stores[node]?[id] != nil else { break }
            if random.chance(percent: isHealing ? 0 : 1) { return feed(node, .applied(id, false)) }
            if isTolerant {
                stores[node]?[id]?.sections[update.section] = update.request
                stores[node]?[id]?.data.version.change += 1
            } else {
                stores[node]?[id]?.write(update)
            }
            feed(node, .applied(id, true))
        case .wipe(let id, let base):
            stores[node]?[id]?.data = ReplicaData(version: .init(epoch: 0, change: base), isPartial: true)
            stores[node]?[id]?.sections.removeAll()
            stores[node]?[id]?.replaceUpdates([])
        case .takePiece(let id):
            guard case .piece(_, let sections) = frame else { break }
            for (section, request) in sections { stores[node]?[id]?.sections[section] = request }
        case .finishCopy(let id):
            guard case .copied(_, let updates) = frame else { break }
            if random.chance(percent: isHealing ? 0 : 5) { return feed(node, .applied(id, false)) }
            stores[node]?[id]?.replaceUpdates(updates)
            stores[node]?[id]?.data.isPartial = false
            if let store = stores[node]?[id], store.sections != store.expected {
                fail("a copy of \(id) on \(node) is not what was copied")
            }
            feed(node, .applied(id, true))
        case .keepEpoch(let id, let epoch, let history):
            stores[node]?[id]?.data.version.epoch = epoch
            stores[node]?[id]?.data.history = history
        case .complete(let ticket): finish(node, ticket, isDone: true)
        case .redirect(let ticket): finish(node, ticket, isDone: false)
        case .routeChanged(let id):
            stores[node]?[id]?.isActive = processes[node]?.replication.entry(id)?.active == node
        case .propose(let event, let id): propose(node, event, .about(id))
        case .wake(let at): processes[node]?.wakeAt = at
        }
    }

    private func finish(_ node: NodeID, _ ticket: UInt64, isDone: Bool) {
        guard let request = processes[node]?.tickets.removeValue(forKey: ticket) else { return }
        answer(node, request, isDone: isDone)
    }

    private func answer(_ node: NodeID, _ request: Request, isDone: Bool) {
        if request.origin == node { return answered(request, on: node, isDone: isDone) }
        send(
            .answer(request: request.number, checkpoint: request.checkpoint, isDone: isDone), node, request.origin,
            isSmall: true)
    }

    private func answered(_ request: Request, on node: NodeID, isDone: Bool) {
        guard let index = clients[node]?.firstIndex(where: { $0.pending?.number == request.number }) else { return }
        clients[node]?[index].sentAt = nil
        guard isDone else { return }
        if !answered.insert(request.number).inserted { fail("request \(request.number) was answered twice") }
        clients[node]?[index].pending = nil
        if isSynchronous { acknowledged[request.number] = request.checkpoint }
    }

    /// As a ckptd does what its own client or another node asks for.
    private func execute(_ node: NodeID, _ request: Request) {
        let id = request.checkpoint
        guard processes[node]?.replication.route(id) == .here, let store = stores[node]?[id] else {
            return answer(node, request, isDone: false)
        }
        let ticket = number()
        processes[node]?.tickets[ticket] = request
        if let change = store.position(of: request.number) {
            return feed(node, .awaitAll(id, change: isSynchronous ? change : 0, ticket: ticket))
        }
        let epoch = store.data.version.epoch
        if let other = actives[id]?[epoch], other != node {
            fail("\(other) and \(node) both are active in epoch \(epoch) of \(id)")
        }
        actives[id, default: [:]][epoch] = node
        stores[node]?[id]?.write(.init(request: request.number, section: request.section))
        counts.writes += 1
        feed(node, .wrote(id, change: store.change + 1, ticket: ticket))
    }

    func attempt(_ node: NodeID, _ index: Int) {
        guard let client = clients[node]?[index], let request = client.pending, client.sentAt == nil else { return }
        switch processes[node]?.replication.route(request.checkpoint) {
        case .here:
            clients[node]?[index].sentAt = now
            execute(node, request)
        case .there(let peer):
            clients[node]?[index].sentAt = now
            send(.request(request), node, peer, isSmall: true)
        case .nowhere:
            let entry = processes[node]?.replication.entry(request.checkpoint)
            if flags.needsActiveReplicaSet, entry != nil, random.chance(percent: 5) {
                propose(node, .setActive(request.checkpoint, node), .other)
            }
            let gone = processes[node]?.group.core.entry(request.checkpoint).map(\.isLost) ?? true
            if gone, processes[node]?.group.status == .synchronised,
                processes[node]?.group.core.isRecovering == false, random.chance(percent: 20)
            {
                clients[node]?[index] = Client(name: client.name)
            }
        case .later, nil: break
        }
    }

    // MARK: Links

    @discardableResult
    func send(_ frame: Frame, _ node: NodeID, _ peer: NodeID, isSmall: Bool) -> Bool {
        guard let link = links[node]?[peer], link.isUp else { return isSmall }
        if !isSmall, link.frames.count >= ModelLink.roomMax {
            links[node]?[peer]?.isWanted = true
            return false
        }
        links[node]?[peer]?.frames.append(frame)
        return true
    }

    private func sendUpdate(
        _ node: NodeID, _ id: CheckpointID, _ epoch: UInt64, _ change: UInt64, _ peer: NodeID
    ) -> Bool {
        guard let updates = stores[node]?[id]?.updates, change >= 1, change <= UInt64(updates.count) else {
            fail("\(node) has no update \(change) of \(id) to send")
            return true
        }
        let message = ReplicaMessage(id, epoch: epoch, .update(change: change))
        return send(.update(message, updates[Int(change) - 1]), node, peer, isSmall: false)
    }

    private func stream(_ node: NodeID, _ id: CheckpointID, _ epoch: UInt64, _ after: UInt64, _ peer: NodeID) {
        guard let store = stores[node]?[id] else { return }
        if store.change - after > ModelStore.logMax {
            return feed(node, .streamed(id, peer, upTo: after, .gone))
        }
        var sent = after
        while sent < store.change {
            guard sendUpdate(node, id, epoch, sent + 1, peer) else {
                return feed(node, .streamed(id, peer, upTo: sent, .full))
            }
            sent += 1
        }
        feed(node, .streamed(id, peer, upTo: sent, .complete))
    }

    private func sendPiece(
        _ node: NodeID, _ id: CheckpointID, _ epoch: UInt64, _ round: UInt32, _ cursor: CopyCursor, _ peer: NodeID
    ) {
        guard let store = stores[node]?[id] else { return }
        guard let (section, request) = store.sections.first(after: cursor.serial) else {
            return feed(node, .pieceSent(id, peer, next: nil))
        }
        let message = ReplicaMessage(id, epoch: epoch, .piece(round: round))
        guard send(.piece(message, [(section, request)]), node, peer, isSmall: false) else {
            return feed(node, .pieceBlocked(id, peer))
        }
        feed(node, .pieceSent(id, peer, next: CopyCursor(serial: section)))
    }

    func breakLinks(of node: NodeID) {
        for peer in nodes where peer != node {
            breakLink(node, peer)
            breakLink(peer, node)
        }
    }

    func breakLink(_ node: NodeID, _ peer: NodeID) {
        guard links[node]?[peer]?.isUp == true else { return }
        links[node]?[peer] = ModelLink()
        feed(node, .linkDown(peer))
    }

    func isConnected(_ node: NodeID, _ peer: NodeID) -> Bool {
        processes[node] != nil && processes[peer] != nil && parts.contains { $0.contains(node) && $0.contains(peer) }
    }

    func mendLink(_ node: NodeID, _ peer: NodeID) {
        guard links[node]?[peer]?.isUp == false, isConnected(node, peer) else { return }
        links[node]?[peer]?.isUp = true
        feed(node, .linkUp(peer))
    }

    func deliver(_ node: NodeID, _ peer: NodeID) {
        guard let link = links[node]?[peer], link.isUp, !link.frames.isEmpty,
            let process = processes[peer], process.frozenUntil <= now
        else { return }
        let frame = links[node]?[peer]?.frames.removeFirst()
        if link.isWanted, link.frames.count <= ModelLink.roomMax / 2 {
            links[node]?[peer]?.isWanted = false
            feed(node, .writable(peer))
        }
        switch frame {
        case .small(let message), .update(let message, _), .piece(let message, _), .copied(let message, _):
            let decoded = ReplicaMessage.roundTrip(message)
            feed(peer, .message(decoded, from: node), frame)
        case .request(let request): execute(peer, request)
        case .answer(let number, let id, let isDone):
            answered(Request(number: number, checkpoint: id, section: 0, origin: peer), on: peer, isDone: isDone)
        case nil: break
        }
    }
}

extension ReplicaMessage {
    /// As it arrives.
    static func roundTrip(_ message: ReplicaMessage) -> ReplicaMessage {
        do throws(DecodeError) { return try ReplicaMessage(decoding: message.encoded) } catch { return message }
    }
}
