import EngineKit
import OSAL
import SAFTypes
import Testing

@testable import IOC

/// A client that speaks the set-up properly and then does what it likes.
final class RawClient {
    let socket: Descriptor
    let memory: Mapping
    let bell: Doorbell
    let layout: RingLayout

    init?(_ places: Places) {
        let path = Endpoint.wellKnown(.ckptd).path(in: places.runDirectory)
        guard let socket = try? ClientHandshake.start(path, session: .random(), knownIncarnation: 0) else { return nil }
        guard (try? IO.waitUntil(socket.raw, readable: true, deadline: MonotonicClock.now() + .seconds(30))) == true
        else { return nil }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let received = bytes.withUnsafeMutableBytes { try? UnixSocket.receive(socket.raw, into: $0) }
        guard let received, received.descriptors.count == 4 else { return nil }
        let body = Array(bytes[FrameHeader.size..<received.count])
        guard let welcome = try? Welcome(decoding: body) else { return nil }
        let memory = try? Mapping.map(received.descriptors[0], count: welcome.layout.totalSize, writable: true)
        self.bell = Doorbell(owning: Descriptor(owning: received.descriptors[1]))
        for index in [0, 2, 3] { IO.close(received.descriptors[index]) }
        guard let memory else { return nil }
        self.memory = memory
        self.socket = socket
        layout = welcome.layout
    }

    /// True when the server hangs up before `limit`.
    func isDropped(within limit: Duration) -> Bool {
        (try? IO.waitUntil(socket.raw, readable: true, deadline: MonotonicClock.now() + limit)) == true
    }
}

@Suite("Hostile peers")
struct HostilePeerTests {
    let home = TestPlaces()

    @Test("Random bytes over the shared rings while the server reads", arguments: 0..<12 as Range<UInt64>)
    func randomRings(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let server = TestServer(home.places)
        defer { server.stop() }
        for _ in 0..<20 {
            guard let client = RawClient(home.places) else {
                Issue.record("seed \(seed): an honest set-up was refused")
                return
            }
            let area = client.memory.base
            let producer = RingWriter(area: area, layout: client.layout)
            for _ in 0..<100 {
                let lane = Lane.allCases.randomElement(using: &random)!
                let kind =
                    random.chance(percent: 90) ? FrameKind.request : FrameKind.allCases.randomElement(using: &random)!
                let header = FrameHeader(
                    kind: kind, lane: lane, code: UInt16.random(in: 0...8, using: &random), length: 16,
                    number: random.next() % 50, acknowledged: random.next() % 60)
                let body = [UInt8](repeating: 0, count: 16)
                _ = body.withUnsafeBytes { producer.write(header, $0, lane: lane) }
                for _ in 0..<Int.random(in: 0...6, using: &random) {
                    let isControl = random.chance(percent: 40)
                    let offset =
                        isControl
                        ? Int.random(in: 0..<300, using: &random)
                        : Int.random(in: 0..<client.layout.totalSize, using: &random)
                    (area + offset).storeBytes(of: UInt8.random(in: 0...255, using: &random), as: UInt8.self)
                }
                client.bell.ring()
            }
        }
        let honest = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { honest.close() }
        #expect(try honest.call(Code.echo, [1, 2], timeout: .seconds(20)).body == [1, 2], "seed \(seed)")
    }

