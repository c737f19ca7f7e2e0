import Containers
import EngineKit
import EventProtocol
import SAFTypes

extension EventEngine {
    mutating func publish(
        _ message: EventMessage, on id: ChannelID, wall: SaTime, at now: Instant, _ effects: inout [Effect]
    ) throws(EventFailure) -> EventReply {
        if let defect = message.defect { throw EventFailure(defect.error, defect.text) }
        guard var channel = channels[id] else { throw EventFailure(.library, "the channel is gone") }
        if message.retention > 0, retainedCount >= limits.retainedMax {
            throw EventFailure(.noResources, "\(limits.retainedMax) events are retained already")
        }
        var event = message
        event.id = nextEvent
        event.publishTime = wall
        nextEvent += 1
        channel.published += 1
        if event.retention > 0 {
            let until = now + .nanoseconds(event.retention)
            channel.retained.append(Retained(event: event, until: until))
            retainedCount += 1
            effects.append(.keep(.event(event.id), .event(channel.name, until: until, event)))
        }
        channels[id] = channel
        for instance in channel.instances {
            guard let opened = clients[instance.client]?.instances[instance.number],
                let match = opened.subscriptions.first(where: { $0.filters.match(event.patterns) })
            else { continue }
            let delivery = EventDelivery(instance: instance.number, subscription: match.id, event: event)
            send(delivery, to: instance.client, wall: wall, &effects)
        }
        return .published(event.id)
    }

    /// At once when nothing waits; else behind what waits.
    private mutating func send(
        _ delivery: EventDelivery, to client: ClientID, wall: SaTime, _ effects: inout [Effect]
    ) {
        guard let state = clients[client] else { return }
        if !state.isBlocked, state.instances[delivery.instance]?.queue.isEmpty == true {
            effects.append(.deliver(delivery, to: client))
        } else {
            clients[client]?.instances[delivery.instance]?.queue.append(delivery, at: wall)
        }
    }

    /// Hands over everything that waits for a client; the shell gives back what finds no room.
    mutating func drain(_ client: ClientID) -> [Effect] {
        guard var state = clients[client] else { return [] }
        var effects: [Effect] = []
        for number in state.instances.map(\.key) {
            while let delivery = state.instances[number]?.queue.popFirst() {
                effects.append(.deliver(delivery, to: client))
            }
        }
        clients[client] = state
        return effects
    }

    mutating func subscribe(
        _ client: ClientID, _ number: UInt32, _ subscription: Subscription, wall: SaTime, _ effects: inout [Effect]
    ) throws(EventFailure) -> EventReply {
        let id = try channel(of: number, client, needs: .subscriber)
        guard var instance = clients[client]?.instances[number] else { throw Self.notOpen(number) }
        guard !instance.subscriptions.contains(where: { $0.id == subscription.id }) else {
            throw EventFailure(.exist, "subscription \(subscription.id) exists already on this channel instance")
        }
        guard instance.subscriptions.count < limits.subscriptionsMax else {
            throw EventFailure(.noResources, "\(limits.subscriptionsMax) subscriptions exist already on this instance")
        }
        let known = instance.subscriptions
        instance.subscriptions.append(subscription)
        clients[client]?.instances[number] = instance
        // Retained events that an earlier subscription of this instance has had already do not come again.
        for retained in channels[id]?.retained ?? []
        where subscription.filters.match(retained.event.patterns)
            && !known.contains(where: { $0.filters.match(retained.event.patterns) })
        {
            let delivery = EventDelivery(instance: number, subscription: subscription.id, event: retained.event)
            send(delivery, to: client, wall: wall, &effects)
        }
        return .done
    }

    mutating func unsubscribe(
        _ client: ClientID, _ number: UInt32, _ subscription: UInt32
    ) throws(EventFailure) -> EventReply {
        guard var instance = clients[client]?.instances[number] else { throw Self.notOpen(number) }
        guard let index = instance.subscriptions.firstIndex(where: { $0.id == subscription }) else {
            throw EventFailure(.notExist, "subscription \(subscription) does not exist on this channel instance")
        }
        instance.subscriptions.remove(at: index)
        let left = instance.subscriptions
        instance.queue.removeAll { waiting in !left.contains { $0.filters.match(waiting.event.patterns) } }
        clients[client]?.instances[number] = instance
        return .done
    }

    mutating func clearRetention(
        _ client: ClientID, _ number: UInt32, _ event: EventID, _ effects: inout [Effect]
    ) throws(EventFailure) -> EventReply {
        guard event > EventIDs.reservedMax else { throw EventFailure(.invalidParam, "event id \(event) is reserved") }
        guard let id = clients[client]?.instances[number]?.channel else { throw Self.notOpen(number) }
        guard let index = channels[id]?.retained.firstIndex(where: { $0.event.id == event }) else {
            throw EventFailure(.notExist, "event \(event) is not retained (any more) on this channel")
        }
        channels[id]?.retained.remove(at: index)
        retainedCount -= 1
        effects.append(.forget(.event(event)))
        return .done
    }

    // MARK: Retention

    mutating func expire(at now: Instant) -> [Effect] {
        var effects: [Effect] = []
        guard retainedCount > 0 else { return effects }
        for id in channels.map(\.key) {
            guard let channel = channels[id], channel.retained.contains(where: { $0.until <= now }) else { continue }
            for retained in channel.retained where retained.until <= now {
                effects.append(.forget(.event(retained.event.id)))
                retainedCount -= 1
            }
            channels[id]?.retained.removeAll { $0.until <= now }
        }
        return effects
    }

    mutating func updateTimer() -> [Effect] {
        let next = retainedCount == 0 ? nil : channels.compactMap { $0.value.retained.map(\.until).min() }.min()
        guard next != timer else { return [] }
        timer = next
        return [.setTimer(next)]
    }
}
