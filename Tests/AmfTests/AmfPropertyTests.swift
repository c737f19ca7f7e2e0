import AmfProtocol
import EngineKit
import SAFTypes
import Testing

@testable import AmfEngine

@Suite("AMF under random faults")
struct AmfPropertyTests {
    /// The first ones, and every one that ever found a fault.
    static let seeds: [UInt64] = Array(0..<150) + [458, 625, 823, 1086, 1928, 2189, 2389, 2760, 5947]

    @Test(
        "No order of faults breaks a promise, and healing brings every assignment back",
        arguments: seeds)
    func faults(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var world = AmfWorld(Self.model(&random))
        // Some start in peace, some in trouble.
        if random.chance(percent: 70) { world.advance(.seconds(1)) }
        for _ in 0..<60 {
            Self.disturb(&world, &random)
            guard world.violations.isEmpty else { break }
        }
        Self.heal(&world)
        #expect(world.violations.isEmpty, "seed \(seed): \(world.violations.first ?? "")\n\(tail(world))")
        for instance in world.cluster.status().applications.flatMap(\.serviceInstances) {
            let expected = Self.expectedState(world.model, instance)
            #expect(instance.assignmentState == expected, "seed \(seed): \(instance.name)\n\(tail(world))")
        }
        // The world compares every forecast with the decision, and calls a difference a violation.
        #expect(world.cluster.components.allSatisfy { $0.run.pending == nil && $0.run.order == nil }, "seed \(seed)")
        #expect(AmfWorld.bytes(AmfWorld.restored(world.journal)) == world.journal, "seed \(seed): snapshot round trip")
    }

    private func tail(_ world: AmfWorld) -> String {
        (world.trace.filter { !$0.hasPrefix("reply") }.suffix(60) + world.describe()).joined(separator: "\n")
    }

    static func model(_ random: inout SeededRandom) -> AmfModel {
        let isTwoN = random.chance(percent: 60)
        let units = Int.random(in: 1...3, using: &random)
        var model =
            isTwoN
            ? Models.twoN(
                units: units, components: Int.random(in: 1...3, using: &random),
                instances: Int.random(in: 1...2, using: &random))
            : Models.noRedundancy(units: units, instances: Int.random(in: 1...3, using: &random))
        model.nodes[0].suFailoverMax = random.chance(percent: 20) ? 2 : 1_000
        var group = model.applications[0].serviceGroups[0]
        group.componentRestartMax = UInt32.random(in: 0...3, using: &random)
        group.suRestartMax = UInt32.random(in: 0...2, using: &random)
        group.autoRepair = random.chance(percent: 85)
        let failover = random.chance(percent: 60)
        let capability = random.chance(percent: 50) ? CapabilityModel.xActiveOrYStandby : .xActiveAndYStandby
        let recoveries: [RecommendedRecovery] = [
            .componentRestart, .componentFailover, .componentFailover, .nodeSwitchover, .nodeFailover,
        ]
        for unit in group.serviceUnits.indices {
            group.serviceUnits[unit].failover = failover
            for component in group.serviceUnits[unit].components.indices {
                var changed = group.serviceUnits[unit].components[component]
                changed.recoveryOnError = recoveries.randomElement(using: &random) ?? .componentFailover
                changed.disableRestart = random.chance(percent: 15)
                changed.instantiationLevel = UInt32.random(in: 0...1, using: &random)
                changed.csiTypes[0].capability = capability
                if random.chance(percent: 30) { changed.instantiateWithDelayMax = 2 }
                group.serviceUnits[unit].components[component] = changed
            }
        }
        model.applications[0].serviceGroups[0] = group
        if random.chance(percent: 15), isTwoN {
            // Non-SA-aware: active by running.
            for unit in group.serviceUnits.indices {
                for component in group.serviceUnits[unit].components.indices {
                    model.applications[0].serviceGroups[0].serviceUnits[unit].components[component].category =
                        .nonSaAware
                    model.applications[0].serviceGroups[0].serviceUnits[unit].components[component].csiTypes[0]
                        .capability =
                        .xActive
                }
            }
        }
        for index in model.applications[0].serviceInstances.indices where random.chance(percent: 30) {
            let csis = model.applications[0].serviceInstances[index].csis
            guard csis.count > 1 else { continue }
            model.applications[0].serviceInstances[index].csis[0].dependencies = [csis[1].name]
        }
        return model
    }

