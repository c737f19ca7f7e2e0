import EngineKit
import SAFTypes
import Synchronization
import Testing

@testable import EOLoop
@testable import OSAL

/// A loop with the thread that runs it.
final class RunningLoop: @unchecked Sendable {
    let loop: Loop
    private let thread: OSThread

    init(limits: LoopLimits = LoopLimits()) throws {
        let loop = try Loop(name: "test", limits: limits)
        self.loop = loop
        thread = try OSThread.spawn(name: "test-loop") { loop.run() }
    }

    /// Runs `body` on the loop and waits for its result.
    func sync<Value: Sendable>(_ body: @escaping @Sendable (Loop) -> Value) -> Value? {
        let box = Monitor<Value?>(nil)
        loop.post(.control) { [loop] in
            let value = body(loop)
            box.update { $0 = value }
        }
        return box.wait(until: MonotonicClock.now() + .seconds(30)) { $0 }
    }

    func stop() {
        loop.stop()
        thread.join()
    }
}

/// Touched on a loop only: says when that does not hold.
private final class LoopCounter: @unchecked Sendable {
    private(set) var count = 0
    private(set) var isBroken = false
    private let isInside = Atomic(false)

    func add() {
        if isInside.exchange(true, ordering: .acquiringAndReleasing) { isBroken = true }
        count += 1
        pause()
        isInside.store(false, ordering: .releasing)
    }
}

@Suite("Loop")
struct LoopTests {
    private func limits(spin: Duration = .zero) -> LoopLimits {
        var limits = LoopLimits()
        limits.spin = spin
        return limits
    }

    @Test("Jobs run by lane, in order within a lane")
    func lanes() throws {
        let loop = try Loop(name: "test", limits: limits())
        var order: [String] = []
        for index in 0..<3 {
            for lane in Lane.allCases.reversed() { loop.enqueue(lane) { order.append("\(lane)\(index)") } }
        }
        loop.enqueue(.low) { loop.stop() }
        loop.run()
        let expected = Lane.allCases.flatMap { lane in (0..<3).map { "\(lane)\($0)" } }
        #expect(order == expected)
    }

