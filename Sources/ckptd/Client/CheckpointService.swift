import CkptProtocol
import EngineKit
import IOC
public import OSAL
import SAFTypes
import Synchronization

/// This process's connection with the node's checkpoint service. Thread-safe; one is enough for a process.
///
/// When ckptd restarts, calls wait for it inside their timeouts, checkpoints stay open, and subscriptions go on where
/// they were.
public final class CheckpointService: Sendable {
    /// The one that ``Checkpoint/open(_:_:creating:timeout:in:)`` uses; places from the environment.
    public static let shared = CheckpointService(places: .fromEnvironment())

    let connection: IOCConnection
    let marks: SystemString
    let mappings = ReplicaMappings()
    let watchers = Lock(Watchers())
    private let strict = Atomic(false)
    let hasLeft = Atomic(false)
    private let followers = Lock(Numbered<Follower>())
    let keeping = Lock(false)
    private let refusalText = Lock<Words>("")
    #if !SAF_LIBRARY
        private let refusalIsAnswer = Atomic(false)
        /// Whether ckptd said ``lastRefusal``; else nothing was heard of it.
        public var isLastRefusalAnswer: Bool { refusalIsAnswer.load(ordering: .relaxed) }
    #endif
    private let seenDrops = Lock<UInt64>(0)
    #if SAF_LIBRARY
        /// Pushes are handed on in their order, whoever polls.
        let polling = Lock(())
        /// Which operation of a request was refused last, by the thread that asked.
        let refusedOperations = Lock(Numbered<RefusedOperation>())
    #endif

    public init(places: Places) {
        connection = IOCConnection(to: .wellKnown(.ckptd), places: places)
        marks = "\(places.runDirectory)\(ClosedMark.file)"
        #if SAF_LIBRARY
            // Connections are made by threads that call through us, so we live; Embedded Swift has no weak references.
            let unowned = Unmanaged.passUnretained(self)
            connection.onEstablished { _ in unowned.takeUnretainedValue().isConnected() }
        #else
            connection.onEstablished { [weak self] _ in self?.isConnected() }
        #endif
    }

    deinit {
        #if SAF_LIBRARY
            connection.close()
        #else
            if !hasLeft.load(ordering: .relaxed) { Self.leave(connection, marks, hadOpens: keeping.withLock { $0 }) }
        #endif
    }

    private func isConnected() {
        mappings.renew()
        subscribeAll()
    }

    /// Names this client to ckptd, over all connections.
    static func session(_ connection: IOCConnection) -> ClientSession {
        ClientSession(high: connection.session.high, low: connection.session.low)
    }

    /// Closes an open without waiting. When ckptd is away it is told when it is back, by us or by the mark.
    func closeSoon(_ handle: HandleID) {
        if hasLeft.load(ordering: .relaxed) { return }  // and so has everything it had open
        if !connection.isUp { _ = ProcessMarks.mark(ClosedMark.number(of: handle), in: marks) }
        callSoon(.close, CkptRequest.close(handle).body, timeout: .seconds(3600)) { _ in }
        #if SAF_LIBRARY
            // It may have started, and looked for marks, before there was ours.
            if !connection.isUp { connection.connectNow() }
        #endif
    }

    /// The service's words for the last call that was refused in this process, for people and logs.
    public var lastRefusal: Words { refusalText.withLock { $0 } }

    func failure(_ error: CallError) -> AisError {
        refusalText.withLock { $0 = error.text }
        #if SAF_LIBRARY
            noteRefusedOperation(error.said)
        #else
            refusalIsAnswer.store(error.isAnswer, ordering: .relaxed)
        #endif
        return error.code
    }

    /// Whether calls are refused with `.unavailable`, and at once, while this node is not a member of the cluster: it
    /// has no quorum, or was locked. Else they wait inside their timeouts, and a lock concerns nobody. When the node is
    /// a member again a service that was there before stays refused: only closing is of use. Set it before the first
    /// call. Source: B.02 of the service; B.01 knows no such code.
    public var requiresMembership: Bool {
        get { strict.load(ordering: .relaxed) }
        set { strict.store(newValue, ordering: .relaxed) }
    }

