import ClmEngine
import ClmProtocol
public import EOLoop
import EOReplicated
import EngineKit
import IOC
import IOCGroups
public import OSAL
public import SAFTypes

/// The shell of clmd: performs what ``ClmEngine`` and the replicated ``NameTable`` decide. Loop thread only.
public final class ClmDaemon {
    private let loop: Loop
    private let server: IOCServer
    private let journal: NameJournal
    private let note: (String) -> Void
    private var engine: ClmEngine
    private var group: ReplicatedNode<NameTable, LoopbackGroup>
    /// Requests that wait for their answer, by the number the engine knows them by.
    private var requests: [UInt64: Request] = [:]
    private var lastRequest: UInt64 = 0
    private var peers: [ClientSession: Peer] = [:]
    /// Topology notices were dropped: the client is told as soon as it reads again.
    private var overflowed: Set<ClientSession> = []
    private var settlingTimer: LoopTimer?

    /// - Parameters:
    ///   - nodeID: of this node.
    ///   - note: one line for the log, for each thing an operator should know.
    /// - Throws: EADDRINUSE when another clmd serves these places, and what the file system says.
    public init(
        loop: Loop, places: Places, nodeID: NodeID, note: @escaping (String) -> Void
    ) throws(OSError) {
        self.loop = loop
        self.note = note
        try File.makeDirectories(places.runDirectory)
        let record = try MemberRecord.load(places, note: note)
        journal = try NameJournal(places: places, note: note)
        // Not the pid: a restored state remembers the proposals of earlier incarnations, and pids come again.
        let member = GroupMember(node: nodeID, incarnation: UInt64(MonotonicClock.wallNanoseconds()))
        var configuration = ReplicatedConfiguration(member: member)
        configuration.isJournaling = true
        configuration.digestInterval = 0
        let replicated: Replicated<NameTable>
        do throws(DecodeError) {
            replicated = try Replicated(core: NameTable(), configuration: configuration, restoring: journal.records)
        } catch {
            note("the name table of the previous life is damaged and is built again by the clients: \(error)")
            replicated = Replicated(core: NameTable(), configuration: configuration)
        }
        group = ReplicatedNode(replicated, over: LoopbackGroup(member: member))
        let node = ClusterNode(
            nodeID: nodeID, name: SaName(places.nodeName) ?? SaName("node")!, bootTimestamp: record.bootTimestamp,
            initialViewNumber: record.initialViewNumber)
        engine = ClmEngine(local: node, viewNumber: record.viewNumber, restored: group.core)
        var options = ServerOptions()
        options.socketMode = 0o666  // every user's components may look names up; binding is per session
        server = try IOCServer(loop: loop, endpoint: .wellKnown(.clmd), places: places, options: options)
        server.onConnect = { [unowned self] peer in connected(peer) }
        server.onDisconnect = { [unowned self] peer in disconnected(peer) }
        server.onRequest = { [unowned self] request, body in asked(request, body) }
        do throws(GroupError) {
            perform(try group.start("clmd", at: loop.now))
        } catch {
            invariant(false, "a group of one cannot be refused: \(error)")
        }
        perform(engine.start())
    }

    /// Stops serving. Hanging up on the clients says nothing about them: they will be found again by the next life.
    public func close() {
        server.onDisconnect = { _ in }
        server.close()
    }

    /// The view, the members and the names, for the console.
    public var viewNumber: UInt64 { engine.viewNumber }
    public var nodes: [ClusterNode] { engine.members.values.sorted { $0.nodeID < $1.nodeID } }
    public var names: [NameBinding] { engine.visibleBindings }
    public var clientCount: Int { peers.count }

    // MARK: Events

    private func session(of peer: Peer) -> ClientSession {
        ClientSession(node: engine.localNode, high: peer.sessionID.high, low: peer.sessionID.low)
    }

    private func connected(_ peer: Peer) { peers[session(of: peer)] = peer }

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
            lastRequest += 1
            requests[lastRequest] = request
            handle(.request(lastRequest, decoded, from: session(of: request.peer)))
        } catch {
            request.fail(.invalidParam, "clmd cannot read request \(request.code): \(error)")
        }
    }

    private func handle(_ event: ClmEngine.Event) { perform(engine.handle(event, at: loop.now)) }

    // MARK: Effects

    private func perform(_ effects: [ClmEngine.Effect]) {
        for effect in effects {
            switch effect {
            case .propose(let command, let request):
                perform(group.propose(command, ticket: request ?? 0, at: loop.now))
            case .reply(let id, let reply): requests.removeValue(forKey: id).map { answer($0, reply) }
            case .pushTopology(let notice, let session): push(.topology, notice.encoded, to: session)
            case .pushView(let view, let session): push(.membership, view.encoded, to: session)
            case .startSettlingTimer(let time):
                settlingTimer = loop.schedule(after: time) { [unowned self] in handle(.settlingTimeOver) }
            }
        }
    }

    private func perform(_ outputs: [ReplicatedNode<NameTable, LoopbackGroup>.Output]) {
        for output in outputs {
            switch output {
            case .journal(let write):
                do throws(OSError) {
                    try journal.write(write)
                } catch {
                    note("the name table is not kept for the next clmd, whose clients will bind again: \(error)")
                }
            case .perform(let outcome, let ticket): handle(.names(outcome, ticket == 0 ? nil : ticket))
            case .answer(let ticket, let outcome):
                guard ticket != 0 else { continue }
                if case .refused(let error) = outcome {
                    handle(.answered(ticket, error))
                } else {
                    handle(.answered(ticket, nil))
                }
            case .performOnce(let id, _): perform(group.effectDone(id, at: loop.now))
            // A group of one: the state is what was restored, the status is fixed.
            case .stateReplaced, .status, .view, .sendSnapshot: break
            case .note: break  // about other members
            }
        }
    }

    private func answer(_ request: Request, _ reply: ClmEngine.Reply) {
        switch reply {
        case .done: request.reply([])
        case .lookup(let reply): request.reply(reply.encoded)
        case .view(let view): request.reply(view.encoded)
        case .node(let node): request.reply(node.encoded)
        case .failed(let error, let text): request.fail(error, text)
        }
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
        }
    }
}
