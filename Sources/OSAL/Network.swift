internal import COSAL
internal import Glibc

/// What this machine calls its own and how it calls others. May wait for a name server: not for daemons.
public enum Network {
    /// The numeric addresses of all interfaces that are up; IPv6 without its scope. Source: getifaddrs(3).
    public static func ownAddresses() throws(OSError) -> [String] {
        var first: UnsafeMutablePointer<ifaddrs>?
        try retrying("getifaddrs") { getifaddrs(&first) }
        defer { freeifaddrs(first) }
        var found: [String] = []
        var next = first
        while let entry = next?.pointee {
            next = entry.ifa_next
            if let address = entry.ifa_addr, let text = numeric(address), !found.contains(text) { found.append(text) }
        }
        return found
    }

    /// The numeric addresses of a name, as this machine's resolver gives them; empty when it knows none.
    /// Source: getaddrinfo(3).
    public static func addresses(of name: String) -> [String] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var first: UnsafeMutablePointer<addrinfo>?
        guard getaddrinfo(name, nil, &hints, &first) == 0 else { return [] }
        defer { freeaddrinfo(first) }
        var found: [String] = []
        var next = first
        while let entry = next?.pointee {
            next = entry.ai_next
            if let address = entry.ai_addr, let text = numeric(address), !found.contains(text) { found.append(text) }
        }
        return found
    }

    private static func numeric(_ address: UnsafeMutablePointer<sockaddr>) -> String? {
        let size: Int
        switch Int32(address.pointee.sa_family) {
        case AF_INET: size = MemoryLayout<sockaddr_in>.size
        case AF_INET6: size = MemoryLayout<sockaddr_in6>.size
        default: return nil
        }
        return SocketAddress(storage: UnsafeRawBufferPointer(start: address, count: size))?.ip
    }
}

/// What the kernel believes of the time of day. Source: adjtimex(2).
public struct ClockSynchronisation: Hashable, Sendable {
    /// Somebody (chrony, ntpd, systemd-timesyncd) keeps it right.
    public let isSynchronised: Bool
    /// The most it may be wrong; meaningless when nobody keeps it.
    public let maximumError: Duration

    /// Of this machine; changes nothing.
    public static func current() throws(OSError) -> ClockSynchronisation {
        var isSynchronised = false
        var microseconds = 0
        try retrying("adjtimex") { cosal_clock_synchronisation(&isSynchronised, &microseconds) }
        return ClockSynchronisation(isSynchronised: isSynchronised, maximumError: .microseconds(microseconds))
    }
}
