import CliClient
import CliProtocol
import ClmProtocol
import ClmShell
import SAFTypes

/// What clmd answers on the console.
enum ClmConsole {
    struct BadNodeID: Error, CustomStringConvertible {
        let text: String
        var description: String { "SAF_NODE_ID is '\(text)'; a whole number from 1 to 65535 expected" }
    }

    static func nodeID(_ text: String?) throws(BadNodeID) -> NodeID {
        guard let text, !text.isEmpty else { return NodeID(1) }
        guard let number = UInt32(text), (1...65_535).contains(number) else { throw BadNodeID(text: text) }
        return NodeID(number)
    }

    static func register(_ commands: LoopCommands, of daemon: ClmDaemon) {
        let nodes = CommandSpec(name: "nodes", help: "Lists the members of the cluster and the number of the view.")
        commands.register(nodes) { [unowned daemon] _, reply in
            let lines = daemon.nodes.map { "\($0.name)  id \($0.nodeID)  member since view \($0.initialViewNumber)" }
            reply.either(
                text: (["view \(daemon.viewNumber)"] + lines).joined(separator: "\n"),
                json: ["view": .integer(Int64(clamping: daemon.viewNumber)), "nodes": .array(daemon.nodes.map(json))])
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
