public import SAFTypes

/// What a client may ask of clmd: the code of an IOC request, with its body and the reply's.
public enum ClmRequestCode: UInt16, Sendable, CaseIterable {
    /// ``NameBinding`` → nothing. Idempotent.
    case bind = 1
    /// ``NameBinding`` → nothing. Idempotent.
    case withdraw = 2
    /// ``LookupRequest`` → ``LookupReply``.
    case lookup = 3
    /// ``SubscribeRequest`` → nothing; what is bound now follows as notices, then a `settled` one.
    case subscribe = 4
    /// subscription u32 → nothing.
    case unsubscribe = 5
    /// ``TrackFlags`` → ``ClusterView``, whose list is empty unless CURRENT was asked.
    case track = 6
    /// nothing → nothing.
    case trackStop = 7
    /// ``NodeID``, or ``ClmConstants/localNode`` → ``ClusterNode``.
    case nodeGet = 8
    /// ``ChangeResponse`` → nothing.
    case respond = 9
    /// ``NodeAdministration`` → nothing, when it is done or was refused.
    case administer = 10
}

/// What clmd sends unasked: the code of an IOC push.
public enum ClmPushCode: UInt16, Sendable, CaseIterable {
    /// ``TopologyNotice``.
    case topology = 64
    /// ``ClusterView``.
    case membership = 65
}

public enum ClmConstants {
    /// SA_CLM_LOCAL_NODE_ID.
    public static let localNode = NodeID(0xFFFF_FFFF)
}

/// type u32 · instance u32.
public struct LookupRequest: Hashable, Sendable, WireCodable {
    public var type: UInt32
    public var instance: UInt32

    public init(type: UInt32, instance: UInt32) {
        self.type = type
        self.instance = instance
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(type)
        writer.integer(instance)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        type = try reader.integer()
        instance = try reader.integer()
    }
}

/// Providers, nearest first: count u32 · addresses.
public struct LookupReply: Hashable, Sendable, WireCodable {
    public static let addressesMax = 1_024

    public var addresses: [PortAddress]

    public init(addresses: [PortAddress]) { self.addresses = addresses }

    public func encode(to writer: inout ByteWriter) { writer.list(addresses) }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        addresses = try reader.list(max: Self.addressesMax)
    }
}

/// subscription u32 · range. The client chooses the number; a known one is replaced.
public struct SubscribeRequest: Hashable, Sendable, WireCodable {
    public var subscription: UInt32
    public var range: ServiceRange

    public init(subscription: UInt32, range: ServiceRange) {
        self.subscription = subscription
        self.range = range
    }

    public func encode(to writer: inout ByteWriter) {
        writer.integer(subscription)
        writer.value(range)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        subscription = try reader.integer()
        range = try reader.value()
    }
}

/// What a topology subscriber is told: subscription u32 · kind u8 · binding (kinds 1 and 2).
public struct TopologyNotice: Hashable, Sendable {
    public enum Change: Hashable, Sendable {
        case published(NameBinding)  // kind 1
        case withdrawn(NameBinding)  // kind 2
        /// Kind 3: everything bound so far has been told, and everybody who was bound before a restart of clmd has
        /// had the time to bind again: what was not published since the subscription is gone.
        case settled
        /// Kind 4: the subscriber was too slow; what it knows is stale. Subscribe again.
        case lost
    }
    public var subscription: UInt32
    public var change: Change

    public init(subscription: UInt32, change: Change) {
        self.subscription = subscription
        self.change = change
    }
}

extension TopologyNotice: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(subscription)
        switch change {
        case .published(let binding):
            writer.integer(UInt8(1))
            writer.value(binding)
        case .withdrawn(let binding):
            writer.integer(UInt8(2))
            writer.value(binding)
        case .settled: writer.integer(UInt8(3))
        case .lost: writer.integer(UInt8(4))
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        subscription = try reader.integer()
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: change = .published(try reader.value())
        case 2: change = .withdrawn(try reader.value())
        case 3: change = .settled
        case 4: change = .lost
        default: throw .badValue("topology notice of kind \(kind); 1 to 4 expected")
        }
    }
}
