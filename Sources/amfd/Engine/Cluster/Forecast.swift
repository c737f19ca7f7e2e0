import AmfProtocol
import EngineKit
import SAFTypes

/// What the death of each active component will bring about on its node, worked out while nothing happens: of a
/// fail-over only the telling is left for when it counts (``NodeEngine/pushes(afterDeathOf:then:at:)``).
///
/// Good for the one state it was made from, at any later time: an answer that would change with time alone (when a
/// probation ends, an escalation is not reached any more) is left out, and decided when it is needed.
public struct Forecast: Sendable {
    private var orders: [NodeReport: [CSISetOrder]] = [:]

    /// Deaths considered; of more nothing is known.
    static let deathsMax = 256

    /// - Parameters:
    ///   - processes: the components that may die.
    ///   - node: where they run; orders for other nodes are not foretold.
    ///   - cluster: with nothing under way that its state does not know of.
    public init(deathsOf processes: [ActiveProcess], on node: NodeID, in cluster: ClusterEngine, at now: Instant) {
        for process in processes.prefix(Self.deathsMax) {
            let report = NodeReport.death(of: process)
            let soon = Self.takeovers(after: report, on: node, in: cluster, at: now)
            guard !soon.isEmpty, soon == Self.takeovers(after: report, on: node, in: cluster, at: now + Self.longTime)
            else { continue }
            orders[report] = soon
        }
    }

    /// Active assignments that the node's components get by this report. All of them, or none is known.
    public func takeovers(after report: NodeReport) -> [CSISetOrder] { orders[report] ?? [] }

    /// Longer than any probation. What escalates counts failures within one, so what is decided now and then is decided
    /// at every time between.
    private static let longTime: Duration = .seconds(100 * 365 * 86_400)

    private static func takeovers(
        after report: NodeReport, on node: NodeID, in cluster: ClusterEngine, at time: Instant
    ) -> [CSISetOrder] {
        var copy = cluster
        return copy.handle(.report(node, report), at: time).compactMap { effect in
            guard case .order(node, .csiSet(let order)) = effect, order.haState == .active else { return nil }
            return order
        }
    }
}

extension NodeEngine {
    /// The callbacks with which this engine will make components active when the process has died and the cluster
    /// engine gives these orders, if it hears nothing else before.
    public func pushes(
        afterDeathOf process: ActiveProcess, then orders: [CSISetOrder], at now: Instant
    ) -> [AmfPush] {
        var copy = self
        let death = NodeEvent.lifeLockReleased(process.component, process.instance)
        let events = [death] + orders.map { NodeEvent.order(.csiSet($0)) }
        return events.flatMap { copy.handle($0, at: now) }.compactMap { effect in
            guard case .push(let push) = effect, case .csiSet(_, _, .active, _) = push else { return nil }
            return push
        }
    }
}

extension NodeReport {
    /// As the node engine tells it when the life lock has.
    public static func death(of process: ActiveProcess) -> NodeReport {
        .failed(process.component, process.instance, recovery: .noRecommendation, isDead: true, cause: .died)
    }
}
