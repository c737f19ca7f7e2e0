internal import COSAL
internal import Glibc

extension UnixAddress: CustomStringConvertible {
    public var description: String { path }
}

extension UnixSocket {
    /// Listens at `path`, replacing a socket file that nobody listens on any more.
    ///
    /// The socket appears under its name complete, with `mode`: a client finds either the old file or the new socket.
    /// - Throws: EADDRINUSE when a living process listens there; ENAMETOOLONG; whatever bind(2) says.
    public static func listen(at path: String, kind: Kind, mode: UInt32, backlog: Int32 = 128) throws(OSError)
        -> Descriptor
    {
        let address = try UnixAddress(path: path)
        if try isAlive(address, kind: kind) {
            throw OSError(code: EADDRINUSE, call: "bind", subject: "\(path) (a running process listens there)")
        }
        let temporary = try UnixAddress(path: path + "~")
        _ = unlink(temporary.path)
        let socket = try make(kind)
        try retrying("bind", path) { temporary.withSocketAddress { bind(socket.raw, $0, $1) } }
        do throws(OSError) {
            try retrying("chmod", path) { chmod(temporary.path, mode_t(mode)) }
            try retrying("listen", path) { Glibc.listen(socket.raw, backlog) }
            try retrying("rename", path) { rename(temporary.path, path) }
        } catch {
            _ = unlink(temporary.path)
            throw error
        }
        return socket
    }

    /// Whether a process listens there; a file left by a dead one does not count. A full backlog is a living listener.
    private static func isAlive(_ address: UnixAddress, kind: Kind) throws(OSError) -> Bool {
        do {
            _ = try connect(to: address, kind: kind)
            return true
        } catch {
            if error.isNobodyListening { return false }
            if error.isWouldBlock { return true }
            throw error
        }
    }

    /// The next waiting connection, or nil.
    public static func accept(on fd: Int32) throws(OSError) -> Descriptor? {
        while true {
            let number = cosal_accept(fd)
            if number >= 0 { return Descriptor(owning: number) }
            switch errno {
            case EAGAIN: return nil
            case EINTR, ECONNABORTED: continue
            default: throw OSError.last("accept4")
            }
        }
    }
}
