public import ClmProtocol
public import EngineKit
public import SAFTypes

/// What clmd decides on its node: who is told what about names and membership, and what the cluster is told of this
/// node. Spec: SAI-AIS-CLM-B.01.01 and B.04.01.
///
/// What is the same everywhere is decided by the replicated ``ClusterTable``: this engine proposes commands to it and
/// is handed what they did. What the group takes no proposal for, it proposes again when it compares what should be
/// with what is.
public struct ClmEngine: Engine, Sendable {
    public typealias RequestID = UInt64

    public enum Request: Hashable, Sendable {
        case bind(NameBinding)
        case withdraw(NameBinding)
        case lookup(LookupRequest)
        case subscribe(SubscribeRequest)
        case unsubscribe(UInt32)
        case track(TrackFlags)
        case trackStop
        case nodeGet(NodeID)
        case respond(ChangeResponse)
        case administer(NodeAdministration)
    }

    /// How this node stands in clmd's group.
    public struct Standing: Hashable, Sendable {
        public enum Quorum: Hashable, Sendable {
            /// In no quorate view.
            case none
            /// In one that is being formed or that has not given its state yet.
            case forming
            case synchronised
        }
        public var quorum: Quorum
        /// Speaks for all about those who are gone.
        public var isOldest: Bool
        /// Nodes whose clmd is in the group.
        public var members: [NodeID]
        /// Nodes that are connected, with or without clmd.
        public var present: [NodeID]

        public init(
            quorum: Quorum = .none, isOldest: Bool = false, members: [NodeID] = [], present: [NodeID] = []
        ) {
            self.quorum = quorum
            self.isOldest = isOldest
            self.members = members
            self.present = present
        }
    }

    public enum Event: Hashable, Sendable {
        case request(RequestID, Request, from: ClientSession)
        case disconnected(ClientSession)
        /// The cluster's table did this, for the proposal of this request when it is one of ours.
        case table(ClusterTable.Outcome, RequestID?)
        /// A proposal for a request is done (nil) or was refused.
        case answered(RequestID, AisError?)
        /// A proposal of ours that nobody waits for was refused.
        case refused
        case standing(Standing)
        /// The cluster's table is another as a whole.
        case replaced(ClusterTable)
        /// Asked for by ``Effect/compare(after:)``.
        case compared(ClusterTable)
        /// Frames to this client were dropped since it was last told: it must start over.
        case overflowed(ClientSession)
        case settlingTimeOver
        /// The node takes its leave of the cluster.
        case leaving
    }

    public enum Reply: Hashable, Sendable {
        case done
        case lookup(LookupReply)
        case view(ClusterView)
        case node(ClusterNode)
        case failed(AisError, String)
    }

    public enum Effect: Hashable, Sendable {
        case propose(ClusterTable.Command, answering: RequestID?)
        case reply(RequestID, Reply)
        case pushTopology(TopologyNotice, to: ClientSession)
        case pushView(ClusterView, to: ClientSession)
        case startSettlingTimer(Duration)
        /// Hand over the table, after this time at the latest.
        case compare(after: Duration)
        /// Keep the number for the next life of the node.
        case keep(viewNumber: UInt64)
    }

    public struct Limits: Hashable, Sendable {
        public var subscriptionsPerSessionMax: Int
        public var bindingsPerSessionMax: Int
        public var trackersMax: Int
        /// How long a client of the previous clmd has to bind again before its bindings are withdrawn.
        public var settlingTime: Duration
        /// How long a node that is connected may be without clmd before it counts as gone.
        public var restartTime: Duration
        /// When to propose again what was refused.
        public var retryTime: Duration
        /// What trackers are told of a lock; the table's.
        public var lockSupervision: Duration

