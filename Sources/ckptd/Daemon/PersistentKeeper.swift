import CkptEngine
import CkptLayout
import CkptProtocol
import CkptStore
import DBAL
import EOLoop
import EngineKit
import OSAL
import SAFTypes

/// The database of persistent checkpoints: read before ckptd serves anybody, then written on the loop's worker. Decides
/// nothing. Loop thread only.
final class PersistentKeeper {
    /// The ckptd before may not be quite gone.
    private static let inUseMax = Duration.seconds(2)
    private static let busyDelay = Duration.milliseconds(100)
    /// A database that is found damaged again so soon is not set aside once more.
    private static let lostPause = Duration.seconds(10)
    /// Blocks that are brought to memory at a time.
    private static let blocksAtOnce = 64

    private let loop: Loop
    private let file: PersistentFile
    private let files: CheckpointFiles
    private let journal: Journal
    private var isClosed = false
    private var lastLost = Instant.start
    /// What became of the batch; never before ``write(_:)`` returns.
    var onPersisted: (PersistentOutcome) -> Void = { _ in }
    /// A section's bytes in memory are not what was written.
    var onCorrupted: (CheckpointID, _ slot: Int) -> Void = { _, _ in }

    var path: String { file.path }

    init(loop: Loop, places: Places, engine: DatabaseEngine, files: CheckpointFiles, journal: Journal) {
        self.loop = loop
        self.files = files
        self.journal = journal
        file = PersistentFile(places.stateDirectory + "/checkpoint-data", engine)
    }

    func close() {
        isClosed = true
        let file = file
        loop.runSlow({ file.close() }, then: { _ in })
    }

    // MARK: The start

    struct Found {
        /// With what was in the database only.
        var checkpoints: [RestoredCheckpoint]
        /// `.stored` or `.notStored`, and names that are withheld.
        var events: [CkptEvent] = []
    }

    /// - Parameter found: the RAM files.
    func load(_ found: [RestoredCheckpoint]) -> Found {
        var result = Found(checkpoints: found)
        guard !file.isMissing else {
            result.events = [.stored([], lineage: nil)]
            return result
        }
        do throws(DatabaseError) {
            var content = try read()
            var stored: [StoredCheckpoint] = []
            for checkpoint in content.checkpoints {
                if take(checkpoint, &result, &content.damages) { stored.append(checkpoint) }
            }
            for damage in content.damages { journal.write(.error, "\(file.path) is damaged: \(damage)") }
            // All that could be read is in memory now: it goes to a new one.
            if !content.damages.isEmpty, setAside() { stored = [] }
            result.events.append(.stored(stored, lineage: content.lineage))
        } catch {
            if error.kind == .damaged, setAside() {
                journal.write(.error, "what was in it is lost on this node: \(error)")
                result.events = [.stored([], lineage: nil)]
            } else {
                result.events = [.notStored("\(error)")]
            }
        }
        return result
    }

    private func read() throws(DatabaseError) -> PersistentFile.Content {
        let deadline = MonotonicClock.now() + Self.inUseMax
        while true {
            do throws(DatabaseError) {
                return try file.load()
            } catch {
                guard error.kind == .inUse, MonotonicClock.now() < deadline else { throw error }
                pause()
            }
        }
    }

    /// Nobody is served yet, so that nobody waits for this.
    private func pause() {
        let nothing: Bool? = Monitor(()).wait(until: MonotonicClock.now() + .milliseconds(20)) { _ in nil }
        _ = nothing
    }

    private func setAside() -> Bool {
        do throws(OSError) {
            journal.write(.error, "the database of persistent checkpoints is damaged; moved to \(try file.setAside())")
            return true
        } catch {
            journal.write(.error, "the damaged database of persistent checkpoints cannot be moved aside: \(error)")
            return false
        }
    }

    /// Makes the RAM file, if it is not the newer one.
    ///
    /// - Returns: False when it cannot be had now: the database keeps it.
    private func take(_ stored: StoredCheckpoint, _ result: inout Found, _ damages: inout [String]) -> Bool {
        let id = stored.checkpoint
        let index = result.checkpoints.firstIndex { $0.checkpoint == id }
        guard CkptEngine.isNewer(stored.head, than: index.map { result.checkpoints[$0] }) else { return true }
        if let index {
            if result.checkpoints[index].state.isPartial {
                files.remove(id)
            } else {
                journal.write(files.setAside(id, "older than what \(file.path) has"))
            }
            result.checkpoints.remove(at: index)
        }
        do throws(StoreError) {
            result.checkpoints.append(try restore(stored, &damages))
            return true
        } catch {
            files.remove(id)
            result.events.append(.withheld(stored.head.name, "\(error)"))
            journal.write(.error, "checkpoint \(stored.head.name) (\(id)) stays on the disk only: \(error)")
            return false
        }
    }

