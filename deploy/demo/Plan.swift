import EngineKit

/// Who is killed, and behind which byte of the text.
struct Kill: Equatable {
    enum Target: String, CaseIterable {
        case active = "active component"
        case ckptd, logd, eventd, clmd, cliserver, amfd, guardian = "guard"
    }

    var target: Target
    var position: UInt64
    /// Waited behind the position, so that a kill does not always hit the same instruction.
    var delay: Duration
}

/// The plan of a run is a pure function of seed, number of kills and size of the text.
///
/// Every second kill is the active component; between them every daemon, amfd and the guard have their turn.
func planKills(_ count: Int, over size: UInt64, seed: UInt64) -> [Kill] {
    var random = SeededRandom(seed: seed)
    let others = Kill.Target.allCases.filter { $0 != .active }
    // Not in the last tenth: the recovery from the last kill is part of the run.
    let positions = (0..<count).map { _ in UInt64.random(in: 0...max(1, size / 10 * 9), using: &random) }.sorted()
    return positions.enumerated().map { index, position in
        Kill(
            target: index.isMultiple(of: 2) ? .active : others[index / 2 % others.count], position: position,
            delay: .microseconds(Int64.random(in: 0...3_000, using: &random)))
    }
}
