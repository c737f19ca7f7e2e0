import Containers
import EOReplicated
import EngineKit
import IOCGroups
import LogEngine
import LogProtocol
import SAFTypes

@testable import LogShell

/// A few nodes, each with registry, engine, spool and disk, over a simulated group and simulated links.
///
/// What a kill of logd leaves: the registry's journal, the spool, and what of ledger and files was performed.
final class GlobalWorld {
    typealias Registry = ReplicatedNode<StreamRegistry, SimulatedGroup>

    /// What the worker has to do, in its order.
    enum Job {
        case store([LedgerEntry])
        case truncate(UInt64)
        case reset(LedgerState)
        case load(NodeID, UInt64)
        case publish([LedgerEntry])
    }

    final class Node {
        let id: NodeID
        let keepsFiles: Bool
        /// Nil: logd does not run.
        var registry: Registry?
        var engine: GlobalLogEngine
        var life: UInt64 = 0
        var registryJournal: [[UInt8]] = []
        var timer: Instant?
        /// By ticket of the registry.
        var tickets: [UInt64: UInt64] = [:]
        var jobs: [Job] = []
        var queue: [GlobalLogEngine.Event] = []
        var isHandling = false
        var view: [NodeID] = []
        var hasArrivalOnItsWay = false

        // On the disk.
        var base = LedgerState()
        var ledger: [LedgerEntry] = []
        private(set) var state = LedgerState()
        var store: UInt64
        var published: [LedgerEntry] = []
        var noted: UInt64 = 0

        // In memory that outlives logd.
        var spoolIncarnation: UInt64
        var spooled: UInt64 = 0
        var released: UInt64 = 0

        init(_ id: NodeID, keepsFiles: Bool, _ engine: GlobalLogEngine, store: UInt64) {
            (self.id, self.keepsFiles, self.engine, self.store) = (id, keepsFiles, engine, store)
            spoolIncarnation = store
        }

        func append(_ entry: LedgerEntry) {
            precondition(state.apply(entry), "a ledger with a gap")
            ledger.append(entry)
        }

        func cut(to number: UInt64) {
            ledger.removeAll { $0.number > number }
            state = base
            for entry in ledger { precondition(state.apply(entry), "a ledger with a gap") }
        }
    }

    let network: SimulatedNetwork
    var random: SeededRandom
    var now = Instant.start + .seconds(1)
    var nodes: [Node] = []
    /// Messages from one node to another, in order; nil: no link.
    var ways: [[[(epoch: UInt64, message: LogPeerMessage)]?]]
    var side: [Int]
    var limits = GlobalLogEngine.Limits()
    /// Nodes whose disks stand still.
    var slowDisks: Set<Int> = []
    private(set) var notes: [String] = []

    init(controllers: Int, payloads: Int, seed: UInt64) {
        let count = controllers + payloads
        network = SimulatedNetwork(nodes: count, seed: seed)
        random = SeededRandom(seed: seed)
        ways = Array(repeating: Array(repeating: nil, count: count), count: count)
        side = Array(repeating: 0, count: count)
        limits.sendingBytes = 2000
        limits.followingBytes = 2000
        limits.recentBytes = 4000
        limits.publishBytes = 1000
        limits.unpublishedBytes = 4000
        for index in 0..<count {
            let id = network.nodes[index]
            let engine = GlobalLogEngine(
                node: id, keepsFiles: index < controllers, life: 0, spool: (incarnation: 0, released: 0, through: 0))
            let store = random.next() | 1
            nodes.append(Node(id, keepsFiles: index < controllers, engine, store: store))
            start(index)
        }
    }

    // MARK: Lives of logd

    private var life: UInt64 = 0

