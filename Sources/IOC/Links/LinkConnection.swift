import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// One TCP connection of either role: the two halves of a link, the socket, and what is known of readiness.
final class LinkConnection {
    enum Phase { case connecting, greeting, up, closed }

    enum Role {
        case dialed(PeerNode, address: Int)
        case accepted
    }

    /// What came of an attempt to move bytes.
    enum Progress: Equatable {
        case moved(Int)
        case blocked
        case ended(String)
    }

    let fd: Int32
    private let socket: SharedDescriptor
    let role: Role
    /// The far end.
    let remote: SocketAddress
    var phase: Phase
    var sender = LinkSender()
    var receiver: LinkReceiver
    var watch: WatchID?
    var deadline: LoopTimer?
    /// Who is at the other end, once it is known.
    var peer: PeerNode?
    /// That life of it.
    var incarnation: UInt64 = 0
    var upSince: Instant?
    /// As the edge-triggered poller left it: a read or a write may succeed.
    var canRead = false
    var canWrite = false
    /// The other side has closed: a short read does not say that nothing is left.
    var isHungUp = false
    /// It stands in the list of connections with bytes to send, or to read.
    var isDirty = false
    var isBacklogged = false
    var isHot = false
    /// Its requests are not read until it has taken answers.
    var isPaused = false
    private(set) var sentBytes: UInt64 = 0

    init(socket: consuming Descriptor, role: Role, remote: SocketAddress, phase: Phase, bodyMax: Int) {
        fd = socket.raw
        self.socket = SharedDescriptor(socket)
        self.role = role
        self.remote = remote
        self.phase = phase
        receiver = LinkReceiver(bodyMax: bodyMax)
        if case .dialed(let node, _) = role { peer = node }
    }

    var isClosed: Bool { phase == .closed }

    var receivedBytes: UInt64 { receiver.receivedBytes }

    /// Bytes that wait to be sent.
    var hasOutput: Bool { !sender.isEmpty }

    /// Sends one batch.
    func push() -> Progress {
        do throws(OSError) {
            var isBlocked = false
            let count = try sender.withOutput { slices throws(OSError) in
                guard let count = try TcpSocket.send(fd, slices) else {
                    isBlocked = true
                    return 0
                }
                return count
            }
            if isBlocked {
                canWrite = false
                return .blocked
            }
            sentBytes &+= UInt64(count)
            return .moved(count)
        } catch {
            return .ended(error.isPeerGone ? "the connection was closed by the other side" : "\(error)")
        }
    }

    /// Reads once.
    func pull() -> Progress {
        let (first, second) = receiver.space()
        let wanted = first.count + second.count
        do throws(OSError) {
            let count =
                first.count > 0
                ? try read(first, second) : try read(second)
            guard let count else {
                canRead = false
                return .blocked
            }
            if count == 0 { return .ended("the other side has hung up") }
            receiver.received(count)
            if count < wanted, !isHungUp { canRead = false }
            return .moved(count)
        } catch {
            return .ended(error.isPeerGone ? "the connection was closed by the other side" : "\(error)")
        }
    }

    private func read(_ first: IOSlice, _ second: IOSlice) throws(OSError) -> Int? {
        var slices = (first, second)
        return try read(&slices, count: 2)
    }

    private func read(_ only: IOSlice) throws(OSError) -> Int? {
        var slices = (only, only)
        return try read(&slices, count: 1)
    }

    private func read(_ slices: inout (IOSlice, IOSlice), count: Int) throws(OSError) -> Int? {
        try withUnsafePointer(to: &slices) { pointer throws(OSError) in
            try pointer.withMemoryRebound(to: IOSlice.self, capacity: 2) { base throws(OSError) in
                try TcpSocket.receive(fd, into: UnsafeBufferPointer(start: base, count: count))
            }
        }
    }
}
