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
        var options = SpawnOptions(path: binary, environment: Environment.all + places.environment)
        options.deathSignal = .kill
        let process = try Process.spawn(options)
        daemon.withLock { $0 = process.pid }
    }

    /// SIGKILL, and waits until the process is gone.
    func kill() {
        let pid = daemon.withLock { pid in
            defer { pid = 0 }
            return pid
        }
        guard pid > 0 else { return }
        _ = try? Process.kill(pid, .kill)
        while Process.reap(pid) == nil { OSAL.pause() }
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
