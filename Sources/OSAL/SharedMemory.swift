public import Synchronization

internal import COSAL
internal import Glibc

/// A mapped piece of memory, unmapped when its last owner goes.
///
/// Other processes may change it at any time: what is read from it is input, and must be checked.
public final class Mapping: @unchecked Sendable {
    public let base: UnsafeMutableRawPointer
    public let count: Int
    private let reserved: Int

    private init(base: UnsafeMutableRawPointer, count: Int, reserved: Int) {
        self.base = base
        self.count = count
        self.reserved = reserved
    }

    deinit { munmap(base, reserved) }

    /// Maps `count` bytes of a file or memory descriptor, shared. `offset` is a multiple of the page size.
    ///
    /// The caller has checked that the file is that long and cannot shrink; otherwise a later access dies of SIGBUS.
    public static func map(_ fd: Int32, count: Int, offset: Int = 0, writable: Bool) throws(OSError) -> Mapping {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        let base = try mapped { mmap(nil, count, protection, MAP_SHARED, fd, offset) }
        return Mapping(base: base, count: count, reserved: count)
    }

    /// Maps a header followed by `dataBytes` twice, back to back, so that a ring's record never wraps:
    /// byte `i` of the data is also byte `i + dataBytes`. Both sizes are multiples of the page size.
    ///
    /// The file holds header and data once: `headerBytes + dataBytes`.
    public static func mirrored(
        _ fd: Int32, headerBytes: Int, dataBytes: Int, writable: Bool
    ) throws(OSError) -> Mapping {
        let protection = writable ? PROT_READ | PROT_WRITE : PROT_READ
        let (single, overflow) = headerBytes.addingReportingOverflow(dataBytes)
        guard !overflow, headerBytes >= 0, dataBytes > 0, single <= Int.max / 2 else {
            throw OSError(code: EINVAL, call: "mmap", subject: "header \(headerBytes), data \(dataBytes) bytes")
        }
        let total = single + dataBytes
        // Reserve the whole range first, so that nothing else can land between the parts.
        let base = try mapped { mmap(nil, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) }
        let mapping = Mapping(base: base, count: total, reserved: total)
        _ = try mapped { mmap(base, single, protection, MAP_SHARED | MAP_FIXED, fd, 0) }
        _ = try mapped { mmap(base + single, dataBytes, protection, MAP_SHARED | MAP_FIXED, fd, headerBytes) }
        return mapping
    }

    private static func mapped(_ body: () -> UnsafeMutableRawPointer?) throws(OSError) -> UnsafeMutableRawPointer {
        guard let base = body(), base != UnsafeMutableRawPointer(bitPattern: -1) else { throw OSError.last("mmap") }
        return base
    }

    /// The bytes; valid while the mapping lives.
    public var bytes: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: base, count: count) }

    /// The size of a memory page here.
    public static let pageBytes = sysconf(Int32(_SC_PAGESIZE))
}

extension UnsafeMutableRawPointer {
    /// An atomic that lives `offset` bytes from here in (shared) memory; aligned to its size.
    @inlinable
    public func atomic<Value: AtomicRepresentable>(
        _ type: Value.Type = Value.self, at offset: Int = 0
    ) -> UnsafeMutablePointer<Atomic<Value>> {
        (self + offset).bindMemory(to: Atomic<Value>.self, capacity: 1)
    }
}

/// What can no longer be done to an anonymous memory. Source: memfd_create(2), F_ADD_SEALS.
public enum Seal: Sendable {
    case none
    /// It can neither shrink nor grow: a receiver may map it without fear of SIGBUS.
    case size
    /// Neither size nor content can change, by anybody; needs every writable mapping gone.
    case content
}

/// Memory without a name, to be handed to another process by its descriptor.
public enum AnonymousMemory {
    /// `size` bytes of zeroes. `name` is for /proc only.
    public static func create(name: SystemString, size: Int, seal: Seal = .size) throws(OSError) -> Descriptor {
        let memory = Descriptor(owning: try retrying("memfd_create", name) { name.withCString { cosal_memory($0) } })
        try retrying("ftruncate", name) { ftruncate(memory.raw, size) }
        try AnonymousMemory.seal(memory.raw, seal)
        return memory
    }

    /// A memory with this content that nobody can change any more: for large payloads.
    public static func create(name: SystemString, content: UnsafeRawBufferPointer) throws(OSError) -> Descriptor {
        let memory = try create(name: name, size: 0, seal: .none)
        try IO.writeAll(memory.raw, content)
        try seal(memory.raw, .content)
        return memory
    }

    public static func create(name: SystemString, content: [UInt8]) throws(OSError) -> Descriptor {
        let memory = try create(name: name, size: 0, seal: .none)
        try content.withUnsafeBufferPointer { (buffer) throws(OSError) in
            try IO.writeAll(memory.raw, UnsafeRawBufferPointer(buffer))
        }
        try seal(memory.raw, .content)
        return memory
    }

    /// Has memory for the bytes from `start` to `end`, within its size: without any that is ENOMEM or ENOSPC here,
    /// SIGBUS when they are touched.
    public static func reserve(_ fd: Int32, from start: Int, to end: Int) throws(OSError) {
        try File.reserve(fd, from: start, size: end, path: "anonymous memory")
    }

    public static func seal(_ fd: Int32, _ seal: Seal) throws(OSError) {
        if seal == .none { return }
        try retrying("fcntl(F_ADD_SEALS)") { cosal_add_seals(fd, true, seal == .content) }
    }

    /// The size of a memory that a peer sent, once it is certain that it is sealed at least as `seal`; EPERM otherwise.
    public static func sealedSize(_ fd: Int32, atLeast seal: Seal = .size) throws(OSError) -> Int {
        let isSealed = try retrying("fcntl(F_GET_SEALS)") { cosal_has_seals(fd, seal != .none, seal == .content) }
        guard isSealed == 1 else {
            throw OSError(code: EPERM, call: "fcntl(F_GET_SEALS)", subject: "memory is not sealed")
        }
        return try File.size(fd)
    }
}

/// Anonymous memory of `size` bytes; see ``AnonymousMemory/create(name:size:seal:)``.
public func anonymousMemory(name: SystemString, size: Int, seal: Seal = .size) throws(OSError) -> Descriptor {
    try AnonymousMemory.create(name: name, size: size, seal: seal)
}
