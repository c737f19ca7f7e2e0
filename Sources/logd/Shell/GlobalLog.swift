import Containers
import EOHost
import EOLoop
import EOReplicated
import EngineKit
import IOC
import IOCCluster
import IOCLinks
import LogClient
import LogEngine
import LogProtocol
import OSAL
import SAFTypes

/// The global streams of one node: registry, spool, engine, ledger and links; decides nothing. Loop thread only.
final class GlobalLog {
    struct Options {
        var spoolBytes = 8 << 20
        /// Of the ledger: what is kept for controllers that were away.
        var ledgerBytes = 64 << 20
    }

    /// A request for another node's logd: what it has to do with the global streams.
    static let statusCode: UInt16 = 20
    static let statusTimeout: Duration = .milliseconds(500)
    static let batchBytesMax = 128 * 1024

    /// Lines that are in the files now.
    var onLines: (LogStream, [UInt8]) -> Void = { _, _ in }
    /// What a stream lets through.
    var onSeverities: (LogStream, SeveritySet) -> Void = { _, _ in }

    /// Takes what the writers have left in their rings, while their stream is there.
    var beforeClosing: () -> Void = {}

    private(set) var description: ClusterDescription
    private var watch: DescriptionWatch?
    let host: ReplicaHost<StreamRegistry>
    let openers: StreamOpeners
    let worker: LedgerWorker?
    private let loop: Loop
    private let places: Places
    private let life: UInt64
    private let note: (_ isError: Bool, String) -> Void
    let spool: SpoolFile
    private let journal: RamJournal
    private(set) var engine: GlobalLogEngine
    private(set) var links: PeerLinks?
    private var queue: [GlobalLogEngine.Event] = []
    private var isDraining = false
    private var timer: LoopTimer?
    private var tickets: [UInt64: UInt64] = [:]
    /// Proposals of the shell's own, of which one of a kind is enough.
    private var arrivalTicket: UInt64?
    private var presentTicket: UInt64?
    private var answers: [UInt64: (Result<StreamID?, CallError>) -> Void] = [:]
    private var ids: [LogStream: StreamID] = [:]
    private var frame = ByteWriter()
    /// Dropped, and not told in the stream yet.
    private var untold: [StreamID: UInt64] = [:]
    private var unknown: Set<LogStream> = []
    private var configured: [String: String] = [:]
    private var gate = PublicationGate()
    private(set) var lost: UInt64 = 0
    private var isClosed = false

    init(
        loop: Loop, places: Places, description: ClusterDescription, options: Options,
        note: @escaping (_ isError: Bool, String) -> Void
    ) throws(OSError) {
        (self.loop, self.places, self.description, self.note) = (loop, places, description, note)
        life = UInt64(MonotonicClock.wallNanoseconds())
        let directory = LogDirectory(places: places).path
        spool = try SpoolFile(directory: directory, capacity: options.spoolBytes, incarnation: life)
        openers = StreamOpeners(loop: loop, path: directory + "/openers")
        let isController = description.local.role == .controller
        worker = isController ? Self.worker(loop, places, options, life, note) : nil
        journal = try Self.journal(worker == nil ? nil : places.stateDirectory + "/log", else: directory, note)
        host = ReplicaHost(
            loop: loop, description: description, incarnation: life, core: StreamRegistry(), restoring: journal.records
        ) { configuration in
            configuration.isJournaling = true
            configuration.journalBytesMin = RamJournal.capacityMin / 2
            if description.groupEngine == .alone { configuration.digestInterval = 0 }
        }
        engine = GlobalLogEngine(
            node: description.localNode, keepsFiles: worker != nil, life: life,
            spool: (spool.incarnation, spool.released.count, spool.committed.count),
            ledger: worker?.found ?? LedgerState(), firstKept: worker?.firstKept ?? 1,
            published: worker?.published ?? 0)
        if let failure = host.restoreFailure { note(true, "the registry of streams begins anew: \(failure)") }
        for text in worker?.damage ?? [] { note(true, text) }
    }

    /// Nil when the disk does not take a ledger: this node then sends what its writers log to another.
    private static func worker(
        _ loop: Loop, _ places: Places, _ options: Options, _ life: UInt64, _ note: @escaping (Bool, String) -> Void
    ) -> LedgerWorker? {
        do throws(OSError) {
            return try LedgerWorker(
                loop: loop, places: places, retainedBytes: options.ledgerBytes, newStore: life, note: note)
        } catch {
            note(true, "this controller keeps no files of global streams until logd is started again: \(error)")
            return nil
        }
    }

