import AmfProtocol
import EngineKit
import SAFTypes

/// Decides which component is active, standby, restarted or repaired; performs nothing. Replicated: every member feeds
/// it the same events in the same order.
///
/// An event changes the state of an entity; then `settle()` looks at everything and asks for whatever brings the system
/// closer to what the model and the administrator want: processes first, then assignments. What was asked and is not
/// reported done is part of the state, so that nothing is asked twice and all of it can be asked again after amfd's
/// death.
/// Source: SAI-AIS-AMF-B.02.01; `saf-ais` A5.
public struct ClusterEngine: Engine, Sendable {
    public typealias Event = ClusterEvent
    public typealias Effect = ClusterEffect

    /// What it runs, middleware included; without a node before the first ``ClusterEvent/model``.
    public internal(set) var model = AmfModel()
    var adminState: AdminState = .unlocked
    var nodes: [NodeEntity] = []
    var applications: [ApplicationEntity] = []
    var groups: [GroupEntity] = []
    var units: [UnitEntity] = []
    var components: [ComponentEntity] = []
    var instances: [InstanceEntity] = []
    var csis: [CSIEntity] = []
    /// Never iterated.
    var positions: [SaName: Entity] = [:]
    /// The start-up time is over: groups do not wait for missing units any more.
    var isStarted = false
    var nextInvocation: UInt64 = 1
    var pendingAdmin: [PendingAdmin] = []
    var nextAdmin: UInt32 = 1

    // The effects of the event being handled, by urgency; empty between events.
    var urgent: [ClusterEffect] = []
    var orders: [ClusterEffect] = []
    var rest: [ClusterEffect] = []
    var notifications: [AmfNotification] = []
    /// The time of the event being handled.
    var present = Instant.start
    /// Groups that are to be looked at; empty between events.
    var touched: [Int] = []

    public init() {}

    public mutating func handle(_ event: ClusterEvent, at now: Instant) -> [ClusterEffect] {
        present = now
        switch event {
        case .model(let model): install(model, at: now)
        case .addition(let model): install(model, isAddition: true, at: now)
        case .nodeJoined(let id, let incarnation, let living): join(id, incarnation, living, at: now)
        case .nodeLeft(let id, let incarnation): leave(id, incarnation)
        case .report(let id, let report): take(report, from: id, at: now)
        case .admin(let ticket, let operation, let name): administer(ticket, operation, name, at: now)
        case .stopNode(let id):
            if let node = node(id) { nodes[node].run.isStopping = true }
        case .timer(.startup): isStarted = true
        case .timer(.admin(let number)): expireAdmin(number)
        }
        if case .report(let id, let report) = event {
            markTouched(by: report, on: id)
        } else {
            touched = Array(groups.indices)
        }
        settle()
        return takeEffects()
    }

    private mutating func takeEffects() -> [ClusterEffect] {
        var effects = urgent + orders + rest
        if !notifications.isEmpty { effects.append(.notify(notifications)) }
        urgent.removeAll(keepingCapacity: true)
        orders.removeAll(keepingCapacity: true)
        rest.removeAll(keepingCapacity: true)
        notifications.removeAll(keepingCapacity: true)
        return effects
    }

    /// A report touches the group of its component and those that depend on it; while a node goes down, all on it.
    private mutating func markTouched(by report: NodeReport, on id: NodeID) {
        guard case .component(let component) = positions[report.component] else { return }
        let node = components[component].node
        let group = units[components[component].unit].group
        let isGoingDown = nodes[node].run.isDisabled || nodes[node].run.isStopping
        touched = [group] + groups[group].dependents + (isGoingDown ? groupsOnNode(node) : [])
    }

    private func groupsOnNode(_ node: Int) -> [Int] { Set(nodes[node].units.map { units[$0].group }).sorted() }

