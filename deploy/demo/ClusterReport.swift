import EngineKit

/// A run on a cluster: a line for every kind of fault.
struct ClusterReport {
    var run: RunSummary
    var faults: [FaultRun.Made]
    var planned: Int

    /// All that was planned has been done, and whoever was lost was followed by another.
    var isGood: Bool {
        run.isGood && faults.count == planned && faults.allSatisfy { !$0.needsFailover || $0.failover != nil }
    }

    var text: String {
        var lines = run.head
        lines.append("  nodes             3: the service on two of them in 2N, one payload; seen by one clock outside")
        lines.append("")
        lines.append(row(["fault", "count", "failovers", "p50", "p99", "max to the new active", "longest gap"]))
        for kind in Fault.Kind.all { lines += line(kind.name, faults.filter { $0.fault.kind == kind }) }
        lines += line("all", faults)
        if faults.count < planned { lines.append("  not done          \(planned - faults.count): the text was over") }
        return (lines + [""] + run.end).joined(separator: "\n") + "\n"
    }

    private func line(_ name: String, _ faults: [FaultRun.Made]) -> [String] {
        guard !faults.isEmpty else { return [] }
        let failovers = faults.compactMap(\.failover)
        let times =
            failovers.isEmpty
            ? ["", "", ""]
            : [failovers.percentile(0.5).short, failovers.percentile(0.99).short, (failovers.max() ?? .zero).short]
        let gap = (faults.map(\.gap).max() ?? .zero).short
        return [row([name, "\(faults.count)", "\(failovers.count)"] + times + [gap])]
    }

    private func row(_ cells: [String]) -> String {
        let widths = [24, 7, 11, 10, 10, 23, 13]
        let padded = zip(cells, widths).enumerated().map { index, cell in
            let space = String(repeating: " ", count: max(0, cell.1 - cell.0.count))
            return index == 0 ? cell.0 + space : space + cell.0
        }
        return "  " + padded.joined()
    }
}
