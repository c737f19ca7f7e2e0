internal import COSAL
internal import Glibc

/// Memory of a file that somebody else may cut off: what is touched and is no longer there reads as zeroes, instead of
/// ending this process by SIGBUS. For daemons: the first one sets the process's handler of that signal, which passes on
/// what is not of such memory. Threads that block all signals are not helped.
///
/// Source: sigaction(2), SIGBUS with BUS_ADRERR.
public final class FaultShield: Sendable {
    public let mapping: Mapping
    private let slot: Int32

    /// - Throws: EMFILE: there are too many.
    public init(_ mapping: Mapping) throws(OSError) {
        slot = cosal_shield(mapping.base, mapping.count)
        guard slot >= 0 else {
            throw OSError(code: EMFILE, call: "shield", subject: "mapped memory")
        }
        self.mapping = mapping
    }

    deinit { cosal_unshield(slot) }

    /// Something was touched that was not there. For good: that page is no longer the file's.
    public var hasFaulted: Bool { cosal_has_faulted(slot) != 0 }
}

extension File {
    /// Whether the kernel can open a file as ``openWithoutCutting(_:)`` does. Source: landlock(7), ABI 3, Linux 6.2.
    public static var canForbidCutting: Bool { cosal_can_forbid_cutting() != 0 }

    /// Opens an existing file for reading and writing; nobody can make it shorter by this descriptor, wherever it is
    /// passed to. Who may open the file itself still can.
    public static func openWithoutCutting(_ path: SystemString) throws(OSError) -> Descriptor {
        Descriptor(owning: try retrying("open", path) { path.withCString { cosal_open_without_cutting($0) } })
    }

    /// Cuts the file to `size` bytes, or makes it longer by zero bytes.
    public static func truncate(descriptor: Int32, to size: Int) throws(OSError) {
        try retrying("ftruncate") { ftruncate(descriptor, size) }
    }
}
