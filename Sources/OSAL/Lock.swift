public import Synchronization

#if hasFeature(Embedded)
    /// A lock within one process. Never in shared memory.
    ///
    /// Embedded Swift has no Mutex. One word: 0 free, 1 held, 2 held and perhaps waited for (Drepper, Futexes Are
    /// Tricky, 2011, mutex 2).
    public struct Lock<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        private let word: LockWord
        private let value: UnsafeMutablePointer<Value>

        public init(_ initial: consuming sending Value) {
            word = LockWord()
            value = .allocate(capacity: 1)
            value.initialize(to: initial)
        }

        deinit {
            value.deinitialize(count: 1)
            value.deallocate()
            word.end()
        }

        public borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result {
            word.take()
            defer { word.give() }
            return try body(&value.pointee)
        }
    }

    /// The same for all values, and out of line: in each of two hundred places it would be 8 KB.
    private struct LockWord {
        private let word: UnsafeMutablePointer<UInt32>

        @inline(never)
        init() {
            word = .allocate(capacity: 1)
            word.initialize(to: 0)
        }

        func end() { word.deallocate() }

        private var state: UnsafeMutablePointer<Atomic<UInt32>> {
            UnsafeMutableRawPointer(word).assumingMemoryBound(to: Atomic<UInt32>.self)
        }

        @inline(never)
        func take() {
            if state.pointee.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged { return }
            while state.pointee.exchange(2, ordering: .acquiring) != 0 {
                _ = try? Futex.wait(UnsafePointer(word), expected: 2, deadline: nil)  // whatever it says: look again
            }
        }

        @inline(never)
        func give() {
            if state.pointee.exchange(0, ordering: .releasing) == 2 { Futex.wake(UnsafePointer(word), count: 1) }
        }
    }
#else
    /// A lock within one process. Never in shared memory: use ``RobustMutex`` there.
    public typealias Lock<Value: ~Copyable> = Mutex<Value>
#endif
