import AmfEngine
import AmfProtocol
import EOLoop
import IOC
import IOCCluster
import OSAL
import SAFTypes

/// amfd's door: takes requests of components and tools, checks who asks, and pushes callbacks. Loop thread only.
final class Gateway {
    /// A checked request for the node engine; it is answered with ``answer(_:_:)`` under its ticket. `pid` is the
    /// component's process (also when a helper of its session asks), else the asking process.
    var onRequest: (AmfRequest, _ ticket: UInt64, _ pid: Int32) -> Void = { _, _, _ in }
    var onConnectionLost: (ChildKey) -> Void = { _ in }
    var onNote: (ShellNote) -> Void = { _ in }

    private let server: IOCServer
    private let keeper: ProcessKeeper
    private let node: NodeID
    private let incarnation: UInt64
    private var open: [UInt64: Open] = [:]
    private var bound: [SaName: Binding] = [:]
    private var lastTicket: UInt64 = 0

    private struct Open {
        let request: Request
        let content: AmfRequest
    }

    fileprivate final class Binding {
        let key: ChildKey
        unowned let peer: Peer
        /// The peer is there, and has registered nothing else since.
        var isBound = true
        init(key: ChildKey, peer: Peer) { (self.key, self.peer) = (key, peer) }
    }

    init(
        loop: Loop, places: Places, access: LocalAccess, keeper: ProcessKeeper, node: NodeID, incarnation: UInt64
    ) throws(OSError) {
        (self.keeper, self.node, self.incarnation) = (keeper, node, incarnation)
        var options = ServerOptions()
        // Components may run as other users; what each may ask is checked below.
        options.socketMode = 0o666
        server = try IOCServer(loop: loop, endpoint: .wellKnown(.amfd), places: places, options: options)
        // A component may always speak to the amfd that has started it.
        server.admit = { [unowned keeper] peer in
            let isAdmitted = access.admits(user: peer.credentials.uid, groups: peer.groups)
            return isAdmitted || keeper.child(ofMember: peer.credentials.pid) != nil ? nil : .access
        }
        server.onRequest = { [unowned self] request, body in receive(request, body) }
        server.onOneWay = { [unowned self] peer, code, body in hear(peer, code, body) }
        server.onDisconnect = { [unowned self] peer in lost(peer) }
    }

    func close() { server.close() }

    // MARK: Requests

    private func receive(_ request: Request, _ body: UnsafeRawBufferPointer) {
        for descriptor in request.descriptors { IO.close(descriptor) }
        let content: AmfRequest
        do throws(DecodeError) {
            content = try AmfRequest(code: request.code, body: body)
        } catch {
            return request.fail(.invalidParam, "amfd cannot read request \(request.code): \(error)")
        }
        let peer = request.peer.info.credentials
        let child = keeper.child(ofMember: peer.pid)
        if let refusal = refusal(content, peer, child) {
            onNote(.refusedPeer(pid: peer.pid, reason: refusal))
            return request.fail(.access, refusal)
        }
        lastTicket += 1
        open[lastTicket] = Open(request: request, content: content)
        onRequest(content, lastTicket, child?.pid ?? peer.pid)
    }

    /// An answer to a health check: nobody waits for an answer to it.
    private func hear(_ peer: Peer, _ code: UInt16, _ body: UnsafeRawBufferPointer) {
        guard let content = try? AmfRequest(code: code, body: body), case .response = content else {
            return onNote(.refusedPeer(pid: peer.info.credentials.pid, reason: "message \(code) is no answer"))
        }
        let credentials = peer.info.credentials
        let child = keeper.child(ofMember: credentials.pid)
        if let refusal = refusal(content, credentials, child) {
            return onNote(.refusedPeer(pid: credentials.pid, reason: refusal))
        }
        lastTicket += 1  // not open: the reply under it is dropped
        onRequest(content, lastTicket, child?.pid ?? credentials.pid)
    }

