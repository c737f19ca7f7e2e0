import Containers
import EngineKit
import EventProtocol
import SAFTypes

extension NodeEngine {
    /// Changes an instance in place: a copy would copy its whole queue. Nil when it is not open.
    @discardableResult
    mutating func withInstance<Value>(_ id: InstanceID, _ body: (inout Instance) -> Value) -> Value? {
        clients[id.session]?.instances[id.number]?.apply(body)
    }

    // MARK: Publishing

    mutating func publish(
        _ message: EventMessage, on id: ChannelID, wall: SaTime, at now: Instant, _ effects: inout [Effect]
    ) throws(EventFailure) -> EventID {
        if let defect = message.defect { throw EventFailure(defect.error, defect.text) }
        guard let users = channels[id]?.record.users else { throw EventFailure(.badHandle, "the channel has ended") }
        if message.retention > 0, retainedCount >= limits.retainedMax {
            throw EventFailure(.noResources, "\(limits.retainedMax) events are retained already")
        }
        var event = message
        event.id = UInt64(node.rawValue) << 48 | nextEvent
        event.publishTime = wall
        nextEvent += 1
        channels[id]?.published += 1
        if event.retention > 0 {
            retain(event, on: id, until: now + .nanoseconds(event.retention))
        }
        distribute(event, on: id, at: now, &effects)
        // A retained one also goes where nobody wants it yet: a later subscriber there may.
        var heardBy = 0
        for user in users where user.node != node {
            guard event.retention > 0 || user.interest.matches(event.patterns) else { continue }
            heardBy += 1
            let until = event.retention > 0 ? now + .nanoseconds(event.retention) : nil
            let outgoing = Outgoing(.event(id, event, remaining: 0, isCopy: false), until: until)
            forward(outgoing, to: user.node, at: now, &effects)
        }
        if event.retention == 0, heardBy < max(others.count, users.count - 1) {
            channels[id]?.unheard.note(event.patterns, at: now)
        }
        return event.id
    }

    /// An event of a daemon: what it retains is bounded per channel, the oldest giving way, and never a reason to
    /// refuse it, because a daemon has nobody to tell.
    mutating func publishNamed(
        _ message: EventMessage, on id: ChannelID, wall: SaTime, at now: Instant, _ effects: inout [Effect]
    ) throws(EventFailure) -> EventID {
        var message = message
        if message.retention > 0 {
            if let retained = channels[id]?.retained, retained.count >= limits.retainedNamedMax,
                let oldest = retained.first?.event.id
            {
                _ = clear(oldest, on: id)
                forwardClearing(of: oldest, on: id, except: nil, at: now, &effects)
            } else if retainedCount >= limits.retainedMax {
                message.retention = 0
            }
        }
        return try publish(message, on: id, wall: wall, at: now, &effects)
    }

    mutating func retain(_ event: EventMessage, on id: ChannelID, until: Instant) {
        channels[id]?.retained.append(Retained(event: event, until: until))
        retainedCount += 1
        wake(notAfter: until)
    }

    /// To every instance of this node with a subscription that matches.
    mutating func distribute(_ event: EventMessage, on id: ChannelID, at now: Instant, _ effects: inout [Effect]) {
        let limits = limits
        for target in channels[id]?.instances ?? [] {
            let isWanted = withInstance(target) { instance -> Bool in
                guard let match = instance.subscription(for: event) else { return false }
                let delivery = EventDelivery(instance: target.number, subscription: match.id, event: event)
                instance.queue.append(delivery, at: event.publishTime)
                instance.fillWindow(limits)
                return true
            }
            if isWanted == true { send(target, at: now, &effects) }
        }
    }

    // MARK: Sending

    /// Everything of an instance's window that is not on its way yet.
    mutating func send(_ target: InstanceID, at now: Instant, _ effects: inout [Effect]) {
        guard takesDeliveries(target.session) else { return }
        let limits = limits
        var probeAt: Instant?
        withInstance(target) { instance in
            guard instance.isResumed, instance.nextToSend < instance.nextNumber else { return }
            let first = instance.window.firstIndex { $0.number >= instance.nextToSend } ?? instance.window.count
            for delivery in instance.window[first...] { effects.append(.deliver(delivery, to: target.session)) }
            instance.nextToSend = instance.nextNumber
            guard instance.probeAt == nil, first < instance.window.count else { return }
            instance.probeDelay = limits.probeFirst
            instance.probeAt = now + limits.probeFirst
            probeAt = instance.probeAt
        }
        if let probeAt { wake(notAfter: probeAt) }
    }

