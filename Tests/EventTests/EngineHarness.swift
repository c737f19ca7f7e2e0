import EngineKit
import EventEngine
import EventProtocol
import SAFTypes

/// Both engines, what they keep, and clients that confirm and resume as the library does; no process, no socket.
struct Harness {
    typealias Answer = Result<NodeEngine.Reply, EventFailure>

    /// What a client knows across the lives of eventd.
    struct Client {
        var requestNumber: UInt64 = 0
        /// A request whose answer it still waits for.
        var outstanding: UInt64?
        var instances: [UInt32: (channel: UInt64, flags: ChannelOpenFlags, name: SaName, received: ReceivedNumbers)] =
            [:]
        var subscriptions: [UInt32: [UInt32: [EventFilter]]] = [:]
    }

    let limits: NodeEngine.Limits
    var engine: NodeEngine
    var registry: ChannelRegistry
    var now = Instant(nanoseconds: 1_000_000)
    var clients: [UInt64: Client] = [:]
    /// Without repetitions, as the application gets them.
    var received: [UInt64: [EventDelivery]] = [:]
    var repetitions = 0
    var journal: [[UInt8]] = []
    var timer: Instant?
    /// What other nodes were sent.
    var messages: [(node: NodeID, message: PeerMessage)] = []
    /// Clients that take nothing at the moment.
    var stopped: Set<UInt64> = []
    /// Clients confirm every delivery as it comes.
    var confirmsAtOnce = true
    private var unconfirmed: Set<UInt64> = []
    /// The registry answers nothing at the moment.
    var registryIsAway = false
    private var answers: [RequestKey: Answer] = [:]

    static let node = NodeID(1)

    init(limits: NodeEngine.Limits = NodeEngine.Limits(), channelsMax: Int = EventLimits.channelsMax) {
        self.limits = limits
        registry = ChannelRegistry(channelsMax: channelsMax)
        engine = NodeEngine(node: Self.node, firstEvent: 5_000, lineage: 77, limits: limits)
        beginLife()
    }

    private mutating func beginLife() {
        let entries = registry.channels.map { RegistryEntry(id: $0.key, channel: $0.value) }
        run(.registryReplaced(entries, lineage: registry.lineage))
        journal = [engine.snapshot]
    }

    static func session(_ client: UInt64) -> ClientSession { ClientSession(high: 1, low: client) }

    private mutating func connect(_ client: UInt64) {
        guard clients[client] == nil else { return }
        clients[client] = Client()
        run(.connected(Self.session(client), ProcessIdentity(id: UInt32(client), start: 1)))
    }

    @discardableResult
    mutating func ask(_ request: EventRequest, from client: UInt64 = 1) -> Answer {
        let key = transmit(request, from: client, nil)
        guard let answer = answers.removeValue(forKey: key) else { preconditionFailure("no answer to \(request)") }
        note(request, answer, of: client)
        return answer
    }

    /// Asks and leaves the answer open, so that the same can be asked `again`.
    @discardableResult
    mutating func send(_ request: EventRequest, from client: UInt64, again number: UInt64? = nil) -> RequestKey {
        connect(client)
        // Before it is sent: what the client says meanwhile must not count it as answered.
        let next = (clients[client]?.requestNumber ?? 0) + 1
        clients[client]?.outstanding = number ?? next
        return transmit(request, from: client, number)
    }

    private mutating func transmit(_ request: EventRequest, from client: UInt64, _ number: UInt64?) -> RequestKey {
        connect(client)
        if number == nil { clients[client]?.requestNumber += 1 }
        let key = RequestKey(session: Self.session(client), number: number ?? clients[client]?.requestNumber ?? 0)
        let acknowledged = min(key.number, clients[client]?.outstanding ?? .max) - 1
        let wall = SaTime(clamping: now.nanoseconds)
        run(.request(request, RequestOrigin(key: key, acknowledged: acknowledged, wall: wall)))
        return key
    }

    mutating func takeAnswer(_ key: RequestKey) -> Answer? {
        clients[key.session.low]?.outstanding = nil
        return answers.removeValue(forKey: key)
    }

    /// What the library notes of an answer.
    mutating func note(_ request: EventRequest, _ answer: Answer, of client: UInt64) {
        guard case .success(let reply) = answer else { return }
        switch (request, reply) {
        case (.open(let instance, let flags, let name), .opened(let id)):
            clients[client]?.instances[instance] = (id.rawValue, flags, name, ReceivedNumbers())
            clients[client]?.subscriptions[instance] = [:]
        case (.close(let instance), _): clients[client]?.instances[instance] = nil
        case (.subscribe(let instance, let id, let filters), _):
            clients[client]?.subscriptions[instance]?[id] = filters
        case (.unsubscribe(let instance, let id), _): clients[client]?.subscriptions[instance]?[id] = nil
        default: break
        }
    }

    mutating func run(_ event: NodeEngine.Event) {
        var queue = [event]
        var index = 0
        while index < queue.count {
            let event = queue[index]
            index += 1
            if event.isKept { journal.append(NodeEngine.record(of: event, at: now)) }
            for effect in engine.handle(event, at: now) { perform(effect, &queue) }
        }
        while confirmsAtOnce, let client = unconfirmed.min() {
            unconfirmed.remove(client)
            confirm(client)
        }
    }

