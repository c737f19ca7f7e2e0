import EngineKit
import IOCGroups
import SAFTypes

/// A ``Replicated`` engine joined to its group: what a daemon holds. Still no I/O of its own; one owner, one thread.
///
/// The daemon calls ``start(_:at:)`` once, then ``propose(_:ticket:at:)`` for what its clients want, ``pump(at:)``
/// when a descriptor of the group is readable and when ``nextDeadline`` has come, and performs the outputs in their
/// order.
public struct ReplicatedNode<Core: ReplicatedEngine, Group: OrderedGroup> {
    public enum Output: Sendable {
        /// The engine handles this event next, and nothing comes between: what was made ready for it may be done. What
        /// it then decides follows up to ``didApply``. Only with ``ReplicatedConfiguration/announcesEvents``.
        case willApply(Core.Event)
        case didApply
        /// Keep this before performing anything that follows.
        case journal(JournalWrite)
        case perform(Core.Effect, ticket: UInt64?)
        /// Report with ``ReplicatedNode/effectDone(_:then:at:)``, when it is done.
        case performOnce(EffectID, Core.OnceEffect)
        case answer(ticket: UInt64, ProposalOutcome)
        /// Only with ``ReplicatedConfiguration/carriesSnapshots``; what arrives goes to
        /// ``ReplicatedNode/snapshotReceived(from:point:bytes:at:)``.
        case sendSnapshot(to: GroupMember, point: SnapshotPoint, bytes: [UInt8])
        case stateReplaced
        case status(ReplicatedStatus)
        /// Who is in the group from here on, before anything that is delivered in that view.
        case view(GroupView)
        case note(ReplicatedNote)
    }

    /// How long to wait when the group pushes back.
    public static var retryDelay: Duration { .milliseconds(1) }

    public private(set) var replicated: Replicated<Core>
    public private(set) var group: Group
    /// Messages the group has not taken yet. Bounded: proposals are refused while it is long.
    private var outbox: [[UInt8]] = []
    private let outboxMax: Int
    private var isBusy = false
    /// Announced, and to be applied next.
    private var announced: GroupEvent?
    /// To be acknowledged when the outputs are performed.
    private var isPerforming = false

    public init(_ replicated: Replicated<Core>, over group: Group) {
        invariant(replicated.configuration.member == group.member, "the engine and the group name different members")
        self.replicated = replicated
        self.group = group
        self.group.forgetAtViews()
        self.replicated.eventBytesMax = group.messageBytesMax - ReplicatedMessage.overheadMax
        outboxMax = 2 * replicated.configuration.outstandingMax
    }

    public var core: Core { replicated.core }
    public var status: ReplicatedStatus { replicated.status }
    public var descriptors: [Int32] { group.descriptors }

    /// ``pump(at:)`` is due as soon as what was returned is performed.
    public var hasMore: Bool { announced != nil || isPerforming }

    /// Messages wait because the group pushed back.
    public var hasUnsent: Bool { !outbox.isEmpty }

    /// Joins the group. Over ``LoopbackGroup`` the member is synchronised when this returns.
    public mutating func start(_ name: String, at now: Instant) throws(GroupError) -> [Output] {
        try group.join(name)
        return pump(at: now)
    }

    /// What a majority is counted of from now on.
    public mutating func expect(nodes: Int, at now: Instant) -> [Output] {
        group.expect(nodes: nodes)
        return pump(at: now)
    }

    /// Leaves the group; the state stays, and ``start(_:at:)`` joins anew. What was delivered and is not yet taken is
    /// lost, what was not sent is not sent any more: the next view has it said again.
    public mutating func leave() {
        group.leave()
        forgetUnderWay()
    }

    private mutating func forgetUnderWay() {
        outbox.removeAll()
        isBusy = false
        announced = nil
        isPerforming = false
    }

    /// Orders an event. Its ticket is answered exactly once, at once or later; effects routed `.answer` come before it,
    /// with the same ticket.
    public mutating func propose(_ event: Core.Event, ticket: UInt64, at now: Instant) -> [Output] {
        guard outbox.count < outboxMax else { return [.answer(ticket: ticket, .refused(.tryAgain))] }
        var outputs: [Output] = []
        feed(.propose(event, ticket: ticket), at: now, &outputs)
        drain(at: now, &outputs)
        return outputs
    }

