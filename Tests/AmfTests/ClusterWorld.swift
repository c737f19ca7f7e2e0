import AmfProtocol
import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes

@testable import AmfEngine
@testable import AmfShell

/// Several nodes in one process: amfd's engines over groups that break, with components that do as they are told, and a
/// guard that minds the lease. What must hold is judged by ``checkActive()`` from what processes do.
final class ClusterWorld {
    typealias Replica = ReplicatedNode<ClusterEngine, FragmentingGroup<SimulatedGroup>>

    struct Process {
        var component: SaName
        var instance: InstanceNumber
        var pid: Int32
        var isStopped = false
        var held: [HeldAssignment] = []
        var answered: [InvocationID] = []
        /// What came while it was stopped.
        var waiting: [AmfPush] = []
    }

    /// One life of amfd.
    final class Amfd {
        var engine: NodeEngine
        var replica: Replica
        var lease: MajorityLease
        var leaseGroup: SimulatedGroup
        var leaseMessage = LeaseMessage()
        var views = LeaseViews()
        var gate: ActivityGate
        var gateTimer: Instant?
        var watch: NodeWatch
        var watchTimer: Instant?
        var view: GroupView?
        var incarnation: UInt64
        var isJoinNeeded = true
        var isAdopted = false
        var events: [NodeEvent] = []
        var outputs: [Replica.Output] = []
        /// What the death that is being applied was foretold to bring about here, and has not yet.
        var foretold: [AmfPush] = []
        var proposals: [UInt64: ClusterEvent] = [:]
        var refused: [ClusterEvent] = []
        var lastTicket: UInt64 = 0
        var timers: [(due: Instant, timer: NodeTimer)] = []
        var hangsUntil = Instant.start

        init(
            _ engine: NodeEngine, _ replica: Replica, _ lease: MajorityLease, _ leaseGroup: SimulatedGroup,
            _ gate: ActivityGate, _ watch: NodeWatch, _ incarnation: UInt64
        ) {
            (self.engine, self.replica, self.lease, self.leaseGroup) = (engine, replica, lease, leaseGroup)
            (self.gate, self.watch, self.incarnation) = (gate, watch, incarnation)
        }
    }

    final class Node {
        var amfd: Amfd?
        var processes: [Process] = []
        var journal: [[UInt8]] = []
        var isFrozen = false
        var frozenUntil = Instant.start
        /// What the guard reads.
        var leaseEnd = Instant.start
        var isDown = false
    }

    static let token = Duration.milliseconds(100)
    static let grace = Duration.milliseconds(400)

    let ids: [NodeID]
    let model: AmfModel
    let network: SimulatedNetwork
    let leases: SimulatedNetwork
    var random: SeededRandom
    var now = Instant(nanoseconds: 1_000_000_000)
    var nodes: [NodeID: Node] = [:]
    var parts: [[NodeID]]
    var nextIncarnation: UInt64 = 1
    var nextPid: Int32 = 100
    var findings: [String] = []
    private var lastActive: [SaName: (InvocationID, Int32)] = [:]
    var trace: [String] = []
    /// Operations on the group's administrative state, in the order asked.
    var operations: [(number: UInt64, node: NodeID, wanted: AdminState, outcome: AisError??)] = []
    /// What is wrong on purpose, to see that the checker sees it.
    var isEnforced = true
    var counts = (givenUp: 0, suspended: 0, killed: 0, joined: 0, answered: 0, foretold: 0)

    init(seed: UInt64, nodes count: Int = 3) {
        random = SeededRandom(seed: seed)
        ids = (1...UInt32(count)).map { NodeID($0) }
        model = Self.model(count)
        network = SimulatedNetwork(nodes: count, seed: random.next())
        leases = SimulatedNetwork(nodes: count, seed: random.next())
        parts = [ids]
        for id in ids {
            nodes[id] = Node()
            startAmfd(id)
        }
    }

