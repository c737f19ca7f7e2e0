import AmfClient
import CkptEngine
import CkptLayout
import CkptProtocol
import CkptStore
import EOHost
import EOLoop
import EngineKit
import IOC
import IOCCluster
import IOCLinks
import OSAL
import SAFTypes

/// What ckptd is on several nodes: performs what ``Replication`` decides, and brings the directory, the links and the
/// node's own engine together. Decides nothing.
///
/// Everything enters by ``enter(_:)``: what was begun is finished before anything is proposed or tried again, so no
/// engine is asked while it waits for an answer.
final class ClusterKeeper {
    /// The highest number of a node: ids of checkpoints and handles hold it in 12 bits.
    static let nodeMax: UInt32 = 4_095
    /// Who does not answer for so long is not waited for.
    static let silenceMax = Duration.seconds(1)
    /// Of a copy, at a time.
    private static let pieceBytes = 256 << 10
    private static let refusedDelay = Duration.milliseconds(50)
    private static let reportsMax = 500

    struct Frame {
        var message: ReplicaMessage
        var body: UnsafeRawBufferPointer
        var reader: ByteReader
    }

    let loop: Loop
    private let places: Places
    let node: NodeID
    unowned let shell: CkptShell
    let directory: DirectoryKeeper
    let journal: Journal
    private(set) var description: ClusterDescription
    private var watch: DescriptionWatch?
    /// Nil while the addresses of this node cannot be had.
    private(set) var links: ReplicaLinks?
    private(set) var replication: Replication
    var others: [NodeID] = []
    private var frame: Frame?
    private var writer = ByteWriter(reserving: 4096)
    private var tickTimer: LoopTimer?
    private(set) var mayAct = false

    // What waits until what was begun is finished.
    private var depth = 0
    private var isFlushing = false
    private var outbox: [(event: DirectoryEvent, about: CheckpointID?, then: (DirectoryKeeper.Outcome) -> Void)] = []
    private var changedRoutes: [RequestTable.Subject] = []
    /// Reads that wait to be trusted, or that are no longer this node's.
    var mustLookAtReads = false
    /// Proposals about these came to nothing.
    private var refused: Set<CheckpointID> = []
    private var removals: [CheckpointID: RequestIdentity] = [:]
    /// Nil while there is no amfd, or none that says anything.
    private var assignments: AssignmentPage?
    private var seenAssignments: UInt64 = .max

    // Requests: see ClusterKeeper+Requests.
    var requests = RequestTable()
    var pending: [UInt64: PendingRequest] = [:]
    var lastToken: UInt64 = 0
    var requestTimer: LoopTimer?
    var answers = HeldAnswers()
    /// Handles that are being opened, so that they are not taken for forgotten ones.
    var opening: Set<HandleID> = []
    var closing: Set<OpenedHandle> = []
    var isClosing = false
    var heldReads: [HeldRead] = []
    var heldReadsTimer: LoopTimer?
    /// How long what is said in the files may be believed.
    private(set) lazy var lease = ReadLease(self)

    init(
        loop: Loop, places: Places, description: ClusterDescription, shell: CkptShell, journal: Journal
    ) throws(OSError) {
        (self.loop, self.places) = (loop, places)
        self.shell = shell
        self.journal = journal
        self.description = description
        node = description.localNode
        replication = Replication(node: description.localNode, silenceMax: Self.silenceMax)
        // Not the pid: a restored state remembers the proposals of earlier incarnations, and pids come again.
        directory = try DirectoryKeeper(
            loop: loop, places: places, description: description,
            incarnation: UInt64(MonotonicClock.wallNanoseconds())
        ) { isError, text in
            journal.write(isError ? .error : .notice, text)
        }
        connect()
    }

    private func connect() {
        directory.held = { [unowned self] in shell.engine.held(at: loop.now) }
        directory.storedLineage = { [unowned self] in shell.engine.lineage }
        directory.onLineage = { [unowned self] lineage in shell.process(.lineage(lineage)) }
        directory.onEntry = { [unowned self] id, entry, reason in enter { released(id, entry, reason) } }
        directory.onUnknown = { [unowned self] id in enter { answer(.entry(id, nil)) } }
        directory.onMayAct = { [unowned self] isAllowed in
            guard isAllowed != mayAct else { return }
            mayAct = isAllowed
            lease.update()
            enter {
                answer(.mayAct(isAllowed))
                changedRoutes.append(.directory)
            }
            if isAllowed { closeSoon([]) }
        }
        directory.onReplaced = { [unowned self] in enter { tellMembership(isUnbroken: false) } }
        directory.onCommitted = { [unowned self] in lease.update() }
        directory.onOthers = { [unowned self] nodes, ended in
            others = nodes
            lease.update()
            links?.follow(nodes)
            enter { for node in ended { answer(.ended(node)) } }
            if !isMember { enter { refuseStrict() } }
            enter { tellMembership(isUnbroken: true) }
            enter { changedRoutes += Set(pending.values.map(\.subject)).sorted() }
        }
    }

