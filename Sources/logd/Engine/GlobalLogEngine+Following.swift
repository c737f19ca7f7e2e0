import EngineKit
import LogProtocol
import SAFTypes

// A controller that does not own the files: it keeps the ledger as its owner does.

/// The state of a follower.
struct Following: Sendable {
    enum Phase: Hashable, Sendable {
        case silent
        case calling
        /// The own ledger is being cut back to this number.
        case truncating(to: UInt64)
        case streaming
    }

    var round: UInt64
    var phase = Phase.silent
    var since = Instant.start

    init(round: UInt64) { self.round = round }
}

extension GlobalLogEngine {
    var mayCallOwner: Bool {
        guard let owner = ownership.owner?.node else { return false }
        return keepsFiles && owner != node && isReachable(owner)
    }

    mutating func callOwner() {
        guard mayCallOwner, !isTruncating, following.phase == .silent, let owner = ownership.owner?.node else { return }
        following.phase = .calling
        following.round += 1
        following.since = now
        send(.hello(round: following.round, epochs: state.epochs), to: owner)
    }

    mutating func begin(_ round: UInt64, at: UInt64, base: LedgerState?) {
        guard round == following.round, following.phase == .calling else { return }
        following.since = now
        if let base, base.number == at {
            following.phase = .truncating(to: at)
            isTruncating = true
            effects.append(
                .note(
                    isError: false,
                    "the owner of the global streams' files has not kept all that is missing here: they go on after "
                        + "entry \(at)"))
            effects.append(.reset(base))
        } else if at < state.number {
            following.phase = .truncating(to: at)
            isTruncating = true
            effects.append(.truncate(to: at))
        } else if at == state.number {
            following.phase = .truncating(to: at)
            continueFollowing()
        } else {
            following.phase = .silent
        }
    }

    mutating func continueFollowing() {
        guard case .truncating(let at) = following.phase, at == state.number, let owner = ownership.owner?.node else {
            following.phase = .silent
            return callOwner()
        }
        following.phase = .streaming
        // What is on its way to the disk is told when it is there.
        send(.ready(round: following.round, number: state.number), to: owner)
        tellStored()
    }

    mutating func append(_ round: UInt64, committed: UInt64, _ entries: [LedgerEntry]) {
        guard round == following.round, following.phase == .streaming else { return }
        for entry in entries {
            guard take(entry) else {
                // Something was missed: from here on it comes again.
                following.phase = .silent
                return callOwner()
            }
        }
        if !entries.isEmpty { effects.append(.store(entries)) }
        self.committed = max(self.committed, min(committed, state.number))
        publish()
    }

    mutating func tellStored() {
        guard following.phase == .streaming, let owner = ownership.owner?.node else { return }
        send(.stored(round: following.round, number: stored), to: owner)
    }
}
