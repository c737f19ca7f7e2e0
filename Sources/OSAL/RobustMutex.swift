internal import Synchronization
import EngineKit

internal import COSAL
internal import Glibc

/// How a robust lock was obtained; in both cases the caller holds it.
public enum LockOutcome: Equatable, Sendable {
    case acquired
    /// The last owner died with it. Repair what it protects, then call ``RobustMutex/markConsistent()``; unlocking
    /// without that makes the lock unusable for everybody (ENOTRECOVERABLE).
    case ownerDied
}

/// A lock in memory shared between processes that survives the death of its owner.
///
/// It belongs to a thread, not to a process: it is given back when the thread ends, too. Source:
/// pthread_mutexattr_setrobust(3).
public struct RobustMutex: @unchecked Sendable {
    public static let size = MemoryLayout<pthread_mutex_t>.size
    public static let alignment = MemoryLayout<pthread_mutex_t>.alignment

    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    /// The lock that lies at `memory`, ``size`` bytes, initialised by somebody.
    public init(at memory: UnsafeMutableRawPointer) {
        mutex = memory.assumingMemoryBound(to: pthread_mutex_t.self)
    }

    /// Makes a new unlocked lock at `memory`. Nobody may use it yet.
    @discardableResult
    public static func initialize(at memory: UnsafeMutableRawPointer) throws(OSError) -> RobustMutex {
        let code = cosal_robust_initialize(memory.bindMemory(to: pthread_mutex_t.self, capacity: 1))
        if code != 0 { throw OSError(code: code, call: "pthread_mutex_init") }
        return RobustMutex(at: memory)
    }

    /// Waits for the lock without limit. Throws EDEADLK when this thread has it, ENOTRECOVERABLE when it was not
    /// repaired.
    public func lock() throws(OSError) -> LockOutcome {
        guard let outcome = try outcome(pthread_mutex_lock(mutex)) else {
            throw OSError(code: EINVAL, call: "pthread_mutex_lock")
        }
        return outcome
    }

    /// The lock if it is free, or nil.
    public func tryLock() throws(OSError) -> LockOutcome? { try outcome(pthread_mutex_trylock(mutex)) }

    /// Waits for the lock until `deadline`; nil when it did not come.
    public func lock(deadline: Instant) throws(OSError) -> LockOutcome? {
        try outcome(cosal_robust_lock_until(mutex, min(deadline.nanoseconds, UInt64(Int64.max))))
    }

    /// Gives the lock back. EPERM when this thread does not have it.
    public func unlock() throws(OSError) {
        let code = pthread_mutex_unlock(mutex)
        if code != 0 { throw OSError(code: code, call: "pthread_mutex_unlock") }
    }

    /// Says that what the lock protects has been repaired after ``LockOutcome/ownerDied``.
    public func markConsistent() throws(OSError) {
        let code = pthread_mutex_consistent(mutex)
        if code != 0 { throw OSError(code: code, call: "pthread_mutex_consistent") }
    }

    private func outcome(_ code: Int32) throws(OSError) -> LockOutcome? {
        switch code {
        case 0: return .acquired
        case EOWNERDEAD: return .ownerDied
        case EBUSY, ETIMEDOUT: return nil
        default: throw OSError(code: code, call: "pthread_mutex_lock")
        }
    }

    /// The futex word: thread number of the owner, and flags. To be watched, never written.
    public var lockWord: UnsafeMutablePointer<UInt32> {
        UnsafeMutableRawPointer(mutex).assumingMemoryBound(to: UInt32.self)
    }
}

/// A robust lock that a process holds as long as it lives, so that its death is known at once, whatever its size.
///
/// The kernel gives it back before it tears the address space down. The holder is the process's main thread (or one
/// that never ends): a robust lock is also given back when its thread ends, so a watcher asks ``Process/isExiting(_:)``
/// before it believes the death. A watcher never locks; the page may be written by a hostile process, so only the word
/// is used.
public struct LifeLock: Sendable {
    /// What the lock word says.
    public enum State: Equatable, Sendable {
        /// Not taken yet, or given back in order.
        case free
        case held(thread: Int32)
        /// The holder died, or its thread ended.
        case ownerDied
    }

    /// Bytes to reserve for one, a cache line.
    public static let size = 64
    private let mutex: RobustMutex

    public init(at memory: UnsafeMutableRawPointer) { mutex = RobustMutex(at: memory) }

    /// Makes a free one.
    @discardableResult
    public static func initialize(at memory: UnsafeMutableRawPointer) throws(OSError) -> LifeLock {
        try RobustMutex.initialize(at: memory)
        return LifeLock(at: memory)
    }

    /// Takes it for the rest of the calling thread's life. EBUSY when somebody else has it.
    public func hold() throws(OSError) {
        switch try mutex.tryLock() {
        case .acquired: return
        case .ownerDied: try mutex.markConsistent()
        case nil: throw OSError(code: EBUSY, call: "life lock")
        }
    }

    /// Gives it back in order: this is not a death.
    public func release() throws(OSError) { try mutex.unlock() }

    public var word: UnsafeMutablePointer<UInt32> { mutex.lockWord }

    public var state: State { LifeLock.state(of: word.atomicLoad()) }

    /// Prepares to sleep on the word with ``Futex/waitAny(_:deadline:)``: without this the kernel wakes nobody.
    /// Returns the value to expect; when its ``state(of:)`` is not `held`, there is nothing to sleep for.
    public func armWaiters() -> UInt32 { LifeLock.armWaiters(word) }

    public static func armWaiters(_ word: UnsafeMutablePointer<UInt32>) -> UInt32 { cosal_arm_waiters(word) }

    /// What a value of the word means. Source: linux/futex.h, FUTEX_TID_MASK, FUTEX_OWNER_DIED.
    public static func state(of value: UInt32) -> State {
        let thread = Int32(value & 0x3FFF_FFFF)
        if thread != 0 { return .held(thread: thread) }
        return value & 0x4000_0000 != 0 ? .ownerDied : .free
    }
}

extension UnsafeMutablePointer where Pointee == UInt32 {
    fileprivate func atomicLoad() -> UInt32 {
        UnsafeMutableRawPointer(self).atomic(UInt32.self).pointee.load(ordering: .acquiring)
    }
}
