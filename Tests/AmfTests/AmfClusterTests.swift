import AmfProtocol
import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import AmfEngine

/// Whole clusters from a seed: faults, then all is healed. `SAF_SIM_SEED=n SAF_SIM_SEEDS=m` runs m seeds from n on.
@Suite("amfd on several nodes, simulated")
struct AmfClusterTests {
    @Test("A service is active on one node, moves when that node dies, and the node comes back")
    func nodeDies() {
        let world = ClusterWorld(seed: 1)
        run(world, for: .seconds(3))
        #expect(active(world) == [NodeID(1)])
        #expect(isWhole(world), "\(status(world))")
        world.crash(NodeID(1))
        run(world, for: .seconds(2))
        #expect(active(world) == [NodeID(2)])
        #expect(world.counts.givenUp >= 1)
        world.boot(NodeID(1))
        run(world, for: .seconds(3))
        #expect(active(world) == [NodeID(2)])
        #expect(isWhole(world), "\(status(world))")
        #expect(world.findings == [])
    }

    @Test("amfd's death on any node disturbs nobody")
    func amfdDies() {
        let world = ClusterWorld(seed: 2)
        run(world, for: .seconds(3))
        let before = world.ids.flatMap { world.nodes[$0]?.processes.map(\.pid) ?? [] }
        for id in world.ids {
            world.killAmfd(id)
            run(world, for: .milliseconds(30))
            world.startAmfd(id)
            run(world, for: .seconds(2))
        }
        #expect(world.ids.flatMap { world.nodes[$0]?.processes.map(\.pid) ?? [] } == before)
        #expect(world.counts.suspended == 0 && world.counts.givenUp == 0)
        #expect(active(world) == [NodeID(1)])
        #expect(isWhole(world), "\(status(world))")
        #expect(world.findings == [])
    }

    @Test("An amfd that stays away is given up after the grace, and its components have stopped by then")
    func amfdStaysAway() {
        let world = ClusterWorld(seed: 3)
        run(world, for: .seconds(3))
        world.killAmfd(NodeID(1))
        run(world, for: .milliseconds(300))
        #expect(world.counts.givenUp == 0)
        run(world, for: .seconds(1))
        #expect(active(world) == [NodeID(2)])
        world.startAmfd(NodeID(1))
        run(world, for: .seconds(3))
        #expect(active(world) == [NodeID(2)])
        #expect(isWhole(world), "\(status(world))")
        #expect(world.findings == [])
    }

    @Test("A side without quorum stops being active before the other side begins")
    func partition() {
        let world = ClusterWorld(seed: 4)
        run(world, for: .seconds(3))
        world.connect([[NodeID(1)], [NodeID(2), NodeID(3)]])
        run(world, for: .seconds(1))
        #expect(active(world) == [NodeID(2)])
        #expect(world.counts.suspended >= 1)
        world.connect([world.ids])
        run(world, for: .seconds(3))
        #expect(world.counts.killed >= 1)
        #expect(active(world) == [NodeID(2)])
        #expect(isWhole(world), "\(status(world))")
        #expect(world.findings == [])
    }

    @Test("What the death of an active component brings about is foretold where its standby runs")
    func componentDies() {
        let world = ClusterWorld(seed: 6)
        run(world, for: .seconds(3))
        for _ in 0..<3 {
            let node = active(world)[0]
            guard let process = world.nodes[node]?.processes.first else { break }
            world.kill(node, process.component, process.instance)
            run(world, for: .seconds(1))
            #expect(active(world) != [node])
        }
        #expect(world.counts.foretold >= 3)
        #expect(isWhole(world), "\(status(world))")
        #expect(world.findings == [])
    }

    @Test("A frozen node does not act when it thaws")
    func freeze() {
        let world = ClusterWorld(seed: 5)
        run(world, for: .seconds(3))
        world.freeze(NodeID(1), for: .seconds(1))
        world.connect([[NodeID(1)], [NodeID(2), NodeID(3)]])
        run(world, for: .milliseconds(900))
        #expect(active(world) == [NodeID(2)])
        run(world, for: .milliseconds(300))
        world.connect([world.ids])
        run(world, for: .seconds(3))
        #expect(isWhole(world), "\(status(world))")
        #expect(world.findings == [])
    }

