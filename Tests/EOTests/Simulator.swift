import EOReplicated
import EngineKit
import IOCGroups
import SAFTypes

/// What one seed draws: how large the cluster is and how rough its life.
struct SimulatorOptions {
    var nodes: Int
    var steps: Int
    var faultPerMille: Int
    var chunkBytes: Int
    var digestInterval: UInt64
    var bufferedMax: Int
    var outboxMax: Int
    var messageBytesMax: Int
    var sabotage: Replicated<Ledger>.Sabotage?
    var isDisorderly = false

    init(random: inout SeededRandom) {
        nodes = [1, 2, 3, 3, 3, 4, 5, 5].randomElement(using: &random) ?? 3
        steps = Int.random(in: 40...110, using: &random)
        faultPerMille = [5, 20, 60].randomElement(using: &random) ?? 20
        chunkBytes = [16, 64, 4096].randomElement(using: &random) ?? 64
        digestInterval = [2, 8, 32].randomElement(using: &random) ?? 8
        bufferedMax = [8, 64, 1024].randomElement(using: &random) ?? 64
        outboxMax = [8, 16, 64].randomElement(using: &random) ?? 16
        messageBytesMax = [64, 4096, 4096].randomElement(using: &random) ?? 4096
    }
}

struct SimulatorCounts {
    var commands = 0
    var views = 0
    var snapshots = 0
    var answers = 0
    var journalRestarts = 0

    static func += (left: inout SimulatorCounts, right: SimulatorCounts) {
        left.commands += right.commands
        left.views += right.views
        left.snapshots += right.snapshots
        left.answers += right.answers
        left.journalRestarts += right.journalRestarts
    }
}

/// A cluster of ``Ledger`` members in one process: first a phase with faults, then all is healed and must converge.
/// What must hold is not judged here but by ``SimulatorChecker``, from what members say and do.
struct Simulator {
    typealias Node = ReplicatedNode<Ledger, FragmentingGroup<SimulatedGroup>>

    struct Process {
        var node: Node
        var hungUntil = Instant.start
        /// Once-only effects performed and not yet reported.
        var owed: [(EffectID, UInt64)] = []
        var clockSkew: Duration
    }

    let options: SimulatorOptions
    let network: SimulatedNetwork
    var random: SeededRandom
    var now = Instant(nanoseconds: 1_000_000_000)
    var processes: [NodeID: Process] = [:]
    /// What survives a process in its node's memory.
    var journals: [NodeID: [[UInt8]]] = [:]
    var nextIncarnation: UInt64 = 1
    var nextRequest: UInt64 = 1
    var checker = SimulatorChecker()
    var counts = SimulatorCounts()

    init(seed: UInt64, adjust: (inout SimulatorOptions) -> Void = { _ in }) {
        random = SeededRandom(seed: seed)
        var options = SimulatorOptions(random: &random)
        adjust(&options)
        self.options = options
        network = SimulatedNetwork(
            nodes: options.nodes, seed: random.next(), outboxMax: options.outboxMax,
            messageBytesMax: options.messageBytesMax)
    }

    /// Returns what was found wrong; empty is good.
    mutating func run() -> [String] {
        for node in network.nodes { start(node, restoring: false) }
        for _ in 0..<options.steps where checker.findings.isEmpty {
            if random.chance(percent: 60) { propose() }
            if Int.random(in: 0..<1000, using: &random) < options.faultPerMille { fault() }
            for _ in 0..<Int.random(in: 1...12, using: &random) { _ = network.step() }
            if let node = network.nodes.randomElement(using: &random) { pump(node) }
            now = now + .microseconds(Int64.random(in: 10...2_000, using: &random))
            if random.chance(percent: 1) { now = now + .seconds(Int64.random(in: 1...4, using: &random)) }
        }
        if checker.findings.isEmpty { converge() }
        counts.views = network.viewCount
        counts.answers = checker.answeredCount
        return checker.findings
    }

    // MARK: Life and death

    private mutating func start(_ node: NodeID, restoring: Bool) {
        let incarnation = nextIncarnation
        nextIncarnation += 1
        let group = FragmentingGroup(network.attach(node, incarnation: incarnation), queuedBytesMax: 4096)
        var configuration = ReplicatedConfiguration(member: group.member)
        configuration.formationGrace = nil
        configuration.chunkBytes = options.chunkBytes
        configuration.digestInterval = options.digestInterval
        configuration.bufferedMax = options.bufferedMax
        configuration.isJournaling = true
        configuration.journalBytesMin = 2048
        configuration.outstandingMax = 32
        var ledger = Ledger()
        ledger.isDisorderly = options.isDisorderly
        var replicated = Replicated(core: ledger, configuration: configuration, sabotage: options.sabotage)
        if restoring, let journal = journals[node] {
            do {
                replicated = try Replicated(core: ledger, configuration: configuration, restoring: journal)
                counts.journalRestarts += 1
            } catch {
                checker.find("node \(node): its journal cannot be read back: \(error)")
            }
        }
        let skew = Duration.milliseconds(Int64.random(in: 0...5_000, using: &random))
        processes[node] = Process(node: ReplicatedNode(replicated, over: group), clockSkew: skew)
        act(node) { node, now in (try? node.start("ledger", at: now)) ?? [] }
    }

