import EngineKit

internal import COSAL
internal import Glibc

/// Sleeping on a 32-bit word of memory that may be shared between processes. Source: futex(2), not private.
public enum Futex {
    public enum WaitOutcome: Equatable, Sendable {
        /// Somebody woke us; the word may or may not have changed.
        case woken
        /// The word was not what was expected: there was nothing to wait for.
        case changed
        case timedOut
        /// A signal came; look again.
        case interrupted
    }

    /// Words that ``waitAny(_:deadline:)`` can sleep on at once (FUTEX_WAITV_MAX).
    public static let waitAnyMax = 128

    /// Sleeps while `word` is `expected`, until woken or the deadline (nil: without limit).
    public static func wait(
        _ word: UnsafePointer<UInt32>, expected: UInt32, deadline: Instant?
    ) throws(OSError) -> WaitOutcome {
        if cosal_futex_wait(word, expected, nanoseconds(deadline)) == 0 { return .woken }
        switch errno {
        case EAGAIN: return .changed
        case ETIMEDOUT: return .timedOut
        case EINTR: return .interrupted
        default: throw OSError.last("futex(FUTEX_WAIT_BITSET)")
        }
    }

    /// Wakes up to `count` sleepers on `word`; returns how many.
    @discardableResult
    public static func wake(_ word: UnsafePointer<UInt32>, count: Int32 = .max) -> Int {
        Int(max(0, cosal_futex_wake(word, count)))
    }

    /// Sleeps while every word is as expected; the index of one that was woken or differs, nil at the deadline or when
    /// a signal came.
    ///
    /// Waking one word says nothing of the others: look at all of them after it. Linux 5.16.
    public static func waitAny(
        _ words: [(word: UnsafePointer<UInt32>, expected: UInt32)], deadline: Instant?
    ) throws(OSError) -> Int? {
        guard words.count <= waitAnyMax else {
            throw OSError(code: EINVAL, call: "futex_waitv", subject: "\(words.count) words, at most \(waitAnyMax)")
        }
        return try withUnsafeTemporaryAllocation(of: futex_waitv.self, capacity: waitAnyMax) {
            (waiters) throws(OSError) -> Int? in
            for (index, entry) in words.enumerated() {
                waiters[index] = futex_waitv(
                    val: UInt64(entry.expected), uaddr: UInt64(UInt(bitPattern: entry.word)), flags: UInt32(FUTEX_32),
                    __reserved: 0)
            }
            let index = cosal_futex_waitv(waiters.baseAddress, UInt32(words.count), nanoseconds(deadline))
            if index >= 0 { return Int(index) }
            switch errno {
            case ETIMEDOUT, EINTR: return nil
            case EAGAIN:
                // The kernel does not say which one differs.
                return words.firstIndex { $0.word.pointee != $0.expected } ?? 0
            default: throw OSError.last("futex_waitv")
            }
        }
    }

    private static func nanoseconds(_ deadline: Instant?) -> UInt64 {
        guard let deadline, deadline != .distantFuture else { return UInt64.max }
        return min(deadline.nanoseconds, UInt64(Int64.max))
    }
}
