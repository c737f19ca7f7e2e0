import EOLoop
import EngineKit
import OSAL
import SAFTypes

extension PeerLinks {
    /// Looks now and then, while something is under way to a node with several addresses, whether it gets through.
    func watchPath(_ peer: PeerNode) {
        guard peer.pathTimer == nil, peer.addresses.count > 1, !isStopped else { return }
        peer.pathTimer = loop.schedule(after: options.pathPatience / 3) { [unowned self, unowned peer] in
            peer.pathTimer = nil
            lookAtPath(peer)
        }
    }

    private func lookAtPath(_ peer: PeerNode) {
        guard let link = peer.link, let kernel = TcpSocket.status(link.fd) else { return }
        let sight = PathWatch.Sight(
            isAllAcknowledged: kernel.unacknowledged == 0, acknowledgedBytes: kernel.acknowledgedBytes,
            receivedBytes: link.receivedBytes, isWaiting: peer.calls.count > 0)
        switch link.path.look(sight, now: loop.now) {
        case .idle: return
        case .fine: break
        case .probe: probe(peer, link)
        case .broken:
            return lose(link, "nothing was acknowledged for \(options.pathPatience); is the network down?")
        }
        watchPath(peer)
    }

    /// Sends a request again that has no answer yet: the peer knows it and does nothing, but its kernel acknowledges.
    private func probe(_ peer: PeerNode, _ link: LinkConnection) {
        for number in peer.calls.numbers {
            guard let call = peer.calls[number], call.body.count <= LinkOptions.probeBytesMax,
                case .queued(let position) = call.state, link.sender.isSent(call.lane, position)
            else { continue }
            let header = LinkHeader(
                kind: .request, lane: call.lane, code: call.code, number: number,
                acknowledged: peer.calls.acknowledged, flags: .retransmission)
            link.sender.append(header, call.body)
            return markDirty(link)
        }
    }
}
