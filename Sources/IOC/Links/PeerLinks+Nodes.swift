import EngineKit
import IOCCluster
import OSAL
import SAFTypes

extension PeerLinks {
    /// The cluster has other nodes from now on. A new one may be spoken to; one that is not among them is refused, its
    /// certificate notwithstanding, and its calls fail. One with another name or other addresses is both.
    ///
    /// - Throws: an address that is not numeric; nothing has changed then.
    public func update(nodes: [ClusterDescribedNode]) throws(LinkError) {
        guard !isStopped, nodes != description.nodes else { return }
        do throws(OSError) {
            for node in nodes { _ = try addresses(of: node) }
            var left: [(peer: PeerNode, reason: String)] = []
            for peer in order {
                let node = nodes.first { $0.id == peer.id }
                if let node, node.name == peer.node.name, node.addresses == peer.node.addresses { continue }
                if node != nil, peer.isWanted { awaited.insert(peer.id.rawValue) }
                let change = node == nil ? "is not in the cluster any more" : "has another address or name"
                left.append((peer, "node \(peer.node.name) \(change)"))
                peers[peer.id.rawValue] = nil
                former[peer.id.rawValue] = peer
            }
            order.removeAll { peers[$0.id.rawValue] == nil }
            description.nodes = nodes
            for (peer, reason) in left { leave(peer, reason) }
            try addPeers()
        } catch {
            throw LinkError("links of \(service.name): \(error)")
        }
        for node in awaited.sorted() where peers[node] != nil { reach(NodeID(node)) }
    }

    /// Makes a peer of every other node that is none yet.
    func addPeers() throws(OSError) {
        for node in description.others where peers[node.id.rawValue] == nil {
            let addresses = try addresses(of: node)
            let redial = Redial(
                addressCount: addresses.count, pauseFirst: options.pauseFirst, pauseMax: options.pauseMax,
                seed: incarnation ^ UInt64(node.id.rawValue) << 32)
            // Its life may still be the one that was taken out, and knows us: a number that was used for one request
            // must never name another, and what it asked then must not be done again.
            let peer = former.removeValue(forKey: node.id.rawValue)
            peer?.settle(as: node, at: addresses, redial)
            peers[node.id.rawValue] =
                peer
                ?? PeerNode(
                    node: node, addresses: addresses, redial: redial, rememberedBytesMax: limits.rememberedBytesMax)
        }
        order = peers.values.sorted { $0.id < $1.id }
    }

    private func addresses(of node: ClusterDescribedNode) throws(OSError) -> [SocketAddress] {
        var addresses: [SocketAddress] = []
        for address in node.addresses { addresses.append(try socketAddress(address)) }
        return addresses
    }

    /// The port this service uses at an address.
    func socketAddress(_ address: LinkAddress) throws(OSError) -> SocketAddress {
        try SocketAddress(address.host, port: description.links.portBase &+ UInt16(service.rawValue))
    }
}
