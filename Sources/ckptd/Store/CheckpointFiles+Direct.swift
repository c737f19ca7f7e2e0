import CkptLayout
public import CkptProtocol
public import OSAL
import SAFTypes

// Sections that their writers write themselves: see the README of ckptd.
extension CheckpointFiles {
    static let directSuffix = ".direct"
    /// Each takes a descriptor and a mapping for as long as the checkpoint lives.
    static let directFilesMax = 1_024

    func directPath(_ id: CheckpointID) -> String { "\(directory)/\(id)\(Self.directSuffix)" }

    /// The section may be written directly from now on, up to `limit` bytes.
    ///
    /// - Parameter isTold: others are told what is written, by ``tell(_:recalling:mayRest:into:)``; of all direct
    ///   sections of a checkpoint, or none.
    /// - Throws: `.noSpace`, `.corrupted`; it is then where it was.
    public func grant(_ id: CheckpointID, slot: Int, limit: Int, isTold: Bool = false) throws(StoreError) {
        guard let entry = entries[id] else { throw .system("no file of checkpoint \(id)") }
        guard limit > 0, limit <= DirectLayout.limitMax, let before = entry.image.sections[safe: slot],
            before.size <= limit, !entry.image.isDirect(slot)
        else { throw .system("slot \(slot) cannot be written directly") }
        try entry.image.reserve(slot: slot, bytes: limit)
        let isNew = entry.direct == nil
        if isNew {
            guard directFiles < Self.directFilesMax else {
                throw .noSpace("\(Self.directFilesMax) checkpoints are written directly")
            }
            do throws(OSError) {
                entry.direct = try DirectFile.create(directPath(id))
                directFiles += 1
            } catch {
                throw error.isNoSpace ? .noSpace("\(error)") : .system("\(error)")
            }
        }
        guard let direct = entry.direct else { return }
        let mapped = isNew ? 0 : direct.bytes
        let data = try entry.image.read(slot: slot, offset: 0, count: before.size)
        let place = try direct.grant(
            slot: slot, limit: limit, grant: entry.image.nextGrant, isTold: isTold, data,
            lastUpdate: before.lastUpdate, change: entry.image.change)
        // Who has mapped it, or has not yet, must do so again.
        if direct.bytes != mapped { entry.image.setDirectGeneration(entry.image.directGeneration &+ 1) }
        entry.image.setDirect(slot, place)
    }

    /// What the directly written sections of a checkpoint are; those of `recalled` cannot be written any more, and
    /// their data is appended to `payload`. Waits for nobody.
    public func look(
        _ id: CheckpointID, recalling recalled: [Int], reserves: Bool, into payload: inout [UInt8]
    ) -> (sights: [DirectSight], change: UInt64) {
        guard let entry = entries[id], let direct = entry.direct else { return ([], 0) }
        return direct.look(
            recalling: Set(recalled), known: entry.image.change, reserves: reserves, into: &payload)
    }

    /// What others have to be told of directly written sections, as it is at one moment; `isResting`: nothing, and
    /// writers call when there is. Those of `recalled` cannot be written any more. Waits for nobody; a step of the
    /// purpose `.told` keeps it.
    public func tell(
        _ id: CheckpointID, recalling recalled: [Int], mayRest: Bool, into payload: inout [UInt8]
    ) -> (sights: [DirectSight], isResting: Bool) {
        guard let entry = entries[id], let direct = entry.direct else { return ([], true) }
        return direct.tell(
            recalling: Set(recalled), mayRest: mayRest, from: { entry.image.whole(slot: $0) }, into: &payload)
    }

    /// These are in the main file from now on: others have been told all that was written there.
    public func endDirect(_ id: CheckpointID, slots: [Int]) {
        guard let entry = entries[id], let direct = entry.direct else { return }
        for slot in slots { endDirect(entry, direct, slot) }
    }

    private func endDirect(_ entry: Entry, _ direct: DirectFile, _ slot: Int) {
        entry.image.clearDirect(slot)
        direct.release(slot: slot)
    }

    /// The sections stay what they were when others were told last: what was written since is of no worth.
    public func abandonDirect(_ id: CheckpointID) {
        guard let entry = entries[id], let direct = entry.direct else { return }
        direct.closeAll()
        for slot in direct.slots { endDirect(entry, direct, slot) }
    }

    /// Nobody publishes in the direct file any more: what holds is there until it is recalled.
    public func stopDirect(_ id: CheckpointID) { entries[id]?.direct?.closeAll() }

    /// After a step: sections that have come back are here, and nobody's numbers are behind.
    func settleDirect(_ entry: Entry, _ transaction: Transaction) {
        guard let direct = entry.direct else { return }
        switch transaction.purpose {
        case .recalled: for step in transaction.steps { endDirect(entry, direct, step.slot) }
        case .told: direct.keepOffered(change: transaction.state.change)
        case .step, .piece, .wipe, .copied, .reserved: break
        }
        if !direct.places.isEmpty { direct.raiseChanges(to: transaction.state.change) }
    }

    /// The checkpoint's data goes: nobody writes it any more.
    func dropDirect(_ id: CheckpointID, _ entry: Entry) {
        guard let direct = entry.direct else { return }
        direct.closeAll()
        entry.direct = nil
        directFiles -= 1
        _ = try? File.remove(directPath(id))
    }

    /// For a process of the user whose the file is; nil: there is none.
    public func openDirect(_ id: CheckpointID, writable: Bool) throws(OSError) -> Descriptor? {
        try entries[id]?.direct?.open(writable: writable)
    }

    public func directGeneration(_ id: CheckpointID) -> UInt64 { entries[id]?.image.directGeneration ?? 0 }
}

extension Array {
    fileprivate subscript<Wrapped>(safe index: Int) -> Wrapped? where Element == Wrapped? {
        index >= 0 && index < count ? self[index] : nil
    }
}
