import CkptClient
import CkptProtocol
import IOCCluster
import IOCCorosync
import SAFTypes
import SafText

extension ClusterSights {
    /// Asks corosync and ckptd of this node, a second each at most; what does not answer is left out.
    static func gather() -> ClusterSights {
        var sights = ClusterSights()
        let own = (try? ClusterDescription.load(Tool.places))?.localNode
        do throws(KnetLinks.Problem) {
            sights.links = try KnetLinks.read().filter { NodeID($0.node) != own }.map {
                Link(node: NodeID($0.node), number: $0.number, isUp: $0.isConnected)
            }
        } catch {
            sights.linksProblem = error.description
        }
        do throws(AisError) {
            if let checkpoints = try Checkpoints(timeout: .seconds(1)).clusterQuietly() { sights.take(checkpoints) }
        } catch {
            sights.checkpointsProblem = "ckptd of this node does not answer"
        }
        return sights
    }

    private mutating func take(_ all: [ClusterCheckpoint]) {
        checkpoints = all.count
        let nodes = Set(all.flatMap { $0.replicas.map(\.node) }).sorted()
        placements = nodes.map { node in
            var place = Placement(node: node)
            place.replicas = all.count { $0.replicas.contains { $0.node == node } }
            place.active = all.count { $0.active == node }
            return place
        }
        incomplete = all.compactMap(ReplicaText.trouble)
    }
}
