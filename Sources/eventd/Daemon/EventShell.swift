import EOHost
import EOLoop
import EventEngine
import EventProtocol
import IOC
import IOCCluster
import IOCLinks
import LogClient
import LogProtocol
import OSAL
import SAFTypes

/// Frames in and out of eventd; decides nothing about events. Loop thread only.
final class EventShell {
    private let loop: Loop
    private let host: EngineHost
    private let server: IOCServer
    /// Nil when this node is alone, and until the registry is there.
    private var links: ForwardLinks?
    private var others: [NodeID] = []
    private var description: ClusterDescription
    private var watch: DescriptionWatch?
    private var requests: [RequestKey: Request] = [:]
    private var peers: [ClientSession: Peer] = [:]
    /// Clients that had no room: nothing is tried, so that the order is kept, until they have some.
    private var refusing: Set<ClientSession> = []
    /// They are tried again even if they do not say that they have.
    private var retries: [ClientSession: LoopTimer] = [:]

    init(loop: Loop, places: Places, description: ClusterDescription) throws(OSError) {
        (self.loop, self.description) = (loop, description)
        // First the address, so that a second eventd on this node touches nothing that is kept.
        var options = ServerOptions()
        // Components run as any user; what only an administrator may ask is checked for each request.
        options.socketMode = 0o666
        server = try IOCServer(loop: loop, endpoint: .wellKnown(.eventd), places: places, options: options)
        let access = LocalAccess(description.access)
        server.admit = { access.admits(user: $0.credentials.uid, groups: $0.groups) ? nil : .access }
        host = try EngineHost(loop: loop, places: places, description: description) { isError, text in
            Log.record(isError ? .error : .notice, text, area: "EVT", context: "KEP")
        }
        host.perform = { [unowned self] effects in perform(effects) }
        host.onOthers = { [unowned self] nodes in
            others = nodes
            links?.follow(nodes)
        }
        host.onReady = { [unowned self] in openLinks() }
        host.start()
        let status = engine.status
        if status.channels > 0 {
            Log.notice(
                "\(status.channels) channels, open \(status.instances) times, and \(status.retained) retained events "
                    + "found again", area: "EVT", context: "RST")
        }
        for (session, process) in engine.absentClients where !isAlive(process) {
            host.handle(.disconnected(session, isDead: true))
        }
        server.onConnect = { [unowned self] peer in connected(peer) }
        server.onDisconnect = { [unowned self] peer in disconnected(peer) }
        server.onRequest = { [unowned self] request, body in handle(request, body) }
        watch = DescriptionWatch(loop: loop, places: places, description: description) { [unowned self] in update($0) }
    }

    /// The cluster has other nodes.
    private func update(_ new: ClusterDescription) {
        let hadOthers = !description.others.isEmpty
        description = new
        host.expect(nodes: new.nodes.count)
        if !hadOthers, links == nil { return openLinks() }
        do throws(LinkError) {
            try links?.update(new)
        } catch {
            Log.record(.error, "\(error)", area: "EVT", context: "LNK")
        }
    }

    var engine: NodeEngine { host.engine }
    var isJournalBroken: Bool { host.isJournalBroken }
    var registryStatus: String { "\(host.registryStatus)" }

    /// Not before the registry is there: what other nodes forward is about channels that it tells of.
    private func openLinks() {
        guard !description.others.isEmpty, links == nil else { return }
        do throws(LinkError) {
            let links = try ForwardLinks(loop: loop, description: description, incarnation: host.incarnation) { text in
                Log.record(.notice, text, area: "EVT", context: "LNK")
            }
            links.handle = { [unowned self] event in host.handle(event) }
            self.links = links
            links.follow(others)
        } catch {
            Log.record(.error, "events stay on this node, nothing is forwarded: \(error)", area: "EVT", context: "LNK")
            loop.schedule(after: .seconds(1)) { [weak self] in self?.openLinks() }
        }
    }

    /// Hanging up says nothing about the clients: the next life finds what they have open.
    func stop() {
        server.onDisconnect = { _ in }
        server.close()
        watch?.close()
        links?.close()
        host.stop()
    }

    // MARK: Events

    private static func session(_ peer: Peer) -> ClientSession {
        ClientSession(high: peer.sessionID.high, low: peer.sessionID.low)
    }

