public import IOCCluster
public import IOCGroups

/// The ordered group a daemon holds: of one when the node is alone, else over Corosync.
public struct NodeGroup: OrderedGroup {
    private var loopback: LoopbackGroup
    private var corosync: FragmentingGroup<CorosyncGroup>?

    /// - Parameter incarnation: of this life of the daemon; never the same again on this node.
    public static func make(_ description: ClusterDescription, incarnation: UInt64) -> NodeGroup {
        let member = GroupMember(node: description.localNode, incarnation: incarnation)
        var group = NodeGroup(loopback: LoopbackGroup(member: member))
        switch description.groupEngine {
        case .alone: break
        case .corosync: group.corosync = FragmentingGroup(CorosyncGroup(member: member))
        }
        return group
    }

    public var member: GroupMember { loopback.member }
    public var messageBytesMax: Int { corosync?.messageBytesMax ?? loopback.messageBytesMax }
    public var descriptors: [Int32] { corosync?.descriptors ?? loopback.descriptors }

    public mutating func join(_ name: String) throws(GroupError) {
        if corosync != nil { try corosync?.join(name) } else { try loopback.join(name) }
    }

    public mutating func leave() { if corosync != nil { corosync?.leave() } else { loopback.leave() } }

    public mutating func forgetAtViews() { corosync?.forgetAtViews() }

    public mutating func multicast(_ bytes: [UInt8]) -> MulticastResult {
        corosync?.multicast(bytes) ?? loopback.multicast(bytes)
    }

    public mutating func expect(nodes: Int) { corosync?.expect(nodes: nodes) }

    public mutating func next() -> GroupEvent? { corosync != nil ? corosync?.next() : loopback.next() }
}