    private mutating func crash(_ node: NodeID) {
        guard processes[node] != nil else { return }
        processes[node] = nil
        network.crash(node)
        checker.crashed(node)
    }

    /// A process may die only while a majority of nodes hold the state without it: memory is all there is, and nothing
    /// survives the death of most of it. Alone with a journal, it may die at any time.
    private func mayCrash(_ node: NodeID) -> Bool {
        if options.nodes == 1 { return true }
        let holders = network.nodes.filter { other in
            other != node && network.isQuorate(other) && processes[other]?.node.status == .synchronised
                && !network.hasInbox(other)
        }
        return holders.count >= options.nodes / 2 + 1
    }

    private mutating func fault() {
        switch Int.random(in: 0..<10, using: &random) {
        case 0...3:
            var shuffled = network.nodes.shuffled(using: &random)
            var sets: [[NodeID]] = []
            while !shuffled.isEmpty {
                let count = Int.random(in: 1...shuffled.count, using: &random)
                sets.append(Array(shuffled.prefix(count)))
                shuffled.removeFirst(count)
            }
            network.connect(sets)
        case 4...5: network.heal()
        case 6...7:
            if let node = network.nodes.randomElement(using: &random), mayCrash(node) {
                crash(node)
                if options.nodes == 1 || random.chance(percent: 30) { start(node, restoring: true) }
            }
        case 8:
            for node in network.nodes where processes[node] == nil {
                start(node, restoring: random.chance(percent: 50))
            }
        default:
            if let node = network.nodes.randomElement(using: &random) {
                processes[node]?.hungUntil = now + .milliseconds(Int64.random(in: 1...100, using: &random))
            }
        }
    }

    // MARK: Work

    private mutating func propose() {
        guard let node = network.nodes.randomElement(using: &random), processes[node] != nil else { return }
        let request = nextRequest
        nextRequest += 1
        let event: Ledger.Event =
            switch Int.random(in: 0..<10, using: &random) {
            case 0...1: .alarm(request: request)
            case 2: .remind(key: request % 4, after: .milliseconds(Int64.random(in: 1...50, using: &random)))
            default: .add(name: UInt32(request % 5), amount: request, request: request)
            }
        checker.proposed(request, event, by: node)
        act(node) { node, now in node.propose(event, ticket: request, at: now) }
    }

    private mutating func pump(_ node: NodeID) {
        guard let process = processes[node], process.hungUntil <= now else { return }
        act(node) { node, now in node.pump(at: now) }
        guard let owed = processes[node]?.owed, !owed.isEmpty, random.chance(percent: 50) else { return }
        processes[node]?.owed.removeFirst()
        let (id, request) = owed[0]
        act(node) { node, now in node.effectDone(id, then: .alarmed(request: request), at: now) }
    }

    private mutating func act(_ id: NodeID, _ body: (inout Node, Instant) -> [Node.Output]) {
        guard var process = processes.removeValue(forKey: id) else { return }  // out of the table: not copied on write
        let before = (index: process.node.replicated.index, status: process.node.status)
        let outputs = body(&process.node, now + process.clockSkew)
        for output in outputs {
            switch output {
            case .journal(.append(let record)): journals[id, default: []].append(record)
            case .journal(.replace(let record)): journals[id] = [record]
            case .performOnce(let effect, let alarm): process.owed.append((effect, alarm.request))
            case .note(.snapshotLoaded): counts.snapshots += 1
            default: break
            }
        }
        processes[id] = process
        counts.commands += Int(max(process.node.replicated.index, before.index) - before.index)
        checker.observe(outputs, of: id, from: before.index, before.status, after: process.node.replicated)
        let connected = network.nodes.compactMap { node in
            processes[node].map { (node, $0.node.replicated) }
        }.filter { node, member in member.viewID.map { network.isCurrent($0, of: node) } ?? false }
        checker.compare(connected, changed: id)
    }

    // MARK: Liveness

    private mutating func converge() {
        network.heal()
        for node in network.nodes where processes[node] == nil { start(node, restoring: false) }
        for node in network.nodes { processes[node]?.hungUntil = .start }
        var rounds = 0
        repeat {
            rounds += 1
            while network.step() {}
            for node in network.nodes { pump(node) }
            if rounds % 20 == 0 { now = now + .seconds(1) } else { now = now + .milliseconds(15) }
        } while rounds < 2_000 && !isQuiet && checker.findings.isEmpty
        if !isQuiet {
            let states = network.nodes.map { node in
                processes[node].map { "\($0.node.status) at \($0.node.replicated.index)" } ?? "dead"
            }
            checker.find("after healing, no quiet: \(states)")
        }
        guard checker.findings.isEmpty else { return }
        checker.conclude(network.nodes.compactMap { node in processes[node].map { (node, $0.node.replicated) } })
    }

    private var isQuiet: Bool {
        let members = network.nodes.compactMap { processes[$0] }
        return members.allSatisfy { process in
            process.node.status == .synchronised && process.owed.isEmpty && !process.node.hasUnsent
                && process.node.replicated.index == members.first?.node.replicated.index
                && process.node.replicated.pendingEffects.isEmpty && process.node.replicated.timerCount == 0
        } && !network.nodes.contains { network.hasInbox($0) } && checker.openCount == 0
    }
}
