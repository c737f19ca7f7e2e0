import CkptEngine
import CkptLayout
import CkptProtocol
import CkptStore
import DBAL
import EOLoop
import EngineKit
import IOC
import IOCCluster
import OSAL
import SAFTypes

/// Everything of ckptd on its own node that touches the world: frames in and out, RAM files, timers, words; what
/// concerns other nodes goes through a ``ClusterKeeper``. It decides nothing.
final class CkptShell {
    private let loop: Loop
    private let localNode: NodeID
    let files: CheckpointFiles
    private let journal: Journal
    private(set) var engine: CkptEngine
    private let subscriptions: Subscriptions
    private var server: IOCServer?
    private var timers: [CkptTimer: LoopTimer] = [:]
    /// Peers that have said farewell.
    private var leaving: Set<PeerID> = []
    private var clock: ClockWatch?
    private let membership: MembershipKeeper
    private var writer = ByteWriter(reserving: 4096)
    private let persistent: PersistentKeeper
    /// Answers that are not durable yet: nil until all else is ready.
    private var undurable: [UInt64: Undurable?] = [:]
    /// What the answer that comes next waits for.
    private var awaited: UInt64?
    /// Nil when this node is alone.
    private(set) var keeper: ClusterKeeper?

    // Who asks for what is being done, the body that its data lies in, and the update that it led to.
    private var asker: Asker?
    private(set) var body = UnsafeRawBufferPointer(start: nil, count: 0)
    /// Where the data of sections lies that are being recalled, or told.
    private var recalledBody = UnsafeRawBufferPointer(start: nil, count: 0)
    private(set) var committed: Transaction?
    /// The body that the data of `committed` lies in.
    private(set) var committedBody = UnsafeRawBufferPointer(start: nil, count: 0)

    /// Timers longer than this are looked at again in between; the engine starts them anew.
    private static let timerMax = Duration.seconds(86_400)
    /// Others cannot be told now: they have not taken what they were told before, or another node is to lead.
    private static let tellingDelay = Duration.milliseconds(5)

    init(loop: Loop, places: Places, description: ClusterDescription, journal: Journal) throws {
        self.loop = loop
        self.journal = journal
        localNode = description.localNode
        let isAlone = description.groupEngine == .alone
        files = try CheckpointFiles(directory: "\(places.shmDirectory)/ckpt", isAlone: isAlone)
        subscriptions = Subscriptions(files: files)
        membership = MembershipKeeper(loop: loop, places: places, node: description.localNode, journal: journal)
        let recovered = try files.recover()
        for damage in recovered.damaged { journal.write(damage) }
        persistent = PersistentKeeper(
            loop: loop, places: places, engine: DatabaseEngine(description.database), files: files, journal: journal)
        let found = persistent.load(recovered.checkpoints)
        let seconds = UInt64(clamping: MonotonicClock.wallNanoseconds() / 1_000_000_000)
        if !isAlone, let node = description.nodes.first(where: { $0.id.rawValue > ClusterKeeper.nodeMax }) {
            throw StoreError.system("node \(node.id) (\(node.name)): a number up to \(ClusterKeeper.nodeMax) expected")
        }
        let node = isAlone ? nil : description.localNode
        engine = CkptEngine(
            incarnation: CkptEngine.incarnation(seconds: seconds, found: found.checkpoints, node: node), node: node)
        if !isAlone {
            keeper = try ClusterKeeper(
                loop: loop, places: places, description: description, shell: self, journal: journal)
        }
        persistent.onPersisted = { [unowned self] outcome in process(.persisted(outcome)) }
        persistent.onCorrupted = { [unowned self] id, slot in go(.damaged(id, slot: slot)) }
        for checkpoint in found.checkpoints.sorted(by: { $0.checkpoint < $1.checkpoint }) {
            process(.restored(checkpoint))
        }
        for event in found.events { process(event) }
        for (session, process) in engine.absentSessions {
            if isAlive(process) {
                membership.state.restored(session)
            } else {
                self.process(.disconnected(session, isDead: true))
            }
        }
        files.setMembership(membership.state.word)
        membership.onChange = { [unowned self] in
            files.setMembership(membership.state.word)
            keeper?.refuseStrict { self.membership.state.refusal(of: $0) }
        }
        try watchClock()
        if isAlone { files.setReadable(until: LeasePage.forEver) }
        keeper?.start()
    }

