import IOCCluster
import SAFTypes
import SafCluster

extension LabOptions {
    /// The cluster as node `local` sees it.
    ///
    /// - Parameters:
    ///   - folder: the node's own; corosync has its log there.
    ///   - configDirectory: the node's SAF_CONFIG_DIR.
    func plan(of local: Int, folder: String, configDirectory: String) -> ClusterPlan {
        let nodes = allNodes.compactMap { number -> ClusterDescribedNode? in
            guard let name = SaName(Self.nodeName(number)) else { return nil }
            return ClusterDescribedNode(
                id: NodeID(UInt32(number)), name: name, role: payloads.contains(number) ? .payload : .controller,
                addresses: allPlanes.map { LinkAddress(Self.address(of: number, plane: $0)) })
        }
        let links = LinkSettings(
            security: areLinksEncrypted ? .tls : .none, certificateDirectory: configDirectory + "/certificates")
        let description = ClusterDescription(
            clusterName: name, groupEngine: .corosync, localNode: NodeID(UInt32(local)), nodes: nodes, links: links,
            token: .milliseconds(token))
        var corosync = CorosyncSettings()
        corosync.isEncrypted = isEncrypted
        corosync.isRealtime = isRealtime
        corosync.keyFile = configDirectory + "/corosync/authkey"
        corosync.logFile = folder + "/log/corosync.log"
        corosync.quorum.autoTieBreaker = hasAutoTieBreaker
        if isTwoNode ?? (self.nodes == 2 && !hasAutoTieBreaker) {
            corosync.quorum.twoNode = true
            // Otherwise a node of a two-node lab that starts alone would wait for the other.
            corosync.quorum.waitForAll = false
        } else if self.nodes == 2 {
            corosync.quorum.twoNode = false
        }
        return ClusterPlan(description, corosync)
    }
}
