import Containers
import EngineKit
import EventProtocol
import SAFTypes

extension EventEngine {
    mutating func find(_ name: SaName, creating: Bool, _ effects: inout [Effect]) throws(EventFailure) -> ChannelID {
        if let id = names[name] { return id }
        guard creating else { throw EventFailure(.notExist, "channel \(name) does not exist; open it with CREATE") }
        guard channels.count < limits.channelsMax else {
            throw EventFailure(.noResources, "\(limits.channelsMax) channels exist already")
        }
        let id = ChannelID(rawValue: nextChannel)
        nextChannel += 1
        names[name] = id
        channels[id] = Channel(name: name)
        effects.append(.keep(.channel(id.rawValue), .channel(name)))
        return id
    }

    mutating func open(
        _ name: SaName, instance: UInt32, flags: ChannelOpenFlags, client: ClientID, _ effects: inout [Effect]
    ) throws(EventFailure) -> EventReply {
        guard flags.isValid else { throw EventFailure(.badFlags, "open flags \(flags.rawValue); 1 to 7 expected") }
        let opened = clients[client]?.instances
        guard opened?[instance] == nil else { throw EventFailure(.exist, "instance \(instance) is open already") }
        guard (opened?.count ?? 0) < limits.instancesMax else {
            throw EventFailure(.noResources, "\(limits.instancesMax) channels are open in this process already")
        }
        let id = try find(name, creating: flags.contains(.create), &effects)
        let queue = DeliveryQueue(countMax: limits.queueMax, bytesMax: limits.queueBytesMax)
        var state = clients[client] ?? Client()
        state.instances[instance] = Instance(channel: id, flags: flags, queue: queue)
        clients[client] = state
        channels[id]?.instances.append(InstanceID(client: client, number: instance))
        return .done
    }

    mutating func close(
        _ instance: UInt32, client: ClientID, _ effects: inout [Effect]
    ) throws(EventFailure) -> EventReply {
        guard let opened = clients[client]?.instances[instance] else { throw Self.notOpen(instance) }
        clients[client]?.instances[instance] = nil
        detach(InstanceID(client: client, number: instance), from: opened.channel, &effects)
        return .done
    }

    mutating func leave(_ client: ClientID) -> [Effect] {
        guard let left = clients[client] else { return [] }
        var effects: [Effect] = []
        clients[client] = nil
        for (number, instance) in left.instances {
            detach(InstanceID(client: client, number: number), from: instance.channel, &effects)
        }
        return effects
    }

    private mutating func detach(_ instance: InstanceID, from id: ChannelID, _ effects: inout [Effect]) {
        channels[id]?.instances.removeAll { $0 == instance }
        freeIfUnused(id, &effects)
    }

    mutating func unlink(_ name: SaName, _ effects: inout [Effect]) throws(EventFailure) -> EventReply {
        guard let id = names.removeValue(forKey: name) else {
            throw EventFailure(.notExist, "channel \(name) does not exist")
        }
        channels[id]?.isUnlinked = true
        effects.append(.forget(.channel(id.rawValue)))
        freeIfUnused(id, &effects)
        return .done
    }

    /// An unlinked channel goes with its last opener, and its retained events with it.
    private mutating func freeIfUnused(_ id: ChannelID, _ effects: inout [Effect]) {
        guard let channel = channels[id], channel.isUnlinked, channel.instances.isEmpty else { return }
        for retained in channel.retained { effects.append(.forget(.event(retained.event.id))) }
        retainedCount -= channel.retained.count
        channels[id] = nil
    }

    func channel(
        of instance: UInt32, _ client: ClientID, needs flag: ChannelOpenFlags
    ) throws(EventFailure) -> ChannelID {
        guard let opened = clients[client]?.instances[instance] else { throw Self.notOpen(instance) }
        guard opened.flags.contains(flag) else {
            throw EventFailure(
                .access, "the channel was not opened as \(flag == .publisher ? "publisher" : "subscriber")")
        }
        return opened.channel
    }

    static func notOpen(_ instance: UInt32) -> EventFailure {
        EventFailure(.badHandle, "channel instance \(instance) is not open")
    }

    /// All channels, for people and tools.
    public var channelList: ChannelList {
        ChannelList(
            channels.map { id, channel in
                var (publishers, subscribers, dropped) = (UInt32(0), UInt32(0), channel.dropped)
                for instance in channel.instances {
                    guard let opened = clients[instance.client]?.instances[instance.number] else { continue }
                    if opened.flags.contains(.publisher) { publishers += 1 }
                    if opened.flags.contains(.subscriber) { subscribers += 1 }
                    dropped += opened.queue.dropped
                }
                return ChannelStatus(
                    name: channel.name, isUnlinked: channel.isUnlinked, publishers: publishers,
                    subscribers: subscribers,
                    retained: UInt32(channel.retained.count), published: channel.published, dropped: dropped)
            })
    }
}
