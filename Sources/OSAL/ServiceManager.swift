internal import COSAL
internal import Glibc

/// The service manager (systemd) that started this process and wants to be told how it does: one datagram per message
/// to the socket that `NOTIFY_SOCKET` names. Source: sd_notify(3), "Standalone Implementations".
public struct ServiceManager: Sendable {
    /// The environment variables by which it is found.
    static let variables = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"]

    /// It ends this process when it has heard nothing for so long; nil: it does not watch.
    public let watchdog: Duration?
    private let address: [UInt8]
    private let socket: SharedDescriptor

    /// The one of the environment, which is cleared of it: what this process starts must not speak in its name. Only
    /// while a single thread runs. nil where there is none.
    public static func take() -> ServiceManager? {
        defer { for name in variables { unsetenv(name) } }
        guard let path = Environment.get("NOTIFY_SOCKET") else { return nil }
        let isOurs = Environment.get("WATCHDOG_PID").map { Int32($0) == getpid() } ?? true
        let microseconds = isOurs ? Environment.get("WATCHDOG_USEC").flatMap { Int64($0) } : nil
        return ServiceManager(path: path, watchdog: microseconds.flatMap { $0 > 0 ? .microseconds($0) : nil })
    }

    /// - Parameter path: of a socket, or `@NAME` for one in the abstract namespace; nil for anything else.
    init?(path: String, watchdog: Duration?) {
        var bytes = Array(path.utf8)
        guard bytes.first == UInt8(ascii: "/") || bytes.first == UInt8(ascii: "@"), bytes.count > 1,
            bytes.count <= UnixAddress.pathBytesMax, !bytes.contains(0)
        else { return nil }
        if bytes[0] == UInt8(ascii: "@") { bytes[0] = 0 }
        let kind = Int32(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let number = Glibc.socket(AF_UNIX, kind, 0)
        guard number >= 0 else { return nil }
        (address, socket, self.watchdog) = (bytes, SharedDescriptor(Descriptor(owning: number)), watchdog)
    }

    /// Where such a manager listens: one datagram per message. For programs that stand in for one.
    public static func listen(at path: String) throws(OSError) -> Descriptor {
        let address = try UnixAddress(path: path)
        let kind = Int32(SOCK_DGRAM.rawValue | SOCK_NONBLOCK.rawValue | SOCK_CLOEXEC.rawValue)
        let listener = Descriptor(owning: try retrying("socket") { Glibc.socket(AF_UNIX, kind, 0) })
        try retrying("bind", path) { address.withSocketAddress { bind(listener.raw, $0, $1) } }
        return listener
    }

    /// Tells it `assignments`, one per line, such as `READY=1`; false when it could not be told now. Never waits.
    @discardableResult
    public func tell(_ assignments: String) -> Bool {
        var name = sockaddr_un()
        name.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &name.sun_path) { $0.copyBytes(from: address) }
        let length = socklen_t(MemoryLayout<sockaddr_un>.offset(of: \.sun_path).map { $0 + address.count } ?? 0)
        let bytes = Array(assignments.utf8)
        return withUnsafePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                sendto(socket.raw, bytes, bytes.count, Int32(MSG_NOSIGNAL), $0, length) == bytes.count
            }
        }
    }
}
