import AmfClient
import AmfEngine
import AmfProtocol
import CliClient
import EOHost
import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes

/// amfd: the parts of the shell put together around the engines. Loop thread only.
final class AmfDaemon {
    private let options: AmfOptions
    let places: Places
    private let files: NodeFiles
    private let loop: Loop
    private let lock: Descriptor
    let host: EngineHost
    private let keeper: ProcessKeeper
    private let gateway: Gateway
    private let guardKeeper: GuardKeeper
    let compiler: ModelCompiler
    /// What was read to know the cluster, until it is used.
    private var firstOutcome: ModelCompiler.Outcome?
    let announcer: Announcer
    private let capture: OutputCapture
    private let commands: LoopCommands
    private var adminTickets: [UInt64: PendingAdmin] = [:]
    /// The cluster with the nodes that its model has, as far as this node knows their addresses; what all daemons read.
    var description: ClusterDescription
    /// What cluster.yaml says here: as at the start, with the nodes of the latest look.
    var configured: ClusterDescription
    /// Nil on a node alone.
    let cluster: ClusterKeeper?
    /// The nodes of the model for which cluster.yaml was read again.
    var soughtNodes: [String] = []
    /// Why it could not be, for people.
    var nodesRefusal: String?
    var isProposalOpen = false
    private(set) var isStopping = false
    private var exitCode: Int32 = 0

    private struct PendingAdmin {
        /// The request.
        let ticket: UInt64
        let operation: AdminOperation
        let name: SaName
    }

    /// Claims the node and takes over what an earlier life left.
    init(options: AmfOptions, places: Places) throws(Refusal) {
        self.options = options
        self.places = places
        files = NodeFiles(places: places)
        do {
            try files.makeDirectories()
            loop = try Loop(name: "amfd")
            let announcer = Announcer(loop: loop, places: places)
            self.announcer = announcer
            let predecessor = files.unstoppedAmfd()
            lock = try files.claim(.amfd) { announcer.tell(.noteFailed($0)) }
            if let predecessor { announcer.tell(.predecessorDied(pid: predecessor.pid)) }
            let found = try StartConfiguration.find(
                files, places, plan: SpawnPlan(places: places, node: NodeID(0), executable: options.executable))
            (description, configured, firstOutcome) = (found.cluster, found.cluster, found.first)
            let node = description.localNode
            let plan = SpawnPlan(places: places, node: node, executable: options.executable)
            let table = try Self.openChildren(files, announcer)
            keeper = ProcessKeeper(loop: loop, plan: plan, table: table)
            let journal = try RamJournal(path: files.journalPath)
            if let damage = journal.damage { announcer.tell(.journalDamaged(damage)) }
            let incarnation = UInt64(bitPattern: MonotonicClock.wallNanoseconds())
            host = EngineHost(
                loop: loop, description: description, incarnation: incarnation, journal: journal)
            cluster =
                description.groupEngine == .alone
                ? nil
                : try ClusterKeeper(
                    loop: loop, description: description, host: host, keeper: keeper,
                    page: try LeasePage.openOrMake(files.leasePath),
                    assignments: try AssignmentPage.openOrMake(files.assignmentsPath))
            if let failure = host.restoreFailure { announcer.tell(.journalDamaged(failure)) }
            gateway = try Gateway(
                loop: loop, places: places, access: LocalAccess(description.access), keeper: keeper, node: node,
                incarnation: incarnation)
            guardKeeper = GuardKeeper(loop: loop, files: files, options: options)
            compiler = ModelCompiler(loop: loop, plan: plan)
            capture = OutputCapture(loop: loop, places: places)
            commands = LoopCommands(loop: loop, places: places, owner: "amfd")
        } catch let refusal as Refusal {
            throw refusal
        } catch {
            throw Refusal(
                text: """
                    cannot start on node \(places.nodeName): \(error); SAF_RUN_DIR (\(places.runDirectory)) and \
                    SAF_SHM_DIR (\(places.shmDirectory)) must be writable directories with free space
                    """,
                isPermanent: false)
        }
    }

    private static func openChildren(_ files: NodeFiles, _ announcer: Announcer) throws(OSError) -> ChildrenTable {
        var existing = try existingChildren(files)
        if existing == nil {
            existing = try SharedFile.create(files.childrenPath, size: ChildrenTable.fileSize, mode: 0o600)
        }
        guard let file = existing else { throw .outOfSpace(files.childrenPath) }
        let table = ChildrenTable(memory: file.mapping.bytes, owner: file)
        if table.damagedSlots > 0 { announcer.tell(.childrenDamaged(slots: table.damagedSlots)) }
        return table
    }

