/// Makes one gapless, repeat-free sequence of updates out of what arrives: the start of a subscription, updates that
/// may
/// come before it, repeats after a reconnect. Pure; whoever owns it subscribes when it says so.
struct SubscriptionTracker<Update> {
    enum State: Equatable { case idle, starting, live }

    /// Updates kept while the start is awaited; more, and the subscription is started anew.
    static var earlyMax: Int { 4_096 }

    private(set) var state = State.idle
    /// The last change that was delivered; nil before the first snapshot.
    private(set) var last: UInt64?
    private var early: [(change: UInt64, update: Update)] = []
    private var isOverflowing = false

    init() {}

    /// A subscription is asked for: after this change, or from a snapshot if nil.
    mutating func begin() -> UInt64? {
        state = .starting
        early = []
        isOverflowing = false
        return last
    }

    /// What arrived before is of another object: start from nothing.
    mutating func reset() {
        state = .idle
        last = nil
        early = []
    }

    /// Nothing more is wanted for now; what is missed will be asked for.
    mutating func pause() {
        state = .idle
        early = []
    }

    /// The start was a snapshot at `change`. What follows it and is here already; nil: subscribe again.
    mutating func started(snapshot change: UInt64) -> [Update]? {
        last = change
        return release()
    }

    /// The start continues after `change`. As above.
    mutating func started(after change: UInt64) -> [Update]? {
        guard change == last else {
            state = .idle
            return nil
        }
        return release()
    }

    private mutating func release() -> [Update]? {
        guard state == .starting, !isOverflowing else {
            state = .idle
            return nil
        }
        state = .live
        var updates: [Update] = []
        for (change, update) in early {
            switch arrived(change, update) {
            case .deliver: updates.append(update)
            case .ignore: continue
            case .subscribeAgain: return updates.isEmpty ? nil : updates
            }
        }
        early = []
        return updates
    }

    enum Verdict: Equatable { case deliver, ignore, subscribeAgain }

    mutating func arrived(_ change: UInt64, _ update: Update) -> Verdict {
        switch state {
        case .idle: return .ignore
        case .starting:
            if early.count < Self.earlyMax { early.append((change, update)) } else { isOverflowing = true }
            return .ignore
        case .live:
            guard let last else { return .ignore }
            if change <= last { return .ignore }
            guard change == last + 1 else {
                state = .idle
                return .subscribeAgain
            }
            self.last = change
            return .deliver
        }
    }
}
