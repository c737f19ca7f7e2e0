import EngineKit
import OSAL

/// What every run shows, for people.
struct RunSummary {
    var source: String
    var size: UInt64
    var seed: UInt64
    var commits: UInt64
    var elapsed: Duration
    var words: Int
    var isIdentical: Bool
    /// Each case of two that were active at once, in words.
    var overlaps: [String]
    /// Processes that did not end by themselves when they were to stop.
    var left: [String]

    var isGood: Bool { isIdentical && overlaps.isEmpty && left.isEmpty }

    var head: [String] {
        let perSecond = elapsed > .zero ? Double(commits) / (Double(elapsed.nanoseconds) / 1e9) : 0
        return [
            "", "SwiftSAF demonstration",
            "  text              \(source), \(size) bytes, \(words) different words",
            "  run               \(elapsed.short), \(commits) atomic commits (\(Int(perSecond)) a second), "
                + "seed \(seed)",
        ]
    }

    var end: [String] {
        var lines = overlaps.prefix(10).map { "  ACTIVE AT ONCE    \($0)" }
        if overlaps.isEmpty { lines.append("  two active        never") }
        if !left.isEmpty { lines.append("  did not stop      \(left.joined(separator: ", "))") }
        lines.append("  result: \(isIdentical ? "identical" : "DIFFERENT from tr | sort | uniq -c")")
        return lines
    }
}

/// A run on one node.
struct Report {
    var run: RunSummary
    var kills: [(kill: Kill, at: Instant, pid: Int32)]
    var failovers: [Duration]
    var longestGap: Duration

    private var activeKills: Int { kills.count { $0.kill.target == .active } }
    /// Identical, every kill of the active was followed by another active, and nothing was left behind.
    var isGood: Bool { run.isGood && failovers.count == activeKills }

    var text: String {
        let byTarget = Kill.Target.allCases.map { target in (target, kills.count { $0.kill.target == target }) }
        let parts = byTarget.filter { $0.1 > 0 }.map { "\($0.0.rawValue) \($0.1)" }
        var lines = run.head
        lines += [
            "  kills (SIGKILL)   \(kills.count): \(parts.isEmpty ? "none" : parts.joined(separator: ", "))",
            "  failovers         \(failovers.count) for \(activeKills) kills of the active",
        ]
        if !failovers.isEmpty {
            lines.append(
                "  kill → active     p50 \(failovers.percentile(0.5).short), p99 \(failovers.percentile(0.99).short), "
                    + "max \((failovers.max() ?? .zero).short)")
        }
        lines.append("  longest gap       \(longestGap.short) without a commit")
        return (lines + run.end).joined(separator: "\n") + "\n"
    }
}
