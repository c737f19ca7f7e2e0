import EOReplicated
import EngineKit
import EventEngine
import EventProtocol
import IOCGroups
import SAFTypes

@testable import eventd

/// A few nodes, each with both engines and what they keep, over a simulated group and simulated links, moved by a seed;
/// and clients that confirm, resume and repeat their requests as the library does.
final class ClusterWorld {
    typealias Registry = ReplicatedNode<ChannelRegistry, SimulatedGroup>

    final class Node {
        let id: NodeID
        /// Nil: eventd does not run.
        var registry: Registry?
        var engine: NodeEngine
        var registryJournal: [[UInt8]] = []
        var journal: [[UInt8]] = []
        var timer: Instant?
        var view: [NodeID] = []
        var held: [NodeEngine.Event]? = []
        var queue: [NodeEngine.Event] = []
        var isDraining = false

        init(_ id: NodeID, _ engine: NodeEngine) { (self.id, self.engine) = (id, engine) }
    }

    final class Client {
        let session: ClientSession
        let node: Int
        var lastNumber: UInt64 = 0
        /// Requests without an answer, and what to do with it.
        var waiting: [UInt64: (request: EventRequest, then: (Result<NodeEngine.Reply, EventFailure>) -> Void)] = [:]
        var channel: UInt64 = 0
        var isOpen = false
        var hasEnded = false
        var filters: [EventFilter]?
        var numbers = ReceivedNumbers()
        var received: [EventMessage] = []
        var owesConfirmation = false
        var published: [EventPriority: Int] = [:]

        init(_ number: UInt64, node: Int) {
            session = ClientSession(high: UInt64(node), low: number)
            self.node = node
        }
    }

    /// A way from one node to another: in order within a lane, an urgent lane may overtake.
    struct Way {
        var isUp = false
        var lanes: [[PeerMessage]] = EventPriority.allCases.map { _ in [] }
    }

    let network: SimulatedNetwork
    let limits: NodeEngine.Limits
    var random: SeededRandom
    var now = Instant.start + .seconds(1)
    var nodes: [Node] = []
    var ways: [[Way]]
    var clients: [Client] = []
    /// Which nodes hear each other, by the number of their side.
    var side: [Int]
    /// It serves its clients, and neither hears the group nor says anything to others.
    var silent: NodeID?
    private var incarnation: UInt64 = 0
    static let name = SaName("c")!

    init(nodes count: Int, seed: UInt64, limits: NodeEngine.Limits) {
        network = SimulatedNetwork(nodes: count, seed: seed)
        random = SeededRandom(seed: seed)
        self.limits = limits
        ways = Array(repeating: Array(repeating: Way(), count: count), count: count)
        side = Array(repeating: 0, count: count)
        for index in 0..<count {
            nodes.append(Node(network.nodes[index], fresh(index)))
            start(index)
        }
    }

    private func fresh(_ index: Int) -> NodeEngine {
        NodeEngine(
            node: network.nodes[index], firstEvent: UInt64.random(in: 1 << 20..<1 << 40, using: &random),
            lineage: UInt32.random(in: 1 ... .max, using: &random), limits: limits)
    }

    // MARK: Lives of eventd

    func start(_ index: Int) {
        let node = nodes[index]
        incarnation += 1
        let group = network.attach(node.id, incarnation: incarnation)
        var configuration = ReplicatedConfiguration(member: group.member)
        configuration.isJournaling = true
        configuration.digestInterval = 16
        node.engine = fresh(index)
        node.held = []
        node.view = []
        do {
            try node.engine.restore(node.journal)
            let restored = try Replicated(
                core: ChannelRegistry(), configuration: configuration, restoring: node.registryJournal)
            node.registry = Registry(restored, over: group)
        } catch {
            preconditionFailure("what was kept cannot be read: \(error)")
        }
        let core = node.registry?.core ?? ChannelRegistry()
        handle(.registryReplaced(entries(core), lineage: core.lineage), at: index)
        do { act(index, try node.registry?.start("evt", at: now) ?? []) } catch { preconditionFailure("\(error)") }
        for client in clients where client.node == index { connect(client) }
    }

    /// kill -9.
    func kill(_ index: Int) {
        network.crash(nodes[index].id)
        nodes[index].registry = nil
        nodes[index].queue = []
        nodes[index].timer = nil
        for other in nodes.indices where other != index {
            ways[index][other] = Way()
            breakWay(other, index)
        }
    }

