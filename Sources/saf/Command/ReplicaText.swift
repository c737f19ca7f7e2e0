import CkptProtocol
import CliProtocol
import IOCCluster
import SAFTypes
import SafText

/// Words about the replicas of a checkpoint.
enum ReplicaText {
    private static let cluster = try? ClusterDescription.load(Tool.places)

    /// How people call it, where that is known.
    private static func name(_ node: NodeID) -> String {
        "node " + (cluster?.nodes.first { $0.id == node }.map { "\($0.name)" } ?? "\(node)")
    }

    static func line(_ checkpoint: ClusterCheckpoint, _ summary: CheckpointSummary?) -> String {
        let size = summary.map { ", \(PrintableBytes.size($0.descriptor.memoryUsed))" } ?? ""
        let change = checkpoint.change.map { ", change \($0)" } ?? ""
        let places = checkpoint.replicas.map { place($0, checkpoint) }.joined(separator: ", ")
        let openings = checkpoint.openings.map { "\($0.count) on \(name($0.node))" }.joined(separator: ", ")
        return
            "\(checkpoint.name)\(checkpoint.isUnlinked ? " (unlinked)" : "")  replicas on \(places)\(size)\(change), "
            + (openings.isEmpty ? "not open\n" : "open: \(openings)\n")
    }

    private static func place(_ replica: ReplicaStatus, _ checkpoint: ClusterCheckpoint) -> String {
        let isActive = replica.node == checkpoint.active
        return "\(name(replica.node))\(isActive ? " (active)" : replica.state == .current ? "" : " (\(word(replica)))")"
    }

    private static func word(_ replica: ReplicaStatus) -> String {
        switch replica.state {
        case .current: "current"
        case .synchronising: replica.isPartial ? "being copied" : "synchronising"
        case .absent: "away, and waited for: it has what the others may lack"
        }
    }

    /// What is not as it should be, and how far it has come; nil when nothing is missing.
    static func trouble(_ checkpoint: ClusterCheckpoint) -> String? {
        var parts = checkpoint.replicas.filter { $0.state != .current }.map { replica in
            "\(name(replica.node)) \(word(replica))" + (lag(replica, checkpoint).map { ", \($0) updates behind" } ?? "")
        }
        if isWaiting(checkpoint) { parts.append("to give up waiting: \(salvage(checkpoint))") }
        if checkpoint.isElecting { parts.append("the next active replica is being elected") }
        return parts.isEmpty ? nil : "\(checkpoint.name): \(parts.joined(separator: "; "))"
    }

    /// One line for each replica.
    static func text(_ checkpoint: ClusterCheckpoint) -> String {
        var text = "\(checkpoint.name)\(checkpoint.isUnlinked ? "  (unlinked: ends with its last close)" : "")\n"
        if checkpoint.isElecting {
            text += "  epoch \(checkpoint.epoch), the next active replica is being elected\n"
        } else if let active = checkpoint.active {
            text += "  epoch \(checkpoint.epoch), active on \(name(active))\n"
        } else {
            text += "  no active replica\n"
        }
        for replica in checkpoint.replicas {
            let isActive = replica.node == checkpoint.active
            text += "  replica on \(name(replica.node))  \(word(replica))\(isActive ? ", active" : "")"
            if !replica.isKnown {
                text += ", does not answer"
            } else if !replica.isPartial {
                text += ", epoch \(replica.epoch), change \(replica.change)"
            }
            if let lag = lag(replica, checkpoint) { text += ", \(lag) behind" }
            text += "\n"
        }
        if isWaiting(checkpoint) {
            text += "  to take the newest replica that is there: \(salvage(checkpoint))\n"
        }
        for openings in checkpoint.openings {
            text += "  open \(openings.count == 1 ? "once" : "\(openings.count) times") on \(name(openings.node))\n"
        }
        return text
    }

    private static func isWaiting(_ checkpoint: ClusterCheckpoint) -> Bool {
        checkpoint.replicas.contains { $0.state == .absent }
    }

    private static func salvage(_ checkpoint: ClusterCheckpoint) -> String {
        "saf console ckptd salvage \(checkpoint.name)"
    }

    static func line(_ set: ReplicaSet) -> String {
        let places = set.replicas.map { replica in
            let state: String
            switch replica.state {
            case .current: state = ""
            case .synchronising: state = " (synchronising)"
            case .absent: state = " (away)"
            }
            return "\(name(replica.node))\(replica.node == set.active ? " (active)" : state)"
        }
        let note =
            set.isElecting ? ", the next active one is being elected" : set.active == nil ? ", none is active" : ""
        return "replicas on \(places.joined(separator: ", "))\(note)" + (set.epoch > 0 ? ", epoch \(set.epoch)" : "")
    }

    static func json(_ set: ReplicaSet) -> JSONValue {
        [
            "epoch": .integer(Int64(clamping: set.epoch)),
            "active": set.active.map { .integer(Int64($0.rawValue)) } ?? .null, "electing": .bool(set.isElecting),
            "nodes": .array(
                set.replicas.map { ["node": .integer(Int64($0.node.rawValue)), "state": .string("\($0.state)")] }),
        ]
    }

    /// Updates it does not have yet; nil: none, or it is not known.
    private static func lag(_ replica: ReplicaStatus, _ checkpoint: ClusterCheckpoint) -> UInt64? {
        guard let change = checkpoint.change, replica.isKnown, !replica.isPartial, replica.change < change else {
            return nil
        }
        return change - replica.change
    }

    static func json(_ checkpoint: ClusterCheckpoint, _ summary: CheckpointSummary?) -> JSONValue {
        var members: [JSONValue.Member] = []
        if let summary, case .object(let own) = Checkpoints.json(summary) {
            members = own.filter { $0.key != "name" && $0.key != "change" }
        }
        let replicas = checkpoint.replicas.map { replica -> JSONValue in
            [
                "node": .integer(Int64(replica.node.rawValue)), "state": .string("\(replica.state)"),
                "active": .bool(replica.node == checkpoint.active), "answers": .bool(replica.isKnown),
                "epoch": .integer(Int64(clamping: replica.epoch)), "change": .integer(Int64(clamping: replica.change)),
                "copying": .bool(replica.isPartial),
                "behind": .integer(Int64(clamping: lag(replica, checkpoint) ?? 0)),
            ]
        }
        let openings = checkpoint.openings.map { openings -> JSONValue in
            ["node": .integer(Int64(openings.node.rawValue)), "count": .integer(Int64(openings.count))]
        }
        return .object(
            [
                .init("name", .string(checkpoint.name.description)),
                .init("change", checkpoint.change.map { .integer(Int64(clamping: $0)) } ?? .null),
                .init("epoch", .integer(Int64(clamping: checkpoint.epoch))),
                .init("active", checkpoint.active.map { .integer(Int64($0.rawValue)) } ?? .null),
                .init("electing", .bool(checkpoint.isElecting)), .init("unlinked", .bool(checkpoint.isUnlinked)),
                .init("replicas", .array(replicas)), .init("open", .array(openings)),
            ] + members)
    }
}
