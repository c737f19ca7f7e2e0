import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptEngine

/// Who was active for an instance and is no more writes nothing over what its successor has written.
@Suite("Late writers")
struct WriteFenceTests {
    static let words = SaName("safCsi=words,safSi=words,safApp=count")!
    static let other = SaName("safCsi=other,safSi=other,safApp=count")!
    private let process = ProcessIdentity(id: 40, start: 7)

    private func origin(_ process: ProcessIdentity, _ held: [(SaName, UInt64)]) -> RequestOrigin {
        RequestOrigin(
            identity: RequestIdentity(session: ClientSession(high: 1, low: 1), number: 1), process: process,
            epochs: held.map { AssignmentEpoch(of: $0.0, epoch: $0.1) })
    }

    private func holder(_ process: ProcessIdentity, _ csi: SaName, _ epoch: UInt64) -> AssignmentTable.Holder {
        .init(
            pid: Int32(process.id), startTime: process.start, held: AssignmentEpoch(of: csi, epoch: epoch))
    }

    @Test("A process carries what amfd says of it: pid and start time, all it is active for")
    func holders() {
        var fence = WriteFence()
        fence.take(
            AssignmentTable(
                incarnation: 1,
                holders: [
                    holder(process, Self.words, 5), holder(process, Self.other, 6),
                    holder(ProcessIdentity(id: 40, start: 3), Self.words, 2),
                ]))
        #expect(
            fence.epochs(of: process)
                == [AssignmentEpoch(of: Self.words, epoch: 5), AssignmentEpoch(of: Self.other, epoch: 6)])
        #expect(fence.epochs(of: ProcessIdentity(id: 40, start: 3)) == [])
        #expect(fence.epochs(of: ProcessIdentity(id: 41, start: 7)) == [])
    }

    @Test("Below a floor, said or learned, is too late; one stale assignment is enough; who carries none is never")
    func admission() {
        var fence = WriteFence()
        fence.take(AssignmentTable(incarnation: 1, floors: [.init(Self.words, epoch: 5)]))
        #expect(fence.admit(origin(process, [])) == nil)
        #expect(fence.admit(origin(process, [(Self.words, 5)])) == nil)
        let late = fence.admit(origin(process, [(Self.other, 9), (Self.words, 4)]))
        #expect(late?.latest == 5)
        #expect(late?.instance == Self.words)
        #expect(late?.isFirst == true)
        #expect(fence.admit(origin(process, [(Self.words, 4)]))?.isFirst == false, "told once of each process")
        // An update is the first word of a successor.
        #expect(fence.admit(origin(process, [(Self.words, 8)])) == nil)
        #expect(fence.admit(origin(process, [(Self.words, 7)]))?.latest == 8)
        #expect(fence.refusals == 3)
        // What amfd says in the same life does not take it back; in a new one it does.
        fence.take(AssignmentTable(incarnation: 1, floors: [.init(Self.words, epoch: 6)]))
        #expect(fence.admit(origin(process, [(Self.words, 7)]))?.latest == 8)
        fence.take(AssignmentTable(incarnation: 2, floors: [.init(Self.words, epoch: 6)]))
        #expect(fence.admit(origin(process, [(Self.words, 7)])) == nil)
    }

    @Test("The engine refuses with ACCESS and says so once; what was done before is answered again")
    func engine() throws {
        var stand = FenceStand()
        stand.take([.init(Self.words, epoch: 5)])
        #expect(stand.write(1, epoch: 5, byte: 1) == nil)
        stand.take([.init(Self.words, epoch: 9)])
        #expect(stand.write(1, epoch: 5, byte: 1, again: true) == nil, "it was done in its time")
        #expect(stand.write(2, epoch: 5, byte: 2) == .access)
        #expect(stand.notes == 1)
        #expect(stand.write(3, epoch: 5, byte: 3) == .access)
        #expect(stand.notes == 1)
        #expect(stand.write(4, epoch: nil, byte: 4) == nil, "a process that amfd knows nothing of")
        #expect(stand.node.engine.lateRefusals == 2)
        #expect(try stand.data() == [4])
    }

    @Test(
        "No order of fail-overs, held requests and late tables lets a predecessor write over its successor",
        arguments: 0..<60 as Range<UInt64>)
    func anyOrder(seed: UInt64) throws {
        var random = SeededRandom(seed: seed)
        var stand = FenceStand()
        var latest: UInt64 = 0
        // Requests on their way, with what their ckptd has stamped on them.
        var underWay: [(number: UInt64, epoch: UInt64)] = []
        // The active replica's node hears of a floor at any later time, and may miss all but the last.
        var floors: [UInt64] = []
        var number: UInt64 = 0
        var applied: UInt64 = 0
        var refused = 0
        for _ in 0..<400 {
            switch Int.random(in: 0..<10, using: &random) {
            case 0:
                latest += UInt64.random(in: 1...3, using: &random)
                floors.append(latest)
            case 1:
                guard let floor = floors.last else { break }
                floors.removeAll()
                stand.take([.init(Self.words, epoch: floor)])
            case 2...5:
                guard latest > 0 else { break }
                number += 1
                // The one that is active, or a predecessor that does not know better.
                let epoch = random.chance(percent: 60) ? latest : UInt64.random(in: 1...latest, using: &random)
                underWay.append((number, epoch))
            default:
                guard let index = underWay.indices.randomElement(using: &random) else { break }
                let request = underWay.remove(at: index)
                switch stand.write(request.number, epoch: request.epoch, byte: UInt8(truncatingIfNeeded: request.epoch))
                {
                case nil:
                    #expect(request.epoch >= applied, "seed \(seed): \(request.epoch) is written after \(applied)")
                    applied = request.epoch
                case .access?:
                    refused += 1
                    #expect(request.epoch < latest, "seed \(seed): the active one is refused")
                case let code?: Issue.record("seed \(seed): \(code)")
                }
            }
        }
        #expect(refused > 0 && applied > 0, "seed \(seed)")
        #expect(try stand.data() == [UInt8(truncatingIfNeeded: applied)])
    }

    @Test("What stands before a forwarded request: as ever for others, and what an active process is active for")
    func wire() throws {
        var head = ForwardedHead(
            checkpoint: CheckpointID(rawValue: 2),
            origin: RequestOrigin(
                identity: RequestIdentity(session: ClientSession(high: 3, low: 4), number: 5),
                process: ProcessIdentity(id: 6, start: 7), isRetransmission: true), code: .update)
        let plain: [UInt8] =
            [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0]
            + [6, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 1, 8, 0]
        let active: [UInt8] = plain + [1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]
        #expect(encoded(head, 2) == (.request, plain))
        head.origin.epochs = [AssignmentEpoch(assignment: 9, epoch: 10)]
        #expect(encoded(head, 2) == (.requestOfActive, active))
        #expect(encoded(head, 1) == (.request, plain), "a node of the version before is told as ever")
        let decoded = try MemberNode.decode(active) { try ForwardedHead(decoding: &$0, isOfActive: true) }
        #expect(decoded == head)
        for count in 0..<active.count {
            #expect(throws: DecodeError.self) {
                try MemberNode.decode(Array(active.prefix(count))) {
                    try ForwardedHead(decoding: &$0, isOfActive: true)
                }
            }
        }
    }

    private func encoded(_ head: ForwardedHead, _ version: UInt8) -> (CkptPeerCode, [UInt8]) {
        var writer = ByteWriter()
        let code = head.encode(version: version, to: &writer)
        return (code, writer.bytes)
    }
}

