import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes

// What the last life of ckptd had left to writers.
extension CheckpointFiles {
    /// Takes back what the last life had granted. Its writers may go on until then.
    func recoverDirect(_ image: inout CheckpointImage<MappedMemory>, _ path: String) throws(StoreError) {
        defer { _ = try? File.remove(path) }  // who still writes there writes for nobody
        let slots = image.directSlots
        if slots.isEmpty { return }
        var places: [Int: DirectPlace] = [:]
        for slot in slots { places[slot] = image.directPlace(slot) }
        let direct = try? DirectFile.open(path, places)  // else all of them are lost, as said below
        var payload: [UInt8] = []
        let isTold = places.values.contains { $0.isTold }
        var lost = Set(slots)
        if isTold, let direct {
            let sights = direct.tell(
                recalling: lost, mayRest: false, from: { image.whole(slot: $0) }, into: &payload
            ).sights
            lost.subtract(sights.lazy.filter { !$0.isCorrupted }.map(\.slot))
            try tell(sights, &image, payload)
        }
        try recall(lost, isTold ? nil : direct, &image)
        for slot in slots { image.clearDirect(slot) }
    }

    /// What was written since others were told last is an update as any other.
    private func tell(
        _ sights: [DirectSight], _ image: inout CheckpointImage<MappedMemory>, _ payload: [UInt8]
    ) throws(StoreError) {
        var transaction = Transaction(checkpoint: image.checkpoint, time: 0, state: image.state, purpose: .told)
        transaction.state.change += 1
        for sight in sights where sight.isWritten {
            guard let step = image.toldStep(sight) else { continue }
            transaction.steps.append(step)
            transaction.time = max(transaction.time, sight.lastUpdate)
        }
        if transaction.steps.isEmpty { return }
        do throws(StoreError) {
            try commit(transaction, payload, isUpdate: true, &image)
        } catch {
            // Straight to their places, which needs no room; those who missed it get a copy.
            transaction.purpose = .recalled
            try commit(transaction, payload, isUpdate: true, &image)
        }
    }

    /// - Parameter direct: nil: they are lost.
    private func recall(
        _ slots: Set<Int>, _ direct: DirectFile?, _ image: inout CheckpointImage<MappedMemory>
    ) throws(StoreError) {
        if slots.isEmpty { return }
        var payload: [UInt8] = []
        var transaction = Transaction(checkpoint: image.checkpoint, time: 0, state: image.state, purpose: .recalled)
        var sights: [DirectSight] = []
        if let direct {
            let seen = direct.look(
                recalling: slots, known: transaction.state.change, reserves: false, into: &payload)
            (sights, transaction.state.change) = (seen.sights, max(transaction.state.change, seen.change))
        }
        for slot in slots.sorted() {
            let sight =
                sights.first { $0.slot == slot } ?? DirectSight(slot: slot, isRecalled: true, isCorrupted: true)
            if let step = image.recalledStep(slot, sight) { transaction.steps.append(step) }
        }
        try commit(transaction, payload, isUpdate: false, &image)
    }

    private func commit(
        _ transaction: Transaction, _ payload: [UInt8], isUpdate: Bool, _ image: inout CheckpointImage<MappedMemory>
    ) throws(StoreError) {
        var failure: StoreError?
        payload.withUnsafeBytes { bytes in
            do throws(StoreError) {
                try image.commit(transaction, payload: bytes, isUpdate: isUpdate)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }
}
