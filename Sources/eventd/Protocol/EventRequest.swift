import SAFTypes

/// Client → eventd. The code of the frame says which; an *instance* is one opening of a channel, numbered by the
/// client.
public enum EventRequest: Hashable, Sendable {
    /// Code 1. instance u32 · flags u8 · name. Answered with the channel's id, u64.
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
    /// Code 10. instance u32 · numbers. Frees room for more; not remembered as executed, for it may come twice.
    case confirm(instance: UInt32, ReceivedNumbers)
    /// Code 11. Says on a new connection what the client has of an instance. Answered with the channel's id, u64.
    case resume(ResumedInstance)
    /// Code 12. count u32 · instances u32. Closes all others: their close was lost with an earlier connection.
    case keepOnly([UInt32])

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
        case .confirm: 10
        case .resume: 11
        case .keepOnly: 12
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
        case .confirm(let instance, let numbers):
            writer.integer(instance)
            writer.value(numbers)
        case .resume(let resumed): writer.value(resumed)
        case .keepOnly(let instances):
            writer.integer(UInt32(instances.count))
            for instance in instances { writer.integer(instance) }
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
        case 10: self = .confirm(instance: try reader.integer(), try reader.value())
        case 11: self = .resume(try reader.value())
        case 12: self = .keepOnly(try Self.instances(&reader))
        default: throw .badValue("event request \(code) is unknown; 1 to 12 expected")
        }
        try reader.finish()
    }

    private static func instances(_ reader: inout ByteReader) throws(DecodeError) -> [UInt32] {
        let count = try reader.integer(UInt32.self)
        guard count <= EventLimits.instancesMax else {
            throw .badValue("\(count) instances; at most \(EventLimits.instancesMax) expected")
        }
        var instances: [UInt32] = []
        for _ in 0..<count { instances.append(try reader.integer()) }
        return instances
    }
}
