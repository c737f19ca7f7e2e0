import CkptEngine
import CkptLayout
import CkptProtocol
import CkptStore
import DBAL
import EngineKit
import OSAL
import SAFTypes
import Testing

/// A node alone with RAM files and a database, and no daemon around them: a test says when the disk has done what it
/// was told, and whether.
final class PersistenceWorld {
    struct Content: Equatable {
        var head: PersistentHead
        var sections: [SectionID: [UInt8]]
    }

    let root: String
    let file: PersistentFile
    private(set) var engine: CkptEngine
    private var files: CheckpointFiles
    var now = Instant(nanoseconds: 1_000_000_000)
    var time: SaTime = 1_700_000_000_000_000_000
    private(set) var timers: [CkptTimer: Instant] = [:]
    private var payload: [UInt8] = []
    private var number: UInt64 = 0
    private var lives: UInt64 = 7

    /// Under way to the disk: what is written, and what everything is like then.
    private(set) var flight: (changes: [DatabaseChange], state: [CheckpointID: Content])?
    private(set) var batches = 0
    private(set) var changesWritten = 0
    /// What the database has, if it keeps its promise.
    private(set) var durable: [CheckpointID: Content] = [:]
    /// Answers that wait, by ticket; and all that were given, by the number of the request.
    private var waiting: [UInt64: (number: UInt64, answer: CkptAnswer)] = [:]
    private var awaited: UInt64?
    private(set) var answers: [UInt64: Result<CkptAnswer, AisError>] = [:]

    static let client = ClientSession(high: 1, low: 1)

    init(_ engine: DatabaseEngine = .sqlite) throws {
        root = try File.makeTemporaryDirectory("/dev/shm/ckpt-persist-")
        file = PersistentFile("\(root)/state/checkpoint-data", engine)
        files = try CheckpointFiles(directory: "\(root)/ram1")
        self.engine = CkptEngine(incarnation: lives)
        self.engine.checksDeeply = true
        feed(.stored([], lineage: nil))
    }

    deinit {
        file.close()
        try? File.removeTree(root)
    }

    // MARK: Requests

    /// Number of the request; its answer is in ``answers`` when it was given.
    @discardableResult
    func ask(_ request: CkptRequest, _ body: [UInt8] = [], repeating earlier: UInt64? = nil) -> UInt64 {
        if earlier == nil { number += 1 }
        let identity = RequestIdentity(session: Self.client, number: earlier ?? number)
        answers[identity.number] = nil
        let origin = RequestOrigin(
            identity: identity, process: ProcessIdentity(id: 1, start: 5), isRetransmission: earlier != nil)
        feed(.request(request, origin, time: time), body)
        return identity.number
    }

    static let attributes = CreationAttributes(
        flags: [.writeAllReplicas, .persistent], checkpointSize: 1 << 22, retentionDuration: .saTimeEnd,
        sectionsMax: 8, sectionSizeMax: 1 << 20, sectionIDSizeMax: 16)

