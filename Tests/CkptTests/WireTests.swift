import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@Suite("Checkpoint protocol")
struct WireTests {
    static let attributes = CreationAttributes(
        flags: [.writeActiveReplica, .collocated], checkpointSize: 0x1122, retentionDuration: -2, sectionsMax: 3,
        sectionSizeMax: 0x44,
        sectionIDSizeMax: 5)
    static let handle = HandleID(rawValue: 0x0102_0304)
    static let payload: [UInt8] = [0xAA, 0xBB, 0xCC]

    /// One of each, with a payload for the updates.
    static let requests: [CkptRequest] = [
        .open(SaName("n")!, flags: [.read, .create], attributes: attributes),
        .open(SaName("n")!, flags: .read, attributes: nil),
        .close(handle), .unlink(SaName("nm")!), .setRetention(handle, .saTimeEnd), .setActiveReplica(handle),
        .synchronize(handle),
        .status(handle), .update(handle, []),
        .read(handle, [ReadRange(id: "a", offset: 1, count: 2), ReadRange(id: .defaultSection)]),
        .list(handle, after: 7, limit: 9, chosen: .corrupted, time: 5), .snapshot(handle),
        .subscribe(handle, after: nil),
        .subscribe(handle, after: 12), .unsubscribe(handle), .resume(handle), .exists(SaName("n")!),
        .section(handle, "a"), .watchReplicas(handle),
        .adminList(after: CheckpointID(rawValue: 3), limit: 4),
        .adminSections(SaName("x")!, after: 1, limit: 2, dataMax: 3),
    ]

    private func encoded(_ request: CkptRequest) -> [UInt8] {
        var writer = ByteWriter()
        request.encode(to: &writer, payload: Self.payload)
        return writer.bytes
    }

    private func decoded(_ code: CkptCode, _ bytes: [UInt8]) throws(DecodeError) -> CkptRequest {
        var outcome: Result<CkptRequest, DecodeError> = .failure(.trailing(0))
        bytes.withUnsafeBytes { raw in
            do throws(DecodeError) { outcome = .success(try CkptRequest(code: code, decoding: raw)) } catch {
                outcome = .failure(error)
            }
        }
        return try outcome.get()
    }

    @Test("Where replicas are, and what exists: the bytes, and every cut of them is refused")
    func replicaSet() throws {
        let set = ReplicaSet(
            epoch: 5, active: NodeID(2), isElecting: false,
            replicas: [.init(node: NodeID(1), state: .synchronising), .init(node: NodeID(2), state: .current)])
        let hex: [UInt8] = [5, 0, 0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 2, 0, 0, 0, 2]
        #expect(set.encoded == hex)
        #expect(try ReplicaSet(decoding: hex) == set)
        for count in 0..<hex.count {
            #expect(throws: DecodeError.self) { try ReplicaSet(decoding: Array(hex.prefix(count))) }
        }
        let reply = ExistsReply(attributes: Self.attributes)
        #expect(try ExistsReply(decoding: reply.encoded) == reply)
        #expect(ExistsReply(attributes: nil).encoded == [0])
    }

    @Test("An update that was done has steps only: conditions, tags and put are refused in pushes")
    func stepsOnly() {
        for kind in SectionOperation.Kind.allCases {
            var writer = ByteWriter()
            UpdatePush.encodeHead(handle: Self.handle, change: 1, time: 2, count: 1, to: &writer)
            SectionOperation.encode(kind, id: "a", to: &writer)
            var isRead = false
            writer.bytes.withUnsafeBytes { bytes in isRead = (try? UpdatePush(decoding: bytes)) != nil }
            #expect(isRead == kind.isStep, "\(kind)")
        }
    }

    @Test("Golden bytes of an open")
    func goldenOpen() {
        let hex: [UInt8] = [
            5, 0, 0, 0,  // flags READ | CREATE
            1, 0, 0, 0, 0x6E,  // name: length, "n"
            1,  // attributes follow
            10, 0, 0, 0,  // WR_ACTIVE_REPLICA | COLLOCATED
            3, 0, 0, 0,  // maxSections
            0x22, 0x11, 0, 0, 0, 0, 0, 0,  // checkpointSize
            0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,  // retentionDuration -2
            0x44, 0, 0, 0, 0, 0, 0, 0,  // maxSectionSize
            5, 0, 0, 0, 0, 0, 0, 0,  // maxSectionIdSize
        ]
        #expect(encoded(Self.requests[0]) == hex)
    }

    @Test("Golden bytes of an update: one write of two bytes at 258")
    func goldenUpdate() throws {
        let hex: [UInt8] = [
            4, 3, 2, 1, 0, 0, 0, 0,  // handle
            1, 0, 0, 0,  // one operation
            2,  // write
            1, 0, 0x61,  // id: length, "a"
            2, 1, 0, 0, 0, 0, 0, 0,  // offset
            0, 0, 0, 0, 0, 0, 0, 0,  // expiration: unused
            2, 0, 0, 0, 0xBB, 0xCC,  // data
        ]
        let request = CkptRequest.update(
            Self.handle, [SectionOperation(kind: .write, id: "a", offset: 258, data: .init(offset: 1, count: 2))])
        #expect(encoded(request) == hex)
        guard case .update(let handle, let operations) = try decoded(.update, hex) else {
            throw DecodeError.trailing(0)
        }
        #expect(handle == Self.handle && operations.count == 1)
        #expect(operations[0].data == PayloadSlice(offset: hex.count - 2, count: 2), "data stays in the body")
    }