    private func takesDeliveries(_ session: ClientSession) -> Bool {
        guard let client = clients[session] else { return false }
        return client.absentUntil == nil && !client.isBlocked
    }

    mutating func sendAll(_ session: ClientSession, at now: Instant, _ effects: inout [Effect]) {
        for number in clients[session]?.instances.keys ?? [] {
            send(InstanceID(session: session, number: number), at: now, &effects)
        }
    }

    mutating func confirm(
        _ session: ClientSession, _ number: UInt32, _ received: ReceivedNumbers, at now: Instant,
        _ effects: inout [Effect]
    ) throws(EventFailure) {
        let target = InstanceID(session: session, number: number)
        let limits = limits
        let probeAt = withInstance(target) { instance -> Instant? in
            instance.removeFromWindow { received.contains($0.number) }
            // All before the repeated delivery had arrived or never will.
            if let probed = instance.probedUpTo, let missing = instance.window.first?.number, missing < probed {
                instance.unsend(from: missing)
            }
            instance.probedUpTo = nil
            instance.probeDelay = limits.probeFirst
            instance.probeAt = instance.window.isEmpty ? nil : now + limits.probeFirst
            instance.fillWindow(limits)
            return instance.probeAt
        }
        guard let probeAt else { throw Self.notOpen(number) }
        if let probeAt { wake(notAfter: probeAt) }
        send(target, at: now, &effects)
    }

    // MARK: Subscribing

    mutating func subscribe(
        _ session: ClientSession, _ number: UInt32, _ subscription: Subscription, _ wall: SaTime, at now: Instant,
        _ effects: inout [Effect]
    ) throws(EventFailure) {
        let id = try channel(of: number, session, needs: .subscriber)
        let known = clients[session]?.instances[number]?.subscriptions ?? []
        guard !known.contains(where: { $0.id == subscription.id }) else {
            throw EventFailure(.exist, "subscription \(subscription.id) exists already on this channel instance")
        }
        guard known.count < limits.subscriptionsMax else {
            throw EventFailure(.noResources, "\(limits.subscriptionsMax) subscriptions exist already on this instance")
        }
        let target = InstanceID(session: session, number: number)
        let limits = limits
        let retained = channels[id]?.retained ?? []
        withInstance(target) { instance in
            instance.subscriptions.append(subscription)
            // What an earlier subscription of this instance has had already does not come again.
            for event in retained.map(\.event)
            where subscription.filters.match(event.patterns)
                && !known.contains(where: { $0.filters.match(event.patterns) })
            {
                let delivery = EventDelivery(instance: number, subscription: subscription.id, event: event)
                instance.queue.append(delivery, at: wall)
            }
            instance.fillWindow(limits)
        }
        send(target, at: now, &effects)
        reconcile(id, &effects)
    }

    mutating func unsubscribe(
        _ session: ClientSession, _ number: UInt32, _ subscription: UInt32, _ effects: inout [Effect]
    ) throws(EventFailure) {
        guard let instance = clients[session]?.instances[number] else { throw Self.notOpen(number) }
        guard instance.subscriptions.contains(where: { $0.id == subscription }) else {
            throw EventFailure(.notExist, "subscription \(subscription) does not exist on this channel instance")
        }
        withInstance(InstanceID(session: session, number: number)) { instance in
            instance.removeSubscriptions { $0.id == subscription }
        }
        reconcile(instance.channel, &effects)
    }

