import CkptEngine
import CkptProtocol
import ClmClient
import ClmProtocol
import EOLoop
import OSAL
import SAFTypes

/// What clmd says of this node's membership, for requests that want to know and for readers that do not ask. Performs
/// what ``Membership`` decides. Loop thread only.
final class MembershipKeeper {
    /// The shell says who comes and goes.
    var state = Membership()
    /// It is another membership now, or none.
    var onChange: () -> Void = {}
    private let cluster: LoopCluster
    private let node: NodeID
    private let path: String
    private let journal: Journal

    private static let bytesMax = 4 << 20

    init(loop: Loop, places: Places, node: NodeID, journal: Journal) {
        self.node = node
        self.journal = journal
        path = "\(places.shmDirectory)/ckpt/membership"
        // None, or not ours: then what this life hears counts.
        if let bytes = try? File.readAll(path, limit: Self.bytesMax), let known = try? Membership(decoding: bytes) {
            state = known
        }
        cluster = LoopCluster(loop: loop, places: places)
        cluster.track { [unowned self] view in heard(view) }
    }

    func close() { cluster.close() }

    private func heard(_ view: ClusterView) {
        let own = view.notifications.first { $0.node.nodeID == node && $0.change != .left && $0.node.isMember }
        guard state.told(view: view.viewNumber, joined: own?.node.initialViewNumber) else { return }
        journal.write(
            .notice,
            own == nil
                ? "this node is not a member of the cluster: B.02 clients are told UNAVAILABLE"
                : "this node is a member of the cluster since view \(state.joined)")
        do throws(OSError) {
            try File.writeAtomically(path, state.encoded, durable: false, mode: 0o600)
        } catch {
            journal.write(.error, "who came before the node left is not kept: \(error)")
        }
        onChange()
    }
}
