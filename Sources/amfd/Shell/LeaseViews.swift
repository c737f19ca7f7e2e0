import EOReplicated
import IOCGroups
import SAFTypes

/// Makes the views of a lease, which are of nodes, out of a group's, which are of processes: an amfd that is killed
/// takes no node away, and one that comes back brings none.
struct LeaseViews {
    private var last: GroupView?

    mutating func next(_ view: GroupView) -> LeaseView {
        let before = last
        last = view
        // A member that is said to have joined, and was there before, was apart for a moment; so was its node.
        let returned = view.joined.filter { before?.members.contains($0) == true }.map(\.node)
        let joined = view.nodes.filter { before?.nodes.contains($0) != true || returned.contains($0) }
        return LeaseView(id: view.id, nodes: view.nodes, joined: joined, isQuorate: view.isQuorate)
    }

    /// The group is lost: whatever comes next, all were apart.
    mutating func lose() { last = nil }
}
