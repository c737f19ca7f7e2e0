import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes

/// One address that peers dial.
final class LinkListener {
    let socket: Descriptor
    let address: SocketAddress
    var watch: WatchID?

    init(socket: consuming Descriptor, address: SocketAddress) {
        self.socket = socket
        self.address = address
    }
}

extension PeerLinks {
    func listen() throws(OSError) {
        guard let local = description.node(description.localNode) else { return }
        for way in local.addresses {
            let address = try socketAddress(way)
            var options = TcpOptions()
            (options.device, options.mark) = (way.device, way.mark)
            let listener = LinkListener(
                socket: try TcpSocket.listen(on: address, options: options), address: address)
            listener.watch = try loop.watch(listener.socket.raw, .read) { [unowned self, unowned listener] _ in
                accept(listener)
            }
            listeners.append(listener)
        }
    }

    private func accept(_ listener: LinkListener) {
        for _ in 0..<16 {
            do throws(OSError) {
                guard let socket = try TcpSocket.accept(on: listener.socket.raw, options: tcpOptions) else { return }
                guard let remote = TcpSocket.peerAddress(socket.raw) else { continue }
                let sameAddress = strangers.reduce(0) { $0 + ($1.remote.ip == remote.ip ? 1 : 0) }
                guard strangers.count < options.strangersMax, sameAddress < options.strangersPerAddressMax else {
                    trouble("\(service.name): too many connections from \(remote.ip) that do not say who they are")
                    continue
                }
                let connection = LinkConnection(
                    socket: socket, role: .accepted, remote: remote, phase: .greeting, options: options)
                if let security {
                    do throws(LinkError) {
                        connection.cipher = try TlsSession(security.current(trouble), isServer: true)
                    } catch {
                        return trouble(error.text)
                    }
                }
                strangers.append(connection)
                try watch(connection)
                connection.deadline = loop.schedule(after: options.handshakeTimeout) {
                    [unowned self, unowned connection] in
                    lose(connection, "it did not say who it is within \(options.handshakeTimeout)")
                }
            } catch {
                return trouble("\(service.name) cannot accept at \(listener.address): \(error)")
            }
        }
    }

    /// Every frame of every connection comes by here.
    func take(
        _ header: LinkHeader, _ body: UnsafeRawBufferPointer, on connection: LinkConnection
    ) throws(DecodeError) {
        switch (connection.role, connection.phase, header.kind) {
        case (.accepted, .up, .oneWay):
            if let peer = connection.peer { onMessage?(peer.id, header.code, header.lane, body) }
        case (.accepted, .up, .request): execute(header, body, on: connection)
        case (.dialed(let peer, _), .up, .reply): finish(peer, header.number, .success(body))
        case (.dialed(let peer, _), .up, .failure):
            let error = AisError(rawValue: header.status) ?? .library
            finish(peer, header.number, .failure(CallError(error, String(decoding: body, as: UTF8.self))))
        case (.accepted, .greeting, .hello):
            guard body.count <= LinkHello.bytesMax else { throw .badValue("a hello of \(body.count) bytes") }
            try greet(connection, try LinkHello(decoding: body))
        case (.dialed(let peer, _), .greeting, .welcome): try welcomed(connection, peer, body)
        case (_, .greeting, .refused):
            lose(connection, "refused: \(String(decoding: body.prefix(1024), as: UTF8.self))")
        case (_, .greeting, let kind): throw .badValue("a frame of kind \(kind) before the greeting")
        case (_, _, let kind): throw .badValue("an unexpected frame of kind \(kind)")
        }
    }

    /// A stranger says who it is.
    private func greet(_ connection: LinkConnection, _ hello: LinkHello) throws(DecodeError) {
        if let reason = objection(to: hello, from: connection) {
            connection.sender.append(LinkHeader(kind: .refused, lane: .control), Array(reason.utf8))
            connection.pushLast()
            throw .badValue("node \(hello.node) says hello: \(reason)")
        }
        guard let peer = peers[hello.node.rawValue] else { return }
        if let timer = connection.deadline { loop.cancel(timer) }
        connection.deadline = nil
        strangers.removeAll { $0 === connection }
        if let former = peer.incoming { discard(former) }
        connection.peer = peer
        connection.incarnation = hello.incarnation
        connection.phase = .up
        connection.upSince = loop.now
        peer.incoming = connection
        if peer.windowIncarnation != hello.incarnation {
            peer.windowIncarnation = hello.incarnation
            peer.window = RequestWindow(bytesMax: limits.rememberedBytesMax)
        }
        connection.messages = options.messages.newest(with: hello.messages) ?? 1  // no objection: there is one
        let welcome = LinkWelcome(
            messages: connection.messages, node: description.localNode, incarnation: incarnation,
            bodyMax: UInt64(limits.bodyMax))
        connection.sender.append(LinkHeader(kind: .welcome, lane: .control), welcome.encoded)
        if let link = peer.link, link.incarnation != hello.incarnation {
            lose(link, "\(name(peer)) was restarted")
        } else if peer.isWanted, peer.outgoing == nil {
            reach(peer.id)  // it is there: no reason to sit out a pause
        }
    }

    private func objection(to hello: LinkHello, from connection: LinkConnection) -> String? {
        if hello.cluster != description.clusterName {
            return "cluster \"\(hello.cluster)\"; this is \"\(description.clusterName)\""
        }
        if hello.service != service.rawValue { return "service \(hello.service); this is \(service.name)" }
        if hello.meant != description.localNode {
            return "node \(hello.meant) is meant; this is node \(description.localNode)"
        }
        guard let peer = peers[hello.node.rawValue] else { return "node \(hello.node) is not configured here" }
        if let cipher = connection.cipher, cipher.peerIdentity != identity(of: peer) {
            return "the certificate is for \(cipher.peerIdentity ?? "nobody"); that of \(peer.node.name) is expected"
        }
        guard LinkHeader.versions.newest(with: hello.versionMin...hello.versionMax) != nil else {
            return "versions \(hello.versionMin) to \(hello.versionMax); \(LinkHeader.version) is spoken here"
        }
        guard options.messages.newest(with: hello.messages) != nil else {
            return "messages of versions \(hello.messages); \(options.messages) are spoken here"
        }
        return nil
    }
}
