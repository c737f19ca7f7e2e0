import Containers
import EngineKit
import EventProtocol
import SAFTypes

/// Another node, as this one talks to it.
struct PeerState: Sendable {
    /// Nil: nothing was to be forwarded since it has nothing open, or ever.
    var outbox: Outbox?
    var inbox: Inbox?
    // Of this life only.
    var isUp = false
}

/// A subscribe that is answered when all nodes forward by it.
struct AwaitedSubscribe: Sendable {
    var key: RequestKey
    var instance: UInt32
    var channel: ChannelID
    var until: EngineKit.Instant
}

// MARK: What is sent

extension NodeEngine {
    /// Changes the outbox of a node in place.
    @discardableResult
    mutating func withOutbox<Value>(_ node: NodeID, _ body: (inout Outbox) -> Value) -> Value? {
        peers[node]?.outbox?.apply(body)
    }

    mutating func forward(_ outgoing: Outgoing, to node: NodeID, at now: Instant, _ effects: inout [Effect]) {
        let limits = limits
        if peers[node]?.outbox == nil {
            peers[node, default: PeerState()].outbox = Outbox(stream: nextStream)
            nextStream &+= 1
            sayHello(to: node, at: now, &effects)
        }
        withOutbox(node) { $0.append(outgoing, limits) }
        sendForwards(to: node, at: now, &effects)
    }

    private mutating func sayHello(to node: NodeID, at now: Instant, _ effects: inout [Effect]) {
        guard peers[node]?.isUp == true else { return }
        let limits = limits
        let stream = withOutbox(node) { outbox in
            outbox.probeDelay = limits.probeFirst
            outbox.probeAt = now + limits.probeFirst
            return (outbox.stream, outbox.isOpened)
        }
        guard let (stream, isOpened) = stream else { return }
        wake(notAfter: now + limits.probeFirst)
        effects.append(.send(.hello(stream: stream, isOpened: isOpened), to: node))
    }

    private mutating func sendForwards(to node: NodeID, at now: Instant, _ effects: inout [Effect]) {
        guard peers[node]?.isUp == true else { return }
        let limits = limits
        var probeAt: Instant?
        withOutbox(node) { outbox in
            let unsent = outbox.takeUnsent()
            for next in unsent {
                let message = PeerMessage.forward(
                    stream: outbox.stream, number: next.number, next.outgoing.sent(at: now))
                effects.append(.send(message, to: node))
            }
            guard !unsent.isEmpty, outbox.probeAt == nil else { return }
            outbox.probeDelay = limits.probeFirst
            outbox.probeAt = now + limits.probeFirst
            probeAt = outbox.probeAt
        }
        if let probeAt { wake(notAfter: probeAt) }
    }

    /// Asks what has arrived, when nobody said so for long.
    mutating func probeForwards(at now: Instant, _ effects: inout [Effect]) {
        let limits = limits
        for node in peers.keys where peers[node]?.isUp == true {
            var hello: PeerMessage?
            let next = withOutbox(node) { outbox -> Instant? in
                guard let due = outbox.probeAt, due <= now else { return outbox.probeAt }
                hello = .hello(stream: outbox.stream, isOpened: outbox.isOpened)
                outbox.probeDelay = min(outbox.probeDelay * 2, limits.probeMax)
                outbox.probeAt = now + outbox.probeDelay
                return outbox.probeAt
            }
            if let hello { effects.append(.send(hello, to: node)) }
            if let next = next ?? nil { wake(notAfter: next) }
        }
    }

