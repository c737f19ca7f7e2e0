import AmfClient
import AmfProtocol
import ArgumentParser
import IOC
import IOCCluster
import OSAL
import SAFTypes
import SafCluster

extension ClusterCommand {
    struct Add: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "add", abstract: "Writes one more node into cluster.yaml.",
            discussion: """
                Nothing that runs is disturbed. What is to be done next is told: the file goes to all nodes, and those \
                that run read it again. Nodes come one at a time.

                Example: saf cluster add d=10.0.0.4,10.1.0.4
                """)
        @Argument(help: "The node and its one or two numeric addresses: NAME=ADDRESS[,ADDRESS].") var node: String
        @Flag(help: "It only carries work.") var payload = false

        func run() throws {
            let files = ClusterFiles.here
            let cluster = try files.plan().description
            let parts = node.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
            guard parts.count == 2, let name = SaName(parts[0]), !parts[1].isEmpty else {
                throw ValidationError("\(node): NAME=ADDRESS or NAME=ADDRESS,ADDRESS expected")
            }
            guard cluster.node(named: name) == nil else {
                throw Tool.fail("saf: \(files.cluster) has a node '\(name)' already")
            }
            let highest = cluster.nodes.map(\.id.rawValue).max() ?? 0
            let added = ClusterDescribedNode(
                id: NodeID(highest + 1), name: name, role: payload ? .payload : .controller,
                addresses: parts[1].split(separator: ",", omittingEmptySubsequences: false).map {
                    LinkAddress(String($0))
                })
            try NodesFile(files).change(to: cluster.nodes + [added]) { ClusterEdit.adding(added, to: $0) }
            StandardOutput.write(
                """
                \(name) is node \(added.id) in \(files.cluster).
                Bring that file to \(NodesFile.names(cluster.others)), and on all that run:
                  saf config check && saf cluster config --write \(CorosyncConfiguration.systemPath)
                on one of them, when all have it:
                  corosync-cfgtool -R
                here, for \(name), and there as at a first start (saf cluster join, corosync, swiftsaf):
                  saf cluster invite \(name)
                and when it is there, on one of those that ran before:
                  systemctl reload swiftsaf

                """)
        }
    }

    struct Remove: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "remove", abstract: "Takes a node out of cluster.yaml.",
            discussion: """
                The node must be locked (saf admin lock NAME), so that its work has moved, and SwiftSAF and corosync \
                stopped on it: it is refused otherwise, with what is to be done first. Its certificate is refused when \
                the others have read the file again.

                Example: saf cluster remove b
                """)
        @Argument(help: "The node's name.") var node: String

        func run() throws {
            let files = ClusterFiles.here
            let cluster = try files.plan().description
            guard let name = SaName(node), let gone = cluster.node(named: name) else {
                throw Tool.fail(
                    "saf: \(files.cluster) has no node '\(node)' (nodes: \(NodesFile.names(cluster.nodes)))")
            }
            guard gone.id != cluster.localNode else {
                throw Tool.fail("saf: '\(node)' is this machine; do it on another node of the cluster")
            }
            if let objection = try Self.objection(toRemoving: node) {
                throw Tool.fail("saf: \(objection)\n\(files.cluster) is as it was.", .refused)
            }
            let left = cluster.nodes.filter { $0.id != gone.id }
            try NodesFile(files).change(to: left) { ClusterEdit.removing(node, from: $0) }
            let others = left.filter { $0.id != cluster.localNode }
            StandardOutput.write(
                """
                \(node) is not in \(files.cluster) any more. Now\(others.isEmpty ? "" : " bring that file to "
                    + NodesFile.names(others) + ", and") on all that run:
                  saf config check && saf cluster config --write \(CorosyncConfiguration.systemPath)
                on one of them, when all have it:
                  corosync-cfgtool -R
                  systemctl reload swiftsaf

                """)
        }
    }
}

extension ClusterCommand.Remove {
    /// What must be done before; nil: nothing, or no cluster runs here that could know.
    private static func objection(toRemoving name: String) throws -> String? {
        guard Tool.isNodeThere else { return nil }
        let report: StatusReport
        do throws(CallError) {
            report = try AdminClient(places: Tool.places).status()
        } catch {
            throw Tool.explain(error, doing: "cluster remove \(name)")
        }
        guard let node = report.nodes.first(where: { $0.name == name }) else { return nil }
        guard [.locked, .lockedInstantiation].contains(node.adminState) else {
            return "node \(name) is not locked: it has work, or may be given some. First, here: saf admin lock \(name)"
        }
        guard !node.isMember else {
            return "SwiftSAF runs on \(name). First, there: systemctl disable --now swiftsaf corosync"
        }
        return nil
    }
}

/// cluster.yaml, to be written with other nodes.
private struct NodesFile {
    let files: ClusterFiles
    init(_ files: ClusterFiles) { self.files = files }

    static func names(_ nodes: [ClusterDescribedNode]) -> String { nodes.map { "\($0.name)" }.joined(separator: ", ") }

    /// Every error of the new text on stderr, and nothing is written then.
    func change(to nodes: [ClusterDescribedNode], _ edit: (String) -> String?) throws {
        do {
            let text = try File.readText(files.cluster, limit: 1 << 20)
            guard let new = edit(text) else { throw byHand("there is no line for each node under nodes:") }
            let plan = try ClusterFiles.plan(of: new, file: "\(files.cluster), as it would be")
            guard plan.description.nodes == nodes.sorted(by: { $0.id < $1.id }) else {
                throw byHand("other nodes would change, too: each must have its id")
            }
            if let fault = CorosyncConfiguration.fault(plan) { throw Tool.fail("saf: \(fault)", .refused) }
            for advice in CorosyncConfiguration.advice(plan) { StandardError.write("saf: \(advice)\n") }
            try File.writeAtomically(files.cluster, text: new, durable: true)
        } catch { throw ClusterCommand.failure("\(files.cluster) cannot be changed", error) }
    }

    private func byHand(_ reason: String) -> any Error {
        Tool.fail("saf: \(files.cluster) must be changed by hand: \(reason)", .refused)
    }
}