    static func model(_ count: Int) -> AmfModel {
        var model = Models.twoN(units: count, components: 1, instances: 2)
        model.nodes = (1...count).map { NodeModel(name: "n\($0)", id: NodeID(UInt32($0))) }
        for index in model.nodes.indices { model.nodes[index].suFailoverMax = 1_000 }
        for unit in 0..<count {
            model.applications[0].serviceGroups[0].serviceUnits[unit].node = "n\(unit + 1)"
            model.applications[0].serviceGroups[0].serviceUnits[unit].components[0].healthchecks = []
        }
        model.applications[0].serviceGroups[0].preferredInServiceSUs = UInt32(count)
        model.startupTimeout = .milliseconds(500)
        return model
    }

    static var group: SaName { DN.serviceGroup("G", in: DN.application("A")) }

    // MARK: - Life and death

    func startAmfd(_ id: NodeID) {
        guard let node = nodes[id], node.amfd == nil, !node.isDown else { return }
        let incarnation = nextIncarnation
        nextIncarnation += 1
        let group = FragmentingGroup(network.attach(id, incarnation: incarnation))
        var configuration = ReplicatedConfiguration(member: group.member)
        configuration.isJournaling = true
        configuration.announcesEvents = true
        configuration.journalBytesMin = 4_096
        configuration.formationGrace = .milliseconds(300)
        configuration.proposalTimeout = .milliseconds(500)
        let restored = try? Replicated(core: ClusterEngine(), configuration: configuration, restoring: node.journal)
        let replica = Replica(
            restored ?? Replicated(core: ClusterEngine(), configuration: configuration), over: group)
        let lease = LeaseConfiguration(node: id, nodesExpected: ids.count, token: Self.token)
        var watch = NodeWatchConfiguration(leaseSpan: lease.leaseAsGranted)
        watch.amfdGrace = Self.grace
        watch.proposalRetry = .milliseconds(50)
        node.amfd = Amfd(
            NodeEngine(node: id, incarnation: incarnation), replica,
            MajorityLease(configuration: lease, answeredBefore: ids.filter { $0 != id }, at: now),
            leases.attach(id, incarnation: incarnation),
            ActivityGate(inherited: node.leaseEnd, grace: .seconds(2), at: now), NodeWatch(watch), incarnation)
        trace.append("amfd starts on \(id)")
        gate(id, .tick)
        try? nodes[id]?.amfd?.leaseGroup.join("lease")
        if let model = knownModel(id) { give(id, .model(model)) }
        output(id) { replica, now in (try? replica.start("amf", at: now)) ?? [] }
        if knownModel(id) != nil { adopt(id) }
        work(id)
    }

    func killAmfd(_ id: NodeID) {
        guard nodes[id]?.amfd != nil else { return }
        nodes[id]?.amfd = nil
        network.crash(id)
        leases.crash(id)
        trace.append("amfd dies on \(id)")
    }

    /// Power off.
    func crash(_ id: NodeID) {
        killAmfd(id)
        nodes[id]?.processes = []
        nodes[id]?.journal = []
        nodes[id]?.leaseEnd = .start
        nodes[id]?.isDown = true
        trace.append("node \(id) is down")
    }

    func boot(_ id: NodeID) {
        guard nodes[id]?.isDown == true else { return }
        nodes[id]?.isDown = false
        startAmfd(id)
    }

    func connect(_ sets: [[NodeID]]) {
        parts = sets
        network.connect(sets)
        leases.connect(sets)
        trace.append("parts \(sets)")
    }

    func kill(_ id: NodeID, _ component: SaName, _ instance: InstanceNumber?) {
        let index = nodes[id]?.processes.firstIndex {
            $0.component == component && (instance == nil || $0.instance == instance)
        }
        guard let index, let process = nodes[id]?.processes.remove(at: index) else {
            if let instance { give(id, .exited(component, instance, reason: "gone")) }
            return
        }
        give(id, .lifeLockReleased(component, process.instance))
        give(id, .exited(component, process.instance, reason: "signal 9"))
    }

    /// The nodes whose corosync is connected with that of this one.
    private func ring(_ id: NodeID) -> [NodeID] {
        (parts.first { $0.contains(id) } ?? [id]).filter { nodes[$0]?.isDown == false && !network.isLost($0) }
    }

