public import CkptProtocol
import OSAL
import SAFTypes

/// The RAM files of one node's checkpoints: one each, named by id, in one directory that belongs to one daemon at a
/// time.
///
/// Not thread-safe: the daemon's loop owns it.
public final class CheckpointFiles {
    /// A file that could not be used: it was moved aside, and why.
    public struct Damage: Hashable, Sendable {
        public let path: String
        public let reason: String
    }

    private final class Entry {
        let file: SharedFile
        var image: CheckpointImage<MappedMemory>
        init(file: SharedFile, image: CheckpointImage<MappedMemory>) {
            self.file = file
            self.image = image
        }
    }

    /// Damaged files that are kept for somebody to look at; they take RAM, so the oldest go.
    public static let damagedMax = 8
    private static let suffix = ".ckpt"
    private static let newSuffix = ".new"

    public let directory: String
    public let limits: StoreLimits
    private let lock: Descriptor
    private var entries: [CheckpointID: Entry] = [:]
    /// Those with other replicas; said before there is a file, as a rule.
    private var replicated: Set<CheckpointID> = []

    /// - Throws: `.system` when the directory cannot be made or another daemon has it.
    public init(directory: String, limits: StoreLimits = .init(logBytesMin: 2 << 10)) throws(StoreError) {
        self.directory = directory
        self.limits = limits
        let held: Descriptor?
        do throws(OSError) {
            try File.makeDirectories(directory, mode: 0o700)
            held = try File.fileLock("\(directory)/lock")
        } catch {
            throw .system("\(error)")
        }
        guard let held else {
            throw .system("\(directory) is in use by another ckptd; give this one another SAF_SHM_DIR or stop that one")
        }
        lock = held
    }

    private func path(_ id: CheckpointID) -> String { "\(directory)/\(id)\(Self.suffix)" }

    /// Opens everything the last life left, in the order of the ids; what is damaged is moved aside.
    public func recover() throws(StoreError) -> (checkpoints: [RestoredCheckpoint], damaged: [Damage]) {
        var found: [RestoredCheckpoint] = []
        var damaged: [Damage] = []
        let names: [String]
        do throws(OSError) { names = try File.list(directory).sorted() } catch { throw .system("\(error)") }
        for name in names {
            if name.hasSuffix(Self.newSuffix) || name.hasSuffix("~") { _ = try? File.remove("\(directory)/\(name)") }
            guard name.hasSuffix(Self.suffix) else { continue }
            do throws(StoreError) {
                found.append(try recover("\(directory)/\(name)", name))
            } catch {
                damaged.append(moveAside("\(directory)/\(name)", name, "\(error)"))
            }
        }
        return (found.sorted { $0.checkpoint < $1.checkpoint }, damaged)
    }

    private func recover(_ path: String, _ name: String) throws(StoreError) -> RestoredCheckpoint {
        let file: SharedFile
        do throws(OSError) { file = try SharedFile.open(path, writable: true) } catch { throw .damaged("\(error)") }
        let memory = MappedMemory(file)
        let restored: RestoredCheckpoint
        if let tombstone = try CheckpointImage<MappedMemory>.tombstone(in: memory) {
            restored = tombstone
        } else {
            let image = try CheckpointImage(recovering: memory, limits: limits)
            restored = image.restored()
            entries[restored.checkpoint] = Entry(file: file, image: image)
        }
        guard "\(restored.checkpoint)\(Self.suffix)" == name else {
            entries[restored.checkpoint] = nil
            throw .damaged("it says it is checkpoint \(restored.checkpoint)")
        }
        return restored
    }

    /// Makes the file of a new checkpoint; it appears whole or not at all.
    public func create(_ new: NewCheckpoint) throws(StoreError) {
        let temporary = "\(directory)/\(new.checkpoint)\(Self.newSuffix)"
        do throws(StoreError) {
            let file = try systemCall { () throws(OSError) in
                try SharedFile.create(temporary, size: Mapping.pageBytes, mode: 0o600)
            }
            let image = try CheckpointImage(creating: new, in: MappedMemory(file), limits: limits)
            try systemCall { () throws(OSError) in try File.rename(temporary, to: path(new.checkpoint)) }
            let entry = Entry(file: file, image: image)
            entry.image.keepsForReplicas = replicated.contains(new.checkpoint)
            entries[new.checkpoint] = entry
        } catch {
            _ = try? File.remove(temporary)
            throw error
        }
    }

    private func systemCall<Result>(_ body: () throws(OSError) -> Result) throws(StoreError) -> Result {
        do throws(OSError) {
            return try body()
        } catch {
            throw error.isNoSpace ? .noSpace("\(error)") : .system("\(error)")
        }
    }

