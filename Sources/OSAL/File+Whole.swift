internal import COSAL
internal import Glibc

// Files as a whole, directories, and what daemons need besides; not in the C libraries.

extension File {
    /// The whole content. `limit` bounds what is read: EFBIG beyond it.
    public static func readAll(_ path: String, limit: Int = 256 << 20) throws(OSError) -> [UInt8] {
        let descriptor = try open(path)
        var content: [UInt8] = []
        let expected = min(try size(descriptor.raw), limit)
        content.reserveCapacity(expected + 1)
        var chunk = [UInt8](repeating: 0, count: max(4096, min(expected + 1, 1 << 20)))
        while true {
            let count = try retrying("read", path) {
                chunk.withUnsafeMutableBytes { read(descriptor.raw, $0.baseAddress, $0.count) }
            }
            if count == 0 { return content }
            content.append(contentsOf: chunk[0..<count])
            if content.count > limit {
                throw OSError(code: EFBIG, call: "read", subject: "\(path) (limit \(limit) bytes)")
            }
        }
    }

    /// The whole content as text; invalid UTF-8 is repaired.
    public static func readText(_ path: String, limit: Int = 256 << 20) throws(OSError) -> String {
        String(decoding: try readAll(path, limit: limit), as: UTF8.self)
    }

    /// Replaces a file so that a reader, or a crash at any moment, sees the old content or the new, never a mixture.
    ///
    /// - Parameter durable: when this returns, the new content survives a power failure (fsync of file and directory).
    public static func writeAtomically(
        _ path: String, _ bytes: some Sequence<UInt8>, durable: Bool, mode: UInt32 = 0o644
    ) throws(OSError) {
        let temporary = temporaryName(beside: path)
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC
        let descriptor = Descriptor(
            owning: try retrying("open", temporary) { cosal_open(temporary, flags, mode_t(mode)) })
        do throws(OSError) {
            try retrying("fchmod", path) { fchmod(descriptor.raw, mode_t(mode)) }
            let content = ContiguousArray(bytes)
            try content.withUnsafeBufferPointer { (buffer) throws(OSError) in
                try IO.writeAll(descriptor.raw, UnsafeRawBufferPointer(buffer))
            }
            if durable { try IO.synchronize(descriptor.raw) }
            try retrying("rename", path) { Glibc.rename(temporary, path) }
        } catch {
            _ = unlink(temporary)
            throw OSError(code: error.code, call: error.call, subject: path)
        }
        if durable { try synchronizeDirectory(parent(of: path)) }
    }

    public static func writeAtomically(_ path: String, text: String, durable: Bool, mode: UInt32 = 0o644)
        throws(OSError)
    {
        try writeAtomically(path, text.utf8, durable: durable, mode: mode)
    }

    /// Opens a file for writing at its end, creating it with `mode` when there is none.
    public static func openForAppending(_ path: String, mode: UInt32 = 0o644) throws(OSError) -> Descriptor {
        let flags = O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC
        return Descriptor(owning: try retrying("open", path) { cosal_open(path, flags, mode_t(mode)) })
    }

    /// Makes a directory and its parents; one that is there already is left as it is.
    public static func makeDirectories(_ path: String, mode: UInt32 = 0o755) throws(OSError) {
        if mkdir(path, mode_t(mode)) == 0 { return }
        switch errno {
        case EEXIST:
            if try stat(path).kind != .directory { throw OSError(code: ENOTDIR, call: "mkdir", subject: path) }
        case ENOENT where parent(of: path) != path:
            try makeDirectories(parent(of: path), mode: mode)
            if mkdir(path, mode_t(mode)) != 0 && errno != EEXIST { throw OSError.last("mkdir", path) }
        default: throw OSError.last("mkdir", path)
        }
    }

    /// Makes a directory where processes of several users keep files: as root every user may make one and remove only
    /// his own (sticky, like /tmp); otherwise it is this user's alone. One that is there is left as it is.
    public static func makeSharedDirectory(_ path: String) throws(OSError) {
        if exists(path) { return }
        let isShared = Environment.userID == 0
        try makeDirectories(path, mode: isShared ? 0o755 : 0o700)
        if isShared { try setMode(path, 0o1777) }
    }

    /// The names in a directory, sorted, without "." and "..".
    public static func list(_ path: String) throws(OSError) -> [String] {
        guard let directory = opendir(path) else { throw OSError.last("opendir", path) }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) {
                String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
            }
            if name != "." && name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    /// Removes a directory with everything in it; links are removed, not followed.
    public static func removeTree(_ path: String) throws(OSError) {
        let status: FileStatus
        do { status = try stat(path, followLinks: false) } catch  where error.isNotFound { return }
        guard status.kind == .directory else {
            try remove(path)
            return
        }
        for name in try list(path) { try removeTree(path + "/" + name) }
        try retrying("rmdir", path) { rmdir(path) }
    }

