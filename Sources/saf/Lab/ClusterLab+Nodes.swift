import EngineKit
import IOCLinks
import OSAL
import SafCluster

/// Power: nodes come up, die, and freeze.
extension ClusterLab {
    /// Files every node reads, the same in all of them but for its own paths.
    func writeConfigurations() throws {
        let key = Environment.randomBytes(256)
        let hosts = options.allNodes.map { "\(LabOptions.address(of: $0, plane: 0)) \(LabOptions.nodeName($0))" }
        let authority = options.areLinksEncrypted ? try CertificateAuthority.create(cluster: options.name) : nil
        for node in options.allNodes {
            let own = folder(of: node)
            for name in [
                "run", "state", "log", "config/model", "config/corosync", "corosync/uidgid.d", "corosync-state",
            ] {
                try File.makeDirectories("\(own)/\(name)")
            }
            try File.writeAtomically(own + "/config/corosync/authkey", key, durable: false, mode: 0o400)
            let plan = try plan(of: node)
            try File.writeAtomically(
                own + "/corosync/corosync.conf", text: CorosyncConfiguration.text(plan), durable: false)
            try write(cluster: ClusterText.yaml(plan), on: node)
            try authority?.issue(node: LabOptions.nodeName(node)).save(
                in: plan.description.links.certificateDirectory)
            let hostsText = (["127.0.0.1 localhost"] + hosts).joined(separator: "\n") + "\n"
            try File.writeAtomically(own + "/hosts", text: hostsText, durable: false)
        }
    }

    /// The network namespace with one bridge per plane. It is nobody's node: no node's death takes it.
    func startSwitch() throws {
        state.switchProcess = try startHolder(.new(.network), environment: ["\(LeftBehind.mark)=\(folder)"])
        let bridges = options.allPlanes.flatMap { ["link add br\($0) type bridge", "link set br\($0) up"] }
        try configureLinks(of: state.switchProcess, ["link set lo up"] + bridges)
    }

    /// Gives nodes power: namespaces, cables, corosync. What was in `run` and in shared memory is lost, what was in
    /// `state` is still there. One that has power is refused.
    public func boot(_ nodes: [Int]) throws {
        for node in nodes {
            try check(node)
            if isUp(node) { throw LabError("node \(node) is up already") }
        }
        for node in nodes { try startInit(of: node) }
        try plugIn(nodes)
        try save()
        for node in nodes {
            try applyFaults(on: node)
            try startCorosync(on: node)
        }
    }

    private func startInit(of node: Int) throws {
        let own = folder(of: node)
        try File.removeTree(own + "/run")
        try writeDescription(of: node)
        var mounts: [Mount] = [
            .bind(own + "/run", at: "/run"), .bind(own + "/hosts", at: "/etc/hosts"),
            .fileSystem("tmpfs", at: "/dev/shm"), .fileSystem("proc", at: "/proc"),
        ]
        for (source, target) in [("corosync", "/etc/corosync"), ("corosync-state", "/var/lib/corosync")]
        where File.exists(target) {
            mounts.append(.bind("\(own)/\(source)", at: target))
        }
        mounts.removeAll { mount in
            if case .bind(_, let target) = mount { return !File.exists(target) }
            return false
        }
        let choice = NamespaceChoice.new(.all, hostName: LabOptions.nodeName(node), mounts: mounts)
        state.inits[node] = try startHolder(choice, environment: environment(of: node))
    }

    /// A process that does nothing but keep its namespaces.
    private func startHolder(_ namespaces: NamespaceChoice, environment: [String]) throws -> ProcessIdentity {
        var options = SpawnOptions(
            path: try Tool.find("sleep"), arguments: ["sleep", "infinity"], environment: environment)
        options.namespaces = namespaces
        let process = try Process.spawn(options)
        guard let identity = ProcessIdentity(of: process.pid) else { throw LabError("sleep ended at once") }
        return identity
    }