    @Test("A full lane refuses, the others do not")
    func bounded() throws {
        var limits = limits()
        limits.jobsMax = 10
        let loop = try Loop(name: "test", limits: limits)
        for _ in 0..<10 { #expect(loop.enqueue(.low) {}) }
        #expect(!loop.enqueue(.low) {})
        #expect(loop.enqueue(.control) {})
    }

    @Test("A job that is enqueued by a lower lane's job runs before the rest of that lane")
    func urgentFirst() throws {
        let loop = try Loop(name: "test", limits: limits())
        var order: [Int] = []
        loop.enqueue(.low) {
            order.append(1)
            loop.enqueue(.control) { order.append(2) }
        }
        loop.enqueue(.low) {
            order.append(3)
            loop.stop()
        }
        loop.run()
        #expect(order == [1, 2, 3])
    }

    @Test("Ready descriptors are handled by lane; unwatching inside a handler keeps the rest from coming")
    func watches() throws {
        let loop = try Loop(name: "test", limits: limits())
        let low = try Doorbell()
        let high = try Doorbell()
        let gone = try Doorbell()
        var order: [String] = []
        var goneID: WatchID?
        var highID: WatchID?
        goneID = try loop.watch(gone.raw, .read, lane: .low) { _ in order.append("gone") }
        _ = try loop.watch(low.raw, .read, lane: .low) { _ in
            order.append("low")
            loop.stop()
        }
        highID = try loop.watch(high.raw, .read, lane: .control) { event in
            order.append("high \(event.readable)")
            if let goneID { loop.unwatch(goneID) }
            if let highID { loop.unwatch(highID) }
        }
        low.ring()
        gone.ring()
        high.ring()
        loop.run()
        #expect(order == ["high true", "low"])
    }

    @Test("Timers fire as a model says, whatever is started and cancelled", arguments: 0..<8 as Range<UInt64>)
    func timersAgainstModel(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let loop = try Loop(name: "test", limits: limits())
        var fired: [(index: Int, at: Instant)] = []
        var due: [Instant] = []
        var timers: [LoopTimer] = []
        var cancelled: Set<Int> = []
        for index in 0..<200 {
            let delay = Duration.milliseconds(.random(in: 0...60, using: &random))
            due.append(MonotonicClock.now() + delay)
            timers.append(loop.schedule(after: delay) { fired.append((index, MonotonicClock.now())) })
            if random.chance(percent: 30) {
                let victim = Int.random(in: 0...index, using: &random)
                loop.cancel(timers[victim])
                cancelled.insert(victim)
            }
        }
        loop.schedule(after: .milliseconds(90)) { loop.stop() }
        loop.run()
        #expect(Set(fired.map(\.index)) == Set(0..<200).subtracting(cancelled), "seed \(seed)")
        #expect(fired.count == Set(fired.map(\.index)).count, "seed \(seed): once each")
        for entry in fired { #expect(entry.at >= due[entry.index], "seed \(seed): never early") }
    }

    @Test("A timer may cancel itself and others from its own body, and start new ones")
    func cancelInside() throws {
        let loop = try Loop(name: "test", limits: limits())
        var ticks = 0
        var repeating: LoopTimer?
        var other: LoopTimer?
        var otherFired = false
        repeating = loop.scheduleRepeating(every: .milliseconds(1)) {
            ticks += 1
            if ticks == 3 {
                if let repeating { loop.cancel(repeating) }
                if let other { loop.cancel(other) }
                loop.schedule(after: .milliseconds(5)) { loop.stop() }
            }
        }
        other = loop.schedule(after: .seconds(30)) { otherFired = true }
        loop.run()
        #expect(ticks == 3 && !otherFired)
    }

    @Test("Timers due in the same turn: the first may cancel the second")
    func cancelNeighbour() throws {
        let loop = try Loop(name: "test", limits: limits())
        var fired: [Int] = []
        var timers: [LoopTimer] = []
        for index in 0..<2 {
            timers.append(
                loop.schedule(after: .milliseconds(2)) {
                    fired.append(index)
                    loop.cancel(timers[1 - index])
                })
        }
        loop.schedule(after: .milliseconds(20)) { loop.stop() }
        loop.run()
        #expect(fired.count == 1)
    }

    @Test("Posts of many threads all arrive, each thread's in order")
    func posts() throws {
        let running = try RunningLoop(limits: limits(spin: .microseconds(20)))
        let got = Monitor<[Int: [Int]]>([:])
        let loop = running.loop
        let threads = try (0..<4).map { thread in
            try OSThread.spawn(name: "poster") {
                for index in 0..<2000 {
                    while !loop.post(.normal, { got.update { $0[thread, default: []].append(index) } }) {
                        OSThread.yield()
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        let all = got.wait(until: MonotonicClock.now() + .seconds(30)) { got in
            got.values.reduce(0) { $0 + $1.count } == 8000 ? got : nil
        }
        running.stop()
        for thread in 0..<4 { #expect(all?[thread] == Array(0..<2000)) }
    }

    @Test("Who interrupts a sleeping loop takes its turn; what is left to be done is the loop's own")
    func interruptAsleep() throws {
        let running = try RunningLoop(limits: limits())
        defer { running.stop() }
        let loop = running.loop
        let own = running.sync { _ in currentThreadID() }
        let deadline = MonotonicClock.now() + .seconds(30)
        var served: Int32?
        // Until it sleeps it is served as a post.
        while served != currentThreadID(), MonotonicClock.now() < deadline {
            let threads = Monitor<(job: Int32, left: Int32)>((0, 0))
            loop.interrupt { [loop] in
                threads.update { $0.job = currentThreadID() }
                loop.enqueue { threads.update { $0.left = currentThreadID() } }
            }
            let seen = threads.wait(until: deadline) { $0.left == 0 ? nil : $0 }
            #expect(seen?.left == own)
            served = seen?.job
        }
        #expect(served == currentThreadID())
    }

    @Test("Interrupts, posts and timers never run at once")
    func interrupts() throws {
        let running = try RunningLoop(limits: limits())
        let loop = running.loop
        let counter = LoopCounter()
        running.loop.post { [loop] in loop.scheduleRepeating(every: .milliseconds(1)) { counter.add() } }
        let threads = try (0..<3).map { thread in
            try OSThread.spawn(name: "interrupter") {
                for index in 0..<5000 {
                    let job: @Sendable () -> Void = { counter.add() }
                    while !(thread == 0 && index % 2 == 0 ? loop.post(.normal, job) : loop.interrupt(job)) {
                        OSThread.yield()
                    }
                }
            }
        }
        for thread in threads { thread.join() }
        // What was posted in a lower lane than the question may still wait.
        let deadline = MonotonicClock.now() + .seconds(30)
        while (running.sync { _ in counter.count } ?? 0) < 15_000, MonotonicClock.now() < deadline { OSThread.yield() }
        let isBroken = running.sync { _ in counter.isBroken }
        running.stop()
        #expect(isBroken == false)
        #expect(counter.count >= 15_000)
    }

    @Test("Slow calls run beside the loop, in order, and come back on it")
    func slow() throws {
        let running = try RunningLoop(limits: limits())
        let results = Monitor<[Int]>([])
        let gate = Monitor(false)
        let turns = running.sync { loop -> Bool in
            let loopThread = currentThreadID()
            for index in 0..<5 {
                loop.runSlow(
                    { () -> (Int, Int32) in
                        _ = gate.wait(until: MonotonicClock.now() + .seconds(30)) { $0 ? true : nil }
                        return (index, currentThreadID())
                    },
                    then: { result in
                        let isRight = result.1 != loopThread && currentThreadID() == loopThread
                        results.update { $0.append(isRight ? result.0 : -1) }
                    })
            }
            return true
        }
        #expect(turns == true)
        #expect(running.sync { _ in true } == true, "the loop is not held up")
        gate.update { $0 = true }
        #expect(
            results.wait(until: MonotonicClock.now() + .seconds(30)) { $0.count == 5 ? $0 : nil } == [0, 1, 2, 3, 4])
        running.stop()
    }

    @Test("The queue of slow calls is bounded")
    func slowBounded() throws {
        var limits = limits()
        limits.slowMax = 2
        let running = try RunningLoop(limits: limits)
        let gate = Monitor(false)
        let refused = running.sync { loop -> Int in
            var refused = 0
            for _ in 0..<10 {
                let isTaken = loop.runSlow(
                    { _ = gate.wait(until: MonotonicClock.now() + .seconds(30)) { $0 ? true : nil } }, then: {})
                if !isTaken { refused += 1 }
            }
            return refused
        }
        #expect(refused == 7 || refused == 8)
        gate.update { $0 = true }
        running.stop()
    }

    @Test("A signal comes to the handler")
    func signals() throws {
        let got = Monitor<Int32?>(nil)
        let loop = try Loop(name: "signals")
        // SIGPIPE goes to the thread that wrote, so the test runner's other threads are not concerned.
        let thread = try OSThread.spawn(name: "signals") {
            try? loop.onSignals([.pipe]) { information in
                got.update { $0 = information.signal.rawValue }
                loop.stop()
            }
            Self.writeToNobody()
            loop.run()
        }
        #expect(got.wait(until: MonotonicClock.now() + .seconds(10)) { $0 } == SignalNumber.pipe.rawValue)
        thread.join()
    }

    private static func writeToNobody() {
        guard let pipe = try? makePipe() else { return }
        let writing = (try? Descriptor(duplicating: pipe.second.raw))
        _ = consume pipe
        guard let writing else { return }
        let byte: [UInt8] = [1]
        _ = byte.withUnsafeBytes { try? IO.write(writing.raw, $0) }
    }

    @Test("An idle loop sleeps: no turn without a cause, also with spinners")
    func idle() throws {
        let running = try RunningLoop(limits: limits(spin: .microseconds(50)))
        let polls = Atomic<Int>(0)
        _ = running.sync { loop in
            _ = loop.addSpinner { polls.wrappingAdd(1, ordering: .relaxed).newValue < 0 }
            loop.schedule(after: .seconds(3600)) {}
        }
        // Quiet: two looks with 100 ms between them see the same counts.
        let loop = running.loop
        var isQuiet = false
        let deadline = MonotonicClock.now() + .seconds(10)
        while !isQuiet, MonotonicClock.now() < deadline {
            let before = (loop.turnCount, loop.sleepCount, polls.load(ordering: .relaxed))
            var word: UInt32 = 0
            _ = withUnsafePointer(to: &word) {
                try? Futex.wait($0, expected: 0, deadline: MonotonicClock.now() + .milliseconds(100))
            }
            isQuiet = before == (loop.turnCount, loop.sleepCount, polls.load(ordering: .relaxed))
        }
        #expect(isQuiet)
        running.stop()
    }

    @Test("Work announced while the loop goes to sleep is not slept over")
    func spinnerBeforeSleep() throws {
        let loop = try Loop(name: "test", limits: limits(spin: .microseconds(10)))
        var pending = 100
        _ = loop.addSpinner(
            {
                guard pending % 2 == 1 else { return false }
                pending -= 1
                if pending == 0 { loop.stop() }
                return true
            },
            beforeSleep: {
                pending -= 1
                if pending == 0 { loop.stop() }
                return true
            })
        loop.run()
        #expect(pending <= 0)
    }

    @Test("Stopped from another thread, a sleeping loop returns")
    func stopFromOutside() throws {
        let running = try RunningLoop(limits: limits())
        #expect(running.sync { _ in true } == true)
        running.stop()
    }
}

@Suite("Spin budget")
struct SpinBudgetTests {
    private func sleep(_ budget: inout SpinBudget, _ microseconds: Int64, times: Int = 1) {
        let start = Instant(nanoseconds: 1_000_000)
        for _ in 0..<times { budget.slept(since: start, until: start + .microseconds(microseconds)) }
    }

    @Test("Spins after short sleeps in a row, stops when it is of no use")
    func adapts() {
        var budget = SpinBudget(limit: .microseconds(40))
        #expect(budget.isZero, "cold at first")
        sleep(&budget, 50, times: 2)
        sleep(&budget, 50_000)
        sleep(&budget, 50, times: 2)
        #expect(budget.isZero)
        sleep(&budget, 600)
        #expect(budget.isZero, "late is no sign of traffic, and none of its end")
        sleep(&budget, 50)
        #expect(budget.current == .microseconds(40))
        budget.spent()
        #expect(budget.current == .microseconds(20))
        let start = Instant(nanoseconds: 1)
        budget.found(since: start, now: start + .microseconds(2))
        #expect(budget.current == .microseconds(40))
        budget.spent()
        budget.found(since: start, now: start + .microseconds(39))
        #expect(budget.current == .microseconds(40))
        for _ in 0..<4 { budget.spent() }
        #expect(budget.isZero)
    }

    @Test("Ends where somebody else had the processor for longer than it polls")
    func late() {
        var budget = SpinBudget(limit: .microseconds(40))
        sleep(&budget, 50, times: 3)
        #expect(!budget.isZero)
        budget.found(since: .start, now: .start + .microseconds(41))
        #expect(budget.isZero, "found late is found by luck")
        sleep(&budget, 50, times: 5)
        #expect(budget.isZero, "and tried again more rarely")
        sleep(&budget, 50)
        #expect(!budget.isZero)
    }

    @Test("Knows a shared processor by how long giving way takes, and gives way there without delay")
    func sharing() {
        var budget = SpinBudget(limit: .microseconds(40))
        let start = MonotonicClock.now()
        #expect(!budget.isShared)
        #expect(budget.giveWay(since: start, now: start) == start, "a local answer may be there at once")
        #expect(!budget.isShared)
        budget.gaveWay(from: start, until: start + .microseconds(3))
        #expect(!budget.isShared, "the first call after a rest takes as long")
        budget.gaveWay(from: start, until: start + .microseconds(3))
        #expect(budget.isShared)
        #expect(budget.giveWay(since: start, now: start) > start)
        budget.gaveWay(from: start, until: start + .microseconds(3))
        budget.gaveWay(from: start, until: start + .nanoseconds(400))
        #expect(!budget.isShared)
        #expect(budget.giveWay(since: start, now: start + .microseconds(4)) > start)
    }

    @Test("Each failure asks for more signs of traffic, a success for few again")
    func patience() {
        var budget = SpinBudget(limit: .microseconds(40))
        var needed: [Int] = []
        for _ in 0..<10 {
            var sleeps = 0
            while budget.isZero {
                sleep(&budget, 20)
                sleeps += 1
            }
            needed.append(sleeps)
            while !budget.isZero { budget.spent() }
        }
        #expect(needed == [3, 6, 12, 24, 48, 96, 96, 96, 96, 96])
        sleep(&budget, 20, times: 96)
        budget.found(since: .start, now: .start + .microseconds(1))
        while !budget.isZero { budget.spent() }
        sleep(&budget, 20, times: 6)
        #expect(!budget.isZero)
    }

    @Test("Polls longer for the answer of who was woken, once, and not on a shared processor")
    func wakes() {
        var budget = SpinBudget(limit: .microseconds(100))
        let start = Instant(nanoseconds: 1_000_000)
        budget.woke()
        #expect(budget.end(from: start) == start, "sleeps at once where polling is of no use")
        sleep(&budget, 130, times: SpinBudget.patienceMin)
        budget.woke()
        #expect(budget.end(from: start) == start + .microseconds(200))
        budget.found(since: start, now: start + .microseconds(130))
        #expect(budget.end(from: start) == start + .microseconds(100))
        budget.woke()
        budget.gaveWay(from: start, until: start + .microseconds(3))
        #expect(budget.end(from: start) == start + .microseconds(200), "a slow call alone is no sign of somebody else")
        budget.gaveWay(from: start, until: start + .microseconds(3))
        #expect(budget.end(from: start) == start + .microseconds(100))
        budget.woke()
        #expect(budget.end(from: start) == start + .microseconds(100))
    }

    @Test("One late answer of who was woken does not make polling miss the next ones by a little")
    func oneLateAnswer() {
        var budget = SpinBudget(limit: .microseconds(100))
        func pollInVain() {
            budget.woke()
            budget.spent()
        }
        sleep(&budget, 130, times: SpinBudget.patienceMin)
        pollInVain()
        sleep(&budget, 240)  // 440 µs in all
        #expect(budget.current == .microseconds(50))
        pollInVain()
        sleep(&budget, 30)  // 180 in all: the whole budget would have found it
        #expect(budget.current == .microseconds(100))
        pollInVain()
        sleep(&budget, 30)  // 230 in all
        #expect(budget.current == .microseconds(50))
        budget.spent()
        sleep(&budget, 30)  // of who was awake: 80 in all
        #expect(budget.current == .microseconds(25))
    }

    @Test("With a limit of zero it never spins")
    func never() {
        var budget = SpinBudget(limit: .zero)
        sleep(&budget, 1, times: 2000)
        #expect(budget.isZero)
    }

    @Test("Never with one CPU, never beyond the bound, off when set to 0")
    func setting() {
        #expect(Spinning.limit(setting: nil, cpuCount: 1) == .zero)
        #expect(Spinning.limit(setting: "100", cpuCount: 1) == .zero)
        #expect(Spinning.limit(setting: "0", cpuCount: 4) == .zero)
        #expect(Spinning.limit(setting: nil, cpuCount: 2) == .microseconds(40))
        #expect(Spinning.limit(setting: nil, cpuCount: 2, standard: 100) == .microseconds(100))
        #expect(Spinning.limit(setting: "0", cpuCount: 2, standard: 100) == .zero)
        #expect(Spinning.limit(setting: nil, cpuCount: 1, standard: 100) == .zero)
        #expect(Spinning.limit(setting: "99999", cpuCount: 2) == .microseconds(1000))
        #expect(Spinning.limit(setting: "nonsense", cpuCount: 2) == .microseconds(40))
    }
}
