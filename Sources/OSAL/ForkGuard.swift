internal import COSAL
internal import Glibc

/// Tells a process from its forked children without a system call: a page that the kernel gives children empty.
/// Source: madvise(2), MADV_WIPEONFORK, Linux 4.14.
public struct ForkGuard: @unchecked Sendable {
    private let page: UnsafeMutablePointer<UInt32>?
    /// Where there is no such page.
    private let process: pid_t

    /// Stands for the calling process. Never given back: whoever uses it lives as long as the process.
    public init() {
        let wipeOnFork: Int32 = 18
        let size = Mapping.pageBytes
        process = getpid()
        let memory = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory, memory != UnsafeMutableRawPointer(bitPattern: -1) else {
            page = nil
            return
        }
        guard madvise(memory, size, wipeOnFork) == 0 else {
            munmap(memory, size)
            page = nil
            return
        }
        page = memory.bindMemory(to: UInt32.self, capacity: 1)
        page?.pointee = 1
    }

    /// False in a child of the process that made it.
    @inline(__always)
    public var isParent: Bool {
        if let page { return page.pointee == 1 }
        return getpid() == process
    }
}

/// Memory of malloc(3), for C programs that free() it.
public enum ForeignMemory {
    /// Nil when there is none left. At least one byte, so that it has an address.
    public static func allocate(_ count: Int) -> UnsafeMutableRawPointer? { malloc(max(count, 1)) }

    public static func free(_ memory: UnsafeMutableRawPointer?) { Glibc.free(memory) }

    /// Whether so many bytes could be had just now. Swift's own memory ends the process when there is none, so what may
    /// be large is asked for first; another thread may still come between.
    @inline(never)
    public static func canAllocate(_ count: Int) -> Bool {
        count < 128 << 10 || cosal_can_allocate(count)  // less is needed anyway, here and there
    }

    /// A copy; nil when there is no memory left.
    public static func copy(_ bytes: UnsafeRawBufferPointer) -> UnsafeMutableRawPointer? {
        guard let memory = allocate(bytes.count) else { return nil }
        if let source = bytes.baseAddress, bytes.count > 0 { memory.copyMemory(from: source, byteCount: bytes.count) }
        return memory
    }
}