    func serve(places: Places) throws(OSError) {
        var options = ServerOptions()
        // Components run as any user; the engine checks what only an administrator may ask.
        options.socketMode = 0o666
        let server = try IOCServer(loop: loop, endpoint: .wellKnown(.ckptd), places: places, options: options)
        let access = LocalAccess.ofNode(places)
        server.admit = { access.admits(user: $0.credentials.uid, groups: $0.groups) ? nil : .access }
        server.onConnect = { [unowned self] peer in
            if let keeper {
                keeper.openAssignments(places)
                peer.context = Leader(of: Self.process(peer))
            }
            membership.state.came(Self.session(peer))
            process(.connected(Self.session(peer), Self.process(peer)))
        }
        server.onDisconnect = { [unowned self] peer in disconnected(peer) }
        server.onRequest = { [unowned self] request, body in handle(request, body) }
        server.onOneWay = { [unowned self] peer, code, body in
            switch code {
            case CkptWord.farewell: leaving.insert(peer.id)
            case CkptWord.written: written(Self.session(peer), body)
            default: break
            }
        }
        self.server = server
        try closeMarked(places)
    }

    /// What was closed while nobody could be told. Whoever sets a mark later finds the socket of this life.
    private func closeMarked(_ places: Places) throws(OSError) {
        let marks = try ProcessMarks.create("\(places.runDirectory)\(ClosedMark.file)")
        for (session, process) in engine.absentSessions {
            func isMarked(_ number: UInt64) -> Bool {
                marks.process(marking: number).map { UInt32(bitPattern: $0) } == process.id
            }
            if isMarked(ClosedMark.number(of: session)) {
                self.process(.disconnected(session, isDead: true))
                continue
            }
            let closed = engine.handles(of: session).filter { isMarked(ClosedMark.number(of: $0)) }
            if !closed.isEmpty { self.process(.abandoned(closed)) }
        }
    }

    /// Expiration times are times of day: when somebody sets the date they are to be looked at again.
    private func watchClock() throws(OSError) {
        let clock = try ClockWatch()
        _ = try loop.watch(clock.raw, .read, lane: .low) { [unowned self] _ in
            // A watch that cannot go on is made up for by the engine's own looking every hour.
            guard (try? self.clock?.take()) == true else { return }
            process(.clockSet(time: MonotonicClock.wallNanoseconds()))
        }
        self.clock = consume clock
    }

    func stop() {
        files.setReadable(until: 0)
        server?.close()
        keeper?.close()
        membership.close()
        persistent.close()
    }

    private static func session(_ peer: Peer) -> ClientSession {
        ClientSession(high: peer.info.session.high, low: peer.info.session.low)
    }

    private static func process(_ peer: Peer) -> ProcessIdentity {
        ProcessIdentity(id: UInt32(bitPattern: peer.info.credentials.pid), start: peer.info.startTime)
    }

    func isAlive(_ process: ProcessIdentity) -> Bool {
        Process.isAlive(Int32(bitPattern: process.id), startTime: process.start)
    }

    private func disconnected(_ peer: Peer) {
        let session = Self.session(peer)
        let hasLeft = leaving.remove(peer.id) != nil
        let isReplaced = server?.peers.contains { $0 != peer && $0.isConnected && Self.session($0) == session } ?? false
        if isReplaced { return }
        left(peer, session, isDead: hasLeft || !isAlive(Self.process(peer)))
    }

    /// It has hung up, or said that it will.
    private func left(_ peer: Peer, _ session: ClientSession, isDead: Bool) {
        subscriptions.left(peer)
        process(.disconnected(session, isDead: isDead))
        if isDead { keeper?.left(session) }
        if engine.handles(of: session).isEmpty { membership.state.gone(session) }
    }

