internal import COSAL
internal import Glibc

/// The path of a UNIX-domain socket.
public struct UnixAddress: Hashable, Sendable {
    /// The kernel's limit on a socket path, in bytes. Source: unix(7).
    public static let pathBytesMax = 107
    public let path: SystemString

    /// Throws ENAMETOOLONG beyond ``pathBytesMax``, EINVAL for an empty path or one with a zero byte.
    public init(path: SystemString) throws(OSError) {
        if path.utf8.count > UnixAddress.pathBytesMax {
            throw OSError(
                code: ENAMETOOLONG, call: "socket path",
                subject: "\(path) (\(path.utf8.count) bytes, a socket path has at most \(UnixAddress.pathBytesMax))")
        }
        if path.isEmpty || path.utf8.contains(0) {
            throw OSError(code: EINVAL, call: "socket path", subject: "\"\(path)\"")
        }
        self.path = path
    }

    func withSocketAddress<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        return withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(MemoryLayout<sockaddr_un>.size))
            }
        }
    }
}

/// Who is at the other end, as the kernel recorded it when the connection was made.
public struct PeerCredentials: Hashable, Sendable {
    public let pid: Int32
    public let uid: UInt32
    public let gid: UInt32
}

/// What one ``UnixSocket/receive(_:into:descriptorsMax:)`` brought.
public struct Received: Sendable {
    /// Bytes placed in the buffer; 0 means the peer has hung up.
    public let count: Int
    /// Owned by the receiver, closed on exec: wrap each in a ``Descriptor`` or close it.
    public let descriptors: [Int32]
    /// The datagram was longer than the buffer, or brought more descriptors than asked for (those were closed).
    public let truncated: Bool
}

/// Two descriptors that belong together; take both with ``take()`` or read them where they are.
@frozen
public struct DescriptorPair: ~Copyable, Sendable {
    public var first: Descriptor
    public var second: Descriptor
    public init(_ first: consuming Descriptor, _ second: consuming Descriptor) {
        self.first = first
        self.second = second
    }
}

/// UNIX-domain sockets; every descriptor made here is non-blocking and closed on exec. Source: unix(7).
public enum UnixSocket {
    public enum Kind: Sendable {
        /// Keeps message boundaries.
        case seqPacket
        case stream

        var type: Int32 {
            let base = self == .seqPacket ? SOCK_SEQPACKET : SOCK_STREAM
            return Int32(base.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        }
    }

    /// Descriptors that one message may carry.
    public static let descriptorsMax = Int(COSAL_DESCRIPTORS_MAX)

    /// Connects without waiting. Throws ENOENT or ECONNREFUSED when nobody listens, EAGAIN when the backlog is full.
    public static func connect(to path: SystemString, kind: Kind) throws(OSError) -> Descriptor {
        try connect(to: UnixAddress(path: path), kind: kind)
    }

    public static func connect(to address: UnixAddress, kind: Kind) throws(OSError) -> Descriptor {
        let socket = try make(kind)
        try retrying("connect", address.path) { address.withSocketAddress { Glibc.connect(socket.raw, $0, $1) } }
        return socket
    }

    /// Two connected sockets.
    public static func pair(kind: Kind) throws(OSError) -> DescriptorPair {
        var numbers: (Int32, Int32) = (-1, -1)
        try retrying("socketpair") {
            withUnsafeMutablePointer(to: &numbers) { pointer in
                pointer.withMemoryRebound(to: Int32.self, capacity: 2) { socketpair(AF_UNIX, kind.type, 0, $0) }
            }
        }
        return DescriptorPair(Descriptor(owning: numbers.0), Descriptor(owning: numbers.1))
    }

    /// Sends bytes and, with them, descriptors (which stay ours); nil when it would block. Never raises SIGPIPE.
    ///
    /// A `seqPacket` message goes as a whole or not at all; a `stream` may take only a part (descriptors go with the
    /// first).
    public static func send(
        _ fd: Int32, _ bytes: UnsafeRawBufferPointer, descriptors: [Int32] = []
    ) throws(OSError) -> Int? {
        try retryingUnlessBlocked("sendmsg") {
            descriptors.withUnsafeBufferPointer {
                cosal_send(fd, bytes.baseAddress, bytes.count, $0.baseAddress, Int32($0.count))
            }
        }
    }

