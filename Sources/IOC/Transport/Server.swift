import EOLoop
import EngineKit
import OSAL
import SAFTypes

public struct ServerOptions: Sendable {
    /// Sizes of each connection's rings.
    public var layout = RingLayout.standard
    /// The largest body, of requests and of answers.
    public var bodyMax = 64 << 20
    /// Connections at a time; one more is refused with NO_RESOURCES.
    public var peersMax = 1024
    /// Mode of the socket's file; who may connect beyond that is for `admit` to say.
    public var socketMode: UInt32 = 0o600
    /// How long a client that hung up is remembered for its retransmissions.
    public var sessionRetention: Duration = .seconds(30)
    /// Clients remembered after they hung up; beyond, the oldest is forgotten.
    public var sessionsMax = 1024
    /// A client that connects must say hello within this.
    public var handshakeTimeout: Duration = .seconds(5)
    var memoryLimits = ReplyMemory.Limits()

    public init() {}
}

/// The receiving end at an ``Endpoint``: clients connect to it, ask and are answered. Loop thread only.
///
/// Frames of urgent lanes are handled first, over all clients; within a lane, clients take turns. Nothing a client does
/// blocks the loop: it is answered as far as it reads, its pushes are dropped and counted beyond that, and a client
/// that breaks the protocol is dropped with the reason in ``Peer/endReason``.
public final class IOCServer {
    public let endpoint: Endpoint
    public let path: String
    /// This life of the server: another number after every start.
    public let incarnation: UInt64

    /// Asked before a connection stands; an error refuses it. The default admits everybody the socket's mode lets in.
    public var admit: (PeerInfo) -> AisError? = { _ in nil }
    /// A client is there, also when it is there again (``Peer/isReconnect``).
    public var onConnect: (Peer) -> Void = { _ in }
    /// The body is valid only during the call.
    public var onRequest: (Request, UnsafeRawBufferPointer) -> Void = { request, _ in
        request.fail(.notSupported, "this service answers no requests")
    }
    /// The body is valid only during the call.
    public var onOneWay: (Peer, _ code: UInt16, UnsafeRawBufferPointer) -> Void = { _, _, _ in }
    /// A client has hung up, died or was dropped; once per peer, after its last frame.
    public var onDisconnect: (Peer) -> Void = { _ in }

    let loop: Loop
    let options: ServerOptions
    private let listener: Descriptor
    private var listenWatch: WatchID?
    private var spinner: SpinnerID?
    private var arrivals: [UInt64: Arrival] = [:]
    private var arrivalNumber: UInt64 = 0
    private var peerNumber: UInt64 = 0
    private var peersByID: [PeerID: Peer] = [:]
    private var hot: [Peer] = []
    private var turn = 0
    private var doomed: [(peer: Peer, reason: String)] = []
    private var sessions: [SessionID: Session] = [:]
    private var detached: UInt64 = 0
    private let scratch: Scratch
    private var isClosed = false
    private let backlink = Backlink<IOCServer>()

    static let framesPerPoll = 32
    static let framesPerPeer = 8
    static let lastFramesMax = 4096
    static let arrivalsMax = 128

    /// A connection that has not said hello yet.
    private final class Arrival {
        let socket: Descriptor
        var watch: WatchID?
        var timer: LoopTimer?
        init(socket: consuming Descriptor) { self.socket = socket }
    }

    /// Listens at `endpoint`; a socket file left by a dead server is replaced.
    ///
    /// - Throws: EADDRINUSE when a living server has the endpoint, and what else bind(2) says.
    public init(
        loop: Loop, endpoint: Endpoint, places: Places, options: ServerOptions = ServerOptions()
    ) throws(OSError) {
        self.loop = loop
        self.endpoint = endpoint
        self.options = options
        path = endpoint.path(in: places.runDirectory)
        incarnation = UInt64.random(in: 1 ... .max)
        scratch = Scratch(capacity: Lane.allCases.map { options.layout.inlineMax($0) }.max() ?? 0)
        try File.makeDirectories("\(places.runDirectory)/ioc", mode: 0o755)
        listener = try UnixSocket.listen(at: path, kind: .seqPacket, mode: options.socketMode)
        listenWatch = try loop.watch(listener.raw, .read, lane: .high) { [unowned self] _ in acceptAll() }
        spinner = loop.addSpinner(
            { [unowned(unsafe) self] in poll() }, beforeSleep: { [unowned(unsafe) self] in announceSleep() })
        backlink.set(self)
    }