    static func expectedState(_ model: AmfModel, _ instance: ServiceInstanceStatus) -> AssignmentState {
        let group = model.applications[0].serviceGroups[0]
        switch group.redundancyModel {
        case .twoN:
            let canStandBy = group.serviceUnits[0].components[0].category == .saAware
            return group.serviceUnits.count > 1 && canStandBy ? .fullyAssigned : .partiallyAssigned
        case .noRedundancy, .nPlusM, .nWay, .nWayActive:
            let position = model.applications[0].serviceInstances.firstIndex { $0.name == instance.name } ?? 0
            _ = position
            return instance.assignments.isEmpty
                && model.applications[0].serviceInstances.count > group.serviceUnits.count
                ? .unassigned : .fullyAssigned
        }
    }

    static func disturb(_ world: inout AmfWorld, _ random: inout SeededRandom) {
        let names = world.cluster.components.map(\.name)
        guard let name = names.randomElement(using: &random) else { return }
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<22: world.kill(name.description)
        case 22..<30:
            let recoveries: [RecommendedRecovery] = [
                .noRecommendation, .componentRestart, .componentFailover, .nodeFailover,
            ]
            guard let process = world.processes.first(where: { $0.component == name && $0.isAlive }), !world.isAmfdDown
            else { return }
            world.trace.append("error report \(world.path(name))")
            world.give(
                .request(
                    .errorReport(
                        component: name, recovery: recoveries.randomElement(using: &random) ?? .componentRestart),
                    ticket: 0, pid: process.pid))
        case 30..<45:
            var behaviour = AmfWorld.Behaviour()
            behaviour.canSpawn = !random.chance(percent: 15)
            behaviour.registers = !random.chance(percent: 15)
            behaviour.answers = !random.chance(percent: 25)
            behaviour.refuses = random.chance(percent: 15)
            behaviour.terminates = !random.chance(percent: 25)
            behaviour.dies = !random.chance(percent: 8)
            behaviour.completesQuiescing = !random.chance(percent: 25)
            behaviour.diesBeforeRegistering = random.chance(percent: 10)
            world.trace.append("\(world.path(name)) behaves \(behaviour)")
            world.behaviours[name] = behaviour
        case 45..<55: world.behaviours[name] = nil
        case 55..<70:
            guard !world.isAmfdDown else { return }
            let everything = world.cluster.positions.keys.sorted()
            guard let target = everything.randomElement(using: &random),
                let operation = AdminOperation.allCases.randomElement(using: &random)
            else { return }
            world.trace.append("admin \(operation) \(target)")
            _ = world.admin(operation, target.description)
        case 70..<78:
            if world.isAmfdDown { world.restartAmfd() } else { world.killAmfd() }
        case 78..<82:
            guard let process = world.processes.first(where: { $0.component == name && $0.isAlive && $0.isConnected })
            else { return }
            world.trace.append("connection of \(world.path(name)) lost")
            world.give(.connectionLost(name, process.instance))
            if random.chance(percent: 50) { world.register(process.pid) }
        default: break
        }
        switch Int.random(in: 0..<3, using: &random) {
        case 0: for _ in 0..<Int.random(in: 0...12, using: &random) { world.step() }
        case 1: world.settle()
        default: world.advance(.milliseconds(Int.random(in: 0...9_000, using: &random)))
        }
    }

    /// Everybody behaves, amfd lives, everything is unlocked and repaired; then the promises must come true.
    static func heal(_ world: inout AmfWorld) {
        world.trace.append("heal")
        world.behaviours = [:]
        if world.isAmfdDown { world.restartAmfd() }
        // Whoever was slow to register, or to be killed, is neither any more.
        for process in world.processes where process.isAlive && !process.isConnected && process.isSaAware {
            world.register(process.pid)
        }
        for _ in 0..<4 {
            world.advance(.seconds(70))
            for name in world.cluster.positions.keys.sorted() {
                for operation in [AdminOperation.unlockInstantiation, .unlock, .repaired] {
                    _ = world.admin(operation, name.description)
                    world.settle()
                }
            }
        }
        world.advance(.seconds(200))
    }
}
