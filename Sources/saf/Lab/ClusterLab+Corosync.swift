import EngineKit
public import OSAL
public import SafCluster

/// Corosync of each node.
extension ClusterLab {
    /// Starts corosync; what it prints before it has its log file goes to `log/corosync.out`.
    public func startCorosync(on node: Int) throws {
        if corosync(of: node) != nil { throw LabError("corosync runs on node \(node) already") }
        let own = folder(of: node)
        let output = try File.openForAppending(own + "/log/corosync.out")
        _ = try spawn(
            ["corosync", "-f", "-c", own + "/corosync/corosync.conf"], on: node,
            descriptors: [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)])
    }

    /// The running corosync of a node; nil when there is none.
    public func corosync(of node: Int) -> ProcessInformation? {
        processes(of: node).first { $0.name == "corosync" }
    }

    /// Ends corosync: `.terminate` lets it take leave of the others, `.kill` does not. Returns when it is gone.
    public func endCorosync(on node: Int, _ signal: SignalNumber = .terminate) throws {
        guard let process = corosync(of: node) else { throw LabError("corosync does not run on node \(node)") }
        let pidfd = try Process.pidfdOpen(process.pid)
        try Process.pidfdSendSignal(pidfd.raw, signal)
        guard try IO.waitUntil(pidfd.raw, readable: true, deadline: MonotonicClock.now() + .seconds(10)) else {
            throw LabError("corosync on node \(node) does not end; see \(folder(of: node))/log/corosync.log")
        }
        if Process.reap(process.pid) != nil { children[node]?.removeAll { $0 == process.pid } }
    }

    /// What a node's corosync believes; nil when it does not run or does not answer within `timeout`.
    public func quorum(of node: Int, timeout: Duration = .seconds(2)) -> QuorumStatus? {
        guard let result = try? run(["corosync-quorumtool", "-s"], on: node, timeout: timeout) else { return nil }
        return QuorumStatus(result.output)
    }

    /// Waits until each of `nodes` sees exactly `members` in one ring, quorate or not as told.
    public func awaitMembers(
        _ members: [Int], isQuorate: Bool = true, on nodes: [Int]? = nil, timeout: Duration = .seconds(20)
    ) throws {
        let wanted = members.sorted()
        var waiting = nodes ?? wanted
        let what = "nodes \(waiting) see \(wanted)\(isQuorate ? "" : " without quorum")"
        do {
            _ = try wait(for: what, timeout: timeout) {
                // One that saw it is asked again at the end: a later change may have undone it.
                while let node = waiting.first, let status = quorum(of: node), status.members == wanted,
                    status.isQuorate == isQuorate
                {
                    waiting.removeFirst()
                }
                return waiting.isEmpty ? true : nil
            }
        } catch let error as LabError {
            let seen = upNodes.map { node in
                "node \(node): " + (quorum(of: node).map { "\($0.members) quorate \($0.isQuorate)" } ?? "no answer")
            }
            throw LabError("\(error). Seen: \(seen.joined(separator: "; ")). Logs: \(folder)/n*/log/corosync.log")
        }
    }

    /// Waits until all nodes that have power are one quorate ring.
    public func awaitFormed(timeout: Duration = .seconds(20)) throws {
        try awaitMembers(upNodes, timeout: timeout)
    }
}
