import EngineKit
import OSAL
import SafLab
import SafStage

/// A pair of Redis servers in two nodes, for comparison: the second replicates the first.
enum RedisPair {
    static let port: UInt16 = 6_379

    /// What to do when it is not there; nil when it is.
    static var obstacle: String? {
        let folders = ["/usr/bin", "/usr/local/bin", "/bin"]
        if folders.contains(where: { File.isExecutable($0 + "/redis-server") }) { return nil }
        return "redis-server is not there (Debian package redis-server): the row cluster.redis.write is missing, "
            + "cluster.checkpoint.write is judged by the TCP floor alone"
    }

    /// Nothing is stored, and the replica is in step at once.
    static func start(in lab: ClusterLab) throws {
        for node in 1...2 {
            let own = lab.folder(of: node)
            let output = try File.openForAppending(own + "/log/redis.out")
            var arguments = [
                "redis-server", "--port", "\(port)", "--bind", "0.0.0.0", "--protected-mode", "no", "--save", "",
                "--appendonly", "no", "--dir", own, "--repl-diskless-sync-delay", "0",
            ]
            if node == 2 { arguments += ["--replicaof", LabOptions.address(of: 1, plane: 0), "\(port)"] }
            _ = try lab.spawn(
                arguments, on: node,
                descriptors: [DescriptorMapping(output.raw, as: 1), DescriptorMapping(output.raw, as: 2)])
        }
    }
}

/// A client of the Redis server on this node, blocking.
final class RedisClient {
    private let socket: Descriptor
    private var input: [UInt8] = []

    /// Returns when the replica is in step.
    init() throws {
        socket = try TcpFloor.connect("127.0.0.1", port: RedisPair.port)
        let deadline = MonotonicClock.now() + .seconds(20)
        while true {
            try send([Array("WAIT".utf8), Array("1".utf8), Array("100".utf8)])
            if try line() == ":1" { return }
            guard MonotonicClock.now() < deadline else { throw StageError("the Redis pair is not in step") }
        }
    }

    /// SET and WAIT 1, sent together: done when the replica has it.
    func set(_ value: [UInt8]) throws {
        try send(
            [Array("SET".utf8), Array("bench".utf8), value], [Array("WAIT".utf8), Array("1".utf8), Array("1000".utf8)])
        let (stored, replicas) = (try line(), try line())
        guard stored == "+OK", replicas == ":1" else { throw StageError("Redis answers \(stored) \(replicas)") }
    }

    private func send(_ commands: [[UInt8]]...) throws(OSError) {
        var bytes: [UInt8] = []
        for command in commands {
            bytes += Array("*\(command.count)\r\n".utf8)
            for word in command { bytes += Array("$\(word.count)\r\n".utf8) + word + [13, 10] }
        }
        var failure: OSError?
        bytes.withUnsafeBytes { bytes in
            do throws(OSError) { try IO.writeAll(socket.raw, bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// One line of an answer, without its end.
    private func line() throws -> String {
        while true {
            if let end = input.firstIndex(of: 10) {
                let text = String(decoding: input[..<end].dropLast(), as: UTF8.self)
                input.removeFirst(end + 1)
                return text
            }
            var chunk = [UInt8](repeating: 0, count: 4_096)
            let count = try chunk.withUnsafeMutableBytes { try IO.read(socket.raw, into: $0) } ?? 0
            guard count > 0 else { throw StageError("the Redis server has hung up") }
            input += chunk[..<count]
        }
    }
}