    /// Everything that follows from the state as it is now, in the groups touched and whatever they touch in turn; each
    /// pass may open the way for the next.
    private mutating func settle() {
        var settled: Set<Int> = []
        for _ in 0..<ClusterLimits.passesMax where !touched.isEmpty {
            let work = Set(touched).sorted()
            settled.formUnion(work)
            touched = []
            for group in work { settleGroup(group) }
            for node in nodes.indices {
                let before = nodes[node].run
                settleNode(node)
                let isStopping = nodes[node].run.isStopping && !touched.isEmpty
                if nodes[node].run != before || isStopping { touched += groupsOnNode(node) }
            }
            settleAdmin()
        }
        invariant(touched.isEmpty, "no rest after \(ClusterLimits.passesMax) passes: \(touched)")
        for group in settled.sorted() { tell(group) }
        let contradiction = contradiction(in: settled.sorted())
        invariant(contradiction == nil, contradiction ?? "")
    }

    private mutating func settleGroup(_ group: Int) {
        let before = runs(ofGroup: group)
        moveAssignments(group)
        for unit in groups[group].units { settleUnit(unit) }
        if runs(ofGroup: group) != before { touched += [group] + groups[group].dependents }
    }

    private func runs(ofGroup group: Int) -> GroupRuns {
        GroupRuns(
            group: groups[group].run, units: groups[group].units.map { units[$0].run },
            components: groups[group].units.flatMap { units[$0].components }.map { components[$0].run })
    }

    private struct GroupRuns: Equatable {
        let group: GroupRun
        let units: [UnitRun]
        let components: [ComponentRun]
    }

    /// CSISets and CSIRemoves that were asked so far.
    public var invocations: UInt64 { nextInvocation }

    /// Of every CSI of an application that somebody was made active for, the latest epoch: whoever was before has lost
    /// it.
    public var epochs: [Activity] {
        csis.compactMap { csi in
            let group = groups[instances[csi.instance].group]
            guard csi.run.epoch != 0,
                !MiddlewareModel.isMiddleware(applications[group.application].model.name)
            else { return nil }
            return Activity(csi: csi.name, epoch: csi.run.epoch)
        }
    }

    func node(_ id: NodeID) -> Int? { nodes.firstIndex { $0.model.id == id } }

    /// What must never be, in words; nil: all is well.
    func contradiction(in chosen: [Int]) -> String? {
        for group in chosen {
            for component in groups[group].units.flatMap({ units[$0].components }) {
                let (name, run) = (components[component].name, components[component].run)
                if run.pending != nil, run.presence != .instantiated {
                    return "\(name): a CSI callback is outstanding while it is \(run.presence.word)"
                }
                if run.isDead, run.presence == .instantiated { return "\(name): dead and instantiated" }
            }
            guard groups[group].model.redundancyModel == .twoN else { continue }
            for instance in groups[group].instances {
                let active = groups[group].units.count { mayBeActive($0, for: instance) }
                if active > 1 { return "\(instances[instance].name): \(active) units may be active" }
            }
        }
        return nil
    }
}

/// A node that is a member, and the life of its amfd that said so.
public struct ClusterMember: Hashable, Sendable {
    public var node: NodeID
    public var incarnation: UInt64
    /// It was stopped in order: nothing runs there any more.
    public var hasStopped: Bool
    public init(node: NodeID, incarnation: UInt64, hasStopped: Bool = false) {
        (self.node, self.incarnation, self.hasStopped) = (node, incarnation, hasStopped)
    }
}

/// Bounds of the cluster engine's own.
enum ClusterLimits {
    /// More passes than there are steps that can follow from each other without a report in between: boot levels most.
    static let passesMax = 1_000
    static let adminTimeout: Duration = .seconds(60)
    static let pendingAdminMax = 64
    /// Invocation ids jump by this with every life of amfd, so that a lost end of its journal cannot make two callbacks
    /// share one.
    static let invocationJump: UInt64 = 1 << 20
}

// MARK: - Nodes

