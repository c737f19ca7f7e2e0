internal import COSAL
internal import Glibc

/// A file descriptor that is closed when its owner goes.
@frozen
public struct Descriptor: ~Copyable, Sendable {
    /// The number, valid while this value lives.
    public let raw: Int32

    /// Takes the ownership of an open descriptor.
    public init(owning raw: Int32) { self.raw = raw }

    deinit { _ = close(raw) }

    /// Gives the ownership away: the caller closes.
    public consuming func release() -> Int32 {
        let number = raw
        discard self
        return number
    }

    /// A second descriptor of the same open file, closed on exec.
    public func duplicate() throws(OSError) -> Descriptor { try Descriptor(duplicating: raw) }

    /// A descriptor of its own for the open file behind a borrowed number.
    public init(duplicating number: Int32) throws(OSError) {
        self.init(owning: try retrying("fcntl(F_DUPFD_CLOEXEC)") { cosal_fcntl(number, F_DUPFD_CLOEXEC, 0) })
    }

    public func setNonBlocking(_ on: Bool = true) throws(OSError) {
        let flags = try retrying("fcntl(F_GETFL)") { cosal_fcntl(raw, F_GETFL, 0) }
        try retrying("fcntl(F_SETFL)") { cosal_fcntl(raw, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK) }
    }

    /// Asks for a pipe that holds `bytes`; what it holds then, which is less where the kernel allows no more.
    /// Source: F_SETPIPE_SZ, fcntl(2).
    @discardableResult
    public func setPipeCapacity(_ bytes: Int) throws(OSError) -> Int {
        Int(try retrying("fcntl(F_SETPIPE_SZ)") { cosal_set_pipe_capacity(raw, Int32(clamping: bytes)) })
    }

    public func setCloseOnExec(_ on: Bool = true) throws(OSError) {
        try retrying("fcntl(F_SETFD)") { cosal_fcntl(raw, F_SETFD, on ? FD_CLOEXEC : 0) }
    }

    /// Reads what is there: the count, 0 at the end, nil when it would block. Source: read(2).
    public func read(into buffer: UnsafeMutableRawBufferPointer) throws(OSError) -> Int? {
        try IO.read(raw, into: buffer)
    }

    /// Writes what fits: the count, nil when it would block. Source: write(2).
    public func write(_ bytes: UnsafeRawBufferPointer) throws(OSError) -> Int? { try IO.write(raw, bytes) }
}

/// Reading and writing on borrowed descriptor numbers.
public enum IO {
    /// The count, 0 at the end, nil when it would block. Source: read(2).
    public static func read(_ fd: Int32, into buffer: UnsafeMutableRawBufferPointer) throws(OSError) -> Int? {
        try retryingUnlessBlocked("read") { Glibc.read(fd, buffer.baseAddress, buffer.count) }
    }

    /// The count, nil when it would block. Source: write(2).
    public static func write(_ fd: Int32, _ bytes: UnsafeRawBufferPointer) throws(OSError) -> Int? {
        try retryingUnlessBlocked("write") { Glibc.write(fd, bytes.baseAddress, bytes.count) }
    }

    /// Reads at a position without moving the file's own: the count, 0 at the end. Source: pread(2).
    public static func read(
        _ fd: Int32, into buffer: UnsafeMutableRawBufferPointer, at offset: Int
    ) throws(OSError) -> Int {
        try retrying("pread") { pread(fd, buffer.baseAddress, buffer.count, offset) }
    }

    /// Writes at a position without moving the file's own; the count. Source: pwrite(2).
    public static func write(_ fd: Int32, _ bytes: UnsafeRawBufferPointer, at offset: Int) throws(OSError) -> Int {
        try retrying("pwrite") { pwrite(fd, bytes.baseAddress, bytes.count, offset) }
    }

    /// Writes everything; waits where it must. For files and for programs of the command line, never in a daemon's
    /// loop.
    public static func writeAll(_ fd: Int32, _ bytes: UnsafeRawBufferPointer) throws(OSError) {
        var done = 0
        while done < bytes.count {
            let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
            if let count = try write(fd, rest) {
                done += count
            } else {
                _ = try waitUntil(fd, writable: true, deadline: nil)
            }
        }
    }

    /// fsync(2): the file's data and size are on stable storage when this returns.
    public static func synchronize(_ fd: Int32) throws(OSError) { try retrying("fsync") { fsync(fd) } }

    /// Puts the open file of `other` under `number` in one step, closing what was there. Source: dup3(2).
    public static func replace(_ number: Int32, by other: Int32, closeOnExec: Bool = true) throws(OSError) {
        try retrying("dup3") { cosal_replace(number, other, closeOnExec) }
    }

    /// Closes a borrowed number that came by ``UnixSocket/receive(_:into:descriptorsMax:)`` and is not wanted.
    public static func close(_ fd: Int32) { _ = Glibc.close(fd) }
}

/// A descriptor that several owners share; closed with the last of them.
public final class SharedDescriptor: Sendable {
    private let descriptor: Descriptor
    public var raw: Int32 { descriptor.raw }
    public init(_ descriptor: consuming Descriptor) { self.descriptor = descriptor }
}