    /// Opens, and lets the disk make it durable.
    func open(_ name: String, _ attributes: CreationAttributes = attributes) throws -> OpenReply {
        let number = ask(.open(try #require(SaName(name)), flags: [.read, .write, .create], attributes: attributes))
        settle()
        guard case .opened(let reply) = try #require(answers[number]).get() else { throw AisError.library }
        return reply
    }

    func update(
        _ handle: HandleID, _ kind: SectionOperation.Kind, _ id: SectionID, at offset: UInt64 = 0, _ data: [UInt8] = []
    ) -> UInt64 {
        let operation = SectionOperation(
            kind: kind, id: id, offset: offset, expiration: kind == .create ? .saTimeEnd : 0,
            data: PayloadSlice(offset: 0, count: data.count))
        return ask(.update(handle, [operation]), data)
    }

    // MARK: The shell

    func feed(_ event: CkptEvent, _ body: [UInt8] = []) {
        let outer = payload
        payload = body
        process(event)
        payload = outer
    }

    private func process(_ event: CkptEvent) {
        for effect in engine.handle(event, at: now) { perform(effect) }
    }

    private func perform(_ effect: CkptEffect) {
        switch effect {
        case .create(let new): process(.settled(outcome { () throws(StoreError) in try files.create(new) }))
        case .commit(let transaction, let isUpdate): process(.settled(commit(transaction, isUpdate)))
        case .record(let transaction, let isUpdate): #expect(commit(transaction, isUpdate) == .done)
        case .remove(let id), .retire(let id): files.remove(id)
        case .startTimer(let timer, let at): timers[timer] = at
        case .cancelTimer(let timer): timers[timer] = nil
        case .await(let ticket): awaited = ticket
        case .reply(let identity, let answer):
            if let ticket = awaited {
                waiting[ticket] = (identity.number, answer)
                awaited = nil
            } else {
                answers[identity.number] = .success(answer)
            }
        case .refuse(let identity, let code, _): answers[identity.number] = .failure(code)
        case .release(let tickets):
            for ticket in tickets {
                if let held = waiting.removeValue(forKey: ticket) { answers[held.number] = .success(held.answer) }
            }
        case .abandon(let tickets, let code, _):
            for ticket in tickets {
                if let held = waiting.removeValue(forKey: ticket) { answers[held.number] = .failure(code) }
            }
        case .persist(let batch): begin(batch)
        default: break
        }
    }

    private func commit(_ transaction: Transaction, _ isUpdate: Bool) -> CommitOutcome {
        outcome { () throws(StoreError) in
            var failure: StoreError?
            payload.withUnsafeBytes { bytes in
                do throws(StoreError) {
                    try files.commit(transaction, payload: bytes, isUpdate: isUpdate)
                } catch {
                    failure = error
                }
            }
            if let failure { throw failure }
        }
    }

    private func outcome(_ body: () throws(StoreError) -> Void) -> CommitOutcome {
        do throws(StoreError) {
            try body()
            return .done
        } catch {
            return .failed("\(error)")
        }
    }

    // MARK: The disk

    private func begin(_ batch: PersistentBatch) {
        #expect(flight == nil, "one batch at a time")
        do throws(StoreError) {
            let changes = try PersistentRecords.changes(batch) { id, slot, offset, count throws(StoreError) in
                try files.read(id, slot: slot, offset: offset, count: count)
            }
            var state = durable
            for removal in batch.removals { state[removal.checkpoint] = nil }
            for save in batch.saves {
                var content = Content(head: save.head, sections: [:])
                for section in engine.sections(of: save.checkpoint, limit: .max) {
                    let size = Int(section.descriptor.size)
                    content.sections[section.descriptor.id] = Array(
                        try files.read(save.checkpoint, slot: section.slot, offset: 0, count: size))
                }
                state[save.checkpoint] = content
            }
            flight = (changes, state)
            batches += 1
        } catch {
            Issue.record("a batch that cannot be composed: \(error)")
        }
    }

    /// Lets the timers that are due run, and the disk do what it has.
    func settle() {
        for _ in 0..<8 {
            gather()
            if flight == nil { return }
            land(.done)
        }
        Issue.record("the disk does not come to rest")
    }

    /// The end of a turn of the loop.
    func gather() {
        guard let at = timers[.persistence], at <= now else { return }
        timers[.persistence] = nil
        feed(.timerFired(.persistence, time: time))
    }

    func land(_ outcome: PersistentOutcome) {
        guard let (changes, state) = flight else { return }
        flight = nil
        switch outcome {
        case .done:
            do throws(DatabaseError) {
                try file.write(changes)
                changesWritten += changes.count
            } catch {
                Issue.record("\(error)")
            }
            durable = state
        case .failed: break
        case .lost:
            file.close()
            try? File.removeTree("\(root)/state")
            durable = [:]
        }
        feed(.persisted(outcome))
    }

    /// What a life without RAM files would find.
    func content() throws -> [CheckpointID: Content] {
        file.close()
        let found = try file.load()
        try #require(found.damages.isEmpty, "\(found.damages)")
        var content: [CheckpointID: Content] = [:]
        for checkpoint in found.checkpoints {
            content[checkpoint.checkpoint] = Content(
                head: checkpoint.head,
                sections: Dictionary(
                    uniqueKeysWithValues: try checkpoint.sections.map { section in
                        let size = Int(section.descriptor.size)
                        let data = try #require(
                            file.read(
                                checkpoint.checkpoint, slot: section.slot, size: size,
                                blocks: 0..<PersistentLayout.blocks(size)))
                        return (section.descriptor.id, data)
                    }))
        }
        return content
    }

    /// kill -9: the RAM files are there.
    func restart() throws {
        forget()
        let directory = files.directory
        files = try CheckpointFiles(directory: "\(root)/other")  // lets go of the other one's lock
        files = try Self.reopen(directory)
        let found = try files.recover()
        #expect(found.damaged.isEmpty)
        for checkpoint in found.checkpoints { feed(.restored(checkpoint)) }
        let stored = file.isMissing ? [] : try file.load().checkpoints
        for checkpoint in stored {
            let ram = found.checkpoints.first { $0.checkpoint == checkpoint.checkpoint }
            #expect(ram == nil || !CkptEngine.isNewer(checkpoint.head, than: ram), "the RAM file is never behind")
        }
        feed(.stored(stored, lineage: nil))
    }

    /// Another test's process that is just being started may hold what this one held, for a moment.
    private static func reopen(_ directory: String) throws -> CheckpointFiles {
        let deadline = MonotonicClock.now() + .seconds(30)
        while true {
            do throws(StoreError) {
                return try CheckpointFiles(directory: directory)
            } catch {
                guard MonotonicClock.now() < deadline else { throw error }
                OSThread.yield()
            }
        }
    }

    private func forget() {
        file.close()
        lives += 1
        engine = CkptEngine(incarnation: lives)
        engine.checksDeeply = true
        (timers, waiting, flight, awaited) = ([:], [:], nil, nil)
    }
}
