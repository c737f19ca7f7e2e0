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
    /// - Throws: `.noSpace`, `.corrupted`; it is then where it was.
    public func grant(_ id: CheckpointID, slot: Int, limit: Int) throws(StoreError) {
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
            slot: slot, limit: limit, grant: entry.image.nextGrant, data, lastUpdate: before.lastUpdate,
            change: entry.image.change)
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

    /// Nobody publishes in the direct file any more: what holds is there until it is recalled.
    public func stopDirect(_ id: CheckpointID) { entries[id]?.direct?.closeAll() }

    /// After a step: sections that have come back are here, and nobody's numbers are behind.
    func settleDirect(_ entry: Entry, _ transaction: Transaction) {
        guard let direct = entry.direct else { return }
        if transaction.purpose == .recalled {
            for step in transaction.steps {
                entry.image.clearDirect(step.slot)
                direct.release(slot: step.slot)
            }
        }
        if !direct.places.isEmpty { direct.raiseChanges(to: transaction.state.change) }
    }

    /// Takes back what the last life had granted. Its writers may go on until then.
    func recoverDirect(_ image: inout CheckpointImage<MappedMemory>, _ path: String) throws(StoreError) {
        defer { _ = try? File.remove(path) }  // who still writes there writes for nobody
        let slots = image.directSlots
        if slots.isEmpty { return }
        var places: [Int: DirectPlace] = [:]
        for slot in slots { places[slot] = image.directPlace(slot) }
        var payload: [UInt8] = []
        var sights: [DirectSight] = []
        var state = image.state
        if let direct = try? DirectFile.open(path, places) {  // else all of them are lost, as said below
            let seen = direct.look(recalling: Set(slots), known: state.change, reserves: false, into: &payload)
            (sights, state.change) = (seen.sights, max(state.change, seen.change))
        }
        var transaction = Transaction(checkpoint: image.checkpoint, time: 0, state: state, purpose: .recalled)
        for slot in slots {
            let sight =
                sights.first { $0.slot == slot } ?? DirectSight(slot: slot, isRecalled: true, isCorrupted: true)
            if let step = image.recalledStep(slot, sight) { transaction.steps.append(step) }
        }
        var failure: StoreError?
        payload.withUnsafeBytes { bytes in
            do throws(StoreError) {
                try image.commit(transaction, payload: bytes, isUpdate: false)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
        for slot in slots { image.clearDirect(slot) }
    }

    /// The checkpoint's data goes: nobody writes it any more.
    func dropDirect(_ id: CheckpointID, _ entry: Entry) {
        guard let direct = entry.direct else { return }
        direct.closeAll()
        entry.direct = nil
        directFiles -= 1
        _ = try? File.remove(directPath(id))
    }

    /// For a process that may; nil: there is none.
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