    func start(_ index: Int) {
        let node = nodes[index]
        life += 1
        node.life = life
        let group = network.attach(node.id, incarnation: life)
        var configuration = ReplicatedConfiguration(member: group.member)
        configuration.isJournaling = true
        configuration.digestInterval = 16
        // Files are cut back to what the note says.
        node.published.removeAll { $0.number > node.noted }
        node.engine = GlobalLogEngine(
            node: node.id, keepsFiles: node.keepsFiles, life: life,
            spool: (incarnation: node.spoolIncarnation, released: node.released, through: node.spooled),
            ledger: node.state, firstKept: node.base.number + 1, published: min(node.noted, node.state.number),
            limits: limits)
        do {
            let restored = try Replicated(
                core: StreamRegistry(), configuration: configuration, restoring: node.registryJournal)
            node.registry = Registry(restored, over: group)
            act(index, try node.registry?.start("log", at: now) ?? [])
        } catch {
            preconditionFailure("what was kept cannot be read: \(error)")
        }
        registryChanged(index)
    }

    /// kill -9.
    func kill(_ index: Int) {
        let node = nodes[index]
        network.crash(node.id)
        node.registry = nil
        node.queue = []
        node.timer = nil
        node.tickets = [:]
        node.hasArrivalOnItsWay = false
        // What the worker had begun may be half done: here, done or not.
        while !node.jobs.isEmpty, random.chance(percent: 50) { performJob(index) }
        node.jobs = []
        for other in nodes.indices where other != index {
            ways[index][other] = nil
            breakWay(other, index)
        }
    }

    func breakWay(_ from: Int, _ to: Int) {
        guard ways[from][to] != nil else { return }
        ways[from][to] = nil
        handle(.link(nodes[to].id, isUp: false), at: from)
    }

    func divide(_ sides: [Int]) {
        side = sides
        network.connect(
            (0..<nodes.count).map { number in nodes.indices.filter { sides[$0] == number }.map { nodes[$0].id } }
                .filter { !$0.isEmpty })
        for from in nodes.indices {
            for to in nodes.indices where sides[from] != sides[to] { breakWay(from, to) }
        }
    }

    // MARK: One node

    /// A writer's record is accepted.
    func write(_ index: Int) {
        let node = nodes[index]
        guard node.registry != nil, node.spooled - node.released < 400 else { return }
        node.spooled += 1
        handle(.spooled(through: node.spooled), at: index)
    }

    static func frame(_ node: NodeID, _ number: UInt64) -> [UInt8] {
        var writer = ByteWriter()
        let record = RecordLayout.encode(
            "\(node.rawValue):\(number)", severity: .notice, stream: .clusterSystem, area: "", context: "", time: 0)
        record.withUnsafeBytes {
            GlobalRecord.append(
                $0, to: StreamID(.clusterSystem), process: 1, program: [], hasTime: true, into: &writer)
        }
        return writer.bytes
    }

    func handle(_ event: GlobalLogEngine.Event, at index: Int) {
        let node = nodes[index]
        guard node.registry != nil else { return }
        node.queue.append(event)
        guard !node.isHandling else { return }
        node.isHandling = true
        defer { node.isHandling = false }
        while !node.queue.isEmpty {
            let event = node.queue.removeFirst()
            for effect in node.engine.handle(event, at: now) { perform(effect, at: index) }
        }
    }

    private func perform(_ effect: GlobalLogEngine.Effect, at index: Int) {
        let node = nodes[index]
        switch effect {
        case .send(let message, let epoch, let other):
            let to = Int(other.rawValue) - 1
            ways[index][to]?.append((epoch, message))
        case .readSpool(let session, let from):
            let last = min(node.spooled, from + UInt64.random(in: 0..<6, using: &random))
            let batch: RecordBatch? =
                from > last
                ? nil
                : RecordBatch(
                    node: node.id, incarnation: node.spoolIncarnation, first: from, count: UInt32(last - from + 1),
                    records: (from...last).flatMap { Self.frame(node.id, $0) })
            handle(.spoolRead(session: session, batch), at: index)
        case .releaseSpool(let through): node.released = max(node.released, through)
        case .store(let entries): node.jobs.append(.store(entries))
        case .truncate(let number): node.jobs.append(.truncate(number))
        case .reset(let state): node.jobs.append(.reset(state))
        case .load(let target, let from): node.jobs.append(.load(target, from))
        case .publish(let entries): node.jobs.append(.publish(entries))
        case .propose(let command, let ticket):
            lastTicket += 1
            node.tickets[lastTicket] = ticket
            act(index, node.registry?.propose(command, ticket: lastTicket, at: now) ?? [])
        case .setTimer(let instant): node.timer = instant
        case .note(_, let text): notes.append("node \(node.id): \(text)")
        }
    }
    private var lastTicket: UInt64 = 0

