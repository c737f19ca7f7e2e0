import EngineKit
import Synchronization

internal import COSAL
internal import Glibc

/// A thread of this process; all signals are blocked in it, so they go to whoever holds the ``SignalDescriptor``.
public final class OSThread: Sendable {
    private let handle: pthread_t
    private let isJoined = Atomic<Bool>(false)

    private init(handle: pthread_t) { self.handle = handle }

    /// Starts `body` on a thread of its own. `name` shows its first 15 bytes in ps and in debuggers.
    public static func spawn(
        name: String, stackSize: Int = 256 * 1024, body: @escaping @Sendable () -> Void
    ) throws(OSError) -> OSThread {
        var attributes = pthread_attr_t()
        pthread_attr_init(&attributes)
        defer { pthread_attr_destroy(&attributes) }
        pthread_attr_setstacksize(&attributes, max(stackSize, 64 * 1024))
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        defer { pthread_sigmask(SIG_SETMASK, &before, nil) }
        let start = Unmanaged.passRetained(ThreadStart(name: name, body: body))
        var handle = pthread_t()
        let code = pthread_create(&handle, &attributes, runThread, start.toOpaque())
        if code != 0 {
            start.release()
            throw OSError(code: code, call: "pthread_create", subject: name)
        }
        return OSThread(handle: handle)
    }

    deinit {
        if !isJoined.load(ordering: .acquiring) { pthread_detach(handle) }
    }

    /// Waits for the thread's end. Later calls return at once.
    public func join() {
        if !isJoined.exchange(true, ordering: .acquiringAndReleasing) { pthread_join(handle, nil) }
    }

    /// The kernel's number of the calling thread.
    public static var currentID: Int32 { cosal_gettid() }

    /// Names the calling thread; its first 15 bytes are kept.
    public static func setName(_ name: String) { setThreadName(name) }

    /// Lets the calling thread run before every thread of normal priority as soon as it is woken; its children start
    /// normal again. False without the right to it (CAP_SYS_NICE). For threads that do little and must do it at once.
    ///
    /// Source: sched_setscheduler(2), SCHED_RR with the lowest priority, SCHED_RESET_ON_FORK.
    @discardableResult
    public static func runFirst() -> Bool {
        let resetOnFork: Int32 = 0x4000_0000
        var parameter = sched_param()
        parameter.sched_priority = 1
        return sched_setscheduler(0, SCHED_RR | resetOnFork, &parameter) == 0
    }

    /// Lets the calling thread wait; never a loop's. Source: clock_nanosleep(2).
    public static func sleep(_ time: Duration) {
        var end = cosal_timespec((MonotonicClock.now() + max(.zero, time)).nanoseconds)
        while clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, nil) == EINTR {}
    }

    /// From now on the calling thread runs on that processor only, counted from 0 among those it may use; nil: on all
    /// of them. False when there is no such processor. For measurements. Source: sched_setaffinity(2).
    @discardableResult
    public static func run(on processor: Int?) -> Bool {
        _ = Environment.cpuCount  // of the machine, not of this thread: counted before
        return cosal_run_on_cpu(Int32(processor ?? -1)) == 0
    }

    /// Gives the CPU to another runnable thread.
    public static func yield() { sched_yield() }
}

/// The kernel's number of the calling thread, as ``RobustMutex`` keeps it in its lock word.
public func currentThreadID() -> Int32 { cosal_gettid() }

private final class ThreadStart {
    let name: String
    let body: @Sendable () -> Void
    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}

// Free functions: a closure made in a main-actor context would carry a check that traps on another thread.
private func runThread(_ argument: UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? {
    guard let argument else { return nil }
    let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
    setThreadName(start.name)
    start.body()
    return nil
}

private func setThreadName(_ name: String) {
    let bytes = Array(name.utf8.prefix(15)) + [0]
    _ = bytes.withUnsafeBytes { prctl_name($0.baseAddress) }
}

private func prctl_name(_ name: UnsafeRawPointer?) -> Int32 { cosal_prctl(PR_SET_NAME, UInt(bitPattern: name)) }

/// A value behind a lock, with waiting for it to change: the meeting place of a thread pool and its owner.
public final class Monitor<State: ~Copyable>: @unchecked Sendable {
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var state: State

    public init(_ state: consuming sending State) {
        self.state = state
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Runs `body` alone with the value, then wakes every waiter.
    public func update<Result: ~Copyable, Failure: Error>(
        _ body: (inout State) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        pthread_mutex_lock(mutex)
        defer {
            pthread_cond_broadcast(condition)
            pthread_mutex_unlock(mutex)
        }
        return try body(&state)
    }

    /// Runs `body` at once and after every update until it returns a value; nil when the deadline comes first.
    public func wait<Result>(until deadline: Instant?, _ body: (inout State) -> Result?) -> Result? {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while true {
            if let result = body(&state) { return result }
            guard let deadline else {
                pthread_cond_wait(condition, mutex)
                continue
            }
            var limit = cosal_timespec(min(deadline.nanoseconds, UInt64(Int64.max)))
            if pthread_cond_timedwait(condition, mutex, &limit) == ETIMEDOUT { return body(&state) }
        }
    }
}
