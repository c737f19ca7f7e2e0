import ClmEngine
import ClmProtocol
import EOHost
public import EOLoop
import EOReplicated
import EngineKit
import IOC
public import IOCCluster
import IOCGroups
public import OSAL
import SAFTypes

/// The shell of clmd: performs what ``ClmEngine`` and the replicated ``ClusterTable`` decide. Loop thread only.
public final class ClmDaemon {
    public static let groupName = "clm"

    let loop: Loop
    private let server: IOCServer
    private let journal: NameJournal
    private let places: Places
    private let note: (String) -> Void
    private var record: MemberRecord
    var engine: ClmEngine
    let host: ReplicaHost<ClusterTable>
    private let isAlone: Bool
    private var watch: DescriptionWatch?
    /// What waits for its answer, by the number the engine knows it by.
    private var requests: [UInt64: (ClmEngine.Reply) -> Void] = [:]
    private var lastRequest: UInt64 = 0
    /// The request that a proposal answers, by the proposal's ticket.
    private var requestOfTicket: [UInt64: UInt64] = [:]
    private var backlog = OutcomeBacklog()
    private var peers: [ClientSession: Peer] = [:]
    /// Topology notices were dropped: the client is told as soon as it reads again.
    private var overflowed: Set<ClientSession> = []
    private var compareTimer: (at: Instant, timer: LoopTimer)?
    private var onLeft: (() -> Void)?

    /// - Parameters:
    ///   - description: of the cluster, and which node of it this is.
    ///   - note: one line for the log, for each thing an operator should know.
    /// - Throws: EADDRINUSE when another clmd serves these places, and what the file system says.
    public init(
        loop: Loop, places: Places, description: ClusterDescription, note: @escaping (String) -> Void
    ) throws(OSError) {
        self.loop = loop
        self.places = places
        self.note = note
        isAlone = description.groupEngine == .alone
        try File.makeDirectories(places.runDirectory)
        record = try MemberRecord.load(places, note: note)
        journal = try NameJournal(places: places, note: note)
        // Not the pid: a restored state remembers the proposals of earlier incarnations, and pids come again.
        host = ReplicaHost(
            loop: loop, description: description, incarnation: UInt64(MonotonicClock.wallNanoseconds()),
            core: ClusterTable(), restoring: journal.records
        ) { $0.isJournaling = true }
        if let failure = host.restoreFailure {
            note("the table of the previous life is damaged and is built again by the clients: \(failure)")
        }
        engine = ClmEngine(
            me: NodeRecord(description.local, record), viewFloor: record.viewNumber, restored: host.core)
        var options = ServerOptions()
        options.socketMode = 0o666  // every user's components may look names up; binding is per session
        server = try IOCServer(loop: loop, endpoint: .wellKnown(.clmd), places: places, options: options)
        let access = LocalAccess(description.access)
        server.admit = { access.admits(user: $0.credentials.uid, groups: $0.groups) ? nil : .access }
        server.onConnect = { [unowned self] peer in peers[session(of: peer)] = peer }
        server.onDisconnect = { [unowned self] peer in disconnected(peer) }
        server.onRequest = { [unowned self] request, body in asked(request, body) }
        listenToGroup()
        host.start(Self.groupName)
        perform(engine.start())
        watch = DescriptionWatch(loop: loop, places: places, description: description) { [unowned self] in
            host.expect(nodes: $0.nodes.count)
        }
    }

    private func listenToGroup() {
        host.onJournal = { [unowned self] write in
            do throws(OSError) {
                try journal.write(write)
            } catch {
                note("the table is not kept for the next clmd, whose clients will bind again: \(error)")
            }
        }
        host.onEffect = { [unowned self] outcome, ticket in
            backlog.append(outcome, ticket.flatMap { requestOfTicket[$0] }, at: host.replicated.index)
        }
        host.onCommitted = { [unowned self] _ in release() }
        host.onAnswer = { [unowned self] ticket, outcome in
            release()
            answered(ticket, outcome)
            settleLeave()
        }
        host.onStateReplaced = { [unowned self] in
            backlog.removeAll()
            handle(.replaced(host.core))
        }
        host.onStatus = { [unowned self] _ in stand() }
        host.onView = { [unowned self] _ in stand() }
        host.onNote = { [unowned self] note in tell(note) }
    }