        public init(
            subscriptionsPerSessionMax: Int = 256, bindingsPerSessionMax: Int = 1_024, trackersMax: Int = 4_096,
            settlingTime: Duration = .seconds(3), restartTime: Duration = .seconds(5),
            retryTime: Duration = .milliseconds(200), lockSupervision: Duration = .seconds(10)
        ) {
            self.subscriptionsPerSessionMax = subscriptionsPerSessionMax
            self.bindingsPerSessionMax = bindingsPerSessionMax
            self.trackersMax = trackersMax
            self.settlingTime = settlingTime
            self.restartTime = restartTime
            self.retryTime = retryTime
            self.lockSupervision = lockSupervision
        }
    }

    let limits: Limits
    public let localNode: NodeID
    let me: NodeRecord
    /// The greatest view number that this node has told anybody, or knows of an earlier life.
    var viewFloor: UInt64
    var standing = Standing()
    /// From the loss of quorum until synchronised again.
    var isCutOff = true
    var isLeaving = false
    var wasLocalMember = false

    // Names.
    var names = NameIndex()
    /// What the sessions of this node want to have bound.
    var owned: [ClientSession: Set<NameBinding>] = [:]
    var subscriptions: [ClientSession: [UInt32: ServiceRange]] = [:]
    /// Requests that got their answer before their proposal is done.
    var answeredEarly: Set<RequestID> = []
    /// Sessions of an earlier life that have not been heard of yet; nil when that no longer matters.
    var unconfirmed: Set<ClientSession>?
    /// Sessions that have been heard of in this life, until it is settled.
    var seen: Set<ClientSession> = []

    // Membership.
    public internal(set) var members: [NodeID: ClusterNode] = [:]
    public internal(set) var viewNumber: UInt64
    var trackers: [ClientSession: TrackFlags] = [:]
    var steps = ChangeSteps()
    /// Nodes that are connected and have no clmd, and since when.
    var missingSince: [NodeID: Instant] = [:]

    /// - Parameters:
    ///   - me: what this node says of itself.
    ///   - viewFloor: the last view number this node knows of an earlier life.
    ///   - restored: the table of the previous life of this clmd; empty at the first start.
    public init(
        me: NodeRecord, viewFloor: UInt64, restored: ClusterTable = ClusterTable(), limits: Limits = Limits()
    ) {
        self.me = me
        self.viewFloor = max(viewFloor, restored.viewNumber)
        self.limits = limits
        localNode = me.node.nodeID
        viewNumber = restored.viewNumber
        for member in restored.members { members[member.nodeID] = member }
        for entry in restored.names.entries { names.insert(entry.binding) }
        unconfirmed = []
        adopt(restored.names)
    }

    /// What to do first: clients of the previous life get time to come back before they count as gone.
    public func start() -> [Effect] { isSettled ? [] : [.startSettlingTimer(limits.settlingTime)] }

    public var isSettled: Bool { unconfirmed == nil }

