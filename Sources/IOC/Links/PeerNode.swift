import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes

/// What one address of a node has given so far.
public struct LinkAddressStatus: Hashable, Sendable {
    public var address: String
    public var attempts = 0
    public var connects = 0
    /// Why the last attempt or connection over it ended; empty when it never did.
    public var lastError = ""
}

/// One peer, for `saf status` and `saf doctor`.
public struct LinkStatus: Hashable, Sendable {
    public var node: NodeID
    public var name: String
    public var isUp: Bool
    /// The address in use.
    public var address: String
    public var upSince: Instant?
    public var roundTrip: Duration?
    public var retransmissions: UInt32
    /// How often the link was made.
    public var connects: Int
    public var sentBytes: UInt64
    public var receivedBytes: UInt64
    public var queuedBytes: Int
    public var callsOutstanding: Int
    /// Messages refused because a lane was full, and one-way messages lost with a connection's queue, in bytes.
    public var refused: UInt64
    public var lostBytes: UInt64
    /// It has a connection to us.
    public var isHeard: Bool
    public var addresses: [LinkAddressStatus]
    /// Why there is no link, for people; empty while there is one.
    public var downReason: String
}

/// Another node: the link to it, its calls, and what it asked of us. Loop thread only.
final class PeerNode {
    private(set) var node: ClusterDescribedNode
    private(set) var addresses: [SocketAddress]
    var redial: Redial

    // Outgoing.
    var outgoing: LinkConnection?
    var isWanted = false
    var retryTimer: LoopTimer?
    var pathTimer: LoopTimer?
    var knownIncarnation: UInt64?
    var calls = CallTable()
    var lanesWanted: [Bool] = [false, false, false, false]
    var downReason = "not connected yet"
    /// Why it could not be reached since there was a link last: each reason is told once, not with every attempt.
    private var toldReasons: Set<String> = []

    // Incoming.
    var incoming: LinkConnection?
    var window: RequestWindow
    /// The life of the peer that `window` belongs to.
    var windowIncarnation: UInt64?

    // Counted.
    var connects = 0
    var sentBefore: UInt64 = 0
    var receivedBefore: UInt64 = 0
    var refused: UInt64 = 0
    var lostBytes: UInt64 = 0
    var addressStatus: [LinkAddressStatus] = []

    init(node: ClusterDescribedNode, addresses: [SocketAddress], redial: Redial, rememberedBytesMax: Int) {
        (self.node, self.addresses, self.redial) = (node, addresses, redial)
        window = RequestWindow(bytesMax: rememberedBytesMax)
        settle(as: node, at: addresses, redial)
    }

    /// It is in the cluster, at these addresses.
    func settle(as node: ClusterDescribedNode, at addresses: [SocketAddress], _ redial: Redial) {
        (self.node, self.addresses, self.redial) = (node, addresses, redial)
        addressStatus = addresses.map { LinkAddressStatus(address: "\($0)") }
    }

    private static let reasonsMax = 16

    /// Whether a reason is new since there was a link last.
    func isNews(_ reason: String) -> Bool {
        toldReasons.count < Self.reasonsMax && toldReasons.insert(reason).inserted
    }

    func isLinked() { toldReasons = [] }

    var id: NodeID { node.id }

    /// The link, if it stands.
    var link: LinkConnection? {
        guard let outgoing, outgoing.phase == .up else { return nil }
        return outgoing
    }

    var status: LinkStatus {
        let standing = link
        let kernel = standing.flatMap { TcpSocket.status($0.fd) }
        return LinkStatus(
            node: id, name: "\(node.name)", isUp: standing != nil, address: standing.map { "\($0.remote)" } ?? "",
            upSince: standing?.upSince, roundTrip: kernel?.roundTrip, retransmissions: kernel?.retransmissions ?? 0,
            connects: connects, sentBytes: sentBefore + (outgoing?.sentBytes ?? 0),
            receivedBytes: receivedBefore + (outgoing?.receivedBytes ?? 0),
            queuedBytes: outgoing?.sender.queuedBytes ?? 0, callsOutstanding: calls.count, refused: refused,
            lostBytes: lostBytes, isHeard: incoming != nil, addresses: addressStatus,
            downReason: standing == nil ? downReason : "")
    }
}

/// One request of a peer. It may be kept and answered later; answering a peer that has gone is harmless.
public struct PeerRequest {
    public let node: NodeID
    /// The life of the peer that asks.
    public let incarnation: UInt64
    /// With node and incarnation it names the request for ever: a retransmission has the same.
    public let number: UInt64
    public let code: UInt16
    public let lane: Lane
    /// It was sent before on a connection that broke. What this life of ours executed never reaches the service again;
    /// another life, or one that had to forget, decides by what it stored.
    public let isRetransmission: Bool

    let peer: PeerNode
    unowned let links: PeerLinks

    /// Answers; the body is kept as it is. A second answer is ignored.
    public func reply(_ body: [UInt8]) { links.answer(self, kind: .reply, status: 0, body) }
    public func reply(_ body: UnsafeRawBufferPointer) { reply([UInt8](body)) }
    public func fail(_ error: AisError, _ text: String = "") {
        links.answer(self, kind: .failure, status: error.rawValue, Array(text.utf8))
    }
}
