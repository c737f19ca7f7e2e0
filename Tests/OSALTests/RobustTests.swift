import EngineKit
import Synchronization
import Testing

@testable import OSAL

@Suite struct RobustMutexTests {
    func page(_ scratch: Scratch) throws -> SharedFile {
        try SharedFile.create(scratch("lock"), size: 4096, mode: 0o600) { _ = try? RobustMutex.initialize(at: $0.base) }
    }

    @Test("A lock is exclusive, within its deadline, and cannot be taken twice or given back by another")
    func exclusive() throws {
        let scratch = try Scratch("/dev/shm")
        let file = try page(scratch)
        let lock = RobustMutex(at: file.mapping.base)
        let helper = try Helper("hold-mutex", scratch("lock"))
        #expect(try helper.line() == "acquired")
        #expect(try lock.tryLock() == nil)
        #expect(try lock.lock(deadline: MonotonicClock.now() + .milliseconds(5)) == nil)
        #expect(throws: OSError.self) { try lock.unlock() }
        #expect(lock.lockWord.pointee & 0x3FFF_FFFF == UInt32(helper.pid))
        try helper.kill()
        #expect(try lock.lock(deadline: soon) == .ownerDied)
        try lock.markConsistent()
        #expect(throws: OSError.self) { _ = try lock.lock() }
        try lock.unlock()
        #expect(try lock.tryLock() == .acquired)
        try lock.unlock()
    }

    @Test("Every killed holder is noticed by the next one; a lock that nobody repaired is refused for ever")
    func killedHolders() throws {
        let scratch = try Scratch("/dev/shm")
        let lock = RobustMutex(at: try page(scratch).mapping.base)
        let again = try SharedFile.open(scratch("lock"), writable: true)
        for _ in 0..<10 {
            let helper = try Helper("hold-mutex", scratch("lock"))
            #expect(try helper.line() == "acquired")
            try helper.send(.kill)
            let mutex = RobustMutex(at: again.mapping.base)
            #expect(try mutex.lock() == .ownerDied)
            try mutex.markConsistent()
            try mutex.unlock()
        }
        do {
            let helper = try Helper("hold-mutex", scratch("lock"))
            #expect(try helper.line() == "acquired")
        }
        let mutex = RobustMutex(at: again.mapping.base)
        #expect(try mutex.lock() == .ownerDied)
        try mutex.unlock()
        #expect(throws: OSError.self) { _ = try mutex.lock() }
        _ = lock
    }

    @Test("A life lock tells its watcher of a death, among many, and of an orderly release")
    func lifeLock() throws {
        let scratch = try Scratch("/dev/shm")
        var files: [SharedFile] = []
        var helpers: [Helper] = []
        for index in 0..<3 {
            let path = scratch("life\(index)")
            files.append(
                try SharedFile.create(path, size: 4096, mode: 0o600) { _ = try? LifeLock.initialize(at: $0.base) })
            #expect(LifeLock(at: files[index].mapping.base).state == .free)
            helpers.append(try Helper("hold-life", path))
            #expect(try helpers[index].line() == "held")
        }
        let locks = files.map { LifeLock(at: $0.mapping.base) }
        #expect(throws: OSError.self) { try locks[0].hold() }
        func watched() -> [(word: UnsafePointer<UInt32>, expected: UInt32)] {
            locks.map { (UnsafePointer($0.word), $0.armWaiters()) }
        }
        #expect(locks.map(\.state) == helpers.map { .held(thread: $0.pid) })
        let before = watched()
        try helpers[1].send(.kill)
        #expect(try Futex.waitAny(before, deadline: soon) == 1)
        #expect(locks[1].state == .ownerDied && Process.isExiting(helpers[1].pid))
        #expect(locks[0].state == .held(thread: helpers[0].pid))

        let rest = [watched()[0], watched()[2]]
        try helpers[2].closeInput()
        #expect(try Futex.waitAny(rest, deadline: soon) == 1)
        #expect(locks[2].state == .free)
        #expect(LifeLock.state(of: locks[2].armWaiters()) == .free, "there is nothing to sleep for")
        #expect(try helpers[2].line() == "released")
        // The next life takes over the lock of the dead.
        let successor = try Helper("hold-life", scratch("life1"))
        #expect(try successor.line() == "held")
        #expect(locks[1].state == .held(thread: successor.pid))
    }

