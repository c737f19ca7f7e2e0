import EngineKit
internal import Synchronization

internal import COSAL
internal import Glibc

/// A counting semaphore between processes that gives back exactly the permits of those that die.
///
/// A file in shared memory with one word per permit: zero, or pid and start time of the process that has it. Taking is
/// one compare-and-swap and giving back is another, so ownership and count cannot disagree whenever a process is
/// killed, and a reused pid is never taken for the dead. Whoever finds a dead holder gives its permits back: a waiter
/// within ``reclaimInterval``, a supervisor at once with ``reclaim(deadOwner:)``. Not fair: a waiter may be overtaken.
///
/// Permits belong to the process, not to a thread. A forked child has to open the semaphore anew.
public final class RobustSemaphore: Sendable {
    /// One permit taken; give it back with ``RobustSemaphore/release(_:)``.
    public struct Permit: Hashable, Sendable {
        public let index: Int
    }

    /// Permits a semaphore may have.
    public static let permitsMax = 65_536
    /// How often a waiter looks for dead holders by itself.
    public static let reclaimInterval = Duration.milliseconds(100)

    // The file: magic u64 · permits u32 · generation u32 (futex) · sleepers u32 · zero to 64 · words u64[permits].
    private enum Offset {
        static let magic = 0
        static let permits = 8
        static let generation = 12
        static let sleepers = 16
        static let words = 64
    }
    private static let magic: UInt64 = 0x3130_4D45_5346_4153  // "SAFSEM01"

    private let file: SharedFile
    private let identity: UInt64
    public let permits: Int
    public var path: String { file.path }

    private init(_ file: SharedFile, permits: Int) throws(OSError) {
        self.file = file
        self.permits = permits
        let pid = Environment.processID
        guard let start = Process.startTime(of: pid) else {
            throw OSError(code: ENOENT, call: "open", subject: "/proc/\(pid)/stat (a semaphore needs /proc)")
        }
        identity = RobustSemaphore.identity(pid: pid, startTime: start)
    }

    /// Makes a semaphore with all permits free, or opens the one that is there (`permits` then is what it has).
    ///
    /// - Throws: EINVAL for permits outside 1 … ``permitsMax`` or a file that is no semaphore; ENOSPC; EACCES.
    public static func openOrCreate(_ path: String, permits: Int, mode: UInt32 = 0o600) throws(OSError)
        -> RobustSemaphore
    {
        guard (1...permitsMax).contains(permits) else {
            throw OSError(code: EINVAL, call: "semaphore", subject: "\(path) (\(permits) permits, 1 to \(permitsMax))")
        }
        while true {
            do { return try open(path) } catch { if !error.isNotFound { throw error } }
            do {
                let size = Offset.words + permits * 8
                let file = try SharedFile.create(path, size: size, mode: mode, exclusive: true) { mapping in
                    mapping.base.storeBytes(of: magic, toByteOffset: Offset.magic, as: UInt64.self)
                    mapping.base.storeBytes(of: UInt32(permits), toByteOffset: Offset.permits, as: UInt32.self)
                }
                return try RobustSemaphore(file, permits: permits)
            } catch { if !error.isExisting { throw error } }  // somebody was quicker: open his
        }
    }

    /// The semaphore `name` of this node, made when it is not there. amfd gives a dead holder's permits back at once;
    /// without it, or when the semaphore belongs to a user that is neither root nor amfd's, its waiters do.
    ///
    /// - Parameter name: 1 to 200 octets without "/", not beginning with ".".
    /// - Throws: EINVAL for another name, and as ``openOrCreate(_:permits:mode:)``.
    public static func named(
        _ name: String, permits: Int, places: Places = .fromEnvironment(), mode: UInt32 = 0o600
    ) throws(OSError) -> RobustSemaphore {
        guard (1...200).contains(name.utf8.count), !name.utf8.contains(UInt8(ascii: "/")), !name.hasPrefix(".") else {
            throw OSError(
                code: EINVAL, call: "semaphore", subject: "\(name) (1 to 200 octets without '/' expected, no '.' first)"
            )
        }
        let directory = places.semaphoreDirectory
        try File.makeSharedDirectory(directory)
        return try openOrCreate("\(directory)/\(name)", permits: permits, mode: mode)
    }

    /// Gives back, in every named semaphore of the node, what dead processes held; returns how many permits.
    ///
    /// Only in those that ``all(in:)`` gives.
    @discardableResult
    public static func reclaimDead(in places: Places) -> Int {
        all(in: places).reduce(0) { $0 + $1.semaphore.reclaimDead() }
    }

    /// The named semaphores of the node, by name.
    ///
    /// Only files of root and of this user are touched: another one's could be cut short under our hands.
    public static func all(in places: Places) -> [(name: String, semaphore: RobustSemaphore)] {
        let directory = places.semaphoreDirectory
        let names = (try? File.list(directory)) ?? []  // none: nobody made a semaphore
        return names.compactMap { name in
            let path = "\(directory)/\(name)"
            guard let status = try? File.stat(path, followLinks: false), status.kind == .file,
                status.userID == 0 || status.userID == Environment.userID, let semaphore = try? open(path)
            else { return nil }
            return (name, semaphore)
        }
    }

