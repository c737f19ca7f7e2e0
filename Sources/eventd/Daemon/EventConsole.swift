import CliClient
import CliProtocol
import EventEngine
import EventProtocol
import IOCCluster
import OSAL
import SAFTypes

/// What eventd answers on the console.
enum EventConsole {
    struct BadNode: Error, CustomStringConvertible {
        let node: NodeID
        var description: String { "node \(node): 1 to 65535 expected, because event ids have 16 bits for it" }
    }

    static func description(_ places: Places) throws -> ClusterDescription {
        let description = try ClusterDescription.load(places)
        for node in description.nodes where node.id.rawValue > 65_535 { throw BadNode(node: node.id) }
        return description
    }

    static func register(_ commands: LoopCommands, of shell: EventShell) {
        let status = CommandSpec(name: "status", help: "Shows what eventd holds, in numbers.")
        commands.register(status) { [unowned shell] _, reply in
            reply.either(
                text: text(shell.engine.status, shell), json: json(shell.engine.status, shell))
        }
        let channels = CommandSpec(name: "channels", help: "Lists the channels: who uses them, what was published.")
        commands.register(channels) { [unowned shell] _, reply in
            let list = shell.engine.channelList.channels
            reply.either(
                text: list.isEmpty ? "no channels" : list.map(line).joined(separator: "\n"),
                json: .array(list.map(json)))
        }
        let subscribers = CommandSpec(
            name: "subscribers", help: "Lists who has a channel open, with filters, queue lengths and drops.",
            arguments: [ArgumentSpec("channel", .text, optional: true, help: "only this channel")])
        commands.register(subscribers) { [unowned shell] arguments, reply in
            let wanted = arguments["channel"]
            func isWanted(_ name: SaName) -> Bool { wanted == nil || name.description == wanted }
            let list = shell.engine.instanceList.filter { isWanted($0.channel) }
            let remote = shell.engine.remoteInterest.filter { isWanted($0.channel) }
            let nodes = shell.engine.forwardingList
            reply.either(
                text: text(list, remote, nodes),
                json: [
                    "openings": .array(list.map(json)), "nodes": .array(remote.map(json)),
                    "forwarding": .array(nodes.map(json)),
                ])
        }
    }

    // MARK: Text

    private static func text(_ status: NodeStatus, _ shell: EventShell) -> String {
        """
        channels       \(status.channels), the registry is \(shell.registryStatus)
        clients        \(status.clients), \(status.absentClients) of them away
        openings       \(status.instances) with \(status.subscriptions) subscriptions
        published      \(status.published), \(status.retained) retained
        queues         \(status.waiting) events wait, \(status.dropped) were dropped
        pending        \(status.pending) requests wait for the registry
        kept           \(shell.isJournalBroken ? "no: a restart of eventd would lose events" : "yes")
        """
    }

    private static func line(_ channel: ChannelStatus) -> String {
        "\(channel.name): \(channel.publishers) publishers, \(channel.subscribers) subscribers, "
            + "\(channel.published) published, \(channel.retained) retained, \(channel.dropped) dropped"
            + (channel.isUnlinked ? ", unlinked" : "")
    }

    private static func line(_ instance: InstanceStatus) -> String {
        let filters = instance.subscriptions.map(describe).joined(separator: " ")
        let state = instance.isConnected ? (instance.isBlocked ? ", takes nothing" : "") : ", away"
        return "\(instance.channel)  pid \(instance.process) opening \(instance.instance) as "
            + "\(describe(instance.flags)): \(instance.waiting) waiting (\(instance.waitingBytes) octets), "
            + "\(instance.unconfirmed) on their way, \(instance.dropped) dropped\(state)"
            + (filters.isEmpty ? "" : "\n    \(filters)")
    }

