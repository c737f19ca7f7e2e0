import AmfEngine
import AmfProtocol
import EOLoop
import EOReplicated
import EngineKit
import IOCGroups
import OSAL
import SAFTypes

/// Runs this node's two engines: feeds them events, hands their effects to the shell in order. Loop thread only.
///
/// One turn from a death to the pushes it causes: events go through one queue, first in, first out, and what follows
/// from one is performed at once, the most urgent first, down to the push. What is only to be told (notes,
/// notifications) waits a moment longer, so that nothing stands between a failure and the new active's assignment, and
/// amfd does not keep the new active's CPU.
final class EngineHost {
    typealias ClusterNode = ReplicatedNode<ClusterEngine, LoopbackGroup>

    /// Performs what is neither engine's nor timer's matter.
    var performNode: (NodeEffect) -> Void = { _ in }
    var performCluster: (ClusterEffect) -> Void = { _ in }
    /// A proposal that somebody waits for was not applied; the error says whether it may have been. Nobody's proposals
    /// (reports, timers) are proposed again.
    var onRefusal: (ClusterEvent, AisError) -> Void = { _, _ in }
    var onNote: (ShellNote) -> Void = { _ in }
    var onNodeNote: (NodeNote) -> Void = { _ in }
    var onReplicatedNote: (ReplicatedNote) -> Void = { _ in }
    var onNotifications: ([AmfNotification]) -> Void = { _ in }

    let node: NodeID
    let incarnation: UInt64
    private let loop: Loop
    private let journal: RamJournal
    private var engine: NodeEngine
    private var cluster: ClusterNode
    private var queue: [Step] = []
    private var head = 0
    private var isDraining = false
    private var told: [Telling] = []
    private var nodeTimers: [TimerName: LoopTimer] = [:]
    private var pumpTimer: (at: Instant, timer: LoopTimer)?
    private var lastTicket: UInt64 = 0
    private var isJournalBroken = false

    private enum Step {
        case node(NodeEvent)
        case cluster(ClusterEvent, ticket: UInt64)
    }

    /// How long what is only to be told may wait.
    private static let tellingDelay: Duration = .milliseconds(1)

    private enum Telling {
        case nodeNote(NodeNote)
        case replicatedNote(ReplicatedNote)
        case notifications(EffectID, AmfNotifications)
    }

    private struct TimerName: Hashable {
        let component: SaName
        let kind: NodeTimer.Kind
    }

    /// Carries on from the journal, if it holds anything; ``wasRestored`` says so.
    init(loop: Loop, node: NodeID, incarnation: UInt64, journal: RamJournal) throws(GroupError) {
        (self.loop, self.node, self.incarnation, self.journal) = (loop, node, incarnation, journal)
        engine = NodeEngine(node: node, incarnation: incarnation)
        let member = GroupMember(node: node, incarnation: incarnation)
        var configuration = ReplicatedConfiguration(member: member)
        configuration.isJournaling = true
        configuration.journalBytesMin = RamJournal.capacityMin / 2
        let records = journal.records
        let group = LoopbackGroup(member: member)
        do throws(DecodeError) {
            let restored = try Replicated(core: ClusterEngine(), configuration: configuration, restoring: records)
            cluster = ClusterNode(restored, over: group)
            wasRestored = !records.isEmpty
        } catch {
            cluster = ClusterNode(Replicated(core: ClusterEngine(), configuration: configuration), over: group)
            wasRestored = false
            restoreFailure = "\(error)"
        }
    }

    private(set) var wasRestored: Bool
    private(set) var restoreFailure: String?

    /// The model that the cluster engine runs; nil before the first.
    var model: AmfModel? { cluster.core.model.nodes.isEmpty ? nil : cluster.core.model }

    var status: StatusReport {
        cluster.core.status(at: MonotonicClock.now(), wall: MonotonicClock.wallNanoseconds())
    }

    /// See ``ClusterEngine/objection(to:on:)``.
    func objection(to operation: AdminOperation, on name: SaName) -> String? {
        cluster.core.objection(to: operation, on: name)
    }

    func start() throws(GroupError) {
        perform(try cluster.start("amf", at: MonotonicClock.now()))
        drain()
    }

    func handle(_ event: NodeEvent) {
        queue.append(.node(event))
        drain()
    }

    @discardableResult
    func propose(_ event: ClusterEvent) -> UInt64 {
        lastTicket += 1
        queue.append(.cluster(event, ticket: lastTicket))
        drain()
        return lastTicket
    }

    private func drain() {
        guard !isDraining else { return }
        isDraining = true
        while head < queue.count {
            let step = queue[head]
            head += 1
            perform(step)
        }
        queue.removeAll(keepingCapacity: true)
        head = 0
        isDraining = false
        schedulePump()
        tellSoon()
    }

