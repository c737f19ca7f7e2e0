import CliClient
import CliProtocol
import LogProtocol
import LogShell
import SAFTypes

// What logd says of the global streams on the console.

extension LogConsole {
    static func registerGlobal(_ commands: LoopCommands, _ daemon: LogDaemon) {
        let streams = CommandSpec(
            name: "streams", help: "Shows the global streams, who writes their files, and what waits on each node.")
        commands.register(streams) { [unowned daemon] _, reply in
            daemon.globalStatus { status in
                reply.either(text: text(status, daemon), json: json(status, daemon))
            }
        }
    }

    private static func text(_ status: GlobalStatus, _ daemon: LogDaemon) -> String {
        let names = status.inSync.map(daemon.name(of:)).joined(separator: ", ")
        var lines = [
            "owner    " + (status.owner.map(daemon.name(of:)) ?? "none") + ", epoch \(status.epoch), registry "
                + status.registry,
            "in sync  " + (names.isEmpty ? "none" : names),
        ]
        for stream in status.streams {
            let attributes = stream.attributes
            lines.append("stream   \(stream.name)")
            lines.append(
                "  \(attributes.fileName)_*.log, \(attributes.filesMax) files of at most \(attributes.fileBytesMax) "
                    + "bytes, \(attributes.fullAction)")
            let openers = stream.openers.map(daemon.name(of:)).joined(separator: ", ")
            lines.append(
                "  number \(stream.stream.rawValue), \(stream.records) records"
                    + (openers.isEmpty ? "" : ", open on \(openers)"))
        }
        let end = status.nodes.map(\.ledger).max() ?? 0
        for node in status.nodes {
            lines.append("node     \(daemon.name(of: node.node))")
            lines.append(
                "  \(node.accepted) records taken, \(node.accepted - node.acknowledged) of them on their way "
                    + "(\(node.spoolBytes) bytes), \(node.lost) lost")
            guard node.keepsFiles else { continue }
            lines.append(
                "  ledger to \(node.ledger) (\(end - node.ledger) behind), in the files to \(node.written)"
                    + (node.lastError.isEmpty ? "" : ": \(node.lastError)"))
        }
        return lines.joined(separator: "\n")
    }

    private static func json(_ status: GlobalStatus, _ daemon: LogDaemon) -> JSONValue {
        func number(_ value: UInt64) -> JSONValue { .integer(Int64(clamping: value)) }
        func name(_ node: NodeID) -> JSONValue { .string(daemon.name(of: node)) }
        let streams = status.streams.map { stream -> JSONValue in
            [
                "name": .string(stream.name.description), "number": .integer(Int64(stream.stream.rawValue)),
                "fileName": .string(stream.attributes.fileName), "fileBytes": number(stream.attributes.fileBytesMax),
                "filesMax": .integer(Int64(stream.attributes.filesMax)),
                "fullAction": .string("\(stream.attributes.fullAction)"),
                "severities": .integer(Int64(stream.attributes.severities.rawValue)), "records": number(stream.records),
                "openers": .array(stream.openers.map(name)),
            ]
        }
        let nodes = status.nodes.map { node -> JSONValue in
            [
                "node": name(node.node), "keepsFiles": .bool(node.keepsFiles), "accepted": number(node.accepted),
                "acknowledged": number(node.acknowledged), "spoolBytes": number(node.spoolBytes),
                "lost": number(node.lost), "ledger": number(node.ledger), "committed": number(node.committed),
                "written": number(node.written), "lastError": .string(node.lastError),
            ]
        }
        return [
            "registry": .string(status.registry), "owner": status.owner.map(name) ?? .null,
            "epoch": number(status.epoch), "inSync": .array(status.inSync.map(name)), "streams": .array(streams),
            "nodes": .array(nodes),
        ]
    }
}
