import Containers
import EngineKit
import EventProtocol
import SAFTypes

/// What one node forwards, as long as it waits here: retention is a deadline until it is sent.
struct Outgoing: Hashable, Sendable, Prioritised, WireCodable {
    var forward: Forward
    var until: EngineKit.Instant?

    init(_ forward: Forward, until: EngineKit.Instant? = nil) {
        self.forward = forward
        self.until = until
    }

    var priority: EventPriority {
        switch forward {
        case .event(_, let event, _, _): event.priority
        case .lost, .knows: .highest
        case .clear: .lowest
        }
    }

    var cost: Int { if case .event(_, let event, _, _) = forward { event.cost } else { 64 } }

    func sent(at now: EngineKit.Instant) -> Forward {
        guard case .event(let channel, let event, _, let isCopy) = forward else { return forward }
        let remaining = until.map { max(.zero, $0 - now).nanoseconds } ?? 0
        return .event(channel, event, remaining: min(remaining, EventLimits.retentionMax), isCopy: isCopy)
    }

    func encode(to writer: inout ByteWriter) {
        writer.value(forward)
        writer.bool(until != nil)
        if let until { writer.integer(until.nanoseconds) }
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        forward = try reader.value()
        if try reader.bool() { until = EngineKit.Instant(nanoseconds: try reader.integer()) }
    }
}

/// The stream to one node: what waits, bounded, and a window of what is on its way, as for an opening of this node.
struct Outbox: Sendable {
    struct Numbered: Hashable, Sendable, WireCodable {
        var number: UInt64
        var outgoing: Outgoing

        init(number: UInt64, outgoing: Outgoing) {
            self.number = number
            self.outgoing = outgoing
        }

        func encode(to writer: inout ByteWriter) {
            writer.integer(number)
            writer.value(outgoing)
        }

        init(decoding reader: inout ByteReader) throws(DecodeError) {
            number = try reader.integer()
            outgoing = try reader.value()
        }
    }

    let stream: UInt64
    /// The receiver has begun to keep what it had.
    var isOpened = false
    private(set) var queue = PriorityLanes<Outgoing>()
    /// Told before anything else, the latest of each channel.
    private var knows: OrderedMap<ChannelID, UInt64> = [:]
    /// Channels of which something was dropped, and since when.
    private var lost: OrderedMap<ChannelID, SaTime> = [:]
    /// Retained events that were cleared, and their channels: of what was not sent the receiver need not hear. A node
    /// does not retain more than there is room for.
    private var cleared: OrderedMap<EventID, ChannelID> = [:]
    private(set) var window: [Numbered] = []
    private var windowBytes = 0
    private(set) var nextNumber: UInt64 = 1
    private(set) var dropped: UInt64 = 0

    // Of this link only.
    /// False until the receiver has said what it has; nothing is sent before.
    var isResumed = false
    var isBlocked = false
    var nextToSend: UInt64 = 1
    var probeAt: EngineKit.Instant?
    var probeDelay = Duration.zero

    init(stream: UInt64) { self.stream = stream }

    var waitingCount: Int { queue.count + knows.count + lost.count + cleared.count }

    mutating func append(_ outgoing: Outgoing, _ limits: NodeEngine.Limits) {
        switch outgoing.forward {
        case .knows(let channel, let interest): knows[channel] = interest
        case .lost(let channel, let time): lose(channel, at: time)
        case .clear(let channel, let event):
            cleared[event] = channel
            while cleared.count > limits.retainedMax, let (_, oldest) = cleared.popFirst() {
                dropped += 1
                lose(oldest, at: .saTimeUnknown)
            }
        case .event:
            while queue.count >= limits.forwardMax
                || (queue.count > 0 && queue.bytes + outgoing.cost > limits.forwardBytesMax)
            {
                guard let victim = queue.popLast(lessThan: outgoing.priority) else { return drop(outgoing) }
                drop(victim)
            }
            queue.append(outgoing)
        }
        fillWindow(limits)
    }

    private mutating func drop(_ outgoing: Outgoing) {
        guard case .event(let channel, let event, _, _) = outgoing.forward else { return }
        dropped += 1
        lose(channel, at: event.publishTime)
    }

    /// The first time counts; a loss for all is one for those whom this node did not know of, too.
    private mutating func lose(_ channel: ChannelID, at time: SaTime) {
        if lost[channel] ?? Forward.unheardTime == Forward.unheardTime { lost[channel] = time }
    }