    /// Nil when this process may ask this.
    private func refusal(_ content: AmfRequest, _ peer: PeerCredentials, _ child: Child?) -> String? {
        switch content {
        case .admin, .status, .loadModel, .stopNode:
            if peer.uid == 0 || peer.uid == Environment.userID { return nil }
            return "user \(peer.uid) may not administer this node; use root or user \(Environment.userID)"
        case .response, .quiescingComplete:
            return child == nil ? "process \(peer.pid) belongs to no component that amfd started" : nil
        case .register(let registration): return membership(registration.component, peer, child)
        case .healthcheckStart(let component, _, _, _), .healthcheckConfirm(let component, _, _),
            .healthcheckStop(let component, _), .errorReport(let component, _), .errorClear(let component),
            .unregister(let component), .haStateGet(let component, _):
            return membership(component, peer, child)
        }
    }

    private func membership(_ component: SaName, _ peer: PeerCredentials, _ child: Child?) -> String? {
        guard let child else {
            return "process \(peer.pid) belongs to no component that amfd started; it cannot act as \(component)"
        }
        return child.key.component == component
            ? nil : "process \(peer.pid) belongs to \(child.key.component), not \(component)"
    }

    // MARK: Answers

    /// The content of an open request, and its end: what is forwarded is answered by ``finish(_:_:)`` later.
    func content(_ ticket: UInt64) -> AmfRequest? { open[ticket]?.content }

    /// Who asks.
    func asker(_ ticket: UInt64) -> PeerCredentials? { open[ticket]?.request.peer.info.credentials }

    func answer(_ ticket: UInt64, _ reply: NodeReply) {
        guard let entry = open[ticket] else { return }
        switch reply {
        case .done: finish(ticket, .success([]))
        case .haState(let state): finish(ticket, .success([state.rawValue]))
        case .failed(let error, let text): finish(ticket, .failure(CallError(error, text)))
        case .registered(let component, let instance):
            open[ticket] = nil
            bind(entry.request, ChildKey(component: component, instance: instance))
        case .forward: break
        }
    }

    func finish(_ ticket: UInt64, _ outcome: Result<[UInt8], CallError>) {
        guard let entry = open.removeValue(forKey: ticket) else { return }
        switch outcome {
        case .success(let body): entry.request.reply(body)
        case .failure(let error): entry.request.fail(error.code, error.text)
        }
    }

    private func bind(_ request: Request, _ key: ChildKey) {
        let binding = Binding(key: key, peer: request.peer)
        bound[key.component]?.isBound = false
        request.peer.context = binding
        bound[key.component] = binding
        let page = keeper.beginLife(key, holder: request.peer.info.credentials.pid)
        let reply = RegisterReply(node: node, incarnation: incarnation, lifeLockOffset: 0)
        request.reply(reply.encoded, descriptors: page.map { [$0.raw] } ?? [])
    }

    // MARK: Callbacks

    /// Pushes a callback to the component it is for; one that is not connected gets it when it registers again.
    func push(_ push: AmfPush) {
        guard let binding = bound[push.component] else { return }
        if binding.peer.push(push.code.rawValue, lane: .control, push.body) == .dropped {
            onNote(.pushDropped(push.component))
        }
    }

    /// Nil when the component is not connected.
    func prepare(_ push: AmfPush) -> PreparedPush? {
        bound[push.component].map { PreparedPush(code: push.code.rawValue, body: push.body, binding: $0) }
    }

    private func lost(_ peer: Peer) {
        guard let binding = peer.context as? Binding, bound[binding.key.component] === binding else { return }
        bound[binding.key.component] = nil
        binding.isBound = false
        onConnectionLost(binding.key)
    }
}

/// A callback that only has to be sent.
struct PreparedPush {
    fileprivate let code: UInt16
    fileprivate let body: [UInt8]
    fileprivate let binding: Gateway.Binding

    /// False when it could not be sent: the component has gone, or takes nothing.
    func send() -> Bool {
        binding.isBound && binding.peer.push(code, lane: .control, body) == .queued
    }
}

extension AmfPush {
    var component: SaName {
        switch self {
        case .csiSet(_, let component, _, _), .csiRemove(_, let component, _), .terminate(_, let component),
            .healthcheck(_, let component, _):
            component
        }
    }
}