    private func handle(_ request: Request, _ body: UnsafeRawBufferPointer) {
        for descriptor in request.descriptors { IO.close(descriptor) }
        if request.code == ClusterListRequest.code { return listCluster(request, body) }
        if request.code == DurabilityReply.code { return tellDurability(request) }
        if request.code == FarewellRequest.code {
            leaving.insert(request.peer.id)
            left(request.peer, Self.session(request.peer), isDead: true)
            return request.reply([])
        }
        let isStrict = request.code & CkptCode.strictBit != 0
        guard let code = CkptCode(rawValue: request.code & ~CkptCode.strictBit) else {
            return request.fail(.notSupported, "request code \(request.code) is unknown to this version")
        }
        let decoded: CkptRequest
        do throws(DecodeError) {
            decoded = try CkptRequest(code: code, decoding: body)
        } catch {
            return request.fail(.invalidParam, "\(error)")
        }
        var origin = RequestOrigin(
            identity: RequestIdentity(session: Self.session(request.peer), number: request.id.number),
            process: Self.process(request.peer), user: directUser(request.peer),
            isRetransmission: request.isRetransmission, isAdministrator: isAdministrator(request.peer))
        if isStrict, !code.isForAnyNode, let refusal = membership.state.refusal(of: Self.session(request.peer)) {
            return request.fail(refusal.code, refusal.text)
        }
        if let keeper {
            if code.isMutating, let leader = request.peer.context as? Leader {
                keeper.lookAtAssignments()
                origin.epochs = engine.epochs(of: leader.process)
            }
            return keeper.handle(decoded, origin, request, body, isStrict: isStrict)
        }
        process(.request(decoded, origin, time: MonotonicClock.wallNanoseconds()), .client(request), body)
    }

    /// The data of a replica goes, and other data comes: who follows begins anew with that.
    func startSubscriptionsAnew(_ id: CheckpointID) { subscriptions.startAnew(id) }

    func take(_ table: AssignmentTable) { go(.assignments(table)) }

    /// Nil: it may be done.
    func refuseLate(_ origin: RequestOrigin) -> Refusal? {
        guard let late = engine.refuseLate(origin) else { return nil }
        if let note = late.note { journal.write(note) }
        return late.refusal
    }

    func makeID() -> UInt64 { engine.makeID() }

    /// One event and everything that follows from it.
    ///
    /// - Parameters:
    ///   - asker: who gets the answer, if it is a request.
    ///   - body: where the event's data lies.
    func process(
        _ event: CkptEvent, _ asker: Asker? = nil,
        _ body: UnsafeRawBufferPointer = UnsafeRawBufferPointer(start: nil, count: 0)
    ) {
        guard let keeper else { return run(event, asker, body) }
        keeper.enter { run(event, asker, body) }
    }

    private func run(_ event: CkptEvent, _ asker: Asker?, _ body: UnsafeRawBufferPointer) {
        let before = (self.asker, self.body, committed, committedBody)
        (self.asker, self.body, committed) = (asker, body, nil)
        go(event)
        (self.asker, self.body, committed, committedBody) = before
    }

    /// One event inside of what is being done.
    func go(_ event: CkptEvent) {
        for effect in engine.handle(event, at: loop.now) { perform(effect) }
    }

