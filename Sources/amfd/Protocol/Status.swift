import SAFTypes

/// Everything `saf status` shows, at one moment. Lists are in the order of the model.
public struct StatusReport: Hashable, Sendable {
    public var cluster = ""
    public var adminState: AdminState = .unlocked
    /// What is wrong with the whole: that the model on disk is not used, and why. More serious than any state below.
    public var problems: [String] = []
    /// The side of the cluster that the answering node is on may decide.
    public var isQuorate = true
    /// Who performs what is to be done once; 0: nobody.
    public var oldest = NodeID(0)
    public var nodes: [NodeStatus] = []
    public var applications: [ApplicationStatus] = []
    public init() {}
}

public struct NodeStatus: Hashable, Sendable {
    public var dn = SaName.none
    public var name = ""
    public var id = NodeID(0)
    public var isMember = false
    /// Its amfd is heard of.
    public var isHeard = true
    /// Of the answering node only; the others know their own.
    public var lease: LeaseStatus = .none
    public var adminState: AdminState = .unlocked
    public var operationalState: OperationalState = .disabled
    public var suFailovers: UInt32 = 0
    public init() {}
}

/// Whether a node may hold active assignments.
public enum LeaseStatus: UInt8, Hashable, Sendable, CaseIterable {
    /// A node alone needs none, and of others it is not known.
    case none = 1
    case held, over
}

public struct ApplicationStatus: Hashable, Sendable {
    public var dn = SaName.none
    public var name = ""
    public var adminState: AdminState = .unlocked
    /// The middleware's own applications; `saf status` shows them apart.
    public var isMiddleware = false
    public var serviceGroups: [ServiceGroupStatus] = []
    public var serviceInstances: [ServiceInstanceStatus] = []
    public init() {}
}

public struct ServiceGroupStatus: Hashable, Sendable {
    public var dn = SaName.none
    public var name = ""
    public var adminState: AdminState = .unlocked
    public var redundancyModel: RedundancyModel = .twoN
    public var serviceUnits: [ServiceUnitStatus] = []
    public init() {}
}

public struct ServiceUnitStatus: Hashable, Sendable {
    public var dn = SaName.none
    public var name = ""
    public var node = ""
    public var rank: UInt32 = 0
    public var adminState: AdminState = .unlocked
    public var operationalState: OperationalState = .disabled
    public var presenceState: PresenceState = .uninstantiated
    public var readinessState: ReadinessState = .outOfService
    public var components: [ComponentStatus] = []
    public init() {}
}

public struct ComponentStatus: Hashable, Sendable {
    public var dn = SaName.none
    public var name = ""
    public var presenceState: PresenceState = .uninstantiated
    public var operationalState: OperationalState = .disabled
    public var readinessState: ReadinessState = .outOfService
    /// 0: no process.
    public var pid: Int32 = 0
    /// When the process was started; 0: no process.
    public var startedAt: SaTime = 0
    /// How often a process was started after the first time.
    public var restarts: UInt32 = 0
    /// Why it last failed; empty: never.
    public var lastError = ""
    /// When that was, UTC; 0: never, or not known.
    public var lastErrorAt: SaTime = 0
    public var assignments: [HeldAssignment] = []
    public init() {}
}

public struct ServiceInstanceStatus: Hashable, Sendable {
    public var dn = SaName.none
    public var name = ""
    public var serviceGroup = ""
    public var adminState: AdminState = .unlocked
    public var assignmentState: AssignmentState = .unassigned
    public var assignments: [SUAssignmentStatus] = []
    public var csis: [CSIStatus] = []
    public init() {}
}

public struct SUAssignmentStatus: Hashable, Sendable {
    public var serviceUnit = SaName.none
    public var haState: HAState = .active
    /// A change of it is under way.
    public var isChanging = false
    public init() {}
}

public struct CSIStatus: Hashable, Sendable {
    public var dn = SaName.none
    public var name = ""
    public var type = ""
    public var assignments: [CSIAssignmentStatus] = []
    public init() {}
}

public struct CSIAssignmentStatus: Hashable, Sendable {
    public var component = SaName.none
    public var haState: HAState = .active
    public init() {}
}

extension StatusReport: WireFields {
    public static let wireVersion: UInt16 = 3

    public func encode(to writer: inout ByteWriter) {
        writer.integer(Self.wireVersion)
        var copy = self
        var coder = FieldWriter(writer: writer)
        copy.fields(&coder)
        writer = coder.writer
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt16.self)
        guard version == Self.wireVersion else {
            throw .badValue("status version \(version); \(Self.wireVersion) expected")
        }
        self.init()
        var coder = FieldReader(reader: reader)
        try fields(&coder)
        reader = coder.reader
    }

    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.text(&cluster)
        try coder.raw(&adminState)
        try coder.texts(&problems)
        try coder.flag(&isQuorate)
        try coder.value(&oldest)
        try coder.list(&nodes)
        try coder.list(&applications)
    }
}

extension NodeStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&dn)
        try coder.text(&name)
        try coder.value(&id)
        try coder.flag(&isMember)
        try coder.flag(&isHeard)
        try coder.raw(&lease)
        try coder.raw(&adminState)
        try coder.raw(&operationalState)
        try coder.integer(&suFailovers)
    }
}

extension ApplicationStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&dn)
        try coder.text(&name)
        try coder.raw(&adminState)
        try coder.flag(&isMiddleware)
        try coder.list(&serviceGroups)
        try coder.list(&serviceInstances)
    }
}

extension ServiceGroupStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&dn)
        try coder.text(&name)
        try coder.raw(&adminState)
        try coder.raw(&redundancyModel)
        try coder.list(&serviceUnits)
    }
}

extension ServiceUnitStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&dn)
        try coder.text(&name)
        try coder.text(&node)
        try coder.integer(&rank)
        try coder.raw(&adminState)
        try coder.raw(&operationalState)
        try coder.raw(&presenceState)
        try coder.raw(&readinessState)
        try coder.list(&components)
    }
}

extension ComponentStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&dn)
        try coder.text(&name)
        try coder.raw(&presenceState)
        try coder.raw(&operationalState)
        try coder.raw(&readinessState)
        try coder.integer(&pid)
        try coder.integer(&startedAt)
        try coder.integer(&restarts)
        try coder.text(&lastError)
        try coder.integer(&lastErrorAt)
        try coder.list(&assignments)
    }
}

extension ServiceInstanceStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&dn)
        try coder.text(&name)
        try coder.text(&serviceGroup)
        try coder.raw(&adminState)
        try coder.raw(&assignmentState)
        try coder.list(&assignments)
        try coder.list(&csis)
    }
}

extension SUAssignmentStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&serviceUnit)
        try coder.raw(&haState)
        try coder.flag(&isChanging)
    }
}

extension CSIStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&dn)
        try coder.text(&name)
        try coder.text(&type)
        try coder.list(&assignments)
    }
}

extension CSIAssignmentStatus: WireFields {
    public mutating func fields<Coder: FieldCoder>(_ coder: inout Coder) throws(Coder.Failure) {
        try coder.value(&component)
        try coder.raw(&haState)
    }
}
