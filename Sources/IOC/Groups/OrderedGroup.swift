import EngineKit
import SAFTypes

/// One process in a group: at most one for each node at a time. `incarnation` tells a node's lives apart (the pid over
/// Corosync); a member that left never comes back under the same incarnation.
public struct GroupMember: Hashable, Comparable, Sendable {
    public var node: NodeID
    public var incarnation: UInt64

    public init(node: NodeID, incarnation: UInt64) {
        self.node = node
        self.incarnation = incarnation
    }

    public static func < (left: GroupMember, right: GroupMember) -> Bool {
        (left.node, left.incarnation) < (right.node, right.incarnation)
    }
}

/// node u32 · incarnation u64.
extension GroupMember: WireCodable, CustomStringConvertible {
    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(incarnation)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        incarnation = try reader.integer()
    }

    public var description: String { "\(node)/\(incarnation)" }
}

/// Who is in the group from this point of the order on.
public struct GroupView: Hashable, Sendable {
    /// The same at every member that sees this view, and never that of another view of the group. (Over Corosync: ring
    /// identifier and member list together; the member list alone repeats.)
    public var id: UInt64
    /// Ascending, without repetition; contains the own member.
    public var members: [GroupMember]
    /// Members that were not in the own previous view.
    public var joined: [GroupMember]
    /// Members of the own previous view that did not move with us. A member that separated and came back between two
    /// views is in `left` of one view and in `joined` of that or a later one.
    public var left: [GroupMember]
    /// Whether this side of the cluster may act. True for at most one side at a time.
    public var isQuorate: Bool
    /// How many nodes the cluster is configured for (votequorum's expected votes): what a majority is counted of.
    public var nodesExpected: Int
    /// Nodes that are connected with this side, ascending, whether or not a member runs there: a member that is missing
    /// from ``members`` but whose node is here has ended, or is being started again; its node lives.
    public var nodes: [NodeID]

    /// - Parameter nodes: nil: those of the members.
    public init(
        id: UInt64, members: [GroupMember], joined: [GroupMember], left: [GroupMember], isQuorate: Bool,
        nodesExpected: Int, nodes: [NodeID]? = nil
    ) {
        self.nodes = nodes ?? members.map(\.node)
        self.id = id
        self.members = members
        self.joined = joined
        self.left = left
        self.isQuorate = isQuorate
        self.nodesExpected = nodesExpected
    }

    /// The least number of nodes of which no two disjoint sets exist.
    public var majority: Int { nodesExpected / 2 + 1 }
}

/// What a group delivers, in the common order.
public enum GroupEvent: Hashable, Sendable {
    case message(from: GroupMember, bytes: [UInt8])
    case view(GroupView)
    /// The engine underneath is gone (Corosync died, or put us out): nothing follows. Leave, and join anew.
    case lost(reason: String)
}

public enum MulticastResult: Hashable, Sendable {
    /// Accepted: it will be delivered, to this member too, unless this member fails.
    case sent
    /// Back-pressure: nothing was sent; try again when ``OrderedGroup/next()`` has been drained, or a millisecond
    /// later.
    case busy
    /// More than ``OrderedGroup/messageBytesMax``; nothing was sent.
    case tooBig
    case notJoined
}

public struct GroupError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String
    public init(_ description: String) { self.description = description }
}

/// A named group whose members receive the same messages and views in the same order (virtual synchrony).
///
/// What an implementation promises; ``Replicated`` rests on every sentence:
/// 1. *Order.* Two members deliver the messages they both deliver in the same order; a member's own messages in the
///    order sent.
/// 2. *Virtual synchrony.* Members that move from one view to the next together delivered the same messages in it.
/// 3. *Agreed, not safe.* A member that is being cut off may deliver messages, its own above all, that the others never
///    do, and may lack some that they deliver, up to its next view (measured on Corosync).
/// 4. *Own messages.* What anybody delivers in a view, its sender, if it lives, delivers in that view too; and what a
///    member sends after a delivery of point 3's kind is delivered in a later view, if at all.
/// 5. *Quorum.* The flag of a view holds for everything delivered until the next view. A change of quorum is a view
/// (with
///    its own id), at the same point of the order for every member. An implementation that learns quorum over another
///    channel (libquorum) holds deliveries back until it knows the flag that belongs to the ring.
///
/// Pull, do not call back: the shell watches ``descriptors``, calls ``next()`` until it returns nil, and feeds the
/// engine. Not thread-safe: one owner. Source: cpg_overview(8), quorum_overview(3).
public protocol OrderedGroup {
    /// Known before joining.
    var member: GroupMember { get }
    /// The largest message ``multicast(_:)`` takes; ``FragmentingGroup`` goes above it.
    var messageBytesMax: Int { get }
    /// Readable when ``next()`` may have something; none for groups that never wait.
    var descriptors: [Int32] { get }

    /// Asks to join; done when a view that contains ``member`` is delivered.
    mutating func join(_ name: String) throws(GroupError)
    mutating func leave()
    mutating func multicast(_ bytes: [UInt8]) -> MulticastResult
    /// From now on what was sent and not delivered when a view comes is not sent again in it; without, it may be. For
    /// who says again in each view what is still true: nothing old comes late.
    mutating func forgetAtViews()
    /// The next event of the order, or nil: nothing now. Never waits.
    mutating func next() -> GroupEvent?
    /// The cluster is configured for so many nodes from now on: what a majority is counted of. A view says so in time.
    mutating func expect(nodes: Int)
}

extension OrderedGroup {
    public var descriptors: [Int32] { [] }
    public mutating func forgetAtViews() {}
    public mutating func expect(nodes: Int) {}
}