    private func perform(_ effect: CkptEffect) {
        switch effect {
        case .create(let new): go(.settled(outcome { () throws(StoreError) in try files.create(new) }))
        case .commit(let transaction, let isUpdate):
            let result = commit(transaction, isUpdate: isUpdate)
            if case .corrupted(let slot) = result { files.hide(transaction.checkpoint, slot: slot) }
            if result == .done, isUpdate, keeper != nil || subscriptions.hasAny(transaction.checkpoint) {
                (committed, committedBody) = (transaction, payload(of: transaction))
            }
            go(.settled(result))
        case .look(let id, let recalled, let reserves): look(id, recalled, reserves: reserves)
        case .grant(let id, let slot, let limit, let isTold):
            go(
                .settled(
                    outcome { () throws(StoreError) in
                        try files.grant(id, slot: slot, limit: limit, isTold: isTold)
                    }))
        case .tell(let id, let recalled, let mayRest): tell(id, recalled, mayRest: mayRest)
        case .endDirect(let id, let slots): files.endDirect(id, slots: slots)
        case .abandonDirect(let id): files.abandonDirect(id)
        case .stopDirect(let id): files.stopDirect(id)
        case .record(let transaction, let isUpdate):
            let result = commit(transaction, isUpdate: isUpdate)
            if result != .done {
                journal.write(.error, "checkpoint \(transaction.checkpoint): a step was not kept: \(result)")
            }
        case .remove(let id): files.remove(id)
        case .retire(let id): files.retire(id)
        case .setAside(let id, let reason): journal.write(files.setAside(id, reason))
        case .reply(_, let answer): reply(answer)
        case .refuse(_, let error, let text):
            guard let asker, keeper?.holdRefusal(asker) != true else { break }
            asker.fail(error, text)
        case .persist(let batch): persistent.write(batch)
        case .await(let ticket):
            awaited = ticket
            undurable[ticket] = .some(nil)
        case .release(let tickets):
            for ticket in tickets { take(ticket) { $0.asker.reply($0.bytes) } }
        case .abandon(let tickets, let error, let text):
            for ticket in tickets { take(ticket) { $0.asker.fail(error, text) } }
        case .publish(let id):
            let fresh = committed?.checkpoint == id ? committed : nil
            committed = nil
            subscriptions.publish(id, fresh, payload: committedBody)
        case .endSubscription(let handle): subscriptions.end(handle)
        case .endWatch(let handle): subscriptions.endWatch(handle)
        case .replicasChanged(let id): replicasChanged(id)
        case .startTimer(let timer, let deadline): start(timer, at: deadline)
        case .cancelTimer(let timer): if let old = timers.removeValue(forKey: timer) { loop.cancel(old) }
        case .note(let note): journal.write(note)
        case .wrote(let id, let change): keeper?.wrote(id, change, isAsked: asker != nil)
        case .told(let id, let change): keeper?.told(id, change)
        case .executed(let id, let change): keeper?.executed(id, change)
        case .replication(let event): keeper?.answer(event)
        case .closeHandles(let handles): keeper?.closeSoon(handles)
        }
    }

    func withRecalled(_ payload: [UInt8], _ body: () -> Void) {
        payload.withUnsafeBytes { bytes in
            let before = recalledBody
            recalledBody = bytes
            body()
            recalledBody = before
        }
    }

    private func payload(of transaction: Transaction) -> UnsafeRawBufferPointer {
        switch transaction.purpose {
        case .recalled, .told: recalledBody
        case .step, .piece, .wipe, .copied, .reserved: body
        }
    }

    private func commit(_ transaction: Transaction, isUpdate: Bool) -> CommitOutcome {
        outcome { () throws(StoreError) in
            try files.commit(transaction, payload: payload(of: transaction), isUpdate: isUpdate)
        }
    }

    private func outcome(_ body: () throws(StoreError) -> Void) -> CommitOutcome {
        do throws(StoreError) {
            try body()
            return .done
        } catch {
            switch error {
            case .noSpace(let text): return .noSpace(text)
            case .corrupted(let slot): return .corrupted(slot: slot)
            case .damaged(let text), .system(let text): return .failed(text)
            }
        }
    }

    private func start(_ timer: CkptTimer, at deadline: Instant) {
        if let old = timers.removeValue(forKey: timer) { loop.cancel(old) }
        let wait = min(Self.timerMax, max(.zero, deadline - loop.now))
        timers[timer] = loop.schedule(after: wait) { [unowned self] in
            timers[timer] = nil
            if case .absence(let session) = timer, let unseen = engine.unseenProcess(of: session), isAlive(unseen) {
                return start(timer, at: loop.now + CkptLimits().absenceMax)
            }
            if case .telling(let id) = timer, keeper?.mayTell(id) == false {
                return start(timer, at: loop.now + Self.tellingDelay)
            }
            process(.timerFired(timer, time: MonotonicClock.wallNanoseconds()))
        }
    }

    func tellLater(_ id: CheckpointID) {
        if timers[.telling(id)] == nil { start(.telling(id), at: loop.now + Self.tellingDelay) }
    }