    func performJob(_ index: Int) {
        let node = nodes[index]
        guard !node.jobs.isEmpty else { return }
        switch node.jobs.removeFirst() {
        case .store(let entries):
            for entry in entries {
                node.append(entry)
            }
            retain(node)
            handle(.stored(through: node.state.number, firstKept: node.base.number + 1), at: index)
        case .truncate(let number):
            node.cut(to: number)
            node.noted = min(node.noted, number)
            handle(.truncated(node.state, firstKept: node.base.number + 1), at: index)
        case .reset(let state):
            node.base = state
            node.cut(to: 0)
            node.noted = state.number
            handle(.truncated(node.state, firstKept: node.base.number + 1), at: index)
        case .load(let target, let from):
            if from <= node.base.number {
                handle(.loaded(for: target, from: from, [], base: node.base), at: index)
            } else {
                let entries = Array(node.ledger.filter { $0.number >= from }.prefix(4))
                handle(.loaded(for: target, from: from, entries, base: nil), at: index)
            }
        case .publish(let entries):
            node.published += entries.filter { $0.number > node.noted }
            if random.chance(percent: 90) || node.registry != nil { node.noted = entries.last?.number ?? node.noted }
            handle(.published(through: node.noted), at: index)
        }
    }

    /// Only the last entries are kept, when they are in the files.
    var keptMax = Int.max
    private func retain(_ node: Node) {
        while node.ledger.count > keptMax, let first = node.ledger.first, first.number <= node.noted {
            precondition(node.base.apply(first))
            node.ledger.removeFirst()
        }
    }

    private func act(_ index: Int, _ outputs: [Registry.Output]) {
        let node = nodes[index]
        for output in outputs {
            switch output {
            case .journal(.append(let record)): node.registryJournal.append(record)
            case .journal(.replace(let record)): node.registryJournal = [record]
            case .perform(.changed, _), .stateReplaced: registryChanged(index)
            case .perform(.refused, let ticket): answer(ticket, isDone: false, index)
            case .answer(let ticket, .done): answer(ticket, isDone: true, index)
            case .answer(let ticket, .refused(let code)):
                answer(ticket, isDone: code == .tryAgain ? false : nil, index)
            case .view(let view):
                node.view = view.members.map(\.node)
                registryChanged(index)
            case .status: registryChanged(index)
            case .willApply, .didApply, .perform, .performOnce, .sendSnapshot, .note: break
            }
        }
    }

    private func answer(_ ticket: UInt64?, isDone: Bool?, _ index: Int) {
        let node = nodes[index]
        guard let ticket else { return }
        guard let known = node.tickets.removeValue(forKey: ticket) else {
            if arrivals.remove(ticket) != nil {
                node.hasArrivalOnItsWay = false
                registryChanged(index)
            }
            return
        }
        handle(.answered(ticket: known, isDone: isDone), at: index)
    }
    private var arrivals: Set<UInt64> = []

