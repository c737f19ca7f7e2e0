import CkptEngine
import CkptProtocol
import EngineKit
import SAFTypes
import Testing

@testable import CkptLayout
@testable import CkptStore

/// The engine of a member with real images in memory, and nobody around it: what it wants done with files is done,
/// what it says to others is kept.
struct MemberNode {
    typealias Image = CheckpointImage<TestMemory>

    var engine: CkptEngine
    var images: [CheckpointID: Image] = [:]
    let recorder: CrashRecorder
    let limits: StoreLimits
    var now = Instant(nanoseconds: 1_000_000_000)
    var time: SaTime = 1_700_000_000_000_000_000
    /// Effects that are for others than the store.
    var told: [CkptEffect] = []
    /// The last update that was committed here, as it goes to others; and all of this life.
    var update: [UInt8] = []
    var updates: [CheckpointID: [UInt64: [UInt8]]] = [:]
    /// What their writers have made of direct sections, by their slots.
    var direct: [CheckpointID: [Int: [UInt8]]] = [:]
    /// Whose direct sections are to be looked at.
    var telling: Set<CheckpointID> = []
    private var toldPayload: [UInt8] = []
    private var payload: [UInt8] = []

    init(
        _ node: UInt32, recorder: CrashRecorder = CrashRecorder(), limits: StoreLimits = .init(),
        incarnation: UInt64 = 7
    ) {
        engine = CkptEngine(incarnation: incarnation, node: NodeID(node))
        engine.checksDeeply = true
        self.recorder = recorder
        self.limits = limits
    }

    /// A new life with what an earlier one left in memory.
    init(
        _ node: UInt32, recovering contents: [[UInt8]], limits: StoreLimits = .init(), incarnation: UInt64 = 8
    ) throws {
        self.init(node, limits: limits, incarnation: incarnation)
        for content in contents {
            let image = try Image(recovering: TestMemory(content, recorder: recorder), limits: limits)
            images[image.checkpoint] = image
            feed(.restored(image.restored()))
        }
    }

    mutating func feed(_ event: CkptEvent, _ body: [UInt8] = []) {
        let outer = payload
        payload = body
        told = []
        process(event)
        payload = outer
    }

    /// Whoever takes what others tell has no section left to its writers.
    private func checkDirect(_ event: CkptEvent) {
        switch event {
        case .apply(let id, _, _, _), .wipe(let id, _), .takePiece(let id, _):
            #expect(direct[id]?.isEmpty != false, "\(id) is told to this node, and written here by whoever maps it")
        default: break
        }
    }

    private mutating func process(_ event: CkptEvent) {
        checkDirect(event)
        for effect in engine.handle(event, at: now) {
            switch effect {
            case .create(let new):
                process(
                    .settled(
                        outcome { node throws(StoreError) in
                            node.images[new.checkpoint] = try Image(
                                creating: new, in: TestMemory(recorder: node.recorder), limits: node.limits)
                        }))
            case .commit(let transaction, let isUpdate):
                let result = outcome { node throws(StoreError) in try node.commit(transaction, isUpdate) }
                process(.settled(result))
            case .record(let transaction, let isUpdate):
                let result = outcome { node throws(StoreError) in try node.commit(transaction, isUpdate) }
                #expect(result == .done, "a step that needs no room")
            case .remove(let id), .retire(let id): (images[id], direct[id]) = (nil, nil)
            case .grant(let id, let slot, _, _):
                direct[id, default: [:]][slot] = images[id]?.whole(slot: slot).map { Array($0) } ?? []
                process(.settled(.done))
            case .tell(let id, let recalled, let mayRest):
                let outer = toldPayload
                let sights = sights(id, recalled)
                process(.telling(id, sights, isResting: sights.isEmpty || !mayRest))
                toldPayload = outer
            case .endDirect(let id, let slots): for slot in slots { direct[id]?[slot] = nil }
            case .abandonDirect(let id): direct[id] = nil
            case .startTimer(.telling(let id), _): telling.insert(id)
            default: told.append(effect)
            }
        }
    }

    /// What is written directly and not told yet, and what is recalled.
    private mutating func sights(_ id: CheckpointID, _ recalled: [Int]) -> [DirectSight] {
        toldPayload = []
        var sights: [DirectSight] = []
        for (slot, data) in (direct[id] ?? [:]).sorted(by: { $0.key < $1.key }) {
            var sight = DirectSight(slot: slot, size: data.count, lastUpdate: 6, isRecalled: recalled.contains(slot))
            if images[id]?.whole(slot: slot).map({ Array($0) }) != data {
                (sight.isWritten, sight.isWhole) = (true, true)
                sight.data = PayloadSlice(offset: toldPayload.count, count: data.count)
                toldPayload += data
            }
            if sight.isWritten || sight.isRecalled { sights.append(sight) }
        }
        return sights
    }

    var isUntold: Bool {
        direct.contains { id, sections in
            sections.contains { images[id]?.whole(slot: $0.key).map { Array($0) } != $0.value }
        }
    }

    /// As the next life of the store does: what was not told is an update.
    mutating func recoverDirect() {
        for id in direct.keys.sorted() {
            guard let image = images[id] else { continue }
            var transaction = Transaction(checkpoint: id, time: 6, state: image.state, purpose: .told)
            transaction.state.change += 1
            transaction.steps = sights(id, []).compactMap { image.toldStep($0) }
            guard !transaction.steps.isEmpty else { continue }
            do throws(StoreError) {
                try commit(transaction, true)
            } catch {
                Issue.record("what was written directly is lost: \(error)")
            }
        }
        direct = [:]
    }

