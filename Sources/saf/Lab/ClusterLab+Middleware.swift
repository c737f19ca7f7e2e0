import EngineKit
public import IOCCluster
import OSAL
import SafCluster

/// SwiftSAF in the nodes.
extension ClusterLab {
    /// What a node's daemons know of the cluster.
    public func description(of node: Int) throws -> ClusterDescription { try plan(of: node).description }

    /// What a node's cluster.yaml says, and its corosync.conf.
    func plan(of node: Int) throws -> ClusterPlan {
        try check(node)
        return options.plan(of: node, folder: folder(of: node), configDirectory: places(of: node).configDirectory)
    }

    /// Every daemon of the node reads it, also one that is started by hand.
    func writeDescription(of node: Int) throws {
        try description(of: node).save(places(of: node))
    }

    /// Replaces the application's model of a node; read when amfd starts.
    public func write(model: String, on node: Int) throws {
        try check(node)
        let folder = places(of: node).configDirectory + "/model"
        try File.makeDirectories(folder)
        try File.writeAtomically(folder + "/model.yaml", text: model, durable: false)
    }

    /// Replaces a node's cluster.yaml; read when amfd starts.
    public func write(cluster: String, on node: Int) throws {
        try check(node)
        try File.writeAtomically(places(of: node).configDirectory + "/cluster.yaml", text: cluster, durable: false)
    }

    /// Starts `amfd --guard` in a node; what it prints goes to `log/amfd.out`.
    public func startNode(_ node: Int) throws {
        if middleware(of: node) != nil { throw LabError("amfd runs on node \(node) already") }
        let output = try File.openForAppending(folder(of: node) + "/log/amfd.out")
        _ = try spawn(
            ["amfd", "--guard"], on: node,
            descriptors: [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)])
    }

    /// The middleware of a node reads its configuration again: `systemctl reload swiftsaf`.
    public func reloadNode(_ node: Int) throws {
        guard let process = middleware(of: node) else { throw LabError("amfd does not run on node \(node)") }
        try Process.kill(process.pid, .hangup)
    }

    /// Ends the middleware of a node in order, with everything it runs. Returns when it is gone.
    public func stopNode(_ node: Int, timeout: Duration = .seconds(20)) throws {
        guard let process = middleware(of: node) else { throw LabError("amfd does not run on node \(node)") }
        let pidfd = try Process.pidfdOpen(process.pid)
        try Process.pidfdSendSignal(pidfd.raw, .terminate)
        guard try IO.waitUntil(pidfd.raw, readable: true, deadline: MonotonicClock.now() + timeout) else {
            throw LabError("amfd on node \(node) does not end; see \(folder(of: node))/log")
        }
        if Process.reap(process.pid) != nil { children[node]?.removeAll { $0 == process.pid } }
    }

    /// The guard of a node's amfd, the parent of all.
    private func middleware(of node: Int) -> ProcessInformation? {
        processes(of: node).first { process in
            guard process.name == "amfd", let line = try? File.readAll("/proc/\(process.pid)/cmdline") else {
                return false
            }
            return line.split(separator: 0).contains { $0.elementsEqual("--guard".utf8) }
        }
    }
}
