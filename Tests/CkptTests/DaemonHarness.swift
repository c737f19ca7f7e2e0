import CkptClient
import CkptProtocol
import EngineKit
import OSAL
import SAFTypes
import Synchronization
import Testing

/// A real ckptd in directories of its own; killed and removed with the harness.
final class DaemonHarness: @unchecked Sendable {
    let root: String
    let places: Places
    private let binary: String
    private let daemon = Mutex<Int32>(0)

    init() throws {
        root = try File.makeTemporaryDirectory("/dev/shm/ckptd-test-")
        places = Places(
            runDirectory: "\(root)/run", shmDirectory: "\(root)/shm", stateDirectory: "\(root)/state",
            logDirectory: "\(root)/log",
            configDirectory: "\(root)/etc", nodeName: "test")
        let tests = try #require(Environment.executablePath)
        binary = File.parent(of: tests) + "/ckptd"
        try #require(File.isExecutable(binary), "\(binary) must have been built")
        try start()
    }

    deinit {
        kill()
        try? File.removeTree(root)
    }

    func start() throws {
        let pid = try spawn("ckptd")
        daemon.withLock { $0 = pid }
    }

    /// Another daemon of the node; its pid, for ``end(_:)``.
    func spawn(_ name: String) throws -> Int32 {
        var options = SpawnOptions(
            path: File.parent(of: binary) + "/" + name, environment: Environment.all + places.environment)
        options.deathSignal = .kill
        return try Process.spawn(options).pid
    }

    func end(_ pid: Int32) {
        _ = try? Process.kill(pid, .kill)
        while Process.reap(pid) == nil { OSAL.pause() }
    }

    /// SIGKILL, and waits until the process is gone.
    func kill() {
        let pid = daemon.withLock { pid in
            defer { pid = 0 }
            return pid
        }
        if pid > 0 { end(pid) }
    }

    /// All that a node without power forgets.
    func losePower() throws {
        kill()
        try File.removeTree(places.shmDirectory)
    }
    /// Nobody answers, but all files are as they were.
    func freeze() { daemon.withLock { _ = try? Process.kill($0, .stop) } }
    func thaw() { daemon.withLock { _ = try? Process.kill($0, .continue) } }

    func service() -> CheckpointService { CheckpointService(places: places) }

    static func attributes(sections: UInt32 = 16, retention: SaTime = .saTimeEnd) -> CreationAttributes {
        CreationAttributes(
            checkpointSize: 1 << 20, retentionDuration: retention, sectionsMax: sections,
            sectionSizeMax: 1 << 20 / UInt64(sections))
    }
}
