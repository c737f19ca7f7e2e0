import EngineKit
import OSAL

/// What the machine needs for a message there and back: 64 bytes over a blocking SOCK_SEQPACKET between two processes.
struct Floor {
    /// Back to back: nobody has time to fall asleep deeply.
    let hot: Samples
    /// One message every few milliseconds: both sides asleep, as when something happens once in a while. µs.
    let cold: Samples

    static let messageBytes = 64

    static func measure(rounds: Int = 4_000, coldRounds: Int = 400) throws -> Floor {
        let pair = try UnixSocket.pair(kind: .seqPacket)
        try pair.first.setNonBlocking(false)
        try pair.second.setNonBlocking(false)
        let child = try Peer.spawn("echo", descriptors: [DescriptorMapping(pair.second.raw, as: 3)])
        defer {
            _ = try? Process.kill(child.pid, .kill)
            _ = try? IO.waitUntil(child.rawPidfd, readable: true, deadline: MonotonicClock.now() + .seconds(5))
            _ = Process.reap(child.pid)
        }
        let fd = pair.first.raw
        for _ in 0..<200 { try pingPong(fd) }
        var hot = Samples()
        for _ in 0..<rounds { hot.append(try pingPong(fd)) }
        var cold = Samples()
        for _ in 0..<coldRounds {
            _ = try IO.waitUntil(-1, deadline: MonotonicClock.now() + .milliseconds(3))
            cold.append(try pingPong(fd))
        }
        return Floor(hot: hot, cold: cold)
    }

    /// One round trip in µs.
    @discardableResult
    private static func pingPong(_ fd: Int32) throws -> Double {
        try withUnsafeTemporaryAllocation(byteCount: messageBytes, alignment: 8) { buffer throws in
            buffer.initializeMemory(as: UInt8.self, repeating: 7)
            let start = MonotonicClock.now()
            _ = try IO.write(fd, UnsafeRawBufferPointer(buffer))
            guard let count = try IO.read(fd, into: buffer), count == messageBytes else {
                throw OSError(code: 0, call: "read", subject: "the peer of the floor is gone")
            }
            return Double((MonotonicClock.now() - start).nanoseconds) / 1_000
        }
    }

    /// The other side: sends back what it gets until the end.
    static func echo(on fd: Int32) -> Never {
        withUnsafeTemporaryAllocation(byteCount: messageBytes, alignment: 8) { buffer in
            while let count = try? IO.read(fd, into: buffer), count > 0 {
                guard (try? IO.write(fd, UnsafeRawBufferPointer(rebasing: buffer[0..<count]))) != nil else { break }
            }
        }
        Environment.exit(0)
    }
}
