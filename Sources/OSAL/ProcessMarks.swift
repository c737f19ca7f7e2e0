internal import COSAL
internal import Glibc

/// Numbers that processes have marked in a file. The kernel tells who did, and takes the marks of a process back when
/// it ends, if it has not done so itself; so something can be said to a daemon that is not there, and nobody has to
/// clean up.
///
/// A mark is a shared lock on one byte: nobody can keep another from setting his own. A process loses all of its marks
/// in a file when it closes any descriptor of that file, so ours stays open for good; a child does not inherit them.
/// Thread-safe. Source: fcntl(2), F_SETLK.
public final class ProcessMarks: Sendable {
    /// Numbers are below this.
    public static let numberMax: UInt64 = 1 << 63

    private let path: SystemString
    private let descriptor: Descriptor
    private let inode: UInt64

    private static let all = Lock<[ProcessMarks]>([])

    /// Opens the marks of a daemon that makes the file with ``create(_:)``.
    private init(_ path: SystemString) throws(OSError) {
        self.path = path
        descriptor = try File.open(path)
        inode = try File.stat(descriptor: descriptor.raw).inode
    }

    /// For the one who asks: a file that everybody may mark.
    public static func create(_ path: SystemString) throws(OSError) -> ProcessMarks {
        let flags = O_RDONLY | O_CREAT | O_CLOEXEC
        let descriptor = Descriptor(
            owning: try retrying("open", path) { path.withCString { cosal_open($0, flags, 0o644) } })
        try retrying("fchmod", path) { fchmod(descriptor.raw, 0o644) }
        return try ProcessMarks(path)
    }

    /// Marks a number for as long as this process lives; false when that is not possible.
    public static func mark(_ number: UInt64, in path: SystemString) -> Bool {
        all.withLock { all in
            // A file of this name that was made anew is another one; without a file there is nobody who will ask.
            guard let inode = try? File.stat(path).inode else { return false }
            if let marks = all.first(where: { $0.inode == inode && $0.path == path }) {
                return marks.mark(number)
            }
            guard let marks = try? ProcessMarks(path) else { return false }
            all.append(marks)
            return marks.mark(number)
        }
    }

    /// Takes a mark of this process back.
    public static func unmark(_ number: UInt64, in path: SystemString) {
        all.withLock { all in
            // It may be in a file of this name that has been replaced.
            for marks in all where marks.path == path { _ = cosal_unlock_byte(marks.descriptor.raw, number) }
        }
    }

    private func mark(_ number: UInt64) -> Bool { cosal_lock_byte(descriptor.raw, number) == 0 }

    /// A process other than this one that has marked the number.
    public func process(marking number: UInt64) -> Int32? {
        let process = cosal_byte_locker(descriptor.raw, number)
        return process > 0 ? process : nil
    }
}
