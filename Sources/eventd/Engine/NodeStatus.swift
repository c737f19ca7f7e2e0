public import EventProtocol
public import SAFTypes

/// One opening of a channel, for people.
public struct InstanceStatus: Hashable, Sendable {
    public var channel: SaName
    public var process: UInt32
    public var instance: UInt32
    public var flags: ChannelOpenFlags
    public var subscriptions: [[EventFilter]]
    /// Events that wait, and their octets.
    public var waiting: Int
    public var waitingBytes: Int
    /// Deliveries on their way.
    public var unconfirmed: Int
    public var dropped: UInt64
    public var isConnected: Bool
    /// It takes nothing at the moment.
    public var isBlocked: Bool
}

/// What another node wants of a channel, for people.
public struct RemoteInterest: Hashable, Sendable {
    public var channel: SaName
    public var node: NodeID
    public var interest: Interest
}

/// What is forwarded to another node, for people.
public struct ForwardingStatus: Hashable, Sendable {
    public var node: NodeID
    public var waiting: Int
    public var waitingBytes: Int
    /// On their way.
    public var unconfirmed: Int
    public var dropped: UInt64
    public var isUp: Bool
    /// It is in the group.
    public var isMember: Bool
}

/// The engine in numbers, for people.
public struct NodeStatus: Hashable, Sendable {
    public var channels: Int
    public var clients: Int
    public var absentClients: Int
    public var instances: Int
    public var subscriptions: Int
    public var retained: Int
    public var waiting: Int
    public var published: UInt64
    public var dropped: UInt64
    /// Requests that wait for the registry.
    public var pending: Int
}

extension NodeEngine {
    /// All channels, for people and tools.
    public var channelList: ChannelList {
        ChannelList(
            channels.map { _, channel in
                var (publishers, subscribers, dropped) = (UInt32(0), UInt32(0), channel.dropped)
                for instance in channel.instances {
                    guard let opened = clients[instance.session]?.instances[instance.number] else { continue }
                    if opened.flags.contains(.publisher) { publishers += 1 }
                    if opened.flags.contains(.subscriber) { subscribers += 1 }
                    dropped += opened.queue.dropped
                }
                return ChannelStatus(
                    name: channel.record.name, isUnlinked: channel.record.isUnlinked, publishers: publishers,
                    subscribers: subscribers, retained: UInt32(channel.retained.count), published: channel.published,
                    dropped: dropped)
            })
    }

    /// All openings, by channel and in the order of delivery.
    public var instanceList: [InstanceStatus] {
        channels.flatMap { _, channel in
            channel.instances.compactMap { id -> InstanceStatus? in
                guard let client = clients[id.session], let instance = client.instances[id.number] else { return nil }
                return InstanceStatus(
                    channel: channel.record.name, process: client.process.id, instance: id.number,
                    flags: instance.flags, subscriptions: instance.subscriptions.map(\.filters),
                    waiting: instance.queue.count, waitingBytes: instance.queue.bytes,
                    unconfirmed: instance.window.count, dropped: instance.queue.dropped,
                    isConnected: client.absentUntil == nil, isBlocked: client.isBlocked)
            }
        }
    }

    public var remoteInterest: [RemoteInterest] {
        channels.flatMap { _, channel in
            channel.record.users.filter { $0.node != node }.map {
                RemoteInterest(channel: channel.record.name, node: $0.node, interest: $0.interest)
            }
        }
    }

    public var forwardingList: [ForwardingStatus] {
        peers.map { other, peer in
            ForwardingStatus(
                node: other, waiting: peer.outbox?.waitingCount ?? 0, waitingBytes: peer.outbox?.queue.bytes ?? 0,
                unconfirmed: peer.outbox?.window.count ?? 0, dropped: peer.outbox?.dropped ?? 0, isUp: peer.isUp,
                isMember: members.contains(other))
        }
    }

    public var status: NodeStatus {
        let instances = instanceList
        let channels = channelList.channels
        return NodeStatus(
            channels: channels.count, clients: clients.count, absentClients: absentClients.count,
            instances: instances.count, subscriptions: instances.reduce(0) { $0 + $1.subscriptions.count },
            retained: retainedCount, waiting: instances.reduce(0) { $0 + $1.waiting },
            published: channels.reduce(0) { $0 + $1.published }, dropped: channels.reduce(0) { $0 + $1.dropped },
            pending: pending.count)
    }
}
