import EngineKit
import EventEngine
import EventProtocol
import SAFTypes
import Testing

@Suite("Event wire")
struct EventWireTests {
    static let event: EventMessage = {
        var event = EventMessage(patterns: [[1, 2], []], data: [9, 8, 7], priority: .high, retention: 5)
        (event.id, event.publishTime, event.publisherName) = (77, 1_000, [65])
        return event
    }()

    static let requests: [EventRequest] = [
        .open(instance: 1, flags: [.create, .publisher], name: SaName("c")!), .close(instance: 2),
        .unlink(SaName("c")!),
        .publish(instance: 3, event), .subscribe(instance: 4, subscription: 5, filters: [.prefix("a"), .passAll]),
        .unsubscribe(instance: 6, subscription: 7), .clearRetention(instance: 8, event: 9_999), .listChannels,
        .publishNamed(SaName("c")!, event), .confirm(instance: 9, numbers), .resume(resumed), .keepOnly([1, 7]),
    ]

    static let numbers: ReceivedNumbers = {
        var numbers = ReceivedNumbers()
        for number: UInt64 in [1, 2, 5, 4] { _ = numbers.insert(number) }
        return numbers
    }()

    static let resumed = ResumedInstance(
        instance: 1, flags: .subscriber, name: SaName("c")!, channel: 9, received: numbers,
        subscriptions: [.init(id: 3, isPending: true, filters: [.suffix("z")])])

    @Test("Numbers received out of order close up, and none counts twice")
    func numbers() {
        var numbers = Self.numbers
        #expect((numbers.upTo, numbers.beyond) == (2, [4, 5]))
        let isNew = [4, 1, 3].map { numbers.insert($0) }
        #expect(isNew == [false, false, true])
        #expect((numbers.upTo, numbers.beyond, numbers.last) == (5, [], 5))
    }

    private func decode(_ code: UInt16, _ body: [UInt8]) throws(DecodeError) -> EventRequest {
        var result: Result<EventRequest, DecodeError>?
        body.withUnsafeBytes { raw in
            do throws(DecodeError) {
                result = .success(try EventRequest(code: code, body: raw))
            } catch {
                result = .failure(error)
            }
        }
        return try result!.get()
    }

    @Test("Golden bytes of an open request and of a delivery")
    func golden() {
        // instance 1 · flags 5 · name length 1 · "c"
        #expect(Self.requests[0].body == [1, 0, 0, 0, 5, 1, 0, 0, 0, 99])
        let delivery = EventDelivery(number: 6, instance: 2, subscription: 3, event: .lost(at: 4))
        // number 6 · instance 2 · subscription 3 · id 1 · highest
        let head: [UInt8] = [6, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]
        #expect(Array(delivery.encoded.prefix(head.count)) == head)
    }

    @Test("Every request makes the round trip, and every truncation and every longer form is refused")
    func roundTrip() throws {
        for request in Self.requests {
            #expect(try decode(request.code, request.body) == request)
            for length in 0..<request.body.count {
                #expect(throws: DecodeError.self) { try decode(request.code, Array(request.body.prefix(length))) }
            }
            #expect(throws: DecodeError.self) { try decode(request.code, request.body + [0]) }
        }
        #expect(throws: DecodeError.self) { try decode(13, []) }
    }

    @Test("Deliveries, lists and records make the round trip; truncations are refused")
    func others() throws {
        let delivery = EventDelivery(instance: 1, subscription: 2, event: Self.event)
        #expect(try EventDelivery(decoding: delivery.encoded) == delivery)
        let status = ChannelStatus(
            name: SaName("c")!, isUnlinked: true, publishers: 1, subscribers: 2, retained: 3, published: 4, dropped: 5)
        #expect(try ChannelList(decoding: ChannelList([status, status]).encoded) == ChannelList([status, status]))
    }

    static let commands: [ChannelRegistry.Command] = [
        .open(SaName("c")!, creating: true, lineage: 3, by: NodeID(1)), .unlink(ChannelID(rawValue: 4)),
        .declare(ChannelID(rawValue: 4), by: NodeID(2), Interest(of: [[.exact("a")], [.passAll]])),
        .declare(ChannelID(rawValue: 4), by: NodeID(2), nil), .nodeGone(NodeID(7)),
    ]

    @Test("Registry commands make the round trip; truncations are refused")
    func commands() throws {
        for command in Self.commands {
            #expect(try ChannelRegistry.Command(decoding: command.encoded) == command)
            for length in 0..<command.encoded.count {
                #expect(throws: DecodeError.self) {
                    try ChannelRegistry.Command(decoding: Array(command.encoded.prefix(length)))
                }
            }
        }
    }

    @Test("Random bytes are refused or decoded, never worse", arguments: 0..<20)
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<500 {
            let bytes = (0..<Int.random(in: 0...60, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            if let request = try? decode(UInt16.random(in: 0...13, using: &random), bytes) {
                #expect((try? decode(request.code, request.body)) == request, "seed \(seed)")
            }
            _ = try? EventDelivery(decoding: bytes)
            _ = try? ChannelRegistry.Command(decoding: bytes)
            _ = try? ChannelRegistry(decoding: bytes)
            var engine = NodeEngine(node: NodeID(1), firstEvent: 1, lineage: 1)
            try? engine.restore([bytes])
            _ = try? ChannelList(decoding: bytes)
        }
    }
}
