import EngineKit
import OSAL
import SAFTypes
import Synchronization

/// Names one watched descriptor of a loop; never valid again after `unwatch`.
public struct WatchID: Hashable, Sendable {
    let index: Int
    let generation: UInt32
}

/// Names one timer of a loop; never valid again after it fired (one-shot) or was cancelled.
public struct LoopTimer: Hashable, Sendable {
    let index: Int
    let generation: UInt32
}

/// Names one spinner of a loop.
public struct SpinnerID: Hashable, Sendable {
    let number: UInt64
}

/// Bounds of a loop; reaching one is reported to the caller, never hidden.
public struct LoopLimits: Sendable {
    /// Jobs that may wait in one lane.
    public var jobsMax = 8192
    /// Jobs of other threads that may wait, all lanes together.
    public var postsMax = 65536
    /// Slow calls that may wait for the worker.
    public var slowMax = 1024
    /// Jobs run in one turn before descriptors and timers are looked at again.
    public var batch = 64
    /// The most to poll before sleeping; zero never polls.
    public var spin = Spinning.limit

    public init() {}
}

/// The daemons' single-threaded reactor: descriptors, timers, jobs in four lanes and one worker for slow calls.
///
/// Everything happens on the thread that calls ``run()``, and everything is called there, except ``post(_:_:)`` and
/// ``stop()``, which any thread may call. One turn: ready descriptors (urgent lanes first), due timers, posts of other
/// threads, a bounded batch of jobs, spinners. An idle loop is blocked in epoll_wait(2) with no timeout but the next
/// timer's.
public final class Loop: @unchecked Sendable {
    public let name: StaticString
    public let limits: LoopLimits
    /// The time of this turn; read once per turn.
    public internal(set) var now: Instant
    /// How often the loop has gone to sleep and was woken. An idle loop's count stands still.
    public private(set) var sleepCount: UInt64 = 0
    /// Turns taken so far.
    public private(set) var turnCount: UInt64 = 0

    /// What a library keeps once for each loop, by its type; released with the loop. Loop thread only.
    public var attachments: [ObjectIdentifier: AnyObject] = [:]

    let poller: Poller
    private let bell: Doorbell
    private var events: [PollEvent] = []
    private var watches = WatchTable()
    var timers = TimerTable()
    private var queues: [JobQueue]
    private let inbox = Mutex(Inbox())
    private let hasPosts = Atomic<Bool>(false)
    private let maySleep = Atomic<Bool>(false)
    private let isStopping = Atomic<Bool>(false)
    private var spinners: [Spinner] = []
    private var spinnerNumber: UInt64 = 0
    private var budget: SpinBudget
    /// Set by a spinner while each of its polls is a system call: then few of them are many microseconds.
    public var pollsKernel = false
    private var spinUntil: Instant?
    private var spinSince = Instant.start
    private var lastSleep: (start: Instant, end: Instant)?
    private var sleptSince: Instant?
    /// Held by whoever takes the loop's turn: free while it waits for descriptors.
    private let turnLock = Lock(())
    private var worker: SlowWorker?
    var signalWatches: [SignalWatch] = []

    private static let bellToken = UInt64.max
    /// While polling for work, descriptors are looked at this often.
    private static let spinSliceNanoseconds: UInt64 = 15_000

    private struct Inbox {
        var lanes: [[@Sendable () -> Void]] = Lane.allCases.map { _ in [] }
        var count = 0
    }

    private struct Spinner {
        let number: UInt64
        let poll: () -> Bool
        let beforeSleep: () -> Bool
    }

    public init(name: StaticString, limits: LoopLimits = LoopLimits()) throws(OSError) {
        self.name = name
        self.limits = limits
        now = MonotonicClock.now()
        poller = try Poller()
        bell = try Doorbell()
        queues = Lane.allCases.map { _ in JobQueue(limit: limits.jobsMax) }
        budget = SpinBudget(limit: limits.spin)
        try poller.add(bell.raw, interest: [.read, .edgeTriggered], token: Self.bellToken)
    }

    // MARK: Descriptors

    /// Watches a descriptor that stays the caller's; it must be unwatched before it is closed.
    ///
    /// - Parameter lane: when several are ready in one turn, handlers of urgent lanes run first.
    /// - Throws: what epoll_ctl(2) says, ENOSPC beyond the user's limit of watches.
    public func watch(
        _ fd: Int32, _ interest: Interest, lane: Lane = .normal, _ handler: @escaping (PollEvent) -> Void
    ) throws(OSError) -> WatchID {
        let id = watches.insert(fd: fd, lane: lane, handler)
        do throws(OSError) {
            try poller.add(fd, interest: interest, token: WatchTable.token(id))
        } catch {
            watches.remove(id)
            throw error
        }
        return id
    }

