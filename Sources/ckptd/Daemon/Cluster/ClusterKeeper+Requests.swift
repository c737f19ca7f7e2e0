import CkptEngine
import CkptProtocol
import EOLoop
import EngineKit
import IOC
import IOCLinks
import OSAL
import SAFTypes

/// A client's request that waits, or is being done elsewhere.
struct PendingRequest {
    enum Work {
        /// The active replica does it.
        case data(CheckpointID)
        case subscribe(CheckpointID)
        /// The replica here is to be the active one, and the directory has been told; answered when it is.
        case becomeActive(CheckpointID)
        // The directory does it.
        case open(SaName, OpenFlags, CreationAttributes?, HandleID, CheckpointID)
        case close(OpenedHandle)
        // What it is about is what was there when it came: see DirectoryEvent.
        case unlink(SaName, seen: CheckpointID)
        case setRetention(CheckpointID, SaTime, seen: Int64)
        case setActive(CheckpointID, seen: SeenActivity)
        case exists(SaName)
    }

    let request: Request
    let code: CkptCode
    let body: [UInt8]
    let origin: RequestOrigin
    let work: Work
    /// The caller wants to know when this node is not a member.
    var isStrict = false
    /// What is answered must be known to be so.
    var isReading = false

    var subject: RequestTable.Subject {
        switch work {
        case .data(let id): isReading ? .reading(id) : .checkpoint(id)
        case .subscribe(let id): .ownReplica(id)
        case .becomeActive(let id): .ownActivity(id)
        case .open, .close, .unlink, .setRetention, .setActive, .exists: .directory
        }
    }
}

/// Answers that are ready and wait until every current replica has the update.
struct HeldAnswers {
    struct Answer {
        var asker: Asker
        var bytes: [UInt8]
        /// What has to be durable here before it is given, too.
        var ticket: UInt64?
        /// What to do again where the active replica is now, if it is no longer here.
        var request: PendingRequest?
    }

    var lastTicket: UInt64 = 0
    /// The answer that is being made waits for this.
    var present: UInt64?
    var isPresentRedirected = false
    /// The request that is being done, if it is a client's.
    var executing: (code: CkptCode, origin: RequestOrigin, id: CheckpointID)?
    var waiting: [UInt64: Answer] = [:]
    /// Nobody asked for these updates: their writers made them themselves.
    var telling: [UInt64: CheckpointID] = [:]

    mutating func begin() -> UInt64 {
        lastTicket += 1
        present = lastTicket
        isPresentRedirected = false
        return lastTicket
    }
}

// Requests of clients: here, on another node, or later.
extension ClusterKeeper {
    /// A forwarded request without an answer for so long may mean that the active replica is silent; longer than that
    /// one waits for its followers.
    static let answerMax = silenceMax * 2
    private static let closeRetryDelay = Duration.milliseconds(50)
    private static let recoveryDelay = Duration.milliseconds(200)
    private static let closesMax = 1_000

    /// - Parameters:
    ///   - body: as the client sent it; valid during the call.
    ///   - isStrict: it is refused with UNAVAILABLE while this node is not a member.
    func handle(
        _ decoded: CkptRequest, _ origin: RequestOrigin, _ request: Request, _ body: UnsafeRawBufferPointer,
        isStrict: Bool
    ) {
        enter {
            do throws(Refusal) {
                if isStrict, !isMember, !decoded.code.isForAnyNode { throw Self.noMember }
                guard let work = try begin(decoded, origin, request, body) else { return }
                add(
                    PendingRequest(
                        request: request, code: decoded.code, body: Array(body), origin: origin, work: work,
                        isStrict: isStrict, isReading: decoded.code.isReading))
            } catch {
                request.fail(error.code, error.text)
            }
        }
    }