    @Test("Without the lease the checker finds two active components")
    func checkerSees() {
        var found = 0
        for seed in UInt64(0)..<6 {
            let world = ClusterWorld(seed: seed)
            world.isEnforced = false
            run(world, for: .seconds(3))
            world.connect([[NodeID(1)], [NodeID(2), NodeID(3)]])
            run(world, for: .seconds(1))
            found += world.findings.isEmpty ? 0 : 1
        }
        #expect(found > 0)
    }

    static let seeds: [UInt64] = {
        let count = OSAL.Environment.get("SAF_SIM_SEEDS").flatMap(UInt64.init) ?? 12
        let first = OSAL.Environment.get("SAF_SIM_SEED").flatMap(UInt64.init) ?? 0
        return Array(first..<(first + count))
    }()

    @Test(
        "Whatever breaks: never two active at once, nothing acknowledged lost, all back after healing", arguments: seeds
    )
    func anything(seed: UInt64) {
        let world = ClusterWorld(seed: seed &* 7_919 &+ 11, nodes: seed % 3 == 0 ? 5 : 3)
        run(world, for: .seconds(2))
        for _ in 0..<25 where world.findings.isEmpty {
            disturb(world)
            run(world, for: .milliseconds(Int64.random(in: 1...400, using: &world.random)))
        }
        heal(world)
        #expect(world.findings == [], "seed \(seed): \(world.trace.suffix(20))")
        #expect(isWhole(world), "seed \(seed): \(status(world)) after \(world.trace.suffix(25))")
        #expect(isWanted(world), "seed \(seed): \(world.operations)")
    }

    // MARK: - Steps

    private func run(_ world: ClusterWorld, for time: Duration) {
        let end = world.now + time
        while world.now < end, world.findings.isEmpty {
            for _ in 0..<Int.random(in: 0...40, using: &world.random) { _ = world.network.step() }
            for _ in 0..<Int.random(in: 0...80, using: &world.random) { _ = world.leases.step() }
            for id in world.ids.shuffled(using: &world.random) {
                world.turn(id)
                world.checkActive()
            }
            world.now = world.now + .microseconds(Int64.random(in: 1_000...8_000, using: &world.random))
        }
    }

    private func disturb(_ world: ClusterWorld) {
        guard let id = world.ids.randomElement(using: &world.random) else { return }
        switch Int.random(in: 0..<100, using: &world.random) {
        case 0..<20:
            var left = world.ids.shuffled(using: &world.random)
            var sets: [[NodeID]] = []
            while !left.isEmpty {
                let count = Int.random(in: 1...left.count, using: &world.random)
                sets.append(Array(left.prefix(count)))
                left.removeFirst(count)
            }
            world.connect(sets)
        case 20..<35: world.connect([world.ids])
        case 35..<42: if othersAreWell(world, id) { world.crash(id) }
        case 42..<50: for other in world.ids { world.boot(other) }
        case 50..<60: if othersAreWell(world, id) { world.killAmfd(id) }
        case 60..<72: for other in world.ids { world.startAmfd(other) }
        case 72..<78:
            world.freeze(id, for: .milliseconds(Int64.random(in: 1...600, using: &world.random)))
        case 78..<83:
            world.nodes[id]?.amfd?.hangsUntil =
                world.now + .milliseconds(Int64.random(in: 1...300, using: &world.random))
        case 83..<88: if othersAreWell(world, id) { world.lose(id) }
        case 88..<94:
            if let process = world.nodes[id]?.processes.randomElement(using: &world.random) {
                world.trace.append("\(process.component) on \(id) is killed")
                world.kill(id, process.component, process.instance)
            }
        default: operate(world, id)
        }
    }

