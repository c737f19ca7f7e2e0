import EngineKit

/// Decides whether the active components of this node may run; performs nothing.
///
/// They may while this node holds its lease *and* the cluster's state knows what it holds: a node that was away may
/// have lost it all to others. A new amfd goes on with the lease of the one before it until that ends.
///
/// | event | effects |
/// |---|---|
/// | the lease is over, or the inherited one is and there is no other | `suspend` |
/// | held and joined again | `resume` |
/// | the majority went on without this node | `kill`, `joinAnew` |
/// | suspended for longer than the grace | `kill` |
public struct ActivityGate: Engine, Hashable, Sendable {
    public enum Event: Hashable, Sendable {
        /// ``MajorityLease``'s words.
        case held, over, excluded
        /// The state has this amfd and what lives here.
        case joined
        case tick
    }

    public enum Effect: Hashable, Sendable {
        /// Stop whatever may be active (SIGSTOP), and whatever becomes so.
        case suspend
        /// Let it go on (SIGCONT).
        case resume
        /// End whatever may be active.
        case kill
        /// Propose ``ClusterEvent/nodeJoined(_:incarnation:living:)`` with what is left.
        case joinAnew
        /// ``Event/tick`` is due; replaces the timer before.
        case startTimer(at: Instant)
    }

    /// Active components run now.
    public private(set) var isOpen: Bool
    private let grace: Duration
    private var isHeld = false
    private var isJoined = false
    /// When the lease of the amfd before this one ends.
    private var inherited: Instant?
    private var closedAt: Instant?

    /// - Parameter inherited: the end of the lease that an earlier amfd held; nil: there was none.
    public init(inherited: Instant?, grace: Duration, at now: Instant) {
        self.inherited = inherited.flatMap { $0 > now ? $0 : nil }
        self.grace = grace
        isOpen = self.inherited != nil
        if !isOpen { closedAt = now }
    }

    public mutating func handle(_ event: Event, at now: Instant) -> [Effect] {
        var effects: [Effect] = []
        switch event {
        case .held: isHeld = true
        case .over: isHeld = false
        case .joined: isJoined = true
        case .excluded:
            isJoined = false
            inherited = nil
        case .tick: break
        }
        if let end = inherited, end <= now || (isHeld && isJoined) || event == .over { inherited = nil }
        let mayRun = (isHeld && isJoined) || inherited != nil
        if mayRun != isOpen {
            isOpen = mayRun
            effects.append(mayRun ? .resume : .suspend)
            closedAt = mayRun ? nil : now
        }
        if event == .excluded { effects += [.kill, .joinAnew] }
        if let closedAt, now >= closedAt + grace {
            self.closedAt = nil
            if event != .excluded { effects.append(.kill) }
        }
        if let next = inherited ?? closedAt.map({ $0 + grace }) { effects.append(.startTimer(at: next)) }
        return effects
    }
}
