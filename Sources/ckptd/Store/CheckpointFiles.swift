public import CkptLayout
public import CkptProtocol
public import OSAL
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

    final class Entry: ParkableEntry {
        var isUsed = false
        var image: CheckpointImage<MappedMemory>
        /// Nil as long as no section was ever written directly in this life.
        var direct: DirectFile?
        init(_ image: CheckpointImage<MappedMemory>) { self.image = image }

        var isParkable: Bool { direct == nil && image.isLogAsWanted }
        var service: ServiceWord { image.service }
        var fileBytes: Int { image.fileBytes }
    }

    /// Files that are open at a time; each takes a descriptor and a mapping.
    public static let awakeMax = 4_096

    /// Damaged files that are kept for somebody to look at; they take RAM, so the oldest go.
    public static let damagedMax = 8
    private static let suffix = ".ckpt"
    private static let newSuffix = ".new"

    public let directory: String
    public let limits: StoreLimits
    private let lock: Descriptor
    private let isAlone: Bool
    private let lease: SharedFile
    private(set) lazy var entries = EntryTable<Entry>(awakeMax: Self.awakeMax) { [unowned self] in reopen($0) }
    /// Checkpoints with a direct file.
    var directFiles = 0
    /// Those with other replicas; said before there is a file, as a rule.
    private var replicated: Set<CheckpointID> = []

    /// On several nodes the calling thread is one that lives as long as the process.
    ///
    /// - Parameter isAlone: there is no other node, so every replica here is as good as asking.
    /// - Throws: `.system` when the directory cannot be made or another daemon has it.
    public init(
        directory: String, limits: StoreLimits = .init(logBytesMin: 2 << 10), isAlone: Bool = true
    ) throws(StoreError) {
        self.directory = directory
        self.limits = limits
        self.isAlone = isAlone
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
        do throws(OSError) {
            lease = try Self.leasePage(directory)
            let life = try LifeLock.initialize(at: lease.mapping.base + LeasePage.lifeOffset)
            if !isAlone { try life.hold() }
        } catch {
            throw error.isNoSpace ? .noSpace("\(error)") : .system("\(error)")
        }
    }

    /// The page of the last life, if there is one: who has mapped it goes on with it.
    private static func leasePage(_ directory: String) throws(OSError) -> SharedFile {
        let path = "\(directory)/\(LeasePage.name)"
        if let found = try? SharedFile.open(path, writable: true),  // none, or none of ours: a new one
            LeasePage.isSound(UnsafeRawBufferPointer(found.mapping.bytes))
        {
            LeasePage.setUntil(0, found.mapping.base)
            return found
        }
        return try SharedFile.create(path, size: LeasePage.bytes, mode: 0o600) { LeasePage.format($0.base) }
    }

    /// Until when this node's replicas may be read without asking: monotonic nanoseconds, see ``LeasePage``.
    public func setReadable(until nanoseconds: UInt64) { LeasePage.setUntil(nanoseconds, lease.mapping.base) }

    /// ``Membership/word``: who reads without asking, and wants to know of it, stops when it is another.
    public func setMembership(_ word: UInt64) { LeasePage.setMembership(word, lease.mapping.base) }

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
        // What was in them has been taken back.
        for name in names where name.hasSuffix(Self.directSuffix) { _ = try? File.remove("\(directory)/\(name)") }
        return (found.sorted { $0.checkpoint < $1.checkpoint }, damaged)
    }

    /// One that was parked.
    private func reopen(_ id: CheckpointID) -> Entry? {
        // Whoever wants it is told that there is none.
        guard let file = try? SharedFile.open(path(id), writable: true),
            let image = try? CheckpointImage(recovering: MappedMemory(file, path: path(id)), limits: limits)
        else { return nil }
        let entry = Entry(image)
        entry.image.keepsForReplicas = replicated.contains(id)
        return entry
    }

    private func recover(_ path: String, _ name: String) throws(StoreError) -> RestoredCheckpoint {
        let file: SharedFile
        do throws(OSError) { file = try SharedFile.open(path, writable: true) } catch { throw .damaged("\(error)") }
        let memory = MappedMemory(file, path: path)
        let restored: RestoredCheckpoint
        if let tombstone = try CheckpointImage<MappedMemory>.tombstone(in: memory) {
            restored = tombstone
        } else {
            var image = try CheckpointImage(recovering: memory, limits: limits)
            try recoverDirect(&image, directPath(image.checkpoint))
            image.setService(serviceWhenAlone(image.state))
            restored = image.restored()
            entries[restored.checkpoint] = Entry(image)
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
            let memory = MappedMemory(file, path: path(new.checkpoint))
            var image = try CheckpointImage(creating: new, in: memory, limits: limits)
            image.setService(serviceWhenAlone(image.state))
            try systemCall { () throws(OSError) in try File.rename(temporary, to: path(new.checkpoint)) }
            let entry = Entry(image)
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
        if transaction.purpose == .wipe { dropDirect(transaction.checkpoint, entry) }
        let hadActive = entry.image.state.hasActiveReplica
        if isAlone, hadActive, !transaction.state.hasActiveReplica {
            entry.image.setService(entry.image.service.subtracting(.readable))
        }
        try entry.image.commit(transaction, payload: payload, isUpdate: isUpdate)
        settleDirect(entry, transaction)
        if isAlone, !hadActive, transaction.state.hasActiveReplica {
            entry.image.setService(entry.image.service.union(.readable))
        }
    }

    /// On a node alone its replica is the active one, if there is one; on several nodes it is said by ``setService``.
    private func serviceWhenAlone(_ state: Transaction.State) -> ServiceWord {
        isAlone && state.hasActiveReplica ? .readable : []
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
        guard replicated.contains(id) != keeps else { return }
        if keeps { replicated.insert(id) } else { replicated.remove(id) }
        entries[id]?.image.keepsForReplicas = keeps
    }

    public func fileBytes(_ id: CheckpointID) -> Int { entries.fileBytes(id) }

    // MARK: For processes that map the files

    /// What others may do with the file from now on; in effect before this returns.
    public func setService(_ id: CheckpointID, _ word: ServiceWord) { entries[id]?.image.setService(word) }

    public func service(_ id: CheckpointID) -> ServiceWord { entries.service(id) ?? .retired }

    /// The data of a section turned out not to be what was written: nobody reads it without asking any more.
    public func hide(_ id: CheckpointID, slot: Int) { entries[id]?.image.hide(slot: slot) }

    /// For a process that may read: the checkpoint's file, not writable. ENOENT when there is none.
    public func openForReading(_ id: CheckpointID) throws(OSError) -> Descriptor { try File.open(path(id)) }

    /// The ``LeasePage``, not writable.
    public func openLease() throws(OSError) -> Descriptor { try File.open(lease.path) }

    /// Whoever maps the file lets it go.
    private func forget(_ id: CheckpointID) -> Entry? {
        replicated.remove(id)
        guard let entry = entries.removeValue(forKey: id) else { return nil }
        entry.image.setService(.retired)
        dropDirect(id, entry)
        return entry
    }

    public func remove(_ id: CheckpointID) {
        _ = forget(id)
        _ = try? File.remove(path(id))
    }

    /// Gives the memory back but for the header, which says by whose request the checkpoint was unlinked.
    public func retire(_ id: CheckpointID) {
        guard let entry = forget(id) else { return }
        do throws(OSError) {
            // A file of its own: who still maps the old one must not find its end.
            _ = try SharedFile.create(path(id), size: Layout.headerBytes, mode: 0o600) { header in
                header.bytes.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: entry.image.memory.bytes[..<Layout.headerBytes]))
            }
        } catch {
            _ = try? File.remove(path(id))
        }
    }

    public func setAside(_ id: CheckpointID, _ reason: String) -> Damage {
        _ = forget(id)
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