    public func modify(_ id: WatchID, _ interest: Interest) {
        guard let fd = watches.descriptor(id) else { return }
        do throws(OSError) {
            try poller.modify(fd, interest: interest, token: WatchTable.token(id))
        } catch {
            invariant(false, "loop \(name): a watched descriptor was closed before it was unwatched: \(error)")
        }
    }

    /// Legal from inside handlers, also the watch's own; events of this turn not yet handled are not delivered.
    public func unwatch(_ id: WatchID) {
        guard let fd = watches.remove(id) else { return }
        try? poller.remove(fd)  // closed already: then the kernel has forgotten it, too
    }

    // MARK: Jobs

    /// Puts a job behind the others of its lane; false when the lane is full. Control runs before high before normal
    /// before low.
    @discardableResult
    public func enqueue(_ lane: Lane = .normal, _ job: @escaping () -> Void) -> Bool {
        queues[Int(lane.rawValue)].push(job)
    }

    /// From any thread: runs `job` on the loop. False when ``LoopLimits/postsMax`` jobs wait already.
    @discardableResult
    public func post(_ lane: Lane = .normal, _ job: @escaping @Sendable () -> Void) -> Bool {
        let isTaken = inbox.withLock { inbox in
            guard inbox.count < limits.postsMax else { return false }
            inbox.lanes[Int(lane.rawValue)].append(job)
            inbox.count += 1
            return true
        }
        guard isTaken else { return false }
        // The loop says that it may sleep before it looks here; we say that there is something before we look there.
        hasPosts.store(true, ordering: .sequentiallyConsistent)
        wakeIfAsleep()
        return true
    }

    /// Runs `work` on the loop's worker thread and `then` with its result on the loop, both in order.
    ///
    /// For calls that block: fsync, name look-ups, big copies. False when ``LoopLimits/slowMax`` of them wait already.
    @discardableResult
    public func runSlow<Value: Sendable>(
        _ work: @escaping @Sendable () -> Value, then: @escaping (Value) -> Void
    ) -> Bool {
        let worker = self.worker ?? SlowWorker(name: "\(name)-slow", limit: limits.slowMax)
        self.worker = worker
        let completion = LoopBound(then)  // made and called on the loop only
        return worker.submit { [weak self] in
            let value = work()
            self?.postAlways { completion.value(value) }
        }
    }

    /// From any other thread: runs `job` on the loop, before everything that waits there. While the loop sleeps it is
    /// the calling thread that runs it, at once, in the loop's place: what is urgent does not wait for a second thread
    /// to wake up. Otherwise as ``post(_:_:)`` in the control lane; false when too many wait there.
    @discardableResult
    public func interrupt(_ job: @escaping @Sendable () -> Void) -> Bool {
        let isDone = turnLock.withLockIfAvailable { _ in
            guard maySleep.load(ordering: .sequentiallyConsistent) else { return false }
            now = MonotonicClock.now()
            job()
            return true
        }
        guard isDone == true else { return post(.control, job) }
        wakeIfAsleep()  // for what the job left to be done
        return true
    }

    // MARK: Spinners

    /// Adds something that is polled every turn and while the loop is hot.
    ///
    /// - Parameters:
    ///   - poll: takes a bounded amount of work; true when it did some.
    ///   - beforeSleep: announces to the other side that it must wake us from now on, then looks again; true when there
    ///     is work after all, and the loop does not sleep.
    public func addSpinner(
        _ poll: @escaping () -> Bool, beforeSleep: @escaping () -> Bool = { false }
    ) -> SpinnerID {
        spinnerNumber += 1
        spinners.append(Spinner(number: spinnerNumber, poll: poll, beforeSleep: beforeSleep))
        return SpinnerID(number: spinnerNumber)
    }

    public func removeSpinner(_ id: SpinnerID) { spinners.removeAll { $0.number == id.number } }

    /// From now on the loop polls up to so long before it sleeps, where that is more than before and it polls at all.
    public func pollLonger(upTo limit: Duration) {
        guard budget.limit > .zero, limit > budget.limit else { return }
        budget = SpinBudget(limit: limit)
    }

    // MARK: Running

    /// Runs until ``stop()``; may be called again after it.
    public func run() {
        while !isStopping.load(ordering: .acquiring) { turn() }
        isStopping.store(false, ordering: .releasing)
        worker?.stop()
        worker = nil
    }

    /// From any thread: `run()` returns after the current turn.
    public func stop() {
        isStopping.store(true, ordering: .sequentiallyConsistent)
        wakeIfAsleep()
    }

    private func turn() {
        guard let timeout = turnLock.withLock({ _ in takeTurn() }) else { return }
        // The only time when another thread may take the loop's turn (``interrupt(_:)``).
        do throws(OSError) {
            try poller.wait(into: &events, timeout: timeout)
        } catch {
            invariant(false, "loop \(name): \(error)")
        }
    }