    static func text(_ openings: [InstanceStatus], _ remote: [RemoteInterest], _ nodes: [ForwardingStatus]) -> String {
        let lines = openings.map(line) + remote.map(line) + nodes.map(line)
        return lines.isEmpty ? "nobody" : lines.joined(separator: "\n")
    }

    private static func line(_ user: RemoteInterest) -> String {
        let lists = user.interest.lists.map(describe).joined(separator: " ")
        let wish = user.interest == .everything ? "everything" : lists.isEmpty ? "nothing" : lists
        return "\(user.channel)  node \(user.node): wants \(wish)"
    }

    private static func line(_ node: ForwardingStatus) -> String {
        "to node \(node.node): \(node.waiting) waiting (\(node.waitingBytes) octets), "
            + "\(node.unconfirmed) on their way, "
            + "\(node.dropped) dropped, \(node.isUp ? "linked" : "no link")"
            + (node.isMember ? "" : ", not in the group")
    }

    private static func describe(_ flags: ChannelOpenFlags) -> String {
        [(ChannelOpenFlags.publisher, "publisher"), (.subscriber, "subscriber")].filter { flags.contains($0.0) }
            .map(\.1).joined(separator: " and ")
    }

    private static func describe(_ filters: [EventFilter]) -> String {
        "["
            + filters.map { filter in
                filter.kind == .passAll ? "any" : "\(filter.kind) \"\(String(decoding: filter.bytes, as: UTF8.self))\""
            }.joined(separator: ", ") + "]"
    }

    // MARK: JSON

    private static func json(_ status: NodeStatus, _ shell: EventShell) -> JSONValue {
        [
            "channels": number(status.channels), "clients": number(status.clients),
            "absentClients": number(status.absentClients), "openings": number(status.instances),
            "subscriptions": number(status.subscriptions), "published": .integer(Int64(clamping: status.published)),
            "retained": number(status.retained), "waiting": number(status.waiting),
            "dropped": .integer(Int64(clamping: status.dropped)), "pending": number(status.pending),
            "kept": .bool(!shell.isJournalBroken), "registry": .string(shell.registryStatus),
        ]
    }

    private static func json(_ channel: ChannelStatus) -> JSONValue {
        [
            "name": .string(channel.name.description), "unlinked": .bool(channel.isUnlinked),
            "publishers": .integer(Int64(channel.publishers)), "subscribers": .integer(Int64(channel.subscribers)),
            "published": .integer(Int64(clamping: channel.published)), "retained": .integer(Int64(channel.retained)),
            "dropped": .integer(Int64(clamping: channel.dropped)),
        ]
    }

    private static func json(_ user: RemoteInterest) -> JSONValue {
        [
            "channel": .string(user.channel.description), "node": number(Int(user.node.rawValue)),
            "filters": .array(user.interest.lists.map { .string(describe($0)) }),
        ]
    }

    private static func json(_ node: ForwardingStatus) -> JSONValue {
        [
            "node": number(Int(node.node.rawValue)), "waiting": number(node.waiting),
            "waitingBytes": number(node.waitingBytes), "unconfirmed": number(node.unconfirmed),
            "dropped": .integer(Int64(clamping: node.dropped)), "linked": .bool(node.isUp),
            "member": .bool(node.isMember),
        ]
    }

    private static func json(_ instance: InstanceStatus) -> JSONValue {
        [
            "channel": .string(instance.channel.description), "pid": .integer(Int64(instance.process)),
            "opening": .integer(Int64(instance.instance)), "flags": .string(describe(instance.flags)),
            "filters": .array(instance.subscriptions.map { .string(describe($0)) }),
            "waiting": number(instance.waiting), "waitingBytes": number(instance.waitingBytes),
            "unconfirmed": number(instance.unconfirmed), "dropped": .integer(Int64(clamping: instance.dropped)),
            "connected": .bool(instance.isConnected), "blocked": .bool(instance.isBlocked),
        ]
    }

    private static func number(_ value: Int) -> JSONValue { .integer(Int64(value)) }
}
