import AmfProtocol
import EngineKit
import SAFTypes

/// Decides the life cycle of every component on one node; performs nothing.
public struct NodeEngine: Engine, Sendable {
    public typealias Event = NodeEvent
    public typealias Effect = NodeEffect
    let node: NodeID

    /// - Parameter incarnation: differs in every life of amfd on this node; keeps invocation ids apart.
    public init(node: NodeID, incarnation: UInt64) {
        self.node = node
        nextInvocation = (1 << 63) | ((incarnation & 0x7FFF_FFFF) << 32) | 1
    }

    var nextInvocation: UInt64

    public mutating func handle(_ event: NodeEvent, at now: Instant) -> [NodeEffect] { [] }
}