    private func perform(_ step: Step) {
        switch step {
        case .node(let event): feed(event)
        case .cluster(let event, let ticket):
            // What came later must not overtake what is still to be proposed.
            if !refusedEvents.isEmpty, refusedEvents.concerns(event) { return refused(event, .noResources) }
            let outputs = cluster.propose(event, ticket: ticket, at: MonotonicClock.now())
            if case .answer(ticket, .refused(let error))? = outputs.first { return refused(event, error) }
            perform(outputs)
        }
    }

    private func feed(_ event: NodeEvent) {
        for effect in engine.handle(event, at: MonotonicClock.now()) { perform(effect) }
    }

    private func perform(_ outputs: [ClusterNode.Output]) { for output in outputs { perform(output) } }

    private func perform(_ effect: NodeEffect) {
        switch effect {
        case .report(let report):
            lastTicket += 1
            queue.append(.cluster(.report(node, report), ticket: lastTicket))
        case .startTimer(let timer, let delay):
            let name = TimerName(component: timer.component, kind: timer.kind)
            if let old = nodeTimers[name] { loop.cancel(old) }
            nodeTimers[name] = loop.schedule(after: delay) { [unowned self] in
                nodeTimers[name] = nil
                handle(.timer(timer))
            }
        case .cancelTimer(let timer):
            let name = TimerName(component: timer.component, kind: timer.kind)
            if let old = nodeTimers.removeValue(forKey: name) { loop.cancel(old) }
        case .note(let note): told.append(.nodeNote(note))
        case .spawn, .push, .signalTerminate, .kill, .runCleanup, .reply: performNode(effect)
        }
    }

    private func perform(_ output: ClusterNode.Output) {
        switch output {
        case .journal(let write): keep(write)
        case .perform(let effect, _): perform(effect)
        case .performOnce(let id, let notifications): told.append(.notifications(id, notifications))
        case .answer, .stateReplaced, .status, .view, .sendSnapshot: break
        case .note(let note): told.append(.replicatedNote(note))
        }
    }

    private func perform(_ effect: ClusterEffect) {
        switch effect {
        case .order(let target, let order): if target == node { feed(.order(order)) }
        case .modelInstalled: feed(.model(cluster.core.model))
        case .adminReply, .nodeStopped, .modelRefused: performCluster(effect)
        case .startTimer, .cancelTimer, .notify: break  // kept by the replicated engine
        }
    }

    // MARK: Refusals

    private var refusedEvents = RefusedEvents()
    private var isRetrying = false

    /// Too much waits to be applied. What a component or its death brought about must not be forgotten.
    private func refused(_ event: ClusterEvent, _ error: AisError) {
        guard refusedEvents.concerns(event) else { return onRefusal(event, error) }
        if refusedEvents.isEmpty { onNote(.proposalRefused("\(error)")) }
        if !refusedEvents.keep(event) { onNote(.proposalLost("\(event)")) }
        guard !isRetrying else { return }
        isRetrying = true
        loop.schedule(after: Self.retryDelay) { [unowned self] in
            isRetrying = false
            for event in refusedEvents.takeAll() { propose(event) }
        }
    }

    private static let retryDelay: Duration = .milliseconds(10)

    // MARK: Journal

    private func keep(_ write: JournalWrite) {
        do throws(OSError) {
            switch write {
            case .append(let record):
                if !journal.append(record) { try journal.replace(with: journal.records + [record]) }
            case .replace(let record): try journal.replace(with: [record])
            }
            isJournalBroken = false
        } catch {
            if !isJournalBroken { onNote(.journalFull("\(error)")) }
            isJournalBroken = true
        }
    }

    // MARK: Time

    private func schedulePump() {
        let next = cluster.nextDeadline(after: MonotonicClock.now())
        guard next != pumpTimer?.at else { return }
        if let old = pumpTimer { loop.cancel(old.timer) }
        pumpTimer = nil
        guard let next else { return }
        let timer = loop.schedule(after: next - MonotonicClock.now()) { [unowned self] in
            pumpTimer = nil
            perform(cluster.pump(at: MonotonicClock.now()))
            drain()
        }
        pumpTimer = (next, timer)
    }

    // MARK: Telling

    /// When the pushes have left and amfd has slept: what is told costs system calls, and who was pushed needs a CPU.
    private func tellSoon() {
        guard !told.isEmpty, !isTelling else { return }
        isTelling = true
        loop.schedule(after: Self.tellingDelay) { [unowned self] in tell() }
    }

    private var isTelling = false

    /// Tells what waits to be told; called once more at the end.
    func tell() {
        isTelling = false
        let batch = told
        told.removeAll(keepingCapacity: true)
        for telling in batch {
            switch telling {
            case .nodeNote(let note): onNodeNote(note)
            case .replicatedNote(let note): onReplicatedNote(note)
            case .notifications(let id, let notifications):
                onNotifications(notifications.list)
                perform(cluster.effectDone(id, at: MonotonicClock.now()))
            }
        }
        drain()
    }
}