    public static func rename(_ path: String, to target: String) throws(OSError) {
        try retrying("rename", "\(path) to \(target)") { Glibc.rename(path, target) }
    }

    public static func isExecutable(_ path: String) -> Bool { access(path, X_OK) == 0 }

    /// Bytes still free for this process in the file system that holds `path`. Source: statvfs(3).
    public static func freeBytes(_ path: String) throws(OSError) -> Int {
        var status = statvfs()
        try retrying("statvfs", path) { statvfs(path, &status) }
        return Int(
            clamping: UInt64(status.f_bavail).multipliedReportingOverflow(by: UInt64(status.f_frsize)).partialValue)
    }

    /// A new empty directory for a test or a scratch file: `prefix` and six random characters. Source: mkdtemp(3).
    public static func makeTemporaryDirectory(_ prefix: String) throws(OSError) -> String {
        var template = Array((prefix + "XXXXXX").utf8CString)
        return try template.withUnsafeMutableBufferPointer { (buffer) throws(OSError) -> String in
            guard let base = buffer.baseAddress, mkdtemp(base) != nil else { throw OSError.last("mkdtemp", prefix) }
            return String(cString: base)
        }
    }

    /// Takes the lock of a file, creating it when needed: held while the descriptor (or a copy of it) is open; nil when
    /// another process has it. It goes with its owner, however that dies. Source: flock(2).
    public static func fileLock(_ path: String, mode: UInt32 = 0o600) throws(OSError) -> Descriptor? {
        let flags = O_RDWR | O_CREAT | O_CLOEXEC
        let descriptor = Descriptor(owning: try retrying("open", path) { cosal_open(path, flags, mode_t(mode)) })
        while flock(descriptor.raw, LOCK_EX | LOCK_NB) != 0 {
            if errno == EWOULDBLOCK { return nil }
            if errno != EINTR { throw OSError.last("flock", path) }
        }
        return descriptor
    }

    /// Whether some process holds a ``fileLock(_:mode:)``; false without the file, nil when this user may not look.
    public static func isLocked(_ path: String) -> Bool? {
        let descriptor: Descriptor
        do throws(OSError) {
            descriptor = try File.open(path)
        } catch {
            return error.isNotFound ? false : nil
        }
        // Shared, and for a moment only: who wants the lock itself tries again.
        return flock(descriptor.raw, LOCK_SH | LOCK_NB) != 0 && errno == EWOULDBLOCK
    }

    /// A name in the same directory that nobody else uses now; a left-over of a dead process with our pid is removed.
    static func temporaryName(beside path: String) -> String {
        let name = "\(path).\(getpid()).\(cosal_gettid())~"
        _ = unlink(name)
        return name
    }

    /// Gives back what ``fileLock(_:mode:)`` took, also while a child that is being started has a copy of the
    /// descriptor.
    public static func releaseLock(_ fd: Int32) { _ = flock(fd, LOCK_UN) }

    /// The names in a directory are on stable storage when this returns. Source: fsync(2).
    public static func synchronizeDirectory(_ path: String) throws(OSError) {
        let flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC
        let descriptor = Descriptor(owning: try retrying("open", path) { cosal_open(path, flags, 0) })
        try retrying("fsync", path) { fsync(descriptor.raw) }
    }
}

extension File {
    /// Sets the permission bits, umask or not. Source: chmod(2).
    public static func setMode(_ path: String, _ mode: UInt32) throws(OSError) {
        try retrying("chmod", path) { chmod(path, mode_t(mode)) }
    }
}

extension File {
    /// Makes `path` a symbolic link to `target`, replacing what has that name in one step. Source: symlink(2).
    public static func replaceLink(_ path: String, to target: String) throws(OSError) {
        let temporary = temporaryName(beside: path)
        try retrying("symlink", path) { symlink(target, temporary) }
        do throws(OSError) {
            try rename(temporary, to: path)
        } catch {
            _ = unlink(temporary)
            throw error
        }
    }

    /// Cuts a file to `size` bytes. Source: truncate(2).
    public static func truncate(_ path: String, to size: Int) throws(OSError) {
        try retrying("truncate", path) { Glibc.truncate(path, size) }
    }
}

extension File {
    /// Removes a directory that has no files. Source: rmdir(2).
    public static func removeEmptyDirectory(_ path: String) throws(OSError) {
        try retrying("rmdir", path) { rmdir(path) }
    }
}
