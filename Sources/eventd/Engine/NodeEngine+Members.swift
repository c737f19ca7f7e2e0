import Containers
import EngineKit
import EventProtocol
import SAFTypes

/// The other nodes: who is there, who has left, and whether they know what this one wants.
extension NodeEngine {
    mutating func change(_ members: [NodeID], isOldest: Bool, at now: Instant, _ effects: inout [Effect]) {
        self.members = members
        self.isOldest = isOldest
        findDepartures(at: now, &effects)
        settleDoubts(at: now)
        for id in awaited.map(\.channel) { settleInterest(id, at: now, &effects) }
    }

    /// A node that is in no view for long has left: the oldest member says so to the registry. Not at once, because a
    /// restarted eventd goes on with what its node has open.
    mutating func findDepartures(at now: Instant, _ effects: inout [Effect]) {
        guard !members.isEmpty else { return }
        var users: OrderedMap<NodeID, Instant> = [:]
        for (_, channel) in channels {
            for user in channel.record.users where user.node != node && !members.contains(user.node) {
                users[user.node] = away[user.node] ?? now
            }
        }
        away = users
        for (user, since) in users {
            if since + limits.departureAfter <= now {
                away[user] = now  // in case that the registry refuses
                if isOldest { effects.append(.propose(.nodeGone(user), ticket: 0)) }
            }
            wake(notAfter: (away[user] ?? now) + limits.departureAfter)
        }
    }

    // MARK: Interest

    private var hasCompany: Bool { members.contains { $0 != node } }

    /// Whether every node that is there forwards by what the subscribers of this one want.
    func isInterestTold(_ id: ChannelID) -> Bool {
        guard let channel = channels[id], let known = channel.record.interest(of: node) else { return false }
        guard hasCompany else { return true }
        guard interest(in: channel) == known else { return false }
        let fingerprint = known.fingerprint
        return members.allSatisfy { $0 == node || channel.told[$0] == fingerprint }
    }

    /// Nil: the subscribe can be answered. Else it is when the others know, or have not said so for too long.
    mutating func awaitInterest(
        of number: UInt32, _ origin: RequestOrigin, at now: Instant
    ) -> AwaitedSubscribe? {
        guard hasCompany, let id = clients[origin.key.session]?.instances[number]?.channel, !isInterestTold(id)
        else { return nil }
        let until = now + limits.toldWithin
        wake(notAfter: until)
        return AwaitedSubscribe(key: origin.key, instance: number, channel: id, until: until)
    }

    /// Does what waited until the others know what this node wants of a channel.
    mutating func settleInterest(_ id: ChannelID, at now: Instant, _ effects: inout [Effect]) {
        let isCutOff = channels[id]?.isCutOff ?? false
        guard isCutOff || awaited.contains(where: { $0.channel == id }), isInterestTold(id) else { return }
        for subscribe in awaited where subscribe.channel == id {
            noteAnswered(subscribe.key.session, subscribe.instance)
            effects.append(.reply(subscribe.key, .success(.done)))
        }
        awaited.removeAll { $0.channel == id }
        if isCutOff { endCutOff(id, at: now, &effects) }
    }

    mutating func giveUpAwaiting(at now: Instant, _ effects: inout [Effect]) {
        for subscribe in awaited where subscribe.until <= now {
            noteAnswered(subscribe.key.session, subscribe.instance)
            effects.append(.reply(subscribe.key, .success(.done)))
        }
        awaited.removeAll { $0.until <= now }
        if let next = awaited.map(\.until).min() { wake(notAfter: next) }
        for id in channels.keys {
            guard let until = channels[id]?.cutOffUntil else { continue }
            if until <= now { endCutOff(id, at: now, &effects) } else { wake(notAfter: until) }
        }
    }

    /// Notices when the cluster had taken this node for gone: until the others forward again its subscribers miss
    /// what is published there.
    mutating func noteCutOff(_ id: ChannelID, at now: Instant) {
        guard let channel = channels[id] else { return }
        guard channel.record.interest(of: node) != nil else {
            channels[id]?.told = [:]
            channels[id]?.cutOffUntil = nil
            let isCutOff = channel.isCutOff || hasSubscribers(channel)
            channels[id]?.isCutOff = isCutOff
            return
        }
        guard channel.isCutOff, channel.cutOffUntil == nil else { return }
        channels[id]?.cutOffUntil = now + limits.toldWithin
        wake(notAfter: now + limits.toldWithin)
    }

    private func hasSubscribers(_ channel: Channel) -> Bool {
        channel.instances.contains {
            clients[$0.session]?.instances[$0.number]?.subscriptions.isEmpty == false
        }
    }

    private mutating func endCutOff(_ id: ChannelID, at now: Instant, _ effects: inout [Effect]) {
        channels[id]?.isCutOff = false
        channels[id]?.cutOffUntil = nil
        tellLoss(on: id, wall: lastWall, at: now, &effects)
    }
}
