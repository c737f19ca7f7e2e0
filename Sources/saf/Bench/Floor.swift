import EngineKit
import OSAL
import SafStage

/// What the machine needs for a message there and back: 64 bytes over a blocking SOCK_SEQPACKET between two processes.
///
/// The two sides run on different processors where there are two: what the kernel would choose changes from run to run
/// between a switch on one processor (some 8 µs) and a wake-up of another (some 50), and only the second is what a
/// message to somebody who sleeps costs.
///
/// The other process stays, so that every bench samples the floor between its own rounds: on a machine whose load
/// changes only figures of the same moments can be compared.
final class Floor {
    static let messageBytes = 64
    /// Long enough for both sides to be asleep.
    static let coldPause = Duration.milliseconds(3)

    /// Where the measuring thread runs between the samples; nil: anywhere.
    var home: Int? { didSet { OSThread.run(on: home) } }

    private let socket: DescriptorPair
    private let peer: SpawnedProcess

    init() throws {
        let pair = try UnixSocket.pair(kind: .seqPacket)
        try pair.first.setNonBlocking(false)
        try pair.second.setNonBlocking(false)
        peer = try Peer.spawn("echo", descriptors: [DescriptorMapping(pair.second.raw, as: 3)])
        socket = pair
        for _ in 0..<200 { try Self.pingPong(socket.first.raw) }
    }

    deinit { end(peer.pid, pidfd: peer.rawPidfd) }

    /// Back to back, µs: nobody has time to fall asleep deeply.
    func hot(rounds: Int) throws -> Samples {
        OSThread.run(on: 0)
        defer { OSThread.run(on: home) }
        var samples = Samples()
        for _ in 0..<rounds { samples.append(try Self.pingPong(socket.first.raw)) }
        return samples
    }

    /// After a pause of a few milliseconds, µs: both sides asleep, as when something happens once in a while.
    func cold(rounds: Int) throws -> Samples {
        OSThread.run(on: 0)
        defer { OSThread.run(on: home) }
        var samples = Samples()
        for _ in 0..<rounds {
            PrivateNode.pause(Self.coldPause)
            samples.append(try Self.pingPong(socket.first.raw))
        }
        return samples
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
        OSThread.run(on: 1)  // with one processor only, there
        withUnsafeTemporaryAllocation(byteCount: messageBytes, alignment: 8) { buffer in
            while let count = try? IO.read(fd, into: buffer), count > 0 {
                guard (try? IO.write(fd, UnsafeRawBufferPointer(rebasing: buffer[0..<count]))) != nil else { break }
            }
        }
        Environment.exit(0)
    }
}
