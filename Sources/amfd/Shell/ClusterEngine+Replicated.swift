import AmfEngine
import AmfProtocol
import EOReplicated
import SAFTypes

// The cluster engine as a replicated engine. It stands here because engines know nothing of groups and replication.

extension ClusterEngine: ReplicatedEngine {
    public typealias OnceEffect = AmfOnce

    public static func route(_ effect: ClusterEffect) -> EffectRoute<AmfOnce> {
        switch effect {
        case .order(let node, _), .nodeStopped(let node): .node(node)
        // A majority has the operation, and what it brought about, before anybody is told that it is done.
        case .adminReply(let ticket, let error, let text):
            .once(.adminReply(AdminReply(ticket: ticket, error: error, text: text)), by: .node(ticket.node))
        case .startTimer(let timer, let at): .startTimer(key: timer.key, at: at)
        case .cancelTimer(let timer): .cancelTimer(key: timer.key)
        case .notify(let notifications): .once(.notifications(notifications), by: .oldest)
        case .modelInstalled: .everyMember
        case .modelRefused: .answer
        }
    }

    /// Members of versions 1 and 2 know of a model only what ``ClusterEvent/addition(_:)`` means.
    public static func encode(_ event: ClusterEvent, version: UInt16, to writer: inout ByteWriter) {
        if version < 3, case .model(let model) = event { return writer.value(ClusterEvent.addition(model)) }
        writer.value(event)
    }

    /// Of what has always been in a snapshot: a member that had its state from one of an earlier build lacks epochs
    /// until they are given anew, and is right in all else.
    public func digest(version: UInt16) -> UInt64 {
        var writer = ByteWriter()
        encodeSnapshot(version: 1, to: &writer)
        return StateHash.of(writer.bytes)
    }

    public static func timerEvent(key: UInt64) -> ClusterEvent? { ClusterTimer(key: key).map { .timer($0) } }
}

/// What is performed once, and kept until it is.
public enum AmfOnce: Hashable, Sendable {
    /// The notifications of one event, in order; published by the oldest member.
    case notifications([AmfNotification])
    /// The end of an operation, for whoever asked for it on that node.
    case adminReply(AdminReply)
}

public struct AdminReply: Hashable, Sendable {
    public var ticket: AdminTicket
    /// Nil: done.
    public var error: AisError?
    public var text: String
}

/// kind u8 · notifications, or ticket · error u32 (0: none) · text.
extension AmfOnce: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .notifications(let list):
            writer.integer(UInt8(1))
            writer.list(list)
        case .adminReply(let reply):
            writer.integer(UInt8(2))
            writer.value(reply.ticket)
            writer.integer(reply.error?.rawValue ?? 0)
            writer.string(reply.text)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        switch try reader.integer(UInt8.self) {
        case 1: self = .notifications(try reader.list())
        case 2:
            let ticket = try reader.value(AdminTicket.self)
            let code = try reader.integer(UInt32.self)
            let error = AisError(rawValue: code)
            guard error != nil || code == 0 else { throw .badValue("error \(code) of an answer is unknown") }
            self = .adminReply(AdminReply(ticket: ticket, error: error, text: try reader.string(max: Limits.textMax)))
        case let kind: throw .badValue("once-only effect \(kind); 1 or 2 expected")
        }
    }
}