    private mutating func perform(_ effect: NodeEngine.Effect, _ queue: inout [NodeEngine.Event]) {
        switch effect {
        case .reply(let key, let answer):
            precondition(answers.updateValue(answer, forKey: key) == nil, "a request is answered once")
        case .deliver(let delivery, let session):
            let client = session.low
            if stopped.contains(client) {
                queue.append(.refused(session, instance: delivery.instance, number: delivery.number))
            } else if clients[client]?.instances[delivery.instance]?.received.insert(delivery.number) == true {
                received[client, default: []].append(delivery)
                unconfirmed.insert(client)
            } else {
                repetitions += 1
            }
        case .propose(let command, let ticket):
            guard !registryIsAway else {
                queue.append(.answered(ticket: ticket, .refused(.tryAgain, "away")))
                return
            }
            for outcome in registry.handle(command, at: now) {
                switch outcome {
                case .changed(let id, let channel): queue.append(.registered(id, channel))
                case .opened(let id): queue.append(.answered(ticket: ticket, .opened(id)))
                case .refused(let code, let text): queue.append(.answered(ticket: ticket, .refused(code, text)))
                }
            }
            queue.append(.answered(ticket: ticket, .done))
        case .send(let message, let node): messages.append((node, message))
        case .hangUp: break
        case .setTimer(let instant): timer = instant
        }
    }

    /// kill -9: the next life has what was kept, without the last `lost` records; the clients are there again.
    mutating func restart(losing lost: Int = 0) throws {
        answers = [:]
        journal.removeLast(min(lost, journal.count - 1))
        engine = NodeEngine(node: Self.node, firstEvent: 1, lineage: 99, limits: limits)
        try engine.restore(journal)
        beginLife()
        answers = [:]  // to requests of the life before
        for client in clients.keys.sorted() { resume(client) }
    }

    mutating func resume(_ client: UInt64) {
        run(.connected(Self.session(client), ProcessIdentity(id: UInt32(client), start: 1)))
        let known = clients[client] ?? Client()
        for (number, instance) in known.instances.sorted(by: { $0.key < $1.key }) {
            let subscriptions = (known.subscriptions[number] ?? [:]).sorted { $0.key < $1.key }.map {
                ResumedInstance.Subscription(id: $0.key, isPending: false, filters: $0.value)
            }
            let request = EventRequest.resume(
                ResumedInstance(
                    instance: number, flags: instance.flags, name: instance.name, channel: instance.channel,
                    received: instance.received, subscriptions: subscriptions))
            switch ask(request, from: client) {
            case .success(.opened(let id)): clients[client]?.instances[number]?.channel = id.rawValue
            case .success, .failure: clients[client]?.instances[number] = nil
            }
        }
        ask(.keepOnly((clients[client] ?? Client()).instances.keys.sorted()), from: client)
    }

    mutating func confirm(_ client: UInt64) {
        for (number, instance) in (clients[client]?.instances ?? [:]).sorted(by: { $0.key < $1.key }) {
            ask(.confirm(instance: number, instance.received), from: client)
        }
    }

    mutating func die(_ client: UInt64) {
        clients[client] = nil
        run(.disconnected(Self.session(client), isDead: true))
    }

    mutating func goOn(_ client: UInt64) {
        stopped.remove(client)
        run(.writable(Self.session(client)))
    }

    /// Lets time pass, with the timer.
    mutating func pass(_ duration: Duration) {
        let end = now + duration
        while let due = timer, due <= end {
            now = max(now, due)
            timer = nil
            run(.timer)
        }
        now = end
    }

    /// The way to another node stands, and it has had nothing yet.
    mutating func link(_ node: NodeID) {
        run(.link(node, isUp: true))
        for case (node, .hello(let stream, _)) in messages {
            run(.received(.received(stream: stream, isKnown: true, ReceivedNumbers()), from: node))
        }
    }

    /// Events that other nodes were sent.
    var forwardedEvents: [(NodeID, EventMessage)] {
        messages.compactMap { sent in
            if case .forward(_, _, .event(_, let event, _, _)) = sent.message { (sent.node, event) } else { nil }
        }
    }

    func data(of client: UInt64) -> [String] {
        (received[client] ?? []).map { $0.event.isLost ? "LOST" : String(decoding: $0.event.data, as: UTF8.self) }
    }

    /// Opens instance 1 of `channel` for a client and subscribes to everything.
    mutating func join(_ client: UInt64, _ channel: String = "c", filters: [EventFilter] = []) {
        ask(.open(instance: 1, flags: [.publisher, .subscriber, .create], name: SaName(channel)!), from: client)
        ask(.subscribe(instance: 1, subscription: 1, filters: filters), from: client)
    }

    static func event(
        _ text: String, _ patterns: [String] = [], priority: EventPriority = .lowest, retention: SaTime = 0
    ) -> EventMessage {
        EventMessage(
            patterns: patterns.map { Array($0.utf8) }, data: Array(text.utf8), priority: priority, retention: retention)
    }

    @discardableResult
    mutating func publish(
        _ text: String, _ patterns: [String] = [], priority: EventPriority = .lowest, retention: SaTime = 0,
        from client: UInt64 = 1
    ) -> Answer {
        ask(.publish(instance: 1, Self.event(text, patterns, priority: priority, retention: retention)), from: client)
    }
}

extension Result where Failure == EventFailure {
    var code: AisError? {
        if case .failure(let failure) = self { return failure.code }
        return nil
    }
}
