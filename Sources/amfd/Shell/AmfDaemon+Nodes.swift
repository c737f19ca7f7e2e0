import AmfProtocol
import EOLoop
import IOCCluster
import OSAL
import SAFTypes

// Which nodes there are: the model says so, cluster.yaml where they are.

extension AmfDaemon {
    /// Of cluster.yaml, which nodes there are is taken over by a running amfd, and nothing else.
    func reconfigure(_ read: ClusterDescription) {
        guard read != configured else { return }
        if configured.groupEngine != .alone {
            configured.nodes = read.nodes.map { node in configured.nodes.first { $0.id == node.id } ?? node }
        }
        if read != configured {
            announcer.tell(.descriptionChanged)
        }
        followModel()
    }

    /// The cluster has the nodes of its model; all daemons of this node are told those whose addresses are known here.
    func followModel() {
        guard let cluster, let model = host.model else { return }
        var agreed = configured
        // One that an older file lacks stays as it was.
        agreed.nodes = model.nodes.compactMap { described($0) }.sorted { $0.id < $1.id }
        if agreed.node(agreed.localNode) == nil, let own = configured.node(configured.localNode) {
            agreed.nodes = (agreed.nodes + [own]).sorted { $0.id < $1.id }
        }
        if agreed != description {
            description = agreed
            do throws(OSError) {
                try agreed.save(places)
            } catch {
                announcer.tell(.modelBad("the other daemons are not told of the cluster's nodes: \(error)"))
            }
        }
        cluster.update(agreed, nodes: model.nodes.count)
        let (known, wanted) = (configured.nodes.map { "\($0.name)" }.sorted(), model.nodes.map(\.name).sorted())
        if known != wanted, soughtNodes != wanted {
            soughtNodes = wanted
            readFiles(proposing: false)
        }
    }

    /// A node of the model with its addresses, as the latest file has them, or the one before.
    private func described(_ node: NodeModel) -> ClusterDescribedNode? {
        [configured, description].lazy.compactMap { $0.node(node.id) }.first { "\($0.name)" == node.name }
    }

    /// Reads this node's files; proposes what they say, or looks only for the addresses of nodes that have come.
    func readFiles(proposing: Bool) {
        isProposalOpen = isProposalOpen || proposing
        // Only the last of those that wait is called.
        let proposes = isProposalOpen
        compiler.compile { [unowned self] outcome in
            if isStopping { return }
            if proposes {
                isProposalOpen = false
                return take(outcome)
            }
            let found: ClusterDescription?
            switch outcome {
            case .success(let compiled): (found, nodesRefusal) = (compiled.cluster, nil)
            case .failure(let refusal): (found, nodesRefusal) = (refusal.cluster, refusal.text)
            }
            if let found, let read = try? StartConfiguration.numbered(found, Environment.get("SAF_NODE_ID")) {
                reconfigure(read)
            }
        }
    }

    /// What cluster.yaml of this machine has not in common with the cluster, for people.
    var nodeProblems: [String] {
        guard cluster != nil, let model = host.model else { return [] }
        var problems: [String] = []
        let unknown = model.nodes.filter { described($0) == nil }.map(\.name).joined(separator: ", ")
        if !unknown.isEmpty {
            let reason = nodesRefusal ?? "bring the newer file, then reload: systemctl reload swiftsaf"
            problems.append(
                "\(unknown): in the cluster, and not in cluster.yaml as \(nodeName) has read it:\n\(reason)")
        }
        let strange = configured.others.map { "\($0.name)" }.filter { name in
            !model.nodes.contains { $0.name == name }
        }.joined(separator: ", ")
        if !strange.isEmpty {
            problems.append(
                "\(strange): in cluster.yaml of \(nodeName), and not in the cluster: systemctl reload swiftsaf "
                    + "takes it in; if it has left, bring the newer file first")
        }
        return problems
    }
}
