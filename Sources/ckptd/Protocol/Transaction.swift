import SAFTypes

/// What the engine wants of the store: one step of one checkpoint, done wholly or not at all.
public struct Transaction: Hashable, Sendable {
    /// What is kept of a checkpoint besides sections and openers, as it is after the step.
    public struct State: Hashable, Sendable {
        /// Number of the last update; a step without operations leaves it alone.
        public var change: UInt64
        public var retentionDuration: SaTime
        /// This node's monotonic clock in nanoseconds; 0 while no retention runs.
        public var retentionDeadline: UInt64
        /// The next section's serial.
        public var nextSerial: UInt64
        public var isUnlinked: Bool
        public var hasActiveReplica: Bool
        /// Whose request unlinked it, so that a retransmission can be answered.
        public var unlinker: RequestIdentity?
        /// Of the last change; 0 as long as there is no other replica.
        public var epoch: UInt64
        public var history: EpochHistory
        /// A copy is under way: what there is of data is worth nothing.
        public var isPartial: Bool

        public init(
            change: UInt64 = 0, retentionDuration: SaTime, retentionDeadline: UInt64 = 0, nextSerial: UInt64 = 1,
            isUnlinked: Bool = false, hasActiveReplica: Bool = false, unlinker: RequestIdentity? = nil,
            epoch: UInt64 = 0, history: EpochHistory = EpochHistory(), isPartial: Bool = false
        ) {
            self.change = change
            self.retentionDuration = retentionDuration
            self.retentionDeadline = retentionDeadline
            self.nextSerial = nextSerial
            self.isUnlinked = isUnlinked
            self.hasActiveReplica = hasActiveReplica
            self.unlinker = unlinker
            self.epoch = epoch
            self.history = history
            self.isPartial = isPartial
        }

        public var replica: ReplicaData {
            get {
                ReplicaData(version: .init(epoch: epoch, change: change), history: history, isPartial: isPartial)
            }
            set {
                (epoch, change) = (newValue.version.epoch, newValue.version.change)
                (history, isPartial) = (newValue.history, newValue.isPartial)
            }
        }
    }

    /// An operation on the section in `slot` of the section table.
    public struct Step: Hashable, Sendable {
        public var operation: SectionOperation
        public var slot: Int
        /// Of the section; used when it is created.
        public var serial: UInt64
        /// What else is known of a section that is copied.
        public var copied: CopiedSection?
        /// Of the section's data after the step; 0: none. Not kept in files, nor told to others.
        public var tag: UInt64 = 0

        public init(_ operation: SectionOperation, slot: Int, serial: UInt64, copied: CopiedSection? = nil) {
            self.operation = operation
            self.slot = slot
            self.serial = serial
            self.copied = copied
        }
    }

    public struct CopiedSection: Hashable, Sendable {
        public var lastUpdate: SaTime
        /// The data it will have.
        public var size: Int
        public var isCorrupted: Bool

        public init(lastUpdate: SaTime, size: Int, isCorrupted: Bool) {
            self.lastUpdate = lastUpdate
            self.size = size
            self.isCorrupted = isCorrupted
        }
    }

    /// What a step is, besides its operations.
    public enum Purpose: Hashable, Sendable {
        case step
        /// Sections that are copied, straight to their places: the checkpoint is partial, nobody wants them after a
        /// crash.
        case piece
        /// Without operations: all sections go, and the updates until then are forgotten.
        case wipe
        /// Without operations: these are the openers from now on, all of them, and the updates until then are
        /// forgotten: some of them were done in part, before the sections came.
        case copied([RestoredCheckpoint.Opener])
        /// Nothing changes but that there is room for a section's ``CopiedSection/size``.
        case reserved
        /// Sections that their writers wrote themselves come back as those left them, straight to their places: until
        /// that has happened they are where they were.
        case recalled
        /// What writers have done themselves since the last such step, as one update.
        case told

        /// The data goes to its places before the step is published.
        public var isInPlace: Bool { self == .piece || self == .recalled }
    }

    public struct OpenerStep: Hashable, Sendable {
        public var slot: Int
        /// Nil: the opener is gone.
        public var opener: OpenerRecord?

        public init(slot: Int, opener: OpenerRecord?) {
            self.slot = slot
            self.opener = opener
        }
    }

    /// The request that is executed by this step, remembered with its opener.
    public struct Execution: Hashable, Sendable {
        public var openerSlot: Int
        /// Place in the opener's list, 0 ..< ``OpenerRecord/executedMax``.
        public var index: Int
        public var number: UInt64
        public var writer: RequestWriter

        public init(openerSlot: Int, index: Int, number: UInt64, writer: RequestWriter) {
            self.openerSlot = openerSlot
            self.index = index
            self.number = number
            self.writer = writer
        }
    }

