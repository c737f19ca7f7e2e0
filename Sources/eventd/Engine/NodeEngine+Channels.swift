import Containers
import EngineKit
import EventProtocol
import SAFTypes

extension NodeEngine {
    // MARK: Opening and closing

    mutating func open(
        _ name: SaName, _ number: UInt32, _ flags: ChannelOpenFlags, _ request: EventRequest, _ origin: RequestOrigin,
        _ effects: inout [Effect]
    ) throws(EventFailure) -> Reply? {
        guard flags.isValid else { throw EventFailure(.badFlags, "open flags \(flags.rawValue); 1 to 7 expected") }
        // A name that this node uses already is surely there; all else is for the registry to say.
        guard let id = names[name], channels[id]?.record.interest(of: node) != nil else {
            try checkRoom(for: number, of: origin.key.session)
            let creating = flags.contains(.create)
            propose(.open(name, creating: creating, lineage: lineageProposal, by: node), request, origin, &effects)
            return nil
        }
        try attach(number, of: origin.key.session, to: id, flags)
        return .opened(id)
    }

    private func checkRoom(for number: UInt32, of session: ClientSession) throws(EventFailure) {
        guard let client = clients[session] else { throw EventFailure(.library, "the client is gone") }
        guard !client.instances.contains(number) else {
            throw EventFailure(.exist, "instance \(number) is open already")
        }
        guard client.instances.count < limits.instancesMax else {
            throw EventFailure(.noResources, "\(limits.instancesMax) channels are open in this process already")
        }
    }

    mutating func attach(
        _ number: UInt32, of session: ClientSession, to id: ChannelID, _ flags: ChannelOpenFlags
    ) throws(EventFailure) {
        try checkRoom(for: number, of: session)
        guard channels.contains(id) else { throw EventFailure(.tryAgain, "the channel has just ended") }
        clients[session]?.instances[number] = Instance(channel: id, flags: flags, limits: limits)
        channels[id]?.instances.append(InstanceID(session: session, number: number))
    }

    mutating func close(_ number: UInt32, of session: ClientSession, _ effects: inout [Effect]) throws(EventFailure) {
        guard let id = detach(number, of: session) else { throw Self.notOpen(number) }
        reconcile(id, &effects)
    }

    private mutating func detach(_ number: UInt32, of session: ClientSession) -> ChannelID? {
        guard let instance = clients[session]?.instances.removeValue(forKey: number) else { return nil }
        channels[instance.channel]?.dropped += instance.queue.dropped
        channels[instance.channel]?.instances.removeAll { $0.session == session && $0.number == number }
        return instance.channel
    }

    mutating func unlink(
        _ name: SaName, _ request: EventRequest, _ origin: RequestOrigin, _ effects: inout [Effect]
    ) throws(EventFailure) -> Reply? {
        guard let id = names[name] else { throw EventFailure(.notExist, "channel \(name) does not exist") }
        propose(.unlink(id), request, origin, about: id, &effects)
        return nil
    }

    func channel(
        of number: UInt32, _ session: ClientSession, needs flag: ChannelOpenFlags
    ) throws(EventFailure) -> ChannelID {
        guard let instance = clients[session]?.instances[number] else { throw Self.notOpen(number) }
        guard instance.flags.contains(flag) else {
            throw EventFailure(
                .access, "the channel was not opened as \(flag == .publisher ? "publisher" : "subscriber")")
        }
        return instance.channel
    }

    static func notOpen(_ number: UInt32) -> EventFailure {
        EventFailure(.badHandle, "channel instance \(number) is not open")
    }

    // MARK: The registry

    mutating func propose(
        _ command: ChannelRegistry.Command, _ request: EventRequest, _ origin: RequestOrigin,
        about id: ChannelID? = nil, _ effects: inout [Effect]
    ) {
        pending[nextTicket] = Pending(request: request, origin: origin, channel: id)
        effects.append(.propose(command, ticket: nextTicket))
        nextTicket += 1
    }

    /// The registry's answer to what a client waits for.
    mutating func settle(_ ticket: UInt64, _ answer: RegistryAnswer, at now: Instant, _ effects: inout [Effect]) {
        guard ticket != 0 else {
            if case .refused = answer { proposeAgainLater(at: now) }
            return
        }
        guard let waiting = pending.removeValue(forKey: ticket) else { return }
        defer { if pending.isEmpty { early.removeAll() } }
        let origin = waiting.origin
        do throws(EventFailure) {
            switch (waiting.request, answer) {
            case (_, .refused(let code, let text)): throw EventFailure(code, text)
            case (.open(let number, let flags, _), .opened(let id)):
                try attach(number, of: origin.key.session, to: id, flags)
                finish(waiting.request, origin, .opened(id), &effects)
            case (.publishNamed(_, let message), .opened(let id)):
                let event = try publishNamed(message, on: id, wall: origin.wall, at: now, &effects)
                finish(waiting.request, origin, .published(event), &effects)
            case (.resume(let resumed), .opened(let id)):
                try attach(resumed, to: id, origin, at: now, &effects)
                finish(waiting.request, origin, .opened(id), &effects)
            case (_, .opened), (_, .done): finish(waiting.request, origin, .done, &effects)
            }
        } catch {
            effects.append(.reply(origin.key, .failure(error)))
        }
    }