    /// A simulated view says nothing of the nodes without a member.
    private func onRing(_ id: NodeID, _ view: GroupView) -> GroupView {
        var view = view
        view.nodes = Set(ring(id) + view.members.map(\.node)).sorted()
        return view
    }

    // MARK: - A turn of a node

    func runs(_ id: NodeID) -> Bool { nodes[id]?.isFrozen == false }

    func freeze(_ id: NodeID, for time: Duration) {
        nodes[id]?.isFrozen = true
        nodes[id]?.frozenUntil = now + time
        trace.append("\(id) freezes")
    }

    /// The guard, then amfd: the lease first.
    func turn(_ id: NodeID) {
        guard let node = nodes[id], node.frozenUntil <= now, !node.isDown else { return }
        node.isFrozen = false  // and the guard is the first to run
        if isEnforced, now >= node.leaseEnd { stopActive(id) }
        guard let amfd = node.amfd, amfd.hangsUntil <= now else { return }
        lease(id, .tick)
        pumpLease(id)
        if let due = nodes[id]?.amfd?.gateTimer, due <= now { gate(id, .tick) }
        if network.isLost(id), !network.hasInbox(id) { rejoin(id) }
        output(id) { replica, now in replica.pump(at: now) }
        if let due = nodes[id]?.amfd?.watchTimer, due <= now { look(id) }
        while let index = nodes[id]?.amfd?.timers.firstIndex(where: { $0.due <= now }),
            let timer = nodes[id]?.amfd?.timers.remove(at: index).timer
        { give(id, .timer(timer)) }
        work(id)
        if nodes[id]?.amfd?.replica.status == .synchronised {
            join(id)
            for event in nodes[id]?.amfd?.refused ?? [] {
                nodes[id]?.amfd?.refused.removeFirst()
                propose(id, event)
            }
            if knownModel(id) == nil, random.chance(percent: 20) { propose(id, .model(model)) }
        }
        work(id)
    }

    private func rejoin(_ id: NodeID) {
        guard nodes[id]?.amfd != nil else { return }
        nextIncarnation += 1
        let group = FragmentingGroup(network.attach(id, incarnation: nextIncarnation))
        output(id) { replica, now in (try? replica.rejoin("amf", over: group, at: now)) ?? [] }
        nodes[id]?.amfd?.leaseGroup = leases.attach(id, incarnation: nextIncarnation)
        try? nodes[id]?.amfd?.leaseGroup.join("lease")
        nextIncarnation += 1
    }

    func lose(_ id: NodeID) {
        guard nodes[id]?.amfd != nil, !network.isLost(id), !leases.isLost(id) else { return }
        network.lose(id)
        leases.lose(id)
        trace.append("corosync dies on \(id)")
    }

    private func work(_ id: NodeID) {
        var steps = 0
        while nodes[id]?.amfd != nil, steps < 20_000 {
            steps += 1
            if let event = nodes[id]?.amfd?.events.first {
                nodes[id]?.amfd?.events.removeFirst()
                for effect in nodes[id]?.amfd?.engine.handle(event, at: now) ?? [] { perform(id, effect) }
            } else if let output = nodes[id]?.amfd?.outputs.first {
                nodes[id]?.amfd?.outputs.removeFirst()
                perform(id, output)
            } else if nodes[id]?.amfd?.replica.hasMore == true {
                self.output(id) { replica, now in replica.pump(at: now) }
            } else {
                return
            }
        }
    }

    // MARK: - The shell

    private func knownModel(_ id: NodeID) -> AmfModel? {
        guard let model = nodes[id]?.amfd?.replica.core.model, !model.nodes.isEmpty else { return nil }
        return model
    }

    private func give(_ id: NodeID, _ event: NodeEvent) { nodes[id]?.amfd?.events.append(event) }

    private func output(_ id: NodeID, _ body: (inout Replica, Instant) -> [Replica.Output]) {
        guard let amfd = nodes[id]?.amfd else { return }
        let outputs = body(&amfd.replica, now)
        amfd.outputs += outputs
    }

