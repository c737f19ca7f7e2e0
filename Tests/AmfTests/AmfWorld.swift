import AmfProtocol
import EngineKit
import SAFTypes

@testable import AmfEngine

/// One node in one process: both engines, a shell that performs everything in memory, and components that answer as
/// told.
struct AmfWorld {
    /// How a component behaves; changed by tests at any time.
    struct Behaviour {
        var canSpawn = true
        var registers = true
        var answers = true
        var refuses = false
        var terminates = true
        var dies = true
        var completesQuiescing = true
        var diesBeforeRegistering = false
    }

    struct Process {
        var component: SaName
        var instance: InstanceNumber
        var pid: Int32
        var isAlive = true
        var isConnected = false
        var isSaAware = true
        var held: [HeldAssignment] = []
        /// What it executed, for the same callback coming twice.
        var answered: [InvocationID] = []
        /// Answers that found nobody listening.
        var unheard: [InvocationAnswer] = []
    }

    enum Pending {
        case node(NodeEvent)
        case cluster(ClusterEvent)
    }

    let id: NodeID
    var model: AmfModel
    var node: NodeEngine
    var cluster = ClusterEngine()
    var now = Instant(nanoseconds: 1_000_000_000)
    var incarnation: UInt64 = 1
    var queue: [Pending] = []
    var processes: [Process] = []
    var nextPid: Int32 = 100
    var nextTicket: UInt64 = 1
    var behaviours: [SaName: Behaviour] = [:]
    var nodeTimers: [(due: Instant, timer: NodeTimer)] = []
    var clusterTimers: [(due: Instant, timer: ClusterTimer)] = []
    var trace: [String] = []
    var adminReplies: [(number: UInt64, error: AisError?, text: String)] = []
    var refused: [String] = []
    var notifications: [AmfNotification] = []
    var hasStopped = false
    /// The state after the last event of the cluster engine, however long ago: what forecasts are made from.
    var lastDecided: (at: Instant, ClusterEngine)?
    var foretoldCount = 0
    /// Foretold to be pushed, and not pushed yet.
    var foretoldPushes: [AmfPush] = []
    var foretoldPushCount = 0
    /// The journal: what a new amfd starts from.
    var journal: [UInt8] = []
    var isAmfdDown = false
    /// Called for every CSI callback that a component executes; a checker's seam.
    var violations: [String] = []

    init(_ model: AmfModel, id: NodeID = NodeID(1)) {
        self.id = id
        self.model = model
        node = NodeEngine(node: id, incarnation: 1)
        save()
        startAmfd(living: [])
    }

    // MARK: - amfd's lives

    mutating func startAmfd(living: [LivingComponent]) {
        isAmfdDown = false
        if cluster.model.nodes.isEmpty { propose(.model(model)) } else { give(.model(cluster.model)) }
        settle()
        give(.adopt(living))
        propose(.nodeJoined(id, incarnation: incarnation, living: living))
    }

    /// kill -9 of amfd: everything in its memory is gone, its journal and the processes stay.
    mutating func killAmfd() {
        isAmfdDown = true
        // Answers that were on their way found nobody: the library keeps them for the re-registration.
        for case .node(.request(.response(let answer), _, let pid)) in queue {
            guard let index = processes.firstIndex(where: { $0.pid == pid && $0.isAlive }) else { continue }
            processes[index].unheard.append(answer)
        }
        queue = []
        nodeTimers = []
        for index in processes.indices { processes[index].isConnected = false }
        trace.append("amfd dies")
    }

    mutating func restartAmfd() {
        incarnation += 1
        node = NodeEngine(node: id, incarnation: incarnation)
        cluster = Self.restored(journal)
        lastDecided = nil
        let living = processes.filter(\.isAlive).map {
            LivingComponent(component: $0.component, instance: $0.instance, pid: $0.pid, startedAt: 7)
        }
        // Those that died meanwhile are reaped by init.
        processes.removeAll { !$0.isAlive }
        trace.append("amfd returns")
        startAmfd(living: living)
        for process in processes where behaviour(process.component).registers && process.isSaAware {
            register(process.pid)
        }
    }

