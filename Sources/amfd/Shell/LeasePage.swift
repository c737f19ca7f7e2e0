import EngineKit
import OSAL
import Synchronization

/// The lease of this node in a RAM file, written by amfd and read by its guard: until when the active components may
/// run, and which they are. Survives amfd, not the machine.
///
/// Layout, little-endian: magic u64 · end u64 · settled u64 · stopped by the guard u64 · zeros to 64 · entries. An
/// entry: start time u64 · pid i32 · active u32. Times are CLOCK_BOOTTIME in nanoseconds; `settled` is the end that
/// amfd has acted upon.
final class LeasePage {
    static let magic: UInt64 = 0x3153_4145_4C46_4153  // "SAFLEAS1"
    static let headerSize = 64
    static let entrySize = 16
    static let entriesMax = ChildrenTable.slotsMax
    static let fileSize = headerSize + entriesMax * entrySize

    private let file: SharedFile
    private let memory: UnsafeMutableRawBufferPointer

    /// Opens the page, or makes an empty one in the place of none or of another version.
    static func openOrMake(_ path: String) throws(OSError) -> LeasePage {
        if let page = open(path, writable: true) { return page }
        return LeasePage(
            try SharedFile.create(path, size: fileSize, mode: 0o600) { mapping in
                mapping.bytes.storeBytes(of: magic.littleEndian, as: UInt64.self)
            })
    }

    /// Nil when there is none that can be read.
    static func open(_ path: String, writable: Bool) -> LeasePage? {
        guard let file = try? SharedFile.open(path, writable: writable), file.mapping.count == fileSize,
            UInt64(littleEndian: file.mapping.bytes.load(as: UInt64.self)) == magic
        else { return nil }
        return LeasePage(file)
    }

    private init(_ file: SharedFile) {
        self.file = file
        memory = file.mapping.bytes
    }

    /// Zero: there never was a lease.
    var end: Instant {
        get { Instant(nanoseconds: word(8).pointee.load(ordering: .acquiring).littleEndian) }
        set { word(8).pointee.store(newValue.nanoseconds.littleEndian, ordering: .releasing) }
    }

    /// amfd has stopped what was active when the lease ended then.
    var settled: Instant {
        get { Instant(nanoseconds: word(16).pointee.load(ordering: .acquiring).littleEndian) }
        set { word(16).pointee.store(newValue.nanoseconds.littleEndian, ordering: .releasing) }
    }

    /// The guard has stopped what is active, maybe in the very moment in which amfd renewed the lease.
    var isStoppedByGuard: Bool {
        get { word(24).pointee.load(ordering: .acquiring) != 0 }
        set { word(24).pointee.store(newValue ? 1 : 0, ordering: .releasing) }
    }

    /// Process groups that may be active, by their leaders.
    var active: [ProcessIdentity] {
        (0..<Self.entriesMax).compactMap { index in
            isActive(index) ? identity(index) : nil
        }
    }

    /// False when the page is full.
    @discardableResult
    func mark(_ process: ProcessIdentity) -> Bool {
        var free: Int?
        for index in 0..<Self.entriesMax {
            guard isActive(index) else {
                free = free ?? index
                continue
            }
            if identity(index) == process { return true }
        }
        // Those that have ended were not unmarked by an amfd that had died before.
        guard let index = free ?? (0..<Self.entriesMax).first(where: { !identity($0).isAlive }) else { return false }
        let start = Self.headerSize + index * Self.entrySize
        flag(index).pointee.store(0, ordering: .releasing)
        memory.storeBytes(of: process.startTime.littleEndian, toByteOffset: start, as: UInt64.self)
        memory.storeBytes(of: process.pid.littleEndian, toByteOffset: start + 8, as: Int32.self)
        flag(index).pointee.store(UInt32(1).littleEndian, ordering: .releasing)
        return true
    }

    func unmark(_ process: ProcessIdentity) {
        for index in 0..<Self.entriesMax where isActive(index) && identity(index) == process {
            flag(index).pointee.store(0, ordering: .releasing)
        }
    }

    /// Sends a signal to every group that may be active; how many there were.
    @discardableResult
    func signal(_ number: SignalNumber) -> Int {
        var count = 0
        for process in active where Process.startTime(of: process.pid) == process.startTime {
            if (try? Process.killGroup(process.pid, number)) == true { count += 1 }  // gone in between is as good
        }
        return count
    }

    private func identity(_ index: Int) -> ProcessIdentity {
        let start = Self.headerSize + index * Self.entrySize
        return ProcessIdentity(
            pid: Int32(littleEndian: memory.load(fromByteOffset: start + 8, as: Int32.self)),
            startTime: UInt64(littleEndian: memory.load(fromByteOffset: start, as: UInt64.self)))
    }

    private func isActive(_ index: Int) -> Bool { flag(index).pointee.load(ordering: .acquiring) != 0 }

    private func flag(_ index: Int) -> UnsafeMutablePointer<Atomic<UInt32>> {
        let start = Self.headerSize + index * Self.entrySize + 12
        return (memory.baseAddress! + start).bindMemory(to: Atomic<UInt32>.self, capacity: 1)  // a page is never empty
    }

    private func word(_ offset: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        (memory.baseAddress! + offset).bindMemory(to: Atomic<UInt64>.self, capacity: 1)  // a page is never empty
    }
}
