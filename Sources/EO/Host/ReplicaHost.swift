public import EOLoop
public import EOReplicated
public import EngineKit
public import IOCCluster
public import IOCCorosync
public import IOCGroups
import OSAL
import SAFTypes

/// A replicated engine on a daemon's loop: the one way a daemon runs one.
///
/// It watches its group, lets time pass, performs nothing itself: what the engine decides comes out of the callbacks,
/// in the order of the commands. A callback may propose; what that causes comes after all that was decided before. When
/// the group's engine is gone (Corosync stopped, or is not there yet) it leaves and joins anew until it succeeds; the
/// state stays, and counts for what it is when the members tell each other what they hold.
///
/// Loop thread only. Set the callbacks before ``start(_:)``.
public final class ReplicaHost<Core: ReplicatedEngine> {
    public typealias Node = ReplicatedNode<Core, NodeGroup>

    /// An effect that this member performs. The ticket is that of the own proposal it comes from, else nil.
    public var onEffect: (Core.Effect, _ ticket: UInt64?) -> Void = { _, _ in }
    /// The engine handles this event next, whatever comes; called only with
    /// ``ReplicatedConfiguration/announcesEvents``. Must not propose.
    public var onWillApply: (Core.Event) -> Void = { _ in }
    /// What it decided was performed.
    public var onDidApply: () -> Void = {}
    /// Perform, then say so with ``effectDone(_:then:)``; comes again, here or elsewhere, until that is ordered.
    public var onOnce: (EffectID, Core.OnceEffect) -> Void = { _, _ in }
    /// The one answer to a proposal, by its ticket.
    public var onAnswer: (UInt64, ProposalOutcome) -> Void = { _, _ in }
    /// The state is another as a whole: derive anew what was derived from ``core``.
    public var onStateReplaced: () -> Void = {}
    public var onStatus: (ReplicatedStatus) -> Void = { _ in }
    /// Who is in the group from here on, and whether this side may act.
    public var onView: (GroupView) -> Void = { _ in }
    /// Bring a snapshot to that member over a peer link; its host is fed with it. Called only if
    /// ``ReplicatedConfiguration/carriesSnapshots``.
    public var onSendSnapshot: (GroupMember, SnapshotPoint, [UInt8]) -> Void = { _, _, _ in }
    /// For the log. The loss of the group is told once, however often joining anew fails.
    public var onNote: (ReplicatedNote) -> Void = { _ in }
    /// So many commands are with a majority: told when it has grown, after what those commands decided. A state that
    /// was replaced counts from 0 again.
    public var onCommitted: (UInt64) -> Void = { _ in }
    /// Keep this before returning. Called only if ``ReplicatedConfiguration/isJournaling``.
    public var onJournal: (JournalWrite) -> Void = { _ in }

    /// How long to wait before joining anew; doubled each time in vain.
    public static var rejoinDelayMin: Duration { .milliseconds(50) }
    public static var rejoinDelayMax: Duration { .seconds(1) }

    /// The present view; nil before the first and while the group is lost.
    public private(set) var view: GroupView?
    /// Why the journal could not be carried on, if there was one: the engine began empty.
    public let restoreFailure: String?

    private let loop: Loop
    private var node: Node
    private var queue: [Step] = []
    private var head = 0
    private var isDraining = false
    private var lastTicket: UInt64 = 0
    private var toldCommitted: UInt64 = 0
    private var groupName = ""
    private var isLost = false
    private var isLossTold = false
    private var rejoinDelay = ReplicaHost.rejoinDelayMin
    private var rejoinTimer: LoopTimer?
    private var pumpTimer: (at: Instant, timer: LoopTimer)?
    private var watches: [(descriptor: Int32, id: WatchID)] = []
    private var isClosed = false

    private enum Step {
        case propose(Core.Event, ticket: UInt64)
        case output(Node.Output)
    }

    /// - Parameters:
    ///   - incarnation: of this life of the daemon; never the same again on this node (a wall clock's nanoseconds).
    ///   - core: the engine at its beginning, the same on every member.
    ///   - journal: what the previous life left (``JournalContents/records``).
    ///   - configure: changes the defaults; the member is set.
    public init(
        loop: Loop, description: ClusterDescription, incarnation: UInt64, core: Core, restoring journal: [[UInt8]] = [],
        configure: (inout ReplicatedConfiguration) -> Void = { _ in }
    ) {
        self.loop = loop
        let group = NodeGroup.make(description, incarnation: incarnation)
        var configuration = ReplicatedConfiguration(member: group.member)
        configuration.versionMax = WireOffer.here.of(Core.versions).upperBound
        configure(&configuration)
        do throws(DecodeError) {
            let restored = try Replicated(core: core, configuration: configuration, restoring: journal)
            node = Node(restored, over: group)
            restoreFailure = nil
        } catch {
            node = Node(Replicated(core: core, configuration: configuration), over: group)
            restoreFailure = "\(error)"
        }
    }

    public var core: Core { node.core }
    public var status: ReplicatedStatus { node.status }
    /// Commands applied.
    public var index: UInt64 { node.replicated.index }
    /// No callback is running and nothing waits: what is proposed now comes before anything else.
    public var isAtRest: Bool { !isDraining }
    public var isOldest: Bool { node.replicated.isOldest }
    public var member: GroupMember { node.group.member }
    /// The engine with its place in the group, to be read.
    public var replicated: Replicated<Core> { node.replicated }

    /// Joins the group of this name, and again whenever it is lost. Alone, the member is synchronised when this
    /// returns.
    public func start(_ groupName: String) {
        self.groupName = groupName
        join()
    }