    /// Nil: it is done already.
    private func begin(
        _ decoded: CkptRequest, _ origin: RequestOrigin, _ request: Request, _ body: UnsafeRawBufferPointer
    ) throws(Refusal) -> PendingRequest.Work? {
        switch decoded {
        case .status, .update, .updateIf, .read, .list, .snapshot, .synchronize, .section:
            let id = try admit(decoded, origin)
            guard replication.route(id) == .here, !decoded.code.isReading || lease.isTrusted(id) else {
                return .data(id)
            }
            execute(decoded, origin, id, .client(request), body)
            return nil
        case .subscribe:
            let id = try admit(decoded, origin)
            guard route(.ownReplica(id)) == .here else { return .subscribe(id) }
            local(decoded, origin, request, body)
            return nil
        case .open(let name, let flags, let attributes):
            return try beginOpen(name, flags, attributes, origin, request)
        case .close(let handle): return try beginClose(handle, origin, request)
        case .unlink(let name): return beginUnlink(name, origin, request)
        case .setRetention(_, let duration):
            let id = try admit(decoded, origin)
            return .setRetention(id, duration, seen: directory.host.core.entry(id)?.retentionChanges ?? -1)
        case .setActiveReplica:
            let id = try admit(decoded, origin)
            let entry = directory.host.core.entry(id)
            return .setActive(id, seen: SeenActivity(epoch: entry?.epoch ?? 0, successor: entry?.successor))
        case .exists(let name): return .exists(name)
        case .unsubscribe, .resume, .map, .watchReplicas, .adminList:
            local(decoded, origin, request, body)
            return nil
        case .adminSections(let name, _, _, _):
            // Who may not is refused here; what this node does not have the active replica's tells.
            let entry = directory.host.core.entry(named: name)
            if let entry, origin.isAdministrator, shell.engine.replica(entry.id) == nil { return .data(entry.id) }
            local(decoded, origin, request, body)
            return nil
        }
    }

    /// Whether this node is a member of the cluster, as far as can be seen from here.
    var isMember: Bool { directory.host.view?.isQuorate ?? false }

    private static let noMember = Refusal(.unavailable, "this node is not a member of the cluster: it has no quorum")

    /// Others may have been made active for what processes here are active for: nothing waits for those.
    func tellMembership(isUnbroken: Bool) {
        perform(requests.handle(.membership(isMember: isMember, isUnbroken: isUnbroken), at: loop.now))
    }

    /// This node has left: who wants to know is told, and waits for nothing that was not begun.
    func refuseStrict(_ reason: (ClientSession) -> Refusal? = { _ in noMember }) {
        for (token, request) in pending.sorted(by: { $0.key < $1.key }) where request.isStrict {
            guard requests.isWaiting(token), let refusal = reason(request.origin.identity.session),
                let request = forget(token)?.request
            else { continue }
            perform(requests.handle(.answered(token), at: loop.now))
            request.fail(refusal.code, refusal.text)
        }
    }

    private func admit(_ decoded: CkptRequest, _ origin: RequestOrigin) throws(Refusal) -> CheckpointID {
        let id = decoded.handle.flatMap { shell.engine.checkpoint(of: $0) }
        return try shell.engine.admit(decoded, origin, entry: id.flatMap { replication.entry($0) })
    }

    private func local(
        _ decoded: CkptRequest, _ origin: RequestOrigin, _ request: Request, _ body: UnsafeRawBufferPointer
    ) {
        shell.process(.request(decoded, origin, time: MonotonicClock.wallNanoseconds()), .client(request), body)
    }

    private func beginOpen(
        _ name: SaName, _ flags: OpenFlags, _ attributes: CreationAttributes?, _ origin: RequestOrigin,
        _ request: Request
    ) throws(Refusal) -> PendingRequest.Work? {
        try shell.engine.admitOpen(flags, attributes, origin)
        if origin.isRetransmission, let earlier = shell.engine.earlierOpen(origin) {
            request.reply(earlier.encoded)
            return nil
        }
        let handle = HandleID(rawValue: shell.makeID())
        opening.insert(handle)
        return .open(name, flags, attributes, handle, CheckpointID(rawValue: shell.makeID()))
    }

    private func beginUnlink(_ name: SaName, _ origin: RequestOrigin, _ request: Request) -> PendingRequest.Work? {
        if isUnlinked(by: origin) {
            request.reply([])
            return nil
        }
        return .unlink(name, seen: directory.host.core.entry(named: name)?.id ?? DirectoryEvent.unknown)
    }

