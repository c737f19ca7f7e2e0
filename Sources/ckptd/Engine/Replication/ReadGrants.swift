import Containers
public import EngineKit
public import SAFTypes

/// What this node's ckptd was promised by others, and so until when reads of its replicas are worth what they must be.
///
/// Who answers `touch` promises: until a lease from now no update of mine is acknowledged that you do not know of,
/// whatever I am made meanwhile (``Replication`` keeps it). Only who has every update that was acknowledged can be made
/// the active one; so nobody who could has acknowledged anything behind this node's back while all of them keep that
/// promise. The answer says how far its sender is in the order of the directory: it counts when this node has seen as
/// much, for a question may be answered by who has already been told of another active replica.
public struct ReadGrants: Hashable, Sendable {
    private struct Answer: Hashable, Sendable {
        var sent: Instant
        var index: UInt64
    }

    public let rule: LeaseRule
    public private(set) var others: [NodeID] = []
    private var mayAct = false
    /// What was asked before counts no more: this node may have been away.
    private var actsSince = Instant.start
    /// The last command of the directory that is known to be with a majority, and was acted on.
    private var committed: UInt64 = 0
    /// When the last question was sent whose answer counts.
    private var heard = OrderedMap<NodeID, Instant>()
    /// Answers of those who know more of the directory than this node.
    private var ahead = OrderedMap<NodeID, Answer>()

    public init(token: Duration) { rule = LeaseRule(token: token) }

    public mutating func update(others: [NodeID], mayAct: Bool, committed: UInt64, now: Instant) {
        if mayAct != self.mayAct || !mayAct {
            (self.mayAct, actsSince) = (mayAct, now)
            heard.removeAll()
            ahead.removeAll()
        }
        if others != self.others {
            self.others = others
            heard.removeAll { !others.contains($0.key) }
            ahead.removeAll { !others.contains($0.key) }
        }
        self.committed = committed
        for (node, answer) in ahead where answer.index <= committed {
            ahead[node] = nil
            count(node, answer.sent)
        }
    }

    /// - Parameters:
    ///   - sent: when the question was sent; nothing is known of when the answer was.
    ///   - index: of the last command of the directory that the other had applied when it answered.
    public mutating func answered(_ node: NodeID, sent: Instant, index: UInt64) {
        guard mayAct, sent >= actsSince, others.contains(node) else { return }
        if index <= committed { count(node, sent) } else { ahead[node] = Answer(sent: sent, index: index) }
    }

    private mutating func count(_ node: NodeID, _ sent: Instant) { heard[node] = max(heard[node] ?? .start, sent) }

    /// Until when a node keeps its promise; `.start`: it has given none.
    public func until(_ node: NodeID) -> Instant {
        guard mayAct, let sent = heard[node] else { return .start }
        return sent + rule.length
    }

    /// Until when everybody keeps it.
    public func end(now: Instant) -> Instant { rule.end(others, heard, mayAct: mayAct, now: now) }

    /// Whether a node is to be asked again by who wants no pause.
    public func isDue(_ node: NodeID, now: Instant) -> Bool { until(node) <= now + rule.length / 3 }
}