    private func registryChanged(_ index: Int) {
        let node = nodes[index]
        guard let registry = node.registry else { return }
        handle(.ownership(registry.core.ownership), at: index)
        guard registry.status == .synchronised else { return }
        if registry.core.incarnation(of: node.id) != node.life, !node.hasArrivalOnItsWay {
            node.hasArrivalOnItsWay = true
            lastTicket += 1
            arrivals.insert(lastTicket)
            let arrival = Arrival(
                node: node.id, incarnation: node.life, keepsFiles: node.keepsFiles, store: node.store,
                position: node.state.position, controllers: UInt16(nodes.count { $0.keepsFiles }))
            act(index, node.registry?.propose(.arrived(arrival), ticket: lastTicket, at: now) ?? [])
        }
        let gone = registry.core.ownership.keepers.contains { !node.view.contains($0.node) }
        if registry.replicated.isOldest, gone {
            lastTicket += 1
            act(index, node.registry?.propose(.present(node.view), ticket: lastTicket, at: now) ?? [])
        }
    }

    // MARK: Movement

    func step() {
        switch Int.random(in: 0..<12, using: &random) {
        case 0..<5: _ = network.step()
        case 5..<8: moveMessage()
        case 8..<11:
            let index = Int.random(in: nodes.indices, using: &random)
            if !slowDisks.contains(index) { performJob(index) }
        default: connectWay()
        }
        for index in nodes.indices where nodes[index].registry != nil {
            act(index, nodes[index].registry?.pump(at: now) ?? [])
            if let due = nodes[index].timer, due <= now {
                nodes[index].timer = nil
                handle(.timer, at: index)
            }
        }
        now = now + .milliseconds(1)
    }

    private func moveMessage() {
        var choices: [(Int, Int)] = []
        for from in nodes.indices {
            for to in nodes.indices where ways[from][to]?.isEmpty == false { choices.append((from, to)) }
        }
        guard let (from, to) = choices.randomElement(using: &random) else { return }
        for _ in 0..<Int.random(in: 1...6, using: &random) {
            guard let queue = ways[from][to], let first = queue.first else { return }
            ways[from][to]?.removeFirst()
            // Through their bytes, as between machines.
            let body = first.message.body(epoch: first.epoch)
            do throws(DecodeError) {
                var decoded: Result<(epoch: UInt64, message: LogPeerMessage), DecodeError>?
                body.withUnsafeBytes { raw in
                    do throws(DecodeError) {
                        decoded = .success(try LogPeerMessage.decode(code: first.message.code, body: raw))
                    } catch {
                        decoded = .failure(error)
                    }
                }
                guard let (epoch, message) = try decoded?.get() else { return }
                handle(.received(message, epoch: epoch, from: nodes[from].id), at: to)
            } catch {
                preconditionFailure("a message cannot be read: \(error)")
            }
        }
    }

    private func connectWay() {
        let from = Int.random(in: nodes.indices, using: &random)
        let to = Int.random(in: nodes.indices, using: &random)
        guard from != to, side[from] == side[to], ways[from][to] == nil, nodes[from].registry != nil,
            nodes[to].registry != nil
        else { return }
        ways[from][to] = []
        handle(.link(nodes[to].id, isUp: true), at: from)
    }

    func settle(_ steps: Int = 60_000, until isDone: () -> Bool) -> Bool {
        for step in 0..<steps {
            if step % 16 == 0, isDone() { return true }
            self.step()
        }
        return isDone()
    }

    // MARK: What is to be held

    /// All that was accepted is acknowledged, and in all files.
    var isQuiet: Bool {
        let end = nodes.lazy.map { $0.state.number }.max()
        return nodes.allSatisfy { node in
            node.registry != nil && node.released == node.spooled && (!node.keepsFiles || node.noted == end)
        }
    }

    /// The records in a controller's files, as "node:number", in their order.
    func records(_ index: Int) -> [String] {
        nodes[index].published.flatMap { entry -> [String] in
            entry.batch.records.isEmpty
                ? ["\(entry.batch.node.rawValue):missing"]
                : (entry.batch.first...entry.batch.last).map { "\(entry.batch.node.rawValue):\($0)" }
        }
    }

    func accepted(_ index: Int) -> [String] {
        let node = nodes[index]
        return node.spooled == 0 ? [] : (1...node.spooled).map { "\(node.id.rawValue):\($0)" }
    }
}
