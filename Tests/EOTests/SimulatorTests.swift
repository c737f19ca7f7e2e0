import EngineKit
import OSAL
import Testing

/// Seeds that once failed: always run first.
let failedSeeds: [UInt64] = []

@Test("Replicated engines keep their promises under every seed")
func replicatedSimulation() {
    let base = Environment.get("SAF_SIM_SEED").flatMap { UInt64($0) } ?? 1
    let count = Environment.get("SAF_SIM_SEEDS").flatMap { UInt64($0) } ?? 1_000
    var counts = SimulatorCounts()
    var failed: [UInt64] = []
    for seed in failedSeeds + Array(base..<(base + count)) {
        var simulator = Simulator(seed: seed)
        let findings = simulator.run()
        counts += simulator.counts
        guard !findings.isEmpty else { continue }
        failed.append(seed)
        let rerun = "SAF_SIM_SEED=\(seed) SAF_SIM_SEEDS=1 swift test --filter replicatedSimulation"
        Issue.record("seed \(seed) (\(simulator.options.nodes) nodes): \(findings.joined(separator: "; ")); rerun: \(rerun)")
        if failed.count >= 10 { break }
    }
    print(
        "simulator: \(count) seeds, \(counts.commands) commands, \(counts.views) view changes, "
            + "\(counts.snapshots) snapshots, \(counts.answers) answers, \(counts.journalRestarts) restarts from a journal")
}

/// A checker that cannot fail proves nothing: each of these wrongs must be seen within the seeds given.
enum Wrong: String, CaseIterable {
    case answersAtSelfDelivery, skipsACommand, appliesWithoutQuorum, forgetsWhatItApplied, iteratesUnordered
}

@Test("The simulator's checkers see a wrong", arguments: Wrong.allCases)
func simulatorSeesWrong(_ wrong: Wrong) {
    var seen: String?
    for seed in 1...300 as ClosedRange<UInt64> {
        var simulator = Simulator(seed: seed) { options in
            options.nodes = 3
            options.faultPerMille = 60
            switch wrong {
            case .answersAtSelfDelivery: options.sabotage = .answerAtSelfDelivery
            case .skipsACommand: options.sabotage = .skipEveryTenth
            case .appliesWithoutQuorum: options.sabotage = .applyWithoutQuorum
            case .forgetsWhatItApplied: options.sabotage = .forgetMarks
            case .iteratesUnordered: options.isDisorderly = true
            }
        }
        if let finding = simulator.run().first {
            seen = "seed \(seed): \(finding)"
            break
        }
    }
    print("\(wrong): \(seen ?? "not seen")")
    #expect(seen != nil, "\(wrong) was not seen in 300 seeds")
}
