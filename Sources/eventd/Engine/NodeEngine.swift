import Containers
public import EngineKit
public import EventProtocol
public import SAFTypes

/// Decides who on this node gets which event; performs nothing. Source: SAI-AIS-EVT-B.01.01, B.03.01.
///
/// The channels themselves are the ``ChannelRegistry``'s: this engine proposes to it and is told what it became. All it
/// decides follows from its events alone, so a life that replays the kept events (``Event/isKept``) of an earlier one
/// holds the same queues under the same numbers, and goes on where a kill ended that one.
public struct NodeEngine: Engine, Sendable {
    public enum Event: Hashable, Sendable {
        /// A client is there, or there again; then it says of each instance what it has (``EventRequest/resume(_:)``).
        case connected(ClientSession, ProcessIdentity)
        /// Dead: everything it had open is closed. Else it may come back within ``NodeEngine/Limits/absenceMax``.
        case disconnected(ClientSession, isDead: Bool)
        case request(EventRequest, RequestOrigin)
        /// The registry has a channel now (changed), or no more (nil).
        case registered(ChannelID, RegisteredChannel?)
        /// The registry has answered a proposal. 0: one that nobody waits for.
        case answered(ticket: UInt64, RegistryAnswer)
        /// Who is in the group, this node included; and whether this one speaks for all.
        case members([NodeID], isOldest: Bool)
        /// What another node's eventd says.
        case received(PeerMessage, from: NodeID)
        /// The way to another node stands, or is gone with what was on it.
        case link(NodeID, isUp: Bool)
        /// It had no room for this forward, nor for what followed.
        case linkRefused(NodeID, number: UInt64)
        case linkWritable(NodeID)
        /// All that the registry has, when this life begins. Every client is taken to be away; keep a snapshot
        /// afterwards.
        case registryReplaced([RegistryEntry], lineage: UInt32)
        /// All that the registry has, because it is another as a whole.
        case registryChanged([RegistryEntry], lineage: UInt32)
        /// The client had no room for this delivery, nor for what followed.
        case refused(ClientSession, instance: UInt32, number: UInt64)
        case writable(ClientSession)
        /// The instant of the last ``Effect/setTimer(_:)`` has come.
        case timer
    }

    public enum Effect: Hashable, Sendable {
        case reply(RequestKey, Result<Reply, EventFailure>)
        case deliver(EventDelivery, to: ClientSession)
        /// Ticket 0: only a refusal must be reported.
        case propose(ChannelRegistry.Command, ticket: UInt64)
        /// To another node's eventd.
        case send(PeerMessage, to: NodeID)
        /// The client shall come again and learn that a channel it has open has ended.
        case hangUp(ClientSession)
        /// The one timer; nil cancels it.
        case setTimer(Instant?)
    }

    public enum Reply: Hashable, Sendable {
        case done
        case published(EventID)
        case opened(ChannelID)
        case channels(ChannelList)
    }

    let node: NodeID
    let limits: Limits
    var lineage: UInt32 = 0
    var nextEvent: UInt64
    var nextTicket: UInt64 = 1
    var channels: OrderedMap<ChannelID, Channel> = [:]
    /// Channels that can be opened, by name.
    var names: [SaName: ChannelID] = [:]
    var clients: OrderedMap<ClientSession, Client> = [:]
    /// Requests that wait for the registry, by ticket.
    var pending: OrderedMap<UInt64, Pending> = [:]
    /// Other nodes that anything was forwarded to, or came from.
    var peers: OrderedMap<NodeID, PeerState> = [:]
    /// Names the next stream to another node. The upper half is random, and the same until the memory is lost.
    var nextStream: UInt64
    var early = EarlyForwards()
    /// In the group at present; empty: not told yet.
    var members: [NodeID] = []
    var isOldest = false
    /// Nodes that have something open and are not in the group: since when.
    var away: OrderedMap<NodeID, Instant> = [:]
    /// Nodes that were ever in the group with this one.
    var others: [NodeID] = []
    /// Those of them that are not in the group, or are back for a short time only: since when they may have missed what
    /// is subscribed or published.
    var doubts: OrderedMap<NodeID, Instant> = [:]
    /// Since when they are back; of this life only.
    var backSince: OrderedMap<NodeID, Instant> = [:]
    /// Subscribes that are answered later; those of an earlier life are answered when they come again.
    var awaited: [AwaitedSubscribe] = []
    /// The last time of day heard of.
    var lastWall = SaTime.saTimeUnknown
    var retainedCount = 0
    /// Not later than anything that time brings; the exact deadlines are with their owners.
    var wakeAt: Instant?
    var timer: Instant?
    var retryAt: Instant?
    /// What a registry of its own would be named; only used for the very first channel.
    let lineageProposal: UInt32