    deinit {
        backlink.clear()
        close()
    }

    /// The clients connected now, in the order of their connections.
    public var peers: [Peer] { peersByID.values.sorted { $0.id < $1.id } }

    /// Hangs up on everybody and stops listening. The socket's file is removed.
    public func close() {
        guard !isClosed else { return }
        isClosed = true
        if let listenWatch { loop.unwatch(listenWatch) }
        if let spinner { loop.removeSpinner(spinner) }
        _ = try? File.remove(path)
        for number in arrivals.keys.sorted() { endArrival(number) }
        for peer in peers { drop(peer, reason: "the server closes") }
        for session in sessions.values { if let timer = session.expiry { loop.cancel(timer) } }
        sessions = [:]
    }

    // MARK: Arrivals

    private func acceptAll() {
        for _ in 0..<64 {
            do throws(OSError) {
                guard let socket = try UnixSocket.accept(on: listener.raw) else { return }
                try arrive(socket)
            } catch {
                // Out of descriptors or memory: those who wait in the backlog stay there and time out or get in later.
                return
            }
        }
    }

    private func arrive(_ socket: consuming Descriptor) throws(OSError) {
        guard arrivals.count < Self.arrivalsMax else { return }
        arrivalNumber += 1
        let number = arrivalNumber
        let arrival = Arrival(socket: socket)
        arrival.watch = try loop.watch(arrival.socket.raw, .read, lane: .high) { [unowned self] _ in hear(number) }
        arrival.timer = loop.schedule(after: options.handshakeTimeout) { [unowned self] in endArrival(number) }
        arrivals[number] = arrival
    }

    @discardableResult
    private func endArrival(_ number: UInt64) -> Arrival? {
        guard let arrival = arrivals.removeValue(forKey: number) else { return nil }
        if let watch = arrival.watch { loop.unwatch(watch) }
        if let timer = arrival.timer { loop.cancel(timer) }
        return arrival
    }

    private func hear(_ number: UInt64) {
        guard let arrival = arrivals[number] else { return }
        var bytes = [UInt8](repeating: 0, count: HandshakeFrame.sizeMax)
        var received: Received?
        do throws(OSError) {
            var outcome: Result<Received?, OSError> = .success(nil)
            bytes.withUnsafeMutableBytes { buffer in
                do throws(OSError) {
                    outcome = .success(try UnixSocket.receive(arrival.socket.raw, into: buffer))
                } catch {
                    outcome = .failure(error)
                }
            }
            received = try outcome.get()
        } catch {
            endArrival(number)
            return
        }
        guard let received else { return }
        endArrival(number)
        for descriptor in received.descriptors { IO.close(descriptor) }
        guard received.count > 0, !received.truncated else { return }
        let hello = bytes.withUnsafeBytes { Self.decodeHello(UnsafeRawBufferPointer(rebasing: $0[..<received.count])) }
        switch hello {
        case .success(let hello): admitArrival(arrival, hello)
        case .failure(let error): refuse(arrival, .version, "\(endpoint) expected a hello: \(error)")
        }
    }

    private static func decodeHello(_ raw: UnsafeRawBufferPointer) -> Result<Hello, DecodeError> {
        do throws(DecodeError) {
            let (header, body) = try HandshakeFrame.decode(raw)
            guard header.kind == .hello else { throw .badValue("frame kind \(header.kind)") }
            return .success(try Hello(decoding: body))
        } catch {
            return .failure(error)
        }
    }

    private func refuse(_ arrival: Arrival, _ error: AisError, _ text: String) {
        _ = HandshakeFrame.refusal(error, text).withUnsafeBytes { try? UnixSocket.send(arrival.socket.raw, $0) }
    }

