import CkptEngine
import CkptProtocol
import DBAL
import EOHost
import EOLoop
import EOReplicated
import EngineKit
import IOCCluster
import IOCGroups
import OSAL
import SAFTypes

/// This node's copy of the directory: in its group, with its journal; what it decided comes out when a majority has it.
///
/// It joins the directory by telling what this node has, and does not act before a majority has heard that. Loop thread
/// only; nothing blocks.
final class DirectoryKeeper {
    /// What the directory said to a proposal, once.
    enum Outcome {
        case opened(CheckpointID, isCreated: Bool)
        case found(DirectoryEntry?)
        /// What it was about is another meanwhile; nothing has happened now.
        case outdated(String)
        case done
        case refused(AisError, String)
        /// Nothing has happened.
        case notNow
        /// It may have happened, or happen yet.
        case unknown
    }

    /// What a majority has, in order, from the moment on that this node acts.
    var onEntry: (CheckpointID, DirectoryEntry?, DirectoryRemoval?) -> Void = { _, _, _ in }
    /// A replica that this node has is of no checkpoint.
    var onUnknown: (CheckpointID) -> Void = { _ in }
    /// Whether this node is one of those that act.
    var onMayAct: (Bool) -> Void = { _ in }
    /// The others have gone on without this node, which has their state now.
    var onReplaced: () -> Void = {}
    /// The other nodes in the group; and those that are there, but their ckptd is not.
    var onOthers: (_ members: [NodeID], _ ended: [NodeID]) -> Void = { _, _ in }
    /// What a majority has has been acted on.
    var onCommitted: () -> Void = {}
    /// What this node has, for the others.
    var held: () -> [HeldReplica] = { [] }
    /// Which directory this node was part of, as the database of persistent checkpoints knows it; without power the
    /// file beside the journal is gone.
    var storedLineage: () -> UInt64? = { nil }
    var onLineage: (UInt64) -> Void = { _ in }

    static let group = "ckpt"
    /// Without a majority that remembers a controller waits so long for the missing nodes: then its database must do.
    private static let formationGrace = Duration.seconds(10)
    private static let retryDelay = Duration.milliseconds(50)
    /// Replicas told in one command.
    private static let heldMax = 200

    let host: ReplicaHost<Directory>
    private let loop: Loop
    private var description: ClusterDescription
    private let note: (_ isError: Bool, _ text: String) -> Void
    private let journal: RamJournal
    /// On controllers.
    let database: DirectoryDatabase?
    private let lineageFile: String
    private var isJournalBroken = false
    private var backlog = DirectoryBacklog()
    private(set) var isMember = false
    /// It has looked at everything since it is one.
    private var hasLooked = false
    /// All entries are looked at when this node is a member (again).
    private var mustLookAtAll = true
    private var proposals: [UInt64: (Outcome) -> Void] = [:]
    /// What comes before the answer to a proposal, by its ticket.
    private var told: [UInt64: Outcome] = [:]
    private var isJoining = false
    private var retry: LoopTimer?

    init(
        loop: Loop, places: Places, description: ClusterDescription, incarnation: UInt64,
        note: @escaping (_ isError: Bool, _ text: String) -> Void
    ) throws(OSError) {
        self.loop = loop
        self.description = description
        self.note = note
        let folder = places.shmDirectory + "/ckpt"
        try File.makeDirectories(folder, mode: 0o700)
        journal = try RamJournal(path: folder + "/directory")
        lineageFile = folder + "/lineage"
        let isController = description.local.role == .controller
        database =
            isController
            ? DirectoryDatabase(
                loop: loop, places: places, engine: DatabaseEngine(description.database), note: note) : nil
        host = ReplicaHost(
            loop: loop, description: description, incarnation: incarnation, core: Directory(),
            restoring: journal.records
        ) { configuration in
            configuration.isJournaling = true
            configuration.journalBytesMin = RamJournal.capacityMin / 2
            // Without a majority that remembers, and without a database, it would be guessing: what was acknowledged
            // may be with those who are missing.
            configuration.formationGrace = isController ? Self.formationGrace : nil
        }
        for trouble in [journal.damage, host.restoreFailure].compactMap({ $0 }) {
            note(true, "\(folder)/directory cannot be used, this node learns from the others: \(trouble)")
        }
        connect()
    }

    func start() {
        database?.onLoaded = { [unowned self] in review() }
        database?.load()
        host.start(Self.group)
    }

