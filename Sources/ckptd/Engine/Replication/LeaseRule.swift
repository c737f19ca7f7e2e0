public import Containers
public import EngineKit
public import SAFTypes

/// How long a node's replicas may be read after others were heard.
///
/// A node that nobody hears from is left out after twice the time of a token, and a replica that does not answer after
/// the longest silence that is borne (a second): who takes over then has kept its promise (``ReadGrants``) already, and
/// nobody waits for it. The lease counts from when the last question was sent that has been answered.
public struct LeaseRule: Hashable, Sendable {
    public static let lengthMax = Duration.milliseconds(750)

    public let length: Duration

    public init(token: Duration) { length = min(Self.lengthMax, token * 3 / 4) }

    /// - Parameters:
    ///   - others: who is there beside this node.
    ///   - heard: when the last answered question to each was sent.
    /// - Returns: the end of the lease; `.start`: there is none.
    public func end(
        _ others: [NodeID], _ heard: OrderedMap<NodeID, Instant>, mayAct: Bool, now: Instant
    ) -> Instant {
        guard mayAct else { return .start }
        var oldest = now
        for node in others {
            guard let last = heard[node] else { return .start }
            oldest = min(oldest, last)
        }
        return oldest + length
    }
}
