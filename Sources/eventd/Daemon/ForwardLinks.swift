import EngineKit
import EOLoop
import EventEngine
import IOCCluster
import IOCLinks
import OSAL
import SAFTypes

/// Messages to and from the eventd of other nodes; decides nothing about them. Loop thread only.
final class ForwardLinks {
    var handle: (NodeEngine.Event) -> Void = { _ in }
    private let links: PeerLinks
    /// Nodes whose lane was full: nothing is forwarded, so that the order is kept, until there is room.
    private var refusing: Set<NodeID> = []

    init(
        loop: Loop, description: ClusterDescription, incarnation: UInt64, note: @escaping (String) -> Void
    ) throws(LinkError) {
        links = try PeerLinks(loop: loop, service: .eventd, description: description, incarnation: incarnation)
        links.onUp = { [unowned self] node, _, _ in
            refusing.remove(node)
            handle(.link(node, isUp: true))
        }
        links.onDown = { [unowned self] node, _ in
            refusing.remove(node)
            handle(.link(node, isUp: false))
        }
        links.onWritable = { [unowned self] node, _ in
            if refusing.remove(node) != nil { handle(.linkWritable(node)) }
        }
        links.onMessage = { [unowned self] node, code, _, body in
            do throws(DecodeError) {
                handle(.received(try PeerMessage(code: code, body: body), from: node))
            } catch {
                note("node \(node) sent what is no message of eventd: \(error)")
            }
        }
        links.onTrouble = note
    }

    var status: [LinkStatus] { links.status }

    /// A view says who is there.
    func follow(_ nodes: [NodeID]) { links.follow(nodes) }

    func update(_ description: ClusterDescription) throws(LinkError) { try links.update(nodes: description.nodes) }

    func send(_ message: PeerMessage, to node: NodeID) {
        // Questions and confirmations are repeated when they are missed.
        guard case .forward(_, let number, _) = message else {
            transmit(message, to: node)
            return
        }
        guard refusing.contains(node) || !transmit(message, to: node) else { return }
        refusing.insert(node)
        handle(.linkRefused(node, number: number))
    }

    /// False when there is no room; true also when there is no link, for the next one begins with a question.
    @discardableResult
    private func transmit(_ message: PeerMessage, to node: NodeID) -> Bool {
        let lane = Lane(rawValue: message.urgency.rawValue) ?? .low
        return links.send(message.code, message.body, to: node, lane: lane) != .full
    }

    func close() { links.close() }
}
