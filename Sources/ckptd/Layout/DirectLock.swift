import EngineKit
import OSAL
import Synchronization

/// Who writes a region: one word, 0 or its owner, with a bit for who waits. Owner and holding cannot disagree at
/// whatever instruction a holder dies; nobody relies on its ever being given back, and nothing in it can be followed
/// anywhere.
public struct DirectLock: @unchecked Sendable {
    static let waiters: UInt32 = 1 << 31
    /// The holder while a region belongs to ckptd.
    public static let service: UInt32 = 0x7FFF_FFFF
    /// A writer holds it for the time of a copy; whoever holds it longer is stopped or dead.
    public static let patience = Duration.milliseconds(5)
    private static let spins = 300

    let word: UnsafeMutableRawPointer

    /// The word of a process: its number and a part of its start time, which tells it from its successors.
    public static func owner(process: UInt32, start: UInt64) -> UInt32 {
        process & 0x3F_FFFF | (UInt32(truncatingIfNeeded: start) & 0xFF) << 22
    }

    /// The process of a lock word.
    public static func process(of word: UInt32) -> Int32 { Int32(word & 0x3F_FFFF) }

    private var atomic: UnsafeMutablePointer<Atomic<UInt32>> { word.atomic(UInt32.self) }

    /// 0: free.
    public var holder: UInt32 { atomic.pointee.load(ordering: .acquiring) & ~Self.waiters }

    @inline(__always)
    public func tryAcquire(_ owner: UInt32) -> Bool {
        atomic.pointee.compareExchange(expected: 0, desired: owner, ordering: .acquiring).exchanged
    }

    /// False when it did not come in time.
    @inline(__always)
    public func acquire(_ owner: UInt32, patience: Duration = Self.patience) -> Bool {
        tryAcquire(owner) || wait(owner, patience)
    }

    @inline(never)
    private func wait(_ owner: UInt32, _ patience: Duration) -> Bool {
        for _ in 0..<Self.spins {
            OSAL.pause()
            let seen = atomic.pointee.load(ordering: .relaxed)
            if seen == 0, tryAcquire(owner) { return true }
            if seen & ~Self.waiters == Self.service { return false }
        }
        let deadline = MonotonicClock.now() + patience
        while true {
            let seen = atomic.pointee.load(ordering: .relaxed)
            if seen & ~Self.waiters == Self.service { return false }
            if seen == 0 {
                // Others may sleep, too: whoever slept wakes the next one.
                let desired = owner | Self.waiters
                if atomic.pointee.compareExchange(expected: 0, desired: desired, ordering: .acquiring).exchanged {
                    return true
                }
                continue
            }
            if seen & Self.waiters == 0 {
                let desired = seen | Self.waiters
                let (marked, _) = atomic.pointee.compareExchange(
                    expected: seen, desired: desired, ordering: .relaxed)
                if !marked { continue }
            }
            guard MonotonicClock.now() < deadline, sleep(seen | Self.waiters, deadline) else { return false }
        }
    }

    private func sleep(_ seen: UInt32, _ deadline: Instant) -> Bool {
        do throws(OSError) {
            return try Futex.wait(
                UnsafePointer(word.assumingMemoryBound(to: UInt32.self)), expected: seen, deadline: deadline)
                != .timedOut
        } catch {
            return false
        }
    }

    @inline(__always)
    public func release() {
        if atomic.pointee.exchange(0, ordering: .releasing) & Self.waiters != 0 {
            Futex.wake(UnsafePointer(word.assumingMemoryBound(to: UInt32.self)), count: 1)
        }
    }

    /// Makes it ckptd's, of memory that is nobody's.
    public func seize() { atomic.pointee.store(Self.service, ordering: .relaxed) }

    /// Gives back what a dead process holds; false when it no longer does.
    @discardableResult
    public func take(from dead: UInt32, for owner: UInt32 = 0) -> Bool {
        for value in [dead, dead | Self.waiters] {
            if atomic.pointee.compareExchange(expected: value, desired: owner, ordering: .acquiring).exchanged {
                if value & Self.waiters != 0 {
                    Futex.wake(UnsafePointer(word.assumingMemoryBound(to: UInt32.self)))
                }
                return true
            }
        }
        return false
    }
}
