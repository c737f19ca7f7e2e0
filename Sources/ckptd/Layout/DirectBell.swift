import EngineKit
import OSAL
import Synchronization

/// Between the writers of *told* direct sections and ckptd: one word in the direct file, written by ckptd only.
///
/// A writer publishes, then looks at the word; ckptd says that it sleeps, then looks at what is published. So either
/// the writer sees that it must call, or ckptd sees the write. Who scribbles here keeps writers waiting or ckptd
/// asleep until its next look; nothing else depends on it.
///
/// number of the sleep from bit 2 on │ gate: ckptd wants all sections at one moment, wait │ asleep.
public struct DirectBell: @unchecked Sendable {
    private static let asleep: UInt64 = 1
    private static let gate: UInt64 = 2
    private static let spins = 300
    /// Between two looks at a gate that is closed for longer.
    private static let pause = Duration.microseconds(50)

    private let word: UnsafeMutableRawPointer

    /// - Parameter file: the direct file as it is mapped.
    @inline(__always)
    public init(_ file: UnsafeMutableRawPointer) { word = file + DirectLayout.bellOffset }

    private var atomic: UnsafeMutablePointer<Atomic<UInt64>> { word.atomic(UInt64.self) }

    // MARK: Writers

    /// After a write was published: which sleep of ckptd is to be ended; 0: it looks by itself.
    @inline(__always)
    var call: UInt64 {
        let seen = atomic.pointee.load(ordering: .sequentiallyConsistent)
        return seen & Self.asleep == 0 ? 0 : seen
    }

    /// False when the gate stays closed for longer than `patience`.
    @inline(__always)
    func pass(_ patience: Duration) -> Bool {
        atomic.pointee.load(ordering: .relaxed) & Self.gate == 0 || wait(patience)
    }

    @inline(never)
    private func wait(_ patience: Duration) -> Bool {
        func isOpen() -> Bool { atomic.pointee.load(ordering: .relaxed) & Self.gate == 0 }
        for _ in 0..<Self.spins {
            OSAL.pause()
            if isOpen() { return true }
        }
        let half = UnsafePointer(word.assumingMemoryBound(to: UInt32.self))  // little-endian: it has the gate
        let deadline = MonotonicClock.now() + patience
        while !isOpen() {
            let now = MonotonicClock.now()
            guard now < deadline else { return false }
            let seen = UInt32(truncatingIfNeeded: atomic.pointee.load(ordering: .relaxed))
            guard UInt64(seen) & Self.gate != 0 else { return true }
            do throws(OSError) {
                _ = try Futex.wait(half, expected: seen, deadline: now + Self.pause)
            } catch {
                return false
            }
        }
        return true
    }

    // MARK: ckptd

    /// It looks by itself again. The gate is open.
    public func wake(_ sleep: UInt64) { store(sleep << 2) }

    /// Who writes from now on calls, unless ckptd finds it when it looks once more.
    public func sleep(_ sleep: UInt64) { store(sleep << 2 | Self.asleep) }

    /// Writers wait, for as long as it takes to look.
    public func closeGate() { atomic.pointee.bitwiseOr(Self.gate, ordering: .sequentiallyConsistent) }

    private func store(_ value: UInt64) {
        atomic.pointee.store(value, ordering: .sequentiallyConsistent)
        atomicMemoryFence(ordering: .sequentiallyConsistent)
    }
}
