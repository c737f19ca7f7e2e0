import CkptProtocol
import CliClient
import CliProtocol
import SAFTypes

// What ckptd answers on the console of a node among several.
extension CkptConsole {
    private static let shownMax = 200

    static func registerCluster(_ commands: LoopCommands, _ keeper: ClusterKeeper) {
        registerPart(commands, keeper)
        registerSalvage(commands, keeper)
        let replicas = CommandSpec(
            name: "replicas",
            help: "Lists the checkpoints of the cluster: which node's replica is active, how far each one is.",
            arguments: [ArgumentSpec("checkpoint", .text, optional: true, help: "what its name begins with")])
        commands.register(replicas) { [unowned keeper] arguments, reply in
            let wanted = arguments["checkpoint"] ?? ""
            keeper.list(after: CheckpointID(rawValue: 0), limit: ClusterKeeper.pageMax) { page in
                let chosen = page.checkpoints.filter { $0.name.description.hasPrefix(wanted) }
                var lines = chosen.prefix(shownMax).map(line)
                if chosen.isEmpty { lines = ["no checkpoints\(wanted.isEmpty ? "" : " whose names begin so")"] }
                if chosen.count > shownMax || page.hasMore { lines.append("… and more; saf ckpt list shows all") }
                if !page.isActing { lines.append("this node takes no part now: so it was when it last did") }
                reply.either(text: lines.joined(separator: "\n"), json: .array(chosen.map(json)))
            }
        }
    }

    private static func registerSalvage(_ commands: LoopCommands, _ keeper: ClusterKeeper) {
        let salvage = CommandSpec(
            name: "salvage",
            help:
                "Takes the newest replica of a checkpoint that is there; nodes that may have more are not waited for.",
            arguments: [ArgumentSpec("checkpoint", .text, help: "the whole name")])
        commands.register(salvage) { [unowned keeper] arguments, reply in
            guard let name = SaName(arguments["checkpoint"] ?? "") else {
                return reply.either(text: "a name of at most 256 bytes is expected", json: .null)
            }
            keeper.endSalvage(name) { text in reply.either(text: text, json: .string(text)) }
        }
    }

    private static func registerPart(_ commands: LoopCommands, _ keeper: ClusterKeeper) {
        let part = CommandSpec(
            name: "cluster", help: "Shows this node's part: its replicas, requests under way, links to other ckptds.")
        commands.register(part) { [unowned keeper] _, reply in
            let summary = keeper.summary
            let acts =
                summary.mayAct
                ? "takes part" : "takes no part (\(summary.isQuorate ? "" : "no quorum, ")\(summary.status))"
            var lines = [
                "this node \(acts); \(summary.checkpoints) checkpoints in the cluster",
                "replicas here: \(summary.active) active, \(summary.current - summary.active) other current, "
                    + "\(summary.synchronising) synchronising",
                "requests: \(summary.waitingRequests) wait, \(summary.forwardedRequests) under way elsewhere, "
                    + "\(summary.heldAnswers) answers wait for other replicas",
            ]
            for link in summary.links {
                lines.append(
                    "ckptd on \(link.name) (\(link.node)): "
                        + (link.isUp
                            ? "linked over \(link.address), \(link.queuedBytes) bytes queued" : link.downReason))
            }
            reply.either(
                text: lines.joined(separator: "\n"),
                json: [
                    "acts": .bool(summary.mayAct), "quorate": .bool(summary.isQuorate),
                    "checkpoints": .integer(Int64(summary.checkpoints)), "active": .integer(Int64(summary.active)),
                    "current": .integer(Int64(summary.current)),
                    "synchronising": .integer(Int64(summary.synchronising)),
                    "waitingRequests": .integer(Int64(summary.waitingRequests)),
                    "forwardedRequests": .integer(Int64(summary.forwardedRequests)),
                    "heldAnswers": .integer(Int64(summary.heldAnswers)),
                    "links": .array(
                        summary.links.map { ["node": .integer(Int64($0.node.rawValue)), "up": .bool($0.isUp)] }),
                ])
        }
    }

    private static func line(_ checkpoint: ClusterCheckpoint) -> String {
        let replicas = checkpoint.replicas.map { replica -> String in
            let state = replica.node == checkpoint.active ? "active" : "\(replica.state)"
            return "node \(replica.node) \(state)" + (replica.isKnown ? " at \(replica.change)" : " (no answer)")
        }
        return "\(checkpoint.name)  epoch \(checkpoint.epoch)\(checkpoint.isElecting ? ", electing" : "")  "
            + replicas.joined(separator: ", ")
    }

    private static func json(_ checkpoint: ClusterCheckpoint) -> JSONValue {
        [
            "name": .string(checkpoint.name.description), "epoch": .integer(Int64(clamping: checkpoint.epoch)),
            "active": checkpoint.active.map { .integer(Int64($0.rawValue)) } ?? .null,
            "replicas": .array(
                checkpoint.replicas.map { replica in
                    [
                        "node": .integer(Int64(replica.node.rawValue)), "state": .string("\(replica.state)"),
                        "change": .integer(Int64(clamping: replica.change)), "answers": .bool(replica.isKnown),
                    ]
                }),
        ]
    }
}
