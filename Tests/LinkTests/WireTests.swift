import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import IOCLinks

@Suite("Link bytes")
struct LinkWireTests {
    static let header = LinkHeader(
        kind: .request, lane: .high, code: 0x1234, length: 5, number: 7, acknowledged: 6, status: 0,
        flags: .retransmission)
    static let hello = LinkHello(
        service: 4, node: NodeID(1), meant: NodeID(2), incarnation: 0x0102_0304_0506_0708, cluster: "lab")
    static let welcome = LinkWelcome(node: NodeID(2), incarnation: 9, bodyMax: 1 << 26)

    @Test("A header is 32 bytes: length, version, kind, lane, flags, code, 0, status, number, acknowledged")
    func goldenHeader() {
        #expect(
            Self.header.encoded == [
                5, 0, 0, 0, 1, 4, 1, 1, 0x34, 0x12, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
            ])
        #expect((try? LinkHeader(decoding: Self.header.encoded)) == Self.header)
    }

    @Test("A hello says versions, service, node, the node meant, incarnation and cluster")
    func goldenHello() {
        #expect(
            Self.hello.encoded == [
                1, 1, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1, 3, 0, 0, 0, 0x6c, 0x61, 0x62,
            ])
        #expect((try? LinkHello(decoding: Self.hello.encoded)) == Self.hello)
        #expect((try? LinkWelcome(decoding: Self.welcome.encoded)) == Self.welcome)
        #expect(
            Self.welcome.encoded == [1, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0])
    }

    @Test("Versions of messages other than the first stand where earlier builds wrote zeroes")
    func goldenVersions() {
        var hello = Self.hello
        hello.messages = 2...3
        #expect(hello.encoded.prefix(4) == [1, 1, 2, 3])
        #expect((try? LinkHello(decoding: hello.encoded)) == hello)
        var welcome = Self.welcome
        welcome.messages = 3
        #expect(welcome.encoded.prefix(4) == [1, 3, 0, 0])
        #expect((try? LinkWelcome(decoding: welcome.encoded)) == welcome)
        for (low, high) in [(3, 2), (0, 2), (1, 1)] as [(UInt8, UInt8)] {
            var bytes = hello.encoded
            (bytes[2], bytes[3]) = (low, high)
            #expect(throws: DecodeError.self, "\(low) to \(high)") { try LinkHello(decoding: bytes) }
        }
    }

    @Test("No truncation is a value")
    func truncations() {
        for count in 0..<Self.header.encoded.count {
            #expect(throws: DecodeError.self) { try LinkHeader(decoding: Array(Self.header.encoded.prefix(count))) }
        }
        for count in 0..<Self.hello.encoded.count {
            #expect(throws: DecodeError.self) { try LinkHello(decoding: Array(Self.hello.encoded.prefix(count))) }
        }
        for count in 0..<Self.welcome.encoded.count {
            #expect(throws: DecodeError.self) { try LinkWelcome(decoding: Array(Self.welcome.encoded.prefix(count))) }
        }
    }

    @Test("Random bytes decode or throw; what decodes encodes to the same bytes", arguments: 0..<20 as Range<UInt64>)
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<500 {
            var bytes = [Self.header.encoded, Self.hello.encoded, Self.welcome.encoded][Int(random.next() % 3)]
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if let value = try? LinkHeader(decoding: bytes) { #expect(value.encoded == bytes, "seed \(seed)") }
            if let value = try? LinkHello(decoding: bytes) { #expect(value.encoded == bytes, "seed \(seed)") }
            if let value = try? LinkWelcome(decoding: bytes) { #expect(value.encoded == bytes, "seed \(seed)") }
        }
    }
}