    /// Orders an event; ``onAnswer`` comes exactly once, at the earliest when this has returned and the callbacks of
    /// what is under way are through.
    @discardableResult
    public func propose(_ event: Core.Event) -> UInt64 {
        let ticket = nextTicket
        lastTicket = ticket
        queue.append(.propose(event, ticket: ticket))
        drain()  // its callbacks may propose
        return ticket
    }

    /// What ``propose(_:)`` will return next: its callbacks may come before it returns.
    public var nextTicket: UInt64 { lastTicket + 1 }

    /// A once-only effect was performed; `event` is applied together with its removal from the state.
    public func effectDone(_ id: EffectID, then event: Core.Event? = nil) {
        feed { node, now in node.effectDone(id, then: event, at: now) }
    }

    /// Hands the engine something that came by another way than the group, and performs what follows.
    public func feed(_ body: (inout Node, Instant) -> [Node.Output]) {
        append(body(&node, MonotonicClock.now()))
        drain()
    }

    /// The cluster's configuration has changed: a majority is counted of so many nodes.
    public func expect(nodes: Int) { feed { node, now in node.expect(nodes: nodes, at: now) } }

    /// Leaves the group; nothing is called any more.
    public func close() {
        isClosed = true
        if let timer = rejoinTimer { loop.cancel(timer) }
        if let pump = pumpTimer { loop.cancel(pump.timer) }
        (rejoinTimer, pumpTimer) = (nil, nil)
        queue.removeAll()
        head = 0
        unwatch()
        node.leave()
    }

    // MARK: Steps

    private func append(_ outputs: [Node.Output]) { for output in outputs { queue.append(.output(output)) } }

    private func drain() {
        guard !isDraining else { return }
        isDraining = true
        repeat {
            while head < queue.count {
                let step = queue[head]
                head += 1
                switch step {
                case .propose(let event, let ticket):
                    append(node.propose(event, ticket: ticket, at: MonotonicClock.now()))
                case .output(let output): perform(output)
                }
            }
        } while goOn() || tellCommitted()
        queue.removeAll(keepingCapacity: true)
        head = 0
        isDraining = false
        guard !isClosed else { return }
        if isLost { scheduleRejoin() } else { watch() }
        schedulePump()
    }

    /// True when the group had more for us than was performed.
    private func goOn() -> Bool {
        guard node.hasMore, !isClosed else { return false }
        append(node.pump(at: MonotonicClock.now()))
        return true
    }

    /// True when something was told, and may have led to more.
    private func tellCommitted() -> Bool {
        let committed = node.replicated.committedIndex
        guard committed > toldCommitted, !isClosed else { return false }
        toldCommitted = committed
        onCommitted(committed)
        return true
    }

    private func perform(_ output: Node.Output) {
        switch output {
        case .willApply(let event): onWillApply(event)
        case .didApply: onDidApply()
        case .journal(let write): onJournal(write)
        case .perform(let effect, let ticket): onEffect(effect, ticket)
        case .performOnce(let id, let effect): onOnce(id, effect)
        case .answer(let ticket, let outcome): onAnswer(ticket, outcome)
        case .sendSnapshot(let member, let point, let bytes): onSendSnapshot(member, point, bytes)
        case .stateReplaced:
            toldCommitted = 0
            onStateReplaced()
        case .status(let status): onStatus(status)
        case .view(let view):
            self.view = view
            isLossTold = false
            rejoinDelay = Self.rejoinDelayMin
            onView(view)
        case .note(.groupLost(let reason)): lose(reason)
        case .note(let note): onNote(note)
        }
    }

    // MARK: The group

    private func join() {
        isLost = false
        do throws(GroupError) {
            append(try node.start(groupName, at: MonotonicClock.now()))
        } catch {
            lose("\(error)")
        }
        drain()
    }

    private func lose(_ reason: String) {
        view = nil
        isLost = true
        guard !isLossTold else { return }
        isLossTold = true
        onNote(.groupLost(reason))
    }

    private func scheduleRejoin() {
        guard rejoinTimer == nil else { return }
        unwatch()
        node.leave()
        let delay = rejoinDelay
        rejoinDelay = min(rejoinDelay * 2, Self.rejoinDelayMax)
        rejoinTimer = loop.schedule(after: delay) { [unowned self] in
            rejoinTimer = nil
            join()
        }
    }

    /// A group's descriptors change while it joins.
    private func watch() {
        let wanted = node.descriptors
        guard wanted != watches.map(\.descriptor) else { return }
        unwatch()
        do throws(OSError) {
            for descriptor in wanted {
                let id = try loop.watch(descriptor, .read) { [unowned self] _ in
                    feed { node, now in node.pump(at: now) }
                }
                watches.append((descriptor, id))
            }
        } catch {
            lose("its descriptors cannot be watched: \(error)")
            scheduleRejoin()
        }
    }

    private func unwatch() {
        for watch in watches { loop.unwatch(watch.id) }
        watches.removeAll()
    }

    private func schedulePump() {
        let next = node.nextDeadline(after: MonotonicClock.now())
        guard next != pumpTimer?.at else { return }
        if let old = pumpTimer { loop.cancel(old.timer) }
        pumpTimer = nil
        guard let next else { return }
        let timer = loop.schedule(after: next - MonotonicClock.now()) { [unowned self] in
            pumpTimer = nil
            feed { node, now in node.pump(at: now) }
        }
        pumpTimer = (next, timer)
    }
}