    static func restored(_ bytes: [UInt8]) -> ClusterEngine {
        bytes.withUnsafeBytes { raw in
            var reader = ByteReader(raw)
            guard let engine = try? ClusterEngine(snapshot: &reader, version: 2), (try? reader.finish()) != nil
            else { fatalError("a snapshot of our own cannot be read") }
            return engine
        }
    }

    static func bytes(_ engine: ClusterEngine) -> [UInt8] {
        var writer = ByteWriter()
        engine.encodeSnapshot(version: 2, to: &writer)
        return writer.bytes
    }

    mutating func save() { journal = Self.bytes(cluster) }

    // MARK: - Events in, effects out

    mutating func give(_ event: NodeEvent) { queue.append(.node(event)) }
    mutating func propose(_ event: ClusterEvent) { queue.append(.cluster(event)) }

    /// Works off what waits; false when there was nothing.
    @discardableResult
    mutating func step() -> Bool {
        guard !isAmfdDown, !queue.isEmpty else { return false }
        switch queue.removeFirst() {
        case .node(let event):
            foretellPushes(event)
            for effect in node.handle(event, at: now) {
                if case .push(let push) = effect { foretoldPushes.removeAll { $0 == push } }
                perform(effect)
            }
        case .cluster(let event):
            let foretold = takeovers(after: event)
            let effects = cluster.handle(event, at: now)
            let decided = effects.compactMap(Self.takeover)
            if !foretold.isEmpty {
                foretoldCount += 1
                if foretold != decided { violations.append("foretold \(foretold), decided \(decided)") }
            }
            lastDecided = (now, cluster)
            save()
            for effect in effects { perform(effect) }
        }
        return true
    }

    /// Where the death comes while nothing else is under way, as amfd makes its forecasts.
    private mutating func foretellPushes(_ event: NodeEvent) {
        guard case .lifeLockReleased(let name, let instance) = event, let (time, state) = lastDecided,
            queue.allSatisfy({ Self.isEnd($0, of: name) })
        else { return }
        let process = ActiveProcess(component: name, instance: instance)
        let orders = Forecast(deathsOf: [process], on: node.node, in: state, at: time)
            .takeovers(after: .death(of: process))
        let pushes = node.pushes(afterDeathOf: process, then: orders, at: time)
        foretoldPushCount += pushes.count
        foretoldPushes += pushes
    }

    private static func isEnd(_ step: Pending, of component: SaName) -> Bool {
        switch step {
        case .node(.connectionLost(component, _)), .node(.exited(component, _, _)): true
        default: false
        }
    }

    private func takeovers(after event: ClusterEvent) -> [CSISetOrder] {
        guard case .report(id, let report) = event else { return [] }
        guard case .failed(let name, let instance, _, _, _) = report, let (time, state) = lastDecided else { return [] }
        let process = ActiveProcess(component: name, instance: instance)
        let forecast = Forecast(deathsOf: [process], on: id, in: state, at: time)
        return forecast.takeovers(after: report)
    }

    private static func takeover(_ effect: ClusterEffect) -> CSISetOrder? {
        guard case .order(_, .csiSet(let order)) = effect, order.haState == .active else { return nil }
        return order
    }

    mutating func settle() {
        var steps = 0
        while step() {
            steps += 1
            if steps > 20_000 { fatalError("no rest after \(steps) steps: \(trace.suffix(20))") }
        }
        if !isAmfdDown, !foretoldPushes.isEmpty { violations.append("foretold, not pushed: \(foretoldPushes)") }
        foretoldPushes = []
    }

    /// Lets time pass: timers that come due are fired in order.
    mutating func advance(_ duration: Duration) {
        let end = now + duration
        settle()
        while let due = nextDue(), due <= end {
            now = max(now, due)
            fire(due)
            settle()
        }
        now = end
    }

    private func nextDue() -> Instant? {
        (nodeTimers.map(\.due) + clusterTimers.map(\.due)).min()
    }

    private mutating func fire(_ due: Instant) {
        if let index = nodeTimers.firstIndex(where: { $0.due == due }) {
            give(.timer(nodeTimers.remove(at: index).timer))
        } else if let index = clusterTimers.firstIndex(where: { $0.due == due }) {
            if isAmfdDown {
                clusterTimers[index].due = due + .milliseconds(100)
            } else {
                propose(.timer(clusterTimers.remove(at: index).timer))
            }
        }
    }

