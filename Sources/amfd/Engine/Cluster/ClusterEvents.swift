import AmfProtocol
import EngineKit
import SAFTypes

/// A command of the replicated engine.
public enum ClusterEvent: Hashable, Sendable {
    /// The checked model, middleware included. The first one starts everything; of a later one ``ModelChange`` says
    /// what is applied, and what is refused by ``ClusterEffect/modelRefused``.
    case model(AmfModel)
    /// The same as members of versions 1 and 2 understand it: it only adds applications and nodes that run nothing.
    case addition(AmfModel)
    /// amfd of this node is there, for the first time or again after its own death. Its engine has adopted what lives.
    /// `living`: what it adopted, as given to ``NodeEvent/adopt``.
    case nodeJoined(NodeID, incarnation: UInt64, living: [LivingComponent])
    /// The node is gone with everything on it. `incarnation`: of its amfd that was lost; a later one is not meant.
    case nodeLeft(NodeID, incarnation: UInt64)
    case report(NodeID, NodeReport)
    case admin(AdminTicket, AdminOperation, SaName)
    /// Graceful stop: switch over, terminate in reverse boot order; ends with ``ClusterEffect/nodeStopped``.
    case stopNode(NodeID)
    case timer(ClusterTimer)
}

public enum ClusterTimer: Hashable, Sendable {
    /// Cluster start: assign with what is there.
    case startup
    /// An administrative operation, by its number in the engine, takes too long: answer TIMEOUT.
    case admin(UInt32)

    /// For a shell that names its timers by numbers.
    public var key: UInt64 {
        switch self {
        case .startup: 0
        case .admin(let number): UInt64(number)
        }
    }

    /// Nil for a number that is no key.
    public init?(key: UInt64) {
        guard key != 0 else {
            self = .startup
            return
        }
        guard let number = UInt32(exactly: key) else { return nil }
        self = .admin(number)
    }
}

/// What the shells do, in this order.
public enum ClusterEffect: Hashable, Sendable {
    /// For the node engine of that node.
    case order(NodeID, NodeOrder)
    /// By the node of the ticket. A nil error is OK.
    case adminReply(AdminTicket, AisError?, String)
    /// By the oldest member: propose ``ClusterEvent/timer`` at that time of the engine. Starting again replaces.
    case startTimer(ClusterTimer, at: Instant)
    case cancelTimer(ClusterTimer)
    /// By the oldest member: publish in this order, with the time. The last effect of an event.
    case notify([AmfNotification])
    /// By that node: everything on it is down; amfd may end.
    case nodeStopped(NodeID)
    /// By every member, before what follows: its node engine gets the engine's model.
    case modelInstalled
    /// The answer to ``ClusterEvent/model`` for its proposer: nothing was changed. Without it the model is applied.
    case modelRefused(String)
}
