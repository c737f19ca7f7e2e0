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

    /// The node's own engine hears of an event, and what it has to say is done.
    @discardableResult
    func tell(_ node: NodeID, _ event: CkptEvent, _ body: [UInt8] = []) -> [CkptEffect] {
        guard processes[node] != nil else { return [] }
        processes[node]?.member.now = now
        processes[node]?.member.feed(event, body)
        let told = processes[node]?.member.told ?? []
        for effect in told {
            switch effect {
            case .replication(let event): feed(node, event)
            case .told(let id, let change): toldDirect(node, id, change)
            case .closeHandles(let opens): propose(node, .close(opens), .other)
            case .setAside(let id, let reason): fail("\(node) cannot use its replica of \(id): \(reason)")
            default: performDisk(node, effect)
            }
        }
        return told
    }

    func see(_ node: NodeID, _ id: CheckpointID, _ entry: DirectoryEntry?) {
        tell(node, .entry(id, entry))
        feed(node, .entry(id, entry))
    }

    private func perform(_ node: NodeID, _ effect: ReplicationEffect, _ frame: Frame?) {
        switch effect {
        case .make(let id):
            guard let entry = processes[node]?.replication.entry(id) else { return feed(node, .notMade(id)) }
            tell(node, .make(entry, time: 1))
        case .drop(let id): tell(node, .drop(id, unlinkedBy: nil))
        case .send(let message, let peer): send(.small(message), node, peer, isSmall: true)
        case .live(let id, let epoch, let change, let peers):
            guard let update = processes[node]?.member.updates[id]?[change] else { break }
            let message = ReplicaMessage(id, epoch: epoch, .update(change: change))
            for peer in peers where !send(.data(message, update), node, peer, isSmall: false) {
                feed(node, .blocked(id, peer, change: change))
            }
        case .stream(let id, let epoch, let after, let peer): stream(node, id, epoch, after, peer)
        case .sendPiece(let id, let epoch, let round, let cursor, let peer):
            sendPiece(node, id, epoch, round, cursor, peer)
        case .sendCopied(let message, let peer):
            guard let end = processes[node]?.member.engine.copyEnd(of: message.checkpoint) else { break }
            var writer = ByteWriter()
            end.encode(to: &writer)
            if send(.data(message, writer.bytes), node, peer, isSmall: false) {
                counts.copies += 1
            } else {
                feed(node, .copiedBlocked(message.checkpoint, peer))
            }
        case .apply, .takePiece, .finishCopy: take(node, effect, frame)
        case .wipe(let id, let base): tell(node, .wipe(id, base: base))
        case .keepEpoch(let id, let epoch, let history): tell(node, .keepEpoch(id, epoch: epoch, history))
        case .complete(let ticket): finish(node, ticket, isDone: true)
        case .redirect(let ticket): finish(node, ticket, isDone: false)
        case .routeChanged: break
        case .propose(let event, let id): propose(node, event, .about(id))
        case .wake(let at): processes[node]?.wakeAt = at
        }
    }

    /// Data of the active replica; now and then there is no room for them.
    private func take(_ node: NodeID, _ effect: ReplicationEffect, _ frame: Frame?) {
        guard case .data(let message, let body) = frame else { return }
        let id = message.checkpoint
        if random.chance(percent: isHealing ? 0 : 1) { return feed(node, .applied(id, false)) }
        do {
            switch effect {
            case .apply(_, let change, let isTolerant):
                let update = try MemberNode.decode(body) { reader in try ReplicaUpdate(decoding: &reader) }
                tell(node, .apply(id, change: change, update, tolerant: isTolerant), body)
            case .takePiece:
                let parts = try MemberNode.decode(body) { reader in try PieceSection.decodeList(&reader) }
                tell(node, .takePiece(id, parts), body)
            case .finishCopy:
                guard case .copied(_, let change, let history) = message.body else { return }
                let end = try MemberNode.decode(body) { reader in try CopyEnd(decoding: &reader) }
                tell(node, .finishCopy(id, end, ReplicaVersion(epoch: message.epoch, change: change), history))
            default: break
            }
        } catch {
            fail("\(node) does not understand \(message): \(error)")
        }
    }

    private func finish(_ node: NodeID, _ ticket: UInt64, isDone: Bool) {
        guard let request = processes[node]?.tickets.removeValue(forKey: ticket) else { return }
        let durable = processes[node]?.durableTickets.removeValue(forKey: ticket)
        if isDone, let durable, processes[node]?.undurable.contains(durable) == true {
            processes[node]?.heldForDisk[durable] = request
        } else {
            answer(node, request, isDone: isDone)
        }
    }

    func answer(_ node: NodeID, _ request: Request, isDone: Bool) {
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
        if isSynchronous, !unlinking.values.contains(request.checkpoint) {
            acknowledged[request.number] = request.checkpoint
        }
    }

    /// As a ckptd does what its own client or another node asks for.
    private func execute(_ node: NodeID, _ request: Request) {
        let id = request.checkpoint
        guard processes[node]?.replication.route(id) == .here, let engine = processes[node]?.member.engine,
            let data = engine.replica(id)
        else { return answer(node, request, isDone: false) }
        requests[request.number] = request
        let (operations, body) = operations(request, engine)
        let update = CkptRequest.update(request.handle, operations)
        let origin = RequestOrigin(
            identity: RequestIdentity(session: request.session, number: request.number),
            process: ProcessIdentity(id: 1, start: request.session.low))
        let told = tell(
            node,
            request.origin == node
                ? .request(update, origin, time: 5)
                : .forwarded(update, origin, checkpoint: id, from: request.origin, time: 5), body)
        let ticket = number()
        for case .await(let durable) in told { processes[node]?.durableTickets[ticket] = durable }
        for effect in told {
            switch effect {
            case .wrote(_, let change):
                if let other = actives[id]?[data.version.epoch], other != node {
                    fail("\(other) and \(node) both are active in epoch \(data.version.epoch) of \(id)")
                }
                actives[id, default: [:]][data.version.epoch] = node
                counts.writes += 1
                processes[node]?.tickets[ticket] = request
                feed(node, .wrote(id, change: change, ticket: ticket))
            case .executed(_, let change):
                counts.repeats += 1
                processes[node]?.tickets[ticket] = request
                feed(node, .awaitAll(id, change: isSynchronous ? change : 0, ticket: ticket))
            case .refuse(_, .badHandle, _): forget(request, on: node)
            case .refuse(_, .noSpace, _) where isPersistent: answer(node, request, isDone: false)
            case .refuse(_, let code, let text):
                fail("request \(request.number) on \(node) was refused: \(code) \(text)")
            default: break
            }
        }
    }

    /// The directory took the node for dead, and closed what was open there.
    private func forget(_ request: Request, on node: NodeID) {
        guard let index = clients[node]?.firstIndex(where: { $0.pending?.number == request.number }) else { return }
        let client = newClient(node, clients[node]?[index].name ?? 0)
        clients[node]?[index] = client
        tell(node, .connected(client.session, ProcessIdentity(id: 1, start: client.session.low)))
    }

    /// The request's number to the log, and to its section.
    private func operations(_ request: Request, _ engine: CkptEngine) -> ([SectionOperation], [UInt8]) {
        let body = (0..<8).map { UInt8(truncatingIfNeeded: request.number >> (8 * UInt64($0))) }
        let known = engine.sections(of: request.checkpoint, limit: 100).map(\.descriptor)
        let data = PayloadSlice(offset: 0, count: 8)
        let log = known.first { $0.id == ReplicaView.log }
        var operations = [SectionOperation(kind: .create, id: ReplicaView.log, expiration: .saTimeEnd, data: data)]
        if let log { operations = [.init(kind: .write, id: log.id, offset: log.size, data: data)] }
        let section = ReplicaView.section(request.section)
        switch (known.contains { $0.id == section }, request.deletes) {
        case (true, true): operations.append(.init(kind: .delete, id: section))
        case (true, false): operations.append(.init(kind: .overwrite, id: section, data: data))
        case (false, true): break
        case (false, false):
            operations.append(.init(kind: .create, id: section, expiration: .saTimeEnd, data: data))
        }
        return (operations, body)
    }

    func attempt(_ node: NodeID, _ index: Int) {
        guard let client = clients[node]?[index], let request = client.pending, client.sentAt == nil else { return }
        if let engine = processes[node]?.member.engine, engine.checkpoint(of: request.handle) == nil {
            return forget(request, on: node)
        }
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
                forget(request, on: node)
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

    private func stream(_ node: NodeID, _ id: CheckpointID, _ epoch: UInt64, _ after: UInt64, _ peer: NodeID) {
        guard let updates = processes[node]?.member.logged(id, after: after) else {
            return feed(node, .streamed(id, peer, upTo: after, .gone))
        }
        var sent = after
        for update in updates {
            let message = ReplicaMessage(id, epoch: epoch, .update(change: sent + 1))
            guard send(.data(message, update), node, peer, isSmall: false) else {
                return feed(node, .streamed(id, peer, upTo: sent, .full))
            }
            sent += 1
        }
        feed(node, .streamed(id, peer, upTo: sent, .complete))
    }

    private func sendPiece(
        _ node: NodeID, _ id: CheckpointID, _ epoch: UInt64, _ round: UInt32, _ cursor: CopyCursor, _ peer: NodeID
    ) {
        guard let (body, next) = processes[node]?.member.piece(id, cursor, bytesMax: 200) else {
            return feed(node, .pieceSent(id, peer, next: nil))
        }
        let message = ReplicaMessage(id, epoch: epoch, .piece(round: round))
        guard send(.data(message, body), node, peer, isSmall: false) else {
            return feed(node, .pieceBlocked(id, peer))
        }
        feed(node, .pieceSent(id, peer, next: next))
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
        processes[node]?.touched.remove(peer)
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
        case .small(let message), .data(let message, _):
            let decoded = ReplicaMessage.roundTrip(message)
            feed(peer, .message(decoded, from: node), frame)
        case .request(let request): execute(peer, request)
        case .answer(let number, _, let isDone):
            if let request = requests[number] { answered(request, on: peer, isDone: isDone) }
        case .touch(let sent): promise(peer, to: node, sent: sent)
        case .promised(let sent, let index): promised(peer, by: node, sent: sent, index: index)
        case .read(let read): answerRead(peer, read)
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