    /// What stands in the frame of a call. Giving something back is never refused for want of membership.
    func frameCode(_ code: CkptCode) -> UInt16 {
        let isStrict = requiresMembership && code != .close && code != .unsubscribe
        return isStrict ? code.rawValue | CkptCode.strictBit : code.rawValue
    }

    // MARK: Calls

    func call<Value>(
        _ code: CkptCode, timeout: Duration, _ encode: (inout ByteWriter) -> Void,
        _ decode: (inout ByteReader) throws(DecodeError) -> Value
    ) throws(AisError) -> Value {
        try Self.decoded(try ask(code, timeout: timeout, encode), decode)
    }

    // Out of line, once for all kinds of answers: it keeps the C library small.
    @inline(never)
    func ask(_ code: CkptCode, timeout: Duration, _ encode: (inout ByteWriter) -> Void) throws(AisError) -> Reply {
        do throws(CallError) {
            return try connection.call(frameCode(code), timeout: timeout, encoding: encode)
        } catch {
            throw failure(error)
        }
    }

    static func decoded<Value>(
        _ reply: Reply, _ decode: (inout ByteReader) throws(DecodeError) -> Value
    ) throws(AisError) -> Value {
        var value: Value?
        try read(reply) { reader throws(DecodeError) in value = try decode(&reader) }
        guard let value else { throw .library }
        return value
    }

    @inline(never)
    private static func read(
        _ reply: Reply, _ take: (inout ByteReader) throws(DecodeError) -> Void
    ) throws(AisError) {
        for descriptor in reply.descriptors { IO.close(descriptor) }
        var isRead = false
        reply.withBody { bytes in
            var reader = ByteReader(bytes)
            do throws(DecodeError) {
                try take(&reader)
                try reader.finish()
                isRead = true
            } catch {}  // an answer we cannot read is the library's error, below
        }
        guard isRead else { throw .library }
    }

    // MARK: Subscriptions

    func follow(_ handle: HandleID, _ follower: Follower) {
        let old = followers.withLock { followers in
            defer { followers[handle.rawValue] = follower }
            return followers[handle.rawValue]
        }
        if let old, old !== follower { old.finish() }
    }

    func unfollow(_ handle: HandleID, _ follower: Follower) {
        followers.withLock { followers in
            if followers[handle.rawValue] === follower { followers[handle.rawValue] = nil }
        }
    }

    /// An open was replaced by another: whoever follows goes on there.
    func moved(from old: HandleID, to new: HandleID) {
        let follower = followers.withLock { followers in
            let follower = followers.remove(old.rawValue)
            followers[new.rawValue] = follower
            return follower
        }
        follower?.restart()
    }

    func endSequences() {
        for follower in followers.withLock({ $0.inOrder }) { follower.finish() }
        for watcher in watchers.withLock({ $0.byHandle.inOrder }) { watcher.finish() }
    }

    func endFollowing(_ handle: HandleID) { followers.withLock { $0[handle.rawValue] }?.finish() }

    func subscribeAll() {
        let all = followers.withLock { $0.inOrder }
        for follower in all { follower.subscribe() }
        watchAll()
    }

    /// On the runtime's thread, in order.
    func received(_ push: Push) {
        for descriptor in push.descriptors { IO.close(descriptor) }
        guard push.body.count >= 8 else { return }
        let raw = push.body.withUnsafeBytes { UInt64(littleEndian: $0.loadUnaligned(as: UInt64.self)) }
        if push.code == CkptPush.replicas {
            receivedReplicas(raw, push.body)
        } else if let follower = followers.withLock({ $0[raw] }) {
            if push.code == CkptPush.update { follower.received(push.body) } else { follower.subscribe() }
        }
        // What the connection itself had to drop would be missed only when the next update comes, if ever.
        let dropped = connection.droppedPushes
        let isNew = seenDrops.withLock { seen in
            defer { seen = dropped }
            return seen != dropped
        }
        if isNew { subscribeAll() }
    }
}
