import EngineKit
import IOCCluster
import OSAL
import SAFTypes
import Testing

/// A ckptd of its own in folders of its own, and C programs that use it; all ended and removed with the stand.
final class CkptStand {
    let root: String
    let places: Places
    private let environment: [String]
    private var daemon: StartedCommand?

    init(started: Bool = true) throws {
        root = try File.makeTemporaryDirectory("/dev/shm/capi-test-")
        places = Places(
            runDirectory: "\(root)/run", shmDirectory: "\(root)/shm", stateDirectory: "\(root)/state",
            logDirectory: "\(root)/log", configDirectory: "\(root)/etc", nodeName: "test")
        environment = CToolchain.environment + places.environment
        if started { try start() }
    }

    deinit {
        kill()
        try? File.removeTree(root)
    }

    var pid: Int32 { daemon?.pid ?? 0 }
    var isRunning: Bool { daemon?.isRunning == true }
    /// ckptd, if it runs.
    var running: Int32? { daemon?.pid }

    /// Three nodes, of which there is only this one, without Corosync: it is no member, and nothing is ever sent.
    func describeCluster() throws {
        let nodes = (1...3).compactMap { number in
            SaName("node\(number)").map { name in
                ClusterDescribedNode(
                    id: NodeID(UInt32(number)), name: name, role: .controller,
                    addresses: [LinkAddress("127.0.0.1")])
            }
        }
        let cluster = ClusterDescription(
            clusterName: "capi", groupEngine: .corosync, localNode: NodeID(1), nodes: nodes,
            links: LinkSettings(security: .none, portBase: 41_000))
        try cluster.save(places)
    }

    /// Starts ckptd and waits until it can be connected to.
    func start() throws {
        let binary = File.parent(of: try #require(Environment.executablePath)) + "/ckptd"
        let socket = places.runDirectory + "/ioc/ckptd"
        if daemon == nil { _ = try? File.remove(socket) }  // left by a killed one
        let daemon = try StartedCommand([binary], environment: environment, output: root + "/ckptd.out")
        self.daemon = daemon
        try wait(for: "ckptd's socket") { File.exists(socket) || !daemon.isRunning }
        guard daemon.isRunning else { throw CToolError("ckptd: \(try File.readText(root + "/ckptd.out"))") }
    }

    /// Another daemon of the node; ends with the value.
    func daemon(_ name: String) throws -> StartedCommand {
        let binary = File.parent(of: try #require(Environment.executablePath)) + "/" + name
        return try StartedCommand([binary], environment: environment, output: "\(root)/\(name).out")
    }

    /// SIGKILL, and waits until ckptd is gone.
    func kill() { daemon = nil }

    /// Waits until something has happened that nobody tells.
    func wait(for what: String, timeout: Duration = .seconds(60), _ condition: () throws -> Bool) throws {
        let deadline = MonotonicClock.now() + timeout
        while try !condition() {
            guard MonotonicClock.now() < deadline else { throw CToolError("\(what): not within \(timeout)") }
            let moment = MonotonicClock.now() + .milliseconds(2)
            _ = try IO.waitUntil(-1, deadline: moment)
        }
    }

    /// Starts a program in the stand's environment; what it prints goes to `NAME.out` in `root`.
    func begin(
        _ program: String, _ arguments: [String] = [], environment extra: [String] = [], as name: String? = nil
    ) throws -> StartedCommand {
        let name = name ?? String(program.split(separator: "/").last ?? "program")
        // Numbers are processes.
        let kind = ([name] + arguments.prefix { !($0.first?.isNumber ?? true) && !$0.contains("/") })
        let seen = "CHECK_SEEN=\(CToolchain.seen)/" + kind.joined(separator: "-")
        return try StartedCommand(
            [program] + arguments, environment: environment + extra + [seen], output: "\(root)/\(name).out")
    }

    /// Runs a program, whose expectations must all be met.
    @discardableResult
    func run(
        _ program: String, _ arguments: [String] = [], environment extra: [String] = [],
        timeout: Duration = .seconds(240), sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> CommandRun {
        let run = try begin(program, arguments, environment: extra).wait(timeout)
        #expect(run.succeeded, "\(run)", sourceLocation: sourceLocation)
        return run
    }
}
