import OSAL
import SAFTypes

/// A pipe for a child's stdout or stderr that can neither block nor kill the child, whatever becomes of its readers.
///
/// The child's end is open for reading *and* writing, non-blocking: while the child has it, the pipe has a reader, so
/// there is no SIGPIPE, and a full pipe (logd stopped, dead for long, or slower than the child) makes write(2) fail
/// with EAGAIN instead of waiting. Source: fifo(7), pipe(7).
final class OutputPipe {
    /// The end to read from; handed to logd, and kept here for the next logd.
    let readEnd: Descriptor
    /// By which the pipe is recognised behind /proc/PID/fd.
    let inode: UInt64

    private init(readEnd: consuming Descriptor, inode: UInt64) {
        self.readEnd = readEnd
        self.inode = inode
    }

    /// What a pipe holds, if the kernel allows it (pipe-user-pages-soft): what is printed while logd is restarted.
    static let capacity = 256 << 10

    /// A new pipe, and the end for the child.
    static func make() throws(OSError) -> (pipe: OutputPipe, childEnd: SharedDescriptor) {
        let pipe = try makePipe(nonBlocking: true)
        _ = try? pipe.first.setPipeCapacity(capacity)  // a smaller one works as well
        let childEnd = try File.open("/proc/self/fd/\(pipe.second.raw)", writable: true)
        try childEnd.setNonBlocking()
        let inode = try File.stat(descriptor: pipe.first.raw).inode
        return (OutputPipe(readEnd: try pipe.first.duplicate(), inode: inode), SharedDescriptor(childEnd))
    }

    /// The pipe behind descriptor `number` of a process that an earlier amfd started; nil when it is not that pipe.
    static func reopen(pid: Int32, number: Int32, inode: UInt64) -> OutputPipe? {
        guard inode != 0 else { return nil }
        // A process that closed or redirected its output, or has just died, has nothing to be captured.
        let path = "/proc/\(pid)/fd/\(number)"
        do throws(OSError) {
            let status = try File.stat(path)
            guard status.kind == .pipe, status.inode == inode else { return nil }
            let readEnd = try File.open(path)
            try readEnd.setNonBlocking()
            return OutputPipe(readEnd: readEnd, inode: inode)
        } catch {
            return nil
        }
    }
}

/// Both outputs of one child.
struct ChildOutput {
    var output: OutputPipe?
    var error: OutputPipe?
}
