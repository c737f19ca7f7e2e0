import EngineKit
import OSAL

/// What TCP itself needs for the same bytes there and back: blocking sockets, and nothing else on either side.
final class TcpFloor {
    private static let port: UInt16 = 16_999

    private let socket: Descriptor

    /// Connects to the node that serves.
    init(to host: String) throws(OSError) {
        socket = try TcpSocket.connect(to: SocketAddress(host, port: Self.port))
        try socket.setNonBlocking(false)
        _ = try IO.waitUntil(socket.raw, writable: true, deadline: MonotonicClock.now() + .seconds(5))
        if let error = TcpSocket.connectResult(socket.raw) { throw error }
    }

    /// Nanoseconds of each round trip.
    func measure(_ size: Int, _ count: Int) throws(OSError) -> [Int64] {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: size, alignment: 64)
        buffer.initializeMemory(as: UInt8.self, repeating: 1)
        defer { buffer.deallocate() }
        let length = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 8)
        defer { length.deallocate() }
        length.storeBytes(of: UInt64(size), as: UInt64.self)
        length.storeBytes(of: UInt64(count), toByteOffset: 8, as: UInt64.self)
        try IO.writeAll(socket.raw, UnsafeRawBufferPointer(length))
        var samples: [Int64] = []
        for _ in 0..<count {
            let start = MonotonicClock.now()
            try IO.writeAll(socket.raw, UnsafeRawBufferPointer(buffer))
            _ = try Self.readAll(socket.raw, into: buffer)
            samples.append((MonotonicClock.now() - start).nanoseconds)
        }
        return samples
    }

    /// Serves one after the other on a thread of its own.
    static func serve(at host: String) throws(OSError) {
        let listener = try TcpSocket.listen(on: SocketAddress(host, port: port))
        try listener.setNonBlocking(false)
        let shared = SharedDescriptor(listener)
        _ = try OSThread.spawn(name: "floor") {
            while true {
                do throws(OSError) {
                    guard let socket = try TcpSocket.accept(on: shared.raw) else { continue }
                    try socket.setNonBlocking(false)
                    while try echo(socket.raw) {}
                } catch {
                    say("floor: \(error)")
                }
            }
        }
    }

    private static func echo(_ fd: Int32) throws(OSError) -> Bool {
        let words = UnsafeMutableRawBufferPointer.allocate(byteCount: 16, alignment: 8)
        defer { words.deallocate() }
        guard try readAll(fd, into: words) else { return false }
        let size = min(words.load(as: UInt64.self), 1 << 26)
        let count = words.load(fromByteOffset: 8, as: UInt64.self)
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(size), alignment: 64)
        defer { buffer.deallocate() }
        for _ in 0..<count {
            guard try readAll(fd, into: buffer) else { return false }
            try IO.writeAll(fd, UnsafeRawBufferPointer(buffer))
        }
        return true
    }

    /// False at the end of the stream.
    private static func readAll(_ fd: Int32, into buffer: UnsafeMutableRawBufferPointer) throws(OSError) -> Bool {
        var filled = 0
        while filled < buffer.count {
            let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[filled...])
            guard let count = try IO.read(fd, into: rest), count > 0 else { return false }
            filled += count
        }
        return true
    }
}