    private func beginClose(
        _ handle: HandleID, _ origin: RequestOrigin, _ request: Request
    ) throws(Refusal) -> PendingRequest.Work? {
        let id: CheckpointID
        do throws(Refusal) {
            id = try admit(.close(handle), origin)
        } catch {
            // Handles are never used again: one that is unknown to a retransmission was closed by the first sending.
            guard origin.isRetransmission, error.code == .badHandle else { throw error }
            request.reply([])
            return nil
        }
        let opened = OpenedHandle(id, handle)
        shell.process(.closed([opened]))
        return .close(opened)
    }

    // MARK: Where

    func route(_ subject: RequestTable.Subject) -> ReplicaRoute {
        switch subject {
        case .directory: return mayAct ? .here : .later
        case .ownReplica(let id):
            return mayAct && shell.engine.isServable(id) && replication.isCurrent(id) ? .here : .later
        case .ownActivity(let id):
            guard mayAct else { return .later }
            // The proposal has been heard here, even if no majority has it yet.
            guard let entry = directory.host.core.entry(id) else { return .here }
            if entry.successor == node || entry.isElecting { return .later }
            // Another one was chosen since: that is answered, too.
            return entry.active != node || replication.route(id) == .here ? .here : .later
        case .reading(let id):
            let route = route(.checkpoint(id))
            return route == .here && !lease.isTrusted(id) ? .later : route
        case .checkpoint(let id):
            let route = replication.route(id)
            // Nobody is there to answer: the directory will say who does.
            if case .there(let node) = route, !others.contains(node) { return .later }
            guard route == .nowhere else { return route }
            guard let entry = replication.entry(id) else { return .later }
            // Else somebody comes back with what was written, or another is elected.
            return entry.attributes.flags.needsActiveReplicaSet || entry.isLost ? .nowhere : .later
        }
    }

    func add(_ pending: PendingRequest, isRetransmission: Bool = false, later: Bool = false) {
        lastToken += 1
        let token = lastToken
        self.pending[token] = pending
        perform(
            requests.handle(
                .arrived(
                    token, pending.subject, bytes: pending.body.count, from: pending.origin.identity.session,
                    isRetransmission: pending.origin.isRetransmission || isRetransmission,
                    later ? .later : route(pending.subject), isActive: !pending.origin.epochs.isEmpty), at: loop.now))
    }

    func look(_ subject: RequestTable.Subject) {
        perform(requests.handle(.route(subject, route(subject)), at: loop.now))
    }

    /// A client is gone: nobody waits for its answers.
    func left(_ session: ClientSession) { enter { perform(requests.handle(.left(session), at: loop.now)) } }

    private func perform(_ effects: [RequestTable.Effect]) { for effect in effects { perform(effect) } }

    private func perform(_ effect: RequestTable.Effect) {
        switch effect {
        case .perform(let token, let route, let isRetransmission):
            guard var origin = pending[token]?.origin else { return }
            origin.isRetransmission = isRetransmission
            perform(token, route, origin)
        case .refuse(let token, let code, let text):
            guard let pending = forget(token) else { return }
            pending.request.fail(code, text)
        case .forget(let token): _ = forget(token)
        case .noAnswer(let id, let peer): answer(.noAnswer(id, peer))
        case .look(let subject): routeMayHaveChanged(subject)
        case .wake(let at):
            if let old = requestTimer { loop.cancel(old) }
            requestTimer = loop.schedule(after: max(.zero, at - loop.now)) { [unowned self] in
                requestTimer = nil
                enter { perform(requests.handle(.tick, at: loop.now)) }
            }
        }
    }

    private func settle(_ token: UInt64, _ event: RequestTable.Event) {
        if case .answered = event { pending[token] = nil }
        perform(requests.handle(event, at: loop.now))
    }

    /// An open that nobody waits for, and that may have happened, is undone.
    private func forget(_ token: UInt64) -> PendingRequest? {
        guard let pending = pending.removeValue(forKey: token) else { return nil }
        if case .open(let name, _, _, let handle, _) = pending.work {
            opening.remove(handle)
            if let entry = directory.host.core.entry(named: name), entry.openers.contains(handle) {
                closeSoon([OpenedHandle(entry.id, handle)])
            }
        }
        return pending
    }