    /// The receiver says what it has.
    mutating func confirmed(
        _ stream: UInt64, isKnown: Bool, _ numbers: ReceivedNumbers, by node: NodeID, at now: Instant,
        _ effects: inout [Effect]
    ) {
        guard let outbox = peers[node]?.outbox, outbox.stream == stream else { return }
        guard isKnown else {
            // It begins anew. What it has open by now has been told of a loss, or may have to be.
            guard outbox.isOpened else { return }
            peers[node]?.outbox = nil
            for (id, channel) in channels where channel.record.interest(of: node) != nil {
                if outbox.holdsEvents(of: id) {
                    forward(Outgoing(.lost(id, at: lastWall)), to: node, at: now, &effects)
                }
                introduce(id, to: node, at: now, &effects)
            }
            return
        }
        let limits = limits
        let probeAt = withOutbox(node) { outbox -> Instant? in
            outbox.isOpened = true
            outbox.confirm(numbers, limits)
            if !outbox.isResumed {
                outbox.isResumed = true
                outbox.nextToSend = outbox.window.first?.number ?? outbox.nextNumber
            }
            outbox.probeDelay = limits.probeFirst
            outbox.probeAt = outbox.window.isEmpty ? nil : now + limits.probeFirst
            return outbox.probeAt
        }
        if let probeAt = probeAt ?? nil { wake(notAfter: probeAt) }
        sendForwards(to: node, at: now, &effects)
    }

    /// A node has a channel open now: it gets the retained events, all of them, because any of its later subscribers
    /// may want them.
    mutating func introduce(_ id: ChannelID, to other: NodeID, at now: Instant, _ effects: inout [Effect]) {
        tellInterest(id, to: other, at: now, &effects)
        for retained in channels[id]?.retained ?? [] where retained.until > now {
            // Its publisher's node sends an event; when that is gone, everybody who has it.
            let origin = EventIDs.node(of: retained.event.id)
            guard origin == node || !members.contains(origin) else { continue }
            let copy = Forward.event(id, retained.event, remaining: 0, isCopy: true)
            forward(Outgoing(copy, until: retained.until), to: other, at: now, &effects)
        }
    }

    mutating func tellInterest(_ id: ChannelID, to other: NodeID, at now: Instant, _ effects: inout [Effect]) {
        guard let interest = channels[id]?.record.interest(of: other) else { return }
        forward(Outgoing(.knows(id, interest: interest.fingerprint)), to: other, at: now, &effects)
    }

    /// A node that has nothing open any more gets nothing more.
    mutating func endOutboxIfUnused(_ other: NodeID) {
        guard peers[other]?.outbox != nil,
            !channels.contains(where: { $0.value.record.interest(of: other) != nil })
        else { return }
        peers[other]?.outbox = nil
    }

    // MARK: The link

    mutating func link(to other: NodeID, isUp: Bool, at now: Instant, _ effects: inout [Effect]) {
        peers[other, default: PeerState()].isUp = isUp
        withOutbox(other) { $0.endLink() }
        guard isUp else { return }
        sayHello(to: other, at: now, &effects)
        // The question may have been answered on a link that broke.
        if let answer = peers[other]?.inbox?.apply({ $0.confirmation() }) {
            effects.append(.send(answer, to: other))
        }
    }

    mutating func refusedForward(_ number: UInt64, to other: NodeID) {
        withOutbox(other) { outbox in
            outbox.isBlocked = true
            outbox.nextToSend = min(outbox.nextToSend, number)
        }
    }

    mutating func linkIsWritable(_ other: NodeID, at now: Instant, _ effects: inout [Effect]) {
        withOutbox(other) { $0.isBlocked = false }
        sendForwards(to: other, at: now, &effects)
    }
}

// MARK: What comes

