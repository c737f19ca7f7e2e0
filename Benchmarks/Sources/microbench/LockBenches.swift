import EngineKit
import OSAL
import Synchronization

/// The robust locks and semaphores beside the least that excludes: one word, compare and swap, futex when contended.
enum LockBenches {
    static func all() throws -> [Comparison] {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 4_096, alignment: 64)  // lives as long as the program
        memory.initializeMemory(as: UInt8.self, repeating: 0, count: 4_096)
        let robust = try RobustMutex.initialize(at: memory)
        let plain = PlainLock(at: memory + 1_024)
        let word = (memory + 2_048).atomic(UInt64.self)
        let path = "/dev/shm/microbench-semaphore.\(Environment.processID)"
        let semaphore = try RobustSemaphore.openOrCreate(path, permits: 4)
        try File.remove(path)
        return [
            Comparison(
                name: "osal.robust-mutex", subject: Work("lock and unlock") { try pairs(of: robust, $0) },
                peer: Work("futex word, CAS") { pairs(of: plain, $0) }),
            Comparison(
                name: "osal.robust-semaphore",
                subject: Work("take and give back") { count in
                    for _ in 0..<count {
                        guard let permit = semaphore.tryAcquire() else { throw BenchError("no permit is free") }
                        semaphore.release(permit)
                    }
                },
                peer: Work("two CAS on a word") { count in
                    for _ in 0..<count {
                        keep(exchange(word, 0, 1))
                        keep(exchange(word, 1, 0))
                    }
                }),
        ]
    }

    private static func pairs(of lock: RobustMutex, _ count: Int) throws {
        for _ in 0..<count {
            _ = try lock.lock()
            try lock.unlock()
        }
    }

    private static func pairs(of lock: PlainLock, _ count: Int) {
        for _ in 0..<count {
            lock.lock()
            lock.unlock()
        }
    }

    private static func exchange(_ word: UnsafeMutablePointer<Atomic<UInt64>>, _ from: UInt64, _ to: UInt64) -> UInt64 {
        word.pointee.compareExchange(expected: from, desired: to, ordering: .acquiringAndReleasing).original
    }
}

/// A lock that its owner's death leaves locked for ever: 0 free, 1 locked, 2 locked and somebody sleeps.
/// Source: Drepper, Futexes Are Tricky, mutex 2.
struct PlainLock {
    private let word: UnsafeMutablePointer<Atomic<UInt32>>
    private let raw: UnsafePointer<UInt32>

    init(at memory: UnsafeMutableRawPointer) {
        word = memory.atomic(UInt32.self)
        raw = UnsafeRawPointer(memory).assumingMemoryBound(to: UInt32.self)
    }

    func lock() {
        var seen = word.pointee.compareExchange(expected: 0, desired: 1, ordering: .acquiring).original
        if seen == 0 { return }
        if seen != 2 { seen = word.pointee.exchange(2, ordering: .acquiring) }
        while seen != 0 {
            _ = try? Futex.wait(raw, expected: 2, deadline: nil)  // whatever it says, the word is looked at again
            seen = word.pointee.exchange(2, ordering: .acquiring)
        }
    }

    func unlock() {
        if word.pointee.exchange(0, ordering: .releasing) == 2 { Futex.wake(raw, count: 1) }
    }
}
