import AmfEngine
import AmfProtocol
import CliClient
import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes

/// amfd: the parts of the shell put together around the engines. Loop thread only.
final class AmfDaemon {
    private let options: AmfOptions
    private let places: Places
    private let files: NodeFiles
    private let loop: Loop
    private let lock: Descriptor
    private let host: EngineHost
    private let keeper: ProcessKeeper
    private let gateway: Gateway
    private let guardKeeper: GuardKeeper
    private let compiler: ModelCompiler
    private let cluster: ClusterDescription
    /// What was read to know the cluster, until it is used.
    private var firstOutcome: ModelCompiler.Outcome?
    private let announcer: Announcer
    private let capture: OutputCapture
    private let commands: LoopCommands
    private var adminTickets: [UInt64: PendingAdmin] = [:]
    private var modelTickets: [UInt64: PendingModel] = [:]
    private var isStopping = false
    private var exitCode: Int32 = 0

    private struct PendingAdmin {
        /// The request.
        let ticket: UInt64
        let operation: AdminOperation
        let name: SaName
    }

    private struct PendingModel {
        let model: AmfModel
        /// The request that brought it, if one did.
        let ticket: UInt64?
        var refusal: CallError?
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
            (cluster, firstOutcome) = (found.cluster, found.first)
            let node = cluster.localNode
            let plan = SpawnPlan(places: places, node: node, executable: options.executable)
            let table = try Self.openChildren(files, announcer)
            keeper = ProcessKeeper(loop: loop, plan: plan, table: table)
            let journal = try RamJournal(path: files.journalPath)
            if let damage = journal.damage { announcer.tell(.journalDamaged(damage)) }
            let incarnation = UInt64(bitPattern: MonotonicClock.wallNanoseconds())
            host = try EngineHost(loop: loop, node: node, incarnation: incarnation, journal: journal)
            if let failure = host.restoreFailure { announcer.tell(.journalDamaged(failure)) }
            gateway = try Gateway(loop: loop, places: places, keeper: keeper, node: node, incarnation: incarnation)
            guardKeeper = GuardKeeper(loop: loop, options: options)
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
        host.onRefusal = { [unowned self] in refused($0, $1) }
        AmfConsole.register(commands, of: self, loop: loop, places: places)
        host.performNode = { [unowned self] in perform($0) }
        host.performCluster = { [unowned self] in perform($0) }
    }

    // MARK: Start

    private func begin() throws {
        guardKeeper.start()
        try host.start()
        if let model = host.model {
            join(model)
        } else if let outcome = firstOutcome {
            loop.enqueue { [unowned self] in compiled(outcome) }
        } else {
            compiler.compile { [unowned self] in compiled($0) }
        }
    }

    /// The first model of this node: the applications, or the middleware alone when they are not to be had.
    private func compiled(_ outcome: ModelCompiler.Outcome) {
        firstOutcome = nil
        guard !isStopping else { return }
        take(outcome)
        guard host.model == nil else { return }
        let problem = modelProblem
        install(AmfModel(), ticket: nil)
        modelProblem = problem
    }

    /// What the compiler gave; what is wrong with it stays in the status until another model is loaded.
    private func take(_ outcome: ModelCompiler.Outcome) {
        switch outcome {
        case .success(let compiled):
            let errors = compiled.model.validate()
            guard errors.isEmpty else { return notUsed(errors.map { "\($0)" }.joined(separator: "\n")) }
            if !compiled.warnings.isEmpty { announcer.tell(.modelWarnings(compiled.warnings)) }
            if let read = try? StartConfiguration.numbered(compiled.cluster, Environment.get("SAF_NODE_ID")),
                read != cluster
            {
                announcer.tell(
                    .modelWarnings("cluster.yaml has changed: it takes effect when the node is started anew"))
            }
            install(compiled.model, ticket: nil)
        case .failure(let refusal): notUsed(refusal.text)
        }
    }

    private func notUsed(_ reason: String) {
        let note = ShellNote.modelBad(reason)
        announcer.tell(note)
        modelProblem = String(note.text.prefix(Self.problemLengthMax))
    }

    /// Proposes a model with the middleware merged in; the node engine gets it when it has been accepted.
    private func install(_ applications: AmfModel, ticket: UInt64?) {
        var own = applications
        if let index = own.nodes.firstIndex(where: { $0.name == places.nodeName }) {
            own.nodes[index].id = host.node
        } else {
            own.nodes.insert(NodeModel(name: places.nodeName, id: host.node), at: 0)
        }
        let model = MiddlewareModel.merged(into: own)
        let isFirst = host.model == nil
        nextModel = PendingModel(model: model, ticket: ticket, refusal: nil)
        host.propose(.model(model))
        guard let installed = nextModel else { return }
        nextModel = nil
        settle(installed, isFirst: isFirst)
    }

