import AmfProtocol
import EngineKit
import SAFTypes

/// Decides which component is active, standby, restarted or repaired; performs nothing. Replicated.
public struct ClusterEngine: Engine, Sendable {
    public typealias Event = ClusterEvent
    public typealias Effect = ClusterEffect

    public init() {}

    public mutating func handle(_ event: ClusterEvent, at now: Instant) -> [ClusterEffect] { [] }

    /// Everything `saf status` shows.
    public func status() -> StatusReport { StatusReport() }
}