    /// A controller's registry outlives the machine: it knows whose ledger is complete.
    private static func journal(
        _ disk: String?, else memory: String, _ note: (Bool, String) -> Void
    ) throws(OSError) -> RamJournal {
        var journal: RamJournal?
        if let disk {
            do throws(OSError) {
                journal = try RamJournal(path: disk + "/registry")
            } catch {
                note(true, "the registry of streams will not survive a restart of this machine: \(error)")
            }
        }
        let kept: RamJournal
        if let journal { kept = journal } else { kept = try RamJournal(path: memory + "/registry") }
        if let damage = kept.damage { note(true, "the registry of streams was damaged and begins anew: \(damage)") }
        return kept
    }

    func start() {
        watchRegistry()
        worker?.context = { [unowned self] in context }
        worker?.done = { [unowned self] outcome in
            if let event = outcome.event { handle(event) }
            for (id, lines) in outcome.lines {
                if let stream = host.core.stream(id)?.number { onLines(stream, lines) }
            }
        }
        openers.onUnused = { [unowned self] id in
            beforeClosing()
            propose(.close(id, by: description.localNode)) { _ in }
        }
        registryChanged()
        host.start("log")
        openLinks()
        watch = DescriptionWatch(loop: loop, places: places, description: description) { [unowned self] in update($0) }
    }

    func close() {
        isClosed = true
        watch?.close()
        if let timer { loop.cancel(timer) }
        worker?.stop(until: MonotonicClock.now() + .seconds(5))
        links?.close()
        host.close()
        openers.close()
    }

    // MARK: What writers log

    /// Takes a record out of a ring; ``committed(_:)`` says later that it is safe.
    func take(_ record: LogRecordView, of origin: LineFormat.Origin) {
        guard let id = ids[record.stream] else {
            lost += 1
            if unknown.insert(record.stream).inserted {
                note(true, "records of \(record.stream), which nobody has open, are dropped (\(origin.process) writes)")
            }
            return
        }
        if let count = untold[id], tell(count, lostOf: id, record.stream) { untold[id] = nil }
        guard untold[id] == nil,
            append(record.bytes, to: id, origin.process, origin.program, hasTime: origin.hasTime)
        else {
            lost += 1
            if untold[id] == nil { note(true, "records of \(record.stream) are lost: \(fullness)") }
            untold[id, default: 0] += 1
            return
        }
    }

    private var fullness: String {
        let owner =
            engine.ownership.owner.map { "node \($0.node.rawValue) writes the files" } ?? "nobody writes the files"
        return "\(spool.bytes) bytes wait in the spool, which holds \(spool.capacityBytes); \(owner)"
    }

    private func append(
        _ record: UnsafeRawBufferPointer, to id: StreamID, _ process: Int32, _ program: [UInt8], hasTime: Bool
    ) -> Bool {
        frame.removeAll()
        GlobalRecord.append(record, to: id, process: process, program: program, hasTime: hasTime, into: &frame)
        return spool.append(frame.bytes)
    }

    private func tell(_ count: UInt64, lostOf id: StreamID, _ stream: LogStream) -> Bool {
        let text = "\(count) record\(count == 1 ? "" : "s") lost from node \(places.nodeName): its spool was full"
        let record = RecordLayout.encode(
            text, severity: .warning, stream: stream, area: "LOG", context: "LOST",
            time: MonotonicClock.wallNanoseconds())
        return record.withUnsafeBytes {
            append($0, to: id, Environment.processID, Array("logd".utf8), hasTime: true)
        }
    }

    /// What the present batch takes with it; nil when nothing.
    var mark: SpoolMark? { spool.appended == spool.committed ? nil : spool.appended }
    var uncommittedBytes: Int { Int(spool.appended.position - spool.committed.position) }

    func committed(_ mark: SpoolMark) {
        spool.commit(mark)
        handle(.spooled(through: spool.committed.count))
    }

    /// A former life wrote the batch that this was in.
    func recover(_ mark: SpoolMark) {
        spool.recover(mark)
        handle(.spooled(through: spool.committed.count))
    }

    // MARK: The engine

    private func handle(_ event: GlobalLogEngine.Event) {
        guard !isClosed else { return }
        queue.append(event)
        guard !isDraining else { return }
        isDraining = true
        var head = 0
        while head < queue.count {
            let event = queue[head]
            head += 1
            for effect in engine.handle(event, at: loop.now) { perform(effect) }
        }
        queue.removeAll(keepingCapacity: true)
        isDraining = false
    }

