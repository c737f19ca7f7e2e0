public import Synchronization

#if hasFeature(Embedded)
    /// A lock within one process. Never in shared memory.
    ///
    /// Embedded Swift has no Mutex. One word: 0 free, 1 held, 2 held and perhaps waited for (Drepper, Futexes Are
    /// Tricky, 2011, mutex 2).
    public struct Lock<Value: ~Copyable>: ~Copyable, @unchecked Sendable {
        private let word: LockWord

        public init(_ initial: consuming sending Value) {
            word = LockWord(room: Self.offset + MemoryLayout<Value>.size)
            value.initialize(to: initial)
        }

        deinit {
            value.deinitialize(count: 1)
            word.place.deallocate()
        }

        /// Of the value, behind the word.
        private static var offset: Int { max(MemoryLayout<UInt64>.size, MemoryLayout<Value>.alignment) }

        private var value: UnsafeMutablePointer<Value> {
            (word.place + Self.offset).assumingMemoryBound(to: Value.self)
        }

        public borrowing func withLock<Result: ~Copyable, Failure: Error>(
            _ body: (inout sending Value) throws(Failure) -> sending Result
        ) throws(Failure) -> sending Result {
            word.take()
            defer { word.give() }
            return try body(&value.pointee)
        }
    }

    /// The same for all values, and out of line: in each of 120 places it would be 5 KB.
    private struct LockWord {
        let place: UnsafeMutableRawPointer

        /// - Parameter room: bytes, the word's own included.
        @inline(never)
        init(room: Int) {
            place = .allocate(byteCount: room, alignment: 16)
            place.initializeMemory(as: UInt32.self, to: 0)
        }

        private var word: UnsafePointer<UInt32> { UnsafePointer(place.assumingMemoryBound(to: UInt32.self)) }
        private var state: UnsafeMutablePointer<Atomic<UInt32>> { place.assumingMemoryBound(to: Atomic<UInt32>.self) }

        @inline(never)
        func take() {
            if state.pointee.compareExchange(expected: 0, desired: 1, ordering: .acquiring).exchanged { return }
            while state.pointee.exchange(2, ordering: .acquiring) != 0 {
                _ = try? Futex.wait(word, expected: 2, deadline: nil)  // whatever it says: look again
            }
        }

        @inline(never)
        func give() {
            if state.pointee.exchange(0, ordering: .releasing) == 2 { Futex.wake(word, count: 1) }
        }
    }
#else
    /// A lock within one process. Never in shared memory: use ``RobustMutex`` there.
    public typealias Lock<Value: ~Copyable> = Mutex<Value>
#endif
