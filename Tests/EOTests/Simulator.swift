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
    var duplicatePercent: Int
    /// How many of the processes take snapshots by peer link, in percent.
    var carryingPercent: Int
    /// With so many requests the memory of one member fails; 0: never.
    var flawAtRequests: Int
    var sabotage: Replicated<Ledger>.Sabotage?
    var isDisorderly = false

    init(random: inout SeededRandom) {
        nodes = [1, 2, 3, 3, 3, 4, 5, 5].randomElement(using: &random) ?? 3
        steps = Int.random(in: 40...130, using: &random)
        faultPerMille = [10, 40, 150].randomElement(using: &random) ?? 20
        chunkBytes = [16, 64, 4096].randomElement(using: &random) ?? 64
        digestInterval = [2, 8, 32].randomElement(using: &random) ?? 8
        bufferedMax = [8, 64, 1024].randomElement(using: &random) ?? 64
        outboxMax = [8, 16, 64].randomElement(using: &random) ?? 16
        messageBytesMax = [64, 4096, 4096].randomElement(using: &random) ?? 4096
        duplicatePercent = [0, 0, 0, 10].randomElement(using: &random) ?? 0
        carryingPercent = [0, 70, 100].randomElement(using: &random) ?? 0
        flawAtRequests = random.chance(percent: 15) ? Int.random(in: 1...15, using: &random) : 0
    }
}

struct SimulatorCounts {
    var commands = 0
    var views = 0
    var snapshots = 0
    var answers = 0
    var journalRestarts = 0
    var transfers = 0
    var divergences = 0
    var rejoins = 0

    static func += (left: inout SimulatorCounts, right: SimulatorCounts) {
        left.commands += right.commands
        left.views += right.views
        left.snapshots += right.snapshots
        left.answers += right.answers
        left.journalRestarts += right.journalRestarts
        left.transfers += right.transfers
        left.divergences += right.divergences
        left.rejoins += right.rejoins
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

    /// A snapshot on a peer link.
    struct Transfer {
        var due: Instant
        var sender: GroupMember
        var joiner: GroupMember
        var point: SnapshotPoint
        var bytes: [UInt8]
    }

    let options: SimulatorOptions
    let network: SimulatedNetwork
    var random: SeededRandom
    var now = Instant(nanoseconds: 1_000_000_000)
    var processes: [NodeID: Process] = [:]
    /// What survives a process in its node's memory.
    var journals: [NodeID: [[UInt8]]] = [:]
    var transfers: [Transfer] = []
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
        network.duplicatePercent = options.duplicatePercent
        checker.isFlawed = options.flawAtRequests > 0
    }

    /// Returns what was found wrong; empty is good.
    mutating func run() -> [String] {
        for node in network.nodes {
            start(node, restoring: false, flaw: node == network.nodes.last ? options.flawAtRequests : 0)
        }
        for _ in 0..<options.steps where checker.findings.isEmpty {
            if random.chance(percent: 60) { propose() }
            if Int.random(in: 0..<1000, using: &random) < options.faultPerMille { fault() }
            for _ in 0..<Int.random(in: 1...12, using: &random) { _ = network.step() }
            if let node = network.nodes.randomElement(using: &random) { pump(node) }
            bringTransfers()
            now = now + .microseconds(Int64.random(in: 10...2_000, using: &random))
            if random.chance(percent: 1) { now = now + .seconds(Int64.random(in: 1...4, using: &random)) }
        }
        if checker.findings.isEmpty { converge() }
        counts.views = network.viewCount
        counts.answers = checker.answeredCount
        return checker.findings
    }

    // MARK: Life and death