    /// Goes among the others.
    func start() {
        openLinks()
        directory.start()
        watch = DescriptionWatch(loop: loop, places: places, description: description) { [unowned self] in update($0) }
    }

    /// The cluster has other nodes, which may hold replicas from now on.
    private func update(_ new: ClusterDescription) {
        description = new
        directory.update(new)
        do throws(LinkError) {
            try links?.update(new)
        } catch {
            journal.write(.error, "\(error)")
        }
    }

    func close() {
        watch?.close()
        lease.close()
        links?.close()
        directory.close()
    }

    private func openLinks() {
        do throws(LinkError) {
            let links = try ReplicaLinks(
                loop: loop, description: description, incarnation: directory.host.member.incarnation
            ) { [unowned self] text in journal.write(.notice, text) }
            links.onUp = { [unowned self] node in enter { answer(.linkUp(node)) } }
            links.onDown = { [unowned self] node in enter { answer(.linkDown(node)) } }
            links.onWritable = { [unowned self] node in enter { answer(.writable(node)) } }
            links.onMessage = { [unowned self] message, node, body, reader in
                enter {
                    frame = Frame(message: message, body: body, reader: reader)
                    answer(.message(message, from: node))
                    frame = nil
                }
            }
            links.onRequest = { [unowned self] head, request, body in enter { execute(head, request, body) } }
            links.onQuestion = { [unowned self] id in standings(id) }
            links.onTouch = { [unowned self] node in
                guard let index = directory.appliedIndex, others.contains(node) else { return nil }
                enter { answer(.granted(node, until: lease.promise())) }
                return index
            }
            self.links = links
            links.follow(others)
        } catch {
            journal.write(.error, "no links to other nodes, their replicas are not kept equal: \(error)")
            loop.schedule(after: .seconds(1)) { [weak self] in self?.openLinks() }
        }
    }

    // MARK: Who is active for what

    /// Who connects is looked up in the page, and whoever is in its session.
    func openAssignments(_ places: Places) {
        if assignments == nil { assignments = AssignmentPage.open(AssignmentPage.path(places)) }
    }

    /// What amfd says is known before anything is done.
    func lookAtAssignments() {
        guard let assignments, assignments.serial != seenAssignments, let read = assignments.read() else { return }
        seenAssignments = read.serial
        shell.take(read.table)
    }

    // MARK: One thing after the other

    func enter(_ body: () -> Void) {
        if depth == 0 { lookAtAssignments() }
        depth += 1
        body()
        depth -= 1
        if depth == 0 { flush() }
    }

    private func flush() {
        guard !isFlushing else { return }
        isFlushing = true
        while !outbox.isEmpty || !changedRoutes.isEmpty || mustLookAtReads {
            if mustLookAtReads { lookAtReads() }
            let proposals = merged(outbox)
            outbox.removeAll(keepingCapacity: true)
            for proposal in proposals { directory.propose(proposal.event, then: proposal.then) }
            let subjects = changedRoutes
            changedRoutes.removeAll(keepingCapacity: true)
            for subject in subjects { look(subject) }
        }
        isFlushing = false
    }

    /// An election of many checkpoints is one command.
    private func merged(
        _ proposals: [(event: DirectoryEvent, about: CheckpointID?, then: (DirectoryKeeper.Outcome) -> Void)]
    ) -> [(event: DirectoryEvent, then: (DirectoryKeeper.Outcome) -> Void)] {
        var merged: [(event: DirectoryEvent, then: (DirectoryKeeper.Outcome) -> Void)] = []
        var reports: [ReplicaReport] = []
        for proposal in proposals {
            if case .report(_, let new) = proposal.event {
                reports += new
            } else {
                merged.append((proposal.event, proposal.then))
            }
        }
        var rest = reports[...]
        while !rest.isEmpty {
            let part = Array(rest.prefix(Self.reportsMax))
            rest = rest.dropFirst(part.count)
            merged.append((.report(node, part), { [unowned self] in settle($0, about: part.map(\.id)) }))
        }
        return merged
    }