    func propose(_ id: NodeID, _ event: ClusterEvent) {
        guard nodes[id]?.amfd != nil else { return }
        nodes[id]?.amfd?.lastTicket += 1
        let ticket = nodes[id]?.amfd?.lastTicket ?? 0
        nodes[id]?.amfd?.proposals[ticket] = event
        output(id) { replica, now in replica.propose(event, ticket: ticket, at: now) }
    }

    private func join(_ id: NodeID) {
        guard let amfd = nodes[id]?.amfd, amfd.isAdopted, amfd.replica.status == .synchronised else { return }
        let isKnown = amfd.replica.core.members.contains { $0.node == id && $0.incarnation == amfd.incarnation }
        guard amfd.isJoinNeeded || !isKnown else { return }
        guard !amfd.proposals.values.contains(where: { if case .nodeJoined = $0 { true } else { false } }) else {
            return
        }
        nodes[id]?.amfd?.isJoinNeeded = false
        propose(id, .nodeJoined(id, incarnation: amfd.incarnation, living: amfd.engine.living))
    }

    private func adopt(_ id: NodeID) {
        guard nodes[id]?.amfd?.isAdopted == false, let node = nodes[id] else { return }
        nodes[id]?.amfd?.isAdopted = true
        give(
            id,
            .adopt(
                node.processes.map {
                    LivingComponent(component: $0.component, instance: $0.instance, pid: $0.pid, startedAt: 7)
                }))
        for process in node.processes where !process.isStopped { register(id, process) }
        work(id)
        join(id)
    }

    private func register(_ id: NodeID, _ process: Process) {
        give(
            id,
            .request(
                .register(Registration(component: process.component, pid: process.pid, held: process.held)), ticket: 0,
                pid: process.pid))
    }

    private func perform(_ id: NodeID, _ output: Replica.Output) {
        switch output {
        case .willApply(let event): foretell(id, event)
        case .didApply: compareWithForetold(id)
        case .journal(.append(let record)): nodes[id]?.journal.append(record)
        case .journal(.replace(let record)): nodes[id]?.journal = [record]
        case .perform(.order(let target, let order), _): if target == id { give(id, .order(order)) }
        case .perform(.modelInstalled, _): newModel(id)
        case .perform: break
        case .performOnce(let effect, let once):
            if case .adminReply(let reply) = once,
                let index = operations.firstIndex(where: { $0.number == reply.ticket.number })
            {
                operations[index].outcome = .some(reply.error)
                counts.answered += 1
            }
            self.output(id) { replica, now in replica.effectDone(effect, at: now) }
        case .answer(let ticket, let outcome): answered(id, ticket, outcome)
        case .stateReplaced:
            nodes[id]?.amfd?.isJoinNeeded = true
            newModel(id)
        case .status: look(id)
        case .view(let view):
            nodes[id]?.amfd?.view = view
            look(id)
        case .sendSnapshot, .note: break
        }
    }

    private func newModel(_ id: NodeID) {
        guard let model = knownModel(id) else { return }
        give(id, .model(model))
        adopt(id)
    }

    private func answered(_ id: NodeID, _ ticket: UInt64, _ outcome: ProposalOutcome) {
        guard let event = nodes[id]?.amfd?.proposals.removeValue(forKey: ticket) else { return }
        switch (event, outcome) {
        case (.nodeJoined, .done):
            counts.joined += 1
            gate(id, .joined)
        case (.nodeJoined, .refused): nodes[id]?.amfd?.isJoinNeeded = true
        case (.admin(let asked, _, _), .refused(let error)):
            guard let index = operations.firstIndex(where: { $0.number == asked.number }) else { return }
            operations[index].outcome = .some(error)
        case (.report, .refused): nodes[id]?.amfd?.refused.append(event)
        default: break
        }
    }

    // MARK: - Lease, gate, watch