    /// The model that is being proposed: on one node a proposal is applied before it returns.
    private var nextModel: PendingModel?

    private func settle(_ installed: PendingModel, isFirst: Bool) {
        if let refusal = installed.refusal {
            guard let ticket = installed.ticket else { return notUsed(refusal.text) }
            announcer.tell(.modelBad(refusal.text))
            return gateway.finish(ticket, .failure(refusal))
        }
        if let ticket = installed.ticket { gateway.finish(ticket, .success([])) }
        modelProblem = nil
        announcer.tell(.modelLoaded(components: installed.model.components(on: host.node).count))
        guard isFirst else { return }
        host.handle(.adopt(adopt().living))
        host.propose(.nodeJoined(host.node, incarnation: host.incarnation, living: living))
    }

    private var living: [LivingComponent] = []
    /// Characters of a problem in the status; the log has the whole.
    private static let problemLengthMax = 8_000
    /// Why the model on disk is not what runs.
    private var modelProblem: String?

    /// An earlier life of amfd had this model: carry on.
    private func join(_ model: AmfModel) {
        host.handle(.model(model))
        let adopted = adopt()
        host.handle(.adopt(adopted.living))
        for key in adopted.ended.sorted() { host.handle(.ended(key.component, key.instance)) }
        host.propose(.nodeJoined(host.node, incarnation: host.incarnation, living: living))
    }

    private func adopt() -> ProcessKeeper.Adopted {
        let adopted = keeper.adopt()
        living = adopted.living
        if !living.isEmpty { announcer.tell(.adoptedComponents(living.count)) }
        return adopted
    }

    // MARK: Effects

    private func perform(_ effect: NodeEffect) {
        switch effect {
        case .spawn(let name, let instance, let model, let environment):
            keeper.spawn(ChildKey(component: name, instance: instance), model, environment: environment)
        case .push(let push): gateway.push(push)
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

    private func perform(_ effect: ClusterEffect) {
        switch effect {
        case .adminReply(let ticket, let error, let text):
            guard ticket.node == host.node else { return }
            ended(ticket.number, error.map { CallError($0, text) })
        case .nodeStopped(let node): if node == host.node { stopped() }
        case .modelRefused(let text): nextModel?.refusal = CallError(.invalidParam, text)
        case .order, .modelInstalled, .startTimer, .cancelTimer, .notify: break  // the host's
        }
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
            adminTickets[lastAdmin] = PendingAdmin(ticket: ticket, operation: operation, name: name)
            host.propose(.admin(AdminTicket(node: host.node, number: lastAdmin), operation, name))
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

    private var lastAdmin: UInt64 = 0

    private func ended(_ admin: UInt64, _ error: CallError?) {
        guard let asked = adminTickets.removeValue(forKey: admin) else { return }
        let refusal = error.map { $0.text.isEmpty ? "\($0.code)" : $0.text }
        announcer.tell(.administrationEnded(asked.operation, asked.name, refusal: refusal))
        gateway.finish(asked.ticket, error.map { .failure($0) } ?? .success([]))
    }

    /// Everything there is to know, at this moment.
    var report: StatusReport {
        var report = host.status
        if let modelProblem { report.problems = [modelProblem] }
        return report
    }

    var nodeName: String { places.nodeName }
    /// 0: none yet.
    var guardPid: Int32 { guardKeeper.pid }
    var processCount: Int { keeper.all.count }

    /// Too much waits to be applied: whoever asked may ask again.
    private func refused(_ event: ClusterEvent, _ error: AisError) {
        let text = "amfd cannot take it now (\(error)); try again"
        announcer.tell(.proposalRefused("\(error)"))
        switch event {
        case .admin(let ticket, _, _):
            ended(ticket.number, CallError(.tryAgain, text))
        case .model: nextModel?.refusal = CallError(.tryAgain, text)
        case .nodeJoined, .nodeLeft, .report, .stopNode, .timer: break  // proposed again by the host
        }
    }

    private func processEvent(_ event: NodeEvent) {
        host.handle(event)
        if isStopping { endIfNothingIsLeft() }
    }

    // MARK: Stop

    private func signal(_ information: SignalInfo) {
        switch information.signal {
        case .hangup: compiler.compile { [unowned self] in if !isStopping { take($0) } }  // changed on disk
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
        guard host.model != nil else { return stopped() }
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
        // An orderly stop ends this life of the node: the next one starts from the model.
        _ = try? File.remove(files.journalPath)
        _ = try? File.remove(files.childrenPath)
        try? files.note(lock, ProcessIdentity.own, hasStopped: true)  // then the guard takes our end for a crash
        host.tell()
        announcer.close()
        capture.close()
        commands.close()
        loop.stop()
    }
}
