import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptStore

/// What the engine of a member does without data: opens, processes, what the directory says.
@Suite("Checkpoint engine of a member")
struct MemberTests {
    private static let client = ClientSession(high: 1, low: 1)
    private static let process = ProcessIdentity(id: 5, start: 6)
    private static let id = CheckpointID(rawValue: 2 << 52 | 77)

    private var node = MemberNode(1)
    private var directory = Directory.ofTwo()

    init() { node.feed(.connected(Self.client, Self.process)) }

    private func origin(_ number: UInt64 = 0, isRetransmission: Bool = false) -> RequestOrigin {
        RequestOrigin(
            identity: RequestIdentity(session: Self.client, number: number), process: Self.process,
            isRetransmission: isRetransmission)
    }

    private mutating func open(
        _ flags: OpenFlags = [.read, .write], on opener: UInt32 = 1, creation: CreationFlags = .writeAllReplicas
    ) throws -> HandleID {
        let handle = HandleID(rawValue: opener == 1 ? node.engine.makeID() : UInt64(opener) << 52 | 5)
        let attributes = CreationAttributes(
            flags: creation, checkpointSize: 100, retentionDuration: 1_000, sectionsMax: 1, sectionSizeMax: 100)
        let name = try #require(SaName("safCkpt=member"))
        _ = directory.handle(
            .open(name, handle: handle, on: NodeID(opener), id: Self.id, attributes: attributes), at: .start)
        if opener == 1 { node.feed(.opened(Self.id, node.engine.opener(handle, flags, origin(9)))) }
        return handle
    }

