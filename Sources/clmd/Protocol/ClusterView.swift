public import SAFTypes

/// The membership as one numbered view, or what changed with it, or what is about to change.
/// Source: SaClmClusterNotificationBufferT, SaClmClusterTrackCallbackT_4.
///
/// viewNumber u64 · members u32 · local member u8 · step u8 · invocation u64 · root cause u32 (0: none) · time
/// supervision ns i64 · notifications.
public struct ClusterView: Hashable, Sendable {
    public static let nodesMax = 4_096

    /// Grows with every transition, also across restarts of the whole cluster; the same on every node.
    public var viewNumber: UInt64
    /// How many nodes are members, also when `notifications` lists fewer or more.
    public var memberCount: UInt32
    /// Whether the node that says this is a member now: in the quorate part of the cluster, synchronised, not locked.
    /// While it is not, the view is the last it knows, and B.04 callers are told UNAVAILABLE.
    public var isLocalMember: Bool
    public var step: ChangeStep
    /// To be answered with a ``ChangeResponse``; 0: nothing to answer.
    public var invocation: UInt64
    /// The node that an operation named, if one caused this.
    public var rootCause: NodeID?
    /// How long the answer is waited for, in nanoseconds; 0: without limit, or nothing is waited for.
    public var timeSupervision: SaTime
    public var notifications: [ClusterNotification]

    public init(
        viewNumber: UInt64, memberCount: UInt32, notifications: [ClusterNotification], isLocalMember: Bool = true,
        step: ChangeStep = .completed, invocation: UInt64 = 0, rootCause: NodeID? = nil,
        timeSupervision: SaTime = 0
    ) {
        self.viewNumber = viewNumber
        self.memberCount = memberCount
        self.isLocalMember = isLocalMember
        self.step = step
        self.invocation = invocation
        self.rootCause = rootCause
        self.timeSupervision = timeSupervision
        self.notifications = notifications
    }
}

extension ClusterView: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(viewNumber)
        writer.integer(memberCount)
        writer.bool(isLocalMember)
        writer.integer(step.rawValue)
        writer.integer(invocation)
        writer.integer(rootCause?.rawValue ?? 0)
        writer.integer(timeSupervision)
        writer.list(notifications)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        viewNumber = try reader.integer()
        memberCount = try reader.integer()
        isLocalMember = try reader.bool()
        step = try ChangeStep.decode(from: &reader)
        invocation = try reader.integer()
        let cause: UInt32 = try reader.integer()
        rootCause = cause == 0 ? nil : NodeID(cause)
        timeSupervision = try reader.integer()
        notifications = try reader.list(max: Self.nodesMax)
    }
}

/// How far a change of the membership is. Source: SaClmChangeStepT.
public enum ChangeStep: UInt8, Hashable, Sendable, CaseIterable {
    /// May it happen? A tracker may reject it.
    case validate = 1
    /// It is going to happen: trackers finish what they must, and say so.
    case start
    /// A validated change does not happen.
    case aborted
    case completed
}

/// A tracker's answer to VALIDATE or START: invocation u64 · answer u8. Source: saClmResponse_4().
public struct ChangeResponse: Hashable, Sendable, WireCodable {
    /// Source: SaClmResponseT.
    public enum Answer: UInt8, Hashable, Sendable, CaseIterable {
        case ok = 1
        /// Of a VALIDATE only: the change is aborted. Counts as `ok` for a START.
        case rejected
        case error
    }
    public var invocation: UInt64
    public var answer: Answer

    public init(invocation: UInt64, answer: Answer) {
        self.invocation = invocation
        self.answer = answer
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(invocation)
        writer.integer(answer.rawValue)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        invocation = try reader.integer()
        answer = try Answer.decode(from: &reader)
    }
}

/// What an administrator does with a node: node u32 · operation u8. Source: SaClmAdminOperationIdT.
public struct NodeAdministration: Hashable, Sendable, WireCodable {
    public enum Operation: UInt8, Hashable, Sendable, CaseIterable {
        /// A member again, if it is there.
        case unlock = 1
        /// No member any more, when the START trackers have answered or their time is over.
        case lock
        /// As `lock`, but VALIDATE trackers may reject it, and nobody is hurried.
        case shutdown
    }
    public var node: NodeID
    public var operation: Operation

    public init(node: NodeID, operation: Operation) {
        self.node = node
        self.operation = operation
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.integer(operation.rawValue)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        operation = try Operation.decode(from: &reader)
    }
}

/// Which transitions a tracker hears. Source: SA_TRACK_CURRENT and its sisters, saAis.h.
public struct TrackFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// The present view at once; alone it starts no tracking.
    public static let current = TrackFlags(rawValue: 1)
    /// Every transition, with all nodes.
    public static let changes = TrackFlags(rawValue: 2)
    /// Every transition, with the changed nodes only.
    public static let changesOnly = TrackFlags(rawValue: 4)
    /// Of this node only.
    public static let local = TrackFlags(rawValue: 8)
    /// Also the START of a change, to be answered.
    public static let startStep = TrackFlags(rawValue: 0x10)
    /// Also the question whether a change may happen, to be answered.
    public static let validateStep = TrackFlags(rawValue: 0x20)

    /// False without CURRENT, CHANGES and CHANGES_ONLY, for unknown bits, and for the last two together.
    public var isValid: Bool {
        rawValue & 7 != 0 && rawValue <= 0x3F && !isSuperset(of: [.changes, .changesOnly])
    }
}

extension TrackFlags: WireCodable {
    public func encode(to writer: inout ByteWriter) { writer.integer(rawValue) }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        rawValue = try reader.integer()
        guard isValid else { throw .badValue("track flags \(rawValue); CURRENT, CHANGES or CHANGES_ONLY expected") }
    }
}
