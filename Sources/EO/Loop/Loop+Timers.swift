import EngineKit
import OSAL

/// The timers of a loop: what to call, over the timing wheel that knows when.
struct TimerTable {
    struct Entry {
        var generation: UInt32 = 0
        var handle: TimerHandle?
        var due = Instant.start
        var interval: Duration?
        var body: (() -> Void)?
    }

    private var wheel = TimingWheel<LoopTimer>(now: MonotonicClock.now())
    private var entries: [Entry] = []
    private var free: [Int] = []
    var due: [LoopTimer] = []

    var nextDeadline: Instant? { wheel.nextDeadline }

    mutating func start(at due: Instant, every interval: Duration?, _ body: @escaping () -> Void) -> LoopTimer {
        let index: Int
        if let reused = free.popLast() {
            index = reused
        } else {
            index = entries.count
            entries.append(Entry())
        }
        let timer = LoopTimer(index: index, generation: entries[index].generation)
        entries[index].body = body
        entries[index].interval = interval
        entries[index].due = due
        entries[index].handle = wheel.start(at: due, timer)
        return timer
    }

    mutating func cancel(_ timer: LoopTimer) {
        guard isLive(timer) else { return }
        if let handle = entries[timer.index].handle { _ = wheel.cancel(handle) }
        release(timer.index)
    }

    private mutating func release(_ index: Int) {
        entries[index].body = nil
        entries[index].handle = nil
        entries[index].generation &+= 1
        free.append(index)
    }

    private func isLive(_ timer: LoopTimer) -> Bool {
        timer.index < entries.count && entries[timer.index].generation == timer.generation
            && entries[timer.index].body != nil
    }

    /// Moves what is due into `due`, in order.
    mutating func collect(at now: Instant) {
        while let timer = wheel.popDue(at: now) { due.append(timer) }
    }

    /// The body of a due timer, nil when it was cancelled meanwhile; a repetitive one is started again.
    mutating func take(_ timer: LoopTimer, at now: Instant) -> (() -> Void)? {
        guard isLive(timer), let body = entries[timer.index].body else { return nil }
        guard let interval = entries[timer.index].interval else {
            release(timer.index)
            return body
        }
        // Ticks that were missed are skipped, the phase is kept.
        var next = entries[timer.index].due + interval
        if next <= now {
            let missed = (now - next).nanoseconds / max(1, interval.nanoseconds) + 1
            next = next + .nanoseconds(interval.nanoseconds * missed)
        }
        entries[timer.index].due = next
        entries[timer.index].handle = wheel.start(at: next, timer)
        return body
    }
}

extension Loop {
    /// Runs `body` once, not before `delay` from now; resolution 1 ms.
    @discardableResult
    public func schedule(after delay: Duration, _ body: @escaping () -> Void) -> LoopTimer {
        timers.start(at: MonotonicClock.now() + delay, every: nil, body)
    }

    /// Runs `body` every `interval` (at least 1 ms); a late loop skips ticks and keeps the phase.
    @discardableResult
    public func scheduleRepeating(every interval: Duration, _ body: @escaping () -> Void) -> LoopTimer {
        let interval = max(interval, .milliseconds(1))
        return timers.start(at: MonotonicClock.now() + interval, every: interval, body)
    }

    /// Legal from anywhere on the loop, also from the timer's own body and for timers that are gone.
    public func cancel(_ timer: LoopTimer) { timers.cancel(timer) }

    func fireTimers() {
        guard let next = timers.nextDeadline, next <= now else { return }
        timers.collect(at: now)
        var index = 0
        while index < timers.due.count {
            let timer = timers.due[index]
            index += 1
            if let body = timers.take(timer, at: now) { body() }
        }
        timers.due.removeAll(keepingCapacity: true)
    }
}
