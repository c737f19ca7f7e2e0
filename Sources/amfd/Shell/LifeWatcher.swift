import EngineKit
import OSAL
import Synchronization

/// The page on which a component holds its life lock, at offset 0 of a memory that cannot shrink, so that neither side
/// can be made to die of SIGBUS. Everything in it is the component's to spoil.
///
/// Source: reference/engine-facts.md §2.
public final class LifePage: Sendable {
    private let memory: Descriptor
    private let mapping: Mapping

    public init() throws(OSError) {
        memory = try AnonymousMemory.create(name: "saf-life", size: Mapping.pageBytes, seal: .size)
        mapping = try Mapping.map(memory.raw, count: Mapping.pageBytes, writable: true)
        try LifeLock.initialize(at: mapping.base)
    }

    /// To be passed to the component.
    public var raw: Int32 { memory.raw }

    var lock: LifeLock { LifeLock(at: mapping.base) }
}

/// Knows of a component's death about 0.2 ms after it, however large it was: threads that sleep on up to 127 life locks
/// each (futex_waitv) and on one control word.
///
/// What a component writes into its own page can only spoil its own watch: it is then given up, and the pidfd decides.
public final class LifeWatcher: Sendable {
    public enum Finding: Hashable, Sendable {
        /// The process is ending: start the recovery.
        case dead
        /// Only the thread that held the lock ended, or the page holds nonsense: the pidfd must tell.
        case unreliable
    }

    /// Words a thread sleeps on besides its control word.
    public static let wordsPerThread = Futex.waitAnyMax - 1
    /// Changes of a lock word, other than its release by the kernel, after which it is not believed any more.
    static let strikesMax = 8

    private let groups = Mutex<[LifeWatchGroup]>([])
    private let tell: LifeWatchGroup.Telling

    /// Both are called on a watcher's thread, at most once per watch.
    ///
    /// - Parameters:
    ///   - onRelease: a first word, so that whoever starts the recovery wakes up while this thread looks closer: the
    ///     kernel has released the lock. If the probe says that the process is ending, it is as good as dead.
    ///   - report: the watch has ended, and why.
    public init(
        onRelease: @escaping @Sendable (UInt64, ExitProbe) -> Void = { _, _ in },
        report: @escaping @Sendable (UInt64, Finding) -> Void
    ) { tell = LifeWatchGroup.Telling(onRelease: onRelease, report: report) }

    /// Watches the lock in `page`, held (or about to be released) by `pid`. `token` names the watch; never reused.
    public func watch(_ token: UInt64, page: LifePage, pid: Int32) throws(OSError) {
        let entry = LifeWatchGroup.Entry(token: token, page: page, pid: pid)
        let tell = self.tell
        try groups.withLock { (groups) throws(OSError) in
            for group in groups where group.add(entry) { return }
            let group = try LifeWatchGroup(tell: tell)
            _ = group.add(entry)  // an empty group takes one
            groups.append(group)
        }
    }

    public func unwatch(_ token: UInt64) {
        groups.withLock { groups in
            for group in groups where group.remove(token) { return }
        }
    }

    /// Ends the threads.
    public func stop() {
        let all = groups.withLock { groups in
            defer { groups = [] }
            return groups
        }
        for group in all { group.stop() }
    }
}

/// One thread and the life locks it sleeps on.
final class LifeWatchGroup: Sendable {
    struct Entry: Sendable {
        let token: UInt64
        let page: LifePage
        let probe: ExitProbe
        var last: UInt32 = 0
        var isInspected = false
        var strikes = 0

        init(token: UInt64, page: LifePage, pid: Int32) {
            self.token = token
            self.page = page
            probe = ExitProbe(pid: pid)
        }
    }

    private struct State {
        var entries: [Entry] = []
        var isStopping = false
    }

    private let state = Mutex(State())
    private let control: ControlWord
    private let tell: Telling

    struct Telling: Sendable {
        let onRelease: @Sendable (UInt64, ExitProbe) -> Void
        let report: @Sendable (UInt64, LifeWatcher.Finding) -> Void
    }