/// The active replica of one checkpoint, written from other nodes.
private struct FenceStand {
    var node = MemberNode(1)
    var notes = 0
    private let id = CheckpointID(rawValue: 2 << 52 | 77)

    init() {
        var directory = Directory.ofTwo()
        let attributes = CreationAttributes(
            flags: .writeAllReplicas, checkpointSize: 100, retentionDuration: 1_000, sectionsMax: 1,
            sectionSizeMax: 100)
        _ = directory.handle(
            .open(
                SaName("safCkpt=fence")!, handle: HandleID(rawValue: 2 << 52 | 5), on: NodeID(2), id: id,
                attributes: attributes), at: .start)
        if let entry = directory.entry(id) { node.feed(.make(entry, time: 1)) }
    }

    mutating func take(_ floors: [AssignmentTable.Floor]) {
        node.feed(.assignments(AssignmentTable(incarnation: 1, floors: floors)))
    }

    /// Nil: it was done.
    mutating func write(_ number: UInt64, epoch: UInt64?, byte: UInt8, again: Bool = false) -> AisError? {
        let epochs = epoch.map { [AssignmentEpoch(of: WriteFenceTests.words, epoch: $0)] } ?? []
        let origin = RequestOrigin(
            identity: RequestIdentity(session: ClientSession(high: 2, low: 1), number: number),
            process: ProcessIdentity(id: UInt32(epoch ?? 0), start: 1), isRetransmission: again, epochs: epochs)
        let operation = SectionOperation(
            kind: .overwrite, id: .defaultSection, data: PayloadSlice(offset: 0, count: 1))
        node.feed(
            .forwarded(
                .update(HandleID(rawValue: 2 << 52 | 5), [operation]), origin, checkpoint: id, from: NodeID(2),
                time: 2),
            [byte])
        notes += node.told.count { if case .note(.late) = $0 { true } else { false } }
        for case .refuse(_, let code, _) in node.told { return code }
        return node.told.contains { if case .reply = $0 { true } else { false } } ? nil : .library
    }

    func data() throws -> [UInt8]? { try node.content(id).sections[.defaultSection]?.data }
}