    @Test("Each violation drops the peer, with the reason")
    func violations() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        func violate(_ expected: String, _ act: (RawClient) -> Void) {
            guard let client = RawClient(home.places) else {
                Issue.record("set-up refused")
                return
            }
            act(client)
            client.bell.ring()
            #expect(client.isDropped(within: .seconds(10)), "\(expected)")
            #expect(
                eventually { server.thread.sync { _ in server.endReasons.last?.contains(expected) == true } },
                "\(expected)")
        }
        func write(_ client: RawClient, _ header: FrameHeader) {
            let producer = RingWriter(area: client.memory.base, layout: client.layout)
            _ = producer.write(header, UnsafeRawBufferPointer(start: nil, count: 0), lane: header.lane)
        }
        violate("ring position") { $0.memory.base.storeBytes(of: 1 << 50, as: UInt64.self) }
        violate("ring position") { $0.memory.base.storeBytes(of: 33, as: UInt64.self) }
        violate("version 0") { $0.memory.base.storeBytes(of: 64, as: UInt64.self) }
        violate("bytes for lane") { write($0, FrameHeader(kind: .request, lane: .high, length: 5000)) }
        violate("kind reply") { write($0, FrameHeader(kind: .reply)) }
        violate("kind welcome") { write($0, FrameHeader(kind: .welcome)) }
        violate("carriage 7") { write($0, FrameHeader(kind: .carried, number: 7)) }
        violate("claims descriptors") { write($0, FrameHeader(kind: .request, flags: .large)) }
        violate("not handed over") { write($0, FrameHeader(kind: .request, length: 100, flags: .bulk)) }
        violate("pad of") { write($0, FrameHeader(kind: .pad)) }
    }

    @Test("A large body must be sealed and as long as it says")
    func unsealed() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        for (seal, claimed) in [(Seal.size, 8192), (.none, 8192), (.content, 9000)] {
            let client = try #require(RawClient(home.places))
            let memory = try AnonymousMemory.create(name: "bad", size: 8192, seal: seal)
            var writer = ByteWriter()
            writer.integer(UInt64(0))
            writer.value(
                FrameHeader(kind: .request, code: Code.echo, length: claimed, number: 1, flags: .large, descriptors: 1))
            let sent = writer.bytes.withUnsafeBytes {
                try? UnixSocket.send(client.socket.raw, $0, descriptors: [memory.raw])
            }
            #expect(sent != nil)
            let producer = RingWriter(area: client.memory.base, layout: client.layout)
            let header = FrameHeader(kind: .carried, number: 0)
            _ = producer.write(header, UnsafeRawBufferPointer(start: nil, count: 0), lane: .normal)
            client.bell.ring()
            #expect(client.isDropped(within: .seconds(10)))
            #expect(eventually { server.thread.sync { _ in server.endReasons.last?.contains("large body") == true } })
        }
        #expect(server.executions.load(ordering: .relaxed) == 0)
    }

    @Test("Bulk memory must be sealed and of its size, and bodies are within it; what lies there may change meanwhile")
    func bulk() throws {
        let server = TestServer(home.places)
        defer { server.stop() }
        for (seal, size, claimed) in [
            (Seal.none, BulkMemory.size, 100), (.size, 8192, 100), (.size, BulkMemory.size, BulkMemory.bodyMax + 1),
            (.size, BulkMemory.size, 0), (.size, BulkMemory.size, Int(UInt32.max)),
        ] {
            let client = try #require(RawClient(home.places))
            let memory = try AnonymousMemory.create(name: "bulk", size: size, seal: seal)
            var writer = ByteWriter()
            writer.integer(UInt64(0))
            writer.value(FrameHeader(kind: .memory, descriptors: 1))
            let sent = writer.bytes.withUnsafeBytes {
                try? UnixSocket.send(client.socket.raw, $0, descriptors: [memory.raw])
            }
            #expect(sent != nil)
            let producer = RingWriter(area: client.memory.base, layout: client.layout)
            let none = UnsafeRawBufferPointer(start: nil, count: 0)
            _ = producer.write(FrameHeader(kind: .carried, number: 0), none, lane: .normal)
            let body = FrameHeader(kind: .request, code: Code.echo, length: claimed, number: 1, flags: .bulk)
            _ = producer.write(body, none, lane: .normal)
            client.bell.ring()
            #expect(client.isDropped(within: .seconds(10)), "\(seal) \(size) \(claimed)")
        }
        #expect(server.executions.load(ordering: .relaxed) == 0)
    }

    @Test("Random first datagrams are refused or ignored", arguments: 0..<5 as Range<UInt64>)
    func randomHello(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        let server = TestServer(home.places)
        defer { server.stop() }
        let path = Endpoint.wellKnown(.ckptd).path(in: home.places.runDirectory)
        for _ in 0..<40 {
            let socket = try UnixSocket.connect(to: path, kind: .seqPacket)
            var bytes = HandshakeFrame.bytes(.hello, body: Hello(session: .random(), knownIncarnation: 0).encoded)
            for _ in 0..<Int.random(in: 0...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            if random.chance(percent: 30) { bytes.removeLast(Int.random(in: 1...bytes.count - 1, using: &random)) }
            _ = bytes.withUnsafeBytes { try? UnixSocket.send(socket.raw, $0) }
        }
        let honest = IOCConnection(to: .wellKnown(.ckptd), places: home.places)
        defer { honest.close() }
        #expect(try honest.call(Code.echo, [3], timeout: .seconds(20)).body == [3], "seed \(seed)")
    }
}
