import CkptProtocol
import EngineKit
import IOC
import SAFTypes
import Synchronization

/// One consumer of a checkpoint's updates: subscribes, keeps what arrived until it is taken, and subscribes again after
/// a loss. What the consumer does not take in time is not kept without bound: the subscription pauses, and goes on from
/// ckptd's own log, or from a new snapshot, when the consumer has caught up.
final class Follower: Sendable {
    private struct State {
        var tracker = SubscriptionTracker<CheckpointEvent>()
        var events: [CheckpointEvent] = []
        var next = 0
        var bytes = 0
        var waiting: CheckedContinuation<CheckpointEvent?, Never>?
        var isPaused = false
        var isFinished = false
        /// Answers of earlier attempts to subscribe are stale.
        var attempt: UInt64 = 0
    }

    private static let eventsMax = 4_096
    private static let bytesMax = 32 << 20

    private let checkpoint: Checkpoint
    private let state = Mutex(State())

    init(_ checkpoint: Checkpoint) { self.checkpoint = checkpoint }

    /// Asks ckptd for the updates after the last one seen. Never blocks; any thread.
    func subscribe() {
        let (after, attempt, isFinished) = state.withLock { state -> (UInt64?, UInt64, Bool) in
            state.attempt += 1
            state.isPaused = false
            return (state.tracker.begin(), state.attempt, state.isFinished)
        }
        if isFinished { return }
        var writer = ByteWriter()
        CkptRequest.subscribe(checkpoint.handle, after: after).encode(to: &writer)
        checkpoint.service.connection.callAsync(CkptCode.subscribe.rawValue, writer.bytes, timeout: .seconds(30)) {
            [self] result in answered(result, attempt)
        }
    }

    private func answered(_ result: Result<Reply, CallError>, _ attempt: UInt64) {
        switch result {
        case .failure(let error) where error.code == .badHandle: recover(attempt)
        case .failure(let error) where error.code == .tryAgain || error.code == .timeout: again(attempt)
        case .failure: finish()
        case .success(let reply):
            guard let start = try? SubscribeReply(decoding: reply.body) else { return finish() }  // not our protocol
            if !started(start, attempt) { again(attempt) }
        }
    }

    private func started(_ start: SubscribeReply, _ attempt: UInt64) -> Bool {
        state.withLock { state in
            guard state.attempt == attempt else { return true }
            switch start {
            case .resumed(let change):
                guard let early = state.tracker.started(after: change) else {
                    state.tracker.reset()
                    return false
                }
                for event in early { Self.deliver(event, &state) }
            case .snapshot(let snapshot):
                Self.deliver(.snapshot(change: snapshot.change, snapshot.sections), &state)
                guard let early = state.tracker.started(snapshot: snapshot.change) else { return false }
                for event in early { Self.deliver(event, &state) }
            }
            return state.tracker.state == .live || state.isPaused
        }
    }

    /// ckptd has given up on this process, or the checkpoint is gone: opens it again, from a new snapshot.
    private func recover(_ attempt: UInt64) {
        checkpoint.reopenSoon { [self] isOpen in
            guard state.withLock({ $0.attempt == attempt }) else { return }
            if !isOpen { finish() }  // otherwise the open has restarted us
        }
    }

    /// The checkpoint was opened anew, under another handle and perhaps as another object.
    func restart() {
        state.withLock { $0.tracker.reset() }
        subscribe()
    }

    private func again(_ attempt: UInt64) {
        ClientRuntime.shared?.post(after: .milliseconds(50)) { [self] in
            if state.withLock({ $0.attempt == attempt && !$0.isFinished }) { subscribe() }
        }
    }

    func received(_ body: [UInt8]) {
        var update: UpdatePush?
        body.withUnsafeBytes { update = try? UpdatePush(decoding: $0) }  // what is not an update is none
        guard let update else { return }
        let event = CheckpointEvent.update(
            change: update.change, time: update.time, update.operations.map { SectionChange($0, body) })
        let isGap = state.withLock { state in
            switch state.tracker.arrived(update.change, event) {
            case .deliver: Self.deliver(event, &state)
            case .ignore: break
            case .subscribeAgain: return true
            }
            return false
        }
        if isGap { subscribe() }
    }

    private static func deliver(_ event: CheckpointEvent, _ state: inout State) {
        if state.isFinished { return }
        if let waiting = state.waiting {
            state.waiting = nil
            return waiting.resume(returning: event)
        }
        state.events.append(event)
        state.bytes += size(event)
        if state.events.count - state.next >= eventsMax || state.bytes >= bytesMax {
            state.isPaused = true
            state.tracker.pause()
        }
    }

    private static func size(_ event: CheckpointEvent) -> Int {
        switch event {
        case .snapshot(_, let sections): sections.reduce(64) { $0 + $1.data.count + 128 }
        case .update(_, _, let changes):
            changes.reduce(64) { sum, change in
                switch change {
                case .created(_, let data, _), .overwritten(_, let data), .written(_, _, let data):
                    sum + data.count + 64
                case .deleted, .expirationSet, .expired: sum + 64
                }
            }
        }
    }

    /// The next event; nil when there will be none. One consumer at a time.
    func next() async -> CheckpointEvent? {
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let (event, isReady, isPaused) = state.withLock { state -> (CheckpointEvent?, Bool, Bool) in
                    if state.next < state.events.count {
                        let event = state.events[state.next]
                        state.next += 1
                        state.bytes -= Self.size(event)
                        if state.next == state.events.count { (state.events, state.next) = ([], 0) }
                        return (event, true, false)
                    }
                    if state.isFinished { return (nil, true, false) }
                    state.waiting = continuation
                    return (nil, false, state.isPaused)
                }
                if isReady { continuation.resume(returning: event) } else if isPaused { subscribe() }
            }
        } onCancel: {
            finish()
        }
    }

    /// Ends the sequence; what has not been taken yet is dropped.
    func finish() {
        let waiting = state.withLock { state -> CheckedContinuation<CheckpointEvent?, Never>? in
            state.isFinished = true
            state.attempt += 1
            state.tracker.pause()
            (state.events, state.next) = ([], 0)
            defer { state.waiting = nil }
            return state.waiting
        }
        checkpoint.service.unfollow(checkpoint.handle, self)
        waiting?.resume(returning: nil)
    }
}

/// A checkpoint's updates; see ``Checkpoint/updates``.
public struct CheckpointUpdates: AsyncSequence, Sendable {
    public typealias Element = CheckpointEvent
    public typealias Failure = Never

    private let owner: Owner

    /// Ends the subscription when nobody iterates any more.
    fileprivate final class Owner: Sendable {
        let follower: Follower
        init(_ follower: Follower) { self.follower = follower }
        deinit { follower.finish() }
    }

    init(_ follower: Follower) { owner = Owner(follower) }

    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let owner: Owner
        public mutating func next() async -> CheckpointEvent? { await owner.follower.next() }
        public mutating func next(isolation actor: isolated (any Actor)?) async -> CheckpointEvent? {
            await owner.follower.next()
        }
    }

    public func makeAsyncIterator() -> Iterator { Iterator(owner: owner) }
}
