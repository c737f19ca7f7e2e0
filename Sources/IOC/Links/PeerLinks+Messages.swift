import EOLoop
import EngineKit
import IOC
import OSAL
import SAFTypes

extension PeerLinks {
    // MARK: One-way

    /// Sends a message that nobody answers; the body is copied.
    @discardableResult
    public func send(
        _ code: UInt16, _ body: UnsafeRawBufferPointer, to node: NodeID, lane: Lane = .normal
    ) -> SendOutcome {
        guard let link = room(node, lane, body.count) else { return refusal(node) }
        link.sender.append(LinkHeader(kind: .oneWay, lane: lane, code: code), body)
        markDirty(link)
        return .sent
    }

    /// Sends a message that nobody answers; a large body is kept as it is until it is out.
    @discardableResult
    public func send(_ code: UInt16, _ body: [UInt8], to node: NodeID, lane: Lane = .normal) -> SendOutcome {
        guard let link = room(node, lane, body.count) else { return refusal(node) }
        link.sender.append(LinkHeader(kind: .oneWay, lane: lane, code: code), body)
        markDirty(link)
        return .sent
    }

    /// The link, if it stands and its lane has room.
    private func room(_ node: NodeID, _ lane: Lane, _ bytes: Int) -> LinkConnection? {
        guard let peer = peers[node.rawValue] else { return nil }
        guard let link = peer.link else {
            want(peer)
            return nil
        }
        guard bytes <= limits.bodyMax, link.sender.hasRoom(lane, for: bytes, limits: limits) else {
            peer.refused += 1
            peer.lanesWanted[Int(lane.rawValue)] = true
            return nil
        }
        return link
    }

    private func refusal(_ node: NodeID) -> SendOutcome { isUp(node) ? .full : .down }

    // MARK: Calls

    /// Asks a node; `then` is called on the loop, exactly once, never before this returns.
    ///
    /// A call made while there is no link waits for it; one whose connection breaks is sent again to the same life of
    /// the peer, which executes it once.
    ///
    /// Errors: `.tryAgain` surely not executed (no link until the deadline, the lane is full), `.timeout` the outcome
    /// is unknown (no answer in time, the peer was restarted or has left), `.notExist` no such node, and whatever the
    /// service answers.
    public func call(
        _ code: UInt16, _ body: [UInt8], to node: NodeID, lane: Lane = .normal, timeout: Duration,
        then: @escaping (Result<[UInt8], CallError>) -> Void
    ) {
        callLending(code, body, to: node, lane: lane, timeout: timeout) { result in then(result.map { [UInt8]($0) }) }
    }

    /// The same; the answer is lent during the call of `then` only, which saves a copy.
    public func callLending(
        _ code: UInt16, _ body: [UInt8], to node: NodeID, lane: Lane = .normal, timeout: Duration,
        then: @escaping (Result<UnsafeRawBufferPointer, CallError>) -> Void
    ) {
        func refuse(_ error: AisError, _ text: String) {
            let job = { then(.failure(CallError(error, text))) }
            if !loop.enqueue(lane, job), !loop.enqueue(.control, job) { loop.schedule(after: .zero, job) }
        }
        if isStopped { return refuse(.badHandle, "the links of \(service.name) are closed") }
        guard let peer = peers[node.rawValue] else { return refuse(.notExist, "node \(node) is not configured") }
        guard body.count <= limits.bodyMax else {
            return refuse(.noResources, "a body of \(body.count) bytes; at most \(limits.bodyMax) are sent")
        }
        guard peer.calls.count < limits.callsMax, !peer.calls.isFull,
            peer.calls.count == 0 || peer.calls.bytes + body.count <= limits.callBytesMax
        else {
            peer.refused += 1
            return refuse(.tryAgain, "\(peer.calls.count) calls to \(name(peer)) are outstanding")
        }
        if let link = peer.link, !link.sender.hasRoom(lane, for: body.count, limits: limits) {
            peer.refused += 1
            peer.lanesWanted[Int(lane.rawValue)] = true
            return refuse(.tryAgain, "lane \(lane) to \(name(peer)) is full")
        }
        let number = peer.calls.nextNumber
        let timer = loop.schedule(after: timeout) { [unowned self, unowned peer] in
            fail(peer, number, because: "no answer from \(name(peer)) within \(timeout)")
        }
        _ = peer.calls.add(OutgoingCall(code: code, lane: lane, body: body, timer: timer, then: then))
        if peer.link != nil { transmit(peer, number) } else { want(peer) }
    }