    private func admitArrival(_ arrival: Arrival, _ hello: Hello) {
        guard let version = Hello.versions.newest(with: hello.versionMin...hello.versionMax) else {
            let offered = "\(hello.versionMin) to \(hello.versionMax)"
            return refuse(arrival, .version, "\(endpoint) speaks versions \(Hello.versions), not \(offered)")
        }
        guard let credentials = try? UnixSocket.peerCredentials(arrival.socket.raw) else { return }
        let startTime = Process.startTime(of: credentials.pid) ?? 0
        // Without them it belongs to its own group alone, which is the least.
        let groups = (try? UnixSocket.peerGroups(arrival.socket.raw)) ?? []
        let info = PeerInfo(
            credentials: credentials, groups: groups + [credentials.gid], session: hello.session, startTime: startTime)
        if let error = admit(info) {
            return refuse(arrival, error, "\(endpoint) does not admit user \(credentials.uid)")
        }
        let owner = Session.Owner(pid: credentials.pid, startTime: startTime, uid: credentials.uid)
        let known = sessions[hello.session]
        if let known, known.owner != owner {
            return refuse(arrival, .access, "this session belongs to another process")
        }
        if let old = known?.peer { drop(old, reason: "the client connected again") }
        guard peersByID.count < options.peersMax else {
            return refuse(arrival, .noResources, "\(endpoint) has \(peersByID.count) clients, its limit")
        }
        establish(arrival, info, owner, version: version, isReconnect: known != nil)
    }

    private func establish(
        _ arrival: Arrival, _ info: PeerInfo, _ owner: Session.Owner, version: UInt8, isReconnect: Bool
    ) {
        peerNumber += 1
        do throws(OSError) {
            let socket = try Descriptor(duplicating: arrival.socket.raw)
            let link = try Link.offer(
                socket: socket, version: version, layout: options.layout, incarnation: incarnation, peer: peerNumber,
                bodyMax: options.bodyMax, scratch: scratch)
            let session =
                sessions[info.session] ?? Session(id: info.session, owner: owner, limits: options.memoryLimits)
            let peer = Peer(
                id: PeerID(peerNumber), info: info, isReconnect: isReconnect, link: link, session: session,
                backlink: backlink
            )
            peer.bellWatch = try loop.watch(link.ownBell.raw, [.read, .edgeTriggered], lane: .control) {
                [unowned self, unowned peer] _ in
                markHot(peer)
                peer.spaceMayBeThere()
            }
            do throws(OSError) {
                peer.socketWatch = try loop.watch(link.socket.raw, [.read, .edgeTriggered], lane: .high) {
                    [unowned self, unowned peer] _ in hearSocket(peer)
                }
            } catch {
                if let watch = peer.bellWatch { loop.unwatch(watch) }
                throw error
            }
            if let timer = session.expiry { loop.cancel(timer) }
            session.expiry = nil
            session.peer = peer
            sessions[info.session] = session
            peersByID[peer.id] = peer
            onConnect(peer)
        } catch {
            refuse(arrival, .noResources, "\(endpoint) cannot serve one more client: \(error)")
        }
    }

    // MARK: Departures

    private func hearSocket(_ peer: Peer) {
        guard peer.isConnected else { return }
        do throws(DecodeError) {
            guard try peer.link.drainSocket() else { return }
            // What it wrote before it hung up counts, as with any socket.
            var taken = 0
            while taken < Self.lastFramesMax, peer.isConnected, let lane = peer.link.reader.readyLane() {
                _ = try take(peer, lane)
                taken += 1
            }
            drop(peer, reason: "hung up")
        } catch {
            drop(peer, reason: "protocol violation: \(error)")
        }
        settleDoomed()
    }

    /// Drops a peer when the current handler is through.
    func dropSoon(_ peer: Peer, reason: String) {
        guard peer.isConnected, !doomed.contains(where: { $0.peer === peer }) else { return }
        doomed.append((peer, reason))
        loop.enqueue(.control) { [backlink] in backlink.owner?.settleDoomed() }
    }

    private func settleDoomed() {
        while let next = doomed.popLast() { drop(next.peer, reason: next.reason) }
    }

    private func drop(_ peer: Peer, reason: String) {
        guard peersByID.removeValue(forKey: peer.id) != nil else { return }
        peer.endReason = reason
        if let watch = peer.bellWatch { loop.unwatch(watch) }
        if let watch = peer.socketWatch { loop.unwatch(watch) }
        hot.removeAll { $0 === peer }
        UnixSocket.shutDown(peer.link.socket.raw)
        peer.session.memory.connectionLost()
        if peer.session.peer === peer {
            peer.session.peer = nil
            retain(peer.session)
        }
        onDisconnect(peer)
    }

