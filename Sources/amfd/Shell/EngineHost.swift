import AmfEngine
import AmfProtocol
import EOHost
import EOLoop
import EOReplicated
import EngineKit
import IOC
import IOCCluster
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
    /// How a proposal ended: nil, a majority has it; else why not, which for a timeout means that nobody knows.
    typealias Ending = (CallError?) -> Void

    /// Performs what is neither engine's nor timer's matter.
    var performNode: (NodeEffect) -> Void = { _ in }
    /// Makes a callback ready to be sent at any later time; nil when its component is not connected.
    var preparePush: (AmfPush) -> PreparedPush? = { _ in nil }
    /// Called before a component hears of an order that its engine does not know of yet; false: it must not now.
    var onForetold: (CSISetOrder) -> Bool = { _ in true }
    var onAdminReply: (AdminReply) -> Void = { _ in }
    var onNodeStopped: () -> Void = {}
    /// The cluster has a model, for the first time here or another one; the node engine has it already.
    var onModel: () -> Void = {}
    var onStatus: (ReplicatedStatus) -> Void = { _ in }
    var onView: (GroupView) -> Void = { _ in }
    /// The state holds this node as a member, with what lives on it: what is left is to go on.
    var onJoined: () -> Void = {}
    /// A component may have become active, or ceased to be.
    var onActivity: ((SaName) -> Void)?
    /// Who is active for what may be another now, as far as a majority knows.
    var onEpochs: (([Activity]) -> Void)?
    /// Called before any event is handled.
    var beforeWork: (() -> Void)?
    var onNote: (ShellNote) -> Void = { _ in }
    var onNodeNote: (NodeNote) -> Void = { _ in }
    var onReplicatedNote: (ReplicatedNote) -> Void = { _ in }
    var onNotifications: ([AmfNotification]) -> Void = { _ in }

    let node: NodeID
    let incarnation: UInt64
    private let loop: Loop
    private let journal: RamJournal
    private let isAlone: Bool
    private var engine: NodeEngine
    private let cluster: ReplicaHost<ClusterEngine>
    private var queue: [Step] = []
    private var head = 0
    private var isDraining = false
    private var told: [Telling] = []
    private var nodeTimers: [TimerName: LoopTimer] = [:]
    private var isJournalBroken = false

    private struct Proposal {
        let event: ClusterEvent
        let ending: Ending?
        /// Why the engine refused it; comes before its end.
        var refusal: String?
    }
    private var proposals: [UInt64: Proposal] = [:]

    private enum Step {
        case node(NodeEvent)
        case cluster(ClusterEvent, Ending?)
    }

    /// How long what is only to be told may wait.
    private static let tellingDelay: Duration = .milliseconds(1)

    private enum Telling {
        case nodeNote(NodeNote)
        case replicatedNote(ReplicatedNote)
        case notifications(EffectID, [AmfNotification])
    }

    private struct TimerName: Hashable {
        let component: SaName
        let kind: NodeTimer.Kind
    }

    /// Carries on from the journal, if it holds anything.
    init(loop: Loop, description: ClusterDescription, incarnation: UInt64, journal: RamJournal) {
        (self.loop, self.incarnation, self.journal) = (loop, incarnation, journal)
        node = description.localNode
        isAlone = description.groupEngine == .alone
        engine = NodeEngine(node: node, incarnation: incarnation)
        cluster = ReplicaHost(
            loop: loop, description: description, incarnation: incarnation, core: ClusterEngine(),
            restoring: journal.records
        ) { configuration in
            configuration.isJournaling = true
            configuration.announcesEvents = description.groupEngine != .alone
            configuration.journalBytesMin = RamJournal.capacityMin / 2
        }
        connect()
    }

    private func connect() {
        cluster.onEffect = { [unowned self] effect, ticket in
            perform(effect, ticket)
            drain()
        }
        cluster.onWillApply = { [unowned self] in respond(to: $0) }
        cluster.onDidApply = { [unowned self] in
            compareWithResponse()
            giveWay()
            isUrgentElsewhere = false
        }
        cluster.onOnce = { [unowned self] in perform($0, $1) }
        cluster.onAnswer = { [unowned self] in ended($0, $1) }
        cluster.onStateReplaced = { [unowned self] in stateReplaced() }
        cluster.onStatus = { [unowned self] in changed($0) }
        cluster.onView = { [unowned self] in onView($0) }
        cluster.onNote = { [unowned self] in tellLater(.replicatedNote($0)) }
        cluster.onJournal = { [unowned self] in keep($0) }
        cluster.onCommitted = { [unowned self] _ in
            tellEpochs()
            forecastSoon()  // a command that decided nothing here has changed the state, too
        }
    }

    var restoreFailure: String? { cluster.restoreFailure }

    /// The model that the cluster engine runs; nil before the first.
    var model: AmfModel? { cluster.core.model.nodes.isEmpty ? nil : cluster.core.model }
    var isSynchronised: Bool { cluster.status == .synchronised }
    var replicaStatus: ReplicatedStatus { cluster.status }
    var isOldest: Bool { cluster.isOldest }
    /// Who performs what is to be done once.
    var oldest: NodeID? { cluster.replicated.synchronisedMembers.first?.node }
    var members: [ClusterMember] { cluster.core.members }
    var view: GroupView? { cluster.view }

    var status: StatusReport {
        cluster.core.status(at: MonotonicClock.now(), wall: MonotonicClock.wallNanoseconds())
    }

    /// See ``ClusterEngine/objection(to:on:)``.
    func objection(to operation: AdminOperation, on name: SaName) -> String? {
        cluster.core.objection(to: operation, on: name)
    }

    /// See ``NodeEngine/mayBeActive``.
    var active: [ActiveProcess] { engine.mayBeActive }
    func isActive(_ component: SaName) -> ActiveProcess? { engine.mayBeActive(component) }

    /// See ``NodeEngine/activities(of:foretold:)``.
    func activities(
        of component: SaName, foretold: CSISetOrder? = nil
    ) -> (instance: InstanceNumber, activities: [Activity])? {
        engine.activities(of: component, foretold: foretold)
    }

    /// The number of the last callback when epochs were told.
    private var toldInvocations: UInt64 = 0

    private func tellEpochs() {
        guard let onEpochs, cluster.core.invocations != toldInvocations else { return }
        toldInvocations = cluster.core.invocations
        onEpochs(cluster.core.epochs)
    }

    func start() {
        if let model { handle(.model(model)) }
        cluster.start("amf")
        drain()
    }

    func close() { cluster.close() }

    /// What a majority is counted of.
    func expect(nodes: Int) { cluster.expect(nodes: nodes) }

    func handle(_ event: NodeEvent) {
        if isAlone, case .lifeLockReleased(let component, let instance) = event { respond(component, instance) }
        queue.append(.node(event))
        drain()
    }

    /// - Parameter ending: called once, maybe before this returns. Without it the event is proposed again until it is
    ///   applied.
    func propose(_ event: ClusterEvent, _ ending: Ending? = nil) {
        queue.append(.cluster(event, ending))
        drain()
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
        if isAlone { compareWithResponse() }
        tellSoon()
        forecastSoon()
    }

    private func perform(_ step: Step) {
        switch step {
        case .node(let event): feed(event)
        case .cluster(let event, let ending):
            // What came later must not overtake what is still to be proposed.
            if !refusedEvents.isEmpty, ending == nil, refusedEvents.concerns(event) { return refused(event) }
            // Known before it is proposed: it, and what was proposed before it, may end within.
            proposals[cluster.nextTicket] = Proposal(event: event, ending: ending)
            cluster.propose(event)
        }
    }

    private func feed(_ event: NodeEvent) {
        beforeWork?()
        nodeEvents &+= 1
        for effect in engine.handle(event, at: MonotonicClock.now()) { perform(effect) }
    }

    private func perform(_ effect: NodeEffect) {
        switch effect {
        case .report(let report):
            queue.append(.cluster(.report(node, report), nil))
            if let onActivity { tell(onActivity, of: report) }
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
        case .note(let note): tellLater(.nodeNote(note))
        case .push(let push): if !wasSent(push) { performNode(effect) }
        case .spawn, .signalTerminate, .kill, .runCleanup, .reply: performNode(effect)
        }
    }

    private func tell(_ body: (SaName) -> Void, of report: NodeReport) {
        switch report {
        case .answered(let name, _, _), .quiescingComplete(let name, _), .adopted(let name, _, _, _, _),
            .instantiated(let name, _, _, _), .uninstantiated(let name, _):
            body(name)
        case .instantiationDelayed, .instantiationFailed, .terminationFailed, .failed, .exited, .errorCleared: break
        }
    }

    private func perform(_ effect: ClusterEffect, _ ticket: UInt64?) {
        switch effect {
        case .order(let target, let order): if target == node { feed(.order(order)) }
        case .modelInstalled: takeModel()
        case .nodeStopped(let stopped): if stopped == node { onNodeStopped() }
        case .modelRefused(let text):
            if let ticket { proposals[ticket]?.refusal = text }
        case .adminReply, .startTimer, .cancelTimer, .notify: break  // kept by the replicated engine
        }
    }

    private func perform(_ id: EffectID, _ effect: AmfOnce) {
        switch effect {
        case .notifications(let list): tellLater(.notifications(id, list))
        case .adminReply(let reply):
            onAdminReply(reply)
            cluster.effectDone(id)
        }
    }

    // MARK: Forecast

    /// What is sent when a process dies, made ready: on a node alone when the death is seen, for nothing comes between
    /// a report and its order there; in a cluster when the report has its place in the order.
    private var responses: [ActiveProcess: [Response]] = [:]
    /// The state that `responses` was made from.
    private var foretold: Moment?
    private var nodeEvents: UInt64 = 0
    private var isForecasting = false
    private var forecastDelay = EngineHost.forecastDelayMin
    /// Sent ahead of the engines' decision, which is being made.
    private var sent: [Response] = []

    /// How many events each engine has had.
    private struct Moment: Equatable {
        var node: UInt64
        var cluster: UInt64
    }

    private struct Response {
        let order: CSISetOrder
        let push: AmfPush
        let prepared: PreparedPush
    }

    /// Longer than what follows from a change of state at once takes.
    private static let forecastDelayMin: Duration = .milliseconds(2)
    /// How many times longer than making one takes the next is waited for: a state without rest costs 2 % of a CPU.
    private static let forecastShare = 50

    private var moment: Moment { Moment(node: nodeEvents, cluster: cluster.index) }

    private func forecastSoon() {
        guard !isForecasting, foretold != moment, model != nil else { return }
        isForecasting = true
        loop.schedule(after: forecastDelay) { [unowned self] in
            isForecasting = false
            let start = MonotonicClock.now()
            forecast(at: start)
            forecastDelay = max(Self.forecastDelayMin, (MonotonicClock.now() - start) * Self.forecastShare)
        }
    }

    private func forecast(at now: Instant) {
        let processes = isAlone ? engine.mayBeActive : cluster.core.actives(behind: node)
        let time = isAlone ? now : cluster.replicated.time
        let forecast = Forecast(deathsOf: processes, on: node, in: cluster.core, at: time)
        responses.removeAll(keepingCapacity: true)
        for process in processes {
            let orders = forecast.takeovers(after: .death(of: process))
            let pushes = engine.pushes(afterDeathOf: process, then: orders, at: now)
            let ready = pushes.compactMap { push in
                guard let order = orders.first(where: { $0.invocation == push.invocation }),
                    let prepared = preparePush(push)
                else { return nil as Response? }
                return Response(order: order, push: push, prepared: prepared)
            }
            if !ready.isEmpty { responses[process] = ready }
        }
        foretold = moment
    }

    /// A process has died: the new active hears of it first; that it is decided, kept and told comes after it.
    private func respond(_ component: SaName, _ instance: InstanceNumber) {
        guard !isDraining, cluster.isAtRest else { return }
        respond(toDeathOf: ActiveProcess(component: component, instance: instance))
    }

    /// The same in a cluster, where a failure has got its place in the order and is applied next.
    private func respond(to event: ClusterEvent) {
        guard case .report(let home, let report) = event, case .failed(let component, let instance, _, _, _) = report,
            cluster.core.home(of: component) == home
        else { return }
        let process = ActiveProcess(component: component, instance: instance)
        if report == .death(of: process) { respond(toDeathOf: process) }
        isUrgentElsewhere = true
        giveWay()
    }

    /// While a failure is applied: what was told because of it has a processor to get, here or on a node that shares
    /// this machine; the rest can wait.
    private func giveWay() { if isUrgentElsewhere { OSThread.yield() } }
    private var isUrgentElsewhere = false

    private func respond(toDeathOf process: ActiveProcess) {
        guard foretold == moment, isSynchronised, let responses = responses[process] else { return }
        beforeWork?()
        for response in responses where onForetold(response.order) && response.prepared.send() {
            sent.append(response)
        }
    }

    private func wasSent(_ push: AmfPush) -> Bool {
        guard !sent.isEmpty, let place = sent.firstIndex(where: { $0.push == push }) else { return false }
        sent.remove(at: place)
        return true
    }

    /// Forecast and decision are made by the same engines from one state: they agree, or there is a fault. Then what
    /// was made active by mistake must end.
    private func compareWithResponse() {
        guard !sent.isEmpty else { return }
        for response in sent {
            onNote(.forecastWrong(response.order.component))
            performNode(.kill(response.order.component, response.order.instance))
        }
        sent.removeAll()
    }

    // MARK: This node in the cluster

    /// What lives here is known to the node engine.
    private var isAdopted = false
    private var isJoinNeeded = true
    private var isJoining = false

    /// What an earlier amfd left; once, when there is a model.
    func adopt(_ living: [LivingComponent], ended: [(SaName, InstanceNumber)]) {
        handle(.adopt(living))
        for (component, instance) in ended { handle(.ended(component, instance)) }
        isAdopted = true
        joinIfNeeded()
    }

    /// Tells the cluster anew what lives here: some of what it held active was killed.
    func joinAnew() {
        isJoinNeeded = true
        joinIfNeeded()
    }

    /// The state must say of this amfd that it is there. What was ordered while it was away was ordered in vain, and
    /// comes again.
    private func joinIfNeeded() {
        guard isAdopted, isSynchronised, let model, model.nodes.contains(where: { $0.id == node }) else { return }
        let isKnown = members.contains { $0.node == node && $0.incarnation == incarnation }
        guard isJoinNeeded || !isKnown, !isJoining else { return }
        (isJoinNeeded, isJoining) = (false, true)
        propose(.nodeJoined(node, incarnation: incarnation, living: engine.living)) { [unowned self] error in
            isJoining = false
            if error == nil {
                onJoined()
                return isJoinNeeded ? joinIfNeeded() : ()
            }
            isJoinNeeded = true
            loop.schedule(after: Self.joinDelay) { [unowned self] in joinIfNeeded() }
        }
    }

    private static let joinDelay: Duration = .milliseconds(100)

    private func takeModel() {
        guard let model else { return }
        feed(.model(model))
        onModel()
        // One that came before its node was in the model could not join.
        if model.nodes.contains(where: { $0.id == node }) { joinIfNeeded() }
    }

    private func stateReplaced() {
        isJoinNeeded = true
        toldInvocations = 0
        takeModel()
        drain()
    }

    private func changed(_ status: ReplicatedStatus) {
        onStatus(status)
        guard status == .synchronised else { return }
        joinIfNeeded()
        proposeRefused()
    }

    // MARK: Refusals

    private var refusedEvents = RefusedEvents()
    private var isRetrying = false

    private func ended(_ ticket: UInt64, _ outcome: ProposalOutcome) {
        guard let proposal = proposals.removeValue(forKey: ticket) else { return }
        switch outcome {
        case .done: proposal.ending?(proposal.refusal.map { CallError(.invalidParam, $0) })
        case .refused(let error):
            guard let ending = proposal.ending else { return refused(proposal.event) }
            ending(CallError(error, refusalText(error)))
        }
    }

    /// Why nothing is decided here; nil: it is. What the status shows may be of the past then.
    var clusterProblem: String? {
        switch cluster.status {
        case .outside: "amfd is in no cluster at this moment: Corosync does not run, or has just started"
        case .withoutQuorum: "this part of the cluster has no quorum; until it has, nothing can be changed here"
        case .forming, .synchronising: "the members of the cluster have changed and agree on its state"
        case .synchronised: nil
        }
    }

    private func refusalText(_ error: AisError) -> String {
        (clusterProblem ?? "amfd cannot take it now (\(error))") + "; try again"
    }

    /// Too much waits to be applied, or nothing is applied. What a component or its death brought about must not be
    /// forgotten.
    private func refused(_ event: ClusterEvent) {
        guard refusedEvents.concerns(event) else { return }
        if refusedEvents.isEmpty { onNote(.proposalRefused("the group is \(cluster.status)")) }
        if !refusedEvents.keep(event) { onNote(.proposalLost("\(event)")) }
        guard !isRetrying, isSynchronised else { return }  // else tried again when it is synchronised
        isRetrying = true
        loop.schedule(after: Self.retryDelay) { [unowned self] in
            isRetrying = false
            proposeRefused()
        }
    }

    private func proposeRefused() { for event in refusedEvents.takeAll() { propose(event) } }

    private static let retryDelay: Duration = .milliseconds(10)

    // MARK: Journal

    private func keep(_ write: JournalWrite) {
        giveWay()
        do throws(OSError) {
            try journal.keep(write)
            isJournalBroken = false
        } catch {
            if !isJournalBroken { onNote(.journalFull("\(error)")) }
            isJournalBroken = true
        }
    }

    // MARK: Telling

    private func tellLater(_ telling: Telling) {
        told.append(telling)
        if !isDraining { tellSoon() }
    }

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
                onNotifications(notifications)
                cluster.effectDone(id)
            }
        }
        drain()
    }
}
