public import ClmProtocol
public import EngineKit
public import SAFTypes

/// What clmd decides on its node: who is told what about names and membership. Spec: SAI-AIS-CLM-B.01.01.
///
/// Names are decided by the replicated ``NameTable``: this engine proposes commands to it and is handed what they did.
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
    }

    public enum Event: Hashable, Sendable {
        case request(RequestID, Request, from: ClientSession)
        case disconnected(ClientSession)
        /// The name table did this, for the proposal of this request when it is one of ours.
        case names(NameTable.Outcome, RequestID?)
        /// A proposal of ours is done (nil) or was refused.
        case answered(RequestID, AisError?)
        /// Frames to this client were dropped since it was last told: it must start over.
        case overflowed(ClientSession)
        case settlingTimeOver
        case membershipChanged([ClusterNotification], viewNumber: UInt64)
    }

    public enum Reply: Hashable, Sendable {
        case done
        case lookup(LookupReply)
        case view(ClusterView)
        case node(ClusterNode)
        case failed(AisError, String)
    }

    public enum Effect: Hashable, Sendable {
        case propose(NameTable.Command, answering: RequestID?)
        case reply(RequestID, Reply)
        case pushTopology(TopologyNotice, to: ClientSession)
        case pushView(ClusterView, to: ClientSession)
        case startSettlingTimer(Duration)
    }

    public struct Limits: Hashable, Sendable {
        public var subscriptionsPerSessionMax: Int
        public var trackersMax: Int
        /// How long a client of the previous clmd has to bind again before its bindings are withdrawn.
        public var settlingTime: Duration

        public init(
            subscriptionsPerSessionMax: Int = 256, trackersMax: Int = 4_096, settlingTime: Duration = .seconds(3)
        ) {
            self.subscriptionsPerSessionMax = subscriptionsPerSessionMax
            self.trackersMax = trackersMax
            self.settlingTime = settlingTime
        }
    }

    let limits: Limits
    public let localNode: NodeID
    private var names = NameIndex()
    public private(set) var members: [NodeID: ClusterNode]
    public private(set) var viewNumber: UInt64
    private var subscriptions: [ClientSession: [UInt32: ServiceRange]] = [:]
    private var trackers: [ClientSession: TrackFlags] = [:]
    /// Requests that got their answer when their proposal was refused, and whose proposal is not done yet.
    private var refused: Set<RequestID> = []
    /// Sessions of an earlier life that have not been heard of yet; nil when that no longer matters.
    private var unconfirmed: Set<ClientSession>?

    /// - Parameter restored: the name table of the previous life of this clmd; empty at the first start.
    public init(
        local: ClusterNode, viewNumber: UInt64, restored: NameTable = NameTable(), limits: Limits = Limits()
    ) {
        localNode = local.nodeID
        members = [local.nodeID: local]
        self.viewNumber = viewNumber
        self.limits = limits
        for entry in restored.entries { names.insert(entry.binding) }
        unconfirmed = Set(restored.sessions.filter { $0.node == local.nodeID })
    }

    /// What to do first: clients of the previous life get time to come back before they count as gone.
    public func start() -> [Effect] { isSettled ? [] : [.startSettlingTimer(limits.settlingTime)] }

    public var isSettled: Bool { unconfirmed == nil }

    /// Every binding this node may see, sorted.
    public var visibleBindings: [NameBinding] { names.all.filter { NameIndex.isVisible($0, from: localNode) } }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        switch event {
        case .request(let id, let request, let session): return answer(id, request, from: session)
        case .disconnected(let session): return disconnected(session)
        case .names(let outcome, let request): return changed(outcome, for: request)
        case .answered(let request, let error):
            if refused.remove(request) != nil { return [] }
            return [.reply(request, error.map { .failed($0, "the name table is not available now") } ?? .done)]
        case .overflowed(let session):
            return (subscriptions[session] ?? [:]).keys.sorted().map {
                .pushTopology(TopologyNotice(subscription: $0, change: .lost), to: session)
            }
        case .settlingTimeOver: return settle()
        case .membershipChanged(let changes, let view): return changeMembership(changes, to: view)
        }
    }

    private mutating func answer(_ id: RequestID, _ request: Request, from session: ClientSession) -> [Effect] {
        unconfirmed?.remove(session)
        switch request {
        case .bind(let binding):
            guard binding.address.node == localNode else {
                return [
                    .reply(id, .failed(.invalidParam, "bind: \(binding.address) is not on this node (\(localNode))"))
                ]
            }
            guard binding.range.type >= ServiceRange.reservedTypes else {
                let text =
                    "bind: service type \(binding.range.type) is reserved; "
                    + "applications use \(ServiceRange.reservedTypes) and above"
                return [.reply(id, .failed(.invalidParam, text))]
            }
            return [.propose(.bind(binding, by: session), answering: id)]
        case .withdraw(let binding): return [.propose(.withdraw(binding, by: session), answering: id)]
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
        case .nodeGet(let asked):
            let node = asked == ClmConstants.localNode ? localNode : asked
            guard let member = members[node] else {
                return [.reply(id, .failed(.notExist, "node \(node) is not a member of the cluster"))]
            }
            return [.reply(id, .node(member))]
        }
    }

    private mutating func disconnected(_ session: ClientSession) -> [Effect] {
        subscriptions[session] = nil
        trackers[session] = nil
        unconfirmed?.remove(session)
        return [.propose(.sessionLeft(session), answering: nil)]
    }
}