extension ClusterEngine {
    private mutating func join(_ id: NodeID, _ incarnation: UInt64, _ living: [LivingComponent], at now: Instant) {
        guard let node = node(id) else { return }
        nextInvocation &+= ClusterLimits.invocationJump
        pendingAdmin.removeAll { $0.ticket.node == id }
        let wasMember = nodes[node].run.isMember
        nodes[node].run.isMember = true
        nodes[node].run.incarnation = incarnation
        nodes[node].run.isStopping = false
        nodes[node].run.hasStopped = false
        if !wasMember {
            if nodes[node].model.autoRepair { nodes[node].run.isDisabled = false }
            nodes[node].run.bootLevel = 0
            tellMembership(node, isMember: true)
        }
        let local = components.indices.filter { components[$0].node == node }
        let found = local.map { component in living.first { $0.component == components[component].name } }
        for (component, process) in zip(local, found) where isLost(component, process) {
            // It died while nobody looked, or is about to by an order that the state does not know.
            fail(component, .noRecommendation, isDead: !isThere(component, process), .died, at: now)
        }
        // Everything that is open now is asked, once.
        orders.removeAll()
        for (component, process) in zip(local, found) { rejoin(component, process) }
    }

    private func isLost(_ component: Int, _ found: LivingComponent?) -> Bool {
        let run = components[component].run
        guard run.presence == .instantiated, run.order == nil else { return false }
        return !isThere(component, found) || found?.lastInstance != run.instance
    }

    /// The process that the state knows may live.
    private func isThere(_ component: Int, _ found: LivingComponent?) -> Bool {
        found.map { $0.pid != 0 && $0.instance == components[component].run.instance } ?? false
    }

    /// amfd is back: what it found decides about what was thought to live; what was under way is asked again.
    private mutating func rejoin(_ component: Int, _ found: LivingComponent?) {
        let run = components[component].run
        // Orders that were given in a part of the cluster that did not last: what is ordered now must not seem older.
        if let last = found?.lastInstance, last > run.instance {
            components[component].run.instance = run.order == .instantiate ? last &+ 1 : last
        }
        switch (run.order, run.presence) {
        case (.instantiate?, _), (.terminate?, _), (.cleanup?, _): giveAgain(component)
        case (nil, .instantiated): confirm(component)
        case (nil, .uninstantiated):
            // The middleware's instances can be nowhere else; it is not disturbed by its node's having been away.
            let isOwn = units[components[component].unit].isMiddleware
            guard let found, found.pid != 0, found.instance == found.lastInstance,
                found.instance > run.instance || (isOwn && found.instance == run.instance)
            else { return give(.cleanup, to: component) }
            // Known to nobody but itself, the state having been lost: it tells what it holds when it registers again.
            components[component].run.instance = found.instance
            components[component].run.presence = .instantiated
            components[component].run.pid = found.pid
            components[component].run.startedAt = found.startedAt
            components[component].run.starts += 1
            confirm(component)
        case (nil, .restarting), (nil, .instantiating), (nil, .terminating), (nil, .instantiationFailed),
            (nil, .terminationFailed):
            break
        }
    }

    private mutating func confirm(_ component: Int) {
        let entity = components[component]
        orders.append(.order(nodes[entity.node].model.id, .confirm(entity.name, entity.run.instance)))
        if let pending = entity.run.pending { order(pending, component) }
    }

    /// The nodes that are members as far as the state says.
    public var members: [ClusterMember] {
        nodes.filter(\.run.isMember).map {
            ClusterMember(node: $0.model.id, incarnation: $0.run.incarnation, hasStopped: $0.run.hasStopped)
        }
    }

    private mutating func leave(_ id: NodeID, _ incarnation: UInt64) {
        guard let node = node(id), nodes[node].run.isMember, nodes[node].run.incarnation == incarnation else { return }
        pendingAdmin.removeAll { $0.ticket.node == id }  // nobody is there to be told
        nodes[node].run.isMember = false
        nodes[node].run.isStopping = false
        nodes[node].run.bootLevel = 0
        for component in components.indices where components[component].node == node {
            dropAssignments(of: component)
            components[component].run.presence = .uninstantiated
            components[component].run.order = nil
            components[component].run.isDead = false
            components[component].run.isDisabled = false
            components[component].run.isDelayed = false
            components[component].run.pid = 0
            components[component].run.startedAt = 0
        }
        for unit in nodes[node].units {
            units[unit].run.phase = .normal
            units[unit].run.isGivenUp = false
            if groups[units[unit].group].model.autoRepair { units[unit].run.isDisabled = false }
        }
        tellMembership(node, isMember: false)
    }
}