    private func restore(
        _ stored: StoredCheckpoint, _ damages: inout [String]
    ) throws(StoreError) -> RestoredCheckpoint {
        let (id, head) = (stored.checkpoint, stored.head)
        var partial = head.state
        partial.isPartial = true
        try files.create(
            NewCheckpoint(
                checkpoint: id, name: head.name, attributes: head.attributes,
                createdAt: MonotonicClock.wallNanoseconds(), state: partial, openers: []))
        var restored = RestoredCheckpoint(
            checkpoint: id, name: head.name, attributes: head.attributes, state: head.state, sections: [],
            openers: stored.writers)
        for section in stored.sections {
            var descriptor = section.descriptor
            var isMade = descriptor.id.isDefault
            if try !copy(section, of: id, partial, &isMade) {
                if descriptor.state == .valid {
                    damages.append("checkpoint \(head.name) (\(id)): section \(descriptor.id) is corrupted")
                }
                (descriptor.state, descriptor.size) = (.corrupted, 0)
                try put(section.slot, [], 0, descriptor, id, partial, &isMade)
            }
            restored.sections.append(.init(slot: section.slot, descriptor: descriptor))
        }
        let end = Transaction(checkpoint: id, time: 0, state: head.state, purpose: .copied(stored.writers))
        try files.commit(end, payload: UnsafeRawBufferPointer(start: nil, count: 0), isUpdate: false)
        return restored
    }

    /// False when its data is not what was written.
    private func copy(
        _ section: RestoredCheckpoint.Section, of id: CheckpointID, _ state: Transaction.State, _ isMade: inout Bool
    ) throws(StoreError) -> Bool {
        let descriptor = section.descriptor
        guard descriptor.state == .valid, let size = Int(exactly: descriptor.size) else { return false }
        let count = PersistentLayout.blocks(size)
        var block = 0
        repeat {
            let blocks = block..<min(count, block + Self.blocksAtOnce)
            guard let data = file.read(id, slot: section.slot, size: size, blocks: blocks) else { return false }
            try put(section.slot, data, block * PersistentLayout.blockBytes, descriptor, id, state, &isMade)
            block = blocks.upperBound
        } while block < count
        return true
    }

    private func put(
        _ slot: Int, _ data: [UInt8], _ offset: Int, _ descriptor: SectionDescriptor, _ id: CheckpointID,
        _ state: Transaction.State, _ isMade: inout Bool
    ) throws(StoreError) {
        let kind: SectionOperation.Kind = offset > 0 ? .write : isMade ? .overwrite : .create
        let operation = SectionOperation(
            kind: kind, id: descriptor.id, offset: UInt64(offset),
            expiration: kind == .create ? descriptor.expiration : 0, data: PayloadSlice(offset: 0, count: data.count))
        let copied = Transaction.CopiedSection(
            lastUpdate: descriptor.lastUpdate, size: Int(clamping: descriptor.size),
            isCorrupted: descriptor.state == .corrupted)
        let transaction = Transaction(
            checkpoint: id, time: 0, state: state,
            steps: [.init(operation, slot: slot, serial: descriptor.serial, copied: copied)], purpose: .piece)
        var failure: StoreError?
        data.withUnsafeBytes { bytes in
            do throws(StoreError) {
                try files.commit(transaction, payload: bytes, isUpdate: false)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        isMade = true
    }

    // MARK: Batches

    func write(_ batch: PersistentBatch) {
        var corrupted: [(CheckpointID, Int)] = []
        let changes: [DatabaseChange]
        do throws(StoreError) {
            changes = try PersistentRecords.changes(batch) { id, slot, offset, count throws(StoreError) in
                do throws(StoreError) {
                    return try files.read(id, slot: slot, offset: offset, count: count)
                } catch {
                    guard case .corrupted(let slot) = error else { throw error }
                    corrupted.append((id, slot))
                    return nil
                }
            }
        } catch {
            let reason = "\(error)"
            loop.schedule(after: .zero) { [weak self] in self?.onPersisted(.failed(.failing(reason))) }
            return
        }
        for (id, slot) in corrupted { onCorrupted(id, slot) }
        write(changes)
    }

    private func write(_ changes: [DatabaseChange]) {
        guard !isClosed else { return }
        let file = file
        let isTaken = loop.runSlow {
            do throws(DatabaseError) {
                try file.write(changes)
                return nil
            } catch {
                return error
            }
        } then: { [weak self] (error: DatabaseError?) in
            guard let self, !isClosed else { return }
            written(error)
        }
        guard !isTaken else { return }
        // The worker has too much to do: a little later.
        loop.schedule(after: Self.busyDelay) { [weak self] in self?.write(changes) }
    }

    private func written(_ error: DatabaseError?) {
        switch error?.kind {
        case nil: onPersisted(.done)
        case .full: onPersisted(.failed(.full(error?.text ?? "")))
        case .damaged where lastLost == .start || loop.now - lastLost > Self.lostPause:
            lastLost = loop.now
            // A few names are changed; and that is once in the life of a disk.
            onPersisted(setAside() ? .lost : .failed(.failing(error?.text ?? "")))
        default: onPersisted(.failed(.failing(error?.text ?? "")))
        }
    }
}
