import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes
import Synchronization

/// The direct file of one checkpoint: memory for sections that their writers write themselves.
///
/// Everything in it is input. Which region is whose is kept here and in the main file; a region is used again only when
/// nobody can be writing it any more.
final class DirectFile {
    private let file: SharedFile
    /// What is mapped, and that whoever may write the file can also cut it off at any time.
    private var shield: FaultShield
    var mapping: Mapping { shield.mapping }
    private var allocator = ExtentAllocator(start: DirectLayout.headerBytes, used: [])
    /// The sections by their slots.
    private(set) var places: [Int: DirectPlace] = [:]
    /// Those of `places`, ascending.
    private(set) var slots: [Int] = []
    /// Recalled while somebody held the lock: a process that is stopped or dead.
    private var held: [DirectPlace] = []
    /// How far others have been told, and are about to be.
    var telling = Telling()

    private init(_ file: SharedFile) throws(OSError) {
        self.file = file
        shield = try FaultShield(file.mapping)
    }

    static func create(_ path: String) throws(OSError) -> DirectFile {
        let file = try SharedFile.create(path, size: 4 * Mapping.pageBytes, mode: 0o600) {
            DirectLayout.format($0.base)
        }
        return try DirectFile(file)
    }

    /// As the last life left it; only to take from it what there is.
    static func open(_ path: String, _ places: [Int: DirectPlace]) throws(OSError) -> DirectFile {
        let file = try SharedFile.open(path, writable: true)
        let direct = try DirectFile(file)
        direct.places = places
        direct.slots = places.keys.sorted()
        return direct
    }

    var path: String { file.path }
    var bytes: Int { mapping.count }

    /// Somebody may have cut it off: then nothing in it is touched any more. Who has made it longer, or has taken
    /// memory beyond its end, gains nothing.
    var isWhole: Bool {
        do throws(OSError) {
            let status = try File.stat(descriptor: file.raw)
            if status.size > mapping.count || status.allocated > mapping.count + Self.slack {
                try file.truncate(to: mapping.count)
            }
            return !shield.hasFaulted && status.size >= mapping.count
        } catch {
            return false
        }
    }

    /// The kernel may give a large page where a small one would do.
    private static let slack = 2 << 20

    func section(_ place: DirectPlace) -> DirectSection? { DirectSection(place, in: mapping.bytes) }

    // MARK: Change numbers

    private var changes: UnsafeMutablePointer<Atomic<UInt64>> {
        mapping.base.atomic(UInt64.self, at: DirectLayout.changesOffset)
    }

    /// No smaller than that from now on.
    func raiseChanges(to change: UInt64) {
        guard isWhole else { return }
        if changes.pointee.load(ordering: .relaxed) < change { changes.pointee.store(change, ordering: .relaxed) }
    }

    /// The number of the last change, if it can be that; `reserves`: the next one is the caller's.
    private func lastChange(after known: UInt64, reserves: Bool) -> UInt64 {
        let last =
            reserves
            ? changes.pointee.wrappingAdd(1, ordering: .relaxed).oldValue : changes.pointee.load(ordering: .relaxed)
        // Nobody writes so often.
        if last >= known, last - known < 1 << 40 { return last }
        changes.pointee.store(known + (reserves ? 1 : 0), ordering: .relaxed)
        return known
    }

    // MARK: Regions

    /// Gives the section memory, with this in it.
    func grant(
        slot: Int, limit: Int, grant: UInt64, isTold: Bool, _ data: UnsafeRawBufferPointer, lastUpdate: SaTime,
        change: UInt64
    ) throws(StoreError) -> DirectPlace {
        guard isWhole else { throw .damaged("\(path) is shorter than it was made") }
        freeHeld()
        var place = try place(limit: limit, grant: grant)
        place.isTold = isTold
        guard let section = section(place) else { throw .system("no such region") }
        section.lock.seize()
        section.prepare(data, lastUpdate: lastUpdate, change: change)
        section.lock.release()
        raiseChanges(to: change)
        telling.told[slot] = isTold ? section.published : nil
        places[slot] = place
        slots = places.keys.sorted()
        return place
    }