    /// Nil when there is none, or one of another version, which cannot be read.
    private static func existingChildren(_ files: NodeFiles) throws(OSError) -> SharedFile? {
        guard File.exists(files.childrenPath) else { return nil }
        let file = try SharedFile.open(files.childrenPath, writable: true)
        return file.mapping.count == ChildrenTable.fileSize ? file : nil
    }

    /// Until the node is stopped; returns the exit status.
    func run() -> Int32 {
        do {
            try loop.onSignals([.terminate, .interrupt, .hangup]) { [unowned self] in signal($0) }
            connect()
            try begin()
        } catch {
            announcer.tell(.stopping("\(error)"))
            return 1
        }
        // A machine that is busy is when a failover is needed most; what is started by this thread is not affected.
        OSThread.runFirst()
        loop.run()
        return exitCode
    }

    private func connect() {
        keeper.onEvent = { [unowned self] in processEvent($0) }
        keeper.onNote = { [unowned self] in announcer.tell($0) }
        keeper.onOutput = { [unowned self] in capture.begin($0) }
        keeper.onOutputEnd = { [unowned self] in capture.end($0) }
        gateway.onRequest = { [unowned self] in host.handle(.request($0, ticket: $1, pid: $2)) }
        gateway.onConnectionLost = { [unowned self] in host.handle(.connectionLost($0.component, $0.instance)) }
        gateway.onNote = { [unowned self] in announcer.tell($0) }
        guardKeeper.onNote = { [unowned self] in announcer.tell($0) }
        host.onNote = { [unowned self] in announcer.tell($0) }
        host.onNodeNote = { [unowned self] in announcer.tell($0) }
        host.onReplicatedNote = { [unowned self] in announcer.tell($0) }
        host.onNotifications = { [unowned self] in announcer.publish($0) }
        AmfConsole.register(commands, of: self, loop: loop, places: places)
        host.onModel = { [unowned self] in
            followModel()
            adopt()
        }
        host.onStatus = { [unowned self] in
            cluster?.look()
            if $0 == .synchronised { synchronised() }
        }
        if let cluster {
            cluster.onNote = { [unowned self] in announcer.tell($0) }
            host.onView = { _ in cluster.look() }
            host.onJoined = { cluster.lease.joined() }
            host.onActivity = { cluster.activityChanged($0) }
            host.beforeWork = { cluster.lease.check() }
            host.onForetold = { cluster.becomesActive($0) }
        }
        host.onNodeStopped = { [unowned self] in stopped() }
        host.performNode = { [unowned self] in perform($0) }
        host.preparePush = { [unowned self] in gateway.prepare($0) }
        host.onAdminReply = { [unowned self] in finish($0) }
    }

    // MARK: Start

    private func begin() throws {
        guardKeeper.start()
        cluster?.start()
        if cluster != nil { guardKeeper.mindLease() }
        host.start()
        if host.model != nil {
            // The amfd before may have died between the two.
            followModel()
            adopt()
        }
        guardKeeper.serving()
    }

    /// The state here is the cluster's. Without a model in it this node brings its own: whoever is first.
    private func synchronised() {
        guard !isStopping, !hasCompiled else { return }
        hasCompiled = true
        if let outcome = firstOutcome {
            firstOutcome = nil
            loop.enqueue { [unowned self] in compiled(outcome) }
        } else if host.model == nil {
            compiler.compile { [unowned self] in compiled($0) }
        }
    }

    private var hasCompiled = false

    /// What this node's files say, for the first time in this life.
    private func compiled(_ outcome: ModelCompiler.Outcome) {
        guard !isStopping else { return }
        if host.model == nil {
            take(outcome)
        } else if case .success(let compiled) = outcome, completed(compiled.model) != host.model {
            announcer.tell(.modelDiffers)
        }
    }

