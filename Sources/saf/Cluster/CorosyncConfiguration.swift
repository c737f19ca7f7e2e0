import IOCCluster
import SAFTypes

/// The corosync.conf of a cluster: the same on all its nodes. Source: corosync.conf(5), votequorum(5).
public enum CorosyncConfiguration {
    /// Where corosync looks unless it is told otherwise.
    public static let systemPath = "/etc/corosync/corosync.conf"
    /// Below this a link's default patience (half the token) is shorter than knet's fixed heartbeat of 200 ms, and
    /// every link flaps.
    static let tokenOfPatientLinks: Duration = .milliseconds(500)

    public static func text(_ plan: ClusterPlan) -> String {
        var text = Section("totem", totem(plan)).text
        text += Section("nodelist", plan.description.nodes.map { .section(node($0)) }).text
        text += Section("quorum", quorum(plan)).text
        text += Section("system", [.line("sched_rr", plan.corosync.isRealtime ? "yes" : "no")]).text
        text += Section("logging", logging(plan.corosync)).text
        return text
    }

    /// Why no corosync.conf can be made for this cluster, in one sentence.
    public static func fault(_ plan: ClusterPlan) -> String? {
        let cluster = plan.description
        if cluster.groupEngine != .corosync { return "the cluster's engine is 'alone': it runs without corosync" }
        let planes = cluster.nodes[0].addresses.count
        for node in cluster.nodes {
            guard (1...2).contains(node.addresses.count) else {
                return "node \(node.name): \(node.addresses.count) addresses; 1 or 2 expected"
            }
            guard node.addresses.count == planes else {
                return "node \(node.name) has \(node.addresses.count) addresses, node \(cluster.nodes[0].name) "
                    + "\(planes); as many on each node expected"
            }
        }
        return plan.corosync.quorum.fault(nodes: cluster.nodes.count)
    }

    /// True when two texts say the same: comments, blank lines and blanks do not count.
    public static func isSame(_ left: String, _ right: String) -> Bool { essence(left) == essence(right) }

    /// What is in one of the files only, a line each, `-` for the first and `+` for the second.
    public static func difference(_ left: String, _ right: String) -> [String] {
        let (left, right) = (essence(left), essence(right))
        return left.filter { !right.contains($0) }.map { "-\($0)" }
            + right.filter { !left.contains($0) }.map { "+\($0)" }
    }

    private static func essence(_ text: String) -> [String] {
        text.split(separator: "\n").map { $0.split { $0 == " " || $0 == "\t" }.joined(separator: " ") }
            .filter { !$0.isEmpty && !$0.hasPrefix("#") }
    }

    private static func totem(_ plan: ClusterPlan) -> [Section.Entry] {
        let cluster = plan.description
        let planes = cluster.nodes.first?.addresses.count ?? 0
        var entries: [Section.Entry] = [
            .line("version", "2"), .line("cluster_name", cluster.clusterName), .line("transport", "knet"),
            .line("token", String(milliseconds(cluster.token))),
            // Otherwise corosync adds 650 ms for each node after the second: of three nodes with a token of 300 ms one
            // that has died is noticed after 2 s instead of 0.63 s, and the lease would not follow the true token.
            .line("token_coefficient", "0"),
            // After a message the token goes round so often before it rests: 30 times as corosync has it, at real-time
            // priority, which keeps processors from those whom the message was for. Source: corosync.conf(5).
            .line("seqno_unchanged_const", "4"),
        ]
        // Both links carry everything: a lossy one costs nothing then, instead of false deaths.
        if planes > 1 { entries.append(.line("link_mode", "active")) }
        if plan.corosync.isEncrypted {
            entries += [
                .line("crypto_cipher", "aes256"), .line("crypto_hash", "sha256"),
                .line("keyfile", plan.corosync.keyFile),
            ]
        } else {
            entries += [.line("crypto_cipher", "none"), .line("crypto_hash", "none")]
        }
        guard cluster.token < tokenOfPatientLinks else { return entries }
        for plane in 0..<planes {
            let lines: [Section.Entry] = [.line("linknumber", String(plane)), .line("knet_ping_timeout", "1000")]
            entries.append(.section(Section("interface", lines)))
        }
        return entries
    }

