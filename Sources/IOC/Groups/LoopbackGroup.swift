import SAFTypes

/// The group of one: always quorate, every message delivered to its sender in order. The embedded, single-node default.
///
/// Deliveries are queued, never made from within ``multicast(_:)``, so an engine is never entered twice.
public struct LoopbackGroup: OrderedGroup, Sendable {
    /// Messages waiting for ``next()`` before ``multicast(_:)`` answers busy.
    public static let queuedMax = 4096

    public let member: GroupMember
    public let messageBytesMax: Int
    private var queue: [GroupEvent] = []
    private var head = 0
    private var isJoined = false
    private var viewCount: UInt64 = 0

    public init(member: GroupMember, messageBytesMax: Int = 64 << 20) {
        self.member = member
        self.messageBytesMax = messageBytesMax
    }

    public mutating func join(_ name: String) throws(GroupError) {
        guard !isJoined else { throw GroupError("group \(name): joined already; leave first") }
        isJoined = true
        viewCount += 1
        let view = GroupView(
            id: viewCount, members: [member], joined: [member], left: [], isQuorate: true, nodesExpected: 1)
        queue.append(.view(view))
    }

    /// Drops what is not yet delivered.
    public mutating func leave() {
        isJoined = false
        queue.removeAll()
        head = 0
    }

    public mutating func multicast(_ bytes: [UInt8]) -> MulticastResult {
        guard isJoined else { return .notJoined }
        guard bytes.count <= messageBytesMax else { return .tooBig }
        guard queue.count - head < Self.queuedMax else { return .busy }
        queue.append(.message(from: member, bytes: bytes))
        return .sent
    }

    public mutating func next() -> GroupEvent? {
        guard head < queue.count else { return nil }
        let event = queue[head]
        head += 1
        if head == queue.count {  // the usual case: one message in, one out, and no growth
            queue.removeAll(keepingCapacity: true)
            head = 0
        } else if head >= 1024 {
            queue.removeFirst(head)
            head = 0
        }
        return event
    }
}
