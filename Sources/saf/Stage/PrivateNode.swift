import EngineKit
public import OSAL

/// Why a private node could not be used.
public struct StageError: Error, CustomStringConvertible {
    public let description: String
    public init(_ description: String) { self.description = description }
}

/// A node of its own in temporary folders: for benches, demonstrations and tests. Nothing of it touches another node.
///
/// Not thread-safe: one thread drives it. Call ``destroy()`` at the end; `deinit` does it too.
public final class PrivateNode {
    /// Where the programs are: `amfd` and its sisters.
    public let binaries: String
    public let places: Places
    /// All files of this node but its shared memory; removed at the end.
    public let folder: String
    private var isDestroyed = false

    /// - Parameters:
    ///   - name: part of the folders' names, for whoever finds them.
    ///   - model: the text of the application's model.yaml; nil: the middleware alone.
    ///   - binaries: nil: beside this program.
    public init(name: String, model: String? = nil, binaries: String? = nil) throws {
        self.binaries = binaries ?? File.parent(of: Environment.executablePath ?? "./saf")
        let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-\(name)")
        self.folder = folder
        let id = folder.split(separator: "/").last ?? "node"
        places = Places(
            runDirectory: folder + "/run", shmDirectory: "/dev/shm/\(id)", stateDirectory: folder + "/state",
            logDirectory: folder + "/log", configDirectory: folder + "/config", nodeName: "node1")
        Interruption.add(folder, places)
        try File.makeDirectories(folder + "/config/model")
        if let model { try write(model: model) }
    }

    deinit { destroy() }

    /// Replaces the application's model; read when the node starts.
    public func write(model: String) throws {
        try File.writeAtomically(places.configDirectory + "/model/model.yaml", text: model, durable: false)
    }

    /// Replaces cluster.yaml; read when the node starts.
    public func write(cluster: String) throws {
        try File.writeAtomically(places.configDirectory + "/cluster.yaml", text: cluster, durable: false)
    }

    /// The environment a program needs to talk to this node.
    public var environment: [String] { Self.environment(of: places) + ["SAF_BIN_DIR=" + binaries] }

    /// This program's environment with nothing in it that names another node.
    public static func environment(of places: Places) -> [String] {
        Environment.all.filter { !$0.hasPrefix("SAF_") && !$0.hasPrefix("SA_AMF_") && !$0.hasPrefix("CL_LOG_") }
            + places.environment
    }

    /// Starts `amfd --guard`; what it prints goes to `amfd.out` in ``folder``.
    public func start() throws {
        let output = try File.openForAppending(folder + "/amfd.out")
        _ = try spawn("amfd", ["--guard"], output: output.raw)
    }

    /// Starts a program of ``binaries`` in this node's environment; output nil: /dev/null.
    /// - Parameter extra: NAME=VALUE, instead of what the node's own environment says.
    public func spawn(
        _ program: String, _ arguments: [String], output: Int32? = nil, also descriptors: [DescriptorMapping] = [],
        environment extra: [String] = []
    ) throws(OSError) -> SpawnedProcess {
        var options = SpawnOptions(
            path: binaries + "/" + program, arguments: [program] + arguments, environment: extra + environment)
        if let output { options.descriptors = [DescriptorMapping(output, as: 1), DescriptorMapping(output, as: 2)] }
        options.descriptors += descriptors
        return try Process.spawn(options)
    }

    /// Polls until `condition` gives a value. `what` names it in the error when the time is over.
    public func wait<Value>(
        for what: String, timeout: Duration, every step: Duration = .milliseconds(2), _ condition: () throws -> Value?
    ) throws -> Value {
        let deadline = MonotonicClock.now() + timeout
        while true {
            if let value = try condition() { return value }
            guard MonotonicClock.now() < deadline else {
                throw StageError("\(what): not within \(timeout); see \(folder)/amfd.out and \(places.logDirectory)")
            }
            PrivateNode.pause(step)
        }
    }

    /// Sleeps; for programs that watch from outside, never for a daemon.
    public static func pause(_ duration: Duration) {
        let deadline = MonotonicClock.now() + duration
        while MonotonicClock.now() < deadline {
            _ = try? IO.waitUntil(-1, deadline: deadline)  // poll(2) ignores descriptor -1: only the deadline ends it
        }
    }

    /// Stops the node in order with SIGTERM to the guard, and with SIGKILL what has not ended in time.
    /// - Returns: what had to be killed; empty when all went well.
    @discardableResult
    public func stop(timeout: Duration = .seconds(20)) -> [RunningProcess] {
        let deadline = MonotonicClock.now() + timeout
        for process in processes() where process.isGuard { _ = try? Process.kill(process.pid, .terminate) }
        while MonotonicClock.now() < deadline, !processes().isEmpty {
            reap()
            PrivateNode.pause(.milliseconds(5))
        }
        let left = processes()
        for process in left { _ = try? Process.kill(process.pid, .kill) }
        let killDeadline = MonotonicClock.now() + .seconds(5)
        while !processes().isEmpty, MonotonicClock.now() < killDeadline {
            reap()
            PrivateNode.pause(.milliseconds(5))
        }
        reap()
        return left
    }

    /// Takes the exit status of ended children, so that no zombie stays.
    public func reap() {
        while Process.reapAny() != nil {}
    }

    /// Stops what still runs and removes all folders.
    public func destroy(keepingFolder: Bool = false) {
        guard !isDestroyed else { return }
        isDestroyed = true
        if !processes().isEmpty { stop(timeout: .seconds(5)) }
        try? File.removeTree(places.shmDirectory)
        if !keepingFolder { try? File.removeTree(folder) }
        Interruption.remove(folder)
    }
}
