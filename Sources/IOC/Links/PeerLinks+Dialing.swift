import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes

extension PeerLinks {
    /// Wants a link to a node, at once: a view says that it is there.
    public func reach(_ node: NodeID) {
        guard !isStopped else { return }
        guard let peer = peers[node.rawValue] else {
            if node != description.localNode { awaited.insert(node.rawValue) }
            return
        }
        awaited.remove(node.rawValue)
        peer.isWanted = true
        peer.redial.encourage()
        if let timer = peer.retryTimer {
            loop.cancel(timer)
            peer.retryTimer = nil
        }
        if peer.outgoing == nil { step(peer, peer.redial.begin()) }
    }

    /// Wants links to these nodes and no others: what a view says. See ``reach(_:)`` and ``leave(_:_:)``.
    public func follow(_ nodes: [NodeID]) {
        for peer in order where peer.isWanted && !nodes.contains(peer.id) { leave(peer.id) }
        awaited.removeAll()
        for node in nodes { reach(node) }
    }

    /// Wants no link any more: a view says that the node has gone. Its calls fail, sent ones with TIMEOUT (unknown).
    public func leave(_ node: NodeID, _ reason: String = "the node has left") {
        awaited.remove(node.rawValue)
        if let peer = peers[node.rawValue] { leave(peer, reason) }
    }

    func leave(_ peer: PeerNode, _ reason: String) {
        peer.isWanted = false
        peer.downReason = reason
        for timer in [peer.retryTimer, peer.pathTimer].compactMap({ $0 }) { loop.cancel(timer) }
        (peer.retryTimer, peer.pathTimer) = (nil, nil)
        if let connection = peer.outgoing { lose(connection, reason) }
        if let connection = peer.incoming { lose(connection, reason) }
        for number in peer.calls.numbers { fail(peer, number, because: reason) }
    }

    /// A link is needed for something that is to be sent.
    func want(_ peer: PeerNode) {
        guard !peer.isWanted, !isStopped else { return }
        reach(peer.id)
    }

    private func step(_ peer: PeerNode, _ step: Redial.Step) {
        guard peer.isWanted, !isStopped, peer.outgoing == nil else { return }
        switch step {
        case .dial(let address): dial(peer, address)
        case .wait(let pause):
            peer.retryTimer = loop.schedule(after: pause) { [unowned self, unowned peer] in
                peer.retryTimer = nil
                self.step(peer, peer.redial.begin())
            }
        }
    }

    private func dial(_ peer: PeerNode, _ index: Int) {
        guard index < peer.addresses.count else { return missed(peer, index, "\(name(peer)) has no address") }
        peer.addressStatus[index].attempts += 1
        do throws(OSError) {
            var tcp = tcpOptions
            // The n-th addresses of all nodes are one network: ours says how we leave to it.
            if let local = description.node(description.localNode), index < local.addresses.count {
                let way = local.addresses[index]
                (tcp.device, tcp.mark) = (way.device, way.mark)
                if let source = way.source { tcp.source = try SocketAddress(source, port: 0) }
            }
            let connection = LinkConnection(
                socket: try TcpSocket.connect(to: peer.addresses[index], options: tcp),
                role: .dialed(peer, address: index), remote: peer.addresses[index], phase: .connecting,
                options: options)
            peer.outgoing = connection
            try watch(connection)
            connection.deadline = loop.schedule(after: options.connectTimeout) { [unowned self, unowned connection] in
                lose(connection, "no answer within \(options.connectTimeout)")
            }
        } catch {
            peer.outgoing = nil
            missed(peer, index, "\(error)")
        }
    }

    var tcpOptions: TcpOptions {
        var tcp = TcpOptions()
        tcp.userTimeout = options.silenceMax
        tcp.keepAlive = options.silenceMax / 4
        tcp.unsentBytesMax = LinkSender.batchBytesMax
        return tcp
    }

    /// The TCP connection stands, or not: says hello.
    func connected(_ connection: LinkConnection) {
        guard case .dialed(let peer, _) = connection.role else { return }
        if let error = TcpSocket.connectResult(connection.fd) {
            return lose(connection, error.isNobodyListening ? "nobody listens" : "\(error)")
        }
        connection.phase = .greeting
        if let timer = connection.deadline { loop.cancel(timer) }
        connection.deadline = loop.schedule(after: options.handshakeTimeout) { [unowned self, unowned connection] in
            lose(connection, "connected, but no welcome within \(options.handshakeTimeout); is it stopped?")
        }
        guard let security else { return sayHello(connection, peer) }
        do throws(LinkError) {
            let cipher = try TlsSession(security.current(trouble), isServer: false)
            connection.cipher = cipher
            _ = cipher.handshake()  // makes the first message; it cannot be through yet
        } catch {
            lose(connection, error.text)
        }
    }

