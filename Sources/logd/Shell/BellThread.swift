import EngineKit
import LogProtocol
import OSAL
import Synchronization

/// logd's side of the doorbell: a thread that sleeps on the page's word and calls when a writer has rung.
///
/// A writer's wake reaches the thread whatever the word was when it fell asleep, so the loop may change the word
/// between its own states without a system call.
final class BellThread: @unchecked Sendable {
    private let page: SharedFile
    private let isCalled = Atomic<Bool>(false)
    private let isStopping = Atomic<Bool>(false)
    private let hasEnded = Atomic<Bool>(false)
    private let call: @Sendable () -> Void

    /// - Parameter call: from the thread; not again before ``answer()``.
    init(page: SharedFile, call: @escaping @Sendable () -> Void) {
        (self.page, self.call) = (page, call)
    }

    private var word: UnsafeMutablePointer<Atomic<UInt32>> { page.mapping.base.atomic(at: DoorbellLayout.stateOffset) }
    private var futex: UnsafePointer<UInt32> { UnsafePointer(OpaquePointer(word)) }

    /// How many rings were ever made.
    var ringCount: UInt32 {
        page.mapping.base.atomic(UInt32.self, at: DoorbellLayout.ringsOffset).pointee.load(
            ordering: .sequentiallyConsistent)
    }

    func start() throws(OSError) {
        set(Bell.awake)
        _ = try OSThread.spawn(name: "logd-bell") { [self] in run() }
    }

    private func run() {
        while !isStopping.load(ordering: .acquiring) {
            let seen = word.pointee.load(ordering: .sequentiallyConsistent)
            if seen == Bell.awake, !isCalled.exchange(true, ordering: .acquiringAndReleasing) { call() }
            do throws(OSError) {
                _ = try Futex.wait(futex, expected: seen, deadline: nil)
            } catch {
                break  // no futex: the loop looks by its timer only
            }
        }
        hasEnded.store(true, ordering: .releasing)
    }

    /// The loop looks now: later rings are worth a new call.
    func answer() { isCalled.store(false, ordering: .releasing) }

    /// Sequentially consistent: what is looked at after it was written before its writer read it, or its writer rings.
    func set(_ state: UInt32) { word.pointee.store(state, ordering: .sequentiallyConsistent) }

    /// Ends the thread; writers do not ring for a logd that is gone.
    func stop() {
        set(Bell.awake)
        isCalled.store(true, ordering: .releasing)
        isStopping.store(true, ordering: .releasing)
        let deadline = MonotonicClock.now() + .seconds(1)
        while !hasEnded.load(ordering: .acquiring), MonotonicClock.now() < deadline {
            Futex.wake(futex)
            OSThread.yield()
        }
    }
}