    /// What became ready while the loop waited, then everything else. Returns how long to wait next (nil: without end);
    /// nothing when the loop is to stop.
    private func takeTurn() -> Duration?? {
        turnCount &+= 1
        noteWaited()
        dispatchEvents()
        fireTimers()
        takePosts()
        runJobs()
        if pollSpinners() {
            noteWork()
            takePosts()
            runJobs()  // what the frames brought about does not wait for a look at the descriptors
        }
        if isStopping.load(ordering: .acquiring) { return nil }
        guard queues.allSatisfy(\.isEmpty), spin() == .spent, prepareToSleep() else { return .some(.zero) }
        let timeout = timers.nextDeadline.map { max(.zero, $0 - now) }
        if timeout != .zero { sleptSince = now }
        return .some(timeout)
    }

    private func noteWaited() {
        now = MonotonicClock.now()
        maySleep.store(false, ordering: .relaxed)
        guard let since = sleptSince else { return }
        sleptSince = nil
        sleepCount &+= 1
        lastSleep = (since, now)
        spinUntil = nil
    }

    private func dispatchEvents() {
        if events.count == 1 {
            dispatch(events[0])
            return
        }
        guard !events.isEmpty else { return }
        let batch = events
        for lane in Lane.allCases {
            for event in batch where watches.lane(event.token) == lane { dispatch(event) }
        }
    }

    private func dispatch(_ event: PollEvent) {
        if let handler = watches.handler(event.token) { handler(event) }
    }

    private func runJobs() {
        for _ in 0..<limits.batch {
            guard let lane = queues.firstIndex(where: { !$0.isEmpty }), let job = queues[lane].pop() else { return }
            job()
        }
    }

    private func takePosts() {
        guard hasPosts.load(ordering: .acquiring) else { return }
        hasPosts.store(false, ordering: .sequentiallyConsistent)
        let isMore = inbox.withLock { inbox in
            for lane in 0..<inbox.lanes.count {
                var taken = 0
                while taken < inbox.lanes[lane].count, queues[lane].push(inbox.lanes[lane][taken]) { taken += 1 }
                inbox.count -= taken
                inbox.lanes[lane].removeFirst(taken)
            }
            return inbox.count > 0
        }
        if isMore { hasPosts.store(true, ordering: .releasing) }
    }

    /// For the loop's own worker: its results are bounded by what was submitted.
    private func postAlways(_ job: @escaping @Sendable () -> Void) {
        inbox.withLock { inbox in
            inbox.lanes[Int(Lane.normal.rawValue)].append(job)
            inbox.count += 1
        }
        hasPosts.store(true, ordering: .sequentiallyConsistent)
        wakeIfAsleep()
    }

    private func wakeIfAsleep() {
        if maySleep.exchange(false, ordering: .sequentiallyConsistent) { bell.ring() }
    }

    // MARK: Polling and sleeping

    private enum SpinOutcome { case found, again, spent }

    @inline(__always)
    private func pollSpinners() -> Bool {
        var worked = false
        let active = spinners
        for spinner in active where spinner.poll() { worked = true }
        return worked
    }

    private func noteWork() {
        if let lastSleep {
            budget.slept(since: lastSleep.start, until: lastSleep.end)
            self.lastSleep = nil
        }
        spinSince = now
        spinUntil = budget.isZero ? nil : budget.end(from: now)
    }

    /// Polls for one slice at most. `spent` when there is no reason to poll (any more).
    private func spin() -> SpinOutcome {
        guard let limit = spinUntil else { return .spent }
        let sliceEnd = Instant(nanoseconds: now.nanoseconds &+ Self.spinSliceNanoseconds)
        while true {
            var isFound = false
            for _ in 0..<(budget.isShared || pollsKernel ? 1 : 16) {
                if pollSpinners() {
                    isFound = true
                    break
                }
                if hasPosts.load(ordering: .relaxed) || isStopping.load(ordering: .relaxed) { return .found }
                pause()
            }
            now = MonotonicClock.now()
            if isFound {
                budget.found(since: spinSince, now: now)
                noteWork()
                _ = pollSpinners()  // what they are to send because of it does not wait for a look at the descriptors
                if now >= sliceEnd || queues.contains(where: { !$0.isEmpty }) { return .found }
                continue
            }
            if now >= limit { break }
            if now >= sliceEnd { return .again }
            now = budget.giveWay(since: spinSince, now: now)
        }
        budget.spent()
        spinUntil = nil
        return .spent
    }

    /// Announces sleep to everybody who may wake us; false when there is something to do after all.
    private func prepareToSleep() -> Bool {
        maySleep.store(true, ordering: .sequentiallyConsistent)
        if hasPosts.load(ordering: .sequentiallyConsistent) || isStopping.load(ordering: .sequentiallyConsistent) {
            return false
        }
        let active = spinners
        for spinner in active where spinner.beforeSleep() { return false }
        return queues.allSatisfy(\.isEmpty)
    }
}

/// Something that is made, used and dropped on the loop's thread, carried through another one.
struct LoopBound<Value>: @unchecked Sendable {
    let value: Value
    init(_ value: Value) { self.value = value }
}