// MARK: - Reports of the node engines

extension ClusterEngine {
    private mutating func take(_ report: NodeReport, from id: NodeID, at now: Instant) {
        switch report {
        case .instantiated(let name, let instance, let pid, let startedAt):
            guard let component = component(name, instance, id) else { return }
            instantiated(component, pid, startedAt)
        case .adopted(let name, let instance, let pid, let startedAt, let held):
            guard let component = component(name, instance, id) else { return }
            instantiated(component, pid, startedAt)
            reconcile(component, held)
        case .instantiationDelayed(let name, let instance, let reason):
            guard let component = component(name, instance, id) else { return }
            components[component].run.isDelayed = true
            note(reason, of: component)
            tellError(component, reason)
        case .instantiationFailed(let name, let instance, let reason):
            guard let component = component(name, instance, id) else { return }
            instantiationFailed(component, reason)
        case .uninstantiated(let name, let instance):
            guard let component = component(name, instance, id) else { return }
            uninstantiated(component)
        case .terminationFailed(let name, let instance, let reason):
            guard let component = component(name, instance, id) else { return }
            terminationFailed(component, reason)
        case .failed(let name, let instance, let recovery, let isDead, let cause):
            guard let component = component(name, instance, id) else { return }
            fail(component, recovery, isDead: isDead, cause, at: now)
        case .exited(let name, let instance, let reason):
            guard let component = component(name, instance, id) else { return }
            // Anything else said more than how the process ended.
            if components[component].run.lastError == FailureCause.died.text { note(reason, of: component) }
        case .answered(let name, let instance, let invocation):
            guard let component = component(name, instance, id) else { return }
            answered(component, invocation.rawValue)
        case .quiescingComplete(let name, let instance):
            guard let component = component(name, instance, id) else { return }
            for index in components[component].run.assignments.indices {
                guard components[component].run.assignments[index].state == .quiescing else { continue }
                components[component].run.assignments[index].wanted = .quiesced
                set(.quiesced, component, index)
            }
        case .errorCleared(let name):
            guard case .component(let component) = positions[name],
                units[components[component].unit].run.phase == .normal
            else { return }
            components[component].run.isDisabled = false
        }
    }

    /// Reports about another process life are about the past.
    private func component(_ name: SaName, _ instance: InstanceNumber, _ id: NodeID) -> Int? {
        guard case .component(let component) = positions[name], components[component].run.instance == instance,
            nodes[components[component].node].model.id == id
        else { return nil }
        return component
    }

    private mutating func instantiated(_ component: Int, _ pid: Int32, _ startedAt: SaTime) {
        let run = components[component].run
        switch run.presence {
        case .instantiating, .restarting:
            guard run.order == .instantiate else { return }
            components[component].run.order = nil
            components[component].run.presence = .instantiated
            components[component].run.isDelayed = false
            components[component].run.isDead = false
            if units[components[component].unit].run.phase != .failingOver {
                components[component].run.isDisabled = false
            }
            components[component].run.starts += run.starts == .max ? 0 : 1
            if !components[component].isPreInstantiable {
                for index in run.assignments.indices { set(.active, component, index) }
            }
        case .instantiated: break
        // Asked to end meanwhile; what was asked goes on.
        case .uninstantiated, .terminating, .instantiationFailed, .terminationFailed: return
        }
        components[component].run.pid = pid
        components[component].run.startedAt = startedAt
    }

