import EngineKit
import EventProtocol
import SAFTypes

/// Names a kept record; also the name of its file.
public enum RecordKey: Hashable, Sendable, CustomStringConvertible {
    case channel(UInt64)
    case event(EventID)

    public var description: String {
        switch self {
        case .channel(let id): "channel-\(id)"
        case .event(let id): "event-\(id)"
        }
    }
}

/// What outlives eventd: a channel, and an event that waits for later subscribers.
///
/// version u8 (1) · kind u8 (1 channel, 2 event) · name · for an event: until u64 (monotonic ns of this boot) · event.
public enum Record: Hashable, Sendable, WireCodable {
    case channel(SaName)
    case event(SaName, until: Instant, EventMessage)

    public func encode(to writer: inout ByteWriter) {
        writer.integer(UInt8(1))
        switch self {
        case .channel(let name):
            writer.integer(UInt8(1))
            writer.value(name)
        case .event(let name, let until, let event):
            writer.integer(UInt8(2))
            writer.value(name)
            writer.integer(until.nanoseconds)
            writer.value(event)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt8.self)
        guard version == 1 else { throw .badValue("record version \(version); 1 expected") }
        let kind = try reader.integer(UInt8.self)
        let name: SaName = try reader.value()
        switch kind {
        case 1: self = .channel(name)
        case 2:
            let until = Instant(nanoseconds: try reader.integer())
            self = .event(name, until: until, try reader.value())
        default: throw .badValue("record kind \(kind); 1 or 2 expected")
        }
    }
}

extension EventEngine {
    /// Takes back what an earlier life kept; before the first event. Records that contradict each other are left out.
    ///
    /// - Returns: the effects that make the kept records agree with the state.
    public mutating func restore(_ records: [(key: String, record: Record)]) -> [Effect] {
        var effects: [Effect] = []
        // Channels first, each under a number of its own; then the events in the order they were published.
        for (key, record) in records.sorted(by: { $0.key < $1.key }) {
            guard case .channel(let name) = record, names[name] == nil, channels.count < limits.channelsMax,
                let number = UInt64(key.dropFirst("channel-".count)), number < .max
            else { continue }
            let id = ChannelID(rawValue: number)
            guard channels[id] == nil else { continue }
            names[name] = id
            channels[id] = Channel(name: name)
            nextChannel = max(nextChannel, number + 1)
        }
        let events = records.compactMap { entry -> (SaName, Retained)? in
            guard case .event(let name, let until, let event) = entry.record else { return nil }
            return (name, Retained(event: event, until: until))
        }
        for (name, retained) in events.sorted(by: { $0.1.event.id < $1.1.event.id }) {
            guard let id = names[name], retainedCount < limits.retainedMax, retained.event.id > EventIDs.reservedMax,
                retained.event.id < .max
            else {
                effects.append(.forget(.event(retained.event.id)))
                continue
            }
            channels[id]?.retained.append(retained)
            retainedCount += 1
            nextEvent = max(nextEvent, retained.event.id + 1)
        }
        return effects + updateTimer()
    }
}