    private mutating func commit(_ transaction: Transaction, _ isUpdate: Bool) throws(StoreError) {
        var failure: StoreError?
        (transaction.purpose == .told || transaction.purpose == .recalled ? toldPayload : payload).withUnsafeBytes {
            bytes in
            do throws(StoreError) {
                try images[transaction.checkpoint]?.commit(transaction, payload: bytes, isUpdate: isUpdate)
            } catch {
                failure = error
            }
            if isUpdate, failure == nil {
                var writer = ByteWriter()
                ReplicaUpdate.encode(transaction, payload: bytes, to: &writer)
                update = writer.bytes
                updates[transaction.checkpoint, default: [:]][transaction.state.change] = writer.bytes
            }
        }
        if let failure { throw failure }
    }

    private mutating func outcome(_ body: (inout MemberNode) throws(StoreError) -> Void) -> CommitOutcome {
        do throws(StoreError) {
            try body(&self)
            return .done
        } catch {
            switch error {
            case .noSpace(let text): return .noSpace(text)
            case .corrupted(let slot): return .corrupted(slot: slot)
            case .damaged(let text), .system(let text): return .failed(text)
            }
        }
    }

    // MARK: As the shell does

    /// From the log, as a follower that lags is told; nil when the log has it no more.
    func logged(_ id: CheckpointID, after change: UInt64) -> [[UInt8]]? {
        guard let image = images[id], let positions = image.positions(after: change) else { return nil }
        return positions.compactMap { position in
            var writer = ByteWriter()
            return image.encodeReplicaUpdate(at: position, to: &writer) == nil ? nil : writer.bytes
        }
    }

    mutating func apply(_ id: CheckpointID, change: UInt64, _ body: [UInt8], isTolerant: Bool = false) throws {
        let update = try Self.decode(body) { reader in try ReplicaUpdate(decoding: &reader) }
        feed(.apply(id, change: change, update, tolerant: isTolerant), body)
    }

    /// The next piece as it goes to another, and where to go on; nil: that was all.
    func piece(_ id: CheckpointID, _ cursor: CopyCursor, bytesMax: Int) -> (body: [UInt8], next: CopyCursor)? {
        guard let (parts, next) = engine.piece(of: id, from: cursor, bytesMax: bytesMax), let image = images[id] else {
            return nil
        }
        var writer = ByteWriter()
        writer.integer(UInt32(parts.count))
        for part in parts {
            var descriptor = part.descriptor
            var data = UnsafeRawBufferPointer(start: nil, count: 0)
            do throws(StoreError) {
                data = try image.read(slot: part.slot, offset: part.offset, count: part.count)
            } catch {
                descriptor.state = .corrupted
            }
            PieceSection.encode(descriptor, offset: part.offset, data: data, to: &writer)
        }
        return (writer.bytes, next)
    }

    mutating func take(_ id: CheckpointID, _ body: [UInt8]) throws {
        feed(.takePiece(id, try Self.decode(body) { reader in try PieceSection.decodeList(&reader) }), body)
    }

    static func decode<Value>(_ body: [UInt8], _ decode: (inout ByteReader) throws -> Value) throws -> Value {
        try body.withUnsafeBytes { bytes in
            var reader = ByteReader(bytes)
            return try decode(&reader)
        }
    }

    mutating func finish(
        _ id: CheckpointID, _ end: CopyEnd, _ version: ReplicaVersion, _ history: EpochHistory = EpochHistory()
    ) throws {
        var writer = ByteWriter()
        end.encode(to: &writer)
        let decoded = try Self.decode(writer.bytes) { reader in try CopyEnd(decoding: &reader) }
        feed(.finishCopy(id, decoded, version, history))
    }

    // MARK: Looked at

    struct Content: Equatable {
        struct Section: Equatable {
            var descriptor: SectionDescriptor
            var data: [UInt8]
        }
        var sections: [SectionID: Section] = [:]
        var replica: ReplicaData
        var nextSerial: UInt64
        var executed: [HandleID: Set<UInt64>] = [:]
    }

    /// What replicas of one version have in common, read from the image.
    func content(_ id: CheckpointID) throws -> Content {
        try Self.content(try #require(images[id]))
    }

    static func content(_ image: Image) throws -> Content {
        let restored = image.restored()
        var content = Content(replica: restored.state.replica, nextSerial: restored.state.nextSerial)
        for section in restored.sections {
            var data: [UInt8] = []
            if section.descriptor.state == .valid {
                data = Array(try image.read(slot: section.slot, offset: 0, count: Int(section.descriptor.size)))
            }
            content.sections[section.descriptor.id] = .init(descriptor: section.descriptor, data: data)
        }
        for opener in restored.openers {
            let numbers = Set(opener.executed.map(\.number).filter { $0 != 0 })
            if !numbers.isEmpty { content.executed[opener.record.handle] = numbers }
        }
        return content
    }

    var isApplied: Bool { told.contains { if case .replication(.applied(_, true)) = $0 { true } else { false } } }
}

extension Directory {
    /// Nodes 1 and 2 have joined, without any data.
    static func ofTwo() -> Directory {
        var directory = Directory()
        for member: UInt32 in 1...2 {
            _ = directory.handle(
                .joined(
                    NodeJoin(
                        node: NodeID(member), incarnation: 1, nodesExpected: 2, time: 9, lineage: 0, newLineage: 1,
                        held: [], isLast: true)), at: .start)
        }
        return directory
    }
}