    private func perform(_ effect: GlobalLogEngine.Effect) {
        switch effect {
        case .send(let message, let epoch, let node):
            // What finds no room is asked for again.
            links?.send(message.code, message.body(epoch: epoch), to: node)
        case .readSpool(let session, let from):
            let batch = spool.read(from: from, bytesMax: Self.batchBytesMax).map { read in
                RecordBatch(
                    node: description.localNode, incarnation: spool.incarnation, first: from, count: read.count,
                    records: read.frames)
            }
            handle(.spoolRead(session: session, batch))
        case .releaseSpool(let through): spool.release(through: through)
        case .store(let entries): worker?.add(.store(entries))
        case .truncate(let number):
            gate.drop()
            worker?.add(.truncate(to: number))
        case .reset(let state):
            gate.drop()
            worker?.add(.reset(state))
        case .load(let target, let from): worker?.add(.load(for: target, from: from))
        case .publish(let entries): publish(entries)
        case .propose(let command, let ticket):
            tickets[host.nextTicket] = ticket
            host.propose(command)
        case .setTimer(let instant): setTimer(instant)
        case .note(let isError, let text): note(isError, text)
        }
    }

    private func publish(_ entries: [LedgerEntry]) {
        if let ready = gate.offer(entries, next: host.core.nextStream, at: loop.now) {
            worker?.add(.publish(ready))
        } else {
            loop.schedule(after: PublicationGate.patience) { [weak self] in self?.publishHeld() }
        }
    }

    private func publishHeld() {
        guard !isClosed, let ready = gate.release(next: host.core.nextStream, at: loop.now) else { return }
        worker?.add(.publish(ready))
    }

    private func setTimer(_ instant: Instant?) {
        if let timer { loop.cancel(timer) }
        timer = instant.map { instant in
            loop.schedule(after: max(.milliseconds(1), instant - loop.now)) { [unowned self] in
                timer = nil
                handle(.timer)
            }
        }
    }

    // MARK: The registry

    /// Orders a command of the shell's own; `then` is called once, with the stream that was opened.
    func propose(_ command: StreamRegistry.Command, then: @escaping (Result<StreamID?, CallError>) -> Void) {
        answers[host.nextTicket] = then
        host.propose(command)
    }

    private func watchRegistry() {
        host.onJournal = { [unowned self] write in
            do throws(OSError) {
                try journal.keep(write)
            } catch {
                note(true, "the registry of streams will not survive a restart of logd: \(error)")
            }
        }
        host.onEffect = { [unowned self] outcome, ticket in
            switch outcome {
            case .changed: registryChanged()
            case .opened(let id): answer(ticket, .success(id))
            case .refused(let code, let text): answer(ticket, .failure(CallError(code, text)))
            case .setTimer, .cancelTimer: break
            }
        }
        host.onAnswer = { [unowned self] ticket, outcome in
            switch outcome {
            case .done: answer(ticket, .success(nil))
            case .refused(.version):
                let text = "the logd of another node is of an earlier release, which knows no formats of streams"
                answer(ticket, .failure(CallError(.tryAgain, text)))
            case .refused(let code):
                answer(ticket, .failure(CallError(code, "the registry of streams is not available")))
            }
        }
        host.onStateReplaced = { [unowned self] in registryChanged() }
        host.onStatus = { [unowned self] _ in registryChanged() }
        host.onView = { [unowned self] view in
            links?.follow(view.members.map(\.node).filter { $0 != description.localNode })
            registryChanged()
        }
        host.onNote = { [unowned self] event in
            // A node alone always forms its registry with itself.
            guard event.isError || description.groupEngine != .alone else { return }
            note(event.isError, "the registry of streams: \(event)")
        }
    }

    private func answer(_ ticket: UInt64?, _ result: Result<StreamID?, CallError>) {
        guard let ticket else { return }
        if let known = tickets.removeValue(forKey: ticket) {
            var isDone: Bool? = true
            if case .failure(let error) = result { isDone = error.code == .timeout ? nil : false }
            return handle(.answered(ticket: known, isDone: isDone))
        }
        if ticket == arrivalTicket || ticket == presentTicket {
            if case .failure = result { return toldRegistry(ticket, isDone: false) }
            return toldRegistry(ticket, isDone: true)
        }
        answers.removeValue(forKey: ticket)?(result)
    }