    @Test(
        "A robust lock is also given back when only its thread ends, so a watcher asks whether the process is exiting")
    func threadEnds() throws {
        let memory = try anonymousMemory(name: "life", size: 4096)
        let mapping = try Mapping.map(memory.raw, count: 4096, writable: true)
        let lock = try LifeLock.initialize(at: mapping.base)
        try OSThread.spawn(name: "short") { _ = try? lock.hold() }.join()
        #expect(lock.state == .ownerDied)
        #expect(!Process.isExiting(Environment.processID))
    }
}

@Suite struct RobustSemaphoreTests {
    @Test("Permits run out, come back, and wake a waiter")
    func permits() throws {
        let scratch = try Scratch("/dev/shm")
        let semaphore = try RobustSemaphore.openOrCreate(scratch("sem"), permits: 2)
        let same = try RobustSemaphore.openOrCreate(scratch("sem"), permits: 9)
        #expect(same.permits == 2)
        let first = try #require(semaphore.tryAcquire())
        let second = try #require(semaphore.tryAcquire())
        #expect(semaphore.tryAcquire() == nil && semaphore.available == 0 && first != second)
        #expect(semaphore.holders.map(\.pid) == [Environment.processID] && semaphore.holders.map(\.permits) == [2])
        #expect(try semaphore.acquire(deadline: MonotonicClock.now() + .milliseconds(5)) == nil)
        let thread = try OSThread.spawn(name: "waiter") {
            guard let permit = try? same.acquire(deadline: soon) else { return }
            same.release(permit)
        }
        #expect(semaphore.release(first))
        thread.join()
        #expect(!semaphore.release(first), "a permit is given back once")
        #expect(semaphore.available == 1)
        #expect(semaphore.release(second) && semaphore.available == 2)
        #expect(!semaphore.release(RobustSemaphore.Permit(index: 7)))
    }

    @Test("The permits of the dead come back, those of the living do not")
    func reclaim() throws {
        let scratch = try Scratch("/dev/shm")
        let semaphore = try RobustSemaphore.openOrCreate(scratch("sem"), permits: 5)
        let victim = try Helper("hold-permits", scratch("sem"), "3")
        let survivor = try Helper("hold-permits", scratch("sem"), "2")
        #expect(try victim.line() == "held")
        #expect(try survivor.line() == "held")
        #expect(semaphore.reclaim(deadOwner: victim.pid) == 0, "it lives")
        try victim.kill()
        #expect(semaphore.reclaim(deadOwner: survivor.pid) == 0)
        #expect(semaphore.reclaim(deadOwner: victim.pid) == 3)
        #expect(semaphore.available == 3)
        // A waiter does it alone, without a supervisor.
        let taken = (0..<3).compactMap { _ in semaphore.tryAcquire() }
        #expect(taken.count == 3)
        try survivor.kill()
        #expect(try semaphore.acquire(deadline: soon) != nil)
    }

    @Test("Processes killed at any moment neither lose nor multiply a permit", arguments: [1, 2] as [UInt64])
    func killing(seed: UInt64) throws {
        let scratch = try Scratch("/dev/shm")
        let semaphore = try RobustSemaphore.openOrCreate(scratch("sem"), permits: 3)
        _ = try SharedFile.create(scratch("inside"), size: 4096, mode: 0o600)
        var random = SeededRandom(seed: seed)
        var helpers = try (0..<5).map { _ in try Helper("churn-permits", scratch("sem"), scratch("inside")) }
        for _ in 0..<60 {
            for _ in 0..<Int.random(in: 0...40_000, using: &random) { pause() }
            let index = Int.random(in: 0..<helpers.count, using: &random)
            let pid = helpers[index].pid
            #expect(try helpers[index].kill() == .signaled(.kill), "seed \(seed): it found a permit given twice")
            if random.chance(percent: 50) { semaphore.reclaim(deadOwner: pid) }  // else a waiter has to
            helpers[index] = try Helper("churn-permits", scratch("sem"), scratch("inside"))
        }
        for helper in helpers { #expect(try helper.kill() == .signaled(.kill), "seed \(seed)") }
        semaphore.reclaimDead()
        #expect(semaphore.available == 3, "seed \(seed)")
    }

    @Test("What is no semaphore is refused by name")
    func refused() throws {
        let scratch = try Scratch()
        try File.writeAtomically(scratch("text"), text: String(repeating: "x", count: 200), durable: false)
        for attempt in [0, 1, 2] {
            do {
                switch attempt {
                case 0: _ = try RobustSemaphore.open(scratch("text"))
                case 1: _ = try RobustSemaphore.openOrCreate(scratch("none"), permits: 0)
                default: _ = try RobustSemaphore.open(scratch("missing"))
                }
                Issue.record("opened")
            } catch { #expect(error.description.contains(scratch.path)) }
        }
    }
}
