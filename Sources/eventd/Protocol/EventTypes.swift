import SAFTypes

/// What the service holds at most. Source: SAI-AIS-EVT-B.03.01, saEvtLimitGet(); values as other implementations use
/// them.
public enum EventLimits {
    public static let channelsMax = 1_024
    /// Octets of an event's data.
    public static let eventSizeMax = 65_536
    public static let patternSizeMax = 255
    public static let patternsMax = 10
    public static let filtersMax = 32
    /// 10^14 ns: a little more than a day.
    public static let retentionMax: SaTime = 100_000_000_000_000
    public static let publisherNameMax = 256
    /// Open instances of one process.
    public static let instancesMax = 1_024
    public static let subscriptionsMax = 256
    /// Events that wait for one open instance before the least important are dropped.
    public static let queueMax = 1_000
    public static let queueBytesMax = 8 << 20
    /// Deliveries on their way to one open instance that it has not confirmed yet.
    public static let windowMax = 128
    /// Octets of them, unless it is a single one.
    public static let windowBytesMax = 256 << 10
    /// A receiver confirms at least after so many deliveries, or so many octets.
    public static let confirmEvery = 32
    public static let confirmBytes = 64 << 10
    public static let retainedMax = 4_096
    /// Of one channel, once a daemon publishes on it by the channel's name.
    public static let retainedNamedMax = 100
    /// Events that wait for another node before the least important are dropped.
    public static let forwardMax = 4_096
    public static let forwardBytesMax = 8 << 20
}

/// SaEvtLimitIdT: a limit that a program may ask for. Source: SAI-AIS-EVT-B.03.01, saEvtLimitGet().
public enum EventLimitID: UInt32, Hashable, Sendable, CaseIterable {
    case channels = 1
    case eventSize
    case patternSize
    case patterns
    /// Nanoseconds.
    case retentionDuration

    public var value: Int64 {
        switch self {
        case .channels: Int64(EventLimits.channelsMax)
        case .eventSize: Int64(EventLimits.eventSizeMax)
        case .patternSize: Int64(EventLimits.patternSizeMax)
        case .patterns: Int64(EventLimits.patternsMax)
        case .retentionDuration: EventLimits.retentionMax
        }
    }
}

/// SaEvtEventPriorityT: a higher priority is delivered first, and dropped last.
public enum EventPriority: UInt8, Hashable, Sendable, CaseIterable {
    case highest = 0
    case high
    case low
    case lowest
}

/// SaEvtEventIdT. 0 and 1 are NONE and LOST; up to 1000 reserved.
public typealias EventID = UInt64

public enum EventIDs {
    public static let none: EventID = 0
    public static let lost: EventID = 1
    public static let reservedMax: EventID = 1_000

    /// The node whose eventd gave the id.
    public static func node(of id: EventID) -> NodeID { NodeID(UInt32(id >> 48)) }
}

/// SaEvtChannelOpenFlagsT.
public struct ChannelOpenFlags: OptionSet, Hashable, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let publisher = ChannelOpenFlags(rawValue: 1)
    public static let subscriber = ChannelOpenFlags(rawValue: 2)
    public static let create = ChannelOpenFlags(rawValue: 4)
    /// At least one flag, and no unknown one.
    public var isValid: Bool { rawValue != 0 && rawValue <= 7 }
}

/// One filter, compared with the pattern at the same place. Source: SAI-AIS-EVT-B.01.01 §3.3.6.
public struct EventFilter: Hashable, Sendable {
    public enum Kind: UInt8, Hashable, Sendable, CaseIterable {
        /// The pattern begins with these octets.
        case prefix = 1
        /// The pattern ends with these octets.
        case suffix
        /// The pattern is these octets.
        case exact
        /// Anything, a missing pattern too.
        case passAll
    }

    public var kind: Kind
    public var bytes: [UInt8]

    public init(_ kind: Kind, _ bytes: [UInt8] = []) {
        self.kind = kind
        self.bytes = bytes
    }

    public static func prefix(_ text: String) -> EventFilter { EventFilter(.prefix, Array(text.utf8)) }
    public static func suffix(_ text: String) -> EventFilter { EventFilter(.suffix, Array(text.utf8)) }
    public static func exact(_ text: String) -> EventFilter { EventFilter(.exact, Array(text.utf8)) }
    public static let passAll = EventFilter(.passAll)