    /// One step of one checkpoint, wholly or not at all.
    public func commit(_ transaction: Transaction, payload: UnsafeRawBufferPointer, isUpdate: Bool) throws(StoreError) {
        guard let entry = entries[transaction.checkpoint] else {
            throw .system("no file of checkpoint \(transaction.checkpoint)")
        }
        try entry.image.commit(transaction, payload: payload, isUpdate: isUpdate)
    }

    public func read(_ id: CheckpointID, slot: Int, offset: Int, count: Int) throws(StoreError)
        -> UnsafeRawBufferPointer
    {
        guard let entry = entries[id] else { throw .system("no file of checkpoint \(id)") }
        return try entry.image.read(slot: slot, offset: offset, count: count)
    }

    /// The updates after `change`, as positions for ``encodeUpdate(_:at:handle:to:)``; nil when they are not all known.
    public func positions(_ id: CheckpointID, after change: UInt64) -> [UInt64]? {
        entries[id]?.image.positions(after: change)
    }

    public func encodeUpdate(_ id: CheckpointID, at position: UInt64, handle: HandleID, to writer: inout ByteWriter)
        -> Bool
    {
        entries[id]?.image.encodeUpdate(at: position, handle: handle, to: &writer) ?? false
    }

    /// Somebody follows the updates: from the next step on, more of them are kept, if there is room.
    public func keepMoreUpdates(_ id: CheckpointID) { entries[id]?.image.logBytesWanted = 256 << 10 }

    // MARK: For other replicas; what follows the head of a message

    /// The update at a position of ``positions(_:after:)``, and its number; nil when it is gone.
    public func encodeReplicaUpdate(_ id: CheckpointID, at position: UInt64, to writer: inout ByteWriter) -> UInt64? {
        entries[id]?.image.encodeReplicaUpdate(at: position, to: &writer)
    }

    /// Parts of sections; one whose bytes are not what was written goes without them.
    ///
    /// - Returns: The slots of those, if they were not known to be so.
    public func encodePiece(_ id: CheckpointID, _ parts: [CopiedPart], to writer: inout ByteWriter) -> [Int] {
        var corrupted: [Int] = []
        writer.integer(UInt32(parts.count))
        for part in parts {
            var descriptor = part.descriptor
            var data = UnsafeRawBufferPointer(start: nil, count: 0)
            if descriptor.state == .valid {
                do throws(StoreError) {
                    data = try read(id, slot: part.slot, offset: part.offset, count: part.count)
                } catch {
                    descriptor.state = .corrupted
                    corrupted.append(part.slot)
                }
            }
            PieceSection.encode(descriptor, offset: part.offset, data: data, to: &writer)
        }
        return corrupted
    }

    /// Whether there are other replicas: then more updates are kept, in proportion to data and updates.
    public func keepForReplicas(_ id: CheckpointID, _ keeps: Bool) {
        if keeps { replicated.insert(id) } else { replicated.remove(id) }
        entries[id]?.image.keepsForReplicas = keeps
    }

    public func fileBytes(_ id: CheckpointID) -> Int { entries[id]?.image.fileBytes ?? 0 }

    public func remove(_ id: CheckpointID) {
        entries[id] = nil
        replicated.remove(id)
        _ = try? File.remove(path(id))
    }

    /// Gives the memory back but for the header, which says by whose request the checkpoint was unlinked.
    public func retire(_ id: CheckpointID) {
        guard let entry = entries.removeValue(forKey: id) else { return }
        replicated.remove(id)
        do throws(OSError) {
            try entry.file.truncate(to: Layout.headerBytes)
        } catch {
            _ = try? File.remove(path(id))
        }
    }

    public func setAside(_ id: CheckpointID, _ reason: String) -> Damage {
        entries[id] = nil
        return moveAside(path(id), "\(id)\(Self.suffix)", reason)
    }

    private func moveAside(_ path: String, _ name: String, _ reason: String) -> Damage {
        let place = "\(directory)/damaged"
        // 19 digits until the year 2286: the names sort by age.
        let target = "\(place)/\(MonotonicClock.wallNanoseconds())-\(name)"
        do throws(OSError) {
            try File.makeDirectories(place, mode: 0o700)
            try File.rename(path, to: target)
            for old in try File.list(place).sorted().dropLast(Self.damagedMax) {
                _ = try? File.remove("\(place)/\(old)")
            }
            return Damage(path: target, reason: reason)
        } catch {
            _ = try? File.remove(path)
            return Damage(path: path, reason: "\(reason); could not be moved aside: \(error)")
        }
    }
}