    public var checkpoint: CheckpointID
    /// Nanoseconds since 1970 UTC.
    public var time: SaTime
    public var state: State
    public var steps: [Step]
    public var openers: [OpenerStep]
    public var execution: Execution?
    public var purpose: Purpose

    public init(
        checkpoint: CheckpointID, time: SaTime, state: State, steps: [Step] = [], openers: [OpenerStep] = [],
        execution: Execution? = nil, purpose: Purpose = .step
    ) {
        self.checkpoint = checkpoint
        self.time = time
        self.state = state
        self.steps = steps
        self.openers = openers
        self.execution = execution
        self.purpose = purpose
    }
}

/// A request, the same after a retransmission and never another.
public struct RequestIdentity: Hashable, Sendable {
    public var session: ClientSession
    public var number: UInt64
    public init(session: ClientSession, number: UInt64) {
        self.session = session
        self.number = number
    }
}

/// An open that requests come from, on whatever node.
public struct RequestWriter: Hashable, Sendable {
    public var handle: HandleID
    public var node: NodeID
    public var session: ClientSession

    public init(handle: HandleID, node: NodeID, session: ClientSession) {
        self.handle = handle
        self.node = node
        self.session = session
    }
}

/// One open of a checkpoint, as kept with the data. Of an open on another node there is only what identifies it, once
/// it has written.
public struct OpenerRecord: Hashable, Sendable {
    /// Executed requests remembered per open: a client never has more mutating requests under way on one handle.
    public static let executedMax = CkptProtocolLimits.executedMax

    public var session: ClientSession
    public var handle: HandleID
    /// Number of the request that opened it.
    public var openNumber: UInt64
    public var processID: UInt32
    /// Start time of the process in clock ticks since boot: a recycled process id is another process.
    public var processStart: UInt64
    public var flags: OpenFlags
    /// Where the process is; 0: on a node that was alone when it opened.
    public var node: NodeID

    public init(
        session: ClientSession, handle: HandleID, openNumber: UInt64, processID: UInt32, processStart: UInt64,
        flags: OpenFlags, node: NodeID = NodeID(0)
    ) {
        self.session = session
        self.handle = handle
        self.openNumber = openNumber
        self.processID = processID
        self.processStart = processStart
        self.flags = flags
        self.node = node
    }

    /// Who has written from another node.
    public init(_ writer: RequestWriter) {
        self.init(
            session: writer.session, handle: writer.handle, openNumber: 0, processID: 0, processStart: 0, flags: [],
            node: writer.node)
    }

    public var writer: RequestWriter { RequestWriter(handle: handle, node: node, session: session) }
}

/// A new checkpoint with its first opener, or a replica without data; the store makes its file.
public struct NewCheckpoint: Hashable, Sendable {
    public var checkpoint: CheckpointID
    public var name: SaName
    public var attributes: CreationAttributes
    public var createdAt: SaTime
    public var state: Transaction.State
    public var openers: [OpenerRecord]

    public init(
        checkpoint: CheckpointID, name: SaName, attributes: CreationAttributes, createdAt: SaTime,
        state: Transaction.State, openers: [OpenerRecord]
    ) {
        self.checkpoint = checkpoint
        self.name = name
        self.attributes = attributes
        self.createdAt = createdAt
        self.state = state
        self.openers = openers
    }
}

/// A checkpoint as found in its RAM file after a restart; everything in it has been checked.
public struct RestoredCheckpoint: Hashable, Sendable {
    public struct Section: Hashable, Sendable {
        public var slot: Int
        public var descriptor: SectionDescriptor
        public init(slot: Int, descriptor: SectionDescriptor) {
            self.slot = slot
            self.descriptor = descriptor
        }
    }

    public struct Executed: Hashable, Sendable {
        public var number: UInt64
        public var change: UInt64
        public init(number: UInt64, change: UInt64) {
            self.number = number
            self.change = change
        }
    }

    public struct Opener: Hashable, Sendable {
        public var slot: Int
        public var record: OpenerRecord
        /// As in the file, ``OpenerRecord/executedMax`` places; number 0 = free.
        public var executed: [Executed]
        public init(slot: Int, record: OpenerRecord, executed: [Executed]) {
            self.slot = slot
            self.record = record
            self.executed = executed
        }
    }

    public var checkpoint: CheckpointID
    public var name: SaName
    public var attributes: CreationAttributes
    public var state: Transaction.State
    public var sections: [Section]
    public var openers: [Opener]

    public init(
        checkpoint: CheckpointID, name: SaName, attributes: CreationAttributes, state: Transaction.State,
        sections: [Section], openers: [Opener]
    ) {
        self.checkpoint = checkpoint
        self.name = name
        self.attributes = attributes
        self.state = state
        self.sections = sections
        self.openers = openers
    }
}
