import EngineKit
import Testing

@testable import OSAL

@Suite struct TimingWheelTests {
    /// The simplest thing that could be right: a list, scanned.
    struct Model {
        struct Entry {
            let id: Int
            let tick: UInt64
            let order: Int
        }
        var entries: [Entry] = []
        var order = 0
        var processed: UInt64  // ticks up to here are done

        mutating func start(_ id: Int, at deadline: Instant) {
            let tick = max((deadline.nanoseconds + 999_999) / 1_000_000, processed)
            entries.append(Entry(id: id, tick: tick, order: order))
            order += 1
        }

        mutating func advance(to now: Instant) -> [Int] {
            let tick = max(now.nanoseconds / 1_000_000, processed == 0 ? 0 : processed - 1)
            let due = entries.filter { $0.tick <= tick }.sorted { ($0.tick, $0.order) < ($1.tick, $1.order) }
            entries.removeAll { $0.tick <= tick }
            processed = max(processed, tick + 1)
            return due.map(\.id)
        }
    }

    @Test(
        "Any history of starts, cancels and advances fires what a plain list would, in the same order",
        arguments: 0..<150 as Range<UInt64>)
    func likeTheModel(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        let scales: [UInt64] = [3, 300, 70_000, 20_000_000, 5_000_000_000, 20_000_000_000]
        var now = Instant(nanoseconds: UInt64.random(in: 0...(1 << 52), using: &random))
        var wheel = TimingWheel<Int>(now: now)
        var model = Model(processed: now.nanoseconds / 1_000_000)
        var handles: [Int: TimerHandle] = [:]
        for id in 0..<400 {
            let scale = scales[Int.random(in: 0..<scales.count, using: &random)]
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let ahead = UInt64.random(in: 0...(scale * 1_000_000), using: &random)
                let back = random.chance(percent: 10) ? UInt64(5_000_000) : 0
                let deadline = Instant(nanoseconds: now.nanoseconds + ahead - min(back, now.nanoseconds))
                handles[id] = wheel.start(at: deadline, id)
                model.start(id, at: deadline)
            case 5..<7:
                guard let victim = model.entries.randomElement(using: &random)?.id, let handle = handles[victim] else {
                    continue
                }
                model.entries.removeAll { $0.id == victim }
                #expect(wheel.isRunning(handle), "seed \(seed)")
                let (first, second) = (wheel.cancel(handle), wheel.cancel(handle))
                #expect(first && !second, "seed \(seed): a handle is good for one cancel")
            default:
                now = Instant(nanoseconds: now.nanoseconds + UInt64.random(in: 0...(scale * 500_000), using: &random))
                if let next = model.entries.map(\.tick).min() {
                    let promised = wheel.nextDeadline
                    #expect(
                        promised != nil && promised!.nanoseconds <= next * 1_000_000,
                        "seed \(seed): would sleep too long")
                } else {
                    #expect(wheel.nextDeadline == nil, "seed \(seed)")
                }
                var fired: [Int] = []
                wheel.advance(to: now) { fired.append($0) }
                let expected = model.advance(to: now)
                #expect(fired == expected, "seed \(seed)")
                let cancelled = fired.contains { handles[$0].map { wheel.cancel($0) } ?? true }
                #expect(!cancelled, "seed \(seed): a fired timer cannot be cancelled")
            }
            #expect(wheel.count == model.entries.count, "seed \(seed)")
        }
    }

    @Test("Sleeping until nextDeadline again and again reaches every timer without firing it early")
    func nextDeadlineLeadsToTheTimer() {
        var now = Instant(nanoseconds: 77_777_777)
        var wheel = TimingWheel<Int>(now: now)
        let deadline = now + .seconds(100_000)
        _ = wheel.start(at: deadline, 1)
        var turns = 0
        var fired = false
        while !fired, let next = wheel.nextDeadline, turns < 20 {
            #expect(next >= now)
            now = max(next, now)
            wheel.advance(to: now) { _ in fired = true }
            if fired { #expect(now >= deadline && now < deadline + .milliseconds(1)) }
            turns += 1
        }
        #expect(fired && turns <= 5, "\(turns) turns")
    }

    @Test(
        "A few timers, however far ahead, are reached without a wake-up between them", arguments: [1, 2, 3] as [UInt64])
    func noWakeUpForNothing(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var now = Instant(nanoseconds: UInt64.random(in: 0...(1 << 50), using: &random))
        var wheel = TimingWheel<Int>(now: now)
        for id in 0..<TimingWheel<Int>.scannedMax {
            let ahead = UInt64.random(in: 0...(1 << (20 + 2 * UInt64(id))), using: &random)
            _ = wheel.start(at: Instant(nanoseconds: now.nanoseconds + ahead), id)
        }
        while let next = wheel.nextDeadline {
            now = max(now, next)
            var fired = 0
            wheel.advance(to: now) { _ in fired += 1 }
            #expect(fired > 0, "seed \(seed): woken for nothing at \(now)")
        }
        #expect(wheel.count == 0, "seed \(seed)")
    }

    @Test("A timer that callbacks start for now waits for the next tick, so a turn always ends")
    func restartingAtOnceEnds() {
        let now = Instant(nanoseconds: 5_000_000)
        var wheel = TimingWheel<Int>(now: now)
        _ = wheel.start(at: now, 0)
        var fired = 0
        while wheel.popDue(at: now) != nil {
            fired += 1
            _ = wheel.start(at: now, fired)
        }
        #expect(fired == 1)
        let next = wheel.popDue(at: now + .milliseconds(1))
        #expect(next == 1)
    }

    @Test("A timer due in the same turn can be cancelled by an earlier one")
    func cancelledByAnEarlierOne() {
        var wheel = TimingWheel<Int>(now: .start)
        _ = wheel.start(at: Instant(nanoseconds: 1_000_000), 1)
        let second = wheel.start(at: Instant(nanoseconds: 2_000_000), 2)
        let later = Instant(nanoseconds: 9_000_000)
        let fired = wheel.popDue(at: later)
        #expect(fired == 1)
        let cancelled = wheel.cancel(second)
        #expect(cancelled)
        let nothing = wheel.popDue(at: later)
        #expect(nothing == nil)
    }

    @Test("The end of time is a deadline like another")
    func distantFuture() {
        var wheel = TimingWheel<Int>(now: Instant(nanoseconds: 1))
        let handle = wheel.start(at: .distantFuture, 1)
        wheel.advance(to: Instant(nanoseconds: 1 << 60)) { _ in Issue.record("fired early") }
        let cancelled = wheel.cancel(handle)
        #expect(cancelled)
    }

    @Test("A handle of a reused place does not cancel the new timer")
    func generations() {
        var wheel = TimingWheel<Int>(now: .start)
        let old = wheel.start(at: Instant(nanoseconds: 1), 1)
        let first = wheel.cancel(old)
        let new = wheel.start(at: Instant(nanoseconds: 1), 2)
        let second = wheel.cancel(old)
        #expect(first && !second)
        #expect(wheel.isRunning(new))
    }
}