    /// The cluster has other nodes.
    func update(_ description: ClusterDescription) {
        self.description = description
        host.expect(nodes: description.nodes.count)
    }

    func close() {
        database?.close()
        host.close()
    }

    private func connect() {
        host.onJournal = { [unowned self] in keep($0) }
        host.onEffect = { [unowned self] in perform($0, $1) }
        host.onAnswer = { [unowned self] in answered($0, $1) }
        host.onCommitted = { [unowned self] _ in release() }
        host.onStateReplaced = { [unowned self] in
            backlog.removeAll()
            if isMember { onReplaced() }
            database?.replaceAll()
            mustLookAtAll = true
            hasLooked = false
            wait(.members(host.core.completeLives))
        }
        host.onStatus = { [unowned self] _ in review() }
        host.onView = { [unowned self] view in
            let members = view.members.map(\.node).filter { $0 != description.localNode }
            onOthers(members, view.nodes.filter { $0 != description.localNode && !members.contains($0) })
            review()
        }
        host.onNote = { [unowned self] in note($0.isSerious, "the directory of checkpoints: \($0)") }
    }

    private func keep(_ write: JournalWrite) {
        do throws(OSError) {
            try journal.keep(write)
            isJournalBroken = false
        } catch {
            if !isJournalBroken { note(true, "the directory of checkpoints is not kept: \(error)") }
            isJournalBroken = true
        }
    }

    // MARK: What is decided, and what a majority has

    private func perform(_ effect: DirectoryEffect, _ ticket: UInt64?) {
        switch effect {
        case .changed(let entry): wait(.entry(entry.id, entry, nil))
        case .removed(let id, let reason): wait(.entry(id, nil, reason))
        case .unknown(let id, _): wait(.unknown(id))
        case .members(let lives):
            wait(.members(lives))
            review()
        case .opened(let id, let isCreated): if let ticket { told[ticket] = .opened(id, isCreated: isCreated) }
        case .refused(let code, let text): if let ticket { told[ticket] = .refused(code, text) }
        case .outdated(let text): if let ticket { told[ticket] = .outdated(text) }
        case .found(let entry): if let ticket { told[ticket] = .found(entry) }
        case .startTimer, .cancelTimer: break  // the group's
        }
    }

    private func wait(_ step: DirectoryBacklog.Step) { backlog.append(step, at: host.replicated.index) }

    private func release() {
        while let step = backlog.next(through: host.replicated.committedIndex) {
            switch step {
            case .members(let lives): settle(lives)
            case .entry(let id, let entry, let reason):
                database?.put(id, entry, isBuried: host.core.buried.contains(id), at: stamp)
                if isMember { onEntry(id, entry, reason) }
            case .looked:
                hasLooked = isMember
                tellMayAct()
            case .unknown(let id): if isMember { onUnknown(id) }
            }
        }
        let isSettled =
            isMember && !host.core.isRecovering && host.replicated.index == host.replicated.committedIndex
        database?.follow(host.core, at: stamp, isSettled: isSettled)
        onCommitted()
    }

    /// Of what a majority has.
    private var stamp: DirectoryStamp {
        DirectoryStamp(began: host.core.epochFloor, index: host.replicated.committedIndex)
    }

    private func settle(_ lives: [NodeLife]) {
        let isIn = lives.contains(NodeLife(node: description.localNode, incarnation: host.member.incarnation))
        let isNew = isIn && (!isMember || mustLookAtAll)
        isMember = isIn
        if isNew || !isIn { hasLooked = false }
        tellMayAct()
        guard isIn else { return }
        keepLineage()
        guard isNew else { return }
        mustLookAtAll = false
        var ids = Set(held().map(\.id))
        ids.formUnion(host.core.entries.keys)
        for id in ids.sorted() { wait(.entry(id, host.core.entry(id), nil)) }
        // What it knows of its replicas until then is of another time.
        wait(.looked)
    }

    private func tellMayAct() { onMayAct(mayAct) }

    /// What is known here is what a majority has, and nothing of it waits.
    var isSettled: Bool {
        isMember && !host.core.isRecovering && host.replicated.index == host.replicated.committedIndex
    }

    var mayAct: Bool { isMember && hasLooked && host.status == .synchronised }

