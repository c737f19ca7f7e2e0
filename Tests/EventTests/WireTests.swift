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
        .publishNamed(SaName("c")!, event),
    ]

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
        let delivery = EventDelivery(instance: 2, subscription: 3, event: .lost(at: 4))
        let head: [UInt8] = [2, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]  // …, id 1, highest
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
        #expect(throws: DecodeError.self) { try decode(10, []) }
    }

    @Test("Deliveries, lists and records make the round trip; truncations are refused")
    func others() throws {
        let delivery = EventDelivery(instance: 1, subscription: 2, event: Self.event)
        #expect(try EventDelivery(decoding: delivery.encoded) == delivery)
        let status = ChannelStatus(
            name: SaName("c")!, isUnlinked: true, publishers: 1, subscribers: 2, retained: 3, published: 4, dropped: 5)
        #expect(try ChannelList(decoding: ChannelList([status, status]).encoded) == ChannelList([status, status]))
        let record = Record.event(SaName("c")!, until: Instant(nanoseconds: 7), Self.event)
        #expect(try Record(decoding: record.encoded) == record)
        for length in 0..<record.encoded.count {
            #expect(throws: DecodeError.self) { try Record(decoding: Array(record.encoded.prefix(length))) }
        }
    }

    @Test("Random bytes are refused or decoded, never worse", arguments: 0..<20)
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<500 {
            let bytes = (0..<Int.random(in: 0...60, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            if let request = try? decode(UInt16.random(in: 0...10, using: &random), bytes) {
                #expect((try? decode(request.code, request.body)) == request, "seed \(seed)")
            }
            _ = try? EventDelivery(decoding: bytes)
            _ = try? Record(decoding: bytes)
            _ = try? ChannelList(decoding: bytes)
        }
    }
}
