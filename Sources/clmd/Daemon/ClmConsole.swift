import CliClient
import CliProtocol
import ClmProtocol
import ClmShell
import SAFTypes

/// What clmd answers on the console.
enum ClmConsole {
    static func register(_ commands: LoopCommands, of daemon: ClmDaemon) {
        let nodes = CommandSpec(name: "nodes", help: "Lists the members of the cluster and the number of the view.")
        commands.register(nodes) { [unowned daemon] _, reply in
            let here = daemon.isLocalMember ? "" : "  (this node is no member now: \(daemon.standing))"
            let lines = daemon.nodes.map { node in
                let state = node.isMember ? "member since view \(node.initialViewNumber)" : "locked"
                return "\(node.name)  id \(node.nodeID)  \(state)"
            }
            reply.either(
                text: (["view \(daemon.viewNumber)\(here)"] + lines).joined(separator: "\n"),
                json: [
                    "view": .integer(Int64(clamping: daemon.viewNumber)), "localMember": .bool(daemon.isLocalMember),
                    "nodes": .array(daemon.nodes.map(json)),
                ])
        }
        for (word, operation, help) in [
            ("lock", NodeAdministration.Operation.lock, "Takes a node out of the membership; its trackers get 10 s."),
            ("unlock", .unlock, "Lets a locked node be a member again."),
            ("shutdown", .shutdown, "Takes a node out of the membership when every tracker agrees and is ready."),
        ] {
            let node = ArgumentSpec("node", .text, help: "the node's name or number")
            let spec = CommandSpec(name: word, help: help, arguments: [node])
            commands.register(spec) { [unowned daemon] arguments, reply in
                administer(operation, arguments["node"] ?? "", daemon, reply)
            }
        }
        let names = CommandSpec(
            name: "names", help: "Lists the name table: which service addresses are bound to which ports.",
            arguments: [
                ArgumentSpec("type", .integer(0...Int64(UInt32.max)), optional: true, help: "only this service type")
            ])
        commands.register(names) { [unowned daemon] arguments, reply in
            let type = arguments.integer("type")
            let bindings = daemon.names.filter { type == nil || Int64($0.range.type) == type }
            let lines = bindings.map { "service \($0.range)  \($0.address)  scope \($0.scope)" }
            reply.either(
                text: lines.isEmpty ? "nothing is bound" : lines.joined(separator: "\n"),
                json: .array(bindings.map(json)))
        }
    }

    private static func administer(
        _ operation: NodeAdministration.Operation, _ text: String, _ daemon: ClmDaemon, _ reply: CommandReply
    ) {
        let named = daemon.nodes.first { "\($0.name)" == text }?.nodeID
        guard let node = named ?? UInt32(text).map({ NodeID($0) }) else {
            return reply.fail("no node \"\(text)\" is in the cluster; `nodes` lists them")
        }
        daemon.administer(NodeAdministration(node: node, operation: operation)) { refusal in
            if let refusal { reply.fail(refusal) } else { reply.text("node \(text): \(operation) done") }
        }
    }

    private static func json(_ node: ClusterNode) -> JSONValue {
        [
            "id": .integer(Int64(node.nodeID.rawValue)), "name": .string(node.name.description),
            "member": .bool(node.isMember),
            "bootTimestamp": .integer(node.bootTimestamp),
            "initialView": .integer(Int64(clamping: node.initialViewNumber)),
        ]
    }

    private static func json(_ binding: NameBinding) -> JSONValue {
        [
            "type": .integer(Int64(binding.range.type)), "lower": .integer(Int64(binding.range.lower)),
            "upper": .integer(Int64(binding.range.upper)), "node": .integer(Int64(binding.address.node.rawValue)),
            "port": .integer(Int64(binding.address.port)), "scope": .string("\(binding.scope)"),
        ]
    }
}