    mutating func admin(_ operation: AdminOperation, _ name: String) -> UInt64 {
        nextTicket += 1
        propose(.admin(AdminTicket(node: id, number: nextTicket), operation, SaName(name)!))
        return nextTicket
    }

    func reply(_ ticket: UInt64) -> (isThere: Bool, error: AisError?) {
        guard let reply = adminReplies.first(where: { $0.number == ticket }) else { return (false, nil) }
        return (true, reply.error)
    }

    // MARK: - The shell

    private mutating func perform(_ effect: ClusterEffect) {
        switch effect {
        case .order(_, let order):
            trace.append(text(order))
            checkOrder(order)
            give(.order(order))
        case .adminReply(let ticket, let error, let reason):
            trace.append("reply \(error.map { "\($0)".split(separator: " ")[0] } ?? "OK")")
            adminReplies.append((ticket.number, error, reason))
        case .startTimer(let timer, let due):
            clusterTimers.removeAll { $0.timer == timer }
            clusterTimers.append((due, timer))
        case .cancelTimer(let timer): clusterTimers.removeAll { $0.timer == timer }
        case .notify(let list): notifications += list
        case .nodeStopped:
            hasStopped = true
            trace.append("node stopped")
        case .modelInstalled: give(.model(cluster.model))
        case .modelRefused(let text): refused.append(text)
        }
    }

    private mutating func perform(_ effect: NodeEffect) {
        switch effect {
        case .report(let report): propose(.report(id, report))
        case .spawn(let name, let instance, let model, _): spawn(name, instance, model)
        case .push(let push): deliver(push)
        case .signalTerminate(let name, let instance):
            if behaviour(name).terminates { exit(name, instance, "signal 15") }
        case .kill(let name, let instance): kill(name, instance, "signal 9")
        case .runCleanup(let name, let instance, _):
            give(.cleanedUp(name, instance, succeeded: true, reason: ""))
        case .startTimer(let timer, let after):
            nodeTimers.removeAll { $0.timer.component == timer.component && $0.timer.kind == timer.kind }
            nodeTimers.append((now + after, timer))
        case .cancelTimer(let timer): nodeTimers.removeAll { $0.timer == timer }
        case .reply, .note: break
        }
    }

    func behaviour(_ name: SaName) -> Behaviour { behaviours[name] ?? Behaviour() }

    private mutating func spawn(_ name: SaName, _ instance: InstanceNumber, _ model: ComponentModel) {
        let behaviour = behaviour(name)
        if processes.contains(where: { $0.component == name && $0.isAlive }) {
            violations.append("\(name) is spawned while a process of it lives")
        }
        guard behaviour.canSpawn else {
            give(.spawnFailed(name, instance, reason: "\(model.command): no such file"))
            return
        }
        nextPid += 1
        var process = Process(component: name, instance: instance, pid: nextPid)
        process.isSaAware = model.category == .saAware
        processes.append(process)
        give(.spawned(name, instance, pid: nextPid, startedAt: 7))
        if behaviour.diesBeforeRegistering {
            exit(name, instance, "exit status 1")
        } else if behaviour.registers, process.isSaAware {
            register(nextPid)
        }
    }

    mutating func register(_ pid: Int32) {
        guard let index = processes.firstIndex(where: { $0.pid == pid && $0.isAlive }) else { return }
        let process = processes[index]
        processes[index].isConnected = true
        processes[index].unheard = []
        let registration = Registration(
            component: process.component, pid: pid, held: process.held, answers: process.unheard)
        give(.request(.register(registration), ticket: 0, pid: pid))
    }

