import Containers
import EngineKit
import EventProtocol
import SAFTypes

/// A connected client, as the shell numbers them; never reused.
public struct ClientID: Hashable, Comparable, Sendable {
    public var rawValue: UInt64
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }
    public static func < (left: ClientID, right: ClientID) -> Bool { left.rawValue < right.rawValue }
}

/// A refusal with the words for people.
public struct EventFailure: Error, Hashable, Sendable {
    public var code: AisError
    public var text: String
    public init(_ code: AisError, _ text: String) {
        self.code = code
        self.text = text
    }
}

/// Decides who gets which event on this node; performs nothing. Source: SAI-AIS-EVT-B.01.01, B.03.01.
public struct EventEngine: Engine, Sendable {
    public enum Event: Equatable, Sendable {
        /// `wall`: the time of day, ns since 1970, which an event is stamped with.
        case request(EventRequest, client: ClientID, ticket: UInt64, wall: SaTime)
        /// The connection ended: everything the client had open is closed.
        case clientLeft(ClientID)
        /// The client had no room for this delivery; it comes again.
        case refused(EventDelivery, client: ClientID)
        /// The client has room again.
        case writable(ClientID)
        /// The instant of the last ``Effect/setTimer(_:)`` has come.
        case timer
    }

    public enum Effect: Equatable, Sendable {
        case reply(ticket: UInt64, Result<EventReply, EventFailure>)
        case deliver(EventDelivery, to: ClientID)
        /// Keep the record, so that a restart finds it; replaces the one with the same key.
        case keep(RecordKey, Record)
        case forget(RecordKey)
        /// The one timer; nil cancels it.
        case setTimer(Instant?)
    }

    let limits: Limits
    /// Channels that can be opened, by name.
    var names: [SaName: ChannelID] = [:]
    var channels = OrderedMap<ChannelID, Channel>()
    var clients = OrderedMap<ClientID, Client>()
    var nextChannel: UInt64 = 1
    var nextEvent: EventID
    var retainedCount = 0
    var timer: Instant?

    /// - Parameter firstEventID: later than every id given before, so that ids stay unique across restarts.
    public init(firstEventID: EventID, limits: Limits = Limits()) {
        nextEvent = max(firstEventID, EventIDs.reservedMax + 1)
        self.limits = limits
    }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        defer { checkInvariants() }
        var effects = expire(at: now)
        switch event {
        case .request(let request, let client, let ticket, let wall):
            effects += answer(request, from: client, ticket: ticket, wall: wall, at: now)
        case .clientLeft(let client): effects += leave(client)
        case .refused(let delivery, let client): clients[client]?.putBack(delivery)
        case .writable(let client):
            clients[client]?.isBlocked = false
            effects += drain(client)
        case .timer: timer = nil
        }
        return effects + updateTimer()
    }

    private mutating func answer(
        _ request: EventRequest, from client: ClientID, ticket: UInt64, wall: SaTime, at now: Instant
    ) -> [Effect] {
        var effects: [Effect] = []
        do throws(EventFailure) {
            let reply: EventReply
            switch request {
            case .open(let instance, let flags, let name):
                reply = try open(name, instance: instance, flags: flags, client: client, &effects)
            case .close(let instance): reply = try close(instance, client: client, &effects)
            case .unlink(let name): reply = try unlink(name, &effects)
            case .publish(let instance, let event):
                let id = try channel(of: instance, client, needs: .publisher)
                reply = try publish(event, on: id, wall: wall, at: now, &effects)
            case .publishNamed(let name, let event):
                let id = try find(name, creating: true, &effects)
                reply = try publish(event, on: id, wall: wall, at: now, &effects)
            case .subscribe(let instance, let subscription, let filters):
                reply = try subscribe(
                    client, instance, Subscription(id: subscription, filters: filters), wall: wall, &effects)
            case .unsubscribe(let instance, let subscription):
                reply = try unsubscribe(client, instance, subscription)
            case .clearRetention(let instance, let event): reply = try clearRetention(client, instance, event, &effects)
            case .listChannels: reply = .channels(channelList)
            }
            // What was kept comes first, the caller's answer next, then what others receive.
            let (kept, rest) = (effects.filter(\.isBookkeeping), effects.filter { !$0.isBookkeeping })
            return kept + [.reply(ticket: ticket, .success(reply))] + rest
        } catch {
            return effects + [.reply(ticket: ticket, .failure(error))]
        }
    }

    func checkInvariants() {
        invariant(names.count <= channels.count, "a name without a channel")
        invariant(retainedCount >= 0 && retainedCount <= limits.retainedMax, "\(retainedCount) events retained")
    }
}

extension EventEngine {
    public struct Limits: Sendable {
        public var channelsMax = EventLimits.channelsMax
        public var instancesMax = EventLimits.instancesMax
        public var subscriptionsMax = EventLimits.subscriptionsMax
        public var queueMax = EventLimits.queueMax
        public var queueBytesMax = EventLimits.queueBytesMax
        public var retainedMax = EventLimits.retainedMax
        public init() {}
    }

    public enum EventReply: Hashable, Sendable {
        case done
        case published(EventID)
        case channels(ChannelList)
    }

    struct ChannelID: Hashable, Comparable, Sendable {
        var rawValue: UInt64
        static func < (left: ChannelID, right: ChannelID) -> Bool { left.rawValue < right.rawValue }
    }

    struct InstanceID: Hashable, Sendable {
        var client: ClientID
        var number: UInt32
    }

    struct Channel: Sendable {
        var name: SaName
        var isUnlinked = false
        /// In the order they were opened, which is the order of delivery.
        var instances: [InstanceID] = []
        var retained: [Retained] = []
        var published: UInt64 = 0
        var dropped: UInt64 = 0
    }

    struct Retained: Sendable {
        var event: EventMessage
        var until: Instant
    }

    struct Subscription: Hashable, Sendable {
        var id: UInt32
        var filters: [EventFilter]
    }

    struct Instance: Sendable {
        var channel: ChannelID
        var flags: ChannelOpenFlags
        /// In the order they were made; an event goes to the first that matches.
        var subscriptions: [Subscription] = []
        var queue: DeliveryQueue
    }

    struct Client: Sendable {
        var instances = OrderedMap<UInt32, Instance>()
        /// It had no room; nothing is sent until it says that it has.
        var isBlocked = false

        mutating func putBack(_ delivery: EventDelivery) {
            isBlocked = true
            instances[delivery.instance]?.queue.putBack(delivery)
        }
    }
}

extension EventEngine.Effect {
    var isBookkeeping: Bool {
        switch self {
        case .keep, .forget: true
        case .reply, .deliver, .setTimer: false
        }
    }
}
