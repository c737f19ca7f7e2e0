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

        public init(
            change: UInt64 = 0, retentionDuration: SaTime, retentionDeadline: UInt64 = 0, nextSerial: UInt64 = 1,
            isUnlinked: Bool = false, hasActiveReplica: Bool = false, unlinker: RequestIdentity? = nil
        ) {
            self.change = change
            self.retentionDuration = retentionDuration
            self.retentionDeadline = retentionDeadline
            self.nextSerial = nextSerial
            self.isUnlinked = isUnlinked
            self.hasActiveReplica = hasActiveReplica
            self.unlinker = unlinker
        }
    }

    /// An operation on the section in `slot` of the section table.
    public struct Step: Hashable, Sendable {
        public var operation: SectionOperation
        public var slot: Int
        /// Of the section; used when it is created.
        public var serial: UInt64

        public init(_ operation: SectionOperation, slot: Int, serial: UInt64) {
            self.operation = operation
            self.slot = slot
            self.serial = serial
        }
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

        public init(openerSlot: Int, index: Int, number: UInt64) {
            self.openerSlot = openerSlot
            self.index = index
            self.number = number
        }
    }

    public var checkpoint: CheckpointID
    /// Nanoseconds since 1970 UTC.
    public var time: SaTime
    public var state: State
    public var steps: [Step]
    public var openers: [OpenerStep]
    public var execution: Execution?

    public init(
        checkpoint: CheckpointID, time: SaTime, state: State, steps: [Step] = [], openers: [OpenerStep] = [],
        execution: Execution? = nil
    ) {
        self.checkpoint = checkpoint
        self.time = time
        self.state = state
        self.steps = steps
        self.openers = openers
        self.execution = execution
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

/// One open of a checkpoint, as kept with the data.
public struct OpenerRecord: Hashable, Sendable {
    /// Executed requests remembered per open: a client never has more mutating requests under way on one handle.
    public static let executedMax = 28

    public var session: ClientSession
    public var handle: HandleID
    /// Number of the request that opened it.
    public var openNumber: UInt64
    public var processID: UInt32
    /// Start time of the process in clock ticks since boot: a recycled process id is another process.
    public var processStart: UInt64
    public var flags: OpenFlags

    public init(
        session: ClientSession, handle: HandleID, openNumber: UInt64, processID: UInt32, processStart: UInt64,
        flags: OpenFlags
    ) {
        self.session = session
        self.handle = handle
        self.openNumber = openNumber
        self.processID = processID
        self.processStart = processStart
        self.flags = flags
    }
}

/// A new checkpoint with its first opener; the store makes its file.
public struct NewCheckpoint: Hashable, Sendable {
    public var checkpoint: CheckpointID
    public var name: SaName
    public var attributes: CreationAttributes
    public var createdAt: SaTime
    public var state: Transaction.State
    public var opener: OpenerRecord

    public init(
        checkpoint: CheckpointID, name: SaName, attributes: CreationAttributes, createdAt: SaTime,
        state: Transaction.State, opener: OpenerRecord
    ) {
        self.checkpoint = checkpoint
        self.name = name
        self.attributes = attributes
        self.createdAt = createdAt
        self.state = state
        self.opener = opener
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
