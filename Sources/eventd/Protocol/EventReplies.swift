import SAFTypes

/// eventd → client, one-way, code 101: an event for an open instance.
///
/// number u64 · instance u32 · subscription u32 · event.
public struct EventDelivery: Hashable, Sendable, WireCodable {
    public static let code: UInt16 = 101

    /// Counts what one instance is handed, from 1; the same again is the same delivery. 0: not on its way yet.
    public var number: UInt64
    public var instance: UInt32
    /// One of those that match; 0 for the lost-event mark.
    public var subscription: UInt32
    public var event: EventMessage

    public init(number: UInt64 = 0, instance: UInt32, subscription: UInt32, event: EventMessage) {
        self.number = number
        self.instance = instance
        self.subscription = subscription
        self.event = event
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(number)
        writer.integer(instance)
        writer.integer(subscription)
        writer.value(event)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        number = try reader.integer()
        instance = try reader.integer()
        subscription = try reader.integer()
        event = try reader.value()
    }
}

/// Which deliveries an instance has received: all up to a number, and some beyond it, because a more important one
/// overtakes.
///
/// upTo u64 · count u32 · beyond u64 each, ascending.
public struct ReceivedNumbers: Hashable, Sendable, WireCodable {
    public private(set) var upTo: UInt64 = 0
    public private(set) var beyond: [UInt64] = []

    public init() {}

    /// False when it had been received before.
    public mutating func insert(_ number: UInt64) -> Bool {
        guard number > upTo else { return false }
        let index = beyond.firstIndex { $0 >= number } ?? beyond.count
        if index < beyond.count, beyond[index] == number { return false }
        beyond.insert(number, at: index)
        while let first = beyond.first, first == upTo + 1 {
            upTo = first
            beyond.removeFirst()
        }
        return true
    }

    public func contains(_ number: UInt64) -> Bool { number <= upTo || beyond.contains(number) }

    /// The greatest number received; 0 when there was none.
    public var last: UInt64 { beyond.last ?? upTo }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(upTo)
        writer.integer(UInt32(beyond.count))
        for number in beyond { writer.integer(number) }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        upTo = try reader.integer()
        guard upTo < .max else { throw .badValue("delivery number \(upTo)") }
        let count = try reader.integer(UInt32.self)
        guard count <= EventLimits.windowMax else {
            throw .badValue("\(count) numbers; at most \(EventLimits.windowMax) expected")
        }
        var last = upTo
        for _ in 0..<count {
            let number = try reader.integer(UInt64.self)
            guard number > last, number < .max else { throw .badValue("delivery number \(number) after \(last)") }
            beyond.append(number)
            last = number
        }
    }
}

/// What a client says of an open instance when it is back. instance u32 · flags u8 · name · channel u64 · received ·
/// subscriptions.
public struct ResumedInstance: Hashable, Sendable, WireCodable {
    /// id u32 · isPending u8 · filters.
    public struct Subscription: Hashable, Sendable, WireCodable {
        public var id: UInt32
        /// Its subscribe was not answered yet, and comes again.
        public var isPending: Bool
        public var filters: [EventFilter]

        public init(id: UInt32, isPending: Bool, filters: [EventFilter]) {
            self.id = id
            self.isPending = isPending
            self.filters = filters
        }

        public func encode(to writer: inout ByteWriter) {
            writer.integer(id)
            writer.bool(isPending)
            writer.list(filters)
        }

        public init(decoding reader: inout ByteReader) throws(DecodeError) {
            id = try reader.integer()
            isPending = try reader.bool()
            filters = try reader.list(max: EventLimits.filtersMax)
        }
    }

    public var instance: UInt32
    public var flags: ChannelOpenFlags
    public var name: SaName
    /// The id that the open was answered with: the name may be another channel's by now.
    public var channel: UInt64
    public var received: ReceivedNumbers
    public var subscriptions: [Subscription]

    public init(
        instance: UInt32, flags: ChannelOpenFlags, name: SaName, channel: UInt64, received: ReceivedNumbers,
        subscriptions: [Subscription]
    ) {
        self.instance = instance
        self.flags = flags
        self.name = name
        self.channel = channel
        self.received = received
        self.subscriptions = subscriptions
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(instance)
        writer.integer(flags.rawValue)
        writer.value(name)
        writer.integer(channel)
        writer.value(received)
        writer.list(subscriptions)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        instance = try reader.integer()
        flags = ChannelOpenFlags(rawValue: try reader.integer())
        name = try reader.value()
        channel = try reader.integer()
        received = try reader.value()
        subscriptions = try reader.list(max: EventLimits.subscriptionsMax)
    }
}

/// What eventd says of a channel. name · isUnlinked u8 · publishers u32 · subscribers u32 · retained u32 · published
/// u64 · dropped u64.
public struct ChannelStatus: Hashable, Sendable, WireCodable {
    public var name: SaName
    public var isUnlinked: Bool
    public var publishers: UInt32
    public var subscribers: UInt32
    public var retained: UInt32
    public var published: UInt64
    public var dropped: UInt64

    public init(
        name: SaName, isUnlinked: Bool, publishers: UInt32, subscribers: UInt32, retained: UInt32, published: UInt64,
        dropped: UInt64
    ) {
        self.name = name
        self.isUnlinked = isUnlinked
        self.publishers = publishers
        self.subscribers = subscribers
        self.retained = retained
        self.published = published
        self.dropped = dropped
    }

    public func encode(to writer: inout ByteWriter) {
        writer.value(name)
        writer.bool(isUnlinked)
        writer.integer(publishers)
        writer.integer(subscribers)
        writer.integer(retained)
        writer.integer(published)
        writer.integer(dropped)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        name = try reader.value()
        isUnlinked = try reader.bool()
        publishers = try reader.integer()
        subscribers = try reader.integer()
        retained = try reader.integer()
        published = try reader.integer()
        dropped = try reader.integer()
    }
}

/// The answer to ``EventRequest/listChannels``. count u32 · channels.
public struct ChannelList: Hashable, Sendable, WireCodable {
    public var channels: [ChannelStatus]
    public init(_ channels: [ChannelStatus]) { self.channels = channels }
    public func encode(to writer: inout ByteWriter) { writer.list(channels) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        channels = try reader.list(max: EventLimits.channelsMax)
    }
}

/// The answer to ``EventRequest/publish(instance:_:)`` and ``EventRequest/publishNamed(_:_:)``. id u64.
public struct PublishedEvent: Hashable, Sendable, WireCodable {
    public var id: EventID
    public init(id: EventID) { self.id = id }
    public func encode(to writer: inout ByteWriter) { writer.integer(id) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { id = try reader.integer() }
}

/// The answer to ``EventRequest/open(instance:flags:name:)`` and ``EventRequest/resume(_:)``. channel u64.
public struct OpenedChannel: Hashable, Sendable, WireCodable {
    public var channel: UInt64
    public init(channel: UInt64) { self.channel = channel }
    public func encode(to writer: inout ByteWriter) { writer.integer(channel) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { channel = try reader.integer() }
}
