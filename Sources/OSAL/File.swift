internal import COSAL
internal import Glibc

/// What stat(2) knows of a file.
public struct FileStatus: Equatable, Sendable {
    public enum Kind: Sendable { case file, directory, link, socket, pipe, device }
    public let kind: Kind
    public let size: Int
    /// Bytes that it takes, holes left out and what is behind its end included.
    public let allocated: Int
    /// Permission bits.
    public let mode: UInt32
    public let userID: UInt32
    public let groupID: UInt32
    /// Names it has.
    public let links: Int
    public let device: UInt64
    public let inode: UInt64
    /// UTC, nanoseconds since 1970.
    public let modified: Int64
}

/// Files. These calls may wait for a disk: a daemon's loop gives them to its worker.
public enum File {
    /// Opens an existing file for reading (or writing), closed on exec.
    public static func open(_ path: SystemString, writable: Bool = false, append: Bool = false) throws(OSError)
        -> Descriptor
    {
        let flags = (writable ? O_RDWR : O_RDONLY) | (append ? O_APPEND : 0) | O_CLOEXEC
        return Descriptor(owning: try retrying("open", path) { path.withCString { cosal_open($0, flags, 0) } })
    }

    public static func stat(_ path: SystemString, followLinks: Bool = true) throws(OSError) -> FileStatus {
        var raw = Glibc.stat()
        try retrying("stat", path) {
            path.withCString { fstatat(AT_FDCWD, $0, &raw, followLinks ? 0 : AT_SYMLINK_NOFOLLOW) }
        }
        return FileStatus(raw)
    }

    public static func stat(descriptor fd: Int32) throws(OSError) -> FileStatus {
        var raw = Glibc.stat()
        try retrying("fstat") { fstat(fd, &raw) }
        return FileStatus(raw)
    }

    public static func readLink(_ path: SystemString) throws(OSError) -> SystemString {
        try withUnsafeTemporaryAllocation(of: CChar.self, capacity: 4096) { (buffer) throws(OSError) -> SystemString in
            let count = try retrying("readlink", path) {
                path.withCString { path in buffer.baseAddress.map { readlink(path, $0, buffer.count) } ?? -1 }
            }
            return SystemString(decoding: UnsafeRawBufferPointer(buffer)[0..<count], as: UTF8.self)
        }
    }

    public static func exists(_ path: SystemString) -> Bool { path.withCString { access($0, F_OK) } == 0 }

    /// Removes a file; true when there was one.
    @discardableResult
    public static func remove(_ path: SystemString) throws(OSError) -> Bool {
        if path.withCString({ unlink($0) }) == 0 { return true }
        if errno == ENOENT { return false }
        throw OSError.last("unlink", path)
    }

    /// The directory part of a path; "." when there is none.
    public static func parent(of path: SystemString) -> SystemString {
        let bytes = path.utf8
        guard let slash = bytes.lastIndex(of: 0x2f) else { return "." }
        return slash == bytes.startIndex ? "/" : SystemString(decoding: bytes[..<slash], as: UTF8.self)
    }

    static func size(_ fd: Int32) throws(OSError) -> Int { try stat(descriptor: fd).size }

    /// Grows a file to `size` with every block from `start` on allocated: looking at those before takes time, too.
    /// posix_fallocate(3) returns its error instead of setting errno.
    static func reserve(_ fd: Int32, from start: Int = 0, size: Int, path: SystemString) throws(OSError) {
        guard size > start else { return }
        while true {
            let code = posix_fallocate(fd, start, size - start)
            if code == 0 { return }
            if code != EINTR { throw OSError(code: code, call: "posix_fallocate", subject: "\(path) (\(size) bytes)") }
        }
    }

}

extension FileStatus {
    init(_ raw: Glibc.stat) {
        kind =
            switch raw.st_mode & S_IFMT {
            case S_IFDIR: .directory
            case S_IFLNK: .link
            case S_IFSOCK: .socket
            case S_IFIFO: .pipe
            case S_IFCHR, S_IFBLK: .device
            default: .file
            }
        size = Int(raw.st_size)
        allocated = Int(raw.st_blocks) * 512
        mode = UInt32(raw.st_mode) & 0o7777
        userID = raw.st_uid
        groupID = raw.st_gid
        links = Int(raw.st_nlink)
        device = UInt64(raw.st_dev)
        inode = UInt64(raw.st_ino)
        modified = Int64(raw.st_mtim.tv_sec) * 1_000_000_000 + Int64(raw.st_mtim.tv_nsec)
    }
}
