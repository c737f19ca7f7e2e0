import CkptEngine
import CkptProtocol
import EOLoop
import EngineKit
import IOC
import IOCCluster
import IOCLinks
import OSAL
import SAFTypes

/// Between the ckptd of two nodes: what replicas say to each other, and requests of clients for the active replica.
/// Decides nothing. Loop thread only.
final class ReplicaLinks {
    /// Small messages overtake data; data of a replica keeps its order.
    private static let small = Lane.high
    private static let data = Lane.normal
    private static let requests = Lane.normal

    /// A message, with the whole body and a reader of what follows its head; valid during the call.
    var onMessage: (ReplicaMessage, NodeID, UnsafeRawBufferPointer, ByteReader) -> Void = { _, _, _, _ in }
    /// A request of another node's client, with the body as the client sent it; valid during the call.
    var onRequest: (ForwardedHead, PeerRequest, UnsafeRawBufferPointer) -> Void = { _, _, _ in }
    /// Somebody asks how far this node's replicas are.
    var onQuestion: (CheckpointID?) -> [ReplicaStanding] = { _ in [] }
    /// Somebody asks whether this node still goes along with it: how far the directory is here, or nil.
    var onTouch: (NodeID) -> UInt64? = { _ in nil }
    var onUp: (NodeID) -> Void = { _ in }
    var onDown: (NodeID) -> Void = { _ in }
    /// There is room for data again.
    var onWritable: (NodeID) -> Void = { _ in }

    private let links: PeerLinks
    private let note: (String) -> Void
    private var writer = ByteWriter(reserving: 512)
    /// A small message found no room: both sides say anew where they are when there is some.
    private var unheard: Set<NodeID> = []

    init(
        loop: Loop, description: ClusterDescription, incarnation: UInt64, note: @escaping (String) -> Void
    ) throws(LinkError) {
        self.note = note
        var options = LinkOptions()
        options.messages = ForwardedHead.versions
        links = try PeerLinks(
            loop: loop, service: .ckptd, description: description, incarnation: incarnation, options: options)
        links.onUp = { [unowned self] node, _, _ in
            unheard.remove(node)
            onUp(node)
        }
        links.onDown = { [unowned self] node, _ in
            unheard.remove(node)
            onDown(node)
        }
        links.onWritable = { [unowned self] node, lane in
            if lane == Self.small, unheard.remove(node) != nil { onUp(node) }
            if lane == Self.data { onWritable(node) }
        }
        links.onMessage = { [unowned self] node, code, _, body in take(node, code, body) }
        links.onRequest = { [unowned self] request, body in take(request, body) }
        links.onTrouble = note
    }

    var status: [LinkStatus] { links.status }
    func isUp(_ node: NodeID) -> Bool { links.isUp(node) }

    /// A view says that these nodes are there, and no others: what was asked of another is known to have no answer.
    func follow(_ nodes: [NodeID]) { links.follow(nodes) }
    func update(_ description: ClusterDescription) throws(LinkError) { try links.update(nodes: description.nodes) }
    func close() { links.close() }

    // MARK: Replicas

    /// Sends a message without data; what is lost is made up for by ``onUp``.
    func send(_ message: ReplicaMessage, to node: NodeID) {
        writer.removeAll()
        writer.value(message)
        let outcome = writer.bytes.withUnsafeBytes {
            links.send(CkptPeerCode.replica.rawValue, $0, to: node, lane: Self.small)
        }
        if outcome == .full { unheard.insert(node) }
    }

    /// Sends a head with data behind it; false when the lane is full. Without a link it is as good as sent: the next
    /// link begins anew.
    func send(data body: [UInt8], to node: NodeID) -> Bool {
        links.send(CkptPeerCode.replica.rawValue, body, to: node, lane: Self.data) != .full
    }

    private func take(_ node: NodeID, _ code: UInt16, _ body: UnsafeRawBufferPointer) {
        do throws(DecodeError) {
            guard code == CkptPeerCode.replica.rawValue else { throw .badValue("message code \(code)") }
            var reader = ByteReader(body)
            let message = try ReplicaMessage(decoding: &reader)
            onMessage(message, node, body, reader)
        } catch {
            note("node \(node) sent what is no message of ckptd: \(error)")
        }
    }

    // MARK: Requests

    /// Asks the active replica's node; `then` is called once, never before this returns. `body` is the client's.
    func forward(
        _ head: ForwardedHead, _ body: [UInt8], to node: NodeID, timeout: Duration,
        then: @escaping (Result<ForwardedAnswer, RequestTable.Failure>) -> Void
    ) {
        var writer = ByteWriter(reserving: 128 + body.count)
        let code = head.encode(version: links.messages(to: node) ?? 1, to: &writer)
        writer.raw(body)
        links.callLending(
            code.rawValue, writer.bytes, to: node, lane: Self.requests, timeout: timeout
        ) { [unowned self] result in
            switch result {
            case .success(let bytes):
                do throws(DecodeError) {
                    then(.success(try ForwardedAnswer(lending: bytes)))
                } catch {
                    note("node \(node) gave an answer that cannot be understood: \(error)")
                    then(.failure(.unknown))
                }
            case .failure(let error): then(.failure(error.code == .tryAgain ? .untouched : .unknown))
            }
        }
    }

    /// Asks a node what its replicas are like; nil when it does not say.
    func ask(_ id: CheckpointID?, of node: NodeID, timeout: Duration, then: @escaping ([ReplicaStanding]?) -> Void) {
        var writer = ByteWriter()
        writer.integer(id?.rawValue ?? 0)
        links.callLending(
            CkptPeerCode.standing.rawValue, writer.bytes, to: node, lane: Self.small, timeout: timeout
        ) { result in
            guard case .success(let answer) = result else { return then(nil) }
            do throws(DecodeError) {
                var reader = ByteReader(answer)
                then(try reader.list())
            } catch {
                then(nil)
            }
        }
    }

    /// Asks a node for its promise, see ``ReadGrants``; tells how far the directory is there, nil: no answer.
    func touch(_ node: NodeID, timeout: Duration, then: @escaping (UInt64?) -> Void) {
        links.callLending(CkptPeerCode.touch.rawValue, [], to: node, lane: Self.small, timeout: timeout) { result in
            guard case .success(let answer) = result else { return then(nil) }
            // The version before this one answers without a body.
            then(answer.count < 8 ? 0 : UInt64(littleEndian: answer.loadUnaligned(as: UInt64.self)))
        }
    }

    private func take(_ request: PeerRequest, _ body: UnsafeRawBufferPointer) {
        do throws(DecodeError) {
            var reader = ByteReader(body)
            switch CkptPeerCode(rawValue: request.code) {
            case .request, .requestOfActive:
                let isOfActive = request.code == CkptPeerCode.requestOfActive.rawValue
                let head = try ForwardedHead(decoding: &reader, isOfActive: isOfActive)
                onRequest(head, request, UnsafeRawBufferPointer(rebasing: body[reader.offset...]))
            case .standing:
                let id = try reader.integer(UInt64.self)
                var writer = ByteWriter()
                writer.list(onQuestion(id == 0 ? nil : CheckpointID(rawValue: id)))
                request.reply(writer.bytes)
            case .touch:
                guard let index = onTouch(request.node) else {
                    return request.fail(.tryAgain, "this node takes no part in the directory now")
                }
                var writer = ByteWriter()
                writer.integer(index)
                request.reply(writer.bytes)
            case .replica, nil: request.fail(.notSupported, "request code \(request.code)")
            }
        } catch {
            request.fail(.invalidParam, "\(error)")
        }
    }
}
