import Containers
import EngineKit
import EventProtocol
import SAFTypes

/// What a life leaves to the next: how it was when the snapshot was taken, and every kept event since.
///
/// snapshot: version u8 · node · lineage u32 · nextEvent u64 · nextTicket u64 · nextStream u64 · channels · clients ·
/// pending · members · isOldest u8 · peers · early · others · doubts.
extension NodeEngine {
    static let recordVersion: UInt8 = 3
    /// Version 2 did not say what others have not heard (``Channel/unheard``, ``Instance/heardBy``, ``others``,
    /// ``doubts``).
    static let recordVersions: ClosedRange<UInt8> = 2...3

    public var snapshot: [UInt8] {
        var writer = ByteWriter()
        writer.integer(Self.recordVersion)
        writer.value(node)
        writer.integer(lineage)
        writer.integer(nextEvent)
        writer.integer(nextTicket)
        writer.integer(nextStream)
        writer.integer(UInt32(channels.count))
        for (id, channel) in channels {
            writer.value(id)
            channel.encode(to: &writer)
        }
        writer.integer(UInt32(clients.count))
        for (session, client) in clients {
            writer.value(session)
            client.encode(to: &writer)
        }
        writer.integer(UInt32(pending.count))
        for (ticket, waiting) in pending {
            writer.integer(ticket)
            writer.value(waiting.origin)
            writer.request(waiting.request)
            writer.optional(waiting.channel)
        }
        writer.list(members)
        writer.bool(isOldest)
        writer.integer(UInt32(peers.count))
        for (node, peer) in peers {
            writer.value(node)
            writer.value(peer)
        }
        writer.value(early)
        writer.list(others)
        writer.integer(UInt32(doubts.count))
        for (node, since) in doubts {
            writer.value(node)
            writer.integer(since.nanoseconds)
        }
        return writer.bytes
    }

    /// Goes on from what an earlier life kept; before the first event.
    ///
    /// - Parameter records: a snapshot, then ``record(of:at:)`` of each kept event, oldest first.
    /// - Throws: they are not of this node, or of a version this build does not read; the engine is then useless.
    public mutating func restore(_ records: [[UInt8]]) throws(DecodeError) {
        guard let first = records.first else { return }
        var outcome: Result<Void, DecodeError> = .success(())
        first.withUnsafeBytes { raw in
            do throws(DecodeError) { try load(raw) } catch { outcome = .failure(error) }
        }
        try outcome.get()
        for record in records.dropFirst() {
            let kept = try KeptEvent(decoding: record)
            _ = handle(kept.event, at: kept.instant)
        }
    }

    private mutating func load(_ raw: UnsafeRawBufferPointer) throws(DecodeError) {
        var reader = ByteReader(raw)
        let version = try reader.integer(UInt8.self)
        guard Self.recordVersions.contains(version) else {
            throw .badValue("snapshot version \(version); \(Self.recordVersions) expected")
        }
        let node: NodeID = try reader.value()
        guard node == self.node else { throw .badValue("a snapshot of node \(node); \(self.node) expected") }
        lineage = try reader.integer()
        nextEvent = try reader.integer()
        nextTicket = try reader.integer()
        nextStream = try reader.integer()
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let id: ChannelID = try reader.value()
            let channel = try Channel(decoding: &reader, version: version)
            channels[id] = channel
            if !channel.record.isUnlinked { names[channel.record.name] = id }
            retainedCount += channel.retained.count
            for retained in channel.retained { wake(notAfter: retained.until) }
            if let until = channel.cutOffUntil { wake(notAfter: until) }
        }
        guard retainedCount <= limits.retainedMax else { throw .badValue("\(retainedCount) retained events") }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let session: ClientSession = try reader.value()
            let client = try Client(decoding: &reader, limits, version: version)
            if let until = client.absentUntil { wake(notAfter: until) }
            clients[session] = client
        }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let ticket = try reader.integer(UInt64.self)
            let origin: RequestOrigin = try reader.value()
            pending[ticket] = Pending(request: try reader.request(), origin: origin, channel: try reader.optional())
        }
        members = try reader.list()
        isOldest = try reader.bool()
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let node: NodeID = try reader.value()
            peers[node] = try reader.value()
        }
        early = try reader.value()
        if version >= 3 {
            others = try reader.list()
            for _ in 0..<(try reader.integer(UInt32.self)) {
                let node: NodeID = try reader.value()
                doubts[node] = EngineKit.Instant(nanoseconds: try reader.integer())
            }
        }
        try reader.finish()
    }

    /// The form in which a kept event is kept.
    public static func record(of event: Event, at now: Instant) -> [UInt8] {
        KeptEvent(instant: now, event: event).encoded
    }
}

