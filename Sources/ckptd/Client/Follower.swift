import CkptProtocol
import EngineKit
import IOC
import SAFTypes
import OSAL

/// One consumer of a checkpoint's updates: subscribes, keeps what arrived until it is taken, and subscribes again after
/// a loss. What the consumer does not take in time is not kept without bound: the subscription pauses, and goes on from
/// ckptd's own log, or from a new snapshot, when the consumer has caught up.
public final class Follower: Sendable {
    private struct State {
        var tracker = SubscriptionTracker<CheckpointEvent>()
        var events: [CheckpointEvent] = []
        var next = 0
        var bytes = 0
        var waiting: (@Sendable (CheckpointEvent?) -> Void)?
        var isPaused = false
        var isFinished = false
        /// Answers of earlier attempts to subscribe are stale.
        var attempt: UInt64 = 0
    }

    private static let eventsMax = 4_096
    private static let bytesMax = 32 << 20

    private let checkpoint: Checkpoint
    /// Told when there may be something to take, or nothing will follow.
    private let onReady: (@Sendable () -> Void)?
    private let state = Lock(State())

    init(_ checkpoint: Checkpoint, onReady: (@Sendable () -> Void)? = nil) {
        self.checkpoint = checkpoint
        self.onReady = onReady
    }

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
        checkpoint.service.callSoon(.subscribe, writer.bytes, timeout: .seconds(30)) { [self] result in
            answered(result, attempt)
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
        let isGood = state.withLock { state in
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
        onReady?()
        return isGood
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
        checkpoint.service.later(.milliseconds(50)) { [self] in
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
        onReady?()
        if isGap { subscribe() }
    }

    private static func deliver(_ event: CheckpointEvent, _ state: inout State) {
        if state.isFinished { return }
        if let waiting = state.waiting {
            state.waiting = nil
            return waiting(event)
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

    /// The next event, if it is here. One consumer at a time.
    public func take() -> CheckpointEvent? {
        let (event, isPaused) = state.withLock { state -> (CheckpointEvent?, Bool) in
            let event = Self.next(&state)
            return (event, event == nil && state.isPaused && !state.isFinished)
        }
        if isPaused { subscribe() }
        return event
    }

    /// Nothing will follow what is here.
    public var isFinished: Bool { state.withLock { $0.isFinished } }

    private static func next(_ state: inout State) -> CheckpointEvent? {
        guard state.next < state.events.count else { return nil }
        let event = state.events[state.next]
        state.next += 1
        state.bytes -= size(event)
        if state.next == state.events.count { (state.events, state.next) = ([], 0) }
        return event
    }

    /// Calls `then` with the next event, once, when it is here; with nil when there will be none. One consumer at a
    /// time.
    func whenNext(_ then: @escaping @Sendable (CheckpointEvent?) -> Void) {
        let (event, isReady, isPaused) = state.withLock { state -> (CheckpointEvent?, Bool, Bool) in
            if let event = Self.next(&state) { return (event, true, false) }
            if state.isFinished { return (nil, true, false) }
            state.waiting = then
            return (nil, false, state.isPaused)
        }
        if isReady { then(event) } else if isPaused { subscribe() }
    }

    /// Ends the sequence; what has not been taken yet is dropped.
    public func finish() {
        let waiting = state.withLock { state -> (@Sendable (CheckpointEvent?) -> Void)? in
            state.isFinished = true
            state.attempt += 1
            state.tracker.pause()
            (state.events, state.next) = ([], 0)
            defer { state.waiting = nil }
            return state.waiting
        }
        checkpoint.service.unfollow(checkpoint.handle, self)
        waiting?(nil)
        onReady?()
    }
}