    /// Every binding this node may see, sorted.
    public var visibleBindings: [NameBinding] { names.all.filter { NameIndex.isVisible($0, from: localNode) } }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        let effects = decide(event, at: now)
        return wasLocalMember == isLocalMember ? effects : effects + tellOwnMembership()
    }

    private mutating func decide(_ event: Event, at now: Instant) -> [Effect] {
        switch event {
        case .request(let id, let request, let session): return answer(id, request, from: session)
        case .disconnected(let session): return disconnected(session)
        case .table(let outcome, let request): return changed(outcome, for: request)
        case .answered(let request, let error): return answered(request, error)
        case .refused: return [.compare(after: limits.retryTime)]
        case .standing(let standing): return stand(standing)
        case .replaced(let table): return replace(with: table)
        case .compared(let table): return compare(with: table, at: now)
        case .overflowed(let session):
            return (subscriptions[session] ?? [:]).keys.sorted().map {
                .pushTopology(TopologyNotice(subscription: $0, change: .lost), to: session)
            }
        case .settlingTimeOver: return settle()
        case .leaving:
            isLeaving = true
            return [.propose(.nodeLeft(localNode, incarnation: me.incarnation), answering: nil)]
        }
    }

    private mutating func answer(_ id: RequestID, _ request: Request, from session: ClientSession) -> [Effect] {
        confirm(session)
        switch request {
        case .bind(let binding): return bind(id, binding, from: session)
        case .withdraw(let binding):
            owned[session]?.remove(binding)
            return [.propose(.names(.withdraw(binding, by: session)), answering: id)]
        case .lookup(let lookup): return [.reply(id, self.lookup(lookup))]
        case .subscribe(let request): return subscribe(id, request, from: session)
        case .unsubscribe(let number):
            subscriptions[session]?[number] = nil
            if subscriptions[session]?.isEmpty == true { subscriptions[session] = nil }
            return [.reply(id, .done)]
        case .track(let flags): return track(id, flags, from: session)
        case .trackStop:
            let wasTracking = trackers.removeValue(forKey: session) != nil
            return [.reply(id, wasTracking ? .done : .failed(.notExist, "track stop: nothing is tracked"))]
                + forgetSteps(of: session)
        case .nodeGet(let asked):
            let node = asked == ClmConstants.localNode ? localNode : asked
            if node == localNode, members[node] == nil { return [.reply(id, .node(outsider))] }
            guard let member = members[node] else {
                return [.reply(id, .failed(.notExist, "node \(node) is not a member of the cluster"))]
            }
            return [.reply(id, .node(member))]
        case .respond(let response): return respond(id, response, from: session)
        case .administer(let administration):
            steps.propose(id)
            return [.propose(.administer(administration), answering: id)]
        }
    }

    /// This node while it is no member.
    private var outsider: ClusterNode {
        var node = me.node
        node.isMember = false
        return node
    }

    private mutating func answered(_ request: RequestID, _ error: AisError?) -> [Effect] {
        if answeredEarly.remove(request) != nil { return [] }
        if steps.isProposed(request) {
            if let error {
                _ = steps.forget(request)
                return [.reply(request, .failed(error, "the cluster takes no changes now"))]
            }
            return steps.done(request) ? [.reply(request, Self.unknownOutcome)] : []  // answered when it is completed
        }
        return [.reply(request, error.map { .failed($0, "the name table takes no changes now") } ?? .done)]
    }

    private mutating func confirm(_ session: ClientSession) {
        guard unconfirmed != nil else { return }
        unconfirmed?.remove(session)
        seen.insert(session)
    }

    private mutating func disconnected(_ session: ClientSession) -> [Effect] {
        subscriptions[session] = nil
        trackers[session] = nil
        confirm(session)
        owned[session] = nil
        return [.propose(.names(.sessionLeft(session)), answering: nil)] + forgetSteps(of: session)
    }

    static let unknownOutcome = Reply.failed(
        .timeout, "the outcome is not known: this node was away meanwhile")

    private mutating func changed(_ outcome: ClusterTable.Outcome, for request: RequestID?) -> [Effect] {
        let request = request.flatMap { steps.told($0) }
        switch outcome {
        case .names(let outcome): return changed(outcome, for: request)
        case .transition(let transition): return change(by: transition, for: request)
        case .step(let change): return ask(about: change, for: request)
        case .aborted(let change): return abort(change)
        case .refused(let administration, let error):
            guard let request else { return [] }
            close(request)
            let text = "\(administration.operation) node \(administration.node): \(Self.reason(error))"
            return [.reply(request, .failed(error, text))]
        case .forgotten(let node): return node == localNode && !isLeaving ? [.compare(after: .zero)] : []
        case .supervise, .superviseNoMore: return []  // kept by the group
        }
    }

    private static func reason(_ error: AisError) -> String {
        switch error {
        case .notExist: "the cluster has no such node"
        case .noOp: "it is so already"
        case .tryAgain: "another change is under way"
        default: "\(error)"
        }
    }
}
