public import ClmProtocol

/// A change of the name table as a subscriber sees it.
public enum TopologyEvent: Hashable, Sendable {
    case published(NameBinding)
    case withdrawn(NameBinding)
}

/// Turns the notices of clmd, over all its lives, into a story without repetition: each binding is published once and
/// withdrawn once, and a restart of clmd alone is not seen.
///
/// What was known before a restart counts as there until clmd has settled: then everybody who lives has bound again.
struct TopologyFollower: Sendable {
    private var known: Set<NameBinding> = []
    /// Known of an earlier connection, and not confirmed on this one; nil while the present one is settled.
    private var unconfirmed: Set<NameBinding>?

    /// A new subscription begins, at the start or on a new connection.
    mutating func restart() { unconfirmed = known }

    /// What the subscriber is told.
    mutating func heard(_ change: TopologyNotice.Change) -> [TopologyEvent] {
        switch change {
        case .published(let binding):
            unconfirmed?.remove(binding)
            return known.insert(binding).inserted ? [.published(binding)] : []
        case .withdrawn(let binding):
            unconfirmed?.remove(binding)
            return known.remove(binding) != nil ? [.withdrawn(binding)] : []
        case .settled:
            let gone = (unconfirmed ?? []).sorted()
            unconfirmed = nil
            known.subtract(gone)
            return gone.map { .withdrawn($0) }
        case .lost: return []
        }
    }
}
