import IOCCluster
import SAFTypes

/// `cluster.yaml` for a plan: what reading it gives is the plan again.
public enum ClusterText {
    public static func yaml(_ plan: ClusterPlan) -> String {
        let (cluster, corosync) = (plan.description, plan.corosync)
        let standard = ClusterDescription.alone(name: cluster.local.name)
        var lines = [
            "# The same on all nodes. Every key: share/swiftsaf/configuration.md; saf config check tells mistakes."
        ]
        lines.append("cluster: \(quoted(cluster.clusterName))")
        lines.append("engine: \(cluster.groupEngine == .corosync ? "corosync" : "alone")")
        lines.append("token: \(milliseconds(cluster.token))ms")
        lines.append("linkSecurity: \(cluster.links.security == .tls ? "tls" : "none")")
        if cluster.links.portBase != standard.links.portBase { lines.append("portBase: \(cluster.links.portBase)") }
        if cluster.quorumLossGrace != standard.quorumLossGrace {
            lines.append("quorumLossGrace: \(milliseconds(cluster.quorumLossGrace))ms")
        }
        if cluster.leasePercent != standard.leasePercent {
            let (whole, rest) = (cluster.leasePercent / 100, cluster.leasePercent % 100)
            lines.append("lease: \(whole).\(rest < 10 ? "0" : "")\(rest)")
        }
        if cluster.database != standard.database { lines.append("database: \(cluster.database)") }
        if !corosync.isRealtime { lines.append("realtime: false") }
        if !corosync.isEncrypted { lines.append("corosyncSecurity: none") }
        if let file = corosync.logFile { lines.append("corosyncLog: \(quoted(file))") }
        let quorum = self.quorum(corosync.quorum)
        if !quorum.isEmpty { lines.append("quorum: { \(quorum.joined(separator: ", ")) }") }
        if !cluster.access.users.isEmpty { lines.append("users: \(list(cluster.access.users))") }
        if !cluster.access.groups.isEmpty { lines.append("groups: \(list(cluster.access.groups))") }
        if let fencing = cluster.fencing { lines.append("fencingTimeout: \(milliseconds(fencing.timeout))ms") }
        lines.append("nodes:")
        lines += cluster.nodes.map { node($0, cluster) }
        return lines.joined(separator: "\n") + "\n"
    }

    private static func quorum(_ settings: QuorumSettings) -> [String] {
        var parts: [String] = []
        if let flag = settings.twoNode { parts.append("twoNode: \(flag)") }
        if settings.autoTieBreaker { parts.append("autoTieBreaker: true") }
        if let votes = settings.expectedVotes { parts.append("expectedVotes: \(votes)") }
        if let flag = settings.waitForAll { parts.append("waitForAll: \(flag)") }
        if let device = settings.device {
            let security = device.isEncrypted ? "" : ", tls: false"
            parts.append(
                "qdevice: { host: \(quoted(device.host)), algorithm: \(device.algorithm.rawValue)\(security) }")
        }
        return parts
    }

    /// The line of a node, to stand under `nodes:`; without what fencing says of it.
    static func line(_ node: ClusterDescribedNode) -> String {
        self.node(node, .alone(node.id, name: node.name))
    }

    private static func node(_ node: ClusterDescribedNode, _ cluster: ClusterDescription) -> String {
        var parts = ["id: \(node.id)"]
        if node.role == .payload { parts.append("role: payload") }
        let addresses = node.addresses.map(address)
        if !addresses.isEmpty { parts.append("addresses: [\(addresses.joined(separator: ", "))]") }
        let devices = (cluster.fencing?.devices ?? []).filter { $0.node == node.id }.map {
            "{ agent: \(quoted($0.agent)), parametersFile: \(quoted($0.parametersFile)) }"
        }
        if !devices.isEmpty { parts.append("fencing: [\(devices.joined(separator: ", "))]") }
        return "  \(quoted("\(node.name)")): { \(parts.joined(separator: ", ")) }"
    }

    private static func address(_ address: LinkAddress) -> String {
        if address.device == nil, address.source == nil, address.mark == nil { return quoted(address.host) }
        var parts = ["host: \(quoted(address.host))"]
        if let device = address.device { parts.append("device: \(quoted(device))") }
        if let source = address.source { parts.append("source: \(quoted(source))") }
        if let mark = address.mark { parts.append("mark: \(mark)") }
        return "{ \(parts.joined(separator: ", ")) }"
    }

    private static func list(_ texts: [String]) -> String { "[\(texts.map(quoted).joined(separator: ", "))]" }

    /// Quoted whenever YAML could take it for something else than this text.
    private static func quoted(_ text: String) -> String {
        let isPlain = text.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                || (UInt8(ascii: "A")...UInt8(ascii: "Z")).contains(byte)
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || [0x2D, 0x2E, 0x2F, 0x5F].contains(byte)
        }
        let words = ["true", "false", "yes", "no", "on", "off", "null"]
        let startsWell = text.utf8.first.map { $0 != 0x2D && $0 != 0x2E } ?? false
        if isPlain, startsWell, !words.contains(text.lowercased()) { return text }
        return "'" + text.split(separator: "'", omittingEmptySubsequences: false).joined(separator: "''") + "'"
    }
}
