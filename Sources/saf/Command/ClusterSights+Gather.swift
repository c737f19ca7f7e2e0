import CkptClient
import CkptProtocol
import IOCCluster
import IOCCorosync
import SAFTypes
import SafText

extension ClusterSights {
    /// Asks corosync and ckptd of this node, two seconds each at most; what does not answer is left out.
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
            if let (checkpoints, isOld) = try Checkpoints(timeout: .seconds(2)).clusterQuietly() {
                sights.take(checkpoints)
                sights.isOld = isOld
            }
        } catch {
            if error == .access || error == .accessDenied {
                sights.checkpointsProblem = "ckptd does not tell them this user"
            } else {
                sights.silence = "ckptd of this node does not answer"
                sights.checkpointsProblem = sights.silence
            }
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