    /// Every cable of these nodes, new; what a dead namespace has not given back yet is removed first.
    private func plugIn(_ nodes: [Int]) throws {
        let cables = nodes.flatMap { node in options.allPlanes.map { (node, $0) } }
        let old = try linkNames()
        removeLinks(cables.map { "v\($0)p\($1)" }.filter(old.contains))
        var lines: [String] = []
        for (node, plane) in cables {
            guard let pid = state.inits[node]?.pid else { continue }
            let isPlugged = !faults.unplugged.contains(NetworkFaults.Plug(plane: plane, node: node))
            lines += [
                "link add v\(node)p\(plane) type veth peer name eth\(plane) netns \(pid)",
                "link set v\(node)p\(plane) master br\(plane)",
                "link set v\(node)p\(plane) \(isPlugged ? "up" : "down")",
            ]
        }
        try configureLinks(of: state.switchProcess, lines)
        for node in nodes {
            let own = options.allPlanes.flatMap { plane in
                let address = LabOptions.address(of: node, plane: plane)
                return ["addr add \(address)/24 dev eth\(plane)", "link set eth\(plane) up"]
            }
            try configureLinks(of: state.inits[node], ["link set lo up"] + own)
        }
    }

    /// The kernel may be removing them at this very moment, one after the other; a link that stays is told by what
    /// follows: there is one by its name.
    func removeLinks(_ names: [String]) {
        guard let identity = state.switchProcess else { return }
        for name in names { _ = try? runTool(["ip", "link", "del", name], in: identity) }
    }

    func linkNames() throws -> [String] {
        guard let identity = state.switchProcess else { return [] }
        let text = try runTool(["ip", "-o", "link", "show", "type", "veth"], in: identity).output
        // "7: v1p0@if2: <BROADCAST…"
        return text.split(separator: "\n").compactMap { line in
            line.split(separator: " ").dropFirst().first.map { String($0.prefix { $0 != "@" && $0 != ":" }) }
        }
    }

    func configureLinks(of identity: ProcessIdentity?, _ lines: [String]) throws {
        guard let identity, !lines.isEmpty else { return }
        let file = "\(folder)/ip-batch"
        try File.writeAtomically(file, text: lines.joined(separator: "\n") + "\n", durable: false)
        try runTool(["ip", "-batch", file], in: identity)
    }

    /// Runs a program of this machine in the network namespace of a process; throws what it complains of when it fails.
    @discardableResult
    func runTool(_ arguments: [String], in identity: ProcessIdentity) throws -> ProgramResult {
        let pidfd = try hold(identity)
        var options = SpawnOptions(path: try Tool.find(arguments[0]), arguments: arguments)
        options.namespaces = .of(pidfd: pidfd.raw, .network)
        let result = try Tool.run(options, timeout: .seconds(10))
        guard result.isSuccess else {
            throw LabError("\(arguments.joined(separator: " ")) \(result.status): \(result.complaints)")
        }
        return result
    }

    /// A descriptor of exactly this process.
    func hold(_ identity: ProcessIdentity) throws -> Descriptor {
        let pidfd = try Process.pidfdOpen(identity.pid)
        guard identity.isAlive else { throw LabError("process \(identity.pid) of the lab has ended") }
        return pidfd
    }

    /// Takes a node's power: SIGKILL for its init, and with it every process of the node, at one moment.
    ///
    /// Returns when they are gone. Frozen ones, too.
    public func kill(_ node: Int) throws {
        try check(node)
        guard let identity = state.inits[node], identity.isAlive else { throw LabError("node \(node) is down already") }
        let all = Process.inPidNamespace(of: identity.pid).compactMap { ProcessIdentity(of: $0) }
        let pidfd = try hold(identity)
        try Process.pidfdSendSignal(pidfd.raw, .kill)
        try LeftBehind.awaitEnd(of: all, until: MonotonicClock.now() + .seconds(10))
        // What was started after `all` was listed has died with it, and only we can bury it.
        for child in children[node] ?? [] { _ = Process.reap(child) }
        children[node] = nil
        try thaw(node)
    }

    /// Stops every process of a node at once, as if its (virtual) machine were paused; returns when all stand still.
    public func freeze(_ node: Int) throws {
        let pid = try requireUp(node).pid
        try Freezer(lab: labName, node: node).freeze { Process.inPidNamespace(of: pid) }
    }

    /// Lets a frozen node go on.
    public func thaw(_ node: Int) throws {
        guard let identity = state.inits[node] else { return }
        try Freezer(lab: labName, node: node).thaw {
            identity.isAlive ? Process.inPidNamespace(of: identity.pid) : []
        }
    }

    public func isFrozen(_ node: Int) -> Bool { Freezer(lab: labName, node: node).isFrozen }

    var labName: String { folder.split(separator: "/").last.map(String.init) ?? folder }

    func requireUp(_ node: Int) throws -> ProcessIdentity {
        try check(node)
        guard let identity = state.inits[node], identity.isAlive else { throw LabError("node \(node) is down") }
        return identity
    }
}