extension NodeEngine {
    mutating func receive(_ message: PeerMessage, from other: NodeID, at now: Instant, _ effects: inout [Effect]) {
        switch message {
        case .hello(let stream, let isOpened):
            if peers[other]?.inbox?.stream != stream {
                guard !isOpened else {
                    let answer = PeerMessage.received(stream: stream, isKnown: false, ReceivedNumbers())
                    effects.append(.send(answer, to: other))
                    return
                }
                if let former = peers[other]?.inbox, former.stream >> 32 != stream >> 32 { forgetOrder(of: other) }
                peers[other, default: PeerState()].inbox = Inbox(stream: stream)
            }
            confirmForwards(of: other, &effects)
        case .received(let stream, let isKnown, let numbers):
            confirmed(stream, isKnown: isKnown, numbers, by: other, at: now, &effects)
        case .forward(let stream, let number, let forward):
            guard peers[other]?.inbox?.stream == stream else { return }
            let cost = Outgoing(forward).cost
            let (isNew, isDue) =
                peers[other]?.inbox?.apply { inbox -> (Bool, Bool) in
                    // Nobody who keeps to the window sends a number so far ahead.
                    guard number < inbox.numbers.upTo + 2 * UInt64(EventLimits.windowMax) else { return (false, false) }
                    let isNew = inbox.numbers.insert(number)
                    inbox.unconfirmed += 1
                    inbox.unconfirmedBytes += cost
                    let isDue =
                        !isNew || inbox.unconfirmed >= EventLimits.confirmEvery
                        || inbox.unconfirmedBytes >= EventLimits.confirmBytes
                    return (isNew, isDue)
                } ?? (false, false)
            if isDue { confirmForwards(of: other, &effects) }
            if isNew { take(forward, from: other, at: now, &effects) }
        }
    }

    /// The other node has lost its memory: its ids are others now.
    private mutating func forgetOrder(of other: NodeID) {
        channels.updateAll { _, channel in
            channel.latest.removeAll { $0.key >> 8 == UInt64(other.rawValue) }
            channel.told[other] = nil
        }
        clients.updateAll { _, client in
            client.instances.updateAll { _, instance in instance.heardBy?.removeAll { $0 == other } }
        }
    }

    private mutating func confirmForwards(of other: NodeID, _ effects: inout [Effect]) {
        guard let answer = peers[other]?.inbox?.apply({ $0.confirmation() }) else { return }
        effects.append(.send(answer, to: other))
    }

    private mutating func take(_ forward: Forward, from other: NodeID, at now: Instant, _ effects: inout [Effect]) {
        let id = forward.channel
        guard channels.contains(id) else {
            // The other node may have heard sooner than we that this one has opened it.
            if !pending.isEmpty { early.append(Early(forward, from: other), limits) }
            return
        }
        switch forward {
        case .event(_, let event, let remaining, let isCopy):
            arrive(event, on: id, remaining: remaining, isCopy: isCopy, at: now, &effects)
        case .lost(_, at: Forward.unheardTime): tellUnheard(on: id, by: other, at: now, &effects)
        case .lost(_, let time): tellLoss(on: id, wall: time, at: now, &effects)
        case .knows(_, let interest):
            channels[id]?.told[other] = interest
            noteHeard(id, by: other)
            settleInterest(id, at: now, &effects)
        case .clear(_, let event):
            if clear(event, on: id), EventIDs.node(of: event) == node {
                forwardClearing(of: event, on: id, except: other, at: now, &effects)
            }
        }
    }

    private mutating func arrive(
        _ event: EventMessage, on id: ChannelID, remaining: SaTime, isCopy: Bool, at now: Instant,
        _ effects: inout [Effect]
    ) {
        if remaining > 0 {
            guard channels[id]?.retained.contains(where: { $0.event.id == event.id }) == false else { return }
            if retainedCount < limits.retainedMax {
                retain(event, on: id, until: now + .nanoseconds(remaining))
            } else if isCopy {
                return  // it would come again whenever this node is introduced to the channel
            }
        } else if isCopy {
            return
        }
        // A node's ids ascend. When a copy of a later one has come by a third node, an earlier one is too late: it
        // would come out of order.
        let source = UInt64(EventIDs.node(of: event.id).rawValue) << 8 | UInt64(event.priority.rawValue)
        if let latest = channels[id]?.latest[source], event.id < latest {
            tellLoss(on: id, matching: event.patterns, wall: lastWall, at: now, &effects)
        } else {
            channels[id]?.latest[source] = event.id
            distribute(event, on: id, at: now, &effects)
        }
    }

