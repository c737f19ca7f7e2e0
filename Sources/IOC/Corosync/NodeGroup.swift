public import IOCCluster
public import IOCGroups

/// The ordered group a daemon holds: of one when the node is alone, else over Corosync.
public enum NodeGroup: OrderedGroup {
    case loopback(LoopbackGroup)

    /// - Parameter incarnation: of this life of the daemon; never the same again on this node.
    public static func make(_ description: ClusterDescription, incarnation: UInt64) -> NodeGroup {
        let member = GroupMember(node: description.localNode, incarnation: incarnation)
        return .loopback(LoopbackGroup(member: member))
    }

    public var member: GroupMember {
        switch self {
        case .loopback(let group): group.member
        }
    }

    public var messageBytesMax: Int {
        switch self {
        case .loopback(let group): group.messageBytesMax
        }
    }

    public var descriptors: [Int32] {
        switch self {
        case .loopback(let group): group.descriptors
        }
    }

    public mutating func join(_ name: String) throws(GroupError) {
        switch self {
        case .loopback(var group):
            try group.join(name)
            self = .loopback(group)
        }
    }

    public mutating func leave() {
        switch self {
        case .loopback(var group):
            group.leave()
            self = .loopback(group)
        }
    }

    public mutating func multicast(_ bytes: [UInt8]) -> MulticastResult {
        switch self {
        case .loopback(var group):
            defer { self = .loopback(group) }
            return group.multicast(bytes)
        }
    }

    public mutating func next() -> GroupEvent? {
        switch self {
        case .loopback(var group):
            defer { self = .loopback(group) }
            return group.next()
        }
    }
}