    private func sayHello(_ connection: LinkConnection, _ peer: PeerNode) {
        let hello = LinkHello(
            messages: options.messages, service: service.rawValue, node: description.localNode, meant: peer.id,
            incarnation: incarnation,
            cluster: description.clusterName)
        connection.sender.append(LinkHeader(kind: .hello, lane: .control), hello.encoded)
    }

    /// Whose certificate is expected, for people.
    func expected(of connection: LinkConnection) -> String {
        let node = connection.peer.map { "\($0.node.name)" } ?? "a node"
        return "a certificate of \(node) by the authority of cluster \"\(description.clusterName)\""
    }

    /// The TLS handshake is done: the certificate is the authority's, but is it that of the node that is meant?
    func secured(_ connection: LinkConnection) {
        connection.isFreshlySecured = false
        guard case .dialed(let peer, _) = connection.role else { return }
        let identity = connection.cipher?.peerIdentity ?? "nobody"
        guard identity == self.identity(of: peer) else {
            let reason = "the certificate is for \(identity); \(expected(of: connection)) was expected"
            connection.sender.append(LinkHeader(kind: .refused, lane: .control), Array(reason.utf8))
            connection.pushLast()
            return lose(connection, reason)
        }
        sayHello(connection, peer)
    }

    func identity(of peer: PeerNode) -> String {
        TlsContext.identity(cluster: description.clusterName, node: "\(peer.node.name)")
    }

    func welcomed(_ connection: LinkConnection, _ peer: PeerNode, _ body: UnsafeRawBufferPointer) throws(DecodeError) {
        let welcome = try LinkWelcome(decoding: body)
        guard LinkHeader.versions.contains(welcome.version) else {
            throw .badValue("version \(welcome.version) chosen; \(LinkHeader.versions) were offered")
        }
        guard options.messages.contains(welcome.messages) else {
            throw .badValue("messages of version \(welcome.messages) chosen; \(options.messages) were offered")
        }
        guard welcome.node == peer.id else {
            throw .badValue("node \(welcome.node) answers at \(connection.remote); node \(peer.id) expected")
        }
        if let timer = connection.deadline { loop.cancel(timer) }
        connection.deadline = nil
        connection.phase = .up
        connection.upSince = loop.now
        connection.incarnation = welcome.incarnation
        connection.messages = welcome.messages
        peer.redial.succeeded()
        peer.isLinked()
        lastTrouble = ""
        peer.connects += 1
        if case .dialed(_, let index) = connection.role { peer.addressStatus[index].connects += 1 }
        let isNew = peer.knownIncarnation != welcome.incarnation
        peer.knownIncarnation = welcome.incarnation
        if isNew {
            // Another life remembers nothing: whether the last one executed what we sent is not known to anybody.
            for number in peer.calls.numbers where peer.calls[number]?.state == .unknown {
                fail(peer, number, because: "\(name(peer)) was restarted")
            }
        }
        let waiting = peer.calls.numbers
        onUp?(peer.id, welcome.incarnation, isNew)
        for number in waiting where peer.link === connection { transmit(peer, number) }
    }

    /// A connection is of no use any more, whatever it was.
    func lose(_ connection: LinkConnection, _ reason: String) {
        guard !connection.isClosed else { return }
        let wasUp = connection.phase == .up
        discard(connection)
        switch connection.role {
        case .dialed(let peer, let index):
            peer.outgoing = nil
            settleCalls(peer, connection)
            peer.lostBytes &+= UInt64(connection.sender.queuedBytes)
            if wasUp {
                peer.redial.lost()
                peer.addressStatus[index].lastError = reason
                peer.downReason = "\(name(peer)) at \(connection.remote): \(reason)"
                onDown?(peer.id, peer.downReason)
                if peer.outgoing == nil, peer.retryTimer == nil { step(peer, peer.redial.begin()) }
            } else {
                missed(peer, index, "\(connection.remote): \(reason)")
            }
        case .accepted:
            strangers.removeAll { $0 === connection }
            guard let peer = connection.peer, peer.incoming === connection else {
                return trouble("\(service.name) refused a connection from \(connection.remote.ip): \(reason)")
            }
            peer.incoming = nil
        }
    }

    private func missed(_ peer: PeerNode, _ index: Int, _ reason: String) {
        peer.downReason = "\(name(peer)) at \(reason)"
        if index < peer.addressStatus.count { peer.addressStatus[index].lastError = reason }
        if peer.isNews(reason) { trouble(peer.downReason) }
        step(peer, peer.redial.failed())
    }
}
