import EngineKit
public import OSAL

/// Several nodes on this machine, each in namespaces of its own with its own corosync: for tests, benches and
/// demonstrations of a cluster.
///
/// Nothing outside the namespaces is touched but a folder in /tmp and, while a node is frozen, a control group. Needs
/// root. Not thread-safe: one thread drives it. Call ``down()`` at the end; `deinit` does it too, unless the lab is
/// kept. What a crash leaves behind is removed by the next ``up(_:binaries:isKept:)``.
public final class ClusterLab {
    /// Holds the state, and a folder `nN` for each node with its own run, state, log and config folders.
    public let folder: String
    /// Where programs are looked for first: `amfd` and its sisters.
    public let binaries: String
    /// Stays when this object goes; ended by `down` of whoever finds it.
    let isKept: Bool
    var state: LabState
    /// What this object started in a node and perhaps has to bury: a node's namespaces end only after all of them.
    var children: [Int: [Int32]] = [:]

    public var options: LabOptions { state.options }
    public var faults: NetworkFaults { state.faults }

    private init(folder: String, binaries: String, isKept: Bool, state: LabState) {
        self.folder = folder
        self.binaries = binaries
        self.isKept = isKept
        self.state = state
    }

    deinit {
        // An error here has nobody to go to, and the next `up` finds what was left.
        if !isKept { try? down() }
    }

    /// What is missing on this machine for a lab, as a sentence; nil when nothing is.
    public static func obstacle() -> String? {
        guard Environment.userID == 0 else {
            return "the lab makes namespaces and networks: it needs root (sudo)"
        }
        for program in ["ip", "nft", "corosync", "corosync-quorumtool", "sleep"] {
            do { _ = try Tool.find(program) } catch { return error.description }
        }
        do {
            var options = SpawnOptions(path: try Tool.find("sleep"), arguments: ["sleep", "0"])
            options.namespaces = .new(.all)
            let result = try Tool.run(options, timeout: .seconds(5))
            return result.isSuccess ? nil : "a process in new namespaces \(result.status)"
        } catch {
            return "this system does not let us make namespaces: \(error)"
        }
    }

    /// Makes the networks and starts all nodes with corosync, after removing labs that crashed runs left behind.
    ///
    /// Returns before the nodes have found each other: ``awaitFormed(timeout:)``.
    /// - Parameters:
    ///   - binaries: nil: beside this program.
    ///   - isKept: stay when the calling program ends.
    /// - Throws: `LabError` that says what to do; nothing is left then.
    public static func up(_ options: LabOptions, binaries: String? = nil, isKept: Bool = false) throws -> ClusterLab {
        try options.validate()
        if let obstacle = obstacle() { throw LabError(obstacle) }
        try LeftBehind.sweep()
        if let other = LeftBehind.folders(named: options.name).first, isKept {
            throw LabError("the lab \"\(options.name)\" is up already (\(other)); bring it down first")
        }
        let folder = "\(LeftBehind.parent)/\(LeftBehind.prefix)\(options.name)-\(Environment.processID)"
        if File.exists(folder) { throw LabError("this program has a lab \"\(options.name)\" already (\(folder))") }
        let lab = ClusterLab(
            folder: folder, binaries: binaries ?? ownFolder, isKept: isKept, state: LabState(options: options))
        do {
            try lab.make()
        } catch {
            try? lab.down()  // the first error is the one to report
            throw error
        }
        return lab
    }

    /// The kept lab called `name`, of whichever program made it.
    public static func open(name: String = LabOptions().name, binaries: String? = nil) throws -> ClusterLab {
        let found = LeftBehind.folders(named: name).first { File.exists($0 + "/state") && !LeftBehind.isAbandoned($0) }
        guard let found else { throw LabError("no lab \"\(name)\" is up; `up` makes one") }
        let state = try LabState(text: File.readText(found + "/state", limit: 1 << 20))
        return ClusterLab(folder: found, binaries: binaries ?? ownFolder, isKept: true, state: state)
    }

    /// Removes labs whose owner has ended without bringing them down; returns their folders.
    @discardableResult
    public static func removeAbandoned() throws -> [String] { try LeftBehind.sweep() }

    /// Ends everything of the lab that has this folder; for a program that cannot use its object now: when it is
    /// interrupted, from another thread.
    public static func remove(folder: String) throws { try LeftBehind.remove(folder) }

    private static var ownFolder: String { File.parent(of: Environment.executablePath ?? "./saf") }

    private func make() throws {
        try File.makeDirectories(folder, mode: 0o755)
        guard let owner = ProcessIdentity(of: Environment.processID) else { throw LabError("/proc is not mounted") }
        try File.writeAtomically(
            folder + "/owner", text: owner.text + (isKept ? " kept" : "") + "\n", durable: false)
        try writeConfigurations()
        try startSwitch()
        try boot(Array(options.allNodes))
    }

    /// Ends everything and removes the folder. Does nothing the second time.
    public func down() throws {
        try LeftBehind.remove(folder)
        children = [:]
        state.inits = [:]
    }

    /// The folder `nN` of a node; the node sees it under the same path.
    public func folder(of node: Int) -> String { "\(folder)/n\(node)" }

    /// Where a node keeps its things, as seen in the node. Its shared memory is visible only there.
    public func places(of node: Int) -> Places {
        let own = folder(of: node)
        return Places(
            runDirectory: own + "/run/swiftsaf", shmDirectory: "/dev/shm/swiftsaf", stateDirectory: own + "/state",
            logDirectory: own + "/log", configDirectory: own + "/config", nodeName: LabOptions.nodeName(node))
    }

    /// Whether a node has power.
    public func isUp(_ node: Int) -> Bool { state.inits[node]?.isAlive ?? false }

    /// The nodes that have power, ascending.
    public var upNodes: [Int] { options.allNodes.filter(isUp) }

    /// Throws for a number that names no node.
    func check(_ node: Int) throws(LabError) {
        guard options.allNodes.contains(node) else {
            throw LabError("node \(node): this lab has the nodes 1 to \(options.nodes)")
        }
    }

    func save() throws {
        try File.writeAtomically(folder + "/state", text: state.text, durable: false)
    }

    /// Polls until `condition` gives a value; the error names `what`.
    public func wait<Value>(
        for what: String, timeout: Duration, every step: Duration = .milliseconds(10), _ condition: () throws -> Value?
    ) throws -> Value {
        let deadline = MonotonicClock.now() + timeout
        while true {
            if let value = try condition() { return value }
            guard MonotonicClock.now() < deadline else { throw LabError("\(what): not within \(timeout)") }
            Self.pause(step)
        }
    }

    /// Sleeps: the lab watches from outside.
    static func pause(_ duration: Duration) {
        let deadline = MonotonicClock.now() + duration
        while MonotonicClock.now() < deadline {
            _ = try? IO.waitUntil(-1, deadline: deadline)  // poll(2) ignores descriptor -1: only the deadline ends it
        }
    }
}