    private mutating func next() -> Outgoing? {
        // In this order: what is lost was published before the receiver's interest was known.
        if let (channel, time) = lost.popFirst() { return Outgoing(.lost(channel, at: time)) }
        if let (channel, interest) = knows.popFirst() { return Outgoing(.knows(channel, interest: interest)) }
        if let (event, channel) = cleared.popFirst() { return Outgoing(.clear(channel, event)) }
        return queue.popFirst()
    }

    private mutating func fillWindow(_ limits: NodeEngine.Limits) {
        while window.isEmpty || windowBytes < limits.windowBytesMax,
            nextNumber - (window.first?.number ?? nextNumber) < UInt64(limits.windowMax), let outgoing = next()
        {
            window.append(Numbered(number: nextNumber, outgoing: outgoing))
            windowBytes += outgoing.cost
            nextNumber += 1
        }
    }

    mutating func confirm(_ received: ReceivedNumbers, _ limits: NodeEngine.Limits) {
        window.removeAll { received.contains($0.number) }
        windowBytes = window.reduce(0) { $0 + $1.outgoing.cost }
        fillWindow(limits)
    }

    /// A cleared event that was not sent yet is for those only who are there already.
    mutating func clear(_ id: EventID) {
        func cleared(_ outgoing: Outgoing) -> Outgoing {
            guard case .event(_, let event, _, _) = outgoing.forward, event.id == id else { return outgoing }
            return Outgoing(outgoing.forward)
        }
        queue.replaceAll { cleared($0) }
        for index in window.indices { window[index].outgoing = cleared(window[index].outgoing) }
    }

    func holdsEvents(of channel: ChannelID) -> Bool {
        func isOne(_ outgoing: Outgoing) -> Bool {
            if case .event(channel, _, _, false) = outgoing.forward { true } else { false }
        }
        return lost.contains(channel) || window.contains { isOne($0.outgoing) } || queue.waiting.contains(where: isOne)
    }

    /// What of the window is not on its way.
    mutating func takeUnsent() -> ArraySlice<Numbered> {
        guard isResumed, !isBlocked, nextToSend < nextNumber else { return [] }
        let first = window.firstIndex { $0.number >= nextToSend } ?? window.count
        nextToSend = nextNumber
        return window[first...]
    }

    mutating func endLink() {
        isResumed = false
        isBlocked = false
        probeAt = nil
    }
}

/// stream u64 · isOpened u8 · nextNumber u64 · dropped u64 · window · queue · knows · lost.
extension Outbox: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.integer(stream)
        writer.bool(isOpened)
        writer.integer(nextNumber)
        writer.integer(dropped)
        writer.list(window)
        writer.list(queue.waiting + cleared.map { Outgoing(.clear($0.value, $0.key)) })
        writer.list(knows.map { Outgoing(.knows($0.key, interest: $0.value)) })
        writer.list(lost.map { Outgoing(.lost($0.key, at: $0.value)) })
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        self.init(stream: try reader.integer())
        isOpened = try reader.bool()
        nextNumber = try reader.integer()
        dropped = try reader.integer()
        window = try reader.list()
        windowBytes = window.reduce(0) { $0 + $1.outgoing.cost }
        for outgoing in try reader.list() as [Outgoing] {
            if case .clear(let channel, let event) = outgoing.forward {
                cleared[event] = channel
            } else {
                queue.append(outgoing)
            }
        }
        for outgoing in try reader.list() as [Outgoing] {
            if case .knows(let channel, let interest) = outgoing.forward { knows[channel] = interest }
        }
        for outgoing in try reader.list() as [Outgoing] {
            if case .lost(let channel, let time) = outgoing.forward { lost[channel] = time }
        }
    }
}

/// What was had of one node's stream. stream u64 · numbers.
struct Inbox: Sendable, WireCodable {
    let stream: UInt64
    var numbers = ReceivedNumbers()
    /// Since the last confirmation.
    var unconfirmed = 0
    var unconfirmedBytes = 0

    init(stream: UInt64) { self.stream = stream }

    mutating func confirmation() -> PeerMessage {
        (unconfirmed, unconfirmedBytes) = (0, 0)
        return .received(stream: stream, isKnown: true, numbers)
    }

    func encode(to writer: inout ByteWriter) {
        writer.integer(stream)
        writer.value(numbers)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        stream = try reader.integer()
        numbers = try reader.value()
    }
}
