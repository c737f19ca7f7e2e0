internal import COSAL
internal import Glibc

/// One stretch of memory for ``TcpSocket/send(_:_:)`` and ``TcpSocket/receive(_:into:)``; laid out as struct iovec.
public struct IOSlice {
    public var base: UnsafeMutableRawPointer?
    public var count: Int
    public init(base: UnsafeMutableRawPointer?, count: Int) {
        self.base = base
        self.count = count
    }
}

/// How a connection leaves this node and when the kernel gives it up. Source: socket(7), tcp(7).
public struct TcpOptions: Hashable, Sendable {
    /// The local address of outgoing connections; its port is 0 as a rule.
    public var source: SocketAddress?
    /// The device that must be used (SO_BINDTODEVICE; needs CAP_NET_RAW).
    public var device: String?
    /// The firewall mark (SO_MARK; needs CAP_NET_ADMIN).
    public var mark: UInt32?
    /// Data not acknowledged, or not taken by a stopped receiver, for so long ends the connection (TCP_USER_TIMEOUT).
    public var userTimeout: Duration?
    /// An idle connection is probed every so often, and given up after three probes without an answer.
    public var keepAlive: Duration?
    /// Bytes the kernel takes beyond what it can send at once (TCP_NOTSENT_LOWAT): what an urgent frame waits behind.
    public var unsentBytesMax: Int?

    public init() {}
}

/// What the kernel knows of a connection. Source: tcp(7), TCP_INFO.
public struct TcpStatus: Hashable, Sendable {
    /// The smoothed round-trip time.
    public var roundTrip: Duration
    /// Segments sent again so far.
    public var retransmissions: UInt32
    /// Segments sent that the other machine has not acknowledged.
    public var unacknowledged: UInt32
    /// Bytes it has acknowledged so far.
    public var acknowledgedBytes: UInt64
}

/// TCP sockets; every descriptor made here is non-blocking, closed on exec, and has Nagle's algorithm off.
public enum TcpSocket {
    /// Listens; the address need not exist yet (IP_FREEBIND), so that a dead plane prevents nothing.
    public static func listen(
        on address: SocketAddress, options: TcpOptions = TcpOptions(), backlog: Int32 = 64
    ) throws(OSError) -> Descriptor {
        let socket = try make(address)
        try set(socket.raw, SOL_SOCKET, SO_REUSEADDR, 1, "setsockopt(SO_REUSEADDR)")
        try set(socket.raw, Int32(IPPROTO_IP), IP_FREEBIND, 1, "setsockopt(IP_FREEBIND)")
        if address.isIPv6 { try set(socket.raw, Int32(IPPROTO_IPV6), IPV6_V6ONLY, 1, "setsockopt(IPV6_V6ONLY)") }
        try direct(socket.raw, options)
        try retrying("bind", "\(address)") { address.withSocketAddress { bind(socket.raw, $0, $1) } }
        try retrying("listen", "\(address)") { Glibc.listen(socket.raw, backlog) }
        return socket
    }

    /// Begins to connect. When the descriptor becomes writable, ``connectResult(_:)`` says how it went.
    public static func connect(to address: SocketAddress, options: TcpOptions = TcpOptions()) throws(OSError)
        -> Descriptor
    {
        let socket = try make(address)
        try direct(socket.raw, options)
        try configure(socket.raw, options)
        if let source = options.source {
            try retrying("bind", "\(source)") { source.withSocketAddress { bind(socket.raw, $0, $1) } }
        }
        let result = address.withSocketAddress { Glibc.connect(socket.raw, $0, $1) }
        if result != 0, errno != EINPROGRESS, errno != EINTR { throw OSError.last("connect", "\(address)") }
        return socket
    }

    /// Nil when the connection stands, else why it does not. Source: connect(2), EINPROGRESS.
    public static func connectResult(_ fd: Int32) -> OSError? {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        if getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0 { return OSError.last("getsockopt(SO_ERROR)") }
        return code == 0 ? nil : OSError(code: code, call: "connect")
    }

    /// The next waiting connection, or nil.
    public static func accept(on fd: Int32, options: TcpOptions = TcpOptions()) throws(OSError) -> Descriptor? {
        guard let socket = try UnixSocket.accept(on: fd) else { return nil }
        try configure(socket.raw, options)
        return socket
    }

    public static func localAddress(_ fd: Int32) -> SocketAddress? { address { getsockname(fd, $0, $1) } }
    public static func peerAddress(_ fd: Int32) -> SocketAddress? { address { getpeername(fd, $0, $1) } }