    private static func node(_ node: ClusterDescribedNode) -> Section {
        let addresses = node.addresses.enumerated().map { Section.Entry.line("ring\($0)_addr", $1.host) }
        return Section("node", [.line("nodeid", "\(node.id)"), .line("name", "\(node.name)")] + addresses)
    }

    private static func quorum(_ plan: ClusterPlan) -> [Section.Entry] {
        let (settings, nodes) = (plan.corosync.quorum, plan.description.nodes.count)
        var entries: [Section.Entry] = [.line("provider", "corosync_votequorum")]
        // A single node would otherwise be refused for want of a number of votes.
        if let votes = settings.expectedVotes ?? (nodes == 1 ? 1 : nil) {
            entries.append(.line("expected_votes", String(votes)))
        }
        if settings.isTwoNode(nodes) { entries.append(.line("two_node", "1")) }
        if let waits = settings.waitForAll { entries.append(.line("wait_for_all", waits ? "1" : "0")) }
        if settings.autoTieBreaker { entries.append(.line("auto_tie_breaker", "1")) }
        if let device = settings.device {
            let security: [Section.Entry] = device.isEncrypted ? [] : [.line("tls", "off")]
            let net = Section(
                "net", [.line("host", device.host), .line("algorithm", device.algorithm.rawValue)] + security)
            var lines: [Section.Entry] = [.line("model", "net")]
            if device.algorithm == .ffsplit { lines.append(.line("votes", "1")) }
            entries.append(.section(Section("device", lines + [.section(net)])))
        }
        return entries
    }

    private static func logging(_ settings: CorosyncSettings) -> [Section.Entry] {
        guard let file = settings.logFile else {
            return [.line("to_stderr", "no"), .line("to_logfile", "no"), .line("to_syslog", "yes")]
        }
        return [
            .line("to_stderr", "no"), .line("to_syslog", "no"), .line("to_logfile", "yes"), .line("logfile", file),
            .line("timestamp", "hires"),
        ]
    }
}

func milliseconds(_ duration: Duration) -> Int64 {
    duration.components.seconds * 1_000 + duration.components.attoseconds / 1_000_000_000_000_000
}

/// A braced part of corosync.conf.
private struct Section {
    indirect enum Entry {
        case line(String, String)
        case section(Section)
    }

    let name: String
    let entries: [Entry]

    init(_ name: String, _ entries: [Entry]) { (self.name, self.entries) = (name, entries) }

    var text: String { lines(indent: "").map { $0 + "\n" }.joined() }

    private func lines(indent: String) -> [String] {
        let inner = entries.flatMap { entry -> [String] in
            switch entry {
            case .line(let key, let value): ["\(indent)  \(key): \(value)"]
            case .section(let section): section.lines(indent: indent + "  ")
            }
        }
        return ["\(indent)\(name) {"] + inner + ["\(indent)}"]
    }
}

extension CorosyncConfiguration {
    /// What is allowed and not wise, a sentence each.
    public static func advice(_ plan: ClusterPlan) -> [String] {
        let cluster = plan.description
        var advice: [String] = []
        if cluster.token < .seconds(1), !plan.corosync.isRealtime {
            advice.append(
                "a token of \(milliseconds(cluster.token)) ms without realtime priority: a busy machine is taken for "
                    + "dead; 1000 ms or realtime: true is advised")
        }
        if cluster.token < .milliseconds(300) {
            advice.append("a token of \(milliseconds(cluster.token)) ms: below 300 ms false deaths must be expected")
        }
        if (cluster.nodes.first?.addresses.count ?? 0) < 2 {
            advice.append("one network only: a second address for each node lets the cluster live through its failure")
        }
        let quorum = plan.corosync.quorum
        if cluster.nodes.count % 2 == 0, quorum.device == nil, !quorum.autoTieBreaker {
            advice.append(
                "\(cluster.nodes.count) nodes: two equal halves "
                    + (quorum.isTwoNode(cluster.nodes.count)
                        ? "are both quorate after a split; fencing, a third node or a qdevice prevents it"
                        : "both stop; an odd number, autoTieBreaker or a qdevice lets one go on"))
        }
        if !plan.corosync.isEncrypted {
            advice.append("corosync without encryption: whoever reaches the network is in")
        }
        return advice
    }
}
