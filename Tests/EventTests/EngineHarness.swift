import EngineKit
import EventEngine
import EventProtocol
import SAFTypes

/// An engine, its answers and what each client has received, without a process or a socket.
struct Harness {
    var engine: EventEngine
    var now = Instant(nanoseconds: 1_000_000)
    var ticket: UInt64 = 0
    var received: [ClientID: [EventDelivery]] = [:]
    var kept: [RecordKey: Record] = [:]
    var timer: Instant?
    /// Clients that take nothing at the moment.
    var stopped: Set<ClientID> = []

    init(limits: EventEngine.Limits = EventEngine.Limits()) { engine = EventEngine(firstEventID: 0, limits: limits) }

    @discardableResult
    mutating func ask(_ request: EventRequest, from client: UInt64 = 1) -> Result<EventEngine.EventReply, EventFailure>
    {
        ticket += 1
        let wall = SaTime(clamping: now.nanoseconds)
        var answers: [Result<EventEngine.EventReply, EventFailure>] = []
        for effect in run(.request(request, client: ClientID(client), ticket: ticket, wall: wall)) {
            if case .reply(let number, let result) = effect, number == ticket { answers.append(result) }
        }
        precondition(answers.count == 1, "a request is answered exactly once")
        return answers[0]
    }

    @discardableResult
    mutating func run(_ event: EventEngine.Event) -> [EventEngine.Effect] {
        let effects = engine.handle(event, at: now)
        var refused: [(EventDelivery, ClientID)] = []
        for effect in effects {
            switch effect {
            case .deliver(let delivery, let client):
                if stopped.contains(client) {
                    refused.append((delivery, client))
                } else {
                    received[client, default: []].append(delivery)
                }
            case .keep(let key, let record): kept[key] = record
            case .forget(let key): kept[key] = nil
            case .setTimer(let instant): timer = instant
            case .reply: break
            }
        }
        for (delivery, client) in refused.reversed() { _ = engine.handle(.refused(delivery, client: client), at: now) }
        return effects
    }

    mutating func resume(_ client: UInt64) {
        stopped.remove(ClientID(client))
        run(.writable(ClientID(client)))
    }

    func data(of client: UInt64) -> [String] {
        (received[ClientID(client)] ?? []).map {
            $0.event.isLost ? "LOST" : String(decoding: $0.event.data, as: UTF8.self)
        }
    }

    /// Opens instance 1 of `channel` for a client and subscribes to everything.
    mutating func join(_ client: UInt64, _ channel: String = "c", filters: [EventFilter] = []) {
        ask(.open(instance: 1, flags: [.publisher, .subscriber, .create], name: SaName(channel)!), from: client)
        ask(.subscribe(instance: 1, subscription: 1, filters: filters), from: client)
    }

    @discardableResult
    mutating func publish(
        _ text: String, _ patterns: [String] = [], priority: EventPriority = .lowest, retention: SaTime = 0,
        from client: UInt64 = 1
    ) -> Result<EventEngine.EventReply, EventFailure> {
        let event = EventMessage(
            patterns: patterns.map { Array($0.utf8) }, data: Array(text.utf8), priority: priority, retention: retention)
        return ask(.publish(instance: 1, event), from: client)
    }
}

extension Result where Failure == EventFailure {
    var code: AisError? {
        if case .failure(let failure) = self { return failure.code }
        return nil
    }
}