    /// What came before the registry had told this node of the channel.
    mutating func takeEarly(_ id: ChannelID, at now: Instant, _ effects: inout [Effect]) {
        guard !early.isEmpty else { return }
        for next in early.take(id) { take(next.forward, from: next.node, at: now, &effects) }
    }

    /// Every subscriber of the channel on this node, or those that wanted one event, learn that they may have missed
    /// something.
    mutating func tellLoss(
        on id: ChannelID, matching patterns: [[UInt8]]? = nil, wall: SaTime, at now: Instant,
        _ effects: inout [Effect]
    ) {
        tellLoss(to: channels[id]?.instances ?? [], matching: patterns, wall: wall, at: now, &effects)
    }

    mutating func tellLoss(
        to targets: [InstanceID], matching patterns: [[UInt8]]? = nil, wall: SaTime, at now: Instant,
        _ effects: inout [Effect]
    ) {
        let limits = limits
        for target in targets {
            withInstance(target) { instance in
                let isConcerned = instance.subscriptions.contains { subscription in
                    patterns.map { subscription.filters.match($0) } ?? true
                }
                guard isConcerned else { return }
                instance.queue.drop(instance: target.number, at: wall)
                instance.fillWindow(limits)
            }
            send(target, at: now, &effects)
        }
    }

    mutating func forwardClearing(
        of event: EventID, on id: ChannelID, except other: NodeID?, at now: Instant, _ effects: inout [Effect]
    ) {
        for user in channels[id]?.record.users ?? [] where user.node != node && user.node != other {
            withOutbox(user.node) { $0.clear(event) }
            forward(Outgoing(.clear(id, event)), to: user.node, at: now, &effects)
        }
    }
}

extension PeerState: WireCodable {
    func encode(to writer: inout ByteWriter) {
        writer.optional(outbox)
        writer.optional(inbox)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        outbox = try reader.optional()
        inbox = try reader.optional()
    }
}

extension Outbox { mutating func apply<Value>(_ body: (inout Self) -> Value) -> Value { body(&self) } }
extension Inbox { mutating func apply<Value>(_ body: (inout Self) -> Value) -> Value { body(&self) } }

/// A forward that came before its channel was known here. node · forward.
struct Early: Sendable, WireCodable {
    var node: NodeID
    var forward: Forward

    init(_ forward: Forward, from node: NodeID) {
        self.node = node
        self.forward = forward
    }

    func encode(to writer: inout ByteWriter) {
        writer.value(node)
        writer.value(forward)
    }

    init(decoding reader: inout ByteReader) throws(DecodeError) {
        node = try reader.value()
        forward = try reader.value()
    }
}

/// Forwards that wait for a request of this node to open their channel; bounded, the rest becomes a loss.
struct EarlyForwards: Sendable, WireCodable {
    private var waiting: [Early] = []

    var isEmpty: Bool { waiting.isEmpty }

    init() {}

    mutating func append(_ early: Early, _ limits: NodeEngine.Limits) {
        guard waiting.count >= limits.earlyMax else { return waiting.append(early) }
        let channel = early.forward.channel
        let isTold = waiting.contains { $0.forward.isLoss(of: channel) }
        if case .event(_, let event, _, _) = early.forward, !isTold {
            waiting.append(Early(.lost(channel, at: event.publishTime), from: early.node))
        }
    }

    mutating func take(_ id: ChannelID) -> [Early] {
        let taken = waiting.filter { $0.forward.channel == id }
        waiting.removeAll { $0.forward.channel == id }
        return taken
    }

    mutating func removeAll() { waiting.removeAll() }

    func encode(to writer: inout ByteWriter) { writer.list(waiting) }
    init(decoding reader: inout ByteReader) throws(DecodeError) { waiting = try reader.list() }
}