    private mutating func deliver(_ push: AmfPush) {
        guard
            let index = processes.firstIndex(where: { $0.component == push.component && $0.isAlive && $0.isConnected })
        else { return }
        let name = processes[index].component
        let behaviour = behaviour(name)
        if processes[index].answered.contains(push.invocation) {
            answer(index, push.invocation)
            return
        }
        if case .terminate = push {
            if behaviour.terminates {
                answer(index, push.invocation)
                exit(name, processes[index].instance, "exit status 0")
            }
            return
        }
        guard behaviour.answers else { return }
        if case .healthcheck = push { return answer(index, push.invocation) }
        guard !behaviour.refuses else {
            give(
                .request(
                    .response(InvocationAnswer(push.invocation, .failedOperation)), ticket: 0, pid: processes[index].pid
                ))
            return
        }
        execute(push, index)
        processes[index].answered.append(push.invocation)
        answer(index, push.invocation)
        if case .csiSet(let invocation, _, .quiescing, _) = push, behaviour.completesQuiescing {
            for held in processes[index].held.indices { processes[index].held[held].haState = .quiesced }
            give(.request(.quiescingComplete(InvocationAnswer(invocation)), ticket: 0, pid: processes[index].pid))
        }
    }

    private mutating func answer(_ index: Int, _ invocation: InvocationID) {
        give(.request(.response(InvocationAnswer(invocation)), ticket: 0, pid: processes[index].pid))
    }

    private mutating func execute(_ push: AmfPush, _ index: Int) {
        switch push {
        case .csiSet(_, let component, let haState, let descriptor):
            if descriptor.flags == .targetAll {
                for held in processes[index].held.indices { processes[index].held[held].haState = haState }
            } else if let csi = descriptor.csi {
                processes[index].held.removeAll { $0.csi == csi }
                processes[index].held.append(HeldAssignment(csi: csi, haState))
                if haState == .active { checkSingleActive(csi, component) }
            }
        case .csiRemove(_, _, let csi): processes[index].held.removeAll { csi == nil || $0.csi == csi }
        case .terminate, .healthcheck: break
        }
    }

    /// No CSI is active in two living processes.
    private mutating func checkSingleActive(_ csi: SaName, _ component: SaName) {
        for process in processes where process.isAlive && process.component != component {
            if process.held.contains(where: { $0.csi == csi && ($0.haState == .active || $0.haState == .quiescing) }) {
                violations.append("\(csi) is active in \(process.component) and \(component)")
            }
        }
    }

    /// Nothing is asked of a component that the cluster engine knows to be dead, or of a process that is not its
    /// present one.
    private mutating func checkOrder(_ order: NodeOrder) {
        guard case .component(let index) = cluster.positions[order.component] else {
            violations.append("order for unknown \(order.component)")
            return
        }
        let run = cluster.components[index].run
        switch order {
        case .csiSet(let set):
            if run.isDead || run.presence != .instantiated || set.instance != run.instance {
                violations.append("\(text(order)) while it is \(run.presence.word)")
            }
        case .csiRemove(let remove):
            if run.isDead || run.presence != .instantiated || remove.instance != run.instance {
                violations.append("\(text(order)) while it is \(run.presence.word)")
            }
        case .instantiate, .terminate, .cleanup, .confirm: break
        }
    }

    // MARK: - Deaths

    /// SIGKILL from outside: the life lock comes free, then the connection ends, then the exit is seen.
    mutating func kill(_ name: SaName, _ instance: InstanceNumber? = nil, _ reason: String = "signal 9") {
        guard
            let index = processes.firstIndex(where: {
                $0.component == name && $0.isAlive && (instance == nil || $0.instance == instance)
            })
        else {
            if let instance { give(.exited(name, instance, reason: reason)) }
            return
        }
        guard behaviour(name).dies else { return }
        let process = processes[index]
        processes[index].isAlive = false
        // Nobody is told of what happens while amfd is down.
        guard !isAmfdDown else { return }
        if process.isConnected { give(.lifeLockReleased(name, process.instance)) }
        give(.connectionLost(name, process.instance))
        give(.exited(name, process.instance, reason: reason))
    }

    private mutating func exit(_ name: SaName, _ instance: InstanceNumber, _ reason: String) {
        guard let index = processes.firstIndex(where: { $0.component == name && $0.isAlive }) else { return }
        processes[index].isAlive = false
        give(.exited(name, instance, reason: reason))
    }

    mutating func kill(_ name: String) {
        trace.append("kill \(DN.shortName(SaName(name)!))")
        kill(SaName(name)!)
    }

    // MARK: - Text