    init(tell: Telling) throws(OSError) {
        self.tell = tell
        control = ControlWord()
        _ = try OSThread.spawn(name: "amfd-life", stackSize: 64 * 1024) { [self] in run() }
    }

    func add(_ entry: Entry) -> Bool {
        let isAdded = state.withLock { state in
            guard state.entries.count < LifeWatcher.wordsPerThread, !state.isStopping else { return false }
            state.entries.append(entry)
            return true
        }
        if isAdded { control.bump() }
        return isAdded
    }

    func remove(_ token: UInt64) -> Bool {
        let isRemoved = state.withLock { state in
            guard let index = state.entries.firstIndex(where: { $0.token == token }) else { return false }
            state.entries.remove(at: index)
            return true
        }
        if isRemoved { control.bump() }
        return isRemoved
    }

    func stop() {
        state.withLock { $0.isStopping = true }
        control.bump()
    }

    private func run() {
        OSThread.runFirst()
        while true {
            let generation = control.value
            var watched: [Entry] = []
            var ended: [Entry] = []
            let isStopping = state.withLock { state in
                for index in state.entries.indices {
                    if state.entries[index].inspect() {
                        watched.append(state.entries[index])
                    } else {
                        ended.append(state.entries[index])
                    }
                }
                state.entries = watched
                return state.isStopping
            }
            if isStopping { return }
            for entry in ended { tell.report(entry.token, entry.finding) }
            if ended.isEmpty { sleep(generation, watched) }
        }
    }

    private func sleep(_ generation: UInt32, _ watched: [Entry]) {
        var words: [(word: UnsafePointer<UInt32>, expected: UInt32)] = [(control.futex, generation)]
        words.reserveCapacity(watched.count + 1)
        for entry in watched { words.append((UnsafePointer(entry.page.lock.word), entry.last)) }
        do throws(OSError) {
            guard let woken = try Futex.waitAny(words, deadline: nil), woken > 0 else { return }
            let entry = watched[woken - 1]
            if entry.page.lock.state == .ownerDied { tell.onRelease(entry.token, entry.probe) }
        } catch {
            // Without futex_waitv (Linux before 5.16, or forbidden) life locks cannot be watched; pidfds remain.
            let all = state.withLock { state in
                defer { state.entries = [] }
                return state.entries
            }
            for entry in all { tell.report(entry.token, .unreliable) }
            // Nothing to watch until the next add.
            _ = try? Futex.wait(control.futex, expected: generation, deadline: nil)
        }
    }
}

extension LifeWatchGroup.Entry {
    /// False when the watch has ended: the lock was released by the kernel, or its word is not to be believed.
    ///
    /// A free lock is slept on as well: who takes it wakes the sleepers on its word.
    mutating func inspect() -> Bool {
        let value = page.lock.armWaiters()
        if LifeLock.state(of: value) == .ownerDied { return false }
        if isInspected && value != last { strikes += 1 }
        isInspected = true
        last = value
        return strikes <= LifeWatcher.strikesMax
    }

    /// Whether the process is ending or only the lock was given up. Between taking SIGKILL off its queue and marking
    /// itself as exiting a process shows neither for some microseconds: look again for a moment.
    var finding: LifeWatcher.Finding {
        guard page.lock.state == .ownerDied else { return .unreliable }
        let deadline = MonotonicClock.now() + .milliseconds(2)
        repeat {
            if probe.isExiting { return .dead }
            pause()
        } while MonotonicClock.now() < deadline
        return .unreliable
    }
}

/// A word of our own to interrupt the sleep: its value counts the changes.
private final class ControlWord: @unchecked Sendable {
    private let memory = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 4)

    init() { memory.storeBytes(of: 0, as: UInt32.self) }
    deinit { memory.deallocate() }

    var value: UInt32 { memory.atomic(UInt32.self).pointee.load(ordering: .acquiring) }
    var futex: UnsafePointer<UInt32> { UnsafePointer(memory.assumingMemoryBound(to: UInt32.self)) }

    func bump() {
        memory.atomic(UInt32.self).pointee.add(1, ordering: .acquiringAndReleasing)
        Futex.wake(futex)
    }
}
