internal import COSAL
internal import Glibc

/// Tells when something appears in a directory: made there, or moved there under its name. Source: inotify(7).
///
/// Watched before it is looked for, so that nothing appears unseen in between. A user has a limited number of these
/// (fs.inotify.max_user_instances, 128 by default): share them, and do without when there is none.
public struct DirectoryWatch: ~Copyable, Sendable {
    private let descriptor: Descriptor
    /// Readable when something has appeared, or the directory has gone.
    public var raw: Int32 { descriptor.raw }

    /// - Throws: ENOENT no such directory; EMFILE, ENOSPC out of watches.
    /// - Parameter alsoWritten: tells also when a file in it was written, or has gone.
    public init(_ directory: SystemString, alsoWritten: Bool = false) throws(OSError) {
        let flags = Int32(IN_NONBLOCK) | Int32(IN_CLOEXEC)
        let made = Descriptor(owning: try retrying("inotify_init1") { inotify_init1(flags) })
        var events = UInt32(IN_CREATE | IN_MOVED_TO | IN_DELETE_SELF | IN_MOVE_SELF | IN_ONLYDIR)
        if alsoWritten { events |= UInt32(IN_CLOSE_WRITE | IN_DELETE | IN_MOVED_FROM) }
        try retrying("inotify_add_watch", directory) {
            directory.withCString { inotify_add_watch(made.raw, $0, events) }
        }
        descriptor = made
    }

    /// Takes what has happened so far; false when the directory is not watched any more, because it has gone.
    public func drain() -> Bool {
        var isWatched = true
        withUnsafeTemporaryAllocation(byteCount: 4_096, alignment: MemoryLayout<inotify_event>.alignment) { buffer in
            while true {
                let count = read(descriptor.raw, buffer.baseAddress, buffer.count)
                if count < 0 && errno == EINTR { continue }
                guard count > 0 else { return }
                var offset = 0
                while offset + MemoryLayout<inotify_event>.size <= count {
                    let event = buffer.loadUnaligned(fromByteOffset: offset, as: inotify_event.self)
                    let ends = UInt32(IN_IGNORED | IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT)
                    if event.mask & ends != 0 { isWatched = false }
                    offset += MemoryLayout<inotify_event>.size + Int(event.len)
                }
            }
        }
        return isWatched
    }
}
