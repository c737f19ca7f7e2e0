import Containers
import EngineKit
import EventProtocol
public import SAFTypes

/// One client for as long as its process lives, across its connections. high u64 · low u64.
public struct ClientSession: Hashable, Comparable, Sendable, WireCodable {
    public var high: UInt64
    public var low: UInt64

    public init(high: UInt64, low: UInt64) {
        self.high = high
        self.low = low
    }

    public static func < (left: ClientSession, right: ClientSession) -> Bool {
        (left.high, left.low) < (right.high, right.low)
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(high)
        writer.integer(low)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        high = try reader.integer()
        low = try reader.integer()
    }
}

/// A process that cannot be taken for a later one of the same number. pid u32 · start u64.
public struct ProcessIdentity: Hashable, Sendable, WireCodable {
    public var id: UInt32
    public var start: UInt64

    public init(id: UInt32, start: UInt64) {
        self.id = id
        self.start = start
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(id)
        writer.integer(start)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = try reader.integer()
        start = try reader.integer()
    }
}

/// Names one request for ever: a retransmission has the same. session · number u64.
public struct RequestKey: Hashable, Sendable, WireCodable {
    public var session: ClientSession
    public var number: UInt64

    public init(session: ClientSession, number: UInt64) {
        self.session = session
        self.number = number
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(session)
        writer.integer(number)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        session = try reader.value()
        number = try reader.integer()
    }
}

/// Who asked, and when. key · acknowledged u64 · wall i64.
public struct RequestOrigin: Hashable, Sendable, WireCodable {
    public var key: RequestKey
    /// The client wants no answer up to this number any more.
    public var acknowledged: UInt64
    /// The time of day, ns since 1970, which an event is stamped with.
    public var wall: SaTime

    public init(key: RequestKey, acknowledged: UInt64, wall: SaTime) {
        self.key = key
        self.acknowledged = acknowledged
        self.wall = wall
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(key)
        writer.integer(acknowledged)
        writer.integer(wall)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        key = try reader.value()
        acknowledged = try reader.integer()
        wall = try reader.integer()
    }
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

/// How the registry answered a proposal.
public enum RegistryAnswer: Hashable, Sendable {
    case done
    case opened(ChannelID)
    case refused(AisError, String)
}

/// One channel of the registry. id · channel.
public struct RegistryEntry: Hashable, Sendable, WireCodable {
    public var id: ChannelID
    public var channel: RegisteredChannel

    public init(id: ChannelID, channel: RegisteredChannel) {
        self.id = id
        self.channel = channel
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(id)
        writer.value(channel)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = try reader.value()
        channel = try reader.value()
    }
}

extension NodeEngine {
    public struct Limits: Hashable, Sendable {
        public var instancesMax = EventLimits.instancesMax
        public var subscriptionsMax = EventLimits.subscriptionsMax
        public var queueMax = EventLimits.queueMax
        public var queueBytesMax = EventLimits.queueBytesMax
        public var windowMax = EventLimits.windowMax
        public var windowBytesMax = EventLimits.windowBytesMax
        public var retainedMax = EventLimits.retainedMax
        public var retainedNamedMax = EventLimits.retainedNamedMax
        /// What waits for another node before the least important is dropped.
        public var forwardMax = EventLimits.forwardMax
        public var forwardBytesMax = EventLimits.forwardBytesMax
        /// What another node forwards of channels that this one is about to open.
        public var earlyMax = 1_024
        /// A node that is not in the group for so long has left the cluster.
        public var departureAfter = Duration.seconds(10)
        /// A subscribe waits so long for the other nodes to know of it.
        public var toldWithin = Duration.seconds(2)
        /// How long a living client that is not connected keeps what it has open.
        public var absenceMax = Duration.seconds(30)
        /// A delivery that nobody confirms is sent again after this, and then ever more rarely.
        public var probeFirst = Duration.seconds(1)
        public var probeMax = Duration.seconds(60)
        /// After the registry refused, what it must know is proposed again.
        public var retryAfter = Duration.milliseconds(500)
        public init() {}
    }

    struct InstanceID: Hashable, Sendable {
        var session: ClientSession
        var number: UInt32
    }