    /// What the compiler gave; what is wrong with it stays in the status until another model is loaded. A cluster
    /// without a model gets the middleware alone.
    func take(_ outcome: ModelCompiler.Outcome) {
        switch outcome {
        case .success(let compiled):
            let errors = compiled.model.validate()
            guard errors.isEmpty else { return notUsed(errors.map { "\($0)" }.joined(separator: "\n")) }
            if !compiled.warnings.isEmpty { announcer.tell(.modelWarnings(compiled.warnings)) }
            if let read = try? StartConfiguration.numbered(compiled.cluster, Environment.get("SAF_NODE_ID")) {
                reconfigure(read)
            }
            install(compiled.model)
        case .failure(let refusal): notUsed(refusal.text)
        }
    }

    private func notUsed(_ reason: String) {
        let note = ShellNote.modelBad(reason)
        announcer.tell(note)
        modelProblem = String(note.text.prefix(Self.problemLengthMax))
        if host.model == nil, !isTryingBare {
            isTryingBare = true
            install(AmfModel(), keepsProblem: true)
        }
    }

    private var isTryingBare = false

    /// The applications with all nodes of the cluster and the middleware on them.
    private func completed(_ applications: AmfModel) -> AmfModel {
        var model = applications
        for (index, node) in configured.nodes.enumerated() {
            let name = "\(node.name)"
            if let known = model.nodes.firstIndex(where: { $0.name == name }) {
                model.nodes[known].id = node.id
            } else {
                model.nodes.insert(NodeModel(name: name, id: node.id), at: min(index, model.nodes.count))
            }
        }
        return MiddlewareModel.merged(into: model)
    }

    /// Proposes a model; the node engine gets it when it has been accepted.
    private func install(_ applications: AmfModel, ticket: UInt64? = nil, keepsProblem: Bool = false) {
        let model = completed(applications)
        host.propose(.model(model)) { [unowned self] refusal in
            if let ticket { gateway.finish(ticket, refusal.map { .failure($0) } ?? .success([])) }
            if let refusal {
                // Another node's was first, or this part of the cluster cannot decide now.
                return ticket == nil ? notUsed(refusal.text) : announcer.tell(.modelBad(refusal.text))
            }
            if !keepsProblem { modelProblem = nil }
            announcer.tell(.modelLoaded(components: model.components(on: host.node).count))
        }
    }

    /// Characters of a problem in the status; the log has the whole.
    private static let problemLengthMax = 8_000
    /// Why the model on disk is not what runs.
    private var modelProblem: String?
    private var isAdopted = false

    /// What an earlier amfd left is taken over as soon as its names mean something.
    private func adopt() {
        guard !isAdopted else { return }
        isAdopted = true
        let adopted = keeper.adopt()
        if !adopted.living.isEmpty { announcer.tell(.adoptedComponents(adopted.living.count)) }
        cluster?.adopted(adopted.living)
        host.adopt(adopted.living, ended: adopted.ended.sorted().map { ($0.component, $0.instance) })
    }

    // MARK: Effects

    private func perform(_ effect: NodeEffect) {
        switch effect {
        case .spawn(let name, let instance, let model, let environment):
            keeper.spawn(ChildKey(component: name, instance: instance), model, environment: environment)
        case .push(let push):
            if case .csiSet(_, let component, .active, _) = push { cluster?.activityChanged(component) }
            gateway.push(push)
        case .signalTerminate(let name, let instance):
            keeper.terminate(ChildKey(component: name, instance: instance))
        case .kill(let name, let instance): keeper.kill(ChildKey(component: name, instance: instance))
        case .runCleanup(let name, let instance, let model):
            keeper.cleanUp(ChildKey(component: name, instance: instance), model)
        case .reply(let ticket, .forward): forward(ticket)
        case .reply(let ticket, let reply): gateway.answer(ticket, reply)
        case .report, .startTimer, .cancelTimer, .note: break  // the host's
        }
    }

    private func finish(_ reply: AdminReply) {
        ended(reply.ticket.number, reply.error.map { CallError($0, reply.text) })
    }

