public import CkptProtocol
public import EngineKit
public import SAFTypes

/// A client's process: a recycled process id has another start time.
public struct ProcessIdentity: Hashable, Sendable {
    public var id: UInt32
    /// Clock ticks since boot.
    public var start: UInt64
    public init(id: UInt32, start: UInt64) {
        self.id = id
        self.start = start
    }
}

/// Who asks.
public struct RequestOrigin: Hashable, Sendable {
    public var identity: RequestIdentity
    public var process: ProcessIdentity
    /// Whose process it is; nil: who must not have what can be written directly.
    public var user: UInt32?
    /// The client is not sure that an earlier sending was not executed.
    public var isRetransmission: Bool
    /// May look at all checkpoints without opening them.
    public var isAdministrator: Bool
    /// What the process was active for when its ckptd took the request; only of what changes something.
    public var epochs: [AssignmentEpoch]

    public init(
        identity: RequestIdentity, process: ProcessIdentity, user: UInt32? = 0, isRetransmission: Bool = false,
        isAdministrator: Bool = false, epochs: [AssignmentEpoch] = []
    ) {
        self.identity = identity
        self.process = process
        self.user = user
        self.isRetransmission = isRetransmission
        self.isAdministrator = isAdministrator
        self.epochs = epochs
    }
}

public enum CkptTimer: Hashable, Sendable {
    /// Nobody has had it open for its retention duration.
    case retention(CheckpointID)
    /// A section's expiration time may have come.
    case expiration(CheckpointID)
    /// The process has not come back.
    case absence(ClientSession)
    /// Its unlink need not be remembered any longer.
    case tombstone(CheckpointID)
    /// The next batch for the database of persistent checkpoints.
    case persistence
    /// What writers have done themselves may have to be told.
    case telling(CheckpointID)
}

/// What the store said to a transaction.
public enum CommitOutcome: Hashable, Sendable {
    case done
    case noSpace(String)
    case corrupted(slot: Int)
    case failed(String)
}

public enum CkptEvent: Hashable, Sendable {
    /// Found in a RAM file at the start, before any request.
    case restored(RestoredCheckpoint)
    case connected(ClientSession, ProcessIdentity)
    /// The connection is gone, and perhaps the process with it.
    case disconnected(ClientSession, isDead: Bool)
    /// `time`: nanoseconds since 1970 UTC, for expiration times.
    case request(CkptRequest, RequestOrigin, time: SaTime)
    /// Closed by the processes that had them open, while nobody could be asked to.
    case abandoned([HandleID])
    /// Answers the last effect, a commit or create; comes before anything else.
    case settled(CommitOutcome)
    /// Answers the last effect, a `.look`; comes before anything else. `change`: of the last update, as far as known.
    case looked(CheckpointID, [DirectSight], change: UInt64)
    /// Direct sections have been written since their writers were asked to call, or may have been.
    case written(CheckpointID)
    /// Answers the last effect, a `.tell`; comes before anything else. `isResting`: there is nothing, and writers call
    /// when there is.
    case telling(CheckpointID, [DirectSight], isResting: Bool)
    /// A read found bytes that nobody wrote.
    case damaged(CheckpointID, slot: Int)
    case timerFired(CkptTimer, time: SaTime)
    /// Somebody has set the date: expiration times are nearer or farther than they were.
    case clockSet(time: SaTime)
    /// After everything was restored: what the database of persistent checkpoints has, and of which directory.
    case stored([StoredCheckpoint], lineage: UInt64?)
    /// Instead: it cannot be used, and is not touched.
    case notStored(String)
    /// In the database only, and cannot be had now, for this reason: nobody may take its name.
    case withheld(SaName, String)
    /// Answers `persist`, some time later.
    case persisted(PersistentOutcome)

    // On a member of a cluster only.

    /// The directory has it: a process here has the checkpoint open.
    case opened(CheckpointID, OpenerRecord)
    /// Opens of processes here that have ended, or are about to.
    case closed([OpenedHandle])
    /// Asked by a process of another node, which has checked that it may; only what needs the active replica.
    case forwarded(CkptRequest, RequestOrigin, checkpoint: CheckpointID, from: NodeID, time: SaTime)
    /// What the directory says now; nil: the checkpoint is no more. Before `Replication` hears of it.
    case entry(CheckpointID, DirectoryEntry?)
    /// Performs the effect of `Replication`; `.replication(.held)` or `(.notMade)` follows.
    case make(DirectoryEntry, time: SaTime)
    case drop(CheckpointID, unlinkedBy: RequestIdentity?)
    /// An update of the active replica, its data in the body at hand; `.replication(.applied)` follows.
    case apply(CheckpointID, change: UInt64, ReplicaUpdate, tolerant: Bool)
    case wipe(CheckpointID, base: UInt64)
    case takePiece(CheckpointID, [PieceSection])
    /// The copy is whole, as of that change in that epoch; `.replication(.applied)` follows.
    case finishCopy(CheckpointID, CopyEnd, ReplicaVersion, EpochHistory)
    case keepEpoch(CheckpointID, epoch: UInt64, EpochHistory)
    /// Who is active for what, as amfd says now.
    case assignments(AssignmentTable)
    /// The directory is this one: kept with what is persistent.
    case lineage(UInt64)
}

/// A part of an answer that lies in the store.
public struct StoredPart: Hashable, Sendable {
    public var slot: Int
    public var offset: Int
    public var count: Int
    public init(slot: Int, offset: Int, count: Int) {
        self.slot = slot
        self.offset = offset
        self.count = count
    }
}

