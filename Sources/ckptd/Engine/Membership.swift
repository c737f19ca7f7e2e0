public import CkptProtocol
public import SAFTypes

/// Which clients may ask while this node is, or was not, a member of the cluster: who wants to know of it (B.02) is
/// refused while the node is none, and for good when the node has left since the client came.
///
/// A membership is named by the view in which it began, which clmd tells and nobody forgets; so a node that left and
/// came back while ckptd was down is known to have. Quorum is not looked at here. Pure.
/// Source: saCkptInitialize() and the others of B.02.02, SA_AIS_ERR_UNAVAILABLE.
public struct Membership: Hashable, Sendable {
    /// Until somebody says otherwise it is: without clmd there is nobody who could exclude a node.
    public private(set) var isMember = true
    /// The view in which the present or last membership began; 0: not known.
    public private(set) var joined: UInt64 = 0
    /// Of this life of ckptd: what an earlier one knew may be over.
    private var isTold = false
    /// The membership in which a client came; 0: the present or next one, whichever that is.
    private var clients: [ClientSession: UInt64] = [:]

    private static let anEarlierOne = UInt64.max
    private static let clientsMax = 1 << 16

    public init() {}

    /// For readers that do not ask: another word, another membership; 0: none.
    public var word: UInt64 { isMember ? joined &+ 1 : 0 }

    /// What clmd says: true if something is different now.
    ///
    /// - Parameters:
    ///   - view: its number; 0: clmd has not found the others yet.
    ///   - joined: the view in which this node became a member; nil: it is none.
    public mutating func told(view: UInt64, joined: UInt64?) -> Bool {
        guard view > 0 else { return false }
        let before = (isMember, self.joined)
        isTold = true
        if isMember || joined != nil {
            for (client, since) in clients where since == 0 { clients[client] = joined ?? Self.anEarlierOne }
        }
        isMember = joined != nil
        self.joined = joined ?? self.joined
        return (isMember, self.joined) != before
    }

    /// Connected; again counts as before.
    public mutating func came(_ client: ClientSession) {
        guard clients[client] == nil, clients.count < Self.clientsMax else { return }
        clients[client] = isTold && isMember ? joined : 0
    }

    /// Had something open in an earlier life of ckptd: it came at the latest then.
    public mutating func restored(_ client: ClientSession) { if clients[client] == nil { clients[client] = joined } }

    public mutating func gone(_ client: ClientSession) { clients[client] = nil }

    /// Why a client that wants to know of membership is not served.
    public func refusal(of client: ClientSession) -> Refusal? {
        guard isMember else { return Refusal(.unavailable, "this node is not a member of the cluster") }
        guard let since = clients[client], since != 0, since != joined else { return nil }
        return Refusal(
            .unavailable, "this node has left the cluster and come back since: finalise, and begin anew")
    }
}

/// For the next life of ckptd: joined u64 · clients that came in another membership: session 16, since u64.
extension Membership: WireCodable {
    private struct Stale: WireCodable {
        var client: ClientSession
        var since: UInt64

        init(client: ClientSession, since: UInt64) { (self.client, self.since) = (client, since) }

        func encode(to writer: inout ByteWriter) {
            writer.integer(client.high)
            writer.integer(client.low)
            writer.integer(since)
        }

        init(decoding reader: inout ByteReader) throws(DecodeError) {
            client = ClientSession(high: try reader.integer(), low: try reader.integer())
            since = try reader.integer()
        }
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(joined)
        let stale = clients.filter { $0.value != 0 && $0.value != joined }.sorted { $0.key < $1.key }
        writer.list(stale.map { Stale(client: $0.key, since: $0.value) })
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        joined = try reader.integer()
        let stale: [Stale] = try reader.list(max: Self.clientsMax)
        for entry in stale { clients[entry.client] = entry.since }
    }
}
