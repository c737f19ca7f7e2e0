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
    /// The version of what the services say on it.
    var messages: UInt8 = 1
    var upSince: Instant?
    var path: PathWatch
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

    /// Nil without TLS.
    var cipher: TlsSession?
    /// The TLS handshake is done, and nobody has looked at the certificate yet.
    var isFreshlySecured = false

    init(
        socket: consuming Descriptor, role: Role, remote: SocketAddress, phase: Phase, options: LinkOptions
    ) {
        fd = socket.raw
        self.socket = SharedDescriptor(socket)
        self.role = role
        self.remote = remote
        self.phase = phase
        receiver = LinkReceiver(bodyMax: options.limits.bodyMax)
        path = PathWatch(patience: options.pathPatience)
        if case .dialed(let node, _) = role { peer = node }
    }

    var isClosed: Bool { phase == .closed }

    var receivedBytes: UInt64 { receiver.receivedBytes }

    /// There are bytes that can be sent.
    var hasOutput: Bool {
        guard let cipher else { return !sender.isEmpty }
        return !cipher.memory.outgoing.isEmpty || cipher.isEstablished && !sender.isEmpty
    }

    /// A read may bring something.
    var mayRead: Bool { canRead || cipher?.hasInput == true }

    /// Sends one batch.
    func push() -> Progress {
        if let cipher { return pushSealed(cipher) }
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
            return .ended(Self.text(error))
        }
    }

    /// Sends what fits before the connection is closed: why, as a rule.
    func pushLast() {
        canWrite = true
        for _ in 0..<4 where hasOutput && canWrite {
            if case .ended = push() { return }
        }
    }

    private func pushSealed(_ cipher: TlsSession) -> Progress {
        if cipher.memory.outgoing.isEmpty, cipher.isEstablished, !encrypt(by: cipher) {
            return .ended("TLS cannot encrypt")
        }
        let outgoing = cipher.memory.outgoing
        guard !outgoing.isEmpty else { return .moved(0) }
        do throws(OSError) {
            guard let count = try write(IOSlice(base: outgoing.baseAddress, count: outgoing.count)) else {
                canWrite = false
                return .blocked
            }
            cipher.memory.sent(count)
            sentBytes &+= UInt64(count)
            return .moved(count)
        } catch {
            return .ended(Self.text(error))
        }
    }

    /// Encrypted at a time: small enough for a processor's own cache, and the other side decrypts it meanwhile.
    private static let encryptedMax = 64 << 10

    private func encrypt(by cipher: TlsSession) -> Bool {
        var isGood = true
        _ = sender.withOutput { slices in
            var taken = 0
            for slice in slices where isGood && taken < Self.encryptedMax {
                // A little rest goes along: alone it would be a record and a system call of its own.
                let room = Self.encryptedMax - taken
                let count = slice.count > room + 1024 ? room : slice.count
                isGood = cipher.write(slice.base, count: count)
                taken += count
            }
            return taken
        }
        return isGood
    }

    private func write(_ slice: IOSlice) throws(OSError) -> Int? {
        try withUnsafePointer(to: slice) { pointer throws(OSError) in
            try TcpSocket.send(fd, UnsafeBufferPointer(start: pointer, count: 1))
        }
    }

    /// Decrypts what there is, one record at a time; reads the socket when there is nothing to decrypt.
    private func pullSealed(_ cipher: TlsSession) -> Progress {
        do throws(OSError) {
            while true {
                if cipher.isEstablished, cipher.hasInput {
                    let (first, second) = receiver.space()
                    let target = first.count > 0 ? first : second
                    switch cipher.read(into: target.base, count: target.count) {
                    case .moved(let count):
                        receiver.received(count)
                        return .moved(count)
                    case .failed(let text): return .ended(text)
                    case .blocked: break
                    }
                }
                guard canRead else { return .blocked }
                let space = cipher.memory.space
                guard let count = try IO.read(fd, into: space) else {
                    canRead = false
                    return .blocked
                }
                if count == 0 { return .ended("the other side has hung up") }
                if count < space.count, !isHungUp { canRead = false }
                cipher.received(count)
                guard !cipher.isEstablished else { continue }
                switch cipher.handshake() {
                case .moved:
                    isFreshlySecured = true
                    return .moved(0)
                case .blocked: continue
                case .failed(let text): return .ended(text)
                }
            }
        } catch {
            return .ended(Self.text(error))
        }
    }

    static func text(_ error: OSError) -> String {
        error.isPeerGone ? "the connection was closed by the other side" : "\(error)"
    }

    /// Reads once.
    func pull() -> Progress {
        if let cipher { return pullSealed(cipher) }
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
            return .ended(Self.text(error))
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