    /// Sends the slices one after the other: how many bytes went, nil when it would block. Never raises SIGPIPE.
    public static func send(_ fd: Int32, _ slices: UnsafeBufferPointer<IOSlice>) throws(OSError) -> Int? {
        var message = msghdr()
        message.msg_iov = parts(slices)
        message.msg_iovlen = slices.count
        return try retryingUnlessBlocked("sendmsg") { sendmsg(fd, &message, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) }
    }

    /// Fills the slices one after the other: how many bytes came, 0 at the end, nil when it would block.
    public static func receive(_ fd: Int32, into slices: UnsafeBufferPointer<IOSlice>) throws(OSError) -> Int? {
        try retryingUnlessBlocked("readv") { readv(fd, parts(slices), Int32(slices.count)) }
    }

    public static func status(_ fd: Int32) -> TcpStatus? {
        // The kernel's structure goes on where the C library's ends: tcpi_bytes_acked stands at offset 120.
        var info = (tcp_info(), pacing: (UInt64(0), UInt64(0)), acknowledgedBytes: UInt64(0))
        var length = socklen_t(MemoryLayout.size(ofValue: info))
        guard getsockopt(fd, Int32(IPPROTO_TCP), TCP_INFO, &info, &length) == 0 else { return nil }
        return TcpStatus(
            roundTrip: .microseconds(Int64(info.0.tcpi_rtt)), retransmissions: UInt32(info.0.tcpi_total_retrans),
            unacknowledged: UInt32(info.0.tcpi_unacked), acknowledgedBytes: info.acknowledgedBytes)
    }

    private static func parts(_ slices: UnsafeBufferPointer<IOSlice>) -> UnsafeMutablePointer<iovec>? {
        guard let base = slices.baseAddress else { return nil }
        return UnsafeMutableRawPointer(mutating: base).assumingMemoryBound(to: iovec.self)
    }

    private static func make(_ address: SocketAddress) throws(OSError) -> Descriptor {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        return Descriptor(
            owning: try retrying("socket") { socket(address.isIPv6 ? AF_INET6 : AF_INET, type, 0) })
    }

    /// Which way the packets go.
    private static func direct(_ fd: Int32, _ options: TcpOptions) throws(OSError) {
        if let device = options.device {
            try retrying("setsockopt(SO_BINDTODEVICE)", device) {
                setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, device, socklen_t(device.utf8.count))
            }
        }
        if let mark = options.mark {
            try set(fd, SOL_SOCKET, SO_MARK, Int32(bitPattern: mark), "setsockopt(SO_MARK)")
        }
    }

    private static func configure(_ fd: Int32, _ options: TcpOptions) throws(OSError) {
        let tcp = Int32(IPPROTO_TCP)
        try set(fd, tcp, TCP_NODELAY, 1, "setsockopt(TCP_NODELAY)")
        if let timeout = options.userTimeout {
            let milliseconds = Int32(clamping: max(1, timeout.nanoseconds / 1_000_000))
            try set(fd, tcp, TCP_USER_TIMEOUT, milliseconds, "setsockopt(TCP_USER_TIMEOUT)")
        }
        if let interval = options.keepAlive {
            let seconds = Int32(clamping: max(1, interval.nanoseconds / 1_000_000_000))
            try set(fd, SOL_SOCKET, SO_KEEPALIVE, 1, "setsockopt(SO_KEEPALIVE)")
            try set(fd, tcp, TCP_KEEPIDLE, seconds, "setsockopt(TCP_KEEPIDLE)")
            try set(fd, tcp, TCP_KEEPINTVL, seconds, "setsockopt(TCP_KEEPINTVL)")
            try set(fd, tcp, TCP_KEEPCNT, 3, "setsockopt(TCP_KEEPCNT)")
        }
        if let bytes = options.unsentBytesMax {
            try set(fd, tcp, TCP_NOTSENT_LOWAT, Int32(clamping: bytes), "setsockopt(TCP_NOTSENT_LOWAT)")
        }
    }

    private static func set(
        _ fd: Int32, _ level: Int32, _ option: Int32, _ value: Int32, _ call: StaticString
    ) throws(OSError) {
        var value = value
        try retrying(call) { setsockopt(fd, level, option, &value, socklen_t(MemoryLayout<Int32>.size)) }
    }

    private static func address(
        _ ask: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) -> SocketAddress? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let result = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { ask($0, &length) }
        }
        guard result == 0 else { return nil }
        return withUnsafeBytes(of: storage) {
            SocketAddress(storage: UnsafeRawBufferPointer(rebasing: $0.prefix(Int(length))))
        }
    }
}