    /// Orders an event when what was begun is finished.
    func propose(_ event: DirectoryEvent, then: @escaping (DirectoryKeeper.Outcome) -> Void) {
        outbox.append((event, nil, then))
    }

    private func settle(_ outcome: DirectoryKeeper.Outcome, about ids: [CheckpointID]) {
        if case .done = outcome { return }
        if refused.isEmpty {
            loop.schedule(after: Self.refusedDelay) { [unowned self] in
                let ids = refused.sorted()
                refused.removeAll()
                enter { for id in ids { answer(.refused(id)) } }
            }
        }
        refused.formUnion(ids)
    }

    // MARK: The directory

    private func released(_ id: CheckpointID, _ entry: DirectoryEntry?, _ reason: DirectoryRemoval?) {
        if case .unlinked(let identity) = reason, let identity { remember(unlink: identity, of: id) }
        shell.process(.entry(id, entry))
        answer(.entry(id, entry))
        shell.replicasChanged(id)
        changedRoutes.append(.ownActivity(id))
        removals[id] = nil
        guard let entry else { return }
        shell.files.keepForReplicas(id, entry.replicas.count > 1)
        let own = shell.engine.handles(of: id)
        let forgotten = entry.openers.filter { opener in
            opener.value == node && !own.contains(opener.key) && !opening.contains(opener.key)
        }
        if !forgotten.isEmpty { closeSoon(forgotten.keys.map { OpenedHandle(id, $0) }) }
    }

    private func remember(unlink identity: RequestIdentity, of id: CheckpointID) { removals[id] = identity }

    // MARK: Replication

    /// Hands the replication an event at this very place of the order.
    func answer(_ event: ReplicationEvent) {
        let effects = replication.handle(event, at: loop.now)
        // Who reads here is told before the others go on.
        switch event.concern {
        case .one(let id): tellReaders(id)
        case .all: for id in replication.ids { tellReaders(id) }
        case .none: break
        }
        for effect in effects { perform(effect) }
    }

    private func tellReaders(_ id: CheckpointID) {
        let service = shell.files.service(id)
        let isReadable = replication.isReadable(id)
        if service.contains(.readable) == isReadable || service.contains(.retired) { return }
        shell.files.setService(id, isReadable ? service.union(.readable) : service.subtracting(.readable))
    }

    private func perform(_ effect: ReplicationEffect) {
        switch effect {
        case .make(let id):
            guard let entry = replication.entry(id) else { return answer(.notMade(id)) }
            shell.process(.make(entry, time: MonotonicClock.wallNanoseconds()))
        case .drop(let id): shell.process(.drop(id, unlinkedBy: removals[id]))
        case .send(let message, let peer): links?.send(message, to: peer)
        case .live(let id, let epoch, let change, let peers): live(id, epoch, change, peers)
        case .stream(let id, let epoch, let after, let peer): stream(id, epoch, after, peer)
        case .sendPiece(let id, let epoch, let round, let cursor, let peer): sendPiece(id, epoch, round, cursor, peer)
        case .sendCopied(let message, let peer):
            guard let end = shell.engine.copyEnd(of: message.checkpoint) else { return }
            writer.removeAll()
            writer.value(message)
            end.encode(to: &writer)
            if !send(to: peer) { answer(.copiedBlocked(message.checkpoint, peer)) }
        case .apply, .takePiece, .finishCopy: take(effect)
        case .wipe(let id, let base):
            tellCopy(id)
            shell.process(.wipe(id, base: base))
            shell.startSubscriptionsAnew(id)
        case .keepEpoch(let id, let epoch, let history): shell.process(.keepEpoch(id, epoch: epoch, history))
        case .complete(let ticket): complete(ticket)
        case .redirect(let ticket): redirect(ticket)
        case .routeChanged(let id):
            changedRoutes += [.checkpoint(id), .reading(id), .ownReplica(id), .ownActivity(id)]
            if !heldReads.isEmpty { mustLookAtReads = true }
        case .propose(let event, let id):
            outbox.append((event, id, { [unowned self] outcome in settle(outcome, about: [id]) }))
        case .wake(let at): wake(at)
        }
    }

    func routeMayHaveChanged(_ subject: RequestTable.Subject) { changedRoutes.append(subject) }

    private func wake(_ at: Instant) {
        if let tickTimer { loop.cancel(tickTimer) }
        tickTimer = loop.schedule(after: max(.zero, at - loop.now)) { [unowned self] in
            tickTimer = nil
            enter { answer(.tick) }
        }
    }

    // MARK: Data to the followers

