import AmfEngine
import AmfProtocol
import EOReplicated
import SAFTypes

// The cluster engine as a replicated engine. It stands here because engines know nothing of groups and replication.

extension ClusterEngine: ReplicatedEngine {
    public typealias OnceEffect = AmfNotifications

    public static func route(_ effect: ClusterEffect) -> EffectRoute<AmfNotifications> {
        switch effect {
        case .order(let node, _), .nodeStopped(let node): .node(node)
        case .adminReply(let ticket, _, _): .node(ticket.node)
        case .startTimer(let timer, let at): .startTimer(key: timer.key, at: at)
        case .cancelTimer(let timer): .cancelTimer(key: timer.key)
        case .notify(let notifications): .once(AmfNotifications(list: notifications), by: .oldest)
        case .modelInstalled: .everyMember
        case .modelRefused: .answer
        }
    }

    public static func timerEvent(key: UInt64) -> ClusterEvent? { ClusterTimer(key: key).map { .timer($0) } }
}

/// The notifications of one event, in order; published by the oldest member.
public struct AmfNotifications: Hashable, Sendable, WireCodable {
    public var list: [AmfNotification]

    public init(list: [AmfNotification]) { self.list = list }
    public func encode(to writer: inout ByteWriter) { writer.list(list) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { list = try reader.list() }
}