    /// A request that is the cluster engine's matter.
    private func forward(_ ticket: UInt64) {
        switch gateway.content(ticket) {
        case .admin(let operation, let name, let isForced):
            let asker = gateway.asker(ticket)
            announcer.tell(.administered(operation, name, user: asker?.uid ?? 0, pid: asker?.pid ?? 0))
            if !isForced, let objection = host.objection(to: operation, on: name) {
                announcer.tell(.administrationEnded(operation, name, refusal: objection))
                return gateway.finish(ticket, .failure(CallError(.badOperation, objection)))
            }
            lastAdmin += 1
            let number = lastAdmin
            adminTickets[number] = PendingAdmin(ticket: ticket, operation: operation, name: name)
            host.propose(.admin(AdminTicket(node: host.node, number: number), operation, name)) { [unowned self] in
                // Accepted: the answer comes when it is done.
                if let error = $0 { ended(number, error) }
            }
        case .status:
            gateway.finish(ticket, .success(report.encoded))
        case .loadModel(let model):
            let errors = model.validate()
            guard errors.isEmpty else {
                let text = errors.map { "\($0)" }.joined(separator: "\n")
                return gateway.finish(ticket, .failure(CallError(.invalidParam, text)))
            }
            loop.enqueue { [unowned self] in install(model, ticket: ticket) }
        case .stopNode:
            gateway.finish(ticket, .success([]))
            loop.enqueue { [unowned self] in stop("asked by saf") }
        default: break
        }
    }

    /// An answer to an amfd that has died is not taken for one to its successor.
    private lazy var lastAdmin: UInt64 = host.incarnation

    private func ended(_ admin: UInt64, _ error: CallError?) {
        guard let asked = adminTickets.removeValue(forKey: admin) else { return }
        let refusal = error.map { $0.text.isEmpty ? "\($0.code)" : $0.text }
        announcer.tell(.administrationEnded(asked.operation, asked.name, refusal: refusal))
        gateway.finish(asked.ticket, error.map { .failure($0) } ?? .success([]))
    }

    /// Everything there is to know, at this moment.
    var report: StatusReport {
        var report = host.status
        if let problem = host.clusterProblem { report.problems.append(problem) }
        cluster?.complete(&report)
        report.problems += nodeProblems
        if let cluster, !cluster.lease.isOpen {
            report.problems.append("node \(nodeName) does not hold its lease: its active components are stopped")
        }
        if let model = host.model, !model.nodes.contains(where: { $0.id == host.node }) {
            report.problems.append(
                "node \(nodeName) is not in the cluster's model and runs nothing: reload SwiftSAF on another node "
                    + "whose cluster.yaml has it (systemctl reload swiftsaf)"
            )
        }
        if let modelProblem { report.problems.append(modelProblem) }
        return report
    }

    var nodeName: String { places.nodeName }
    /// 0: none yet.
    var guardPid: Int32 { guardKeeper.pid }
    var processCount: Int { keeper.all.count }

    private func processEvent(_ event: NodeEvent) {
        host.handle(event)
        if isStopping { endIfNothingIsLeft() }
    }

    // MARK: Stop

    private func signal(_ information: SignalInfo) {
        switch information.signal {
        case .hangup: readFiles(proposing: true)  // changed on disk
        default: stop("\(information.signal) from process \(information.pid)")
        }
    }

    private func stop(_ cause: String) {
        guard !isStopping else { return }
        isStopping = true
        announcer.tell(.stopping(cause))
        loop.schedule(after: options.stopDeadline) { [unowned self] in
            announcer.tell(.stopLate(left: keeper.all.count))
            stopped()
        }
        // A node that is in no model runs nothing that would have to be stopped in an order.
        guard let model = host.model, model.nodes.contains(where: { $0.id == host.node }) else { return stopped() }
        host.propose(.stopNode(host.node))
    }

    private var isFinishing = false

    /// Everything is down as far as the engines know; whatever is left is killed.
    private func stopped() {
        guard !isFinishing else { return }
        (isStopping, isFinishing) = (true, true)
        keeper.killEverything()
        loop.schedule(after: .seconds(5)) { [unowned self] in finish() }
        endIfNothingIsLeft()
    }

    private func endIfNothingIsLeft() {
        guard isFinishing, keeper.isEmpty else { return }
        loop.enqueue(.low) { [unowned self] in finish() }
    }

    private func finish() {
        guardKeeper.stop()
        gateway.close()
        keeper.finish()
        host.close()
        cluster?.close()
        // An orderly stop ends this life of the node: the next one starts from the model.
        _ = try? File.remove(files.journalPath)
        _ = try? File.remove(files.childrenPath)
        _ = try? File.remove(files.leasePath)
        _ = try? File.remove(files.assignmentsPath)
        try? files.note(lock, ProcessIdentity.own, hasStopped: true)  // then the guard takes our end for a crash
        host.tell()
        announcer.close()
        capture.close()
        commands.close()
        loop.stop()
    }
}