    func breakWay(_ from: Int, _ to: Int) {
        guard ways[from][to].isUp else { return }
        ways[from][to] = Way()
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

    private func entries(_ core: ChannelRegistry) -> [RegistryEntry] {
        core.channels.map { RegistryEntry(id: $0.key, channel: $0.value) }
    }

    // MARK: One node

    func handle(_ event: NodeEngine.Event, at index: Int) {
        let node = nodes[index]
        guard node.registry != nil else { return }
        switch event {
        case .connected, .disconnected, .request:
            if node.held != nil {
                node.held?.append(event)
                return
            }
        default: break
        }
        node.queue.append(event)
        guard !node.isDraining else { return }
        node.isDraining = true
        defer { node.isDraining = false }
        var head = 0
        while head < node.queue.count {
            let event = node.queue[head]
            head += 1
            if event.isKept { node.journal.append(NodeEngine.record(of: event, at: now)) }
            let effects = node.engine.handle(event, at: now)
            for case .propose(let command, let ticket) in effects {
                act(index, node.registry?.propose(command, ticket: ticket, at: now) ?? [])
            }
            let isNewLife = if case .registryReplaced = event { true } else { false }
            if isNewLife || node.journal.count > 300 { node.journal = [node.engine.snapshot] }
            for effect in effects { perform(effect, at: index) }
        }
        node.queue.removeAll()
    }

    private func perform(_ effect: NodeEngine.Effect, at index: Int) {
        switch effect {
        case .propose: break
        case .reply(let key, let result):
            guard let client = clients.first(where: { $0.session == key.session }) else { return }
            client.waiting.removeValue(forKey: key.number)?.then(result)
        case .deliver(let delivery, let session):
            guard let client = clients.first(where: { $0.session == session }) else { return }
            if client.numbers.insert(delivery.number) { client.received.append(delivery.event) }
            client.owesConfirmation = true
        case .send(let message, let other):
            let to = Int(other.rawValue) - 1
            guard ways[index][to].isUp else { return }
            ways[index][to].lanes[Int(message.urgency.rawValue)].append(message)
        case .hangUp(let session):
            guard let client = clients.first(where: { $0.session == session }) else { return }
            client.hasEnded = true
        case .setTimer(let instant): nodes[index].timer = instant
        }
    }

    private func act(_ index: Int, _ outputs: [Registry.Output]) {
        let node = nodes[index]
        for output in outputs {
            switch output {
            case .journal(.append(let record)): node.registryJournal.append(record)
            case .journal(.replace(let record)): node.registryJournal = [record]
            case .perform(.changed(let id, let channel), _): handle(.registered(id, channel), at: index)
            case .perform(.opened(let id), let ticket):
                handle(.answered(ticket: ticket ?? 0, .opened(id)), at: index)
            case .perform(.refused(let code, let text), let ticket):
                handle(.answered(ticket: ticket ?? 0, .refused(code, text)), at: index)
            case .answer(let ticket, .done): handle(.answered(ticket: ticket, .done), at: index)
            case .answer(let ticket, .refused(let code)):
                handle(.answered(ticket: ticket, .refused(code, "away")), at: index)
            case .stateReplaced:
                guard let core = node.registry?.core else { continue }
                handle(.registryChanged(entries(core), lineage: core.lineage), at: index)
            case .view(let view):
                node.view = view.members.map(\.node)
                tellMembers(index)
            case .status(let status):
                tellMembers(index)
                guard status == .synchronised, let held = node.held else { continue }
                node.held = nil
                for event in held { handle(event, at: index) }
            case .willApply, .didApply, .performOnce, .sendSnapshot, .note: break
            }
        }
    }

    private func tellMembers(_ index: Int) {
        let isOldest = nodes[index].registry?.replicated.isOldest ?? false
        handle(.members(nodes[index].view, isOldest: isOldest), at: index)
    }

    // MARK: Clients

    @discardableResult
    func client(on node: Int) -> Client {
        let client = Client(UInt64(clients.count + 1), node: node)
        clients.append(client)
        connect(client)
        return client
    }

    private func connect(_ client: Client) {
        let process = ProcessIdentity(id: UInt32(client.session.low), start: 1)
        handle(.connected(client.session, process), at: client.node)
        if client.isOpen {
            let subscriptions = client.filters.map {
                [ResumedInstance.Subscription(id: 1, isPending: false, filters: $0)]
            }
            let resumed = ResumedInstance(
                instance: 1, flags: [.publisher, .subscriber], name: Self.name, channel: client.channel,
                received: client.numbers, subscriptions: subscriptions ?? [])
            ask(client, .resume(resumed)) { result in
                if case .failure = result { client.hasEnded = true }
            }
        }
        for (number, waiting) in client.waiting.sorted(by: { $0.key < $1.key }) {
            if case .resume = waiting.request, number < client.lastNumber {
                client.waiting[number] = nil
            } else if number < client.lastNumber || !client.isOpen {
                transmit(client, number, waiting.request)
            }
        }
    }

    func ask(
        _ client: Client, _ request: EventRequest, then: @escaping (Result<NodeEngine.Reply, EventFailure>) -> Void
    ) {
        client.lastNumber += 1
        client.waiting[client.lastNumber] = (request, then)
        transmit(client, client.lastNumber, request)
    }

    private func transmit(_ client: Client, _ number: UInt64, _ request: EventRequest) {
        let acknowledged = (client.waiting.keys.min() ?? number) - 1
        let origin = RequestOrigin(
            key: RequestKey(session: client.session, number: number), acknowledged: acknowledged,
            wall: SaTime(clamping: now.nanoseconds))
        handle(.request(request, origin), at: client.node)
    }

    /// Until it succeeds.
    func insist(_ client: Client, _ request: EventRequest, then: @escaping (NodeEngine.Reply) -> Void) {
        ask(client, request) { [unowned self] result in
            switch result {
            case .success(let reply): then(reply)
            case .failure: retries.append { [unowned self] in insist(client, request, then: then) }
            }
        }
    }
    private var retries: [() -> Void] = []

    func join(_ client: Client, _ filters: [EventFilter]?) {
        insist(client, .open(instance: 1, flags: [.publisher, .subscriber, .create], name: Self.name)) { reply in
            guard case .opened(let id) = reply else { return }
            client.channel = id.rawValue
            client.isOpen = true
            guard let filters else { return }
            self.insist(client, .subscribe(instance: 1, subscription: 1, filters: filters)) { _ in
                client.filters = filters
            }
        }
    }

    // MARK: Movement

    func step() {
        for client in clients where client.owesConfirmation && nodes[client.node].registry != nil {
            client.owesConfirmation = false
            ask(client, .confirm(instance: 1, client.numbers)) { _ in }
        }
        switch Int.random(in: 0..<10, using: &random) {
        case 0..<5: _ = network.step()
        case 5..<8: moveMessage()
        default: connectWay()
        }
        for index in nodes.indices where nodes[index].registry != nil {
            if nodes[index].id != silent { act(index, nodes[index].registry?.pump(at: now) ?? []) }
            if let due = nodes[index].timer, due <= now {
                nodes[index].timer = nil
                handle(.timer, at: index)
            }
        }
        if random.chance(percent: 20), !retries.isEmpty {
            let again = retries
            retries = []
            for retry in again { retry() }
        }
        now = now + .milliseconds(1)
    }

    private func moveMessage() {
        var choices: [(Int, Int, Int)] = []
        for from in nodes.indices where nodes[from].id != silent {
            for to in nodes.indices where ways[from][to].isUp {
                for lane in 0..<4 where !ways[from][to].lanes[lane].isEmpty { choices.append((from, to, lane)) }
            }
        }
        guard let (from, to, lane) = choices.randomElement(using: &random) else { return }
        for _ in 0..<Int.random(in: 1...8, using: &random) where !ways[from][to].lanes[lane].isEmpty {
            let message = ways[from][to].lanes[lane].removeFirst()
            handle(.received(message, from: nodes[from].id), at: to)
            // As when it was sent again because its confirmation was late.
            guard random.chance(percent: 5), ways[from][to].isUp else { continue }
            handle(.received(message, from: nodes[from].id), at: to)
        }
    }

    private func connectWay() {
        let from = Int.random(in: nodes.indices, using: &random)
        let to = Int.random(in: nodes.indices, using: &random)
        guard from != to, side[from] == side[to], !ways[from][to].isUp, nodes[from].held == nil,
            nodes[to].held == nil, nodes[from].registry != nil, nodes[to].registry != nil
        else { return }
        ways[from][to].isUp = true
        handle(.link(nodes[to].id, isUp: true), at: from)
    }

    func settle(_ steps: Int = 20_000, until isDone: () -> Bool) -> Bool {
        for _ in 0..<steps {
            if isDone() { return true }
            step()
        }
        return isDone()
    }
}
