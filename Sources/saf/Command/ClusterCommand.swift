import ArgumentParser
import IOCCluster
import IOCLinks
import OSAL
import SAFTypes
import SafCluster

struct ClusterCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cluster", abstract: "Makes a cluster of machines, and shows how it is configured.",
        discussion: """
            On one machine: saf cluster init, then saf cluster invite for each other node. On the others: \
            saf cluster join with the file that was made for them. Then start corosync and amfd everywhere, and ask \
            saf doctor.

            Example: saf cluster init shop --node a=10.0.0.1,10.1.0.1 --node b=10.0.0.2,10.1.0.2 \
            --node c=10.0.0.3,10.1.0.3
            """,
        subcommands: [
            Init.self, Invite.self, Join.self, Add.self, Remove.self, Config.self, Show.self,
        ])

    /// Secrets are written: whoever may not read them must not make them either.
    static func failure(_ what: String, _ error: any Error) -> any Error {
        if error is ExitCode { return error }
        return Tool.fail("saf: \(what): \(error)")
    }
}

extension ClusterCommand {
    struct Init: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "init", abstract: "Makes a new cluster, and this machine its first node.",
            discussion: """
                Writes into SAF_CONFIG_DIR: cluster.yaml; corosync's common key and corosync.conf; the cluster's own \
                certificate authority and this node's certificate. The n-th addresses of all nodes are one network; \
                with two, either may fail.
                """)
        @Argument(help: "The cluster's name: 1 to 32 letters, digits, '.', '_' or '-'.") var name: String
        @Option(name: .customLong("node"), help: "A node and its one or two numeric addresses: NAME=ADDRESS[,ADDRESS].")
        var nodes: [String] = []
        @Option(name: .customLong("payload"), help: "The name of a node that only carries work.")
        var payloads: [String] = []
        @Option(help: "Corosync's token in ms: a node's death is known after about 2.2 times as long.") var token =
            1_000
        @Option(help: "A host that is no node, where corosync-qnetd runs: it decides which of two halves goes on.")
        var qdevice: String?
        @Option(help: "Links between the daemons: tls, or none on a network nobody else can reach.")
        var linkSecurity = "tls"
        @Option(help: "Writes corosync.conf here; otherwise into SAF_CONFIG_DIR/corosync.", completion: .file())
        var corosyncConf: String?
        @Flag(help: "Replaces a cluster that is there, with its keys.") var force = false

        func run() throws {
            let files = ClusterFiles.here
            if File.exists(files.cluster), !force {
                throw Tool.fail("saf: \(files.cluster) is there already; --force makes a new cluster with new keys")
            }
            let text = ClusterText.yaml(try wanted())
            do {
                // Read back, so that every rule of cluster.yaml holds for the arguments, too.
                let plan = try ClusterFiles.plan(of: text, file: "cluster.yaml")
                try File.makeDirectories(files.folder)
                try files.write(key: Environment.randomBytes(256))
                if plan.description.links.security == .tls {
                    let authority = try CertificateAuthority.create(cluster: name)
                    try authority.save(in: files.authority)
                    try authority.issue(node: Tool.places.nodeName).save(in: files.certificates)
                }
                let hint = try files.write(corosync: plan, to: corosyncConf)
                // Last: with it this machine is a member.
                try File.writeAtomically(files.cluster, text: text, durable: true)
                tell(plan, hint)
            } catch { throw ClusterCommand.failure("the cluster cannot be made", error) }
        }

        private func tell(_ plan: ClusterPlan, _ hint: String) {
            let others = plan.description.others.map { "  saf cluster invite \($0.name)" }.joined(separator: "\n")
            StandardOutput.write(
                """
                cluster \(name): \(plan.description.nodes.count) nodes; this one is \(plan.description.local.name)
                Everything is in \(ClusterFiles.here.folder). Now:
                \(others.isEmpty ? "" : others + "\n")\(hint)
                saf doctor
                systemctl enable --now swiftsaf (or, without systemd: amfd --guard)

                """)
        }

        private func wanted() throws -> ClusterPlan {
            guard let security = ["tls": LinkSettings.Security.tls, "none": .none][linkSecurity] else {
                throw ValidationError("--link-security: tls or none expected, '\(linkSecurity)' found")
            }
            guard !nodes.isEmpty else { throw ValidationError("at least one --node NAME=ADDRESS expected") }
            var described: [ClusterDescribedNode] = []
            for (index, text) in nodes.enumerated() {
                let parts = text.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false).map(String.init)
                guard parts.count == 2, let node = SaName(parts[0]), !parts[1].isEmpty else {
                    throw ValidationError("--node \(text): NAME=ADDRESS or NAME=ADDRESS,ADDRESS expected")
                }
                let addresses = parts[1].split(separator: ",", omittingEmptySubsequences: false)
                described.append(
                    ClusterDescribedNode(
                        id: NodeID(UInt32(index + 1)), name: node,
                        role: payloads.contains(parts[0]) ? .payload : .controller,
                        addresses: addresses.map { LinkAddress(String($0)) }))
            }
            for payload in payloads where !described.contains(where: { "\($0.name)" == payload }) {
                throw ValidationError("--payload \(payload): no --node of this name")
            }
            let local = described.first { "\($0.name)" == Tool.places.nodeName } ?? described[0]
            var corosync = CorosyncSettings()
            corosync.quorum.device = qdevice.map { QuorumDevice(host: $0) }
            return ClusterPlan(
                ClusterDescription(
                    clusterName: name, groupEngine: .corosync, localNode: local.id, nodes: described,
                    links: LinkSettings(security: security), token: .milliseconds(token)), corosync)
        }
    }

    struct Invite: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "invite", abstract: "Makes the file with which a machine becomes a node of this cluster.",
            discussion: """
                Run it where the cluster was made: the authority's key is there. The file holds keys; bring it over \
                safely (scp) and remove it afterwards. The node must stand in cluster.yaml. A node that was in the \
                cluster before gets a new certificate.

                Example: saf cluster invite b && scp b.safjoin b: && ssh b saf cluster join b.safjoin
                """)
        @Argument(help: "The node's name.") var node: String
        @Argument(help: "The file to write; NODE\(ClusterBundle.fileSuffix) if not given.", completion: .file())
        var file: String?

        func run() throws {
            let files = ClusterFiles.here
            let plan = try files.plan()
            guard let name = SaName(node), plan.description.node(named: name) != nil else {
                let known = plan.description.nodes.map { "\($0.name)" }.joined(separator: ", ")
                throw Tool.fail("saf: cluster.yaml has no node '\(node)' (nodes: \(known)); add it there first")
            }
            let target = file ?? node + ClusterBundle.fileSuffix
            do {
                var bundle = ClusterBundle(
                    node: node, clusterFile: try File.readText(files.cluster, limit: 1 << 20),
                    corosyncKey: try File.readAll(files.corosyncKey, limit: 4_096))
                if plan.description.links.security == .tls {
                    let authority = try CertificateAuthority(
                        cluster: plan.description.clusterName, folder: files.authority)
                    let certificate = try authority.issue(node: node)
                    bundle.authority = certificate.authorityPEM
                    bundle.certificate = certificate.certificatePEM
                    bundle.key = certificate.keyPEM
                }
                try File.writeAtomically(target, bundle.encoded, durable: true, mode: 0o600)
            } catch { throw ClusterCommand.failure("no invitation can be made", error) }
            // As it was done here.
            let system = CorosyncConfiguration.systemPath
            let isThere = (try? File.readText(system, limit: 1 << 20)) == CorosyncConfiguration.text(plan)
            StandardOutput.write(
                """
                \(target): bring it to \(node), run there, and remove it then, it holds keys:
                  saf cluster join \(node)\(ClusterBundle.fileSuffix)\(isThere ? " --corosync-conf \(system)" : "")

                """)
        }
    }

    struct Join: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "join", abstract: "Makes this machine a node of a cluster, by the file of `invite`.",
            discussion: "This machine must have the node's name: as its host name, or in SAF_NODE_NAME.")
        @Argument(help: "The file that saf cluster invite made.", completion: .file()) var file: String
        @Option(help: "Writes corosync.conf here; otherwise into SAF_CONFIG_DIR/corosync.", completion: .file())
        var corosyncConf: String?
        @Flag(help: "Also when this machine belongs to a cluster already.") var force = false

        func run() throws {
            let files = ClusterFiles.here
            let bundle = try read()
            let here = Tool.places.nodeName
            guard bundle.node == here else {
                throw Tool.fail(
                    "saf: the invitation is for '\(bundle.node)', and this machine is called '\(here)': set its host "
                        + "name or SAF_NODE_NAME, or invite '\(here)'")
            }
            if let old = try? File.readText(files.cluster, limit: 1 << 20), old != bundle.clusterFile, !force {
                throw Tool.fail("saf: \(files.cluster) is there and says something else; --force replaces it")
            }
            do {
                let plan = try ClusterFiles.plan(of: bundle.clusterFile, file: "\(file): cluster.yaml")
                try File.makeDirectories(files.folder)
                try files.write(key: bundle.corosyncKey)
                if !bundle.certificate.isEmpty {
                    try File.makeDirectories(files.certificates, mode: 0o700)
                    for (name, bytes) in [
                        ("ca.pem", bundle.authority), ("node.key", bundle.key), ("node.pem", bundle.certificate),
                    ] {
                        try File.writeAtomically("\(files.certificates)/\(name)", bytes, durable: true, mode: 0o600)
                    }
                }
                let hint = try files.write(corosync: plan, to: corosyncConf)
                try File.writeAtomically(files.cluster, text: bundle.clusterFile, durable: true)
                StandardOutput.write(
                    """
                    this is node \(bundle.node) of cluster \(plan.description.clusterName). Now:
                    \(hint)
                    saf doctor
                    systemctl enable --now swiftsaf (or, without systemd: amfd --guard)

                    """)
            } catch { throw ClusterCommand.failure("the cluster cannot be joined", error) }
        }

        private func read() throws -> ClusterBundle {
            do {
                return try ClusterBundle(decoding: try File.readAll(file, limit: ClusterBundle.bytesMax))
            } catch { throw ClusterCommand.failure("\(file) is no usable invitation", error) }
        }
    }
}