    /// A proposal of the shell's own is through. One that failed is made again, but not at once: it may fail at once.
    private func toldRegistry(_ ticket: UInt64, isDone: Bool) {
        guard isDone else {
            loop.schedule(after: .milliseconds(200)) { [weak self] in self?.toldRegistry(ticket, isDone: true) }
            return
        }
        if ticket == arrivalTicket { arrivalTicket = nil }
        if ticket == presentTicket { presentTicket = nil }
        registryChanged()
    }

    private func registryChanged() {
        guard !isClosed else { return }
        let core = host.core
        for (id, stream) in core.streams {
            if ids[stream.number] != id { unknown.remove(stream.number) }
            onSeverities(stream.number, stream.attributes.severities)
        }
        ids = Dictionary(uniqueKeysWithValues: core.streams.map { ($0.value.number, $0.key) })
        handle(.ownership(core.ownership))
        publishHeld()
        guard host.status == .synchronised else { return }
        if core.incarnation(of: description.localNode) != life, arrivalTicket == nil { arrive() }
        configure()
        let view = (host.view?.members ?? []).map(\.node)
        if host.isOldest, presentTicket == nil, core.memberNodes.contains(where: { !view.contains($0) }) {
            presentTicket = host.nextTicket
            host.propose(.present(view))
        }
    }

    /// What stands beside the files, before anything of a stream is in them.
    private func configure() {
        let wanted = Dictionary(
            host.core.streams.map { ($0.value.attributes.fileName, $0.value.attributes.configuration) },
            uniquingKeysWith: { first, _ in first })
        guard wanted != configured else { return }
        configured = wanted
        worker?.add(.configure(wanted))
    }

    private func arrive() {
        let controllers = description.nodes.count { $0.role == .controller }
        arrivalTicket = host.nextTicket
        host.propose(
            .arrived(
                Arrival(
                    node: description.localNode, incarnation: life, keepsFiles: worker != nil,
                    store: worker?.store ?? 0, position: engine.state.position, controllers: UInt16(controllers),
                    open: openers.streams)))
    }

    private var context: LedgerWorker.Context {
        var context = LedgerWorker.Context()
        for node in description.nodes { context.names[node.id] = Array(node.name.description.utf8) }
        for (id, stream) in host.core.known {
            context.definitions[id] = StreamFiles.Definition(attributes: stream.attributes)
        }
        return context
    }

    /// The cluster has other nodes.
    private func update(_ new: ClusterDescription) {
        description = new
        host.expect(nodes: new.nodes.count)
        guard let links else { return openLinks() }
        do throws(LinkError) {
            try links.update(nodes: new.nodes)
        } catch {
            note(true, "\(error)")
        }
    }

    // MARK: Links

    private func openLinks() {
        guard !description.others.isEmpty, !isClosed, links == nil else { return }
        do throws(LinkError) {
            let links = try PeerLinks(loop: loop, service: .logd, description: description, incarnation: life)
            links.onUp = { [unowned self] node, _, _ in handle(.link(node, isUp: true)) }
            links.onDown = { [unowned self] node, _ in handle(.link(node, isUp: false)) }
            links.onMessage = { [unowned self] node, code, _, body in received(code, body, from: node) }
            links.onRequest = { [unowned self] request, _ in
                guard request.code == Self.statusCode else {
                    return request.fail(.invalidParam, "logd knows no request \(request.code)")
                }
                request.reply(nodeStatus.encoded)
            }
            links.onTrouble = { [unowned self] text in note(false, text) }
            self.links = links
            links.follow((host.view?.members ?? []).map(\.node).filter { $0 != description.localNode })
        } catch {
            note(true, "records of global streams stay on this node: \(error)")
            loop.schedule(after: .seconds(1)) { [weak self] in self?.openLinks() }
        }
    }

    private func received(_ code: UInt16, _ body: UnsafeRawBufferPointer, from node: NodeID) {
        do throws(DecodeError) {
            let (epoch, message) = try LogPeerMessage.decode(code: code, body: body)
            handle(.received(message, epoch: epoch, from: node))
        } catch {
            note(true, "node \(node.rawValue) sent what is no message of logd: \(error)")
        }
    }
}

extension ReplicatedNote {
    /// Something an operator should look at.
    var isError: Bool {
        switch self {
        case .diverged, .memberDiverged, .eventNotUnderstood, .versionNotSpoken, .groupLost, .formedWithoutMajority:
            true
        default: false
        }
    }
}