extension NodeEngine.Channel {
    func encode(to writer: inout ByteWriter) {
        writer.value(record)
        writer.integer(UInt32(instances.count))
        for instance in instances {
            writer.value(instance.session)
            writer.integer(instance.number)
        }
        writer.integer(UInt32(retained.count))
        for kept in retained {
            writer.integer(kept.until.nanoseconds)
            writer.value(kept.event)
        }
        writer.integer(published)
        writer.integer(dropped)
        writer.bool(isCutOff)
        writer.bool(cutOffUntil != nil)
        if let cutOffUntil { writer.integer(cutOffUntil.nanoseconds) }
        writer.integer(UInt32(latest.count))
        for (source, event) in latest {
            writer.integer(source)
            writer.integer(event)
        }
        writer.integer(UInt32(told.count))
        for (node, interest) in told {
            writer.value(node)
            writer.integer(interest)
        }
        writer.value(unheard)
    }

    init(decoding reader: inout ByteReader, version: UInt8) throws(DecodeError) {
        self.init(try reader.value())
        for _ in 0..<(try reader.integer(UInt32.self)) {
            instances.append(NodeEngine.InstanceID(session: try reader.value(), number: try reader.integer()))
        }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let until = EngineKit.Instant(nanoseconds: try reader.integer())
            retained.append(NodeEngine.Retained(event: try reader.value(), until: until))
        }
        published = try reader.integer()
        dropped = try reader.integer()
        isCutOff = try reader.bool()
        if try reader.bool() { cutOffUntil = EngineKit.Instant(nanoseconds: try reader.integer()) }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let source = try reader.integer(UInt64.self)
            latest[source] = try reader.integer()
        }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let node: NodeID = try reader.value()
            told[node] = try reader.integer()
        }
        if version >= 3 { unheard = try reader.value() }
    }
}

extension NodeEngine.Client {
    func encode(to writer: inout ByteWriter) {
        writer.value(process)
        writer.bool(absentUntil != nil)
        if let absentUntil { writer.integer(absentUntil.nanoseconds) }
        writer.integer(UInt32(executed.count))
        for (number, value) in executed {
            writer.integer(number)
            writer.integer(value)
        }
        writer.integer(UInt32(instances.count))
        for (number, instance) in instances {
            writer.integer(number)
            instance.encode(to: &writer)
        }
    }

    init(
        decoding reader: inout ByteReader, _ limits: NodeEngine.Limits, version: UInt8
    ) throws(DecodeError) {
        self.init(process: try reader.value())
        if try reader.bool() { absentUntil = EngineKit.Instant(nanoseconds: try reader.integer()) }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let number = try reader.integer(UInt64.self)
            executed[number] = try reader.integer()
        }
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let number = try reader.integer(UInt32.self)
            instances[number] = try NodeEngine.Instance(decoding: &reader, limits, version: version)
        }
    }
}

extension NodeEngine.Instance {
    func encode(to writer: inout ByteWriter) {
        writer.value(channel)
        writer.integer(flags.rawValue)
        writer.integer(UInt32(subscriptions.count))
        for subscription in subscriptions {
            writer.integer(subscription.id)
            writer.list(subscription.filters)
        }
        writer.list(queue.waiting)
        writer.integer(queue.dropped)
        writer.list(window)
        writer.integer(nextNumber)
        writer.bool(heardBy != nil)
        if let heardBy { writer.list(heardBy) }
    }

    init(
        decoding reader: inout ByteReader, _ limits: NodeEngine.Limits, version: UInt8
    ) throws(DecodeError) {
        let channel: ChannelID = try reader.value()
        self.init(channel: channel, flags: ChannelOpenFlags(rawValue: try reader.integer()), limits: limits)
        for _ in 0..<(try reader.integer(UInt32.self)) {
            let id = try reader.integer(UInt32.self)
            subscriptions.append(NodeEngine.Subscription(id: id, filters: try reader.list(max: EventLimits.filtersMax)))
        }
        let waiting: [EventDelivery] = try reader.list()
        queue.restore(waiting, dropped: try reader.integer())
        window = try reader.list()
        windowBytes = window.reduce(0) { $0 + $1.cost }
        nextNumber = try reader.integer()
        nextToSend = window.first?.number ?? nextNumber
        if version >= 3, try reader.bool() { heardBy = try reader.list() }
    }
}