    private static func process(_ peer: Peer) -> ProcessIdentity {
        ProcessIdentity(id: UInt32(bitPattern: peer.info.credentials.pid), start: peer.info.startTime)
    }

    private func isAlive(_ process: ProcessIdentity) -> Bool {
        Process.isAlive(Int32(bitPattern: process.id), startTime: process.start)
    }

    private func connected(_ peer: Peer) {
        let session = Self.session(peer)
        peers[session] = peer
        refusing.remove(session)
        peer.onWritable = { [unowned self] in tryAgain(session) }
        host.handle(.connected(session, Self.process(peer)))
    }

    private func disconnected(_ peer: Peer) {
        let session = Self.session(peer)
        // The same client may be back already, on a newer connection.
        guard peers[session] === peer else { return }
        peers[session] = nil
        refusing.remove(session)
        if let retry = retries.removeValue(forKey: session) { loop.cancel(retry) }
        let process = Self.process(peer)
        host.handle(.disconnected(session, isDead: !isAlive(process)))
        if engine.absentClients.contains(where: { $0.session == session }) { lookAgain(session, process) }
    }

    /// A process hangs up a moment before it is dead.
    private func lookAgain(_ session: ClientSession, _ process: ProcessIdentity) {
        loop.schedule(after: .milliseconds(100)) { [weak self] in
            guard let self, peers[session] == nil, !isAlive(process) else { return }
            host.handle(.disconnected(session, isDead: true))
        }
    }

    private func handle(_ request: Request, _ body: UnsafeRawBufferPointer) {
        for descriptor in request.descriptors { IO.close(descriptor) }
        let decoded: EventRequest
        do throws(DecodeError) {
            decoded = try EventRequest(code: request.code, body: body)
        } catch {
            return request.fail(.invalidParam, "\(error)")
        }
        let user = request.peer.info.credentials.uid
        if decoded == .listChannels, user != 0, user != Environment.userID {
            return request.fail(
                .access, "user \(user) may not list the channels; root and user \(Environment.userID) may")
        }
        let key = RequestKey(session: Self.session(request.peer), number: request.id.number)
        requests[key] = request
        let wall = MonotonicClock.wallNanoseconds()
        host.handle(
            .request(decoded, RequestOrigin(key: key, acknowledged: request.acknowledged, wall: wall)))
    }

    // MARK: Effects

    private func perform(_ effects: [NodeEngine.Effect]) {
        for effect in effects {
            switch effect {
            case .reply(let key, let result): requests.removeValue(forKey: key).map { reply($0, result) }
            case .deliver(let delivery, let session):
                if refusing.contains(session) || !deliver(delivery, to: session) { refused(delivery, session) }
            case .send(let message, let node): links?.send(message, to: node)
            case .hangUp(let session): peers[session]?.disconnect(reason: "a channel that it has open has ended")
            case .propose, .setTimer: break  // performed by the host
            }
        }
    }

    /// False when the client has no room; true also when it has gone.
    private func deliver(_ delivery: EventDelivery, to session: ClientSession) -> Bool {
        guard let peer = peers[session], peer.isConnected else { return true }
        // A lane for each priority, so that what is important overtakes inside the connection, too.
        let lane = Lane(rawValue: delivery.event.priority.rawValue) ?? .low
        return peer.push(EventDelivery.code, lane: lane, delivery.encoded) == .queued
    }

    private func refused(_ delivery: EventDelivery, _ session: ClientSession) {
        refusing.insert(session)
        host.handle(.refused(session, instance: delivery.instance, number: delivery.number))
        guard retries[session] == nil else { return }
        retries[session] = loop.schedule(after: .milliseconds(250)) { [unowned self] in tryAgain(session) }
    }

    private func tryAgain(_ session: ClientSession) {
        if let retry = retries.removeValue(forKey: session) { loop.cancel(retry) }
        guard refusing.remove(session) != nil else { return }
        host.handle(.writable(session))
    }

    private func reply(_ request: Request, _ result: Result<NodeEngine.Reply, EventFailure>) {
        switch result {
        case .success(.done): request.reply([])
        case .success(.published(let id)): request.reply(PublishedEvent(id: id).encoded)
        case .success(.opened(let id)): request.reply(OpenedChannel(channel: id.rawValue).encoded)
        case .success(.channels(let list)): request.reply(list.encoded)
        case .failure(let failure): request.fail(failure.code, failure.text)
        }
    }
}
