import SAFTypes

/// What processes ask of the amfd of their node: one IOC request each, `code` and body.
///
/// Every body starts with the u16 version of this protocol.
public enum AmfRequest: Hashable, Sendable {
    /// Reply: ``RegisterReply`` (and the shell's descriptors). Again after every reconnect.
    case register(Registration)
    /// saAmfResponse(). A nil error is OK. Reply: empty.
    case response(InvocationAnswer)
    /// Reply: empty. NOT_EXIST for an unknown key, EXIST when started already.
    case healthcheckStart(component: SaName, key: String, HealthcheckInvocation, recovery: RecommendedRecovery)
    case healthcheckConfirm(component: SaName, key: String, AisError?)
    case healthcheckStop(component: SaName, key: String)
    case errorReport(component: SaName, recovery: RecommendedRecovery)
    case errorClear(component: SaName)
    /// saAmfCSIQuiescingComplete(): the invocation is that of the CSISet(quiescing).
    case quiescingComplete(InvocationAnswer)
    /// Reply: u8 HAState. NOT_EXIST when the CSI is not assigned to the component.
    case haStateGet(component: SaName, csi: SaName)
    /// Before a component ends by itself; an error report for an SA-aware component. Reply: empty.
    case unregister(component: SaName)
    /// Reply: empty, when the operation is complete (SHUTDOWN: when it is accepted).
    /// `isForced`: also what takes the middleware away.
    case admin(AdminOperation, SaName, isForced: Bool)
    /// Reply: ``StatusReport``.
    case status
    /// From `saf`: a checked model. Reply: empty, or INVALID_PARAM with every error.
    case loadModel(AmfModel)
    /// Stops this node gracefully. Reply: empty, when accepted.
    case stopNode
}

public enum HealthcheckInvocation: UInt8, Hashable, Sendable, CaseIterable {
    case amfInvoked = 1, componentInvoked
}

/// The id of a callback, unique for the life of a component; answered exactly once, but it may be asked again with the
/// same id after amfd's death: a client that answered it answers it again, one that is working on it ignores it.
public struct InvocationID: Hashable, Sendable, Comparable, WireCodable, CustomStringConvertible {
    public var rawValue: UInt64
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: Self, right: Self) -> Bool { left.rawValue < right.rawValue }
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { rawValue = try reader.integer() }
    public var description: String { "#\(String(rawValue, radix: 16))" }
}

public struct InvocationAnswer: Hashable, Sendable {
    public var invocation = InvocationID(0)
    /// Nil: OK.
    public var error: AisError?
    public init() {}
    public init(_ invocation: InvocationID, _ error: AisError? = nil) {
        (self.invocation, self.error) = (invocation, error)
    }
}

public struct HeldAssignment: Hashable, Sendable {
    public var csi = SaName.none
    public var haState: HAState = .active
    public init() {}
    public init(csi: SaName, _ haState: HAState) { (self.csi, self.haState) = (csi, haState) }
}

public struct Registration: Hashable, Sendable {
    public var component = SaName.none
    public var pid: Int32 = 0
    /// Assignments that the component holds, in any order; empty at its first registration.
    public var held: [HeldAssignment] = []
    /// Callbacks that it answered while nobody listened; amfd takes them as if they came now.
    public var answers: [InvocationAnswer] = []
    public init() {}
    public init(component: SaName, pid: Int32, held: [HeldAssignment] = [], answers: [InvocationAnswer] = []) {
        (self.component, self.pid, self.held, self.answers) = (component, pid, held, answers)
    }
}

public struct RegisterReply: Hashable, Sendable {
    public var node = NodeID(0)
    /// Changes with every life of amfd.
    public var incarnation: UInt64 = 0
    /// Where in the passed life-lock page the component's lock lies, in octets.
    public var lifeLockOffset: UInt32 = 0
    public init() {}
    public init(node: NodeID, incarnation: UInt64, lifeLockOffset: UInt32) {
        (self.node, self.incarnation, self.lifeLockOffset) = (node, incarnation, lifeLockOffset)
    }
}

/// Which CSIs a CSISet or CSIRemove is about. SaAmfCSIFlagsT.
public enum CSIFlags: UInt8, Hashable, Sendable, CaseIterable {
    /// A new assignment; `csi` and `attributes` are valid.
    case addOne = 1
    /// A change of one that the component holds.
    case targetOne = 2
    /// Every CSI that the component holds; `csi` is nil.
    case targetAll = 4
}

public struct CSIDescriptor: Hashable, Sendable {
    public var flags: CSIFlags = .addOne
    /// Nil only for ``CSIFlags/targetAll``.
    public var csi: SaName?
    public var attributes: [CSIAttribute] = []
    /// With an active assignment: what became of the former active.
    public var transition: TransitionDescriptor = .newAssign
    /// With active: the former active component; with standby: the present one.
    public var activeComponent: SaName?
    /// With standby: the lowest takes over first.
    public var standbyRank: UInt32 = 0
    public init() {}
    public init(_ flags: CSIFlags, csi: SaName?) { (self.flags, self.csi) = (flags, csi) }
}

/// What amfd asks of a component: pushes on the connection of its registration.
public enum AmfPush: Hashable, Sendable {
    case csiSet(InvocationID, component: SaName, HAState, CSIDescriptor)
    /// `csi` nil: all of them.
    case csiRemove(InvocationID, component: SaName, csi: SaName?)
    case terminate(InvocationID, component: SaName)
    case healthcheck(InvocationID, component: SaName, key: String)

    public var invocation: InvocationID {
        switch self {
        case .csiSet(let invocation, _, _, _), .csiRemove(let invocation, _, _), .terminate(let invocation, _),
            .healthcheck(let invocation, _, _):
            invocation
        }
    }
}

extension SaName {
    /// "?": stands where no name has been decoded yet.
    public static let none = SaName([UInt8(ascii: "?")])!  // one octet is legal
}