    private mutating func start(_ node: NodeID, restoring: Bool, flaw: Int = 0) {
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
        configuration.announcesEvents = node.rawValue % 2 == 0
        configuration.carriesSnapshots = random.chance(percent: options.carryingPercent)
        var ledger = Ledger()
        ledger.isDisorderly = options.isDisorderly
        ledger.flaw.atRequests = flaw
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

    /// The group's engine died under a process, which goes on in the next one as another member.
    private mutating func rejoin(_ node: NodeID) {
        let group = FragmentingGroup(network.attach(node, incarnation: nextIncarnation), queuedBytesMax: 4096)
        nextIncarnation += 1
        counts.rejoins += 1
        act(node) { node, now in (try? node.rejoin("ledger", over: group, at: now)) ?? [] }
    }

    /// Everybody dies at once, while all are well: the journals hold all that was answered.
    private mutating func crashAll() {
        let members = network.nodes.compactMap { processes[$0]?.node }
        guard members.count == options.nodes, members.allSatisfy({ $0.status == .synchronised }),
            Set(members.map(\.replicated.viewID)).count == 1,
            network.nodes.allSatisfy({ node in
                processes[node]?.node.replicated.viewID.map { network.isCurrent($0, of: node) } ?? false
            })
        else { return }
        for node in network.nodes { crash(node) }
        for node in network.nodes.shuffled(using: &random) { start(node, restoring: true) }
    }

    private mutating func partition() {
        var shuffled = network.nodes.shuffled(using: &random)
        var sets: [[NodeID]] = []
        while !shuffled.isEmpty {
            let count = Int.random(in: 1...shuffled.count, using: &random)
            sets.append(Array(shuffled.prefix(count)))
            shuffled.removeFirst(count)
        }
        network.connect(sets)
    }

    /// One-way loss, as Corosync shows it: several rings in a row, none of which lasts.
    private mutating func flap() {
        for _ in 0..<Int.random(in: 2...6, using: &random) {
            if random.chance(percent: 30) { network.heal() } else { partition() }
            for _ in 0..<Int.random(in: 0...8, using: &random) { _ = network.step() }
            if random.chance(percent: 50) { propose() }
            if let node = network.nodes.randomElement(using: &random) { pump(node) }
        }
    }

    private mutating func fault() {
        switch Int.random(in: 0..<14, using: &random) {
        case 0...3: partition()
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
        case 9: flap()
        case 10:
            if let node = network.nodes.randomElement(using: &random), mayCrash(node) {
                network.lose(node)
            }
        case 11: crashAll()
        case 12: for _ in 0..<Int.random(in: 5...40, using: &random) { propose() }
        default:
            if let node = network.nodes.randomElement(using: &random) {
                let time: Int64 = random.chance(percent: 80) ? 100 : 3_000
                processes[node]?.hungUntil = now + .milliseconds(Int64.random(in: 1...time, using: &random))
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
        if network.isLost(node), !network.hasInbox(node) { return rejoin(node) }
        guard let owed = processes[node]?.owed, !owed.isEmpty, random.chance(percent: 50) else { return }
        processes[node]?.owed.removeFirst()
        let (id, request) = owed[0]
        act(node) { node, now in node.effectDone(id, then: .alarmed(request: request), at: now) }
    }

    private mutating func act(_ id: NodeID, _ body: (inout Node, Instant) -> [Node.Output]) {
        step(id, body)
        while processes[id]?.node.hasMore == true { step(id) { node, now in node.pump(at: now) } }
    }

    private mutating func step(_ id: NodeID, _ body: (inout Node, Instant) -> [Node.Output]) {
        guard var process = processes.removeValue(forKey: id) else { return }  // out of the table: not copied on write
        let before = (index: process.node.replicated.index, status: process.node.status)
        let outputs = body(&process.node, now + process.clockSkew)
        for output in outputs {
            switch output {
            case .journal(.append(let record)): journals[id, default: []].append(record)
            case .journal(.replace(let record)): journals[id] = [record]
            case .performOnce(let effect, let alarm): process.owed.append((effect, alarm.request))
            case .note(.snapshotLoaded): counts.snapshots += 1
            case .note(.diverged): counts.divergences += 1
            case .didApply:
                if process.node.replicated.index == before.index {
                    checker.find("node \(id): an event was announced and not applied")
                }
            case .sendSnapshot(let joiner, let point, let bytes):
                guard !random.chance(percent: 20) else { continue }  // the link is down
                let delay = Duration.microseconds([10, 10_000, 3_000_000].randomElement(using: &random) ?? 10)
                transfers.append(
                    Transfer(
                        due: now + delay, sender: process.node.group.member, joiner: joiner, point: point, bytes: bytes)
                )
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

    private mutating func bringTransfers() {
        guard let place = transfers.firstIndex(where: { $0.due <= now }) else { return }
        let transfer = transfers.remove(at: place)
        guard let process = processes[transfer.joiner.node], process.node.group.member == transfer.joiner,
            process.hungUntil <= now
        else { return }
        counts.transfers += 1
        act(transfer.joiner.node) { node, now in
            node.snapshotReceived(from: transfer.sender, point: transfer.point, bytes: transfer.bytes, at: now)
        }
    }

    // MARK: Liveness

    private mutating func converge() {
        network.heal()
        for node in network.nodes where processes[node] == nil { start(node, restoring: false) }
        for node in network.nodes { processes[node]?.hungUntil = .start }
        settle()
        if options.flawAtRequests > 0 {  // whatever is wrong must be found by digests
            for _ in 0..<(2 * Int(options.digestInterval) + 20) where checker.findings.isEmpty {
                propose()
                for _ in 0..<30 { _ = network.step() }
                for node in network.nodes { pump(node) }
                now = now + .milliseconds(1)
            }
            settle()
        }
        guard checker.findings.isEmpty else { return }
        checker.conclude(network.nodes.compactMap { node in processes[node].map { (node, $0.node.replicated) } })
    }

    private mutating func settle() {
        var rounds = 0
        repeat {
            rounds += 1
            while network.step() {}
            for node in network.nodes { pump(node) }
            bringTransfers()
            if rounds % 20 == 0 { now = now + .seconds(1) } else { now = now + .milliseconds(15) }
        } while rounds < 2_000 && !isQuiet && checker.findings.isEmpty
        if !isQuiet {
            let states = network.nodes.map { node in
                processes[node].map { "\($0.node.status) at \($0.node.replicated.index)" } ?? "dead"
            }
            checker.find("after healing, no quiet: \(states)")
        }
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