    /// The next message, or nil when there is none yet.
    public static func receive(
        _ fd: Int32, into buffer: UnsafeMutableRawBufferPointer, descriptorsMax: Int = UnixSocket.descriptorsMax
    ) throws(OSError) -> Received? {
        var numbers = InlineArray<16, Int32>(repeating: -1)
        var numberCount: Int32 = 0
        var truncated = false
        let count = try retryingUnlessBlocked("recvmsg") {
            numberCount = Int32(min(descriptorsMax, UnixSocket.descriptorsMax))
            return withUnsafeMutablePointer(to: &numbers) { pointer in
                pointer.withMemoryRebound(to: Int32.self, capacity: 16) {
                    cosal_receive(fd, buffer.baseAddress, buffer.count, $0, &numberCount, &truncated)
                }
            }
        }
        guard let count else { return nil }
        let descriptors = numberCount == 0 ? [] : (0..<Int(numberCount)).map { numbers[$0] }
        return Received(count: count, descriptors: descriptors, truncated: truncated)
    }

    /// Hangs up in both directions: the peer reads an end, whoever else still holds the descriptor. Source:
    /// shutdown(2).
    public static func shutDown(_ fd: Int32) { _ = shutdown(fd, Int32(SHUT_RDWR)) }

    public static func peerCredentials(_ fd: Int32) throws(OSError) -> PeerCredentials {
        var pid: Int32 = 0
        var uid: UInt32 = 0
        var gid: UInt32 = 0
        try retrying("getsockopt(SO_PEERCRED)") { cosal_peer_credentials(fd, &pid, &uid, &gid) }
        return PeerCredentials(pid: pid, uid: uid, gid: gid)
    }

    /// The supplementary groups of the process at the other end, as they were when it connected. Source: socket(7),
    /// SO_PEERGROUPS, Linux 4.13.
    public static func peerGroups(_ fd: Int32) throws(OSError) -> [UInt32] {
        var groups = [UInt32](repeating: 0, count: 64)
        while true {
            var bytes = socklen_t(groups.count * 4)
            do throws(OSError) {
                try retrying("getsockopt(SO_PEERGROUPS)") { getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, &groups, &bytes) }
                return Array(groups.prefix(Int(bytes) / 4))
            } catch {
                // It said how many there are; no system has more than NGROUPS_MAX.
                guard error.code == ERANGE, Int(bytes) / 4 > groups.count, Int(bytes) / 4 <= 65_536 else { throw error }
                groups = [UInt32](repeating: 0, count: Int(bytes) / 4)
            }
        }
    }

    /// How many bytes the socket may hold for its peer; the kernel doubles it and caps it. Source: socket(7),
    /// SO_SNDBUF.
    public static func setSendBuffer(_ fd: Int32, bytes: Int32) throws(OSError) {
        var value = bytes
        try retrying("setsockopt(SO_SNDBUF)") { setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, 4) }
    }

    static func make(_ kind: Kind) throws(OSError) -> Descriptor {
        Descriptor(owning: try retrying("socket") { socket(AF_UNIX, kind.type, 0) })
    }
}

/// The two ends of a pipe, closed on exec. Source: pipe2(2).
public func makePipe(nonBlocking: Bool = false) throws(OSError) -> DescriptorPair {
    var numbers: (Int32, Int32) = (-1, -1)
    try retrying("pipe2") {
        withUnsafeMutablePointer(to: &numbers) { pointer in
            pointer.withMemoryRebound(to: Int32.self, capacity: 2) { cosal_pipe($0, nonBlocking) }
        }
    }
    return DescriptorPair(Descriptor(owning: numbers.0), Descriptor(owning: numbers.1))
}