    private func place(limit: Int, grant: UInt64) throws(StoreError) -> DirectPlace {
        let bytes = DirectLayout.regionBytes(limit: limit)
        if let extent = allocator.allocate(bytes, fileSize: mapping.count) {
            return DirectPlace(offset: extent.offset, limit: limit, grant: grant)
        }
        let needed = allocator.end + ExtentAllocator.rounded(bytes)
        let pages = (max(needed, mapping.count + mapping.count / 8) + Mapping.pageBytes - 1) / Mapping.pageBytes
        do throws(OSError) {
            shield = try FaultShield(file.grow(to: pages * Mapping.pageBytes))
        } catch {
            throw error.isNoSpace ? .noSpace("\(error)") : .system("\(error)")
        }
        guard let extent = allocator.allocate(bytes, fileSize: mapping.count) else {
            throw .noSpace("growth without effect")
        }
        return DirectPlace(offset: extent.offset, limit: limit, grant: grant)
    }

    /// The section is in the main file again; nobody can publish here any more.
    func release(slot: Int) {
        guard let place = places.removeValue(forKey: slot) else { return }
        slots.removeAll { $0 == slot }
        telling.told[slot] = nil
        held.append(place)
        if isWhole { freeHeld() }
    }

    /// Takes back what nobody holds.
    private func freeHeld() {
        held.removeAll { place in
            guard let lock = section(place)?.lock, lock.tryAcquire(DirectLock.service) || Self.takeFromDead(lock)
            else { return false }
            let bytes = ExtentAllocator.rounded(place.bytes)
            allocator.release(.init(offset: place.offset, size: bytes))
            return true
        }
    }

    private static func takeFromDead(_ lock: DirectLock) -> Bool {
        let holder = lock.holder
        let process = DirectLock.process(of: holder)
        let isAnother = Process.information(of: process).map {
            DirectLock.owner(process: UInt32(process), start: $0.startTime) != holder
        }
        guard isAnother == true || Process.isOver(process) else { return false }
        return lock.take(from: holder, for: DirectLock.service)
    }

    // MARK: Looking

    /// What the sections are now. Of those that are recalled: what they are for good, with their data behind what
    /// `payload` has.
    ///
    /// - Parameters:
    ///   - known: the last change number that is known.
    ///   - reserves: the number after the returned one is the caller's.
    func look(
        recalling recalled: Set<Int>, known: UInt64, reserves: Bool, into payload: inout [UInt8]
    ) -> (sights: [DirectSight], change: UInt64) {
        guard isWhole else {
            let lost = places.keys.sorted().map { DirectSight(slot: $0, isRecalled: true, isCorrupted: true) }
            return (lost, known)
        }
        var sights: [DirectSight] = []
        for (slot, place) in places.sorted(by: { $0.key < $1.key }) {
            guard let section = section(place) else {
                sights.append(DirectSight(slot: slot, isRecalled: true, isCorrupted: true))
                continue
            }
            if recalled.contains(slot) {
                sights.append(Self.recall(section, slot, into: &payload))
            } else if let view = try? section.read(at: 0, into: .init(start: nil, count: 0)) {
                // One that cannot be looked at now is what it was.
                sights.append(
                    DirectSight(slot: slot, size: view.size, lastUpdate: view.lastUpdate, change: view.change))
            }
        }
        return (sights, lastChange(after: known, reserves: reserves))
    }

    private static func recall(_ section: DirectSection, _ slot: Int, into payload: inout [UInt8]) -> DirectSight {
        section.close()
        let lost = DirectSight(slot: slot, isRecalled: true, isCorrupted: true)
        guard let view = try? section.readFrozen(at: 0, into: .init(start: nil, count: 0)) else { return lost }
        let start = payload.count
        payload.append(contentsOf: repeatElement(0, count: view.size))
        let copied = payload.withUnsafeMutableBytes { bytes in
            try? section.readFrozen(at: 0, into: UnsafeMutableRawBufferPointer(rebasing: bytes[start...])).copied
        }
        guard copied == view.size else {
            payload.removeLast(view.size)
            return lost
        }
        return DirectSight(
            slot: slot, size: view.size, lastUpdate: view.lastUpdate, change: view.change, isRecalled: true,
            data: PayloadSlice(offset: start, count: view.size))
    }

    /// Nobody writes here any more; what was written is not wanted.
    func closeAll() {
        guard isWhole else { return }
        for place in places.values { section(place)?.close() }
    }

    /// Writers cannot cut it off by what they get, where the kernel can do that.
    func open(writable: Bool) throws(OSError) -> Descriptor {
        writable && File.canForbidCutting
            ? try File.openWithoutCutting(path) : try File.open(path, writable: writable)
    }
}