    /// How far this node has applied what was ordered; nil while it has no part in it.
    var appliedIndex: UInt64? { host.status == .synchronised ? host.replicated.index : nil }
    /// How far it has acted on it.
    var committedIndex: UInt64 { host.replicated.committedIndex }

    // MARK: Who is there

    /// Whether this node has joined, and, as the oldest, whether all that have are still there.
    private func review() {
        tellMayAct()
        guard host.status == .synchronised, let view = host.view else { return }
        if !host.core.isMember(description.localNode, incarnation: host.member.incarnation) { joinSoon() }
        guard host.isOldest else { return }
        let gone = host.core.lives.filter { life in
            !view.members.contains(GroupMember(node: life.node, incarnation: life.incarnation))
        }
        if !gone.isEmpty { propose(.left(gone)) { [unowned self] in reviewAgain($0) } }
    }

    /// A proposal about who is there has had its answer: perhaps it has to be said again.
    private func reviewAgain(_ outcome: Outcome) {
        if case .done = outcome, host.core.isMember(description.localNode, incarnation: host.member.incarnation) {
            return
        }
        guard retry == nil else { return }
        retry = loop.schedule(after: Self.retryDelay) { [unowned self] in
            retry = nil
            review()
        }
    }

    private func joinSoon() {
        guard !isJoining else { return }
        isJoining = true
        loop.schedule(after: .zero) { [unowned self] in join() }
    }

    private func join() {
        isJoining = false
        guard host.status == .synchronised, database?.isLoaded ?? true,
            !host.core.isMember(description.localNode, incarnation: host.member.incarnation)
        else { return }
        if host.core.isRecovering, let known = database?.known {
            let parts = DirectoryMemory.parts(
                of: description.localNode, known.stamp, known.checkpoints, buried: known.buried.ids)
            for part in parts {
                propose(.remembered(part)) { _ in }  // an answer to what follows tells whether it was heard
            }
        }
        var rest = held()[...]
        repeat {
            let part = Array(rest.prefix(Self.heldMax))
            rest = rest.dropFirst(part.count)
            let join = NodeJoin(
                node: description.localNode, incarnation: host.member.incarnation,
                nodesExpected: UInt32(description.nodes.count),
                time: UInt64(clamping: MonotonicClock.wallNanoseconds() / 1_000_000_000), lineage: lineage,
                newLineage: UInt64.random(in: 1 ... .max), held: part, isLast: rest.isEmpty)
            isJoining = true
            propose(.joined(join)) { [unowned self] outcome in
                isJoining = false
                reviewAgain(outcome)
            }
        } while !rest.isEmpty
    }

    /// Which directory this node was part of; only what a majority has heard counts, so it is kept apart from the
    /// journal.
    private var lineage: UInt64 {
        guard let bytes = try? File.readAll(lineageFile, limit: 64), bytes.count == 8 else {
            return storedLineage() ?? 0  // of none
        }
        return bytes.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
    }

    private func keepLineage() {
        let current = host.core.lineage
        onLineage(current)
        guard current != lineage else { return }
        var writer = ByteWriter()
        writer.integer(current)
        do throws(OSError) {
            try File.writeAtomically(lineageFile, writer.bytes, durable: false, mode: 0o600)
        } catch {
            note(true, "which directory this node belongs to is not kept: \(error)")
        }
    }

    // MARK: Proposals

    /// Orders an event; `then` is called once, maybe before this returns.
    func propose(_ event: DirectoryEvent, then: @escaping (Outcome) -> Void) {
        proposals[host.nextTicket] = then
        host.propose(event)
    }

    private func answered(_ ticket: UInt64, _ outcome: ProposalOutcome) {
        let told = told.removeValue(forKey: ticket)
        guard let then = proposals.removeValue(forKey: ticket) else { return }
        switch outcome {
        case .done: then(told ?? .done)
        case .refused(.tryAgain): then(.notNow)
        case .refused(.timeout): then(.unknown)
        case .refused(let code): then(.refused(code, "the directory of checkpoints cannot take it"))
        }
    }
}

extension ReplicatedNote {
    /// Something an operator should look at.
    fileprivate var isSerious: Bool {
        switch self {
        case .diverged, .memberDiverged, .eventNotUnderstood, .versionNotSpoken, .groupLost, .formedWithoutMajority:
            true
        case .formed, .snapshotOffered, .snapshotLoaded, .synchronisationRestarted, .undecodable: false
        }
    }
}