    /// Opens an existing semaphore. Throws ENOENT, or EINVAL for a file that is none.
    public static func open(_ path: String) throws(OSError) -> RobustSemaphore {
        let file = try SharedFile.open(path, writable: true)
        let base = file.mapping.base
        guard file.mapping.count >= Offset.words, base.load(fromByteOffset: Offset.magic, as: UInt64.self) == magic
        else {
            throw OSError(code: EINVAL, call: "semaphore", subject: "\(path) (not a semaphore file)")
        }
        let permits = Int(base.load(fromByteOffset: Offset.permits, as: UInt32.self))
        guard permits > 0, permits <= permitsMax, file.mapping.count >= Offset.words + permits * 8 else {
            throw OSError(code: EINVAL, call: "semaphore", subject: "\(path) (damaged: \(permits) permits)")
        }
        return try RobustSemaphore(file, permits: permits)
    }

    /// A permit if one is free, or nil.
    public func tryAcquire() -> Permit? {
        // Start at a place of our own, so that processes do not all fight for the first word.
        let first = Int(truncatingIfNeeded: identity >> 42) % permits
        for step in 0..<permits {
            let index = first + step < permits ? first + step : first + step - permits
            let word = self.word(index)
            if word.pointee.load(ordering: .relaxed) != 0 { continue }
            if word.pointee.compareExchange(expected: 0, desired: identity, ordering: .sequentiallyConsistent).exchanged
            {
                return Permit(index: index)
            }
        }
        return nil
    }

    /// Waits for a permit; nil when none came until `deadline`.
    public func acquire(deadline: Instant?) throws(OSError) -> Permit? {
        if let permit = tryAcquire() { return permit }
        while true {
            sleepers.pointee.store(1, ordering: .sequentiallyConsistent)
            let seen = generation.pointee.load(ordering: .sequentiallyConsistent)
            // Looked at after the mark was set: whoever frees a permit from now on sees the mark.
            if let permit = tryAcquire() { return permit }
            let now = MonotonicClock.now()
            if let deadline, now >= deadline { return nil }
            let slice = min(now + RobustSemaphore.reclaimInterval, deadline ?? .distantFuture)
            let word = UnsafeRawPointer(generation).assumingMemoryBound(to: UInt32.self)
            if try Futex.wait(word, expected: seen, deadline: slice) == .timedOut { reclaimDead() }
        }
    }

    /// Gives a permit back; false when this process does not have it.
    @discardableResult
    public func release(_ permit: Permit) -> Bool {
        guard (0..<permits).contains(permit.index) else { return false }
        return give(permit.index, of: identity)
    }

    /// Permits nobody has at this moment.
    public var available: Int { (0..<permits).count { word($0).pointee.load(ordering: .relaxed) == 0 } }

    /// The processes that hold permits and how many, by pid.
    public var holders: [(pid: Int32, permits: Int)] {
        let pids = (0..<permits).compactMap { index -> Int32? in
            let value = word(index).pointee.load(ordering: .relaxed)
            return value == 0 ? nil : RobustSemaphore.pid(of: value)
        }
        return Set(pids).sorted().map { pid in (pid, pids.count { $0 == pid }) }
    }

    /// Gives back what the dead process with this pid held; returns how many. A living process keeps its permits.
    @discardableResult
    public func reclaim(deadOwner pid: Int32) -> Int { reclaim { $0 == pid } }

    /// Gives back what any dead process held; returns how many.
    @discardableResult
    public func reclaimDead() -> Int { reclaim { _ in true } }

    private func reclaim(_ concerns: (Int32) -> Bool) -> Int {
        var verdicts: [UInt64: Bool] = [:]  // looked up only
        var count = 0
        for index in 0..<permits {
            let value = word(index).pointee.load(ordering: .relaxed)
            guard value != 0, value != identity, concerns(RobustSemaphore.pid(of: value)) else { continue }
            let isDead = verdicts[value] ?? RobustSemaphore.isDead(value)
            verdicts[value] = isDead
            // The exchange names the dead one exactly, so a permit that has changed hands meanwhile is safe.
            if isDead && give(index, of: value) { count += 1 }
        }
        return count
    }

    private func give(_ index: Int, of owner: UInt64) -> Bool {
        let (exchanged, _) = word(index).pointee.compareExchange(
            expected: owner, desired: 0, ordering: .sequentiallyConsistent)
        guard exchanged else { return false }
        if sleepers.pointee.exchange(0, ordering: .sequentiallyConsistent) != 0 {
            generation.pointee.wrappingAdd(1, ordering: .sequentiallyConsistent)
            // All: a wake-up given to one alone would be lost if that one were killed now.
            Futex.wake(UnsafeRawPointer(generation).assumingMemoryBound(to: UInt32.self))
        }
        return true
    }

    private func word(_ index: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        file.mapping.base.atomic(at: Offset.words + index * 8)
    }
    private var generation: UnsafeMutablePointer<Atomic<UInt32>> { file.mapping.base.atomic(at: Offset.generation) }
    private var sleepers: UnsafeMutablePointer<Atomic<UInt32>> { file.mapping.base.atomic(at: Offset.sleepers) }

    // pid in 22 bits (the kernel's PID_MAX_LIMIT), start time in clock ticks in 42 (a thousand years).
    private static func identity(pid: Int32, startTime: UInt64) -> UInt64 {
        UInt64(UInt32(bitPattern: pid)) << 42 | startTime & (1 << 42 - 1)
    }
    private static func pid(of identity: UInt64) -> Int32 { Int32(truncatingIfNeeded: identity >> 42) }

    private static func isDead(_ identity: UInt64) -> Bool {
        guard let information = Process.information(of: pid(of: identity)) else { return true }
        if information.startTime & (1 << 42 - 1) != identity & (1 << 42 - 1) { return true }
        // A leader may end before its other threads, which still use the permit.
        return information.isExiting && information.threadCount <= 1
    }
}
