import SAFTypes

/// Client → eventd. The code of the frame says which; an *instance* is one opening of a channel, numbered by the
/// client.
public enum EventRequest: Hashable, Sendable {
    /// Code 1. instance u32 · flags u8 · name.
    case open(instance: UInt32, flags: ChannelOpenFlags, name: SaName)
    /// Code 2. instance u32.
    case close(instance: UInt32)
    /// Code 3. name.
    case unlink(SaName)
    /// Code 4. instance u32 · event. Answered with the event's id, u64.
    case publish(instance: UInt32, EventMessage)
    /// Code 5. instance u32 · subscription u32 · filters.
    case subscribe(instance: UInt32, subscription: UInt32, filters: [EventFilter])
    /// Code 6. instance u32 · subscription u32.
    case unsubscribe(instance: UInt32, subscription: UInt32)
    /// Code 7. instance u32 · event id u64.
    case clearRetention(instance: UInt32, event: EventID)
    /// Code 8, empty. Answered with a list of ``ChannelStatus``.
    case listChannels
    /// Code 9. name · event. As publish, but the channel is named, and made if need be; for daemons that only publish.
    case publishNamed(SaName, EventMessage)

    public var code: UInt16 {
        switch self {
        case .open: 1
        case .close: 2
        case .unlink: 3
        case .publish: 4
        case .subscribe: 5
        case .unsubscribe: 6
        case .clearRetention: 7
        case .listChannels: 8
        case .publishNamed: 9
        }
    }

    public var body: [UInt8] {
        var writer = ByteWriter()
        switch self {
        case .open(let instance, let flags, let name):
            writer.integer(instance)
            writer.integer(flags.rawValue)
            writer.value(name)
        case .close(let instance): writer.integer(instance)
        case .unlink(let name): writer.value(name)
        case .publish(let instance, let event):
            writer.integer(instance)
            writer.value(event)
        case .subscribe(let instance, let subscription, let filters):
            writer.integer(instance)
            writer.integer(subscription)
            writer.list(filters)
        case .unsubscribe(let instance, let subscription):
            writer.integer(instance)
            writer.integer(subscription)
        case .clearRetention(let instance, let event):
            writer.integer(instance)
            writer.integer(event)
        case .listChannels: break
        case .publishNamed(let name, let event):
            writer.value(name)
            writer.value(event)
        }
        return writer.bytes
    }

    public init(code: UInt16, body: UnsafeRawBufferPointer) throws(DecodeError) {
        var reader = ByteReader(body)
        switch code {
        case 1:
            let instance = try reader.integer(UInt32.self)
            let flags = ChannelOpenFlags(rawValue: try reader.integer())
            self = .open(instance: instance, flags: flags, name: try reader.value())
        case 2: self = .close(instance: try reader.integer())
        case 3: self = .unlink(try reader.value())
        case 4: self = .publish(instance: try reader.integer(), try reader.value())
        case 5:
            let instance = try reader.integer(UInt32.self)
            let subscription = try reader.integer(UInt32.self)
            let filters: [EventFilter] = try reader.list(max: EventLimits.filtersMax)
            self = .subscribe(instance: instance, subscription: subscription, filters: filters)
        case 6: self = .unsubscribe(instance: try reader.integer(), subscription: try reader.integer())
        case 7: self = .clearRetention(instance: try reader.integer(), event: try reader.integer())
        case 8: self = .listChannels
        case 9: self = .publishNamed(try reader.value(), try reader.value())
        default: throw .badValue("event request \(code) is unknown; 1 to 9 expected")
        }
        try reader.finish()
    }
}

/// eventd → client, one-way, code 101: an event for an open instance.
///
/// instance u32 · subscription u32 · event.
public struct EventDelivery: Hashable, Sendable, WireCodable {
    public static let code: UInt16 = 101

    public var instance: UInt32
    /// One of those that match; 0 for the lost-event mark.
    public var subscription: UInt32
    public var event: EventMessage

    public init(instance: UInt32, subscription: UInt32, event: EventMessage) {
        self.instance = instance
        self.subscription = subscription
        self.event = event
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(instance)
        writer.integer(subscription)
        writer.value(event)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        instance = try reader.integer()
        subscription = try reader.integer()
        event = try reader.value()
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

/// The answer to ``EventRequest/publish(instance:_:)``. id u64.
public struct PublishedEvent: Hashable, Sendable, WireCodable {
    public var id: EventID
    public init(id: EventID) { self.id = id }
    public func encode(to writer: inout ByteWriter) { writer.integer(id) }
    public init(decoding reader: inout ByteReader) throws(DecodeError) { id = try reader.integer() }
}