    private func entry() throws -> DirectoryEntry { try #require(directory.entry(Self.id)) }

    private mutating func make() throws { node.feed(.make(try entry(), time: 1)) }

    private func refusal(_ request: CkptRequest) throws -> AisError? {
        do throws(Refusal) {
            _ = try node.engine.admit(request, origin(), entry: directory.entry(Self.id))
            return nil
        } catch {
            return error.code
        }
    }

    @Test("Ids are of this node, and greater than any node's number")
    mutating func ids() throws {
        let first = node.engine.makeID()
        #expect(first >> 52 == 1 && first > UInt64(UInt32.max))
        var other = MemberNode(2)
        #expect(other.engine.makeID() >> 52 == 2)
        // A later life begins above what an earlier one left, even if the clock was set back.
        let handle = HandleID(rawValue: 1 << 52 | 500 << 20 | 3)
        _ = try open()
        try make()
        let image = try #require(node.images[Self.id])
        var found = image.restored()
        found.openers = [
            .init(
                slot: 0, record: OpenerRecord(RequestWriter(handle: handle, node: NodeID(1), session: Self.client)),
                executed: [])
        ]
        #expect(CkptEngine.incarnation(seconds: 400, found: [found], node: NodeID(1)) == 501)
        #expect(CkptEngine.incarnation(seconds: 400, found: [found], node: NodeID(3)) == 400)
    }

    @Test("What an open may do is known before there is a replica here")
    mutating func admission() throws {
        let handle = try open(.read)
        #expect(node.engine.checkpoint(of: handle) == Self.id)
        #expect(try refusal(.read(handle, [])) == nil)
        #expect(try refusal(.update(handle, [])) == .access)
        #expect(try refusal(.setRetention(handle, -1)) == .invalidParam)
        #expect(try refusal(.setActiveReplica(handle)) == .access)
        #expect(try refusal(.status(HandleID(rawValue: 3))) == .badHandle)
        let writer = try open()
        #expect(try refusal(.synchronize(writer)) == .badOperation)
        #expect(try refusal(.setActiveReplica(writer)) == .badOperation)
        node.feed(.request(.read(handle, [ReadRange(id: "")]), origin(), time: 1))
        #expect(node.told.contains { if case .refuse(_, .tryAgain, _) = $0 { true } else { false } })
        #expect(!node.engine.isServable(Self.id))
        try make()
        #expect(node.engine.isServable(Self.id))
        node.feed(.request(.open(try entry().name, flags: .read, attributes: nil), origin(), time: 1))
        #expect(node.told.contains { if case .refuse(_, .notSupported, _) = $0 { true } else { false } })
    }

    @Test("Opens are kept with the replica, and told when the node joins; a retransmitted open is known")
    mutating func opensAreKept() throws {
        let early = try open()
        try make()
        let late = try open()
        #expect(node.engine.held(at: node.now).map(\.openers) == [[early, late]])
        let contents = node.images.values.map(\.memory.content)
        var again = try MemberNode(1, recovering: contents)
        #expect(again.engine.held(at: again.now).map(\.openers) == [[early, late]])
        #expect(again.engine.absentSessions.map(\.session) == [Self.client])
        again.feed(.connected(Self.client, Self.process))
        #expect(again.engine.earlierOpen(origin(9))?.handle == early)
        // Nobody came back.
        var lost = try MemberNode(1, recovering: contents)
        lost.feed(.timerFired(.absence(Self.client), time: 1))
        #expect(lost.told.contains(.closeHandles([OpenedHandle(Self.id, early), OpenedHandle(Self.id, late)])))
        #expect(lost.engine.held(at: lost.now).map(\.openers) == [[]])
    }

    @Test("A process that dies has closed everything, also an open that was still on its way")
    mutating func death() throws {
        let handle = try open()
        try make()
        node.feed(.disconnected(Self.client, isDead: true))
        #expect(node.told.contains(.closeHandles([OpenedHandle(Self.id, handle)])))
        #expect(node.engine.checkpoint(of: handle) == nil)
        let late = try open()
        #expect(node.told == [.closeHandles([OpenedHandle(Self.id, late)])])
    }

    @Test("What the directory has closed is closed; what it does not have yet is not")
    mutating func directoryCloses() throws {
        let handle = try open()
        try make()
        let full = try entry()
        let other = try open(on: 2)
        // An entry from before the open.
        _ = directory.handle(.close([OpenedHandle(Self.id, handle)]), at: .start)
        node.feed(.entry(Self.id, try entry()))
        #expect(node.engine.checkpoint(of: handle) == Self.id)
        node.feed(.entry(Self.id, full))
        node.feed(.entry(Self.id, try entry()))
        #expect(node.engine.checkpoint(of: handle) == nil)
        _ = directory.handle(.close([OpenedHandle(Self.id, other)]), at: .start)
        node.feed(.entry(Self.id, nil))
        node.feed(.drop(Self.id, unlinkedBy: nil))
        #expect(node.images.isEmpty && node.engine.held(at: node.now).isEmpty)
    }

    @Test("A writer of another node is remembered until the directory has seen it and no longer does")
    mutating func strangers() throws {
        _ = try open()
        try make()
        let before = try entry()
        node.feed(.entry(Self.id, before))
        let writer = RequestWriter(
            handle: HandleID(rawValue: 2 << 52 | 5), node: NodeID(2), session: ClientSession(high: 9, low: 9))
        let update = ReplicaUpdate(
            time: 5, nextSerial: 2, writer: writer, number: 4, operations: [.init(kind: .write, id: "")])
        node.feed(.apply(Self.id, change: 1, update, tolerant: false))
        func isKnown(_ node: MemberNode) -> Bool { node.engine.copyEnd(of: Self.id)?.writers.map(\.writer) == [writer] }
        #expect(isKnown(node))
        // The open is decided already; this node hears of it later.
        node.feed(.entry(Self.id, before))
        #expect(isKnown(node))
        _ = try open(on: 2)
        node.feed(.entry(Self.id, try entry()))
        #expect(isKnown(node))
        node.feed(.entry(Self.id, before))
        #expect(!isKnown(node))
        // Never seen: forgotten in the end.
        node.feed(.apply(Self.id, change: 2, update, tolerant: false))
        node.feed(.entry(Self.id, before))
        node.now = node.now + .seconds(61)
        #expect(isKnown(node))
        node.feed(.entry(Self.id, before))
        #expect(!isKnown(node))
    }

    @Test("A node that was part of a cluster and is alone now knows nobody elsewhere, and nothing half copied")
    mutating func aloneAfterwards() throws {
        _ = try open(on: 2)
        try make()
        let writer = RequestWriter(
            handle: HandleID(rawValue: 2 << 52 | 5), node: NodeID(2), session: ClientSession(high: 9, low: 9))
        let update = ReplicaUpdate(
            time: 5, nextSerial: 2, writer: writer, number: 4, operations: [.init(kind: .write, id: "")])
        node.feed(.apply(Self.id, change: 1, update, tolerant: false))
        var image = try #require(node.images[Self.id])
        var alone = CkptEngine(incarnation: 9)
        alone.checksDeeply = true
        for effect in alone.handle(.restored(image.restored()), at: node.now) {
            if case .record(let transaction, _) = effect {
                try image.commit(transaction, payload: UnsafeRawBufferPointer(start: nil, count: 0), isUpdate: false)
            }
        }
        #expect(image.restored().openers.isEmpty)
        #expect(alone.summaries(at: node.now).map(\.openers.count) == [0])
        node.feed(.wipe(Self.id, base: 0))
        let partial = try #require(node.images[Self.id]).restored()
        var next = CkptEngine(incarnation: 9)
        let effects = next.handle(.restored(partial), at: node.now)
        #expect(effects.contains { if case .setAside = $0 { true } else { false } })
    }

    @Test("Who follows a replica whose data go begins with a snapshot")
    mutating func snapshotAfterCopy() throws {
        let handle = try open()
        try make()
        func start() -> UInt64?? {
            node.feed(.request(.subscribe(handle, after: 0), origin(), time: 1))
            for case .reply(_, .subscription(_, _, let after, _, _)) in node.told { return .some(after) }
            return nil
        }
        let first = start()
        #expect(first == .some(0))
        node.feed(.wipe(Self.id, base: 0))
        let descriptor = SectionDescriptor(
            id: "", expiration: .saTimeEnd, size: 0, state: .valid, lastUpdate: 1, serial: 1)
        node.feed(.takePiece(Self.id, [PieceSection(descriptor: descriptor, offset: 0, data: .empty)]))
        try node.finish(Self.id, CopyEnd(nextSerial: 2, writers: []), ReplicaVersion(epoch: 3, change: 0))
        #expect(node.isApplied)
        let (second, third) = (start(), start())
        #expect(second == .some(nil))
        #expect(third == .some(0))
    }
}
