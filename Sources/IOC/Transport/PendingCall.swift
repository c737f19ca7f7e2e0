import EngineKit
import OSAL
import SAFTypes
import Synchronization

/// One call of an ``IOCConnection`` on its way; reused when it is through. Guarded by the connection's lock, but for
/// ``word``, on which its thread sleeps.
final class PendingCall: @unchecked Sendable {
    enum Kind {
        case blocking
        /// Completed by the background thread, too.
        case asynchronous
        /// Completed by whoever reads next, at the latest by the owner of the push descriptor.
        case polled
    }

    var kind = Kind.blocking
    var number: UInt64 = 0
    var code: UInt16 = 0
    var lane = Lane.normal
    var body: [UInt8] = []
    /// Encoders write here; kept for the next call, so that encoding allocates nothing.
    var writer = ByteWriter()
    var usesWriter = false
    var descriptors: [SharedDescriptor] = []
    /// Of a polled call.
    var deadline = Instant.distantFuture
    var wasSent = false
    var isDone = false
    var error: CallError?
    var reply = Reply(body: [], descriptors: [])
    var completion: (@Sendable (Result<Reply, CallError>) -> Void)?
    /// The task that made it was cancelled, and does not wait any more.
    var isAbandoned = false

    /// Its thread sleeps on the word, or is about to: whoever reads for itself costs nobody a system call.
    var isSleeping = false

    /// Counts the reasons to look again.
    let word: UnsafeMutablePointer<UInt32>

    init() {
        word = .allocate(capacity: 1)
        word.initialize(to: 0)
    }

    deinit { word.deallocate() }

    private var counter: UnsafeMutablePointer<Atomic<UInt32>> {
        UnsafeMutableRawPointer(word).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    /// To be read under the lock before sleeping on it.
    var wakeCount: UInt32 { counter.pointee.load(ordering: .acquiring) }

    func wake() {
        counter.pointee.wrappingAdd(1, ordering: .acquiringAndReleasing)
        if isSleeping { Futex.wake(UnsafePointer(word), count: 1) }
    }

    func withBody<Result>(_ use: (UnsafeRawBufferPointer) -> Result) -> Result {
        usesWriter ? writer.bytes.withUnsafeBytes(use) : body.withUnsafeBytes(use)
    }

    func clear() {
        body = []
        writer.removeAll()
        usesWriter = false
        if !descriptors.isEmpty { descriptors = [] }
        wasSent = false
        isDone = false
        error = nil
        reply = Reply(body: [], descriptors: [])
        completion = nil
        isAbandoned = false
        kind = .blocking
        isSleeping = false
        deadline = .distantFuture
    }
}