    /// - Parameters:
    ///   - firstEvent: counts this node's events, below 2^48; more than any life that lost its memory has given. A life
    ///     that restores another's snapshot goes on with its.
    ///   - lineage: a random number, for the registry that has none yet.
    public init(node: NodeID, firstEvent: UInt64, lineage: UInt32, limits: Limits = Limits()) {
        self.node = node
        self.limits = limits
        nextEvent = max(firstEvent & ((1 << 48) - 1), EventIDs.reservedMax + 1)
        lineageProposal = max(lineage, 1)
        nextStream = UInt64(lineage) << 32
    }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        defer { checkInvariants() }
        var effects: [Effect] = []
        if let wakeAt, wakeAt <= now { wake(at: now, &effects) }
        switch event {
        case .connected(let session, let process): connect(session, process)
        case .disconnected(let session, let isDead): disconnect(session, isDead: isDead, at: now, &effects)
        case .request(let request, let origin): answer(request, origin, at: now, &effects)
        case .registered(let id, let channel): register(id, channel, at: now, &effects)
        case .answered(let ticket, let answer): settle(ticket, answer, at: now, &effects)
        case .members(let members, let isOldest): change(members, isOldest: isOldest, at: now, &effects)
        case .received(let message, let node): receive(message, from: node, at: now, &effects)
        case .link(let node, let isUp): link(to: node, isUp: isUp, at: now, &effects)
        case .linkRefused(let node, let number): refusedForward(number, to: node)
        case .linkWritable(let node): linkIsWritable(node, at: now, &effects)
        case .registryReplaced(let entries, let lineage): replaceRegistry(entries, lineage, at: now, &effects)
        case .registryChanged(let entries, let lineage): changeRegistry(entries, lineage, at: now, &effects)
        case .refused(let session, let instance, let number):
            clients[session]?.isBlocked = true
            clients[session]?.instances[instance]?.unsend(from: number)
        case .writable(let session):
            clients[session]?.isBlocked = false
            sendAll(session, at: now, &effects)
        case .timer: timer = nil
        }
        if wakeAt != timer {
            timer = wakeAt
            effects.append(.setTimer(wakeAt))
        }
        return effects
    }

    private mutating func answer(
        _ request: EventRequest, _ origin: RequestOrigin, at now: Instant, _ effects: inout [Effect]
    ) {
        let session = origin.key.session
        lastWall = origin.wall
        clients[session]?.forgetExecuted(upTo: origin.acknowledged)
        if let executed = clients[session]?.executed[origin.key.number] {
            if case .open(let instance, _, _) = request { clients[session]?.instances[instance]?.isResumed = true }
            awaited.removeAll { $0.key == origin.key }
            if case .subscribe(let instance, _, _) = request,
                let waiting = awaitInterest(of: instance, origin, at: now)
            {
                awaited.append(waiting)
                return
            }
            if case .subscribe(let instance, _, _) = request { noteAnswered(session, instance) }
            effects.append(.reply(origin.key, .success(Self.reply(to: request, executed))))
            return
        }
        do throws(EventFailure) {
            guard let reply = try execute(request, origin, at: now, &effects) else { return }
            finish(request, origin, reply, &effects)
        } catch {
            effects.append(.reply(origin.key, .failure(error)))
        }
    }

    /// Remembers that the request was executed, and answers it before anybody else hears of it.
    mutating func finish(
        _ request: EventRequest, _ origin: RequestOrigin, _ reply: Reply, _ effects: inout [Effect]
    ) {
        if request.changesState { clients[origin.key.session]?.executed[origin.key.number] = reply.value }
        effects.insert(.reply(origin.key, .success(reply)), at: 0)
    }

    /// Nil: the answer comes later.
    private mutating func execute(
        _ request: EventRequest, _ origin: RequestOrigin, at now: Instant, _ effects: inout [Effect]
    ) throws(EventFailure) -> Reply? {
        let session = origin.key.session
        switch request {
        case .open(let instance, let flags, let name):
            return try open(name, instance, flags, request, origin, &effects)
        case .close(let instance): try close(instance, of: session, &effects)
        case .unlink(let name): return try unlink(name, request, origin, &effects)
        case .publish(let instance, let message):
            let id = try channel(of: instance, session, needs: .publisher)
            return .published(try publish(message, on: id, wall: origin.wall, at: now, &effects))
        case .publishNamed(let name, let message):
            guard let id = names[name] else {
                if let defect = message.defect { throw EventFailure(defect.error, defect.text) }
                propose(.open(name, creating: true, lineage: lineageProposal, by: node), request, origin, &effects)
                return nil
            }
            return .published(try publishNamed(message, on: id, wall: origin.wall, at: now, &effects))
        case .subscribe(let instance, let id, let filters):
            try subscribe(session, instance, Subscription(id: id, filters: filters), origin.wall, at: now, &effects)
            guard let waiting = awaitInterest(of: instance, origin, at: now) else {
                noteAnswered(session, instance)
                break
            }
            awaited.append(waiting)
            clients[session]?.executed[origin.key.number] = Reply.done.value
            return nil
        case .unsubscribe(let instance, let id): try unsubscribe(session, instance, id, &effects)
        case .clearRetention(let instance, let event):
            try clearRetention(session, instance, event, at: now, &effects)
        case .listChannels: return .channels(channelList)
        case .confirm(let instance, let numbers): try confirm(session, instance, numbers, at: now, &effects)
        case .resume(let resumed): return try resume(resumed, request, origin, at: now, &effects)
        case .keepOnly(let instances):
            for number in clients[session]?.instances.keys ?? [] where !instances.contains(number) {
                try close(number, of: session, &effects)
            }
        }
        return .done
    }

    private static func reply(to request: EventRequest, _ value: UInt64) -> Reply {
        switch request {
        case .publish, .publishNamed: .published(value)
        case .open, .resume: .opened(ChannelID(rawValue: value))
        case .close, .unlink, .subscribe, .unsubscribe, .clearRetention, .listChannels, .confirm, .keepOnly: .done
        }
    }

    func checkInvariants() {
        invariant(names.count <= channels.count, "a name without a channel")
        invariant(retainedCount >= 0 && retainedCount <= limits.retainedMax, "\(retainedCount) events retained")
    }
}

extension NodeEngine.Event {
    /// What the next life must replay; everything else follows from it or passes.
    public var isKept: Bool {
        switch self {
        case .request(let request, _): request != .listChannels
        case .connected, .disconnected, .registered, .registryChanged, .members, .received: true
        case .answered(let ticket, _): ticket != 0
        case .registryReplaced, .refused, .writable, .link, .linkRefused, .linkWritable, .timer: false
        }
    }
}

extension EventRequest {
    /// Must not be executed twice.
    var changesState: Bool {
        switch self {
        case .listChannels, .confirm, .resume, .keepOnly: false
        case .open, .close, .unlink, .publish, .subscribe, .unsubscribe, .clearRetention, .publishNamed: true
        }
    }
}

extension NodeEngine.Reply {
    var value: UInt64 {
        switch self {
        case .done, .channels: 0
        case .published(let id): id
        case .opened(let id): id.rawValue
        }
    }
}