    private func perform(_ token: UInt64, _ route: ReplicaRoute, _ origin: RequestOrigin) {
        guard let pending = pending[token] else { return }
        switch (pending.work, route) {
        case (.data(let id), .there(let peer)): forward(token, pending, id, origin, to: peer)
        case (.becomeActive(let id), _): becameActive(token, pending, id)
        case (.data, _), (.subscribe, _): executeHere(token, pending, origin)
        default: order(token, pending, origin)
        }
    }

    // MARK: Data

    private func executeHere(_ token: UInt64, _ pending: PendingRequest, _ origin: RequestOrigin) {
        settle(token, .answered(token))
        pending.body.withUnsafeBytes { body in
            do throws(DecodeError) {
                let decoded = try CkptRequest(code: pending.code, decoding: body)
                switch pending.work {
                case .data(let id): execute(decoded, origin, id, .client(pending.request), body)
                default: local(decoded, origin, pending.request, body)
                }
            } catch {
                pending.request.fail(.invalidParam, "\(error)")
            }
        }
    }

    private func execute(
        _ decoded: CkptRequest, _ origin: RequestOrigin, _ id: CheckpointID, _ asker: Asker,
        _ body: UnsafeRawBufferPointer
    ) {
        answers.executing = (decoded.code, origin, id)
        defer { (answers.executing, answers.present) = (nil, nil) }
        if case .synchronize = decoded {
            shell.process(.written(id))
            answer(.awaitAll(id, change: nil, ticket: answers.begin()))
        }
        shell.process(.request(decoded, origin, time: MonotonicClock.wallNanoseconds()), asker, body)
    }

    /// A request of another node's client, for the active replica here.
    func execute(_ head: ForwardedHead, _ request: PeerRequest, _ body: UnsafeRawBufferPointer) {
        let id = head.checkpoint
        guard replication.route(id) == .here else { return request.reply([ForwardedAnswer.Kind.elsewhere.rawValue]) }
        do throws(DecodeError) {
            let decoded = try CkptRequest(code: head.code, decoding: body)
            if head.code.isReading, !lease.isTrusted(id) { return hold(head, request, body) }
            answers.executing = (head.code, head.origin, id)
            defer { (answers.executing, answers.present) = (nil, nil) }
            if case .synchronize = decoded {
                shell.process(.written(id))
                answer(.awaitAll(id, change: nil, ticket: answers.begin()))
            }
            let time = MonotonicClock.wallNanoseconds()
            shell.process(
                .forwarded(decoded, head.origin, checkpoint: id, from: request.node, time: time), .peer(request), body)
        } catch {
            request.reply(ForwardedAnswer.refusal(.invalidParam, "\(error)"))
        }
    }

    private func forward(
        _ token: UInt64, _ pending: PendingRequest, _ id: CheckpointID, _ origin: RequestOrigin, to peer: NodeID
    ) {
        guard let links else { return settle(token, .failed(token, .untouched)) }
        let head = ForwardedHead(checkpoint: id, origin: origin, code: pending.code)
        links.forward(head, pending.body, to: peer, timeout: Self.answerMax) { [unowned self] result in
            enter { forwarded(token, result) }
        }
    }

    private func forwarded(_ token: UInt64, _ result: Result<ForwardedAnswer, RequestTable.Failure>) {
        guard let request = pending[token]?.request else { return }
        switch result {
        case .success(.reply(let bytes)):
            request.reply(bytes)
            settle(token, .answered(token))
        case .success(.refused(let code, let text)):
            request.fail(code, text)
            settle(token, .answered(token))
        case .success(.elsewhere): settle(token, .failed(token, .elsewhere))
        case .failure(let failure): settle(token, .failed(token, failure))
        }
    }

    // MARK: Answers that wait for the followers

    /// The active replica here has made an update; the answer that follows, if somebody asked for it, waits until it is
    /// safe.
    func wrote(_ id: CheckpointID, _ change: UInt64, isAsked: Bool) {
        let ticket = answers.begin()
        if !isAsked { answers.present = nil }
        answer(.wrote(id, change: change, ticket: ticket))
    }