    /// "C1@2 csiSet active CSI newAssign": what a reader of a trace needs.
    func text(_ order: NodeOrder) -> String {
        func label(_ name: SaName, _ instance: InstanceNumber) -> String { "\(path(name)):\(instance)" }
        switch order {
        case .instantiate(let name, let instance, _): return "\(label(name, instance)) instantiate"
        case .terminate(let name, let instance): return "\(label(name, instance)) terminate"
        case .cleanup(let name, let instance): return "\(label(name, instance)) cleanup"
        case .confirm(let name, let instance): return "\(label(name, instance)) confirm"
        case .csiSet(let set):
            var words = ["\(label(set.component, set.instance)) set \(set.haState.word)"]
            words.append(set.descriptor.csi.map { DN.shortName($0) } ?? "all")
            words.append("\(set.descriptor.flags)")
            if set.haState == .active { words.append("\(set.descriptor.transition)") }
            if let active = set.descriptor.activeComponent { words.append("active=\(path(active))") }
            return words.joined(separator: " ")
        case .csiRemove(let remove):
            return "\(label(remove.component, remove.instance)) remove \(remove.csi.map { DN.shortName($0) } ?? "all")"
        }
    }

    /// "SU1/C1".
    func path(_ component: SaName) -> String {
        let unit = DN.parent(component).map(DN.shortName) ?? ""
        return "\(unit)/\(DN.shortName(component))"
    }

    /// One line for each unit and each service instance.
    func describe() -> [String] {
        var lines: [String] = []
        for application in cluster.status().applications {
            for group in application.serviceGroups {
                for unit in group.serviceUnits {
                    let components = unit.components.map { "\($0.name)=\($0.presenceState.word)" }
                    lines.append(
                        "\(unit.name) \(unit.adminState.word) \(unit.operationalState.word) \(unit.presenceState.word) "
                            + "\(unit.readinessState.word) \(components.joined(separator: " "))")
                }
            }
            for instance in application.serviceInstances {
                let held = instance.csis.flatMap { csi in
                    csi.assignments.map { "\(csi.name):\(path($0.component))=\($0.haState.word)" }
                }
                lines.append(([instance.name, instance.assignmentState.word] + held).joined(separator: " "))
            }
        }
        return lines
    }
}

extension AmfPush {
    var component: SaName {
        switch self {
        case .csiSet(_, let component, _, _), .csiRemove(_, let component, _), .terminate(_, let component),
            .healthcheck(_, let component, _):
            component
        }
    }
}

/// Small models, written once.
enum Models {
    /// 2N: `units` service units of `components` components each, one SI with one CSI per component.
    static func twoN(units: Int = 2, components: Int = 1, instances: Int = 1) -> AmfModel {
        var model = AmfModel()
        model.nodes = [NodeModel(name: "n1", id: NodeID(1))]
        model.nodes[0].suFailoverMax = 1_000
        var application = ApplicationModel(name: "A")
        var group = ServiceGroupModel(name: "G", .twoN)
        group.serviceUnits = (1...units).map { number in
            var unit = ServiceUnitModel(name: "SU\(number)", node: "n1", rank: UInt32(number))
            unit.components = (1...components).map { component("C\($0)", type: "T\($0)") }
            return unit
        }
        application.serviceGroups = [group]
        application.serviceInstances = (1...instances).map { number in
            var instance = ServiceInstanceModel(name: "SI\(number)", serviceGroup: "G")
            instance.rank = UInt32(number)
            instance.csis = (1...components).map { CSIModel(name: "W\(number)\($0)", type: "T\($0)") }
            return instance
        }
        model.applications = [application]
        return model
    }

    static func noRedundancy(units: Int, instances: Int) -> AmfModel {
        var model = twoN(units: units, components: 1, instances: instances)
        model.applications[0].serviceGroups[0].redundancyModel = .noRedundancy
        return model
    }

    static func component(_ name: String, type: String) -> ComponentModel {
        var component = ComponentModel(name: name, command: "/bin/\(name)")
        component.csiTypes = [SupportedCSIType(type)]
        component.timeouts = ComponentTimeouts(all: .seconds(5))
        component.healthchecks = [HealthcheckModel(key: "h", period: .seconds(1), maxDuration: .seconds(1))]
        return component
    }
}