    /// Memory is all there is: it survives while a majority of the nodes keeps it.
    private func othersAreWell(_ world: ClusterWorld, _ id: NodeID) -> Bool {
        let well = world.ids.filter { other in
            other != id && world.nodes[other]?.amfd?.replica.status == .synchronised && !world.network.hasInbox(other)
        }
        return well.count > world.ids.count / 2
    }

    /// One at a time, so that the outcome is known.
    private func operate(_ world: ClusterWorld, _ id: NodeID) {
        guard world.nodes[id]?.amfd != nil, world.operations.last.map({ $0.outcome != nil }) ?? true else { return }
        let wanted: AdminState = world.random.chance(percent: 50) ? .locked : .unlocked
        let number = UInt64(world.operations.count + 1)
        world.operations.append((number, id, wanted, nil))
        world.propose(
            id,
            .admin(
                AdminTicket(node: id, number: number), wanted == .locked ? .lock : .unlock, ClusterWorld.group))
        world.trace.append("\(wanted.word) asked on \(id)")
    }

    private func heal(_ world: ClusterWorld) {
        world.connect([world.ids])
        for id in world.ids {
            world.nodes[id]?.frozenUntil = .start
            world.nodes[id]?.amfd?.hangsUntil = .start
            world.boot(id)
            world.startAmfd(id)
        }
        run(world, for: .seconds(6))
        if group(world)?.adminState != .unlocked {
            guard isWanted(world) else { return }
            // Somebody's lock is still wanted: all comes back when it is undone.
            world.operations.removeAll()
            world.propose(
                world.ids[0],
                .admin(AdminTicket(node: world.ids[0], number: 999), .unlock, ClusterWorld.group))
        }
        run(world, for: .seconds(6))
    }

    // MARK: - Judgement

    private func status(_ world: ClusterWorld) -> [String] {
        world.ids.map { id in
            guard let amfd = world.nodes[id]?.amfd else { return "\(id): none" }
            let report = amfd.replica.core.status()
            let units = report.applications.flatMap(\.serviceGroups).flatMap(\.serviceUnits).map {
                "\($0.name) \($0.presenceState.word) \($0.readinessState.word) \($0.operationalState.word)"
            }
            let instances = report.applications.flatMap(\.serviceInstances).map {
                "\($0.name) \($0.assignmentState.word)"
            }
            let processes = world.nodes[id]?.processes.map {
                "\($0.pid) \($0.isStopped ? "stopped" : "") \($0.held.map(\.haState.word))"
            }
            return
                "\(id): \(amfd.replica.status) open \(amfd.gate.isOpen) of \(amfd.replica.core.members.map(\.node)) "
                + "\(units) \(instances) \(processes ?? [])"
        }
    }

    private func group(_ world: ClusterWorld) -> ServiceGroupStatus? {
        world.nodes[world.ids[0]]?.amfd?.replica.core.status().applications.flatMap(\.serviceGroups).first
    }

    /// Nodes where a running process is active.
    private func active(_ world: ClusterWorld) -> [NodeID] {
        world.ids.filter { id in
            world.runs(id)
                && world.nodes[id]?.processes.contains { process in
                    !process.isStopped && process.held.contains { $0.haState == .active }
                } == true
        }
    }

    private func isWhole(_ world: ClusterWorld) -> Bool {
        guard active(world).count == 1 else { return false }
        return world.ids.allSatisfy { id in
            guard let core = world.nodes[id]?.amfd?.replica.core else { return false }
            return core.members.count == world.ids.count
                && core.status().applications.flatMap(\.serviceInstances).allSatisfy {
                    $0.assignmentState == .fullyAssigned
                }
        }
    }

    /// The state that the last acknowledged operation asked for, or one whose outcome nobody knows.
    private func isWanted(_ world: ClusterWorld) -> Bool {
        guard let state = group(world)?.adminState else { return false }
        let acknowledged = world.operations.last { $0.outcome == .some(nil) }?.wanted ?? .unlocked
        let unknown = world.operations.filter { operation in
            guard let outcome = operation.outcome else { return true }
            return outcome == .timeout
        }.map(\.wanted)
        return state == acknowledged || unknown.contains(state)
    }
}