    /// Gives a call to the link there is, if its lane has room.
    func transmit(_ peer: PeerNode, _ number: UInt64) {
        guard let link = peer.link, let call = peer.calls[number] else { return }
        if case .queued = call.state { return }
        guard link.sender.hasRoom(call.lane, for: call.body.count, limits: limits) else {
            peer.lanesWanted[Int(call.lane.rawValue)] = true
            return
        }
        let header = LinkHeader(
            kind: .request, lane: call.lane, code: call.code, number: number, acknowledged: peer.calls.acknowledged,
            flags: call.isRetransmission ? .retransmission : [])
        let position = link.sender.position(call.lane)
        link.sender.append(header, call.body)
        peer.calls[number]?.state = .queued(position: position)
        markDirty(link)
    }

    /// Calls that found no room when the link came back.
    func transmitWaiting(_ peer: PeerNode) {
        guard peer.calls.count > 0 else { return }
        for number in peer.calls.numbers { transmit(peer, number) }
    }

    /// After a loss: which calls may have arrived.
    func settleCalls(_ peer: PeerNode, _ connection: LinkConnection) {
        for number in peer.calls.numbers {
            guard let call = peer.calls[number], case .queued(let position) = call.state else { continue }
            let isSent = connection.sender.isSent(call.lane, position)
            if isSent { peer.calls[number]?.isRetransmission = true }
            peer.calls[number]?.state = isSent || call.isRetransmission ? .unknown : .waiting
        }
    }

    /// Ends a call without an answer: by where it is, its outcome is known (not executed) or not.
    func fail(_ peer: PeerNode, _ number: UInt64, because reason: String) {
        guard let call = peer.calls[number] else { return }
        var isSent = call.isRetransmission || call.state == .unknown
        if case .queued(let position) = call.state, let link = peer.outgoing {
            isSent = isSent || link.sender.isSent(call.lane, position)
        }
        let text = peer.link == nil && !isSent ? "\(reason); \(peer.downReason)" : reason
        finish(peer, number, .failure(CallError(isSent ? .timeout : .tryAgain, text)))
    }

    func finish(_ peer: PeerNode, _ number: UInt64, _ result: Result<UnsafeRawBufferPointer, CallError>) {
        guard let call = peer.calls.remove(number) else { return }
        loop.cancel(call.timer)
        call.then(result)
    }

    // MARK: Requests of peers

    func execute(_ header: LinkHeader, _ body: UnsafeRawBufferPointer, on connection: LinkConnection) {
        guard let peer = connection.peer else { return }
        switch peer.window.begin(header.number, acknowledged: header.acknowledged) {
        case .execute:
            let request = PeerRequest(
                node: peer.id, incarnation: connection.incarnation, number: header.number, code: header.code,
                lane: header.lane, isRetransmission: header.flags.contains(.retransmission), peer: peer, links: self)
            if let onRequest {
                onRequest(request, body)
            } else {
                request.fail(.notSupported, "nobody answers requests")
            }
        case .inProgress: return
        case .answered(let kind, let status, let body):
            transmit(header.number, header.lane, kind, status, body, on: connection)
        case .forgotten:
            let text = Array("it was executed, but its answer is not kept any more".utf8)
            transmit(header.number, header.lane, .failure, AisError.timeout.rawValue, text, on: connection)
        case .overloaded:
            let text = Array("too many requests are open".utf8)
            transmit(header.number, header.lane, .failure, AisError.tryAgain.rawValue, text, on: connection)
        }
    }

    func answer(_ request: PeerRequest, kind: LinkFrameKind, status: UInt32, _ body: [UInt8]) {
        let peer = request.peer
        guard !isStopped, peer.windowIncarnation == request.incarnation else { return }
        guard body.count <= limits.bodyMax else {
            return request.fail(.noResources, "the answer has \(body.count) bytes; at most \(limits.bodyMax) are sent")
        }
        guard peer.window.finish(request.number, kind: kind, status: status, body: body) else { return }
        guard let connection = peer.incoming, connection.incarnation == request.incarnation else { return }
        transmit(request.number, request.lane, kind, status, body, on: connection)
    }

    private func transmit(
        _ number: UInt64, _ lane: Lane, _ kind: LinkFrameKind, _ status: UInt32, _ body: [UInt8],
        on connection: LinkConnection
    ) {
        connection.sender.append(LinkHeader(kind: kind, lane: lane, number: number, status: status), body)
        markDirty(connection)
        let waiting = connection.sender.queuedBytes
        if waiting > limits.answersPauseAt { connection.isPaused = true }
        if waiting > limits.answersMax { loseSoon(connection, "it does not take its answers") }
    }

    private func loseSoon(_ connection: LinkConnection, _ reason: String) {
        loop.enqueue(.control) { [unowned self] in lose(connection, reason) }
    }
}
