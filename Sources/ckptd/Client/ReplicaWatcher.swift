public import CkptProtocol
import EngineKit
import IOC
import OSAL
import SAFTypes

/// Somebody who wants to know where a checkpoint's replicas are: asks ckptd, keeps the newest answer until it is taken,
/// and asks again after a loss of the connection. States that follow each other quickly may be left out.
public final class ReplicaWatcher: Sendable {
    private struct State {
        var newest: ReplicaSet?
        /// What was taken last.
        var taken: ReplicaSet?
        var waiting: (@Sendable (ReplicaSet?) -> Void)?
        var isFinished = false
        /// Answers of earlier questions are stale.
        var attempt: UInt64 = 0
    }

    private let checkpoint: Checkpoint
    private let onReady: (@Sendable () -> Void)?
    private let state = Lock(State())

    /// - Parameter onReady: told when something can be taken, or nothing will follow; it must not call back.
    init(_ checkpoint: Checkpoint, onReady: (@Sendable () -> Void)? = nil) {
        self.checkpoint = checkpoint
        self.onReady = onReady
    }

    /// Asks ckptd. Never blocks; any thread.
    func subscribe() {
        let (attempt, isFinished) = state.withLock { state in
            state.attempt += 1
            return (state.attempt, state.isFinished)
        }
        if isFinished { return }
        let body = CkptRequest.watchReplicas(checkpoint.handle).body
        checkpoint.service.callSoon(.watchReplicas, body, timeout: .seconds(30)) { [self] result in
            answered(result, attempt)
        }
    }

    private func answered(_ result: Result<Reply, CallError>, _ attempt: UInt64) {
        guard state.withLock({ $0.attempt == attempt && !$0.isFinished }) else { return }
        switch result {
        case .success(let reply):
            guard let set = try? ReplicaSet(decoding: reply.body) else { return finish() }  // not our protocol
            take(set)
        case .failure(let error) where error.code == .badHandle:
            // ckptd has closed our handle, or the checkpoint is gone: if it opens, that has begun us anew.
            checkpoint.reopenSoon { [self] isOpen in if !isOpen { finish() } }
        case .failure(let error) where error.code == .tryAgain || error.code == .timeout:
            checkpoint.service.later(.milliseconds(50)) { [self] in
                if state.withLock({ $0.attempt == attempt && !$0.isFinished }) { subscribe() }
            }
        case .failure: finish()
        }
    }

    func received(_ body: [UInt8]) {
        var set: ReplicaSet?
        body.withUnsafeBytes { bytes in
            // What cannot be read is no news; the next one is whole again.
            set = try? ReplicaSet(decoding: UnsafeRawBufferPointer(rebasing: bytes[8...]))
        }
        if let set { take(set) }
    }

    private func take(_ set: ReplicaSet) {
        let waiting = state.withLock { state -> (@Sendable (ReplicaSet?) -> Void)? in
            guard !state.isFinished, set != state.taken else {
                state.newest = nil
                return nil
            }
            guard let waiting = state.waiting else {
                state.newest = set
                return nil
            }
            (state.waiting, state.taken, state.newest) = (nil, set, nil)
            return waiting
        }
        if let waiting { waiting(set) } else { onReady?() }
    }

    /// What is new, if anything is.
    public func takeNext() -> ReplicaSet? {
        state.withLock { state in
            guard let set = state.newest else { return nil }
            (state.taken, state.newest) = (set, nil)
            return set
        }
    }

    /// Nothing will follow any more.
    public var isFinished: Bool { state.withLock { $0.isFinished } }

    /// The next state that differs from the one before; nil when there will be none. One consumer at a time.
    func whenNext(_ then: @escaping @Sendable (ReplicaSet?) -> Void) {
        let (set, isReady) = state.withLock { state -> (ReplicaSet?, Bool) in
            if let set = state.newest {
                (state.taken, state.newest) = (set, nil)
                return (set, true)
            }
            if state.isFinished { return (nil, true) }
            state.waiting = then
            return (nil, false)
        }
        if isReady { then(set) }
    }

    public func finish() {
        let waiting = state.withLock { state -> (@Sendable (ReplicaSet?) -> Void)? in
            (state.isFinished, state.newest) = (true, nil)
            defer { state.waiting = nil }
            return state.waiting
        }
        checkpoint.service.unwatch(checkpoint.handle, self)
        waiting?(nil)
        onReady?()
    }
}

extension Checkpoint {
    /// Where the replicas are: now, and whenever that changes. For callers that look when they are told to; the Swift
    /// form is ``replicaChanges``.
    ///
    /// - Parameter onReady: there is something to take, or nothing will follow; called under locks perhaps: it must
    ///   not call back.
    public func watchReplicas(onReady: @escaping @Sendable () -> Void) -> ReplicaWatcher {
        let watcher = ReplicaWatcher(self, onReady: onReady)
        service.watch(handle, watcher)
        watcher.subscribe()
        return watcher
    }
}

extension CheckpointService {
    /// Who is told of which open's replicas.
    struct Watchers {
        var byHandle = Numbered<ReplicaWatcher>()
    }

    func watch(_ handle: HandleID, _ watcher: ReplicaWatcher) {
        let old = watchers.withLock { watchers in
            defer { watchers.byHandle[handle.rawValue] = watcher }
            return watchers.byHandle[handle.rawValue]
        }
        if let old, old !== watcher { old.finish() }
    }

    func unwatch(_ handle: HandleID, _ watcher: ReplicaWatcher) {
        watchers.withLock { watchers in
            if watchers.byHandle[handle.rawValue] === watcher { watchers.byHandle[handle.rawValue] = nil }
        }
    }

    func endWatching(_ handle: HandleID) { watchers.withLock { $0.byHandle[handle.rawValue] }?.finish() }

    func movedWatcher(from old: HandleID, to new: HandleID) {
        let watcher = watchers.withLock { watchers in
            let watcher = watchers.byHandle.remove(old.rawValue)
            watchers.byHandle[new.rawValue] = watcher
            return watcher
        }
        watcher?.subscribe()
    }

    func watchAll() {
        let all = watchers.withLock { $0.byHandle.inOrder }
        for watcher in all { watcher.subscribe() }
    }

    func receivedReplicas(_ handle: UInt64, _ body: [UInt8]) {
        watchers.withLock { $0.byHandle[handle] }?.received(body)
    }
}
