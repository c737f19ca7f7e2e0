import EngineKit
public import OSAL

/// Programs inside the nodes.
extension ClusterLab {
    /// The environment of a program in a node.
    public func environment(of node: Int) -> [String] {
        Environment.all.filter { !$0.hasPrefix("SAF_") && !$0.hasPrefix("SA_AMF_") && !$0.hasPrefix("CL_LOG_") }
            + places(of: node).environment + ["SAF_BIN_DIR=" + binaries, "\(LeftBehind.mark)=\(folder)"]
    }

    /// Runs a program in a node to its end: a path, or a name looked up beside ``binaries`` and in PATH.
    ///
    /// - Throws: when the node is down, the program cannot be started or is not done in time (it is killed then). A
    ///   failing program is not an error: see the status.
    @discardableResult
    public func run(_ arguments: [String], on node: Int, timeout: Duration = .seconds(10)) throws -> ProgramResult {
        let identity = try requireUp(node)
        let pidfd = try hold(identity)
        return try Tool.run(try spawnOptions(arguments, node, pidfd.raw), timeout: timeout)
    }

    /// Starts a program in a node. It gets `descriptors` and nothing else; see ``SpawnOptions``.
    ///
    /// The caller may take its exit status; what is left when the node dies is buried by the lab.
    public func spawn(
        _ arguments: [String], on node: Int, descriptors: [DescriptorMapping] = [], environment extra: [String] = [],
        newSession: Bool = true
    ) throws -> SpawnedProcess {
        let identity = try requireUp(node)
        let pidfd = try hold(identity)
        var options = try spawnOptions(arguments, node, pidfd.raw)
        options.descriptors = descriptors
        options.environment += extra
        options.newSession = newSession
        let process = try Process.spawn(options)
        children[node, default: []].append(process.pid)
        return process
    }

    private func spawnOptions(_ arguments: [String], _ node: Int, _ pidfd: Int32) throws -> SpawnOptions {
        guard let program = arguments.first else { throw LabError("no program given") }
        var options = SpawnOptions(
            path: try Tool.find(program, in: [binaries]), arguments: arguments, environment: environment(of: node))
        options.namespaces = .of(pidfd: pidfd, .all)
        options.workingDirectory = folder(of: node)
        return options
    }

    /// Every process of a node but its init, by number of this machine.
    public func processes(of node: Int) -> [ProcessInformation] {
        guard let identity = state.inits[node], identity.isAlive else { return [] }
        return Process.inPidNamespace(of: identity.pid).filter { $0 != identity.pid }
            .compactMap { Process.information(of: $0) }.filter { !$0.isExiting }
    }

    /// Sends a signal to every process of that name in a node; returns how many there were.
    @discardableResult
    public func signal(_ signal: SignalNumber, _ program: String, on node: Int) throws -> Int {
        _ = try requireUp(node)
        let found = processes(of: node).filter { $0.name == String(program.prefix(15)) }
        for process in found { try Process.kill(process.pid, signal) }
        return found.count
    }

    /// Makes a program slow: again and again it stands still for `stopped` and runs for `running`, until `duration` is
    /// over. For kernels without netem, and for what a slow machine does that a slow network does not.
    public func slow(
        _ program: String, on node: Int, stopped: Duration, running: Duration, for duration: Duration
    ) throws {
        let deadline = MonotonicClock.now() + duration
        defer { _ = try? signal(.continue, program, on: node) }  // the node may be gone, and then nobody waits
        repeat {
            guard try signal(.stop, program, on: node) > 0 else {
                throw LabError("no process \"\(program)\" on node \(node)")
            }
            Self.pause(stopped)
            try signal(.continue, program, on: node)
            Self.pause(running)
        } while MonotonicClock.now() < deadline
    }
}