    /// The registry tells what a channel is now.
    mutating func register(
        _ id: ChannelID, _ record: RegisteredChannel?, at now: Instant, _ effects: inout [Effect]
    ) {
        lineage = id.lineage
        guard let record else { return end(id, &effects) }
        let before = channels[id]?.record.users ?? []
        channels[id, default: Channel(record)].record = record
        if !record.isUnlinked {
            names[record.name] = id
        } else if names[record.name] == id {
            names[record.name] = nil
        }
        reconcile(id, &effects)
        for user in record.users where user.node != node {
            let known = before.first { $0.node == user.node }?.interest
            if known != user.interest { tellUnheard(id, to: user, known, at: now, &effects) }
            if known == nil {
                introduce(id, to: user.node, at: now, &effects)
            } else if known != user.interest {
                tellInterest(id, to: user.node, at: now, &effects)
            }
        }
        for user in before where record.interest(of: user.node) == nil { endOutboxIfUnused(user.node) }
        noteCutOff(id, at: now)
        settleInterest(id, at: now, &effects)
        takeEarly(id, at: now, &effects)
    }

    /// The registry has a channel no more.
    private mutating func end(_ id: ChannelID, _ effects: inout [Effect]) {
        guard let gone = channels.removeValue(forKey: id) else { return }
        if names[gone.record.name] == id { names[gone.record.name] = nil }
        retainedCount -= gone.retained.count
        for user in gone.record.users { endOutboxIfUnused(user.node) }
        for subscribe in awaited where subscribe.channel == id {
            effects.append(.reply(subscribe.key, .success(.done)))
        }
        awaited.removeAll { $0.channel == id }
        // It ended elsewhere, while the cluster had taken this node for gone.
        for instance in gone.instances {
            clients[instance.session]?.instances[instance.number] = nil
            effects.append(.hangUp(instance.session))
        }
    }

    /// What the registry must know of this node and does not; proposed until it does.
    mutating func reconcile(_ id: ChannelID, _ effects: inout [Effect]) {
        guard let channel = channels[id] else { return }
        let known = channel.record.interest(of: node)
        var wanted: Proposal?
        if channel.instances.isEmpty, channel.record.isUnlinked {
            if known != nil { wanted = .release }
        } else if known != nil || !channel.instances.isEmpty {
            let interest = interest(in: channel)
            if interest != known { wanted = .declare(interest) }
        }
        guard wanted != channel.proposed else { return }
        channels[id]?.proposed = wanted
        switch wanted {
        case .declare(let interest): effects.append(.propose(.declare(id, by: node, interest), ticket: 0))
        case .release: effects.append(.propose(.declare(id, by: node, nil), ticket: 0))
        case nil: break
        }
    }

    func interest(in channel: Channel) -> Interest {
        Interest(
            of: channel.instances.flatMap { instance in
                (clients[instance.session]?.instances[instance.number]?.subscriptions ?? []).map(\.filters)
            })
    }

    private mutating func proposeAgainLater(at now: Instant) {
        channels.updateAll { _, channel in channel.proposed = nil }
        retryAt = now + limits.retryAfter
        wake(notAfter: now + limits.retryAfter)
    }

    /// The registry's state is another as a whole.
    mutating func changeRegistry(
        _ entries: [RegistryEntry], _ lineage: UInt32, at now: Instant, _ effects: inout [Effect]
    ) {
        let known = OrderedMap(entries.map { ($0.id, $0.channel) })
        for id in channels.keys where !known.contains(id) { register(id, nil, at: now, &effects) }
        channels.updateAll { _, channel in channel.proposed = nil }
        for (id, channel) in known { register(id, channel, at: now, &effects) }
        self.lineage = lineage
    }

    /// A new life.
    mutating func replaceRegistry(
        _ entries: [RegistryEntry], _ lineage: UInt32, at now: Instant, _ effects: inout [Effect]
    ) {
        for session in clients.keys { setAway(session, at: now) }
        for other in peers.keys { link(to: other, isUp: false, at: now, &effects) }
        (members, away, awaited, isOldest, backSince) = ([], [:], [], false, [:])
        settleDoubts(at: now)
        changeRegistry(entries, lineage, at: now, &effects)
        // Were the last events of the earlier life not kept, their ids are not given again.
        nextEvent = (nextEvent + (1 << 20)) & ((1 << 48) - 1)
        for (_, waiting) in pending {
            // The registry did it and the answer was lost: it must not be done to a later channel of that name.
            if case .unlink = waiting.request, let id = waiting.channel, channels[id]?.record.isUnlinked ?? true {
                finish(waiting.request, waiting.origin, .done, &effects)
            } else {
                let failure = EventFailure(.tryAgain, "the registry of channels was replaced meanwhile")
                effects.append(.reply(waiting.origin.key, .failure(failure)))
            }
        }
        pending.removeAll()
        early.removeAll()
        timer = nil
    }

