import CkptLayout
import CkptProtocol
import OSAL
import SAFTypes
import Synchronization

// Sections whose writes others are told: what has been written since they were told last, all of it as it is at one
// moment. That a section was written is seen by its state word alone, so nothing is lost with a writer that dies
// between its write and its call.
extension DirectFile {
    /// How far others have been told.
    struct Telling {
        /// The states of sections, by their slots; none of one that was found at the start.
        var told: [Int: UInt64] = [:]
        /// What the last look has offered.
        var offered: [(slot: Int, state: UInt64)] = []
        /// How often ckptd has gone to sleep.
        var sleeps: UInt64 = 0
        var isAsleep = false
    }

    /// What was written since the last look that was kept.
    ///
    /// - Parameters:
    ///   - recalled: nobody can write these any more; they are among the sights, written or not.
    ///   - mayRest: if there is nothing, writers are to call from now on.
    ///   - old: what others have been told of a section; nil: nothing that can be compared with.
    ///   - payload: gets the data, behind what it has.
    /// - Returns: `isResting`: ckptd need not look by itself.
    func tell(
        recalling recalled: Set<Int>, mayRest: Bool, from old: (Int) -> UnsafeRawBufferPointer?,
        into payload: inout [UInt8]
    ) -> (sights: [DirectSight], isResting: Bool) {
        guard isWhole else {
            telling.offered = []
            return (slots.map { DirectSight(slot: $0, isRecalled: true, isCorrupted: true) }, true)
        }
        let bell = DirectBell(mapping.base)
        var look = DirectLook(
            slots.map { slot in
                .init(
                    slot, places[slot].flatMap { section($0) }, told: telling.told[slot],
                    isRecalled: recalled.contains(slot))
            }, behind: payload.count)
        look.take(bell, from: old, into: &payload)
        telling.offered = look.states
        return (look.sights, rest(mayRest, look, bell))
    }

    private func rest(_ mayRest: Bool, _ look: DirectLook, _ bell: DirectBell) -> Bool {
        if mayRest, look.sights.isEmpty {
            telling.sleeps += 1
            telling.isAsleep = true
            bell.sleep(telling.sleeps)
            if look.isStill { return true }
        }
        if mayRest { telling.isAsleep = false }
        // This also opens the gate, and rights what others may have written there.
        if telling.isAsleep { bell.sleep(telling.sleeps) } else { bell.wake(telling.sleeps) }
        return !mayRest
    }

    /// What the last look has offered is kept: it need not be told again.
    func keepOffered(change: UInt64) {
        for (slot, state) in telling.offered where places[slot] != nil { telling.told[slot] = state }
        telling.offered = []
        guard isWhole else { return }
        mapping.base.atomic(UInt64.self, at: DirectLayout.changesOffset).pointee.store(change, ordering: .relaxed)
    }
}
