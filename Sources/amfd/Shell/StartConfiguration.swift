import AmfProtocol
import EngineKit
import IOCCluster
import OSAL
import SAFTypes

/// Who this node is: known before anything else is done, because everything else depends on it.
struct StartConfiguration {
    let cluster: ClusterDescription
    /// What the compiler gave; nil when an earlier life of amfd is carried on, whose cluster was kept.
    let first: ModelCompiler.Outcome?

    /// Reads it from the earlier life's file, or from `cluster.yaml`; then every daemon finds it in
    /// `$SAF_RUN_DIR/cluster`.
    ///
    /// Waits for the compiler: nobody is served before a node knows who it is, and nothing runs yet.
    /// - Throws: `cluster.yaml` is there and cannot be used. A member of a cluster must not start as if it were alone.
    static func find(_ files: NodeFiles, _ places: Places, plan: SpawnPlan) throws -> StartConfiguration {
        // One that cannot be read is written anew.
        if File.exists(files.journalPath), File.exists(ClusterDescription.path(places)),
            let known = try? ClusterDescription.load(places)
        {
            return StartConfiguration(cluster: known, first: nil)
        }
        let outcome = ModelCompiler.compileNow(plan)
        let cluster: ClusterDescription
        switch outcome {
        case .success(let compiled): cluster = compiled.cluster
        case .failure(let refusal):
            if let known = refusal.cluster {
                cluster = known
            } else {
                guard !File.exists(places.configDirectory + "/cluster.yaml"), let name = SaName(places.nodeName) else {
                    throw Refusal(
                        text: "node \(places.nodeName) does not know its cluster:\n\(refusal.text)", isPermanent: false)
                }
                cluster = .alone(name: name)
            }
        }
        let own = try numbered(cluster, Environment.get("SAF_NODE_ID"))
        try own.save(places)
        return StartConfiguration(cluster: own, first: outcome)
    }

    /// A node alone may be given its number by `SAF_NODE_ID`; a member has it from `cluster.yaml`.
    static func numbered(_ cluster: ClusterDescription, _ text: String?) throws(Refusal) -> ClusterDescription {
        guard let text, !text.isEmpty else { return cluster }
        guard let number = UInt32(text), (1...65_535).contains(number) else {
            throw Refusal(
                text: "SAF_NODE_ID is '\(text)'; a whole number from 1 to 65535 expected", isPermanent: true)
        }
        if cluster.localNode == NodeID(number) { return cluster }
        guard cluster.groupEngine == .alone, cluster.nodes.count == 1 else {
            throw Refusal(
                text: "SAF_NODE_ID is \(number), and cluster.yaml says that this node is number \(cluster.localNode)",
                isPermanent: true)
        }
        var own = cluster
        own.localNode = NodeID(number)
        own.nodes[0].id = NodeID(number)
        return own
    }
}
