import EngineKit
import OSAL
import SafStage

/// What the network between two nodes needs for 1 KiB there and back: blocking sockets that do nothing else.
final class TcpFloor {
    static let messageBytes = 1_024
    private static let port: UInt16 = 17_900

    private let socket: Descriptor
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: TcpFloor.messageBytes, alignment: 8)

    /// Connects to the ``runTcpEcho(at:)`` of another node, once that listens.
    init(to host: String) throws {
        socket = try Self.connect(host, port: Self.port)
        buffer.initializeMemory(as: UInt8.self, repeating: 7)
        for _ in 0..<200 { _ = try roundTrip() }
    }

    deinit { buffer.deallocate() }

    /// A blocking connection to who may still be starting.
    static func connect(_ host: String, port: UInt16, timeout: Duration = .seconds(10)) throws -> Descriptor {
        let address = try SocketAddress(host, port: port)
        let deadline = MonotonicClock.now() + timeout
        while true {
            let socket = try TcpSocket.connect(to: address)
            if try IO.waitUntil(socket.raw, writable: true, deadline: deadline),
                TcpSocket.connectResult(socket.raw) == nil
            {
                try socket.setNonBlocking(false)
                return socket
            }
            guard MonotonicClock.now() < deadline else { throw StageError("nobody listens at \(address)") }
            PrivateNode.pause(.milliseconds(20))
        }
    }

    /// Nanoseconds.
    func roundTrip() throws -> UInt64 {
        let start = MonotonicClock.now()
        try IO.writeAll(socket.raw, UnsafeRawBufferPointer(buffer))
        guard try Self.readAll(socket.raw, into: buffer) else { throw StageError("the TCP echo is gone") }
        return UInt64((MonotonicClock.now() - start).nanoseconds)
    }

    /// False at the end of the stream.
    static func readAll(_ fd: Int32, into buffer: UnsafeMutableRawBufferPointer) throws(OSError) -> Bool {
        var filled = 0
        while filled < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            guard let count = try IO.read(fd, into: rest), count > 0 else { return false }
            filled += count
        }
        return true
    }

    /// Answers one after the other, until somebody ends it.
    static func echo(at host: String) throws -> Never {
        let listener = try TcpSocket.listen(on: SocketAddress(host, port: port))
        try listener.setNonBlocking(false)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: messageBytes, alignment: 8)
        while true {
            guard let socket = try TcpSocket.accept(on: listener.raw) else { continue }
            try socket.setNonBlocking(false)
            while try readAll(socket.raw, into: buffer) { try IO.writeAll(socket.raw, UnsafeRawBufferPointer(buffer)) }
        }
    }
}

/// The floor's other side, in another node.
func runTcpEcho(at host: String) -> Never {
    do {
        try TcpFloor.echo(at: host)
    } catch {
        StandardError.write("saf bench: \(error)\n")
        Environment.exit(1)
    }
}

/// The floor alone, written down as `tcp NANOSECONDS`.
func runTcpPing(to host: String, record path: String) -> Never {
    do {
        let floor = try TcpFloor(to: host)
        let file = try Record(path: path).open()
        for _ in 0..<1_000 { try Record.append("tcp", [try floor.roundTrip()], to: file.raw) }
        Environment.exit(0)
    } catch {
        StandardError.write("saf bench: \(error)\n")
        Environment.exit(1)
    }
}