    private func release() {
        while let next = backlog.next(through: host.replicated.committedIndex) {
            handle(.table(next.outcome, next.request))
        }
    }

    /// Stops serving. Hanging up on the clients says nothing about them: they will be found again by the next life.
    public func close() {
        server.onDisconnect = { _ in }
        server.close()
        watch?.close()
        host.close()
        if let (_, timer) = compareTimer { loop.cancel(timer) }
        compareTimer = nil
    }

    /// Takes leave of the cluster, so that the others need not find out; `then` is called when they know, or when they
    /// cannot be told within a second. A node alone has nobody to leave.
    public func leave(then: @escaping () -> Void) {
        guard !isAlone, host.status == .synchronised, engine.isLocalMember || host.core.isLocked(engine.localNode)
        else { return then() }
        onLeft = then
        _ = loop.schedule(after: .seconds(1)) { [weak self] in self?.left() }
        handle(.leaving)
    }

    private func settleLeave() {
        if onLeft != nil, host.core.record(of: engine.localNode) == nil { left() }
    }

    private func left() {
        let then = onLeft
        onLeft = nil
        then?()
    }

    // MARK: Events

    func session(of peer: Peer) -> ClientSession {
        ClientSession(node: engine.localNode, high: peer.sessionID.high, low: peer.sessionID.low)
    }

    private func disconnected(_ peer: Peer) {
        let session = session(of: peer)
        // The same client may be back already, on a newer connection.
        guard peers[session] === peer else { return }
        peers[session] = nil
        overflowed.remove(session)
        handle(.disconnected(session))
    }

    private func asked(_ request: Request, _ body: UnsafeRawBufferPointer) {
        for descriptor in request.descriptors { IO.close(descriptor) }
        do throws(DecodeError) {
            guard let code = ClmRequestCode(rawValue: request.code) else {
                return request.fail(.notSupported, "clmd knows no request \(request.code)")
            }
            let decoded = try ClmEngine.Request(code, body)
            ask(decoded, from: session(of: request.peer)) { request.answer($0) }
        } catch {
            request.fail(.invalidParam, "clmd cannot read request \(request.code): \(error)")
        }
    }

    func ask(_ request: ClmEngine.Request, from session: ClientSession, then: @escaping (ClmEngine.Reply) -> Void) {
        lastRequest += 1
        requests[lastRequest] = then
        handle(.request(lastRequest, request, from: session))
    }

    private func answered(_ ticket: UInt64, _ outcome: ProposalOutcome) {
        var refusal: AisError?
        if case .refused(let error) = outcome { refusal = error }
        if let request = requestOfTicket.removeValue(forKey: ticket) {
            handle(.answered(request, refusal))
        } else if refusal != nil {
            handle(.refused)
        }
    }

    private func stand() {
        let quorum: ClmEngine.Standing.Quorum =
            switch host.status {
            case .outside, .withoutQuorum: .none
            case .forming, .synchronising: .forming
            case .synchronised: .synchronised
            }
        let view = host.view
        handle(
            .standing(
                ClmEngine.Standing(
                    quorum: quorum, isOldest: host.isOldest, members: view?.members.map(\.node) ?? [],
                    present: view?.nodes ?? [])))
    }

    private func handle(_ event: ClmEngine.Event) { perform(engine.handle(event, at: loop.now)) }

    // MARK: Effects

    private func perform(_ effects: [ClmEngine.Effect]) {
        for effect in effects {
            switch effect {
            case .propose(let command, let request):
                if let request { requestOfTicket[host.nextTicket] = request }
                host.propose(command)
            case .reply(let id, let reply): requests.removeValue(forKey: id)?(reply)
            case .pushTopology(let notice, let session): push(.topology, notice.encoded, to: session)
            case .pushView(let view, let session): push(.membership, view.encoded, to: session)
            case .startSettlingTimer(let time):
                _ = loop.schedule(after: time) { [weak self] in self?.handle(.settlingTimeOver) }
            case .compare(let delay): compare(after: delay)
            case .keep(let viewNumber): keep(viewNumber)
            }
        }
    }

