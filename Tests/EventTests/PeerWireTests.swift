import EngineKit
import EventEngine
import EventProtocol
import SAFTypes
import Testing

@Suite("Event wire between nodes")
struct PeerWireTests {
    static let channel = ChannelID(rawValue: 0x0102)
    static let messages: [PeerMessage] = [
        .hello(stream: 7, isOpened: true), .received(stream: 7, isKnown: true, EventWireTests.numbers),
        .received(stream: 8, isKnown: false, ReceivedNumbers()),
        .forward(stream: 7, number: 3, .event(channel, EventWireTests.event, remaining: 5, isCopy: true)),
        .forward(stream: 7, number: 4, .lost(channel, at: 9)),
        .forward(stream: 7, number: 5, .knows(channel, interest: 11)),
        .forward(stream: 7, number: 6, .clear(channel, 2_000)),
    ]

    private func decode(_ code: UInt16, _ body: [UInt8]) -> Result<PeerMessage, DecodeError> {
        body.withUnsafeBytes { raw in
            do throws(DecodeError) {
                return .success(try PeerMessage(code: code, body: raw))
            } catch {
                return .failure(error)
            }
        }
    }

    @Test("Golden bytes of a hello and of a cleared event")
    func golden() {
        // version 1 · stream 7 · isOpened
        #expect(Self.messages[0].body == [1, 7, 0, 0, 0, 0, 0, 0, 0, 1])
        // version 1 · stream 7 · number 6 · kind 4 · channel 0x102 · event 2000
        let head: [UInt8] = [1, 7, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 4]
        #expect(Self.messages[6].body == head + [2, 1, 0, 0, 0, 0, 0, 0, 0xd0, 7, 0, 0, 0, 0, 0, 0])
    }

    @Test("Every message comes back as it was, and no part of one is taken for a whole", arguments: messages)
    func roundTrip(message: PeerMessage) {
        #expect(decode(message.code, message.body) == .success(message))
        for count in 0..<message.body.count {
            #expect(throws: DecodeError.self) { try decode(message.code, Array(message.body.prefix(count))).get() }
        }
        #expect(throws: DecodeError.self) { try decode(message.code, message.body + [0]).get() }
        #expect(throws: DecodeError.self) { try decode(99, message.body).get() }
        #expect(throws: DecodeError.self) { try decode(message.code, [2] + message.body.dropFirst()).get() }
    }

    @Test("A retention below nothing or beyond the limit is refused")
    func retention() {
        for remaining in [-1, EventLimits.retentionMax + 1] {
            let forward = Forward.event(Self.channel, EventWireTests.event, remaining: remaining, isCopy: false)
            let message = PeerMessage.forward(stream: 1, number: 1, forward)
            #expect(throws: DecodeError.self) { try decode(message.code, message.body).get() }
        }
    }
}
