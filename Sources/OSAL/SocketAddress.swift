internal import Glibc

/// A numeric IPv4 or IPv6 address and a port; names are not looked up, because that may block.
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// As it was given: "10.0.0.1", "fd00::1", "fe80::1%eth0".
    public let ip: String
    public let port: UInt16
    /// A sockaddr_in or sockaddr_in6.
    private let bytes: [UInt8]

    /// Throws EINVAL when `ip` is no numeric address, ENXIO when the device after `%` does not exist.
    public init(_ ip: String, port: UInt16) throws(OSError) {
        self.ip = ip
        self.port = port
        var four = sockaddr_in()
        four.sin_family = sa_family_t(AF_INET)
        four.sin_port = port.bigEndian
        if inet_pton(AF_INET, ip, &four.sin_addr) == 1 {
            bytes = withUnsafeBytes(of: four) { Array($0) }
            return
        }
        let parts = ip.split(separator: "%", maxSplits: 1, omittingEmptySubsequences: false)
        var six = sockaddr_in6()
        six.sin6_family = sa_family_t(AF_INET6)
        six.sin6_port = port.bigEndian
        guard let first = parts.first, inet_pton(AF_INET6, String(first), &six.sin6_addr) == 1 else {
            throw OSError(code: EINVAL, call: "address", subject: "\"\(ip)\" (a numeric IPv4 or IPv6 address expected)")
        }
        if parts.count == 2 {
            six.sin6_scope_id = if_nametoindex(String(parts[1]))
            if six.sin6_scope_id == 0 { throw OSError(code: ENXIO, call: "if_nametoindex", subject: ip) }
        }
        bytes = withUnsafeBytes(of: six) { Array($0) }
    }

    /// What getsockname(2), getpeername(2) and the like gave.
    init?(storage: UnsafeRawBufferPointer) {
        guard storage.count >= MemoryLayout<sockaddr_in>.size else { return nil }
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        switch Int32(storage.loadUnaligned(as: sa_family_t.self)) {
        case AF_INET:
            var four = storage.loadUnaligned(as: sockaddr_in.self)
            guard inet_ntop(AF_INET, &four.sin_addr, &text, socklen_t(text.count)) != nil else { return nil }
            port = UInt16(bigEndian: four.sin_port)
            bytes = Array(storage.prefix(MemoryLayout<sockaddr_in>.size))
        case AF_INET6:
            guard storage.count >= MemoryLayout<sockaddr_in6>.size else { return nil }
            var six = storage.loadUnaligned(as: sockaddr_in6.self)
            guard inet_ntop(AF_INET6, &six.sin6_addr, &text, socklen_t(text.count)) != nil else { return nil }
            port = UInt16(bigEndian: six.sin6_port)
            bytes = Array(storage.prefix(MemoryLayout<sockaddr_in6>.size))
        default: return nil
        }
        ip = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    public var isIPv6: Bool { bytes.count == MemoryLayout<sockaddr_in6>.size }

    public var description: String { isIPv6 ? "[\(ip)]:\(port)" : "\(ip):\(port)" }

    func withSocketAddress<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        var storage = sockaddr_storage()
        withUnsafeMutableBytes(of: &storage) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(bytes.count)) }
        }
    }
}