    /// What a component that registered again holds is the truth; the moves correct what should be otherwise.
    private mutating func reconcile(_ component: Int, _ held: [HeldAssignment]) {
        guard components[component].run.presence == .instantiated, components[component].isPreInstantiable else {
            return
        }
        for index in components[component].run.assignments.indices {
            let assignment = components[component].run.assignments[index]
            let name = csis[Int(assignment.csi)].name
            let state = held.first { $0.csi == name }?.haState
            if components[component].run.pending?.csis.contains(assignment.csi) == true, state == nil { continue }
            if state != assignment.state { set(state, component, index) }
            if state == .quiescing, assignment.quiescing != 0 { reviveQuiescing(component, assignment) }
        }
        for holding in held {
            guard case .csi(let csi) = positions[holding.csi],
                !components[component].run.assignments.contains(where: { Int($0.csi) == csi })
            else { continue }
            components[component].run.assignments.append(Assignment(csi: csi, holding.haState))
            set(holding.haState, component, components[component].run.assignments.count - 1)
        }
    }

    /// The new amfd does not know that a completion is awaited: the same callback again tells it.
    private mutating func reviveQuiescing(_ component: Int, _ assignment: Assignment) {
        guard components[component].run.pending == nil else { return }
        var pending = PendingHA()
        pending.invocation = assignment.quiescing
        pending.haState = .quiescing
        pending.flags = .targetOne
        pending.csis = [assignment.csi]
        order(pending, component)
    }

    private mutating func uninstantiated(_ component: Int) {
        let run = components[component].run
        guard run.order != nil || run.presence == .terminationFailed || run.presence == .terminating else { return }
        let isKept = run.presence == .restarting && run.order != nil
        components[component].run.order = nil
        components[component].run.isDead = false
        components[component].run.pid = 0
        components[component].run.startedAt = 0
        components[component].run.pending = nil
        if isKept {
            clearAssignments(of: component)
        } else {
            dropAssignments(of: component)
            components[component].run.presence = .uninstantiated
        }
    }

    private mutating func answered(_ component: Int, _ invocation: UInt64) {
        guard let pending = components[component].run.pending, pending.invocation == invocation else { return }
        components[component].run.pending = nil
        for csi in pending.csis {
            guard let index = components[component].run.assignments.firstIndex(where: { $0.csi == csi }) else {
                continue
            }
            if let haState = pending.haState {
                set(haState, component, index)
            } else {
                set(nil, component, index)
                components[component].run.assignments.remove(at: index)
                forgetFormerActive(Int(csi))
            }
        }
    }

    /// When nobody holds the CSI any more, the next active follows nobody.
    private mutating func forgetFormerActive(_ csi: Int) {
        let isHeld = components.contains { $0.run.assignments.contains { Int($0.csi) == csi } }
        if !isHeld { (csis[csi].run.formerActive, csis[csi].run.formerWasQuiesced) = (nil, false) }
    }

    /// The one place where an acknowledged HA state changes.
    mutating func set(_ state: HAState?, _ component: Int, _ index: Int) {
        let assignment = components[component].run.assignments[index]
        guard assignment.state != state else { return }
        let csi = Int(assignment.csi)
        components[component].run.assignments[index].state = state
        if state != .quiescing { components[component].run.assignments[index].quiescing = 0 }
        if assignment.state == .active || assignment.state == .quiescing, state != .quiescing {
            csis[csi].run.formerActive = components[component].name
            csis[csi].run.formerWasQuiesced = state == .quiesced
        }
        tellHA(component, csi, assignment.state, state)
    }

    /// The process that held them is gone.
    mutating func dropAssignments(of component: Int) {
        clearAssignments(of: component)
        components[component].run.assignments = []
    }

    /// The process that held them is gone; its successor shall have them.
    mutating func clearAssignments(of component: Int) {
        components[component].run.pending = nil
        for index in components[component].run.assignments.indices {
            set(nil, component, index)
            components[component].run.assignments[index].isDoubtful = false
        }
    }

    /// No answer is awaited from a process any more that is about to be cleaned up; what it was asked it may yet do.
    mutating func withdrawPending(of component: Int) {
        guard let pending = components[component].run.pending else { return }
        components[component].run.pending = nil
        guard pending.haState == .active || pending.haState == .quiescing else { return }
        for index in components[component].run.assignments.indices
        where pending.csis.contains(components[component].run.assignments[index].csi) {
            components[component].run.assignments[index].isDoubtful = true
        }
    }
}