    /// A missing pattern counts as an empty one.
    public func matches(_ pattern: [UInt8]) -> Bool {
        switch kind {
        case .prefix: pattern.starts(with: bytes)
        case .suffix: pattern.count >= bytes.count && pattern.suffix(bytes.count).elementsEqual(bytes)
        case .exact: pattern == bytes
        case .passAll: true
        }
    }
}

extension [EventFilter] {
    /// Every filter matches the pattern at its place; surplus patterns do not matter, no filters match everything.
    public func match(_ patterns: [[UInt8]]) -> Bool {
        enumerated().allSatisfy { index, filter in filter.matches(index < patterns.count ? patterns[index] : []) }
    }
}

/// A published event.
public struct EventMessage: Hashable, Sendable {
    /// The pattern of the event that says "something was dropped". Source: SAI-AIS-EVT-B.01.01 §3.1.5.
    public static let lostPattern = Array("SA_EVT_LOST_EVENT_PATTERN".utf8)

    /// Given by the service.
    public var id: EventID = EventIDs.none
    public var patterns: [[UInt8]] = []
    public var priority = EventPriority.lowest
    /// How long the event waits for later subscribers, ns; 0: not at all.
    public var retention: SaTime = 0
    public var publisherName: [UInt8] = []
    /// Given by the service.
    public var publishTime = SaTime.saTimeUnknown
    public var data: [UInt8] = []

    public init() {}

    public init(patterns: [[UInt8]], data: [UInt8], priority: EventPriority = .lowest, retention: SaTime = 0) {
        self.patterns = patterns
        self.data = data
        self.priority = priority
        self.retention = retention
    }

    /// What a receiver gets once, whatever and however much was dropped for it.
    public static func lost(at time: SaTime) -> EventMessage {
        var event = EventMessage(patterns: [lostPattern], data: [], priority: .highest)
        event.id = EventIDs.lost
        event.publishTime = time
        return event
    }

    public var isLost: Bool { id == EventIDs.lost }

    /// Why the service would refuse it; nil: it is fine.
    public var defect: (error: AisError, text: String)? {
        if data.count > EventLimits.eventSizeMax {
            return (.tooBig, "data of \(data.count) octets; at most \(EventLimits.eventSizeMax)")
        }
        if patterns.count > EventLimits.patternsMax {
            return (.tooBig, "\(patterns.count) patterns; at most \(EventLimits.patternsMax)")
        }
        if let pattern = patterns.first(where: { $0.count > EventLimits.patternSizeMax }) {
            return (.tooBig, "a pattern of \(pattern.count) octets; at most \(EventLimits.patternSizeMax)")
        }
        if retention < 0 || retention > EventLimits.retentionMax {
            return (.invalidParam, "retention of \(retention) ns; 0 to \(EventLimits.retentionMax)")
        }
        if publisherName.count > EventLimits.publisherNameMax {
            return (
                .invalidParam,
                "publisher name of \(publisherName.count) octets; at most \(EventLimits.publisherNameMax)"
            )
        }
        return nil
    }
}

/// id u64 · priority u8 · retention i64 · publishTime i64 · publisherName · patterns (count u32, each length u32 ·
/// octets) · data.
extension EventMessage: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(id)
        writer.integer(priority.rawValue)
        writer.integer(retention)
        writer.integer(publishTime)
        writer.byteString(publisherName)
        writer.integer(UInt32(patterns.count))
        for pattern in patterns { writer.byteString(pattern) }
        writer.byteString(data)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        id = try reader.integer()
        priority = try EventPriority.decode(from: &reader)
        retention = try reader.integer()
        publishTime = try reader.integer()
        publisherName = try reader.byteString(max: EventLimits.publisherNameMax)
        let count = try reader.integer(UInt32.self)
        guard count <= EventLimits.patternsMax else {
            throw .badValue("\(count) patterns; at most \(EventLimits.patternsMax) expected")
        }
        for _ in 0..<count { patterns.append(try reader.byteString(max: EventLimits.patternSizeMax)) }
        data = try reader.byteString(max: EventLimits.eventSizeMax)
    }
}

extension EventFilter: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        writer.integer(kind.rawValue)
        writer.byteString(bytes)
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        kind = try Kind.decode(from: &reader)
        bytes = try reader.byteString(max: EventLimits.patternSizeMax)
    }
}
