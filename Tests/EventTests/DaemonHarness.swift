import EngineKit
import OSAL
import Synchronization
import Testing

/// A real eventd in directories of its own, and processes that use it; all ended and removed with the harness.
final class DaemonHarness: @unchecked Sendable {
    let root: String
    let places: Places
    private let binaries: String
    private let environment: [String]
    private let children = Lock<[Int32]>([])
    private let daemon = Lock<Int32>(0)

    init() throws {
        root = try File.makeTemporaryDirectory("/dev/shm/eventd-test-")
        places = Places(
            runDirectory: "\(root)/run", shmDirectory: "\(root)/shm", stateDirectory: "\(root)/state",
            logDirectory: "\(root)/log", configDirectory: "\(root)/etc", nodeName: "test")
        binaries = File.parent(of: try #require(Environment.executablePath))
        environment =
            Environment.all.filter { !$0.hasPrefix("SAF_") && !$0.hasPrefix("SA_") && !$0.hasPrefix("CL_") }
            + places.environment
        try start()
    }

    deinit {
        for pid in children.withLock({ $0 }) { end(pid) }
        kill()
        try? File.removeTree(root)
    }

    private func spawn(_ program: String, _ arguments: [String]) throws -> Int32 {
        var options = SpawnOptions(
            path: binaries + "/" + program, arguments: [program] + arguments, environment: environment)
        options.deathSignal = .kill
        return try Process.spawn(options).pid
    }

    func start() throws {
        let pid = try spawn("eventd", [])
        daemon.withLock { $0 = pid }
    }

    private func end(_ pid: Int32) {
        _ = try? Process.kill(pid, .kill)
        while Process.reap(pid) == nil { OSThread.yield() }
    }

    /// SIGKILL, and waits until eventd is gone.
    func kill() {
        let pid = daemon.withLock { pid in
            defer { pid = 0 }
            return pid
        }
        if pid > 0 { end(pid) }
    }

    // MARK: Processes that use it

    final class Publisher {
        let name: String
        let pid: Int32
        private let counter: SharedFile

        fileprivate init(_ name: String, _ pid: Int32, _ counter: SharedFile) {
            (self.name, self.pid, self.counter) = (name, pid, counter)
        }

        var acknowledged: UInt64 { counter.mapping.base.atomic(UInt64.self).pointee.load(ordering: .acquiring) }
        func stop() { counter.mapping.base.atomic(UInt64.self, at: 8).pointee.store(1, ordering: .releasing) }
    }

    func publisher(_ name: String, on channel: String) throws -> Publisher {
        let path = "\(root)/counter-\(name)"
        let counter = try SharedFile.create(path, size: 4096, mode: 0o600)
        let pid = try spawn("eventworker", ["publish", channel, name, path])
        children.withLock { $0.append(pid) }
        return Publisher(name, pid, counter)
    }

    struct Subscriber {
        let pid: Int32
        /// What it received, a line each, after a line "ready".
        let path: String
    }

    /// A process that writes what it receives; returns when it has subscribed.
    func subscriber(_ name: String, on channel: String) throws -> Subscriber {
        let path = "\(root)/received-\(name)"
        let pid = try spawn("eventworker", ["subscribe", channel, path])
        children.withLock { $0.append(pid) }
        try eventually("\(name) subscribes") { lines(path).isEmpty == false }
        return Subscriber(pid: pid, path: path)
    }

    func startConsole() throws {
        let pid = try spawn("cliserver", [])
        children.withLock { $0.append(pid) }
    }

    /// Whole lines of a file.
    func lines(_ path: String) -> [String] {
        ((try? File.readText(path)) ?? "").split(separator: "\n", omittingEmptySubsequences: false).dropLast()
            .map(String.init)
    }

    /// Waits for a child's own end; its status.
    func wait(for pid: Int32) throws -> OSAL.ExitStatus {
        var status: OSAL.ExitStatus?
        try eventually("the end of \(pid)", within: .seconds(90)) {
            status = Process.reap(pid)
            return status != nil
        }
        children.withLock { $0.removeAll { $0 == pid } }
        return try #require(status)
    }

    func eventually(_ what: String, within limit: Duration = .seconds(60), _ condition: () throws -> Bool) throws {
        let deadline = MonotonicClock.now() + limit
        while try !condition() {
            try #require(MonotonicClock.now() < deadline, "\(what): not within \(limit)")
            pause(.milliseconds(5))
        }
    }

    func pause(_ duration: Duration) { _ = try? IO.waitUntil(-1, deadline: MonotonicClock.now() + duration) }
}