/// An event that the next life replays. version u8 · instant u64 · kind u8 · fields.
struct KeptEvent: Hashable, Sendable, WireCodable {
    var instant: EngineKit.Instant
    var event: NodeEngine.Event

    init(instant: EngineKit.Instant, event: NodeEngine.Event) {
        self.instant = instant
        self.event = event
    }

    func encode(to writer: inout ByteWriter) {
        writer.integer(NodeEngine.recordVersion)
        writer.integer(instant.nanoseconds)
        switch event {
        case .connected(let session, let process):
            writer.integer(UInt8(1))
            writer.value(session)
            writer.value(process)
        case .disconnected(let session, let isDead):
            writer.integer(UInt8(2))
            writer.value(session)
            writer.bool(isDead)
        case .request(let request, let origin):
            writer.integer(UInt8(3))
            writer.value(origin)
            writer.request(request)
        case .registered(let id, let channel):
            writer.integer(UInt8(4))
            writer.value(id)
            writer.optional(channel)
        case .answered(let ticket, let answer):
            writer.integer(UInt8(5))
            writer.integer(ticket)
            writer.value(answer)
        case .received(let message, let node):
            writer.integer(UInt8(6))
            writer.value(node)
            writer.integer(message.code)
            writer.byteString(message.body)
        case .registryChanged(let entries, let lineage):
            writer.integer(UInt8(7))
            writer.list(entries)
            writer.integer(lineage)
        case .members(let members, let isOldest):
            writer.integer(UInt8(8))
            writer.list(members)
            writer.bool(isOldest)
        case .registryReplaced, .refused, .writable, .link, .linkRefused, .linkWritable, .timer:
            writer.integer(UInt8(0))
        }
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        let version = try reader.integer(UInt8.self)
        guard NodeEngine.recordVersions.contains(version) else {
            throw .badValue("record version \(version); \(NodeEngine.recordVersions) expected")
        }
        instant = EngineKit.Instant(nanoseconds: try reader.integer())
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: event = .connected(try reader.value(), try reader.value())
        case 2: event = .disconnected(try reader.value(), isDead: try reader.bool())
        case 3:
            let origin: RequestOrigin = try reader.value()
            event = .request(try reader.request(), origin)
        case 4: event = .registered(try reader.value(), try reader.optional())
        case 5: event = .answered(ticket: try reader.integer(), try reader.value())
        case 6:
            let node: NodeID = try reader.value()
            let code = try reader.integer(UInt16.self)
            event = .received(try PeerMessage(code: code, body: try reader.byteStringView()), from: node)
        case 7: event = .registryChanged(try reader.list(max: EventLimits.channelsMax), lineage: try reader.integer())
        case 8: event = .members(try reader.list(), isOldest: try reader.bool())
        default: throw .badValue("record kind \(kind); 1 to 8 expected")
        }
    }
}

/// kind u8: 1 done · 2 opened (id) · 3 refused (code u32, text).
extension RegistryAnswer: WireCodable {
    public func encode(to writer: inout ByteWriter) {
        switch self {
        case .done: writer.integer(UInt8(1))
        case .opened(let id):
            writer.integer(UInt8(2))
            writer.value(id)
        case .refused(let code, let text):
            writer.integer(UInt8(3))
            writer.integer(code.rawValue)
            writer.string(text)
        }
    }

    public init(decoding reader: inout ByteReader) throws(DecodeError) {
        let kind = try reader.integer(UInt8.self)
        switch kind {
        case 1: self = .done
        case 2: self = .opened(try reader.value())
        case 3: self = .refused(try AisError.decode(from: &reader), try reader.string())
        default: throw .badValue("registry answer \(kind); 1 to 3 expected")
        }
    }
}

extension ByteWriter {
    /// code u16 · body.
    fileprivate mutating func request(_ request: EventRequest) {
        integer(request.code)
        byteString(request.body)
    }
}

extension ByteReader {
    fileprivate mutating func request() throws(DecodeError) -> EventRequest {
        let code = try integer(UInt16.self)
        return try EventRequest(code: code, body: try byteStringView())
    }
}