    struct Channel: Sendable {
        var record: RegisteredChannel
        /// In the order they were opened, which is the order of delivery.
        var instances: [InstanceID] = []
        var retained: [Retained] = []
        var published: UInt64 = 0
        /// Dropped for instances that are closed by now.
        var dropped: UInt64 = 0
        /// By which interest of this node the others forward, as they said.
        var told: OrderedMap<NodeID, UInt64> = [:]
        /// What was published here last and did not go to every node.
        var unheard = UnheardEvents()
        /// The id of the last event that came from elsewhere, by its node and priority.
        var latest: OrderedMap<UInt64, EventID> = [:]
        /// The cluster had taken this node for gone: its subscribers have missed something and were not told yet.
        var isCutOff = false
        /// They are told at the latest then.
        var cutOffUntil: Instant?
        /// What this life has proposed to the registry last; nil: nothing, so the record says what it knows.
        var proposed: Proposal?

        init(_ record: RegisteredChannel) { self.record = record }
    }

    enum Proposal: Hashable, Sendable { case declare(Interest), release }

    struct Retained: Hashable, Sendable {
        var event: EventMessage
        var until: Instant
    }

    struct Subscription: Hashable, Sendable {
        var id: UInt32
        var filters: [EventFilter]
    }

    /// A request that waits for the registry, and the channel it is about, if that was known.
    struct Pending: Hashable, Sendable {
        var request: EventRequest
        var origin: RequestOrigin
        var channel: ChannelID?
    }

    struct Client: Sendable {
        var process: ProcessIdentity
        var instances: OrderedMap<UInt32, Instance> = [:]
        /// Requests that were executed, and what they were answered, until the client needs it no more.
        var executed: OrderedMap<UInt64, UInt64> = [:]
        /// It is away, and everything is closed when it is not back by then.
        var absentUntil: Instant?
        /// It had no room; nothing is sent until it says that it has. Of this connection only.
        var isBlocked = false

        init(process: ProcessIdentity) { self.process = process }

        mutating func forgetExecuted(upTo number: UInt64) {
            while let first = executed.first, first.key <= number { executed.popFirst() }
        }
    }

    /// One opening of a channel. What waits goes through a window of deliveries that are on their way: they have
    /// numbers, stay until they are confirmed, and are never dropped.
    struct Instance: Sendable {
        var channel: ChannelID
        var flags: ChannelOpenFlags
        /// In the order they were made; an event goes to the first that matches.
        var subscriptions: [Subscription] = []
        /// Nodes that forward by all of them whose subscribe was answered; nil: none was.
        var heardBy: [NodeID]?
        var queue: DeliveryQueue
        var window: [EventDelivery] = []
        var windowBytes = 0
        var nextNumber: UInt64 = 1

        // Of this connection only.
        /// False until the client has said what it has; nothing is sent before.
        var isResumed = true
        var nextToSend: UInt64 = 1
        var probeAt: Instant?
        var probeDelay = Duration.zero
        /// The client was asked by a repeated delivery, when all before this number had been sent.
        var probedUpTo: UInt64?

        init(channel: ChannelID, flags: ChannelOpenFlags, limits: Limits) {
            self.channel = channel
            self.flags = flags
            queue = DeliveryQueue(countMax: limits.queueMax, bytesMax: limits.queueBytesMax)
        }

        func subscription(for event: EventMessage) -> Subscription? {
            subscriptions.first { $0.filters.match(event.patterns) }
        }

        /// Gives numbers to what waits, as far as there is room.
        mutating func fillWindow(_ limits: Limits) {
            // Numbers, not deliveries, so that the receiver has few of them beyond one that is overtaken for long.
            while window.isEmpty || windowBytes < limits.windowBytesMax,
                nextNumber - (window.first?.number ?? nextNumber) < UInt64(limits.windowMax),
                var next = queue.popFirst()
            {
                next.number = nextNumber
                nextNumber += 1
                windowBytes += next.cost
                window.append(next)
            }
        }

        mutating func removeFromWindow(where isGone: (EventDelivery) -> Bool) {
            window.removeAll(where: isGone)
            windowBytes = window.reduce(0) { $0 + $1.cost }
        }

        mutating func unsend(from number: UInt64) { nextToSend = min(nextToSend, number) }
    }
}
