import AmfProtocol
import EngineKit
import SAFTypes

/// What the death of each active component will bring about on a node, worked out while nothing happens: of a fail-over
/// only the telling is left for when it counts (``NodeEngine/pushes(afterDeathOf:then:at:)``).
///
/// Good for the one state it was made from, at any later time: an answer that would change with time alone (when a
/// probation ends, an escalation is not reached any more) is left out, and decided when it is needed.
public struct Forecast: Sendable {
    private var orders: [NodeReport: [CSISetOrder]] = [:]

    /// Deaths considered; of more nothing is known.
    static let deathsMax = 256

    /// - Parameters:
    ///   - processes: the components that may die, on this node or on others.
    ///   - node: whose orders are foretold.
    ///   - cluster: with nothing under way that its state does not know of.
    public init(deathsOf processes: [ActiveProcess], on node: NodeID, in cluster: ClusterEngine, at now: Instant) {
        for process in processes.prefix(Self.deathsMax) {
            guard let home = cluster.home(of: process.component) else { continue }
            let report = NodeReport.death(of: process)
            let death = ClusterEvent.report(home, report)
            let soon = Self.takeovers(after: death, on: node, in: cluster, at: now)
            guard !soon.isEmpty, soon == Self.takeovers(after: death, on: node, in: cluster, at: now + Self.longTime)
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
        after death: ClusterEvent, on node: NodeID, in cluster: ClusterEngine, at time: Instant
    ) -> [CSISetOrder] {
        var copy = cluster
        return copy.handle(death, at: time).compactMap { effect in
            guard case .order(node, .csiSet(let order)) = effect, order.haState == .active else { return nil }
            return order
        }
    }
}

extension NodeEngine {
    /// The callbacks with which this engine will make components active when the process has died and the cluster
    /// engine gives these orders, if it hears nothing else before. Of a death on another node it hears nothing.
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

extension ClusterEngine {
    /// The node of a component; nil: it is in no model.
    public func home(of component: SaName) -> NodeID? {
        guard case .component(let component) = positions[component] else { return nil }
        return nodes[components[component].node].model.id
    }

    /// The components of other nodes that are active for what components of this node are standby for: those whose
    /// death may make something active here.
    public func actives(behind node: NodeID) -> [ActiveProcess] {
        let standby = Set(
            components.lazy.filter { nodes[$0.node].model.id == node }.flatMap(\.run.assignments)
                .filter { $0.wanted == .standby }.map(\.csi))
        guard !standby.isEmpty else { return [] }
        return components.filter { component in
            nodes[component.node].model.id != node && component.run.presence == .instantiated
                && component.run.assignments.contains { $0.wanted == .active && standby.contains($0.csi) }
        }.map { ActiveProcess(component: $0.name, instance: $0.run.instance) }
    }
}

extension NodeReport {
    /// As the node engine tells it when the life lock has.
    public static func death(of process: ActiveProcess) -> NodeReport {
        .failed(process.component, process.instance, recovery: .noRecommendation, isDead: true, cause: .died)
    }
}