    private func pumpLease(_ id: NodeID) {
        while let event = nodes[id]?.amfd?.leaseGroup.next() {
            switch event {
            case .view(let view):
                guard let leaseView = nodes[id]?.amfd?.views.next(onRing(id, view)) else {
                    return
                }
                lease(id, .view(leaseView))
            case .message(let from, let bytes):
                guard let message = try? LeaseMessage(decoding: bytes) else {
                    findings.append("a lease message that cannot be read")
                    continue
                }
                if let probe = message.probe, from.node != id { lease(id, .probed(probe, from: from.node)) }
                for answer in message.answers where answer.node == id {
                    lease(id, .answered(answer.answer, from: from.node))
                }
            case .lost:
                nodes[id]?.amfd?.views.lose()
                lease(id, .outside)
            }
        }
        guard let message = nodes[id]?.amfd?.leaseMessage, !message.isEmpty else { return }
        nodes[id]?.amfd?.leaseMessage = LeaseMessage()
        _ = nodes[id]?.amfd?.leaseGroup.multicast(message.encoded)
    }

    private func lease(_ id: NodeID, _ event: MajorityLease.Event) {
        let effects = nodes[id]?.amfd?.lease.handle(event, at: now) ?? []
        if let lease = nodes[id]?.amfd?.lease, lease.isHeld {
            nodes[id]?.leaseEnd = lease.end
        } else if effects.contains(.suspend) {
            nodes[id]?.leaseEnd = now
        }
        for effect in effects {
            switch effect {
            case .sendProbe(let probe, _): nodes[id]?.amfd?.leaseMessage.probe = probe
            case .answer(let answer, let to):
                nodes[id]?.amfd?.leaseMessage.answers.append(LeaseMessage.Answer(node: to, answer: answer))
            case .suspend: gate(id, .over)
            case .resume: gate(id, .held)
            case .excluded: gate(id, .excluded)
            case .released(let lost): watch(id, .released(lost))
            case .startTimer: break
            }
        }
    }

    private func gate(_ id: NodeID, _ event: ActivityGate.Event) {
        for effect in nodes[id]?.amfd?.gate.handle(event, at: now) ?? [] {
            switch effect {
            case .suspend:
                counts.suspended += 1
                stopActive(id)
            case .resume: resume(id)
            case .kill:
                for process in nodes[id]?.amfd?.engine.mayBeActive ?? [] {
                    counts.killed += 1
                    kill(id, process.component, process.instance)
                }
                work(id)
            case .joinAnew:
                nodes[id]?.amfd?.isJoinNeeded = true
                join(id)
            case .startTimer(let due): nodes[id]?.amfd?.gateTimer = due
            }
        }
    }

    private func look(_ id: NodeID) {
        guard let amfd = nodes[id]?.amfd else { return }
        let members = amfd.replica.status == .outside ? [] : amfd.view?.members.map(\.node) ?? []
        watch(
            id,
            .seen(
                NodeWatch.Sight(
                    amfds: members, ring: ring(id),
                    members: amfd.replica.core.members,
                    isMajority: amfd.view?.isQuorate == true && members.count > ids.count / 2,
                    isInCharge: amfd.replica.replicated.isOldest)))
    }

    private func watch(_ id: NodeID, _ event: NodeWatch.Event) {
        for effect in nodes[id]?.amfd?.watch.handle(event, at: now) ?? [] {
            switch effect {
            case .giveUp(let node, let incarnation):
                counts.givenUp += 1
                trace.append("\(id) gives up \(node)")
                propose(id, .nodeLeft(node, incarnation: incarnation))
            case .startTimer(let due): nodes[id]?.amfd?.watchTimer = due
            case .fence, .missed: break
            }
        }
    }

    // MARK: - Processes

    private func stopActive(_ id: NodeID) {
        guard isEnforced else { return }
        for index in nodes[id]?.processes.indices ?? 0..<0 where isActive(nodes[id]?.processes[index]) {
            nodes[id]?.processes[index].isStopped = true
        }
    }

    private func isActive(_ process: Process?) -> Bool {
        guard let process else { return false }
        if process.held.contains(where: { $0.haState == .active || $0.haState == .quiescing }) { return true }
        return process.waiting.contains { if case .csiSet(_, _, .active, _) = $0 { true } else { false } }
    }

    private func resume(_ id: NodeID) {
        for index in nodes[id]?.processes.indices ?? 0..<0 where nodes[id]?.processes[index].isStopped == true {
            nodes[id]?.processes[index].isStopped = false
            if let process = nodes[id]?.processes[index] { register(id, process) }
            let waiting = nodes[id]?.processes[index].waiting ?? []
            nodes[id]?.processes[index].waiting = []
            for push in waiting { execute(id, index, push) }
        }
    }

