import EngineKit
import LogEngine
import LogProtocol
import SAFTypes
import Testing

@Suite("Wire of global streams")
struct GlobalWireTests {
    static func batch(_ first: UInt64 = 7, _ count: Int = 2) -> RecordBatch {
        RecordBatch(
            node: NodeID(3), incarnation: 9, first: first, count: UInt32(count),
            records: (0..<count).flatMap { GlobalWorld.frame(NodeID(3), first + UInt64($0)) })
    }

    static func entry(_ number: UInt64, epoch: UInt64 = 1) -> LedgerEntry {
        LedgerEntry(position: LedgerPosition(epoch: epoch, number: number), batch: batch())
    }

    static var state: LedgerState {
        var state = LedgerState()
        for (number, epoch) in [(1, 1), (2, 1), (3, 4)] as [(UInt64, UInt64)] {
            precondition(state.apply(entry(number, epoch: epoch)))
        }
        return state
    }

    static let messages: [LogPeerMessage] = [
        .ask(session: 1, incarnation: 2, oldest: 3), .have(session: 1, last: 2), .submit(batch()),
        .accepted(incarnation: 1, through: 2), .hello(round: 1, epochs: state.epochs), .begin(round: 1, at: 2, nil),
        .begin(round: 1, at: 3, state), .ready(round: 1, number: 2), .append(round: 1, committed: 2, []),
        .append(round: 1, committed: 2, [entry(4), entry(5)]), .stored(round: 1, number: 2), .invite,
    ]

    static let formed = StreamAttributes(fileName: "b", format: "@Cr @Cb", recordBytes: 200)
    static let commands: [StreamRegistry.Command] = [
        .arrived(
            Arrival(
                node: NodeID(1), incarnation: 2, keepsFiles: true, store: 3,
                position: LedgerPosition(epoch: 4, number: 5), controllers: 2, open: [StreamID(rawValue: 300)])),
        .present([NodeID(1), NodeID(2)]), .caughtUp(NodeID(1), incarnation: 2, epoch: 3),
        .lagging(NodeID(1), epoch: 2), .confirm, .tick,
        .open(SaName("a")!, StreamAttributes(fileName: "a"), by: NodeID(1)), .open(SaName("a")!, nil, by: NodeID(1)),
        .open(SaName("b")!, formed, by: NodeID(1)),
        .close(StreamID(rawValue: 300), by: NodeID(1)), .setSeverities(StreamID(rawValue: 3), .all),
    ]

    private func decode(_ code: UInt16, _ body: [UInt8]) throws -> (epoch: UInt64, message: LogPeerMessage) {
        try body.withUnsafeBytes { try LogPeerMessage.decode(code: code, body: $0) }
    }

    private func check<Value: WireCodable & Equatable>(_ value: Value) throws {
        let bytes = value.encoded
        #expect(try Value(decoding: bytes) == value)
        for count in bytes.indices {
            #expect(throws: DecodeError.self) { try Value(decoding: Array(bytes[..<count])) }
        }
        #expect(throws: DecodeError.self) { try Value(decoding: bytes + [0]) }
    }

    @Test("The bytes of a message begin with version and epoch; a batch is laid out so")
    func golden() {
        #expect(LogPeerMessage.invite.body(epoch: 0x0102) == [1, 2, 1, 0, 0, 0, 0, 0, 0])
        #expect(Self.messages.map(\.code) == [1, 2, 3, 4, 5, 6, 6, 7, 8, 8, 9, 10])
        let head: [UInt8] = [3, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]
        #expect(Array(Self.batch().encoded.prefix(24)) == head)
        // length · stream 3 · process 1 · flags · no program · 47 bytes of record
        let frame = GlobalWorld.frame(NodeID(3), 7)
        #expect(Array(frame.prefix(16)) == [59, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 0, 47, 0])
    }

    @Test("What was encoded is decoded; every truncation and every surplus is refused")
    func roundTrip() throws {
        for message in Self.messages {
            let body = message.body(epoch: 77)
            let decoded = try decode(message.code, body)
            #expect(decoded.message == message && decoded.epoch == 77)
            for count in body.indices {
                #expect(throws: DecodeError.self) { try decode(message.code, Array(body[..<count])) }
            }
            #expect(throws: DecodeError.self) { try decode(message.code, body + [0]) }
        }
        for command in Self.commands { try check(command) }
        try check(Self.state)
        try check(Self.entry(4))
        let current = StreamFiles.Current(name: "a", file: "a_20260301T000000.log", bytes: 1, dropped: 2)
        try check(StreamFiles.Note(state: Self.state, files: [current]))
        var registry = StreamRegistry()
        for command in Self.commands { _ = registry.handle(command, at: .start + .seconds(1)) }
        try check(registry)
        let node = GlobalNodeStatus(
            node: NodeID(1), keepsFiles: true, incarnation: 1, accepted: 2, acknowledged: 3, spoolBytes: 4, lost: 5,
            ledger: 6, committed: 7, written: 8, lastError: "full")
        let stream = GlobalStreamStatus(
            name: SaName("a")!, attributes: StreamAttributes(fileName: "a"), stream: .alarm, records: 5,
            openers: [NodeID(1)])
        try check(
            GlobalStatus(
                registry: "synchronised", owner: NodeID(1), epoch: 2, inSync: [NodeID(1)], streams: [stream],
                nodes: [node]))
    }

