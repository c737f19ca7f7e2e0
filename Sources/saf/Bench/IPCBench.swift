import EOLoop
import EngineKit
import IOC
import OSAL
import SAFTypes
import SafStage

/// IOC round trips between two processes, beside the same over a socket.
enum IPCBench {
    static func run(_ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        try withEcho(on: nil) { connection in try hot(connection, floor, publish) }
        // Both sides where the floor's are: whether a sleeper is on another processor decides what waking him costs.
        floor.home = 0
        defer { floor.home = nil }
        try withEcho(on: 1) { connection in try cold(connection, floor, publish) }
    }

    private static let body = [UInt8](repeating: 7, count: Floor.messageBytes)

    /// - Parameter processor: where the other process runs; nil: where the kernel likes.
    private static func withEcho(on processor: Int?, _ use: (IOCConnection) throws -> Void) throws {
        let folder = try File.makeTemporaryDirectory("/tmp/swiftsaf-bench")
        defer { try? File.removeTree(folder) }
        let places = privatePlaces(in: folder)
        let peer = try Peer.spawn(
            "ioc-echo", processor.map { ["\($0)"] } ?? [], environment: PrivateNode.environment(of: places))
        defer { end(peer.pid, pidfd: peer.rawPidfd) }
        let connection = IOCConnection(to: .port(PortID(2_000)), places: places)
        defer { connection.close() }
        for _ in 0..<2_000 { _ = try connection.call(1, body, timeout: .seconds(10)) }
        try use(connection)
    }

    private static func hot(_ connection: IOCConnection, _ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        let (hot, rate, hotFloor) = try time(rounds: 200_000, beside: floor) {
            _ = try connection.call(1, body, timeout: .seconds(10))
        }
        publish(
            BenchResult(
                name: "ipc.hot", unit: "µs", samples: hot, rate: rate, floor: hotFloor, bound: 2,
                note: "64 bytes there and back, traffic hot; floor: socket ping-pong"))
        let block = [UInt8](repeating: 7, count: 4_096)
        let (large, largeRate) = try time(rounds: 20_000) { _ = try connection.call(1, block, timeout: .seconds(10)) }
        publish(
            BenchResult(name: "ipc.4KiB", unit: "µs", samples: large, rate: largeRate, note: "4 KiB there and back"))
    }

    private static func cold(_ connection: IOCConnection, _ floor: Floor, _ publish: (BenchResult) -> Void) throws {
        try ColdPairs(rounds: 400, beside: floor) { _ = try connection.call(1, body, timeout: .seconds(10)) }
            .publish("ipc.cold", note: "both sides asleep", publish)
    }
}

/// The other process: answers every request with its body.
func runIOCEcho(on processor: Int?) -> Never {
    do {
        OSThread.run(on: processor)
        let loop = try Loop(name: "echo")
        let server = try IOCServer(loop: loop, endpoint: .port(PortID(2_000)), places: .fromEnvironment())
        server.onRequest = { request, body in request.reply(body) }
        loop.run()
        server.close()
        Environment.exit(0)
    } catch {
        StandardError.write("saf bench: \(error)\n")
        Environment.exit(1)
    }
}