    /// One timer, for the earliest that was asked for.
    private func compare(after delay: Duration) {
        guard delay > .zero else { return handle(.compared(host.core)) }
        let instant = loop.now + delay
        if let (at, timer) = compareTimer {
            guard instant < at else { return }
            loop.cancel(timer)
        }
        let timer = loop.schedule(after: delay) { [unowned self] in
            compareTimer = nil
            stand()  // compares, if there is anything to compare with
        }
        compareTimer = (instant, timer)
    }

    private func keep(_ viewNumber: UInt64) {
        guard viewNumber > record.viewNumber else { return }
        record.viewNumber = viewNumber
        let (record, places, note) = (record, places, note)
        let isTaken = loop.runSlow(
            { () -> OSError? in
                do throws(OSError) { try record.keep(places) } catch { return error }
                return nil
            },
            then: { error in
                if let error { note("view number \(viewNumber) is not kept for the next start of the node: \(error)") }
            })
        if !isTaken { note("view number \(viewNumber) is not kept for the next start of the node: too much to write") }
    }

    private func push(_ code: ClmPushCode, _ body: [UInt8], to session: ClientSession) {
        guard let peer = peers[session], !overflowed.contains(session) else { return }
        guard peer.push(code.rawValue, lane: .high, body) == .dropped else { return }
        overflowed.insert(session)
        peer.onWritable = { [unowned self, unowned peer] in
            peer.onWritable = nil
            if overflowed.remove(session) != nil { handle(.overflowed(session)) }
        }
    }

    private func tell(_ replicaNote: ReplicatedNote) {
        switch replicaNote {
        case .formed, .snapshotOffered, .snapshotLoaded: break  // the life of a group
        case .formedWithoutMajority where isAlone: break
        case .groupLost(let reason): note("the cluster is lost: \(reason); joining again")
        default: note("the group of clmd: \(replicaNote)")
        }
    }
}

extension NodeRecord {
    init(_ described: ClusterDescribedNode, _ record: MemberRecord) {
        let addresses = described.addresses.prefix(Self.addressesMax).map(\.host)
        let shortest = addresses.first { $0.utf8.count <= ClusterNode.addressBytesMax } ?? ""
        let node = ClusterNode(
            nodeID: described.id, name: described.name, address: shortest, isMember: false,
            bootTimestamp: record.bootTimestamp, initialViewNumber: 0)
        self.init(node: node, addresses: addresses, incarnation: record.incarnation)
    }
}

extension Request {
    fileprivate func answer(_ reply: ClmEngine.Reply) {
        switch reply {
        case .done: self.reply([])
        case .lookup(let body): self.reply(body.encoded)
        case .view(let view): self.reply(view.encoded)
        case .node(let node): self.reply(node.encoded)
        case .failed(let error, let text): fail(error, text)
        }
    }
}

extension ClmEngine.Request {
    init(_ code: ClmRequestCode, _ body: UnsafeRawBufferPointer) throws(DecodeError) {
        switch code {
        case .bind: self = .bind(try NameBinding(decoding: body))
        case .withdraw: self = .withdraw(try NameBinding(decoding: body))
        case .lookup: self = .lookup(try LookupRequest(decoding: body))
        case .subscribe: self = .subscribe(try SubscribeRequest(decoding: body))
        case .unsubscribe:
            var reader = ByteReader(body)
            self = .unsubscribe(try reader.integer())
            try reader.finish()
        case .track: self = .track(try TrackFlags(decoding: body))
        case .trackStop:
            guard body.isEmpty else { throw .trailing(body.count) }
            self = .trackStop
        case .nodeGet: self = .nodeGet(try NodeID(decoding: body))
        case .respond: self = .respond(try ChangeResponse(decoding: body))
        case .administer: self = .administer(try NodeAdministration(decoding: body))
        }
    }
}