    /// Where the replicas are, of all checkpoints.
    private func listCluster(_ request: Request, _ body: UnsafeRawBufferPointer) {
        guard let keeper else { return request.fail(.notSupported, "this node is alone") }
        guard isAdministrator(request.peer) else {
            return request.fail(.access, "only root and the middleware's own user may look at all checkpoints")
        }
        do throws(DecodeError) {
            let wanted = try ClusterListRequest(decoding: body)
            keeper.list(after: wanted.after, limit: wanted.limit) { request.reply($0.encoded) }
        } catch {
            request.fail(.invalidParam, "\(error)")
        }
    }

    private func tellDurability(_ request: Request) {
        guard isAdministrator(request.peer) else {
            return request.fail(.access, "only root and the middleware's own user may look at all checkpoints")
        }
        let summary = engine.durabilitySummary
        request.reply(
            DurabilityReply(
                checkpoints: UInt32(clamping: summary.checkpoints), behind: UInt32(clamping: summary.behind),
                waiting: UInt32(clamping: summary.waitingAnswers), trouble: summary.trouble?.reason ?? ""
            ).encoded)
    }

    private func isAdministrator(_ peer: Peer) -> Bool {
        let user = peer.info.credentials.uid
        return user == 0 || user == Environment.userID
    }

    // MARK: For the console

    var summaries: [CheckpointSummary] { engine.summaries(at: MonotonicClock.now()) }

    var sessionCounts: (all: Int, absent: Int) { engine.sessionCounts }

    var directory: String { files.directory }

    var lateRefusals: UInt64 { engine.lateRefusals }

    var durability: CkptEngine.DurabilitySummary { engine.durabilitySummary }

    var databasePath: String { persistent.path }

    func sections(of id: CheckpointID, limit: Int) -> [StoredSection] { engine.sections(of: id, limit: limit) }

    /// The first bytes of a section; nil when they are corrupted.
    func data(of id: CheckpointID, _ section: StoredSection, bytesMax: Int) -> [UInt8]? {
        guard section.descriptor.state == .valid else { return nil }
        let count = min(Int(clamping: section.descriptor.size), bytesMax)
        return (try? files.read(id, slot: section.slot, offset: 0, count: count)).map { Array($0) }
    }

    /// What was read is not what was written: the engine is told, and who maps it asks from now on.
    private func damaged(_ id: CheckpointID, slot: Int) {
        files.hide(id, slot: slot)
        go(.damaged(id, slot: slot))
    }

    // MARK: Answers

    private func reply(_ answer: CkptAnswer) {
        let ticket = awaited
        awaited = nil
        guard let asker else { return }
        writer.removeAll()
        asker.begin(&writer)
        switch answer {
        case .done: break
        case .opened(let reply): writer.value(reply)
        case .updated(let reply): writer.value(reply)
        case .status(let descriptor): writer.value(descriptor)
        case .list(let reply): writer.value(reply)
        case .section(let descriptor): writer.value(descriptor)
        case .exists(let reply): writer.value(reply)
        case .replicas(let id, let handle):
            guard case .client(let request) = asker else { return }
            return startWatch(id, handle, request)
        case .data(let id, let change, let parts):
            writer.integer(change)
            writer.integer(UInt32(parts.count))
            for part in parts { if !append(id, part) { return } }
        case .snapshot(let id, let change, let sections): append(id, change, sections)
        case .subscription(let id, let handle, let after, let change, let sections):
            guard case .client(let request) = asker else { return }
            return startSubscription(id, handle, after, change, sections, request)
        case .mapping(let id, let access): return replyMapping(id, access)
        case .adminList(let reply): writer.value(reply)
        case .adminSections(let reply, let id, let sections, let dataMax):
            writer.bool(reply.hasMore)
            writer.value(reply.summary)
            append(id, reply.snapshot.change, sections, dataMax: dataMax)
        }
        if keeper?.hold(asker, writer.bytes, ticket) == true { return }
        deliver(asker, writer.bytes, ticket)
    }

    private typealias Undurable = (asker: Asker, bytes: [UInt8])

    private func take(_ ticket: UInt64, _ body: (Undurable) -> Void) {
        if let answer = undurable.removeValue(forKey: ticket) ?? nil { body(answer) }
    }

