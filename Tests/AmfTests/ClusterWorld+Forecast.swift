import AmfProtocol
import EOReplicated
import SAFTypes

@testable import AmfEngine

extension ClusterWorld {
    /// As amfd does it, with a forecast as fresh as can be.
    func foretell(_ id: NodeID, _ event: ClusterEvent) {
        guard let amfd = nodes[id]?.amfd, case .report(_, let report) = event,
            let process = amfd.replica.core.actives(behind: id).first(where: { report == .death(of: $0) })
        else { return }
        let forecast = Forecast(
            deathsOf: [process], on: id, in: amfd.replica.core, at: amfd.replica.replicated.time)
        amfd.foretold = amfd.engine.pushes(afterDeathOf: process, then: forecast.takeovers(after: report), at: now)
        counts.foretold += amfd.foretold.count
    }

    /// All that was foretold of an event was pushed when it was applied.
    func compareWithForetold(_ id: NodeID) {
        for push in nodes[id]?.amfd?.foretold ?? [] { findings.append("foretold on \(id), and not pushed: \(push)") }
        nodes[id]?.amfd?.foretold = []
    }
}
