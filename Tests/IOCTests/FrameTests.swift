import EngineKit
import SAFTypes
import Testing

@testable import IOC

@Suite("Frames")
struct FrameTests {
    @Test("A header has exactly these bytes")
    func golden() {
        let header = FrameHeader(
            kind: .request, lane: .low, code: 0x1234, length: 0x01020304, number: 0x1122334455667788,
            acknowledged: 0x99, status: 0xaabbccdd, flags: [.retransmission, .large], descriptors: 3)
        #expect(
            header.encoded == [
                0x04, 0x03, 0x02, 0x01,  // length
                1, 4, 3, 3,  // version, kind, lane, flags
                0x34, 0x12, 3, 0,  // code, descriptors, reserved
                0xdd, 0xcc, 0xbb, 0xaa,  // status
                0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,  // number
                0x99, 0, 0, 0, 0, 0, 0, 0,  // acknowledged
            ])
    }

    @Test("Hello and welcome have exactly these bytes")
    func goldenHandshake() {
        let hello = Hello(session: SessionID(high: 1, low: 2), knownIncarnation: 3)
        #expect(
            hello.encoded == [
                1, 2, 0, 0,  // versions, reserved
                1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,  // session
                3, 0, 0, 0, 0, 0, 0, 0,  // incarnation
            ])
        let welcome = Welcome(version: 1, layout: .standard, incarnation: 4, peer: 5, bodyMax: 6)
        #expect(
            welcome.encoded == [
                1, 0, 0, 0,  // version, reserved
                15, 15, 17, 16,  // log2 of the rings
                4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
            ])
    }

    @Test("What was encoded is decoded, whatever it was", arguments: 0..<50 as Range<UInt64>)
    func roundTrip(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let header = FrameHeader(
            kind: FrameKind.allCases.randomElement(using: &random)!, lane: Lane.allCases.randomElement(using: &random)!,
            code: .random(in: .min ... .max, using: &random), length: .random(in: 0...Int(UInt32.max), using: &random),
            number: random.next(), acknowledged: random.next(), status: .random(in: .min ... .max, using: &random),
            flags: FrameFlags(rawValue: .random(in: 0...7, using: &random)),
            descriptors: .random(in: 0...255, using: &random))
        #expect(try FrameHeader(decoding: header.encoded) == header)
        let hello = Hello(session: SessionID(high: random.next(), low: random.next()), knownIncarnation: random.next())
        #expect(try Hello(decoding: hello.encoded) == hello)
        let name = SaName(
            (0..<Int.random(in: 1...256, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) })!
        for address in [
            Address.port(NodeID(1), PortID(9)), .service(type: 70, instance: 2), .group(name), .broadcast,
        ] {
            #expect(try Address(decoding: address.encoded) == address)
        }
    }

    @Test("Every truncation is refused, and so is a byte too many")
    func truncation() {
        func refuses<Value: WireCodable>(_ value: Value) {
            let bytes = value.encoded
            for count in 0..<bytes.count {
                #expect(throws: DecodeError.self) { try Value(decoding: Array(bytes[..<count])) }
            }
            #expect(throws: DecodeError.self) { try Value(decoding: bytes + [0]) }
        }
        refuses(FrameHeader(kind: .reply))
        refuses(Hello(session: SessionID(high: 1, low: 2), knownIncarnation: 0))
        refuses(Welcome(version: 1, layout: .standard, incarnation: 1, peer: 1, bodyMax: 1))
        refuses(Address.port(NodeID(1), PortID(2)))
        refuses(Address.group(SaName("safSg=a")!))
        refuses(RequestID(session: SessionID(high: 1, low: 2), number: 3))
    }

    @Test("A wrong field is refused by name")
    func wrongFields() {
        let good = FrameHeader(kind: .request).encoded
        for (offset, value, word) in [
            (4, 2, "version"), (5, 0, "kind"), (5, 11, "kind"), (6, 4, "lane"), (7, 8, "flags"), (11, 1, "reserved"),
        ] {
            var bytes = good
            bytes[offset] = UInt8(value)
            #expect(performing: { try FrameHeader(decoding: bytes) }, throws: { "\($0)".contains(word) })
        }
        var layout = RingLayout.standard.encoded
        layout[2] = 11
        #expect(throws: DecodeError.self) { try RingLayout(decoding: layout) }
        layout[2] = 25
        #expect(throws: DecodeError.self) { try RingLayout(decoding: layout) }
    }

    @Test("Random bytes never trap a decoder")
    func randomBytes() {
        var random = SeededRandom(seed: 4711)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0...60, using: &random)).map { _ in
                UInt8.random(in: 0...255, using: &random)
            }
            _ = try? FrameHeader(decoding: bytes)
            _ = try? Hello(decoding: bytes)
            _ = try? Welcome(decoding: bytes)
            _ = try? Address(decoding: bytes)
            _ = bytes.withUnsafeBytes { try? HandshakeFrame.decode($0) }
        }
    }
}