    private func perform(_ id: NodeID, _ effect: NodeEffect) {
        switch effect {
        case .report(let report): propose(id, .report(id, report))
        case .spawn(let name, let instance, _, _):
            if nodes[id]?.processes.contains(where: { $0.component == name }) == true {
                findings.append("\(name) is spawned while a process of it lives")
            }
            nextPid += 1
            let process = Process(component: name, instance: instance, pid: nextPid)
            nodes[id]?.processes.append(process)
            give(id, .spawned(name, instance, pid: nextPid, startedAt: 7))
            register(id, process)
        case .push(let push):
            nodes[id]?.amfd?.foretold.removeAll { $0 == push }
            guard let index = nodes[id]?.processes.firstIndex(where: { $0.component == push.component }) else { return }
            // What becomes active while the gate is closed is stopped before it hears of it.
            if case .csiSet(_, _, .active, _) = push, isEnforced, nodes[id]?.amfd?.gate.isOpen == false {
                nodes[id]?.processes[index].isStopped = true
            }
            execute(id, index, push)
        case .signalTerminate(let name, let instance), .kill(let name, let instance): kill(id, name, instance)
        case .runCleanup(let name, let instance, _):
            give(id, .cleanedUp(name, instance, succeeded: true, reason: ""))
        case .startTimer(let timer, let after):
            nodes[id]?.amfd?.timers.removeAll { $0.timer.component == timer.component && $0.timer.kind == timer.kind }
            nodes[id]?.amfd?.timers.append((now + after, timer))
        case .cancelTimer(let timer): nodes[id]?.amfd?.timers.removeAll { $0.timer == timer }
        case .reply, .note: break
        }
    }

    private func execute(_ id: NodeID, _ index: Int, _ push: AmfPush) {
        guard var process = nodes[id]?.processes[index] else { return }
        guard !process.isStopped else {
            nodes[id]?.processes[index].waiting.append(push)
            return
        }
        if !process.answered.contains(push.invocation) {
            process.answered.append(push.invocation)
            switch push {
            case .csiSet(_, _, let haState, let descriptor):
                if haState == .active { noteActive(process, push.invocation, descriptor.csi) }
                if descriptor.flags == .targetAll {
                    for held in process.held.indices { process.held[held].haState = haState }
                } else if let csi = descriptor.csi {
                    process.held.removeAll { $0.csi == csi }
                    process.held.append(HeldAssignment(csi: csi, haState))
                }
            case .csiRemove(_, _, let csi): process.held.removeAll { csi == nil || $0.csi == csi }
            case .terminate, .healthcheck: break
            }
        }
        nodes[id]?.processes[index] = process
        give(id, .request(.response(InvocationAnswer(push.invocation)), ticket: 0, pid: process.pid))
        if case .terminate = push { kill(id, process.component, process.instance) }
    }

    // MARK: - What must hold

    /// Who becomes active later has the higher number: by that a late writer is known.
    private func noteActive(_ process: Process, _ invocation: InvocationID, _ csi: SaName?) {
        for csi in csi.map({ [$0] }) ?? process.held.map(\.csi) {
            if let (number, pid) = lastActive[csi], number >= invocation, pid != process.pid {
                findings.append("\(csi): \(process.component) is active by \(invocation), after \(number)")
            }
            lastActive[csi] = (invocation, process.pid)
        }
    }

    /// No CSI is active in two processes that can execute.
    func checkActive() {
        var holders: [SaName: [String]] = [:]
        for id in ids where runs(id) {
            for process in nodes[id]?.processes ?? [] where !process.isStopped {
                for held in process.held where held.haState == .active || held.haState == .quiescing {
                    holders[held.csi, default: []].append("\(process.component) on \(id)")
                }
            }
        }
        for (csi, who) in holders.sorted(by: { $0.key < $1.key }) where who.count > 1 {
            findings.append("\(csi) is active in \(who) at \((now - .start).description)")
        }
    }
}