    /// A once-only effect was performed; `event` is applied together with its removal from the state.
    public mutating func effectDone(_ id: EffectID, then event: Core.Event? = nil, at now: Instant) -> [Output] {
        var outputs: [Output] = []
        feed(.effectDone(id, event), at: now, &outputs)
        drain(at: now, &outputs)
        return outputs
    }

    /// A peer link brought a snapshot.
    public mutating func snapshotReceived(
        from sender: GroupMember, point: SnapshotPoint, bytes: [UInt8], at now: Instant
    ) -> [Output] {
        var outputs: [Output] = []
        feed(.snapshotReceived(from: sender, point: point, bytes: bytes), at: now, &outputs)
        drain(at: now, &outputs)
        return outputs
    }

    /// A peer link is bringing one.
    public mutating func snapshotArriving(at now: Instant) {
        _ = replicated.handle(.snapshotArriving, at: now)  // has no effects
    }

    /// After the group was lost: joins the one that took its place, as another member that remembers what it holds.
    public mutating func rejoin(_ name: String, over group: Group, at now: Instant) throws(GroupError) -> [Output] {
        self.group.leave()
        self.group = group
        self.group.forgetAtViews()
        forgetUnderWay()
        var outputs: [Output] = []
        take(replicated.rejoining(as: group.member), &outputs)
        try self.group.join(name)
        drain(at: now, &outputs)
        return outputs
    }

    /// Takes what the group has, and lets time pass.
    public mutating func pump(at now: Instant) -> [Output] {
        var outputs: [Output] = []
        isBusy = false
        if let event = announced {
            announced = nil
            feed(.group(event), at: now, &outputs)
            outputs.append(.didApply)
        }
        if let deadline = replicated.nextDeadline, deadline <= now { feed(.tick, at: now, &outputs) }
        drain(at: now, &outputs)
        return outputs
    }

    /// When ``pump(at:)`` is due at the latest. Never earlier than a millisecond after `now`'s work.
    public func nextDeadline(after now: Instant) -> Instant? {
        let retry = outbox.isEmpty ? nil : now + Self.retryDelay
        guard let deadline = replicated.nextDeadline else { return retry }
        return retry.map { min($0, deadline) } ?? deadline
    }

    private mutating func drain(at now: Instant, _ outputs: inout [Output]) {
        repeat {
            flush()
            guard announced == nil else { return }
            while let event = group.next() {
                isBusy = false
                if case .view(let view) = event {
                    // Of an earlier view: what is still true is said again.
                    outbox.removeAll()
                    outputs.append(.view(view))
                }
                if replicated.configuration.announcesEvents, let coming = replicated.event(comingWith: event) {
                    announced = event
                    outputs.append(.willApply(coming))
                    return
                }
                feed(.group(event), at: now, &outputs)
                flush()
            }
            isPerforming = replicated.configuration.announcesEvents && !isPerforming && !outputs.isEmpty
            if isPerforming { return }
            feed(.drained, at: now, &outputs)
        } while !outbox.isEmpty && !isBusy
    }

    private mutating func feed(_ event: Replicated<Core>.Event, at now: Instant, _ outputs: inout [Output]) {
        take(replicated.handle(event, at: now), &outputs)
    }

    private mutating func take(_ effects: [Replicated<Core>.Effect], _ outputs: inout [Output]) {
        for effect in effects {
            switch effect {
            case .multicast(let bytes): outbox.append(bytes)
            case .journal(let write): outputs.append(.journal(write))
            case .perform(let effect, let ticket): outputs.append(.perform(effect, ticket: ticket))
            case .performOnce(let id, let effect): outputs.append(.performOnce(id, effect))
            case .answer(let ticket, let outcome): outputs.append(.answer(ticket: ticket, outcome))
            case .sendSnapshot(let member, let point, let bytes):
                outputs.append(.sendSnapshot(to: member, point: point, bytes: bytes))
            case .stateReplaced: outputs.append(.stateReplaced)
            case .status(let status): outputs.append(.status(status))
            case .note(let note): outputs.append(.note(note))
            }
        }
    }

    private mutating func flush() {
        guard !isBusy else { return }
        var sent = 0
        loop: for message in outbox {
            switch group.multicast(message) {
            case .sent: sent += 1
            case .busy:
                isBusy = true
                break loop
            // Nobody to tell: the proposal will time out, and the group says that it is lost.
            case .tooBig, .notJoined: sent += 1
            }
        }
        if sent > 0 { outbox.removeFirst(sent) }
    }
}