    private func retain(_ session: Session) {
        guard !isClosed else { return }
        detached += 1
        session.detachedAt = detached
        session.expiry = loop.schedule(after: options.sessionRetention) { [backlink, id = session.id] in
            backlink.owner?.sessions[id] = nil
        }
        let waiting = sessions.values.filter { $0.peer == nil }
        guard waiting.count > options.sessionsMax, let oldest = waiting.min(by: { $0.detachedAt < $1.detachedAt })
        else {
            return
        }
        if let timer = oldest.expiry { loop.cancel(timer) }
        sessions[oldest.id] = nil
    }

    // MARK: Frames

    func markHot(_ peer: Peer) {
        guard !peer.isHot, peer.isConnected else { return }
        peer.isHot = true
        peer.link.reader.announceAwake()
        hot.append(peer)
    }

    /// Takes a bounded number of frames of the clients that are hot; true when there was one.
    private func poll() -> Bool {
        guard !hot.isEmpty else { return false }
        var taken = 0
        while taken < Self.framesPerPoll, let (peer, lane) = nextReady() {
            taken += take(peer, lane, atMost: Self.framesPerPeer)
            if !doomed.isEmpty { settleDoomed() }
        }
        return taken > 0
    }

    /// The most urgent lane with something to read; clients take turns within it.
    @inline(__always)
    private func nextReady() -> (Peer, Lane)? {
        let count = hot.count
        if count == 1 { return hot[0].link.reader.readyLane().map { (hot[0], $0) } }
        for lane in Lane.allCases {
            for offset in 0..<count {
                let peer = hot[(turn &+ offset) % count]
                if peer.link.reader.hasData(lane) {
                    turn = (turn &+ offset &+ 1) % count
                    return (peer, lane)
                }
            }
        }
        return nil
    }

    private func take(_ peer: Peer, _ lane: Lane, atMost limit: Int) -> Int {
        var taken = 0
        do throws(DecodeError) {
            while taken < limit, peer.isConnected, try take(peer, lane) { taken += 1 }
        } catch {
            drop(peer, reason: "protocol violation: \(error)")
            return max(1, taken)
        }
        return max(1, taken)
    }

    private func take(_ peer: Peer, _ lane: Lane) throws(DecodeError) -> Bool {
        var violation: String?
        let isTaken = try peer.link.receive(lane) { header, body, descriptors in
            switch header.kind {
            case .request:
                serve(peer, header, body, descriptors)
            case .oneWay:
                for descriptor in descriptors { IO.close(descriptor) }
                onOneWay(peer, header.code, body)
            case .hello, .welcome, .refused, .reply, .failure, .pad, .carried, .memory:
                for descriptor in descriptors { IO.close(descriptor) }
                violation = "a client sent a frame of kind \(header.kind)"
            }
        }
        if let violation { throw .badValue(violation) }
        return isTaken
    }

    private func serve(_ peer: Peer, _ header: FrameHeader, _ body: UnsafeRawBufferPointer, _ descriptors: [Int32]) {
        let session = peer.session
        let verdict = session.memory.begin(
            header.number, acknowledged: header.acknowledged, lane: header.lane, code: header.code)
        if verdict == .execute {
            let isForeign = header.flags.contains(.retransmission) && !peer.isReconnect
            let request = Request(
                peer: peer, id: RequestID(session: session.id, number: header.number), code: header.code,
                lane: header.lane, isRetransmission: isForeign,
                acknowledged: min(header.acknowledged, header.number &- 1),
                descriptors: descriptors, session: session)
            onRequest(request, body)
            return
        }
        for descriptor in descriptors { IO.close(descriptor) }
        switch verdict {
        case .execute, .inProgress: break
        case .answered(let index): peer.send(answer: index)
        case .forgotten:
            peer.refuse(header.number, header.lane, .timeout, "executed before; the answer is not kept any more")
        case .overloaded:
            let limit = options.memoryLimits.requestsMax
            peer.refuse(header.number, header.lane, .tryAgain, "\(endpoint): more than \(limit) requests outstanding")
        }
    }

    /// From now on the clients must ring; true when one has written meanwhile.
    private func announceSleep() -> Bool {
        while let peer = hot.last {
            guard peer.link.reader.announceSleep(bell: 1) else { return true }
            peer.isHot = false
            hot.removeLast()
        }
        return false
    }
}