    /// Answers, if all that the answer says is durable.
    ///
    /// - Parameter ticket: what it waits for; nil when there is nothing.
    func deliver(_ asker: Asker, _ bytes: [UInt8], _ ticket: UInt64?) {
        if let ticket, undurable[ticket] != nil {
            undurable[ticket] = (asker, bytes)
        } else {
            asker.reply(bytes)
        }
    }

    private func replyMapping(_ id: CheckpointID, _ access: DirectAccess) {
        guard case .client(let request) = asker else { return }
        var reply = MapReply(
            hasReplica: true, owner: access == .write ? Self.process(request.peer).lockOwner : 0,
            directGeneration: files.directGeneration(id))
        do throws(OSError) {
            let file = try files.openForReading(id)
            let lease = try files.openLease()
            keeper?.lease.isUsed()
            if access != .none, let direct = try files.openDirect(id, writable: access == .write) {
                reply.hasDirect = true
                writer.value(reply)
                writer.bytes.withUnsafeBytes { request.reply($0, descriptors: [file.raw, lease.raw, direct.raw]) }
            } else {
                writer.value(reply)
                writer.bytes.withUnsafeBytes { request.reply($0, descriptors: [file.raw, lease.raw]) }
            }
        } catch {
            // There is no replica here (yet), or no descriptor to be had: it is asked as before.
            writer.value(MapReply(hasReplica: false))
            writer.bytes.withUnsafeBytes { request.reply($0) }
        }
    }

    /// Appends the bytes of one part; false when they are corrupted and the request has been refused.
    private func append(_ id: CheckpointID, _ part: StoredPart) -> Bool {
        do throws(StoreError) {
            writer.byteString(try files.read(id, slot: part.slot, offset: part.offset, count: part.count))
            return true
        } catch {
            asker?.fail(.library, "the section is corrupted; overwrite or delete it (\(error))")
            if case .corrupted(let slot) = error { damaged(id, slot: slot) }
            return false
        }
    }

    private func append(_ id: CheckpointID, _ change: UInt64, _ sections: [StoredSection], dataMax: Int = .max) {
        writer.integer(change)
        writer.integer(UInt32(sections.count))
        for section in sections {
            var descriptor = section.descriptor
            let count = min(Int(clamping: descriptor.size), dataMax)
            var data = UnsafeRawBufferPointer(start: nil, count: 0)
            if descriptor.state == .valid {
                do throws(StoreError) {
                    data = try files.read(id, slot: section.slot, offset: 0, count: count)
                } catch {
                    descriptor.state = .corrupted
                    if case .corrupted(let slot) = error { damaged(id, slot: slot) }
                }
            }
            writer.value(descriptor)
            writer.byteString(data)
        }
    }

    // MARK: Where the replicas are

    private func replicaSet(_ id: CheckpointID) -> ReplicaSet {
        guard let keeper else {
            return ReplicaSet(
                epoch: 0, active: engine.hasActiveReplica(id) ? localNode : nil, isElecting: false,
                replicas: [.init(node: localNode, state: .current)])
        }
        return keeper.replicaSet(id)
    }

    /// The directory says something else of a checkpoint, or a node alone has its active replica.
    func replicasChanged(_ id: CheckpointID) {
        if subscriptions.isWatched(id) { subscriptions.tell(id, replicaSet(id)) }
    }

    private func startWatch(_ id: CheckpointID, _ handle: HandleID, _ request: Request) {
        let set = replicaSet(id)
        writer.value(set)
        writer.bytes.withUnsafeBytes { request.reply($0) }
        subscriptions.watch(handle, of: id, peer: request.peer, told: set)
    }

    private func startSubscription(
        _ id: CheckpointID, _ handle: HandleID, _ after: UInt64?, _ change: UInt64, _ sections: [StoredSection],
        _ request: Request
    ) {
        let isResumed = after.map { files.positions(id, after: $0) != nil } ?? false
        if isResumed, let after {
            writer.integer(UInt8(1))
            writer.integer(after)
        } else {
            writer.integer(UInt8(2))
            append(id, change, sections)
        }
        writer.bytes.withUnsafeBytes { request.reply($0) }
        subscriptions.start(handle, of: id, peer: request.peer, after: isResumed ? after ?? change : change)
    }
}