public struct StoredSection: Hashable, Sendable {
    public var slot: Int
    public var descriptor: SectionDescriptor
    public init(slot: Int, descriptor: SectionDescriptor) {
        self.slot = slot
        self.descriptor = descriptor
    }
}

public enum CkptAnswer: Hashable, Sendable {
    case done
    case opened(OpenReply)
    case updated(UpdateReply)
    case status(CheckpointDescriptor)
    case list(ListReply)
    case section(SectionDescriptor)
    case exists(ExistsReply)
    /// The shell adds where the replicas are, and tells this opener of every change from then on.
    case replicas(CheckpointID, HandleID)
    /// The shell adds the bytes.
    case data(CheckpointID, change: UInt64, [StoredPart])
    case snapshot(CheckpointID, change: UInt64, [StoredSection])
    /// From after `after` if the store still has what followed it, otherwise from a snapshot; then every update.
    case subscription(CheckpointID, HandleID, after: UInt64?, change: UInt64, [StoredSection])
    /// What may be mapped of the checkpoint for reading, and how the direct file; the shell opens the files.
    case mapping(CheckpointID, direct: DirectAccess)
    case adminList(AdminListReply)
    case adminSections(AdminSectionsReply, CheckpointID, [StoredSection], dataMax: Int)
}

/// What a process may do with a checkpoint's direct file.
public enum DirectAccess: Hashable, Sendable { case none, read, write }

/// Worth a line in the log.
public enum CkptNote: Hashable, Sendable {
    case created(SaName, CheckpointID)
    case deleted(SaName, CheckpointID, DeletionReason)
    case unlinked(SaName, CheckpointID, isOpen: Bool)
    case restored(SaName, CheckpointID, sections: Int, openers: Int)
    /// Opens of a process that died or never came back.
    case closed(SaName, CheckpointID, processID: UInt32, isDead: Bool)
    case corrupted(SaName, CheckpointID, section: SectionID)
    /// What is persistent cannot be made durable.
    case notDurable(String)
    case durableAgain
    /// The first update of a process that was refused for coming too late.
    case late(String)

    public enum DeletionReason: Hashable, Sendable {
        case unlinked, retentionOver
    }
}

/// Performed by the shell in this order.
public enum CkptEffect: Hashable, Sendable {
    /// Always the last effect; `.settled` follows at once.
    case create(NewCheckpoint)
    /// As above. `isUpdate`: it has a change number, subscribers will hear of it.
    case commit(Transaction, isUpdate: Bool)
    /// Always the last effect; `.looked` follows at once: what direct sections are. Those of `recalling` nobody writes
    /// any more; their data is in the body at hand. `reserves`: the change number after what is seen is ours.
    case look(CheckpointID, recalling: [Int], reserves: Bool)
    /// Always the last effect; `.settled` follows at once. Its writers may write the section themselves, up to `limit`
    /// bytes. `isTold`: others are told what they write.
    case grant(CheckpointID, slot: Int, limit: Int, isTold: Bool)
    /// Always the last effect; `.telling` follows at once: what has been written in direct sections since others were
    /// told. Those of `recalling` nobody writes any more. `mayRest`: if it is nothing, writers are to call.
    case tell(CheckpointID, recalling: [Int], mayRest: Bool)
    /// These have come back: their data has been told.
    case endDirect(CheckpointID, slots: [Int])
    /// All direct sections of the checkpoint are what was told last: another replica is the active one.
    case abandonDirect(CheckpointID)
    /// Nobody publishes direct writes of the checkpoint any more, until its sections are granted anew.
    case stopDirect(CheckpointID)
    /// A step that needs no space and so cannot be refused; nothing follows.
    case record(Transaction, isUpdate: Bool)
    /// The data goes, at once and for good.
    case remove(CheckpointID)
    /// The data goes, but that it was unlinked, and by whose request, stays until it is removed.
    case retire(CheckpointID)
    /// Not a checkpoint that can be served: out of the way, for somebody to look at.
    case setAside(CheckpointID, String)
    case reply(RequestIdentity, CkptAnswer)
    case refuse(RequestIdentity, AisError, String)
    /// Write this to the database, on the worker; `.persisted` follows. The data is as it is now.
    case persist(PersistentBatch)
    /// The `.reply` that follows at once is given when this ticket is released.
    case await(UInt64)
    case release([UInt64])
    /// The answers that wait for these are not given; this is.
    case abandon([UInt64], AisError, String)
    /// There is a new change: tell the subscribers.
    case publish(CheckpointID)
    case endSubscription(HandleID)
    /// The open is no more: nothing about it is told.
    case endWatch(HandleID)
    /// A node alone has its active replica now.
    case replicasChanged(CheckpointID)
    case startTimer(CkptTimer, at: Instant)
    case cancelTimer(CkptTimer)
    case note(CkptNote)

    // On a member of a cluster only.

    /// For `Replication`, at this place of the order.
    case replication(ReplicationEvent)
    /// An update was made here, nobody else has it yet. Before its `.reply` and `.publish`.
    case wrote(CheckpointID, change: UInt64)
    /// As `.wrote`, of what writers have done themselves: nobody waits for it.
    case told(CheckpointID, change: UInt64)
    /// The `.reply` that follows is to a request that was executed before, as this change.
    case executed(CheckpointID, change: UInt64)
    /// The process is dead, or has not come back: the directory must know.
    case closeHandles([OpenedHandle])
}
