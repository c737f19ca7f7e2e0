internal import COSAL
internal import Glibc

/// A file in memory (tmpfs), mapped by several processes.
public final class SharedFile: Sendable {
    public let path: String
    public let mapping: Mapping
    private let descriptor: Descriptor
    public var raw: Int32 { descriptor.raw }

    private init(path: String, mapping: Mapping, descriptor: consuming Descriptor) {
        self.path = path
        self.mapping = mapping
        self.descriptor = descriptor
    }

    /// Creates a file of `size` zero bytes with all its memory reserved; a full file system is an error here, not
    /// SIGBUS later.
    ///
    /// The file appears under its name complete: it is made beside it and renamed (`exclusive`: linked, EEXIST if there
    /// is one; else it replaces one).
    /// - Throws: ENOSPC when the file system is full, EEXIST.
    public static func create(
        _ path: String, size: Int, mode: UInt32, exclusive: Bool = false,
        prepare: (Mapping) -> Void = { _ in }
    ) throws(OSError) -> SharedFile {
        let temporary = File.temporaryName(beside: path)
        let flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC
        let descriptor = Descriptor(
            owning: try retrying("open", temporary) { cosal_open(temporary, flags, mode_t(mode)) })
        do throws(OSError) {
            try retrying("fchmod", temporary) { fchmod(descriptor.raw, mode_t(mode)) }
            try File.reserve(descriptor.raw, size: size, path: path)
            let mapping = try Mapping.map(descriptor.raw, count: size, writable: true)
            prepare(mapping)
            if exclusive {
                try retrying("link", path) { link(temporary, path) }
                _ = unlink(temporary)
            } else {
                try retrying("rename", path) { rename(temporary, path) }
            }
            return SharedFile(path: path, mapping: mapping, descriptor: descriptor)
        } catch {
            _ = unlink(temporary)
            throw error
        }
    }

    /// Maps an existing file as a whole. An empty file is EINVAL: it cannot be mapped and nobody of ours makes one.
    public static func open(_ path: String, writable: Bool) throws(OSError) -> SharedFile {
        let flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOFOLLOW
        let descriptor = Descriptor(owning: try retrying("open", path) { cosal_open(path, flags, 0) })
        let size = try File.size(descriptor.raw)
        guard size > 0 else { throw OSError(code: EINVAL, call: "mmap", subject: "\(path) (the file is empty)") }
        let mapping = try Mapping.map(descriptor.raw, count: size, writable: writable)
        return SharedFile(path: path, mapping: mapping, descriptor: descriptor)
    }

    /// Makes the file `size` bytes long with all its memory reserved and maps it anew; earlier mappings stay valid.
    ///
    /// - Throws: ENOSPC when the file system is full; the file is then as long as before.
    public func grow(to size: Int) throws(OSError) -> Mapping {
        try File.reserve(raw, from: try File.size(raw), size: size, path: path)
        return try Mapping.map(raw, count: size, writable: true)
    }

    /// Cuts the file to `size` bytes. Nobody may touch what a mapping still shows of the rest: that would be SIGBUS.
    public func truncate(to size: Int) throws(OSError) { try File.truncate(descriptor: raw, to: size) }
}