    mutating func clearRetention(
        _ session: ClientSession, _ number: UInt32, _ event: EventID, at now: Instant, _ effects: inout [Effect]
    ) throws(EventFailure) {
        guard event > EventIDs.reservedMax else { throw EventFailure(.invalidParam, "event id \(event) is reserved") }
        guard let id = clients[session]?.instances[number]?.channel else { throw Self.notOpen(number) }
        guard clear(event, on: id) else {
            throw EventFailure(.notExist, "event \(event) is not retained (any more) on this channel")
        }
        let origin = EventIDs.node(of: event)
        if origin != node, members.contains(origin) {
            // Its own node tells the others, behind the event itself.
            withOutbox(origin) { $0.clear(event) }
            forward(Outgoing(.clear(id, event)), to: origin, at: now, &effects)
        } else {
            forwardClearing(of: event, on: id, except: nil, at: now, &effects)
        }
    }

    /// False when it was not retained.
    mutating func clear(_ event: EventID, on id: ChannelID) -> Bool {
        guard let index = channels[id]?.retained.firstIndex(where: { $0.event.id == event }) else { return false }
        channels[id]?.retained.remove(at: index)
        retainedCount -= 1
        return true
    }

    // MARK: Time

    mutating func wake(notAfter instant: Instant) { wakeAt = min(wakeAt ?? instant, instant) }

    /// Does what time has brought, and finds out what it brings next.
    mutating func wake(at now: Instant, _ effects: inout [Effect]) {
        wakeAt = nil
        for id in channels.keys {
            guard let retained = channels[id]?.retained, !retained.isEmpty else { continue }
            let left = retained.filter { $0.until > now }
            if left.count < retained.count { channels[id]?.retained = left }
            retainedCount -= retained.count - left.count
            if let next = left.map(\.until).min() { wake(notAfter: next) }
        }
        for (session, client) in clients {
            if let until = client.absentUntil {
                if until <= now { leave(session, &effects) } else { wake(notAfter: until) }
            } else {
                for number in client.instances.keys {
                    probe(InstanceID(session: session, number: number), isBlocked: client.isBlocked, at: now, &effects)
                }
            }
        }
        probeForwards(at: now, &effects)
        findDepartures(at: now, &effects)
        settleDoubts(at: now)
        giveUpAwaiting(at: now, &effects)
        if let retryAt, retryAt <= now {
            self.retryAt = nil
            for id in channels.keys { reconcile(id, &effects) }
        }
        if let retryAt { wake(notAfter: retryAt) }
    }

    /// Repeats the oldest delivery that nobody confirmed: the receiver answers with all that it has.
    private mutating func probe(
        _ target: InstanceID, isBlocked: Bool, at now: Instant, _ effects: inout [Effect]
    ) {
        let limits = limits
        var repeated: EventDelivery?
        let next = withInstance(target) { instance -> Instant? in
            guard let due = instance.probeAt, due <= now else { return instance.probeAt }
            guard let oldest = instance.window.first else {
                instance.probeAt = nil
                return nil
            }
            if !isBlocked, instance.isResumed, oldest.number < instance.nextToSend {
                repeated = oldest
                instance.probedUpTo = instance.nextToSend
            }
            instance.probeDelay = min(instance.probeDelay * 2, limits.probeMax)
            instance.probeAt = now + instance.probeDelay
            return instance.probeAt
        }
        if let repeated { effects.append(.deliver(repeated, to: target.session)) }
        if let next = next ?? nil { wake(notAfter: next) }
    }
}

extension NodeEngine.Instance {
    mutating func apply<Value>(_ body: (inout Self) -> Value) -> Value { body(&self) }

    /// What waits for a removed subscription goes to another that matches, or nowhere.
    mutating func removeSubscriptions(where isGone: (NodeEngine.Subscription) -> Bool) {
        let before = subscriptions.count
        subscriptions.removeAll(where: isGone)
        guard subscriptions.count < before else { return }
        let left = subscriptions
        queue.replaceAll { waiting in
            if left.contains(where: { $0.id == waiting.subscription }) { return waiting }
            guard let other = left.first(where: { $0.filters.match(waiting.event.patterns) }) else { return nil }
            var moved = waiting
            moved.subscription = other.id
            return moved
        }
    }

    mutating func addIfMissing(_ subscription: NodeEngine.Subscription) {
        if !subscriptions.contains(where: { $0.id == subscription.id }) { subscriptions.append(subscription) }
    }
}