    /// Writers here have made an update themselves. The next one waits until this one is where the others can take
    /// more: until then it becomes larger, not later.
    func told(_ id: CheckpointID, _ change: UInt64) {
        let before = (answers.present, answers.isPresentRedirected)
        let ticket = answers.begin()
        (answers.present, answers.isPresentRedirected) = before
        answers.telling[ticket] = id
        answer(.wrote(id, change: change, ticket: ticket))
    }

    /// Whether what writers here have done can be told now.
    func mayTell(_ id: CheckpointID) -> Bool {
        replication.route(id) == .here && !answers.telling.values.contains(id)
    }

    /// A request was executed before: the new active replica may know what others do not.
    func executed(_ id: CheckpointID, _ change: UInt64) {
        let isSynchronous = replication.entry(id)?.attributes.flags.contains(.writeAllReplicas) ?? true
        answer(.awaitAll(id, change: isSynchronous ? change : 0, ticket: answers.begin()))
    }

    /// False when the answer need not wait for others.
    func hold(_ asker: Asker, _ bytes: [UInt8], _ durable: UInt64?) -> Bool {
        guard let ticket = answers.present else { return false }
        answers.present = nil
        var held = HeldAnswers.Answer(asker: asker, bytes: bytes, ticket: durable)
        if case .client(let request) = asker, let executing = answers.executing {
            held.request = PendingRequest(
                request: request, code: executing.code, body: Array(shell.body), origin: executing.origin,
                work: .data(executing.id))
        }
        if answers.isPresentRedirected { redo(held) } else { answers.waiting[ticket] = held }
        return true
    }

    func complete(_ ticket: UInt64) {
        if answers.telling.removeValue(forKey: ticket) != nil { return }
        if answers.present == ticket { answers.present = nil }
        guard let held = answers.waiting.removeValue(forKey: ticket) else { return }
        shell.deliver(held.asker, held.bytes, held.ticket)
    }

    func redirect(_ ticket: UInt64) {
        if answers.telling.removeValue(forKey: ticket) != nil { return }
        if answers.present == ticket { answers.isPresentRedirected = true }
        guard let held = answers.waiting.removeValue(forKey: ticket) else { return }
        redo(held)
    }

    private func redo(_ held: HeldAnswers.Answer) {
        switch held.asker {
        case .peer(let request): request.reply([ForwardedAnswer.Kind.elsewhere.rawValue])
        case .client:
            guard let request = held.request else { return }
            add(request, isRetransmission: true, later: true)
            routeMayHaveChanged(request.subject)
        }
    }

    // MARK: What the directory does

    private func order(_ token: UInt64, _ pending: PendingRequest, _ origin: RequestOrigin) {
        let event: DirectoryEvent
        switch pending.work {
        case .open(let name, _, let attributes, let handle, let id):
            event = .open(name, handle: handle, on: node, id: id, attributes: attributes)
        case .close(let opened): event = .close([opened])
        case .unlink(let name, let seen): event = .unlink(name, seen: seen, by: origin.identity)
        case .setRetention(let id, let duration, let seen): event = .setRetention(id, duration, seen: seen)
        case .setActive(let id, let seen): event = .setActive(id, node, seen: seen)
        case .exists(let name): event = .find(name)
        case .data, .subscribe, .becomeActive: return
        }
        switch pending.work {
        case .unlink, .setRetention, .setActive:
            guard let refusal = shell.refuseLate(origin) else { break }
            settle(token, .answered(token))
            return pending.request.fail(refusal.code, refusal.text)
        case .open, .close, .data, .subscribe, .becomeActive, .exists: break
        }
        propose(event) { [unowned self] outcome in enter { ordered(token, pending, origin, outcome) } }
    }