    // MARK: Clients that come and go

    mutating func connect(_ session: ClientSession, _ process: ProcessIdentity) {
        setAway(session, at: .start)
        clients[session, default: Client(process: process)].absentUntil = nil
    }

    /// Nothing is sent to it until it has said what it has.
    private mutating func setAway(_ session: ClientSession, at now: Instant) {
        guard clients.contains(session) else { return }
        clients[session]?.absentUntil = now + limits.absenceMax
        clients[session]?.isBlocked = false
        clients[session]?.instances.updateAll { _, instance in
            instance.isResumed = false
            instance.probeAt = nil
            instance.probedUpTo = nil
        }
        wake(notAfter: now + limits.absenceMax)
    }

    mutating func disconnect(
        _ session: ClientSession, isDead: Bool, at now: Instant, _ effects: inout [Effect]
    ) {
        if isDead { leave(session, &effects) } else { setAway(session, at: now) }
    }

    mutating func leave(_ session: ClientSession, _ effects: inout [Effect]) {
        for number in clients[session]?.instances.keys ?? [] {
            if let id = detach(number, of: session) { reconcile(id, &effects) }
        }
        clients[session] = nil
    }

    /// Clients that are not connected, and who they are.
    public var absentClients: [(session: ClientSession, process: ProcessIdentity)] {
        clients.compactMap { session, client in client.absentUntil == nil ? nil : (session, client.process) }
    }

    mutating func resume(
        _ resumed: ResumedInstance, _ request: EventRequest, _ origin: RequestOrigin, at now: Instant,
        _ effects: inout [Effect]
    ) throws(EventFailure) -> Reply? {
        let id = ChannelID(rawValue: resumed.channel)
        let session = origin.key.session
        if let known = clients[session]?.instances[resumed.instance]?.channel {
            guard known == id else { throw Self.notOpen(resumed.instance) }
            carryOn(resumed, origin, at: now, &effects)
            return .opened(id)
        }
        if channels.contains(id) {
            try attach(resumed, to: id, origin, at: now, &effects)
            return .opened(id)
        }
        guard id.lineage != lineage else {
            throw EventFailure(.notExist, "channel \(resumed.name) has been unlinked and has ended")
        }
        // The registry that knew the channel is lost with all it held: the best that can be had is one of that name.
        propose(.open(resumed.name, creating: true, lineage: lineageProposal, by: node), request, origin, &effects)
        return nil
    }

    private mutating func carryOn(
        _ resumed: ResumedInstance, _ origin: RequestOrigin, at now: Instant, _ effects: inout [Effect]
    ) {
        let limits = limits
        let target = InstanceID(session: origin.key.session, number: resumed.instance)
        withInstance(target) { instance in
            if resumed.received.last >= instance.nextNumber {
                // It has more than this life knows of: the last of the earlier life could not be kept.
                instance.removeFromWindow { _ in true }
                instance.nextNumber = resumed.received.last + 1
                instance.queue.drop(instance: target.number, at: origin.wall)
            }
            instance.removeFromWindow { resumed.received.contains($0.number) }
            let listed = resumed.subscriptions.map(\.id)
            instance.removeSubscriptions { !listed.contains($0.id) }
            for subscription in resumed.subscriptions where !subscription.isPending {
                instance.addIfMissing(Subscription(id: subscription.id, filters: subscription.filters))
            }
            instance.isResumed = true
            instance.nextToSend = instance.window.first?.number ?? instance.nextNumber
            instance.fillWindow(limits)
        }
        send(target, at: now, &effects)
        if let id = clients[target.session]?.instances[target.number]?.channel { reconcile(id, &effects) }
    }

    /// Opens anew what this life does not know; what was published meanwhile is lost, and the receiver is told.
    private mutating func attach(
        _ resumed: ResumedInstance, to id: ChannelID, _ origin: RequestOrigin, at now: Instant,
        _ effects: inout [Effect]
    ) throws(EventFailure) {
        guard resumed.flags.isValid else { throw EventFailure(.badFlags, "open flags \(resumed.flags.rawValue)") }
        try attach(resumed.instance, of: origin.key.session, to: id, resumed.flags)
        let limits = limits
        let target = InstanceID(session: origin.key.session, number: resumed.instance)
        withInstance(target) { instance in
            instance.nextNumber = resumed.received.last + 1
            instance.nextToSend = instance.nextNumber
            for subscription in resumed.subscriptions where !subscription.isPending {
                instance.addIfMissing(Subscription(id: subscription.id, filters: subscription.filters))
            }
            guard instance.flags.contains(.subscriber) else { return }
            instance.queue.drop(instance: target.number, at: origin.wall)
            instance.fillWindow(limits)
        }
        send(target, at: now, &effects)
        reconcile(id, &effects)
        noteAnswered(target.session, target.number)
    }
}
