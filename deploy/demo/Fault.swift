import EngineKit

/// What is done to a cluster, where, and for how long.
struct Fault: Equatable {
    enum Kind: Hashable {
        /// SIGKILL for one process; it is started again by who watches it.
        case killed(Kill.Target)
        /// Everything in the node ends at one moment, shared memory and all; later it is started again.
        case nodeKilled
        /// Every process of the node stands still, and goes on.
        case nodeFrozen
        /// The node hears nobody and is heard by nobody.
        case nodeCutOff
        /// One of the two networks is down for everybody.
        case planeCut
        /// Both are: everybody is alone.
        case allCut
        case corosyncStopped, corosyncKilled

        static let all: [Kind] =
            Kill.Target.allCases.map(Kind.killed) + [
                .nodeKilled, .nodeFrozen, .nodeCutOff, .planeCut, .allCut, .corosyncStopped, .corosyncKilled,
            ]

        var name: String {
            switch self {
            case .killed(let target): "\(target.rawValue) killed"
            case .nodeKilled: "node killed"
            case .nodeFrozen: "node frozen"
            case .nodeCutOff: "node cut off"
            case .planeCut: "one network cut"
            case .allCut: "both networks cut"
            case .corosyncStopped: "corosync stopped"
            case .corosyncKilled: "corosync killed"
            }
        }

        /// How long it lasts, in milliseconds; from shorter than anybody notices to longer than it takes to act.
        var lasts: ClosedRange<Int64> {
            switch self {
            case .killed: 0...0
            case .nodeKilled: 0...2_000
            case .nodeFrozen, .nodeCutOff, .corosyncStopped: 100...3_000
            case .planeCut: 500...2_000
            case .allCut: 100...2_000
            case .corosyncKilled: 0...1_500
            }
        }
    }

    /// Chosen by what the node does at that moment.
    enum Place { case active, standby, payload }

    var kind: Kind
    var place: Place
    var lasts: Duration
    /// Waited before it, when the last one has been overcome.
    var delay: Duration
    /// Which of the networks, where it is one.
    var plane: Int
}

/// The plan of a run is a pure function of seed and number: every kind in turn, in an order of chance, every second one
/// where the active component is.
func planFaults(_ count: Int, only: String, seed: UInt64) -> [Fault] {
    var random = SeededRandom(seed: seed)
    let all = Fault.Kind.all.filter { only.isEmpty || $0.name.contains(only) }
    var kinds: [Fault.Kind] = []
    while kinds.count < count, !all.isEmpty { kinds += all.shuffled(using: &random) }
    return kinds.prefix(count).map { kind in
        let place: Fault.Place = random.chance(percent: 50) ? .active : random.chance(percent: 50) ? .standby : .payload
        return Fault(
            kind: kind, place: kind == .killed(.active) ? .active : place,
            lasts: .milliseconds(Int64.random(in: kind.lasts, using: &random)),
            delay: .microseconds(Int64.random(in: 0...300_000, using: &random)),
            plane: Int.random(in: 0...1, using: &random))
    }
}
