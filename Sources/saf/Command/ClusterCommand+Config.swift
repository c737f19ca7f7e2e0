import ArgumentParser
import CliProtocol
import IOCCluster
import OSAL
import SAFTypes
import SafCluster
import SafConfig

extension ClusterCommand {
    struct Config: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "config", abstract: "Checks cluster.yaml, and gives the corosync.conf for it.",
            discussion: """
                Without options it is printed. The same cluster.yaml on all nodes gives the same corosync.conf. Advice \
                goes to standard error. Exit status 2 when cluster.yaml is wrong, 1 when --check finds a difference.

                Example: saf cluster config --write /etc/corosync/corosync.conf
                """)
        @Option(help: "Writes it to this file instead.", completion: .file()) var write: String?
        @Option(help: "Compares it with this file instead.", completion: .file()) var check: String?

        func validate() throws {
            if write != nil, check != nil { throw ValidationError("either --write or --check expected") }
        }

        func run() throws {
            let plan = try ClusterFiles.here.plan()
            if let fault = CorosyncConfiguration.fault(plan) { throw Tool.fail("saf: \(fault)", .refused) }
            for advice in CorosyncConfiguration.advice(plan) { StandardError.write("saf: \(advice)\n") }
            let text = CorosyncConfiguration.text(plan)
            do {
                if let write {
                    _ = try ClusterFiles.here.write(corosync: plan, to: write)
                } else if let check {
                    try compare(try File.readText(check, limit: 1 << 20), text)
                } else {
                    StandardOutput.write(text)
                }
            } catch { throw ClusterCommand.failure("corosync.conf", error) }
        }

        private func compare(_ found: String, _ wanted: String) throws {
            if CorosyncConfiguration.isSame(found, wanted) { return }
            let lines = CorosyncConfiguration.difference(found, wanted)
            StandardOutput.write(lines.isEmpty ? "the order differs\n" : lines.map { $0 + "\n" }.joined())
            throw ExitCode(Tool.Status.failed.rawValue)
        }
    }

    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "show", abstract: "Shows the cluster as it is configured.",
            discussion: "As it runs: saf status. Whether all is well: saf doctor.")
        @Flag(help: "One JSON object on one line.") var json = false

        func run() throws {
            let plan = try ClusterFiles.here.plan()
            StandardOutput.write(json ? Self.json(plan).text() + "\n" : Self.text(plan))
        }

        static func text(_ plan: ClusterPlan) -> String {
            let cluster = plan.description
            let token = DurationText.text(cluster.token)
            let death = DurationText.text(.milliseconds(Self.milliseconds(cluster.token) * 22 / 10))
            var text = "cluster \(cluster.clusterName), engine \(cluster.groupEngine), links "
            text += "\(cluster.links.security) from port \(cluster.links.portBase)\n"
            text += "token \(token): a death is known after about \(death); lease \(cluster.leasePercent) % of it; "
            text += "grace without quorum \(DurationText.text(cluster.quorumLossGrace))\n"
            for node in cluster.nodes {
                let addresses = node.addresses.map(\.host).joined(separator: ", ")
                let mark = node.id == cluster.localNode ? " (here)" : ""
                let fencing = (cluster.fencing?.devices ?? []).filter { $0.node == node.id }.map(\.agent)
                let fence = fencing.isEmpty ? "" : "  fenced by \(fencing.joined(separator: ", "))"
                text += "  \(node.id)  \(node.name)\(mark)  \(node.role)  \(addresses)\(fence)\n"
            }
            return text
        }

        private static func milliseconds(_ duration: Duration) -> Int64 {
            duration.components.seconds * 1_000 + duration.components.attoseconds / 1_000_000_000_000_000
        }

        private static func json(_ plan: ClusterPlan) -> JSONValue {
            let cluster = plan.description
            let nodes = cluster.nodes.map { node -> JSONValue in
                [
                    "id": .integer(Int64(node.id.rawValue)), "name": .string("\(node.name)"),
                    "role": .string("\(node.role)"), "addresses": .array(node.addresses.map { .string($0.host) }),
                ]
            }
            return [
                "cluster": .string(cluster.clusterName), "engine": .string("\(cluster.groupEngine)"),
                "localNode": .integer(Int64(cluster.localNode.rawValue)),
                "tokenMs": .integer(milliseconds(cluster.token)),
                "linkSecurity": .string("\(cluster.links.security)"),
                "portBase": .integer(Int64(cluster.links.portBase)),
                "leasePercent": .integer(Int64(cluster.leasePercent)),
                "quorumLossGraceMs": .integer(milliseconds(cluster.quorumLossGrace)), "nodes": .array(nodes),
            ]
        }
    }
}
