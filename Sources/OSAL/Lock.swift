public import Synchronization

#if hasFeature(Embedded)
    /// A lock within one process. Never in shared memory.
    ///
    /// Embedded Swift has no Mutex. One word: 0 free, 1 held, 2 held and perhaps waited for (Drepper, Futexes Are
    /// Tricky, 2011, mutex 2).
    public struct Lock<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        private let word: UnsafeMutablePointer<UInt32>
        private let value: UnsafeMutablePointer<Value>

        public init(_ initial: consuming sending Value) {
            word = .allocate(capacity: 1)
            word.initialize(to: 0)
            value = .allocate(capacity: 1)
            value.initialize(to: initial)
        }

        deinit {
            value.deinitialize(count: 1)
            value.deallocate()
            word.deallocate()
        }

        private var state: UnsafeMutablePointer<Atomic<UInt32>> {
            UnsafeMutableRawPointer(word).assumingMemoryBound(to: Atomic<UInt32>.self)
        }

        public borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result {
            let isTaken = state.pointee.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged
            if !isTaken { wait() }
            defer {
                if state.pointee.exchange(0, ordering: .releasing) == 2 { wake() }
            }
            return try body(&value.pointee)
        }

        @inline(never)
        private func wake() { Futex.wake(UnsafePointer(word), count: 1) }

        @inline(never)
        private func wait() {
            while state.pointee.exchange(2, ordering: .acquiring) != 0 {
                _ = try? Futex.wait(UnsafePointer(word), expected: 2, deadline: nil)  // whatever it says: look again
            }
        }
    }
#else
    /// A lock within one process. Never in shared memory: use ``RobustMutex`` there.
    public typealias Lock<Value: ~Copyable> = Mutex<Value>
#endif