    private func send(to peer: NodeID) -> Bool { links?.send(data: writer.bytes, to: peer) ?? true }

    private func begin(_ id: CheckpointID, _ epoch: UInt64, _ body: ReplicaMessage.Body) {
        writer.removeAll()
        writer.value(ReplicaMessage(id, epoch: epoch, body))
    }

    private func live(_ id: CheckpointID, _ epoch: UInt64, _ change: UInt64, _ peers: [NodeID]) {
        begin(id, epoch, .update(change: change))
        if let transaction = shell.committed, transaction.checkpoint == id, transaction.state.change == change {
            ReplicaUpdate.encode(transaction, payload: shell.committedBody, to: &writer)
        } else if let position = shell.files.positions(id, after: change - 1)?.first {
            guard shell.files.encodeReplicaUpdate(id, at: position, to: &writer) == change else {
                return refuse(id, change, peers)
            }
        } else {
            return refuse(id, change, peers)
        }
        let bytes = writer.bytes
        for peer in peers where links?.send(data: bytes, to: peer) == false {
            answer(.blocked(id, peer, change: change))
        }
    }

    private func refuse(_ id: CheckpointID, _ change: UInt64, _ peers: [NodeID]) {
        for peer in peers { answer(.blocked(id, peer, change: change)) }
    }

    private func stream(_ id: CheckpointID, _ epoch: UInt64, _ after: UInt64, _ peer: NodeID) {
        guard let positions = shell.files.positions(id, after: after) else {
            return answer(.streamed(id, peer, upTo: after, .gone))
        }
        var sent = after
        for position in positions {
            begin(id, epoch, .update(change: sent + 1))
            guard shell.files.encodeReplicaUpdate(id, at: position, to: &writer) == sent + 1 else {
                return answer(.streamed(id, peer, upTo: sent, .gone))
            }
            guard send(to: peer) else { return answer(.streamed(id, peer, upTo: sent, .full)) }
            sent += 1
        }
        answer(.streamed(id, peer, upTo: sent, .complete))
    }

    private func sendPiece(
        _ id: CheckpointID, _ epoch: UInt64, _ round: UInt32, _ cursor: CopyCursor, _ peer: NodeID
    ) {
        guard let (parts, next) = shell.engine.piece(of: id, from: cursor, bytesMax: Self.pieceBytes) else {
            return answer(.pieceSent(id, peer, next: nil))
        }
        begin(id, epoch, .piece(round: round))
        for slot in shell.files.encodePiece(id, parts, to: &writer) {
            shell.files.hide(id, slot: slot)
            shell.process(.damaged(id, slot: slot))
        }
        answer(send(to: peer) ? .pieceSent(id, peer, next: next) : .pieceBlocked(id, peer))
    }

    // MARK: Data from the active one

    private func take(_ effect: ReplicationEffect) {
        guard var frame else { return }
        do throws(DecodeError) {
            switch effect {
            case .apply(let id, let change, let isTolerant):
                let update = try ReplicaUpdate(decoding: &frame.reader)
                shell.process(.apply(id, change: change, update, tolerant: isTolerant), nil, frame.body)
            case .takePiece(let id):
                shell.process(.takePiece(id, try PieceSection.decodeList(&frame.reader)), nil, frame.body)
            case .finishCopy(let id):
                guard case .copied(_, let change, let history) = frame.message.body else { return }
                let end = try CopyEnd(decoding: &frame.reader)
                let version = ReplicaVersion(epoch: frame.message.epoch, change: change)
                shell.process(.finishCopy(id, end, version, history), nil, frame.body)
            default: break
            }
        } catch {
            journal.write(.error, "checkpoint \(frame.message.checkpoint): data that cannot be understood: \(error)")
            answer(.applied(frame.message.checkpoint, false))
        }
    }

    /// Worth a line: it takes time, and the network, in proportion to the data.
    private func tellCopy(_ id: CheckpointID) {
        guard let entry = replication.entry(id) else { return }
        let known = replication.version(id)?.change ?? 0
        journal.write(
            .notice, "checkpoint \(entry.name) (\(id)): the replica here is copied anew, up to change \(known)")
    }

    // MARK: To be told

    /// What this node knows of its own replicas.
    func standings(_ id: CheckpointID?) -> [ReplicaStanding] {
        let ids = id.map { [$0] } ?? shell.engine.summaries(at: loop.now).map(\.checkpoint)
        return ids.compactMap { id in
            shell.engine.replica(id).map {
                ReplicaStanding(checkpoint: id, node: node, version: $0.version, isPartial: $0.isPartial)
            }
        }
    }
}