    @Test("Forms of streams: builds that do not know them read and write as ever, and create none")
    func forms() throws {
        func bytes(_ registry: StreamRegistry, _ version: UInt16) -> [UInt8] {
            var writer = ByteWriter()
            registry.encodeSnapshot(version: version, to: &writer)
            return writer.bytes
        }
        var registry = StreamRegistry()
        let plain = bytes(registry, 1)
        #expect(plain[0] == 1 && bytes(registry, 2) == [2] + plain.dropFirst() + [0, 0, 0, 0])
        _ = registry.handle(.open(SaName("b")!, Self.formed, by: NodeID(1)), at: .start)
        #expect(try StreamRegistry(decoding: bytes(registry, 2)) == registry)
        let former = try StreamRegistry(decoding: bytes(registry, 1))
        #expect(former.streams.map(\.value.attributes.form).allSatisfy { $0 == StreamForm() })
        #expect(former.streams.keys == registry.streams.keys)
        func decode(_ command: StreamRegistry.Command, _ version: UInt16) throws -> StreamRegistry.Command {
            var writer = ByteWriter()
            StreamRegistry.encode(command, version: version, to: &writer)
            return try writer.bytes.withUnsafeBytes { raw in
                var reader = ByteReader(raw)
                return try StreamRegistry.decodeEvent(version: version, from: &reader)
            }
        }
        let open = StreamRegistry.Command.open(SaName("b")!, Self.formed, by: NodeID(1))
        #expect(try decode(open, 2) == open)
        #expect(throws: DecodeError.self) { try decode(open, 1) }
        let old = StreamRegistry.Command.open(SaName("b")!, StreamAttributes(fileName: "b"), by: NodeID(1))
        #expect(try decode(old, 1) == old)
        // Of a client.
        let request = LogRequest.open(SaName("b")!, Self.formed)
        #expect(try request.body.withUnsafeBytes { try LogRequest(code: 7, body: $0) } == request)
        let wrong = LogRequest.open(SaName("b")!, StreamAttributes(fileName: "b", format: "@Nt"))
        #expect(throws: DecodeError.self) { try wrong.body.withUnsafeBytes { try LogRequest(code: 7, body: $0) } }
    }

    @Test("A batch that does not hold what it says, and numbers that would run over, are refused")
    func ranges() {
        var wrong = Self.batch()
        wrong.count = 3
        #expect(throws: DecodeError.self) { try RecordBatch(decoding: wrong.encoded) }
        wrong = Self.batch()
        wrong.first = 0
        #expect(throws: DecodeError.self) { try RecordBatch(decoding: wrong.encoded) }
        #expect(throws: DecodeError.self) {
            try LedgerPosition(decoding: LedgerPosition(epoch: 1, number: 1 << 62).encoded)
        }
        #expect(throws: DecodeError.self) {
            try StreamFiles.Current(
                decoding: StreamFiles.Current(name: "a", file: "../a", bytes: 1).encoded)
        }
    }

    @Test("Random and damaged bytes never trap, in no engine", arguments: [1, 2, 3] as [UInt64])
    func random(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        var engine = GlobalLogEngine(node: NodeID(1), keepsFiles: true, life: 1, spool: (1, 0, 0))
        let peer = Ownership.Peer(node: NodeID(1), incarnation: 1)
        let owner = Ownership(epoch: 5, owner: peer, inSync: [NodeID(1)], keepers: [peer])
        _ = engine.handle(.ownership(owner), at: .start + .seconds(1))
        _ = engine.handle(.link(NodeID(2), isUp: true), at: .start + .seconds(1))
        for round in 0..<3000 {
            let message = Self.messages[Int.random(in: Self.messages.indices, using: &random)]
            var bytes = message.body(epoch: 5)
            for _ in 0..<Int.random(in: 1...3, using: &random) {
                bytes[Int.random(in: bytes.indices, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let code = Bool.random(using: &random) ? message.code : UInt16.random(in: 0...11, using: &random)
            if let decoded = try? decode(code, bytes) {
                let event = GlobalLogEngine.Event.received(decoded.message, epoch: 5, from: NodeID(2))
                _ = engine.handle(event, at: .start + .milliseconds(round))
            }
            let noise = (0..<Int.random(in: 0...80, using: &random)).map { _ in
                UInt8.random(in: 0...(Bool.random(using: &random) ? 9 : 255), using: &random)
            }
            _ = try? StreamRegistry(decoding: noise)
            _ = try? StreamRegistry.Command(decoding: noise)
            _ = try? LedgerState(decoding: noise)
            _ = try? LedgerEntry(decoding: noise)
            _ = try? StreamFiles.Note(decoding: noise)
            _ = try? GlobalStatus(decoding: noise)
            _ = try? GlobalRecord.count(noise)
        }
    }
}
