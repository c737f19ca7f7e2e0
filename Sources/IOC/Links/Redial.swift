import EngineKit

/// Which address of a node to try, and when. A pure value; chance comes from its seed.
///
/// Addresses are tried in order, one right after the other; when none answered, a pause that doubles from attempt to
/// attempt, each shortened by up to a half at random so that nodes do not dial in step. After a loss the address after
/// the lost one comes first: a dead plane costs one reconnect.
struct Redial: Equatable {
    enum Step: Equatable {
        case dial(address: Int)
        case wait(Duration)
    }

    private let addressCount: Int
    private let pauseFirst: Duration
    private let pauseMax: Duration
    private var random: SeededRandom
    private var next = 0
    private var triedInRound = 0
    private var pause: Duration

    init(addressCount: Int, pauseFirst: Duration, pauseMax: Duration, seed: UInt64) {
        self.addressCount = max(1, addressCount)
        self.pauseFirst = pauseFirst
        self.pauseMax = pauseMax
        random = SeededRandom(seed: seed)
        pause = pauseFirst
    }

    /// Begins a round of attempts.
    mutating func begin() -> Step {
        triedInRound = 1
        return .dial(address: next)
    }

    /// The attempt at the current address failed.
    mutating func failed() -> Step {
        next = (next + 1) % addressCount
        if triedInRound < addressCount {
            triedInRound += 1
            return .dial(address: next)
        }
        triedInRound = 0
        let nanoseconds = max(2, pause.nanoseconds)
        pause = min(pause * 2, pauseMax)
        return .wait(.nanoseconds(Int64.random(in: nanoseconds / 2...nanoseconds, using: &random)))
    }

    /// The link stands.
    mutating func succeeded() { pause = pauseFirst }

    /// A link that stood was lost; the next round begins with another address.
    mutating func lost() { next = (next + 1) % addressCount }

    /// There is reason to believe that the node is back: no long pause.
    mutating func encourage() { pause = pauseFirst }
}