    private func ordered(
        _ token: UInt64, _ pending: PendingRequest, _ origin: RequestOrigin, _ outcome: DirectoryKeeper.Outcome
    ) {
        guard self.pending[token] != nil else {
            if case .open(_, _, _, let handle, _) = pending.work, case .opened(let id, _) = outcome {
                closeSoon([OpenedHandle(id, handle)])
            }
            return
        }
        switch outcome {
        case .notNow: return settle(token, .failed(token, .untouched))
        case .unknown: return settle(token, .failed(token, .unknown))
        case .refused(.tryAgain, _):
            // The nodes have not told yet what they have: soon they have, or are not waited for.
            loop.schedule(after: Self.recoveryDelay) { [unowned self] in
                enter { settle(token, .failed(token, .untouched)) }
            }
            return
        case .opened(let id, let isCreated): opened(id, isCreated: isCreated, pending, origin)
        case .done:
            if case .exists(let name) = pending.work {
                reply(pending, directory.host.core.entry(named: name))
                return settle(token, .answered(token))
            }
            if case .setActive(let id, _) = pending.work {
                // It is, when it has everything and the one before has stopped.
                settle(token, .answered(token))
                return add(
                    PendingRequest(
                        request: pending.request, code: pending.code, body: pending.body, origin: origin,
                        work: .becomeActive(id), isStrict: pending.isStrict), isRetransmission: true)
            }
            pending.request.reply([])
        case .found(let entry): reply(pending, entry)
        case .refused(.notExist, _) where isUnlink(pending) && isUnlinked(by: origin): pending.request.reply([])
        case .outdated(let text):
            if isUnlink(pending), isUnlinked(by: origin) {
                pending.request.reply([])
            } else {
                // An earlier sending may have done it, before what is there now.
                pending.request.fail(origin.isRetransmission ? .timeout : .tryAgain, text)
            }
        case .refused(let code, let text): pending.request.fail(code, text)
        }
        if case .open(_, _, _, let handle, _) = pending.work { opening.remove(handle) }
        settle(token, .answered(token))
    }

    private func becameActive(_ token: UInt64, _ pending: PendingRequest, _ id: CheckpointID) {
        settle(token, .answered(token))
        if replication.route(id) == .here { return pending.request.reply([]) }
        pending.request.fail(
            .tryAgain, "the replica of another node was asked to be the active one meanwhile, or this one is no more")
    }

    /// - Parameter entry: as a majority knows it: others may have gone on without this node.
    private func reply(_ pending: PendingRequest, _ entry: DirectoryEntry?) {
        var attributes = entry?.attributes
        attributes?.retentionDuration = entry?.retention ?? 0
        pending.request.reply(ExistsReply(attributes: attributes).encoded)
    }

    private func isUnlink(_ pending: PendingRequest) -> Bool {
        if case .unlink = pending.work { true } else { false }
    }

    /// An earlier sending of this request has unlinked something.
    private func isUnlinked(by origin: RequestOrigin) -> Bool {
        origin.isRetransmission && shell.engine.wasUnlinked(by: origin.identity)
    }

    private func opened(_ id: CheckpointID, isCreated: Bool, _ pending: PendingRequest, _ origin: RequestOrigin) {
        guard case .open(_, let flags, _, let handle, let proposed) = pending.work else { return }
        // The engine closes it again when the process is dead meanwhile.
        let record = OpenerRecord(
            session: origin.identity.session, handle: handle, openNumber: origin.identity.number,
            processID: origin.process.id, processStart: origin.process.start, flags: flags, node: node)
        shell.process(.opened(id, record))
        pending.request.reply(
            OpenReply(checkpoint: id, handle: handle, isCreated: isCreated || id == proposed).encoded)
    }

    // MARK: Closes that nobody waits for

    /// Processes that died, or opens that nobody knows of: closed as soon as the directory takes it.
    func closeSoon(_ handles: [OpenedHandle]) {
        closing.formUnion(handles)
        guard !isClosing, !closing.isEmpty, mayAct else { return }
        isClosing = true
        let part = Array(closing.prefix(Self.closesMax))  // in whatever order: they have nothing to do with each other
        enter {
            propose(.close(part)) { [unowned self] outcome in
                isClosing = false
                if case .done = outcome {
                    closing.subtract(part)
                    return closeSoon([])
                }
                loop.schedule(after: Self.closeRetryDelay) { [unowned self] in closeSoon([]) }
            }
        }
    }
}