// Names.
extension ClmEngine {
    private func lookup(_ request: LookupRequest) -> Reply {
        let addresses = names.lookup(type: request.type, instance: request.instance, from: localNode)
        if !addresses.isEmpty { return .lookup(LookupReply(addresses: addresses)) }
        if !isSettled {
            return .failed(.tryAgain, "service \(request.type):\(request.instance): clmd has just been restarted")
        }
        return .failed(.notExist, "service \(request.type):\(request.instance): nobody is bound to it")
    }

    private mutating func subscribe(
        _ id: RequestID, _ request: SubscribeRequest, from session: ClientSession
    ) -> [Effect] {
        var mine = subscriptions[session] ?? [:]
        mine[request.subscription] = request.range
        guard mine.count <= limits.subscriptionsPerSessionMax else {
            let text = "subscribe: at most \(limits.subscriptionsPerSessionMax) topology subscriptions of one process"
            return [.reply(id, .failed(.noResources, text))]
        }
        subscriptions[session] = mine
        var effects: [Effect] = [.reply(id, .done)]
        for binding in names.bindings(overlapping: request.range, from: localNode) {
            let notice = TopologyNotice(subscription: request.subscription, change: .published(binding))
            effects.append(.pushTopology(notice, to: session))
        }
        if isSettled {
            effects.append(
                .pushTopology(TopologyNotice(subscription: request.subscription, change: .settled), to: session))
        }
        return effects
    }

    private mutating func changed(_ outcome: NameTable.Outcome, for request: RequestID?) -> [Effect] {
        switch outcome {
        case .refused(let binding, _, let error):
            guard let request else { return [] }
            refused.insert(request)
            return [.reply(request, .failed(error, "bind \(binding.range): the name table is full"))]
        case .published(let binding):
            names.insert(binding)
            return tell(.published(binding), about: binding)
        case .withdrawn(let binding):
            names.remove(binding)
            return tell(.withdrawn(binding), about: binding)
        }
    }

    private func tell(_ change: TopologyNotice.Change, about binding: NameBinding) -> [Effect] {
        guard NameIndex.isVisible(binding, from: localNode) else { return [] }
        var effects: [Effect] = []
        for session in subscriptions.keys.sorted() {
            let mine = subscriptions[session] ?? [:]
            for number in mine.keys.sorted() where mine[number]?.overlaps(binding.range) == true {
                effects.append(.pushTopology(TopologyNotice(subscription: number, change: change), to: session))
            }
        }
        return effects
    }

    private mutating func settle() -> [Effect] {
        guard let gone = unconfirmed else { return [] }
        unconfirmed = nil
        var effects: [Effect] = gone.sorted().map { .propose(.sessionLeft($0), answering: nil) }
        for session in subscriptions.keys.sorted() {
            for number in (subscriptions[session] ?? [:]).keys.sorted() {
                effects.append(.pushTopology(TopologyNotice(subscription: number, change: .settled), to: session))
            }
        }
        return effects
    }
}

// Membership.
extension ClmEngine {
    private mutating func track(_ id: RequestID, _ flags: TrackFlags, from session: ClientSession) -> [Effect] {
        guard flags.isValid else {
            return [.reply(id, .failed(.badFlags, "track: CURRENT, CHANGES or CHANGES_ONLY expected"))]
        }
        let lasting = flags.intersection([.changes, .changesOnly])
        if !lasting.isEmpty {
            guard trackers[session] != nil || trackers.count < limits.trackersMax else {
                return [.reply(id, .failed(.noResources, "track: at most \(limits.trackersMax) trackers"))]
            }
            trackers[session] = lasting
        }
        let all = flags.contains(.current) ? everybody(changed: []) : []
        return [.reply(id, .view(view(all)))]
    }

    private mutating func changeMembership(_ changes: [ClusterNotification], to view: UInt64) -> [Effect] {
        invariant(view > viewNumber, "a new view has a greater number")
        viewNumber = view
        var effects: [Effect] = []
        for change in changes {
            switch change.change {
            case .left:
                members[change.node.nodeID] = nil
                effects.append(.propose(.nodeLeft(change.node.nodeID), answering: nil))
            case .joined, .reconfigured, .noChange: members[change.node.nodeID] = change.node
            }
        }
        for session in trackers.keys.sorted() {
            let isWhole = trackers[session]?.contains(.changes) == true
            effects.append(.pushView(self.view(isWhole ? everybody(changed: changes) : changes), to: session))
        }
        return effects
    }

    private func view(_ notifications: [ClusterNotification]) -> ClusterView {
        ClusterView(viewNumber: viewNumber, memberCount: UInt32(members.count), notifications: notifications)
    }

    /// Every member, and those who have just left, with what happened to them.
    private func everybody(changed: [ClusterNotification]) -> [ClusterNotification] {
        let touched = Set(changed.map(\.node.nodeID))
        let untouched = members.values.filter { !touched.contains($0.nodeID) }
            .map { ClusterNotification(node: $0, change: .noChange) }
        return (untouched + changed).sorted { $0.node.nodeID < $1.node.nodeID }
    }
}
