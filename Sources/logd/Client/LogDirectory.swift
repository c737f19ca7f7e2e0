import LogProtocol
import OSAL
import Synchronization

/// `$SAF_SHM_DIR/log`: the rings, the doorbell and the filter page. Whoever comes first makes what is missing.
///
/// As root the directory is shared by all users (sticky, like /tmp) and each ring belongs to its writer; otherwise
/// everything belongs to the one user.
public struct LogDirectory: Sendable {
    public let path: String

    public init(places: Places) { path = places.shmDirectory + "/log" }

    private var isShared: Bool { Environment.userID == 0 }

    public func make() throws(OSError) {
        try File.makeSharedDirectory(path)
    }

    /// The doorbell page, writable.
    public func openDoorbell() throws(OSError) -> SharedFile {
        try openOrCreate(DoorbellLayout.fileName, bytes: DoorbellLayout.bytes, mode: isShared ? 0o666 : 0o600) { _ in }
    }

    /// The filter page; writable for logd only.
    public func openFilter(writable: Bool) throws(OSError) -> SharedFile {
        try openOrCreate(
            FilterLayout.fileName, bytes: FilterLayout.bytes, mode: isShared ? 0o644 : 0o600, writable: writable
        ) { mapping in
            mapping.base.storeBytes(of: FilterLayout.magic, toByteOffset: FilterLayout.magicOffset, as: UInt64.self)
        }
    }

    private func openOrCreate(
        _ name: String, bytes: Int, mode: UInt32, writable: Bool = true, prepare: (Mapping) -> Void
    ) throws(OSError) -> SharedFile {
        let full = path + "/" + name
        if let file = try? SharedFile.open(full, writable: writable) {
            if file.mapping.count == bytes { return file }
            try File.remove(full)  // not one of ours: nobody else gives it another size
        }
        do {
            return try SharedFile.create(full, size: bytes, mode: mode, exclusive: true, prepare: prepare)
        } catch {
            return try SharedFile.open(full, writable: writable)  // somebody else was quicker
        }
    }
}

/// The writers' side of the doorbell page.
public struct WriterBell: Sendable {
    private let page: SharedFile

    public init(page: SharedFile) { self.page = page }

    private var state: UnsafeMutablePointer<Atomic<UInt32>> { page.mapping.base.atomic(at: DoorbellLayout.stateOffset) }

    /// Says that there is a new ring to be found.
    public func announceRing() {
        let rings: UnsafeMutablePointer<Atomic<UInt32>> = page.mapping.base.atomic(at: DoorbellLayout.ringsOffset)
        rings.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
    }

    /// Wakes logd if it sleeps (or lingers, when the ring fills up); one system call then, none otherwise.
    @inline(__always)
    public func ring(isUrgent: Bool) {
        let now = state.pointee.load(ordering: .sequentiallyConsistent)
        if now == Bell.asleep || (isUrgent && now == Bell.lingering) { wake(from: now) }
    }

    private func wake(from seen: UInt32) {
        // Only the writer whose exchange succeeds makes the call.
        let (exchanged, _) = state.pointee.compareExchange(
            expected: seen, desired: Bell.awake, ordering: .sequentiallyConsistent)
        if exchanged { Futex.wake(UnsafePointer(OpaquePointer(state)), count: 1) }
    }
}