    @Test("Round trip, every truncation, one byte too many", arguments: requests)
    func roundTrip(request: CkptRequest) throws {
        let bytes = encoded(request)
        #expect(try decoded(request.code, bytes) == request)
        for length in 0..<bytes.count {
            #expect(throws: DecodeError.self) { try decoded(request.code, Array(bytes[..<length])) }
        }
        #expect(throws: DecodeError.self) { try decoded(request.code, bytes + [0]) }
    }

    @Test("An operation with a field that its kind does not use is refused")
    func unusedFields() {
        func bytes(_ kind: SectionOperation.Kind, offset: UInt64 = 0, expiration: SaTime = 0, data: [UInt8] = [])
            -> [UInt8]
        {
            var writer = ByteWriter()
            writer.integer(Self.handle.rawValue)
            writer.integer(UInt32(1))
            SectionOperation.encode(kind, id: "a", offset: offset, expiration: expiration, data: data, to: &writer)
            return writer.bytes
        }
        for wrong in [
            bytes(.overwrite, offset: 1), bytes(.delete, data: [1]), bytes(.write, expiration: 4),
            bytes(.create, offset: 2),
            bytes(.setExpiration, expiration: 1, data: [0]), bytes(.delete, expiration: 1),
        ] { #expect(throws: DecodeError.self) { try decoded(.update, wrong) } }
    }

    @Test("Answers: round trip and every truncation")
    func answers() throws {
        let descriptor = SectionDescriptor(id: "s", expiration: 5, size: 6, state: .corrupted, lastUpdate: 7, serial: 8)
        let snapshot = SnapshotReply(change: 9, sections: [SectionContent(descriptor: descriptor, data: [1, 2])])
        let summary = CheckpointSummary(
            checkpoint: CheckpointID(rawValue: 1), name: SaName("n")!,
            descriptor: CheckpointDescriptor(attributes: Self.attributes, sectionCount: 1, memoryUsed: 2, change: 3),
            isUnlinked: true,
            hasActiveReplica: false, subscriberCount: 2, retentionLeft: 4,
            openers: [.init(handle: Self.handle, processID: 5, flags: .read, isConnected: true)])
        func check<Value: WireCodable & Equatable>(_ value: Value) throws {
            let bytes = value.encoded
            #expect(try Value(decoding: bytes) == value)
            for length in 0..<bytes.count {
                #expect(throws: DecodeError.self) { try Value(decoding: Array(bytes[..<length])) }
            }
        }
        try check(OpenReply(checkpoint: CheckpointID(rawValue: 4), handle: Self.handle, isCreated: true))
        try check(UpdateReply(change: 5, generated: ["generated-5", "x"]))
        try check(ReadReply(change: 5, parts: [[], [1, 2, 3]]))
        try check(ListReply(hasMore: true, sections: [descriptor]))
        try check(SubscribeReply.resumed(after: 77))
        try check(SubscribeReply.snapshot(snapshot))
        try check(AdminListReply(hasMore: false, checkpoints: [summary]))
        try check(AdminSectionsReply(hasMore: true, summary: summary, snapshot: snapshot))
        try check(DurabilityReply(checkpoints: 3, behind: 2, waiting: 1, trouble: "no space"))
        var state = Transaction.State(change: 5, retentionDuration: 6, nextSerial: 7, hasActiveReplica: true, epoch: 8)
        state.history = EpochHistory(start: 4, previous: 3)
        let head = PersistentHead(name: SaName("n")!, attributes: Self.attributes, state: state)
        try check(head)
        #expect(head.state == state, "nobody has it open, no retention runs")
    }

    @Test("Random bytes are decoded or refused, never fatal", arguments: 0..<40 as Range<UInt64>)
    func randomBytes(seed: UInt64) {
        var random = SeededRandom(seed: seed)
        for _ in 0..<400 {
            let code = CkptCode.allCases.randomElement(using: &random) ?? .open
            var bytes = (0..<Int.random(in: 0...80, using: &random)).map { _ in
                UInt8.random(in: .min ... .max, using: &random)
            }
            if random.chance(percent: 50), let sound = Self.requests.randomElement(using: &random) {
                bytes = encoded(sound)
                if !bytes.isEmpty {
                    bytes[Int.random(in: 0..<bytes.count, using: &random)] ^=
                        1 << UInt8.random(in: 0..<8, using: &random)
                }
            }
            _ = try? decoded(code, bytes)
            _ = try? SubscribeReply(decoding: bytes)
            _ = try? AdminSectionsReply(decoding: bytes)
            _ = try? PersistentHead(decoding: bytes)
            bytes.withUnsafeBytes { _ = try? UpdatePush(decoding: $0) }
        }
    }

    @Test("The refused operation can be found in the words")
    func refusalIndex() {
        #expect(CkptRefusal.operationIndex(in: Array(CkptRefusal.text(operation: 12, "no: such: section").utf8)) == 12)
        #expect(CkptRefusal.operationIndex(in: Array("something else: 3".utf8)) == nil)
    }
}
